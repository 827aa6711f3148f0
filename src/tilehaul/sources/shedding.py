"""A source that refuses at once what could not be answered in time."""

from tilehaul.errors import BusyError
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.queue_wait import queue_wait_s
from tilehaul.ports.clock import Clock
from tilehaul.ports.correlation import NO_ROOM
from tilehaul.ports.lane import Lanes, LaneSnapshot
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.tile import NoTile, Tile

# Lanes are looked at this often: to look costs up to a millisecond, and queues move in seconds.
LOOK_S = 1.0
# So few at once are never refused: they are how a lane that is slow is found to have become quick.
ALWAYS_ASKED = 8


class SheddingSource:
    """Asks `origin` unless the queue in front of it is longer than anybody waits.

    Behind the caches, so that what is kept, fresh or stale, is given all the same, and behind the coalescing:
    who joins a fetch that is on its way never waits in the queue.

    Args:
        lanes: Those to the origin; of several the shortest queue counts.
        far: Whether the origin is another machine.
        deadline_s: A longer wait for the permit alone is not begun.
        clock: Says when to look at the lanes again.
    """

    def __init__(
        self, origin: TileSource, *, lanes: Lanes, far: bool, deadline_s: float, clock: Clock
    ) -> None:
        self._origin = origin
        self._lanes = lanes
        self._far = far
        self._deadline_s = deadline_s
        self._clock = clock
        self._asked = 0
        self._seen: tuple[LaneSnapshot, ...] = ()
        self._asked_then = 0
        self._look_s = float("-inf")

    @property
    def info(self) -> SourceInfo:
        return self._origin.info

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """The origin's answer; raises as it does.

        Raises:
            BusyError: It would come too late; nothing was asked. `retry_after_s` is when the queue is gone.
                Or who asks is not to wait for another machine (`correlation.NO_ROOM`).
        """
        if self._far and NO_ROOM.get():
            raise BusyError("too many tile requests are waiting for this layer already")
        if self._asked >= ALWAYS_ASKED and (wait_s := self._wait_s()) > self._deadline_s:
            raise BusyError(f"{self._asked} fetches wait for this origin already", retry_after_s=wait_s)
        self._asked += 1
        try:
            return await self._origin.get(tile_id)
        finally:
            self._asked -= 1

    def _wait_s(self) -> float:
        now_s = self._clock.now_s()
        if now_s >= self._look_s:
            self._seen, self._asked_then = self._lanes(), self._asked
            self._look_s = now_s + LOOK_S
        since = self._asked - self._asked_then
        return min((self._wait_in(lane, since / len(self._seen)) for lane in self._seen), default=0.0)

    @staticmethod
    def _wait_in(lane: LaneSnapshot, since: float) -> float:
        """In a lane that was seen when so many fewer were asked for."""
        room = max(0, lane.limit - lane.in_flight)
        return queue_wait_s(
            lane.queue_depth + since - room,
            limit=lane.limit,
            answer_s=lane.recent.total.p50_ms / 1000.0,
            caps_per_s=(lane.pace_per_s, lane.rate_per_s),
        )
