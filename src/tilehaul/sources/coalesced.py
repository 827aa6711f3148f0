"""Many askers of one thing become one question."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from math import inf
from typing import Any, Generic, TypeVar

from tilehaul.errors import BusyError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.correlation import NO_ROOM
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.tile import NoTile, Tile

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def _untold() -> None:
    pass


def _never() -> float:
    return -inf


class _Flight(Generic[V]):
    """One fetch on its way and the number of those who wait for it."""

    __slots__ = ("forgotten_s", "task", "waiters")

    def __init__(self, task: "asyncio.Task[V]", forgotten_s: float) -> None:
        self.task = task
        self.forgotten_s = forgotten_s
        self.waiters = 0


class Flights(Generic[K, V]):
    """Fetches on their way, one for all who ask for the same key at the same time. For one event loop.

    A fetch belongs to no asker: one that leaves does not disturb the others, and only when the
    last has left is the fetch cancelled. An error reaches all who wait now and is not kept: who
    asks later starts a new fetch. If the fetch itself is cancelled (`aclose`, or an origin that
    gives up that way), those who wait get BusyError, for they were not cancelled.

    Bounded by its askers: there is never a fetch without one.

    Args:
        joined: Told of each asker that shares a fetch which is on its way; never raises.
        forgotten_s: When answers were last to be forgotten: who asks after that shares no fetch from before.
    """

    def __init__(
        self, *, joined: Callable[[], None] = _untold, forgotten_s: Callable[[], float] = _never
    ) -> None:
        self._joined = joined
        self._forgotten_s = forgotten_s
        self._flights: dict[K, _Flight[V]] = {}
        # Cancelled fetches that have yet to end are held here too: the loop keeps only weak references.
        self._tasks: set[asyncio.Task[V]] = set()
        self._closed = False

    @property
    def in_flight(self) -> int:
        """Fetches on their way now."""
        return len(self._flights)

    async def join(self, key: K, fetch: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The answer of the key's fetch, which `fetch` begins when there is none.

        Who is not to wait (`correlation.NO_ROOM`) gets what `fetch` has at once, and shares nothing.
        Raises what the fetch raises, or BusyError when closed.
        """
        if self._closed:
            raise BusyError("the service is stopping")
        if NO_ROOM.get():
            return await fetch()
        flight = self._under_way(key)
        if flight is None:
            flight = self._take_off(key, fetch())
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
            self._leave(key, flight)

    def board(self, key: K, landed: "Callable[[asyncio.Task[V]], None]") -> Callable[[], None] | None:
        """See `ports.source.Departures`."""
        flight = self._under_way(key)
        if self._closed or flight is None:
            return None
        boarded = flight
        self._joined()
        boarded.waiters += 1
        boarded.task.add_done_callback(landed)

        def leave() -> None:
            boarded.task.remove_done_callback(landed)
            self._leave(key, boarded)

        return leave

    async def aclose(self) -> None:
        """Cancel every fetch and wait until all have ended. Later askers get BusyError."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        # return_exceptions: each fetch's end has been told to its askers already.
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _under_way(self, key: K) -> _Flight[V] | None:
        """The fetch to share, if there is one."""
        flight = self._flights.get(key)
        if flight is None or flight.task.done() or flight.forgotten_s != self._forgotten_s():
            return None
        return flight

    def _leave(self, key: K, flight: _Flight[V]) -> None:
        flight.waiters -= 1
        if not flight.waiters and not flight.task.done():
            self._forget(key, flight)
            flight.task.cancel()

    def _take_off(self, key: K, fetch: Coroutine[Any, Any, V]) -> _Flight[V]:
        flight = _Flight(asyncio.create_task(fetch), self._forgotten_s())
        self._flights[key] = flight
        self._tasks.add(flight.task)

        def landed(task: "asyncio.Task[V]") -> None:
            self._tasks.discard(task)
            self._forget(key, flight)
            if not task.cancelled():
                # Marks the error as seen: the askers may all have left in this very turn of the loop.
                task.exception()

        flight.task.add_done_callback(landed)
        return flight

    def _forget(self, key: K, flight: _Flight[V]) -> None:
        # A newer flight of the same key may have taken the place of one that was abandoned.
        if self._flights.get(key) is flight:
            del self._flights[key]


class CoalescedSource:
    """A source that asks `origin` once for all who ask for the same tile at the same time: see `Flights`."""

    def __init__(self, origin: TileSource, *, joined: Callable[[], None] = _untold) -> None:
        self._origin = origin
        self._flights: Flights[TileId, Tile | NoTile] = Flights(joined=joined)

    @property
    def info(self) -> SourceInfo:
        return self._origin.info

    @property
    def in_flight(self) -> int:
        """Fetches on their way now."""
        return self._flights.in_flight

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """The origin's answer; raises what the origin raises, or BusyError when closed."""
        return await self._flights.join(tile_id, lambda: self._origin.get(tile_id))

    async def aclose(self) -> None:
        """As `Flights.aclose`."""
        await self._flights.aclose()
