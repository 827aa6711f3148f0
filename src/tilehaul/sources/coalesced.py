"""Many askers of one tile become one question."""

import asyncio
from collections.abc import Callable

from tilehaul.errors import BusyError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.tile import NoTile, Tile


def _untold() -> None:
    pass


class _Flight:
    """One fetch on its way and the number of those who wait for it."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[Tile | NoTile]) -> None:
        self.task = task
        self.waiters = 0


class CoalescedSource:
    """A source that asks `origin` once for all who ask for the same tile at the same time.

    The fetch belongs to no asker: one that leaves does not disturb the others, and only when the
    last has left is the fetch cancelled. An error reaches all who wait now and is not kept: who
    asks later starts a new fetch. If the fetch itself is cancelled (`aclose`, or an origin that
    gives up that way), those who wait get BusyError, for they were not cancelled.

    Bounded by its askers: there is never a fetch without one.

    Args:
        joined: Told of each asker that shares a fetch which is on its way; never raises.
    """

    def __init__(self, origin: TileSource, *, joined: Callable[[], None] = _untold) -> None:
        self._origin = origin
        self._joined = joined
        self._flights: dict[TileId, _Flight] = {}
        # Cancelled fetches that have yet to end are held here too: the loop keeps only weak references.
        self._tasks: set[asyncio.Task[Tile | NoTile]] = set()
        self._closed = False

    @property
    def info(self) -> SourceInfo:
        return self._origin.info

    @property
    def in_flight(self) -> int:
        """Fetches on their way now."""
        return len(self._flights)

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """The origin's answer; raises what the origin raises, or BusyError when closed."""
        if self._closed:
            raise BusyError("the service is stopping")
        flight = self._flights.get(tile_id)
        if flight is None or flight.task.done():
            flight = self._take_off(tile_id)
        else:
            self._joined()
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            asker = asyncio.current_task()
            if flight.task.cancelled() and asker is not None and not asker.cancelling():
                raise BusyError("the fetch of this tile was given up; ask again") from None
            raise
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._forget(tile_id, flight)
                flight.task.cancel()

    async def aclose(self) -> None:
        """Cancel every fetch and wait until all have ended. Later askers get BusyError."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        # return_exceptions: each fetch's end has been told to its askers already.
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take_off(self, tile_id: TileId) -> _Flight:
        flight = _Flight(asyncio.create_task(self._origin.get(tile_id)))
        self._flights[tile_id] = flight
        self._tasks.add(flight.task)

        def landed(task: asyncio.Task[Tile | NoTile]) -> None:
            self._tasks.discard(task)
            self._forget(tile_id, flight)
            if not task.cancelled():
                # Marks the error as seen: the askers may all have left in this very turn of the loop.
                task.exception()

        flight.task.add_done_callback(landed)
        return flight

    def _forget(self, tile_id: TileId, flight: _Flight) -> None:
        # A newer flight of the same tile may have taken the place of one that was abandoned.
        if self._flights.get(tile_id) is flight:
            del self._flights[tile_id]
