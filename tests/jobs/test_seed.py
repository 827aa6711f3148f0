"""The seed job on fakes: every planned tile ends exactly once, whatever happens."""

import asyncio
from collections import Counter
from dataclasses import replace
from math import nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.tiles import FakeSource, FakeStore, body_of, every_tile
from tilehaul.errors import (
    BrokenError,
    ConfigError,
    DataError,
    DeniedError,
    FuseError,
    PlanError,
    StorageError,
    ThrottledError,
)
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs import seed as seed_module
from tilehaul.jobs.retries import Origin, Retrying
from tilehaul.jobs.seed import seed
from tilehaul.jobs.seed_plan import SeedPlan
from tilehaul.jobs.stop import Stop
from tilehaul.net.clock import SystemClock
from tilehaul.policy.budget import BudgetRule, RetryBudget
from tilehaul.policy.fuse import FailureLimit
from tilehaul.policy.retry import RetryRule
from tilehaul.policy.tally import Tally
from tilehaul.ports.events import Progress, SeedReport
from tilehaul.ports.store import DeadLetter, Dropped, JobCounts, JobKey
from tilehaul.ports.tile import NoTile, Tile


def tiles(count: int) -> list[TileId]:
    return [TileId(20, n, n % 7) for n in range(count)]


def plan(planned: list[TileId], **options: object) -> SeedPlan:
    key = JobKey("src", "fake source", f"area-{len(planned)}", len(planned))
    values: dict = {"workers": 8, "store_name": "memory", **options}
    return SeedPlan(tiles=planned, planned=len(planned), key=key, **values)


async def run(source: FakeSource, store: FakeStore, job: SeedPlan, **options: object):
    return await seed(Origin(source), store, job, tally=Tally(), clock=SystemClock(), **options)  # type: ignore[arg-type]


def adds_up(report: SeedReport) -> bool:
    return report.planned == report.done + report.absent + report.dead + report.pending + report.dropped


async def test_every_tile_is_kept_once_and_the_job_is_complete() -> None:
    source, store, planned = FakeSource(), FakeStore(), tiles(2500)
    report = await run(source, store, plan(planned))
    assert report.state == "complete"
    assert report.done == 2500
    assert Counter(source.asked) == Counter(planned)
    assert {tile_id: outcome.body for tile_id, outcome in store.outcomes.items()} == {
        tile_id: body_of(tile_id) for tile_id in planned
    }
    assert store.finished == [True]
    assert max(store.commits) <= 2000
    assert source.under_way_max <= 8


async def test_same_job_again_sends_nothing() -> None:
    store, planned = FakeStore(), tiles(50)
    await run(FakeSource(), store, plan(planned))
    again = FakeSource()
    report = await run(again, store, plan(planned))
    assert (report.state, report.done, report.skipped, again.asked) == ("complete", 50, 50, [])


async def test_same_job_again_tells_the_absent_apart() -> None:
    """What the first run counted, the second run says."""
    store, planned = FakeStore(), tiles(50)
    half = FakeSource(lambda tile_id: every_tile(tile_id) if tile_id.x % 2 else NoTile(tile_id))
    first = await run(half, store, plan(planned))
    again = FakeSource()
    second = await run(again, store, plan(planned))
    assert (first.done, first.absent, first.skipped) == (25, 25, 0)
    assert (second.done, second.absent, second.skipped, again.asked) == (25, 25, 50, [])
    assert adds_up(second)


async def test_overwrite_fetches_everything_again() -> None:
    store, planned = FakeStore(), tiles(50)
    await run(FakeSource(), store, plan(planned))
    again = FakeSource()
    report = await run(again, store, plan(planned, overwrite=True))
    assert len(again.asked) == 50
    assert (report.done, report.skipped) == (50, 0)


async def test_absent_is_settled_and_dead_is_not() -> None:
    """A second run asks only for what died."""

    def answer(tile_id: TileId):
        if tile_id.x % 10 == 0:
            return NoTile(tile_id, "http_404")
        if tile_id.x % 10 == 1:
            return BrokenError("boom", url="http://h/", attempts=6, cause="http_500")
        return every_tile(tile_id)

    store, planned, begun_s = FakeStore(), tiles(100), SystemClock().wall_s()
    report = await run(FakeSource(answer), store, plan(planned))
    assert (report.state, report.done, report.absent, report.dead) == ("dead_letters", 80, 10, 10)
    letter = store.outcomes[planned[1]]
    assert isinstance(letter, DeadLetter)
    assert letter.at_s >= begun_s
    assert replace(letter, at_s=0.0) == DeadLetter(planned[1], "http_500", 6, "http://h/", "boom")
    again = FakeSource()
    report = await run(again, store, plan(planned))
    assert sorted(again.asked) == sorted(planned[1::10])
    assert (report.state, report.done, report.absent, report.skipped) == ("complete", 90, 10, 90)


async def test_dropped_tile_is_not_asked_for_and_is_not_done() -> None:
    """A person's word holds until it is overwritten; the job is complete without the tile, and says so."""
    store, planned = FakeStore(), tiles(50)
    store.outcomes[planned[7]] = Dropped(planned[7])
    source = FakeSource()
    first = await run(source, store, plan(planned))
    assert planned[7] not in source.asked
    assert (first.state, first.done, first.dropped, first.skipped, first.dead) == ("complete", 49, 1, 1, 0)
    second = await run(FakeSource(), store, plan(planned))
    assert (second.state, second.done, second.dropped, second.skipped) == ("complete", 49, 1, 50)
    assert adds_up(first)
    assert adds_up(second)
    third = await run(FakeSource(), store, plan(planned, overwrite=True))
    assert (third.done, third.dropped) == (50, 0)


async def test_dead_letter_keeps_the_head_of_the_body_without_secrets() -> None:
    """An error page that repeats our key does not carry it into the archive."""
    page = b"<html>bad key=sesame123 for http://h/1.png?token=sesame123</html>"
    store = FakeStore()
    source = FakeSource(lambda _: DataError("html", cause="error_page", head=page))
    await run(source, store, plan(tiles(1)))
    [letter] = store.outcomes.values()
    assert isinstance(letter, DeadLetter)
    assert b"<html>bad" in letter.body_head
    assert b"sesame123" not in letter.body_head


async def test_dead_letter_keeps_the_head_of_a_damaged_picture_as_it_came() -> None:
    """Its first bytes tell what it was; a key in between is masked all the same."""
    head = bytes(range(256))[56:] + "&token=sesamé123".encode()
    store = FakeStore()
    source = FakeSource(lambda tile_id: DataError("x", cause="corrupt", head=head[tile_id.x * 20 :]))
    await run(source, store, plan(tiles(2)))
    whole, keyed = store.outcomes.values()
    assert isinstance(whole, DeadLetter)
    assert isinstance(keyed, DeadLetter)
    assert whole.body_head == head[:200]
    assert keyed.body_head == head[20:200] + b"&token=***"


async def test_fuse_stops_early_and_keeps_what_was_done() -> None:
    def answer(tile_id: TileId):
        return every_tile(tile_id) if tile_id.x < 1000 else BrokenError("away", cause="http_502")

    source, store, planned = FakeSource(answer), FakeStore(), tiles(5000)
    reports: list = []
    with pytest.raises(FuseError, match="--max-failures") as caught:
        await run(source, store, plan(planned), watch=reports.append)
    assert len(source.asked) < 1100
    assert reports[-1].state == "stopped"
    assert adds_up(reports[-1])
    assert reports[-1].done == 1000 == caught.value.counts["done"]
    assert store.finished == [False]


async def test_fifty_failures_in_a_row_stop_a_small_job() -> None:
    source = FakeSource(lambda _: BrokenError("away"))
    with pytest.raises(FuseError, match="in a row"):
        await run(source, FakeStore(), plan(tiles(400), max_failures=FailureLimit(count=999)))
    assert len(source.asked) <= 50 + 8


async def test_denials_name_the_key() -> None:
    with pytest.raises(FuseError, match="401/403"):
        await run(FakeSource(lambda _: DeniedError("no")), FakeStore(), plan(tiles(100)))


async def test_endless_push_back_stops_the_job_and_leaves_the_tile_pending() -> None:
    """Push-back is no failure of a tile: nothing is written off."""
    store, reports = FakeStore(), []
    source = FakeSource(lambda _: ThrottledError("slow down", retry_after_s=86_400.0))
    with pytest.raises(FuseError, match="--max-wait"):
        await run(source, store, plan(tiles(100)), watch=reports.append)
    assert reports[-1].pending == 100
    assert store.outcomes == {}


async def test_one_tile_pushed_back_for_ever_does_not_end_a_job_that_succeeds() -> None:
    """Its patience is over, the lane is well: a dead letter with the cause."""

    def answer(tile_id: TileId):
        return ThrottledError("slow down", cause="http_429") if tile_id.x == 7 else every_tile(tile_id)

    store = FakeStore()
    report = await run(FakeSource(answer), store, plan(tiles(100)))
    assert (report.state, report.done, report.dead) == ("dead_letters", 99, 1)


async def test_watcher_that_fails_ends_the_job() -> None:
    """A progress callback that raises must not leave a job that nobody can stop."""

    class Hanging(FakeSource):
        async def get(self, tile_id: TileId) -> Tile | NoTile:
            await asyncio.sleep(3600)
            raise AssertionError

    def watch(event: object) -> None:
        if isinstance(event, Progress):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await asyncio.wait_for(run(Hanging(), FakeStore(), plan(tiles(9), max_wait_s=0.2), watch=watch), 5)


async def test_blown_fuse_does_not_wait_for_what_hangs() -> None:
    """Fifty dead in a row, a hundred tiles that never come: the job ends now, not after the drain."""

    class Half(FakeSource):
        async def get(self, tile_id: TileId) -> Tile | NoTile:
            if tile_id.x % 2:
                await asyncio.sleep(3600)
            raise BrokenError("away")

    free = FailureLimit(count=999)
    with pytest.raises(FuseError, match="in a row"):
        await asyncio.wait_for(run(Half(), FakeStore(), plan(tiles(400), workers=200, max_failures=free)), 5)


async def test_time_asleep_is_not_time_waited() -> None:
    """After Ctrl-Z and fg the clock has leapt, but nobody has waited for the origin."""

    class Leaping(SystemClock):
        leap_s = 0.0

        def now_s(self) -> float:
            return super().now_s() + self.leap_s

    clock = Leaping()

    class Slow(FakeSource):
        async def get(self, tile_id: TileId) -> Tile | NoTile:
            clock.leap_s = 5000.0
            await asyncio.sleep(0.5)
            return await super().get(tile_id)

    job = plan(tiles(3), max_wait_s=1.2, workers=3)
    report = await seed(Origin(Slow()), FakeStore(), job, tally=Tally(), clock=clock)
    assert report.state == "complete"


async def test_silence_beyond_max_wait_stops_the_job() -> None:
    class Silent(FakeSource):
        async def get(self, tile_id: TileId) -> Tile | NoTile:
            await asyncio.sleep(3600)
            raise AssertionError

    with pytest.raises(FuseError, match="origin is away"):
        await run(Silent(), FakeStore(), plan(tiles(10), max_wait_s=0.05))


async def test_tiles_that_come_for_longer_than_max_wait_are_no_silence() -> None:
    class Slow(FakeSource):
        async def get(self, tile_id: TileId) -> Tile | NoTile:
            await asyncio.sleep(0.01)
            return await super().get(tile_id)

    report = await run(Slow(), FakeStore(), plan(tiles(30), workers=1, max_wait_s=0.1))
    assert (report.state, report.done) == ("complete", 30)


async def test_drain_does_not_wait_for_the_next_attempt_of_what_waits() -> None:
    """Every worker idle, one tile due in a minute: the job ends now, and the tile stays pending."""
    stop = Stop()
    retrying = Retrying(RetryRule(delay_s_first=120.0), lambda: 0.5, lambda _: RetryBudget())
    source = FakeSource(lambda tile_id: every_tile(tile_id) if tile_id.x else BrokenError("x"))
    job = plan(tiles(20))
    running = asyncio.create_task(
        seed(Origin(source, retrying), FakeStore(), job, tally=Tally(), clock=SystemClock(), stop=stop)
    )
    while len(source.asked) < 20:
        await asyncio.sleep(0.001)
    stop.drain()
    report = await asyncio.wait_for(running, 5)
    assert (report.state, report.done, report.pending) == ("interrupted", 19, 1)


async def test_drain_finishes_what_is_under_way_and_no_more() -> None:
    stop = Stop()

    def answer(tile_id: TileId):
        if tile_id.x == 100:
            stop.drain()
        return every_tile(tile_id)

    source, store = FakeSource(answer), FakeStore()
    report = await run(source, store, plan(tiles(1000)), stop=stop)
    assert report.state == "interrupted"
    assert set(store.outcomes) == set(source.asked)
    assert 100 < report.done < 130
    assert adds_up(report)
    rest = FakeSource()
    assert (await run(rest, store, plan(tiles(1000)))).state == "complete"
    assert not set(rest.asked) & set(source.asked)


async def test_cancel_ends_at_once_and_keeps_what_was_fetched() -> None:
    """A second Ctrl-C does not wait for tiles that hang."""
    stop = Stop()

    class Hanging(FakeSource):
        async def get(self, tile_id: TileId) -> Tile | NoTile:
            if tile_id.x >= 20:
                stop.cancel()
                await asyncio.sleep(3600)
            return await super().get(tile_id)

    store = FakeStore()
    report = await asyncio.wait_for(run(Hanging(), store, plan(tiles(100)), stop=stop), 5)
    assert report.state == "interrupted"
    assert len(store.outcomes) == report.done >= 13


async def test_deadline_ends_the_job_in_good_order() -> None:
    """What is under way then is finished and kept; nothing new is begun; the report says how to go on."""

    class Slow(FakeSource):
        async def get(self, tile_id: TileId) -> Tile | NoTile:
            await asyncio.sleep(0.01)
            return await super().get(tile_id)

    source, store, reports = Slow(), FakeStore(), []
    job = plan(tiles(5000), deadline_s=0.1)
    report = await asyncio.wait_for(run(source, store, job, watch=reports.append), 5)
    assert report.state == "interrupted"
    assert report.message.startswith("the deadline of 0.1 s has come: ")
    assert set(store.outcomes) == set(source.asked)
    assert 0 < report.done < 5000
    assert reports[-1] == report
    rest = FakeSource()
    assert (await run(rest, store, plan(tiles(5000)))).state == "complete"
    assert not set(rest.asked) & set(source.asked)


async def test_deadline_does_not_wait_for_what_hangs(monkeypatch) -> None:
    monkeypatch.setattr(seed_module, "DEADLINE_DRAIN_S", 0.05)

    class Hanging(FakeSource):
        async def get(self, tile_id: TileId) -> Tile | NoTile:
            if tile_id.x >= 20:
                await asyncio.sleep(3600)
            return await super().get(tile_id)

    store = FakeStore()
    report = await asyncio.wait_for(run(Hanging(), store, plan(tiles(100), deadline_s=0.05)), 5)
    assert (report.state, report.done, report.pending) == ("interrupted", 20, 80)
    assert len(store.outcomes) == 20


async def test_deadline_that_comes_after_the_end_changes_nothing() -> None:
    report = await run(FakeSource(), FakeStore(), plan(tiles(100), deadline_s=3600.0))
    assert (report.state, report.message) == ("complete", "")


@pytest.mark.parametrize(
    "wrong", [{"deadline_s": 0.0}, {"deadline_s": -1.0}, {"deadline_s": nan}, {"workers": 0}]
)
def test_plan_that_cannot_be_is_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong)).removesuffix("_s")):
        plan(tiles(1), **wrong)


async def test_work_that_raises_in_the_middle_ends_the_job_with_its_error() -> None:
    """What came before is moved and journalled; the next run goes on from there."""

    def walk(*, broken: bool):
        for number, tile_id in enumerate(tiles(3000)):
            if broken and number == 2500:
                raise LookupError("the list ends in the middle")
            yield tile_id

    def job(*, broken: bool) -> SeedPlan:
        return replace(plan(tiles(3000)), tiles=walk(broken=broken))

    source, store, reports = FakeSource(), FakeStore(), []
    with pytest.raises(LookupError, match="in the middle"):
        await run(source, store, job(broken=True), watch=reports.append)
    assert (reports[-1].state, reports[-1].done, reports[-1].pending) == ("stopped", 2000, 1000)
    assert reports[-1].message == "the list ends in the middle"
    again = FakeSource()
    assert (await run(again, store, job(broken=False))).state == "complete"
    assert Counter(again.asked) == Counter(tiles(3000)[2000:])


async def test_item_that_is_no_tile_is_named_and_the_job_can_go_on() -> None:
    store = FakeStore()
    wrong = replace(plan(tiles(2000)), tiles=[*tiles(1500), "20/1500/2"])  # type: ignore[list-item]
    with pytest.raises(PlanError, match="item 1501 of the work is no TileId: '20/1500/2'"):
        await run(FakeSource(), store, wrong)
    assert len(store.outcomes) == 1000
    assert (await run(FakeSource(), store, plan(tiles(2000)))).state == "complete"


async def test_failed_attempts_wait_on_the_heap_and_the_counts_are_true() -> None:
    """Every tile fails twice; four workers; attempts, retries and the dead letter add up."""
    counts: Counter[TileId] = Counter()
    dead = tiles(100)[7]

    def answer(tile_id: TileId):
        counts[tile_id] += 1
        return (
            BrokenError("x", cause="http_500")
            if tile_id == dead or counts[tile_id] < 3
            else every_tile(tile_id)
        )

    budget, tally, store = RetryBudget(BudgetRule(tokens_max=1000.0)), Tally(), FakeStore()
    retrying = Retrying(RetryRule(attempts_max=4, delay_s_first=0.01), lambda: 0.5, lambda _: budget)
    source = FakeSource(answer)
    job = plan(tiles(100), workers=4)
    report = await seed(Origin(source, retrying), store, job, tally=tally, clock=SystemClock())
    assert (report.state, report.done, report.dead) == ("dead_letters", 99, 1)
    letter = store.outcomes[dead]
    assert isinstance(letter, DeadLetter)
    assert (letter.cause, letter.attempts, letter.message) == ("http_500", 4, "x")
    assert len(source.asked) == 99 * 3 + 4
    assert tally.retried == 99 * 2 + 3 == report.retried
    # Ninety-nine tiles came at their second retry and gave that token back.
    assert budget.tokens == 1000.0 - tally.retried + 99


async def test_blown_fuse_leaves_what_waits_pending() -> None:
    """Half of the tiles wait for another attempt when the job stops: not one of them is written off."""

    def answer(tile_id: TileId):
        return BrokenError("x") if tile_id.x % 2 else DeniedError("no")

    retrying = Retrying(RetryRule(delay_s_first=60.0), lambda: 0.5, lambda _: RetryBudget())
    store, reports = FakeStore(), []
    with pytest.raises(FuseError, match="401/403"):
        await seed(
            Origin(FakeSource(answer), retrying),
            store,
            plan(tiles(1000)),
            tally=Tally(),
            clock=SystemClock(),
            watch=reports.append,
        )
    assert {letter.cause for letter in store.outcomes.values()} == {"denied"}
    assert reports[-1].dead == len(store.outcomes)
    assert adds_up(reports[-1])


async def test_cancelled_from_outside_keeps_what_was_fetched() -> None:
    """`asyncio.timeout` around a seed loses no fetched tile."""

    class Hanging(FakeSource):
        async def get(self, tile_id: TileId) -> Tile | NoTile:
            if tile_id.x >= 20:
                await asyncio.sleep(3600)
            return await super().get(tile_id)

    store = FakeStore()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await run(Hanging(), store, plan(tiles(100)))
    assert len(store.outcomes) >= 13


async def test_disk_that_refuses_ends_the_job_with_its_own_error() -> None:
    """What was acknowledged before stays; nothing after it counts as done."""
    store, reports = FakeStore(fail_at_commit=2), []
    with pytest.raises(StorageError, match="no space"):
        await run(FakeSource(), store, plan(tiles(5000)), watch=reports.append)
    assert reports[-1].state == "stopped"
    assert reports[-1].done == sum(store.commits) == len(store.outcomes)


async def test_store_that_cannot_finish_still_gets_its_report_told() -> None:
    """The last event is the report, whatever happens."""

    class Unfinished(FakeStore):
        async def finish(self, *, complete: bool, counts: JobCounts | None = None) -> None:
            raise StorageError("cannot sync")

    reports: list = []
    with pytest.raises(StorageError):
        await run(FakeSource(), Unfinished(), plan(tiles(10)), watch=reports.append)
    assert (reports[-1].state, reports[-1].done) == ("stopped", 10)


async def test_bug_in_a_source_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        await run(FakeSource(lambda _: ZeroDivisionError()), FakeStore(), plan(tiles(10)))


async def test_work_list_is_lazy() -> None:
    """A billion planned tiles cost no more than the ones asked for."""
    walked = 0

    def walk():
        nonlocal walked
        for n in range(10**9):
            walked += 1
            yield TileId(30, n, 0)

    stop = Stop()

    def answer(tile_id: TileId):
        if tile_id.x == 5000:
            stop.drain()
        return every_tile(tile_id)

    job = SeedPlan(tiles=walk(), planned=10**9, key=JobKey("s", "s", "a", 10**9), workers=8)
    report = await run(FakeSource(answer), FakeStore(), job, stop=stop)
    assert walked <= 5000 + 3000
    assert report.pending == 10**9 - report.done


async def test_progress_never_goes_back_and_ends_in_a_report(monkeypatch) -> None:
    monkeypatch.setattr(seed_module, "PROGRESS_S", 0.0)
    events: list = []
    await run(FakeSource(), FakeStore(), plan(tiles(3000)), watch=events.append)
    counts = [event.done for event in events if isinstance(event, Progress)]
    assert counts == sorted(counts)
    assert len(counts) > 2
    assert isinstance(events[-1], SeedReport)


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["tile", "none", "dead"]), min_size=0, max_size=120),
    drains=st.lists(st.integers(0, 120), max_size=4),
    workers=st.integers(1, 12),
)
def test_any_chain_of_interrupted_runs_ends_as_one_run_would(kinds, drains, workers) -> None:
    """Exactly-once: settled tiles are never asked for again, and the end is the same."""
    planned = tiles(len(kinds))
    kind_of = dict(zip(planned, kinds, strict=True))

    async def play() -> None:
        store = FakeStore()
        settled: set[TileId] = set()
        for drain_at in [*drains, None]:
            stop = Stop()
            asked = 0

            def answer(tile_id: TileId, stop: Stop = stop, drain_at: int | None = drain_at):
                nonlocal asked
                asked += 1
                if asked == drain_at:
                    stop.drain()
                assert tile_id not in settled  # noqa: B023 - read at once, within this round
                kind = kind_of[tile_id]
                if kind == "dead":
                    return BrokenError("x")
                return every_tile(tile_id) if kind == "tile" else NoTile(tile_id)

            free = FailureLimit(count=10_000)
            try:
                job = plan(planned, workers=workers, max_failures=free)
                report = await run(FakeSource(answer), store, job, stop=stop)
            except FuseError:
                return  # fifty dead in a row: a case of its own
            assert adds_up(report)
            settled = {
                tile_id for tile_id, outcome in store.outcomes.items() if not isinstance(outcome, DeadLetter)
            }
        assert {type(store.outcomes[tile_id]).__name__ for tile_id in planned} <= {
            "Tile",
            "NoTile",
            "DeadLetter",
        }
        assert all(
            isinstance(store.outcomes[t], {"tile": Tile, "none": NoTile, "dead": DeadLetter}[kind_of[t]])
            for t in planned
        )

    asyncio.run(play())


@pytest.mark.parametrize(("came", "said"), [(1500, "1,500 came"), (2100, "2,100 came")])
async def test_source_that_has_other_tiles_than_it_said_does_not_complete_the_job(
    came: int, said: str
) -> None:
    """Fewer, or more: what came is kept, and the job says what happened instead of "interrupted"."""
    store, reports = FakeStore(), []
    job = replace(plan(tiles(2000)), tiles=tiles(came))
    with pytest.raises(StorageError, match=said):
        await run(FakeSource(), store, job, watch=reports.append)
    assert (reports[-1].state, reports[-1].done) == ("stopped", came)
    assert store.finished == [False]
    assert len(store.outcomes) == came


async def test_stopped_job_is_interrupted_and_not_changed() -> None:
    stop = Stop()
    stop.drain()
    assert (await run(FakeSource(), FakeStore(), plan(tiles(9)), stop=stop)).state == "interrupted"


async def test_listed_tile_that_is_not_there_is_no_absence() -> None:
    """It is dead, asked for again by the next run, and done when it has come back."""

    def gone(tile_id: TileId) -> Tile | NoTile:
        if tile_id.x == 5:
            return NoTile(tile_id, "not_stored", "store")
        return Tile(tile_id, body_of(tile_id), "image/png", "store")

    store = FakeStore()
    report = await run(FakeSource(gone), store, plan(tiles(9), listed=True))
    assert (report.state, report.dead, report.absent) == ("dead_letters", 1, 0)
    [letter] = [one for one in store.outcomes.values() if isinstance(one, DeadLetter)]
    assert (letter.cause, letter.tile_id.x) == ("vanished", 5)
    again = FakeSource()
    assert (await run(again, store, plan(tiles(9), listed=True))).state == "complete"
    assert again.asked == [tiles(9)[5]]
