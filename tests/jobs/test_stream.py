"""The stream of answers: as they come, bounded, and nothing left behind however it ends."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, nullcontext

import pytest

from doubles.clock import VirtualClock
from doubles.tiles import FakeSource, body_of, every_tile
from tilehaul.errors import BrokenError, ConfigError, FuseError, PlanError, UnreachableError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.feed import Answer
from tilehaul.jobs.retries import Origin, Retrying
from tilehaul.jobs.stream import StreamPlan, stream
from tilehaul.net.clock import SystemClock
from tilehaul.policy.budget import RetryBudget
from tilehaul.policy.retry import RetryRule
from tilehaul.policy.tally import Tally
from tilehaul.ports.tile import FailedTile, NoTile, Tile


def tiles(count: int) -> list[TileId]:
    return [TileId(20, n, n % 7) for n in range(count)]


def open_stream(source: FakeSource, work: object, *, retrying: Retrying | None = None, **plan: object):
    values: dict = {"workers": 8, **plan}
    opening = nullcontext(Origin(source, retrying))
    return stream(opening, work, StreamPlan(**values), tally=Tally(), clock=SystemClock())  # type: ignore[arg-type]


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def others() -> set["asyncio.Task[object]"]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def collect(answers: AsyncIterator[Answer], got: list[Answer]) -> None:
    async for answer in answers:
        got.append(answer)


async def test_every_tile_comes_once_as_what_it_is() -> None:
    """Tile, "there is none" and failure: three values, and no failure ends the rest."""

    def answer(tile_id: TileId):
        if tile_id.x % 10 == 0:
            return NoTile(tile_id, "http_404")
        if tile_id.x % 10 == 1:
            return BrokenError("boom", attempts=6)
        return every_tile(tile_id)

    planned = tiles(500)
    got = [answer async for answer in open_stream(FakeSource(answer), planned)]
    assert Counter(answer.tile_id for answer in got) == Counter(planned)
    assert Counter(type(answer) for answer in got) == {Tile: 400, NoTile: 50, FailedTile: 50}
    for answer_got in got:
        if isinstance(answer_got, Tile):
            assert answer_got.body == body_of(answer_got.tile_id)
        if isinstance(answer_got, FailedTile):
            assert isinstance(answer_got.error, BrokenError)
            assert answer_got.attempts == 6
    assert others() == set()


async def test_answers_come_while_others_are_under_way() -> None:
    """A tile that hangs holds back no other."""

    class One(FakeSource):
        async def get(self, tile_id: TileId) -> Tile | NoTile:
            if tile_id.x == 0:
                await asyncio.sleep(3600)
            return await super().get(tile_id)

    got = []
    async with aclosing(open_stream(One(), tiles(100))) as answers:
        async for answer in answers:
            got.append(answer.tile_id.x)
            if len(got) == 99:
                break
    assert sorted(got) == list(range(1, 100))
    assert others() == set()


async def test_work_may_come_asynchronously() -> None:
    async def work() -> AsyncIterator[TileId]:
        for tile_id in tiles(100):
            await asyncio.sleep(0)
            yield tile_id

    got = [answer.tile_id async for answer in open_stream(FakeSource(), work())]
    assert Counter(got) == Counter(tiles(100))


async def test_tile_found_in_an_answer_can_be_asked_for_next() -> None:
    """Work that depends on answers: the queue is read as it fills, no look-ahead starves it."""
    queue: asyncio.Queue[TileId | None] = asyncio.Queue()
    queue.put_nowait(TileId(0, 0, 0))

    async def work() -> AsyncIterator[TileId]:
        while (tile_id := await queue.get()) is not None:
            yield tile_id

    got = []
    async with asyncio.timeout(5):
        async for answer in open_stream(FakeSource(), work()):
            got.append(answer.tile_id)
            z, x, y = answer.tile_id.z, answer.tile_id.x, answer.tile_id.y
            queue.put_nowait(TileId(z + 1, 2 * x, 2 * y) if z < 20 else None)
    assert [tile_id.z for tile_id in got] == list(range(21))


async def test_failed_attempts_are_tried_again_by_the_job_s_own_rule() -> None:
    """Every third tile fails twice before it comes; nobody sees it."""
    counts: Counter[TileId] = Counter()

    def answer(tile_id: TileId):
        counts[tile_id] += 1
        return BrokenError("x") if tile_id.x % 3 == 0 and counts[tile_id] <= 2 else every_tile(tile_id)

    budget = RetryBudget()
    rule = RetryRule(delay_s_first=0.001)
    source = FakeSource(answer)
    retrying = Retrying(rule, lambda: 0.5, lambda _: budget)
    got = [one async for one in open_stream(source, tiles(60), retrying=retrying)]
    assert Counter(type(one) for one in got) == {Tile: 60}
    assert len(source.asked) == 60 + 2 * 20


async def test_failure_says_how_many_attempts_were_made() -> None:
    budget = RetryBudget()
    retrying = Retrying(RetryRule(attempts_max=3, delay_s_first=0.001), lambda: 0.5, lambda _: budget)
    source = FakeSource(lambda _: UnreachableError("x", cause="reset"))
    [got] = [one async for one in open_stream(source, tiles(1), retrying=retrying)]
    assert isinstance(got, FailedTile)
    assert (got.attempts, got.error.attempts, len(source.asked)) == (3, 3, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize(("count", "size"), [(10, 1 << 40), (1 << 40, 10 * 1000)])
async def test_reads_ahead_no_further_than_its_limits(count: int, size: int) -> None:
    """Ten answers may lie ready, by count or by bytes; a billion tiles of work are not walked."""
    walked = 0

    def work() -> Iterator[TileId]:
        nonlocal walked
        for n in range(10**9):
            walked += 1
            yield TileId(30, n, 0)

    source = FakeSource(lambda tile_id: Tile(tile_id, bytes(1000), "image/png"))
    async with aclosing(open_stream(source, work(), ahead_tiles=count, ahead_bytes=size)) as answers:
        await anext(answers)
        await turns(200)
        # One given, ten that lie ready, one in the hand of each of the eight workers.
        assert len(source.asked) <= 1 + 10 + 8
        assert walked <= len(source.asked) + 8 + 2
        for _ in range(30):
            await anext(answers)
        await turns(200)
        assert len(source.asked) <= 31 + 10 + 8
    assert others() == set()


async def test_break_ends_everything_soon_without_a_word_from_the_caller() -> None:
    """No `aclosing`: the loop's own hook closes the generator once nobody has it."""
    closed = False

    @asynccontextmanager
    async def opening() -> AsyncIterator[Origin]:
        nonlocal closed
        try:
            yield Origin(FakeSource())
        finally:
            closed = True

    plan = StreamPlan(workers=8)
    async for _ in stream(opening(), tiles(1000), plan, tally=Tally(), clock=SystemClock()):
        break
    await turns()
    assert others() == set()
    assert closed


async def test_cancelled_consumer_leaves_nothing() -> None:
    source = FakeSource()

    class Hanging(FakeSource):
        async def get(self, tile_id: TileId) -> Tile | NoTile:
            await asyncio.sleep(3600)
            return await source.get(tile_id)

    async def consume() -> None:
        async for _ in open_stream(Hanging(), tiles(10)):
            pass

    task = asyncio.create_task(consume())
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert others() == set()


async def test_timeout_around_the_loop_is_the_caller_s_own() -> None:
    """Nothing of the stream is cancelled into the caller's code, nor swallows what is meant for it."""

    class Hanging(FakeSource):
        async def get(self, tile_id: TileId) -> Tile | NoTile:
            if tile_id.x >= 20:
                await asyncio.sleep(3600)
            return await super().get(tile_id)

    got: list[Answer] = []
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(collect(open_stream(Hanging(), tiles(100)), got), 0.1)
    assert len(got) == 20
    await turns()
    assert others() == set()


async def test_error_in_the_caller_s_loop_ends_the_stream() -> None:
    async def consume() -> None:
        async with aclosing(open_stream(FakeSource(), tiles(100))) as answers:
            async for _ in answers:
                raise LookupError

    with pytest.raises(LookupError):
        await consume()
    assert others() == set()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_work_that_raises_is_told_after_what_was_under_way(asynchronous: bool) -> None:  # noqa: FBT001
    def work() -> Iterator[TileId]:
        yield from tiles(50)
        raise LookupError("no more pages")

    async def work_async() -> AsyncIterator[TileId]:
        for tile_id in work():
            yield tile_id

    got: list[Answer] = []
    answers = open_stream(FakeSource(), work_async() if asynchronous else work())
    with pytest.raises(LookupError, match="no more pages"):
        await collect(answers, got)
    assert Counter(answer.tile_id for answer in got) == Counter(tiles(50))
    assert others() == set()


@pytest.mark.parametrize("wrong", [(3, 4, 2), "3/4/2", None])
async def test_item_that_is_no_tile_is_named_with_its_place(wrong: object) -> None:
    got: list[Answer] = []
    answers = open_stream(FakeSource(), [*tiles(2), wrong, *tiles(9)])
    with pytest.raises(PlanError, match="item 3 of the work is no TileId: "):
        await collect(answers, got)
    assert Counter(answer.tile_id for answer in got) == Counter(tiles(2))


async def test_source_that_cannot_be_opened_says_so() -> None:
    @asynccontextmanager
    async def opening() -> AsyncIterator[Origin]:
        raise PlanError("there is no such file")
        yield

    answers = stream(opening(), tiles(3), StreamPlan(workers=1), tally=Tally(), clock=SystemClock())
    with pytest.raises(PlanError, match="no such file"):
        await anext(answers)
    assert others() == set()


async def test_bug_in_a_source_is_not_swallowed() -> None:
    answers = open_stream(FakeSource(lambda _: ZeroDivisionError()), tiles(10))
    with pytest.raises(ZeroDivisionError):
        await anext(answers)
    assert others() == set()


async def test_break_while_a_tile_waits_for_its_next_attempt_leaves_nothing() -> None:
    """No timer either: a tile that would be tried again in a minute is forgotten."""
    retrying = Retrying(RetryRule(delay_s_first=120.0), lambda: 0.5, lambda _: RetryBudget())
    source = FakeSource(lambda tile_id: BrokenError("x") if tile_id.x else every_tile(tile_id))
    async with aclosing(open_stream(source, tiles(2), retrying=retrying)) as answers:
        await anext(answers)
        await turns()
        assert len(source.asked) == 2
    assert others() == set()


async def silent_stream(consume, source: FakeSource, work: object = None, **plan: object) -> None:
    """Play `consume(answers, clock)` in virtual time over a stream that waits 60 s for its source."""
    clock = work.clock if isinstance(work, SlowWork) else VirtualClock()
    values = StreamPlan(workers=2, max_wait_s=60.0, **plan)  # type: ignore[arg-type]
    answers: AsyncIterator[Answer] = stream(
        nullcontext(Origin(source)),
        work or tiles(3),
        values,
        tally=Tally(),
        clock=clock,  # type: ignore[arg-type]
    )
    async with aclosing(answers):  # type: ignore[type-var]
        await clock.run(task := asyncio.ensure_future(consume(answers, clock)))
        task.result()


async def test_source_that_is_silent_for_too_long_ends_the_stream() -> None:
    class Silent(FakeSource):
        async def get(self, tile_id: TileId) -> Tile | NoTile:
            await asyncio.Event().wait()
            raise AssertionError

    async def consume(answers: AsyncIterator[Answer], clock: VirtualClock) -> None:
        with pytest.raises(FuseError, match="origin is away"):
            await anext(answers)
        assert 60.0 < clock.now_s() - 1000.0 < 65.0

    await silent_stream(consume, Silent())
    assert others() == set()


async def test_slow_reader_is_not_taken_for_a_silent_source() -> None:
    async def consume(answers: AsyncIterator[Answer], clock: VirtualClock) -> None:
        got = 0
        async for _ in answers:
            got += 1
            await clock.sleep(100.0)
        assert got == 3

    await silent_stream(consume, FakeSource(), ahead_tiles=1)


class SlowWork:
    """Three tiles, a hundred seconds apart."""

    def __init__(self) -> None:
        self.clock = VirtualClock()

    async def __aiter__(self) -> AsyncIterator[TileId]:
        for tile_id in tiles(3):
            await self.clock.sleep(100.0)
            yield tile_id


async def test_slow_work_is_not_taken_for_a_silent_source() -> None:
    async def consume(answers: AsyncIterator[Answer], _clock: VirtualClock) -> None:
        assert len([answer async for answer in answers]) == 3

    await silent_stream(consume, FakeSource(), SlowWork())


@pytest.mark.parametrize("name", ["ahead_tiles", "ahead_bytes", "workers"])
async def test_limits_below_one_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name.removesuffix('s')}.*not 0"):
        await anext(open_stream(FakeSource(), tiles(1), **{name: 0}))
