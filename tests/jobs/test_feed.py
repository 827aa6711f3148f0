"""The feed under virtual time: what waits holds no worker, retries go first, the end comes."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.clock import VirtualClock, in_virtual_time
from doubles.tiles import FakeSource, every_tile
from tilehaul.errors import BrokenError, ConfigError, StorageError, ThrottledError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.feed import Answer, Feed
from tilehaul.jobs.retries import Origin, Retrying
from tilehaul.jobs.stop import Stop
from tilehaul.policy.budget import BudgetRule, RetryBudget
from tilehaul.policy.retry import RetryRule
from tilehaul.policy.tally import Tally
from tilehaul.ports.tile import FailedTile, NoTile, Tile


def tiles(count: int) -> list[TileId]:
    return [TileId(20, n, n % 7) for n in range(count)]


async def chunks_of(items: Iterable[TileId], size: int = 10) -> AsyncGenerator[Sequence[TileId], None]:
    chunk: list[TileId] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    yield chunk


class FailsFirst(FakeSource):
    """Every `nth` tile with x below `below` fails once, then comes."""

    def __init__(self, below: int, nth: int = 1) -> None:
        super().__init__(self._answer)
        self._below, self._nth = below, nth
        self._failed: set[TileId] = set()

    def _answer(self, tile_id: TileId) -> Tile | Exception:
        if tile_id.x < self._below and tile_id.x % self._nth == 0 and tile_id not in self._failed:
            self._failed.add(tile_id)
            return BrokenError("x")
        return every_tile(tile_id)


class Bench:
    """A feed with its workers, as a job runs it; what they hand over is in `answers`."""

    def __init__(
        self, source: FakeSource, work: AsyncGenerator[Sequence[TileId], None], **given: object
    ) -> None:
        rule = {
            "workers": 4,
            "waiting_max": 10_000,
            "rule": RetryRule(),
            "budget": RetryBudget(BudgetRule(tokens_max=1e9)),
            **given,
        }
        self.clock, self.tally, self.stop = VirtualClock(), Tally(), Stop()
        self.answers: list[Answer] = []
        self.source = source
        retrying = Retrying(rule["rule"], lambda: 0.5, lambda _: rule["budget"], rule["waiting_max"])  # type: ignore[arg-type,return-value]
        self.feed = Feed(
            Origin(source, retrying),
            work,
            workers=rule["workers"],  # type: ignore[arg-type]
            tally=self.tally,
            clock=self.clock,
            stop=self.stop,
        )

    async def settle(self, answer: Answer) -> None:
        self.answers.append(answer)

    async def play(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                workers = [
                    group.create_task(self.feed.work_on(self.settle)) for _ in range(self.feed.workers)
                ]
                reading = group.create_task(self.feed.read())
                await asyncio.wait(workers)
                reading.cancel()
        finally:
            await self.feed.aclose()

    async def run(self) -> None:
        await in_virtual_time(self.clock, self.play())
        assert asyncio.all_tasks() == {asyncio.current_task()}

    @property
    def outcomes(self) -> Counter[TileId]:
        return Counter(answer.tile_id for answer in self.answers)


async def test_waiting_retries_hold_no_worker() -> None:
    """Two workers, fifty tiles in trouble at once: the others are all asked for before a single retry."""
    bench = Bench(FailsFirst(200, nth=4), chunks_of(tiles(200)), workers=2)
    await bench.run()
    first_retry = next(n for n, tile_id in enumerate(bench.source.asked) if tile_id in bench.source.asked[:n])
    assert first_retry == 200
    assert bench.outcomes == Counter(tiles(200))
    assert (bench.tally.retried, len(bench.source.asked)) == (50, 250)


async def test_due_retry_goes_before_new_work() -> None:
    """With time passing at every answer the retries come in between, not behind everything."""
    bench = Bench(FailsFirst(6, nth=2), chunks_of(tiles(100)), workers=2)

    async def settle(answer: Answer) -> None:
        bench.answers.append(answer)
        bench.clock.advance(0.1)

    bench.settle = settle  # type: ignore[method-assign]
    await bench.run()
    came = [answer.tile_id.x for answer in bench.answers]
    assert {0, 2, 4} <= set(came[:12])


async def test_full_heap_stops_the_work_list() -> None:
    """Back-pressure: an origin that fails every second tile is not asked for all of them."""
    source = FakeSource(lambda tile_id: BrokenError("x") if tile_id.x % 2 else every_tile(tile_id))
    bench = Bench(source, chunks_of(tiles(10_000)), workers=4, waiting_max=20)
    task = asyncio.create_task(bench.play())
    for _ in range(500):
        await asyncio.sleep(0)
    assert 2 * 17 <= len(source.asked) <= 2 * 20
    await bench.clock.run(asyncio.create_task(bench.clock.sleep(1.0)))
    assert 2 * 20 < len(source.asked) <= 200
    task.cancel()
    await asyncio.wait({task})


async def test_outage_is_watched_by_those_that_wait_and_new_work_is_spared() -> None:
    """Nothing comes for ten seconds: after four failures no new tile is begun, until a retry comes."""
    bench: Bench

    def answer(tile_id: TileId) -> Tile | Exception:
        bench.clock.advance(0.01)
        return BrokenError("x") if bench.clock.now_s() < 1010.0 else every_tile(tile_id)

    source = FakeSource(answer)
    bench = Bench(source, chunks_of(tiles(500)), rule=RetryRule(attempts_max=20))
    task = asyncio.create_task(bench.play())
    await bench.clock.run(asyncio.create_task(bench.clock.sleep(9.0)))
    # Four failed, three more had been begun by then.
    assert len(set(source.asked)) == 7
    assert len(source.asked) <= 7 * 7
    await bench.clock.run(task)
    assert bench.outcomes == Counter(tiles(500))
    assert all(isinstance(answer, Tile) for answer in bench.answers)


async def test_empty_budget_delays_and_loses_nothing() -> None:
    """Thirty tiles whose retries fail too, one token: a retry a second, and each has had its two attempts."""
    budget = RetryBudget(BudgetRule(tokens_max=1.0))
    source = FakeSource(lambda _: BrokenError("x"))
    bench = Bench(source, chunks_of(tiles(30)), budget=budget, rule=RetryRule(attempts_max=2))
    await bench.run()
    assert bench.outcomes == Counter(tiles(30))
    assert {answer.attempts for answer in bench.answers if isinstance(answer, FailedTile)} == {2}
    assert 28.0 <= bench.clock.now_s() - 1000.0 <= 30.0
    assert bench.tally.retried == 30


async def test_retry_that_succeeds_earns_the_next_one() -> None:
    """The upstream is well again, the budget empty: nobody waits a second for each of two hundred tiles."""
    budget = RetryBudget(BudgetRule(tokens_max=1.0, per_success=0.0))
    bench = Bench(FailsFirst(200), chunks_of(tiles(200)), budget=budget)
    await bench.run()
    assert bench.outcomes == Counter(tiles(200))
    assert bench.clock.now_s() - 1000.0 < 5.0


async def test_worker_waiting_for_the_work_list_takes_a_due_retry() -> None:
    """A work list that is slow in coming holds nothing up."""
    gate = asyncio.Event()

    async def slow() -> AsyncGenerator[Sequence[TileId], None]:
        yield tiles(3)
        await gate.wait()
        yield tiles(6)[3:]

    bench = Bench(FailsFirst(3), slow())
    task = asyncio.create_task(bench.play())
    await bench.clock.run(asyncio.create_task(bench.clock.sleep(5.0)))
    assert len(bench.answers) == 3
    assert not task.done()
    assert bench.feed.idle
    gate.set()
    await bench.clock.run(task)
    assert bench.outcomes == Counter(tiles(6))


async def test_worker_that_is_cancelled_in_the_line_holds_up_no_other() -> None:
    """The first in the line goes; the retry that comes due is given to the next."""
    bench = Bench(FailsFirst(2), chunks_of(tiles(2)), workers=2)

    async def settle(answer: Answer) -> None:
        bench.answers.append(answer)

    async with asyncio.TaskGroup() as group:
        first, _ = (group.create_task(bench.feed.work_on(settle)) for _ in range(2))
        group.create_task(bench.feed.read())
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(bench.source.asked) == 2
        first.cancel()
        await bench.clock.run(asyncio.create_task(bench.clock.sleep(5.0)))
    await bench.feed.aclose()
    assert bench.outcomes == Counter(tiles(2))


async def test_stop_leaves_what_waits_pending() -> None:
    bench = Bench(FakeSource(lambda _: BrokenError("x")), chunks_of(tiles(8)))
    task = asyncio.create_task(bench.play())
    for _ in range(100):
        await asyncio.sleep(0)
    asked = len(bench.source.asked)
    assert asked == 7
    bench.stop.drain()
    bench.feed.end()
    await asyncio.wait_for(task, 5)
    assert bench.answers == []
    assert len(bench.source.asked) == asked


async def test_work_list_that_fails_ends_the_work_after_what_was_taken() -> None:
    async def broken() -> AsyncGenerator[Sequence[TileId], None]:
        yield tiles(5)
        raise StorageError("journal: cannot read")

    bench = Bench(FailsFirst(5), broken())
    await bench.run()
    assert bench.outcomes == Counter(tiles(5))
    assert isinstance(bench.feed.error, StorageError)


async def test_work_list_is_read_one_chunk_ahead() -> None:
    read = 0

    async def counted() -> AsyncGenerator[Sequence[TileId], None]:
        nonlocal read
        for number in range(1000):
            read += 10
            yield [TileId(20, 10 * number + n, 0) for n in range(10)]

    class Hanging(FakeSource):
        async def get(self, tile_id: TileId) -> Tile | NoTile:
            if tile_id.x >= 40:
                await asyncio.sleep(3600)
            return await super().get(tile_id)

    bench = Bench(Hanging(), counted())
    task = asyncio.create_task(bench.play())
    for _ in range(300):
        await asyncio.sleep(0)
    assert len(bench.answers) == 40
    assert read <= 40 + 4 + 10 + 10 + 4
    task.cancel()
    await asyncio.wait({task})


async def test_fewer_than_one_worker_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 worker"):
        Bench(FakeSource(), chunks_of([]), workers=0)


@settings(max_examples=60, deadline=None)
@given(
    fates=st.lists(st.lists(st.sampled_from(["broken", "pushed"]), max_size=7), max_size=40),
    workers=st.integers(1, 6),
    waiting_max=st.integers(7, 12),
    tokens=st.floats(1.0, 4.0),
)
def test_every_item_ends_exactly_once(
    fates: list[list[str]], workers: int, waiting_max: int, tokens: float
) -> None:
    """Whatever fails how often: one outcome a tile, attempts as many as were asked, nothing left."""
    planned = tiles(len(fates))
    fate_of = dict(zip(planned, [list(fate) for fate in fates], strict=True))

    def answer(tile_id: TileId) -> Tile | Exception:
        if fate_of[tile_id]:
            return {"broken": BrokenError, "pushed": ThrottledError}[fate_of[tile_id].pop()]("x")
        return every_tile(tile_id)

    async def play() -> None:
        budget = RetryBudget(BudgetRule(tokens_max=tokens))
        bench = Bench(
            FakeSource(answer), chunks_of(planned), workers=workers, waiting_max=waiting_max, budget=budget
        )
        await bench.run()
        assert bench.outcomes == Counter(planned)
        asked = Counter(bench.source.asked)
        assert bench.tally.retried == asked.total() - len(planned)
        for result in bench.answers:
            if isinstance(result, FailedTile):
                assert result.attempts == asked[result.tile_id] == result.error.attempts  # type: ignore[union-attr]
        assert bench.source.under_way_max <= workers

    asyncio.run(play())
