"""Many tiles, as they come: each ends as a tile, as "there is none", or as a failure that is a value.

tiles (lazy) -> feed -> workers -> mailbox -> whoever iterates
                ^        |
                +- heap <+  failed attempts that get another
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from tilehaul.errors import ConfigError, FuseError, first_error
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.feed import Answer, Feed
from tilehaul.jobs.retries import Origin
from tilehaul.jobs.silence import Silence
from tilehaul.jobs.stop import Stop
from tilehaul.jobs.worklist import checked_tile, each_tile
from tilehaul.policy.tally import Tally
from tilehaul.ports.clock import Clock
from tilehaul.ports.tile import FailedTile, Tile

MIB = 1024 * 1024
AHEAD_TILES_MAX = 256
AHEAD_BYTES_MAX = 32 * MIB
LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """How to stream.

    Args:
        workers: Tiles asked for at once, >= 1.
        ahead_tiles, ahead_bytes: What may lie ready before it is asked for, >= 1 each; beyond it every
            worker holds one answer more and waits.
        max_wait_s: Nothing at all coming for this long ends the stream, > 0. Time in which nothing was
            asked for, by the work or by who iterates, does not count.

    Raises ConfigError when a value is out of range.
    """

    workers: int
    ahead_tiles: int = AHEAD_TILES_MAX
    ahead_bytes: int = AHEAD_BYTES_MAX
    max_wait_s: float = 1800.0

    def __post_init__(self) -> None:
        for name, value in (("ahead_tiles", self.ahead_tiles), ("ahead_bytes", self.ahead_bytes)):
            if value < 1:
                raise ConfigError(f"{name}: a stream needs room for 1 or more, not {value}")


async def stream(
    opening: AbstractAsyncContextManager[Origin],
    tiles: Iterable[TileId] | AsyncIterable[TileId],
    plan: StreamPlan,
    *,
    tally: Tally,
    clock: Clock,
) -> AsyncGenerator[Answer, None]:
    """What became of each tile, in the order in which that is known.

    `tiles` is read no further ahead than the workers need, in the loop's thread. An error it raises is
    raised here once everything taken before has been yielded.

    Leaving the loop ends all requests; `aclose` (or `contextlib.aclosing`) waits until they have ended.

    Raises:
        PlanError: Something among the tiles is no TileId.
        FuseError: Nothing came for `max_wait_s`, or the upstream has failed from the first request on.
        PlanError, ConfigError, DataError, StorageError: As the opening raises.
    """
    mailbox = _Mailbox(plan)
    # A task of its own: nothing of it may wait or fail in the caller's task, between two answers.
    moving = asyncio.create_task(_move(opening, tiles, plan, mailbox, tally, clock))
    try:
        while (answer := await mailbox.take()) is not None:
            yield answer
        await moving
    finally:
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)


async def _move(
    opening: AbstractAsyncContextManager[Origin],
    tiles: Iterable[TileId] | AsyncIterable[TileId],
    plan: StreamPlan,
    mailbox: "_Mailbox",
    tally: Tally,
    clock: Clock,
) -> None:
    try:
        async with opening as origin:
            feed = Feed(
                origin, _one_by_one(tiles), workers=plan.workers, tally=tally, clock=clock, stop=Stop()
            )

            async def settle(answer: Answer) -> None:
                if isinstance(answer, FailedTile) and getattr(answer.error, "never_answered", False):
                    raise FuseError(str(answer.error))
                await mailbox.put(answer)

            try:
                async with asyncio.TaskGroup() as group:
                    workers = [group.create_task(feed.work_on(settle)) for _ in range(feed.workers)]
                    others = [
                        group.create_task(feed.read()),
                        group.create_task(_listen(feed, mailbox, plan.max_wait_s, clock)),
                    ]
                    await asyncio.wait(workers)
                    for task in others:
                        task.cancel()
            except BaseExceptionGroup as errors:
                raise first_error(errors) from None
            finally:
                await feed.aclose()
            if feed.error is not None:
                raise feed.error
    finally:
        mailbox.close()


async def _listen(feed: Feed, mailbox: "_Mailbox", max_wait_s: float, clock: Clock) -> None:
    """Raise FuseError when the source has owed something for `max_wait_s` and nothing came."""
    look_s = min(LOOK_S, max_wait_s / 4)
    silence = Silence(clock.now_s(), between_s=look_s)
    seen = 0
    while True:
        await clock.sleep(look_s)
        now_s = clock.now_s()
        silent_s = silence.look(now_s)
        if mailbox.put_count != seen or feed.idle or mailbox.full:
            seen = mailbox.put_count
            silence.heard(now_s)
        elif silent_s > max_wait_s:
            raise FuseError(f"no tile came for {silent_s:.0f} s (max_wait_s): the origin is away")


async def _one_by_one(
    tiles: Iterable[TileId] | AsyncIterable[TileId],
) -> AsyncGenerator[Sequence[TileId], None]:
    if isinstance(tiles, AsyncIterable):
        number = 0
        async for item in tiles:
            number += 1
            yield (checked_tile(item, number),)
    else:
        for tile_id in each_tile(tiles):
            yield (tile_id,)


class _Mailbox:
    """Answers on their way to whoever iterates: bounded by count and by bytes. One taker."""

    def __init__(self, plan: StreamPlan) -> None:
        self.put_count = 0
        self._plan = plan
        self._answers: deque[Answer] = deque()
        self._bytes = 0
        self._closed = False
        self._something = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def full(self) -> bool:
        return not self._room.is_set()

    async def put(self, answer: Answer) -> None:
        """Hand over one answer; waits while too much lies here already."""
        while not self._room.is_set():
            await self._room.wait()
        self.put_count += 1
        self._answers.append(answer)
        self._bytes += _size_bytes(answer)
        self._something.set()
        self._settle()

    async def take(self) -> Answer | None:
        """The next answer; None when there will be no more."""
        while not self._answers:
            if self._closed:
                return None
            self._something.clear()
            await self._something.wait()
        answer = self._answers.popleft()
        self._bytes -= _size_bytes(answer)
        self._settle()
        return answer

    def close(self) -> None:
        """No more will be put."""
        self._closed = True
        self._something.set()

    def _settle(self) -> None:
        if len(self._answers) >= self._plan.ahead_tiles or self._bytes >= self._plan.ahead_bytes:
            self._room.clear()
        else:
            self._room.set()


def _size_bytes(answer: Answer) -> int:
    return len(answer.body) if isinstance(answer, Tile) else 0
