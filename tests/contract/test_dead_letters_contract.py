"""What every `JobStore` promises of its dead letters: listed by cause, replayed, dropped."""

from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from tilehaul.errors import PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.retry import DeadTiles, drop, replay_key
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import DeadLetter, Dropped, JobCounts, JobKey, StoreInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores import journal

A, B, C, D, E = (TileId(3, x, 5) for x in range(5))
REPLAY = replay_key(SourceInfo("name of source", "source"), 2)


async def ended(backend: Any, make: Any, outcomes: Any, **job: Any) -> None:
    """A job over all the outcomes' tiles that has ended, some of them dead."""
    store = backend.open()
    await store.begin(make.job(planned=len(outcomes), **job))
    await store.commit(outcomes)
    states = [type(outcome) for outcome in outcomes]
    counts = JobCounts(states.count(Tile), states.count(NoTile), dead=states.count(DeadLetter))
    await store.finish(complete=counts.dead == 0, counts=counts)
    await store.close()


async def told(backend: Any) -> StoreInfo:
    archive = backend.open()
    info: StoreInfo = await archive.describe()
    await archive.close()
    return info


async def begun(backend: Any, job: JobKey) -> JobCounts | None:
    """What a job's `begin` answers."""
    store = backend.open()
    counts: JobCounts | None = await store.begin(job)
    await store.close()
    return counts


async def test_letters_are_listed_by_cause_and_by_class(backend: Any, make: Any, monkeypatch: Any) -> None:
    """Over many pages, with everything that was noted of them."""
    monkeypatch.setattr(journal, "PAGE_ROWS", 2)
    causes = ["http_500", "dns", "http_502", "truncated", "dns"]
    letters = [
        replace(make.dead(tile_id, cause=cause), at_s=1_800_000_000.5)
        for tile_id, cause in zip((A, B, C, D, E), causes, strict=True)
    ]
    await ended(backend, make, letters)
    store = backend.open()
    for words, expected in [
        ([], letters),
        (["server"], [letters[0], letters[2]]),
        (["network"], [letters[1], letters[4]]),
        (["http_502", "body"], [letters[2], letters[3]]),
        (["timeout"], []),
    ]:
        assert [letter async for letter in store.dead_letters(causes=words)] == expected
        assert list(await DeadTiles.of(store, words)) == [letter.tile_id for letter in expected]
        assert len(await DeadTiles.of(store, words)) == len(expected)
    assert (await store.describe()).dead_causes == {"dns": 2, "http_500": 1, "http_502": 1, "truncated": 1}
    await store.close()


async def test_letters_are_walked_lazily_while_they_are_settled(
    backend: Any, make: Any, monkeypatch: Any
) -> None:
    """None comes twice, none is left out; one that dies again is not met again."""
    monkeypatch.setattr(journal, "PAGE_ROWS", 2)
    await ended(backend, make, [make.dead(tile_id) for tile_id in (A, B, C, D, E)])
    store = backend.open()
    await store.begin(REPLAY)
    met = []
    async with aclosing(store.dead_letters()) as letters:
        async for letter in letters:
            met.append(letter.tile_id)
            again = len(met) % 2
            await store.commit(
                [make.dead(letter.tile_id, cause="dns") if again else make.png(letter.tile_id)]
            )
    assert met == [A, B, C, D, E]
    assert [letter.tile_id async for letter in store.dead_letters()] == [A, C, E]
    await store.close()


async def test_replay_completes_the_job_with_its_own_counts(backend: Any, make: Any) -> None:
    """In two runs, the first of them cut short: the counts move with the letters, commit by commit."""
    job = make.job(planned=5)
    await ended(backend, make, [make.png(A), make.absent(B), make.dead(C), make.dead(D), make.dead(E)])
    store = backend.open()
    assert await store.begin(REPLAY) is None
    assert list(await store.settled([A, B, C, D, E])) == ["done", "absent", "dead", "dead", "dead"]
    await store.commit([make.png(C), make.dead(D, cause="dns")])
    await store.close()
    assert ((await told(backend)).state, (await told(backend)).dead) == ("partial", 2)

    store = backend.open()
    assert await store.begin(REPLAY) is None
    await store.commit([make.absent(D)])
    await store.commit([make.png(E)])
    await store.finish(complete=True, counts=JobCounts(1, 1))
    await store.close()
    info = await told(backend)
    assert (info.state, info.dead, info.tiles) == ("complete", 0, 3)
    assert await begun(backend, job) == JobCounts(3, 2)


async def test_replay_killed_before_its_end_leaves_a_complete_store(backend: Any, make: Any) -> None:
    """Nothing is dead, nothing pending; the next replay, of nothing, tidies up."""
    await ended(backend, make, [make.png(A), make.dead(B)])
    store = backend.open()
    await store.begin(REPLAY)
    await store.commit([make.absent(B)])
    await store.close()
    assert (await told(backend)).state == "complete"
    store = backend.open()
    await store.begin(REPLAY)
    await store.finish(complete=True)
    await store.close()
    assert await begun(backend, make.job(planned=2)) == JobCounts(1, 1)


async def test_replay_leaves_what_is_pending_pending(backend: Any, make: Any) -> None:
    """An interrupted job is not complete because its dead letters are gone."""
    store = backend.open()
    await store.begin(make.job(planned=5))
    await store.commit([make.png(A), make.dead(B)])
    await store.finish(complete=False, counts=JobCounts(1, 0, dead=1))
    await store.close()
    store = backend.open()
    await store.begin(REPLAY)
    await store.commit([make.png(B)])
    await store.finish(complete=True, counts=JobCounts(1, 0))
    await store.close()
    info = await told(backend)
    assert (info.state, info.dead) == ("partial", 0)
    store = backend.open()
    assert await store.begin(make.job(planned=5)) is None
    assert list(await store.settled([A, B, C])) == ["done", "done", None]
    await store.close()


async def test_letters_of_two_jobs_are_replayed_and_counted_by_their_next_runs(
    backend: Any, make: Any
) -> None:
    """Nobody knows whose letter was whose, so nobody's counts are guessed: absences stay known."""
    await ended(backend, make, [make.png(A), make.dead(B)], area="one")
    await ended(backend, make, [make.dead(B), make.dead(C)], area="two")
    store = backend.open()
    await store.begin(REPLAY)
    await store.commit([make.absent(B), make.png(C)])
    await store.finish(complete=True)
    await store.close()
    assert (await told(backend)).state == "complete"
    store = backend.open()
    assert await store.begin(make.job("one", planned=2)) is None
    assert list(await store.settled([A, B])) == ["done", "absent"]
    await store.finish(complete=True, counts=JobCounts(1, 1))
    assert await store.begin(make.job("two", planned=2)) is None
    assert list(await store.settled([B, C])) == ["absent", "done"]
    await store.finish(complete=True, counts=JobCounts(1, 1))
    await store.close()
    assert (await told(backend)).state == "complete"


async def test_replay_of_some_causes_does_not_complete_a_job(backend: Any, make: Any) -> None:
    """The letters of an older, forgotten source count too: the job has one dead tile yet."""
    await ended(backend, make, [make.png(A), make.dead(B, cause="dns")])
    store = backend.open()
    await store.begin(make.job("other", source="mirror", planned=2), force_source=True)
    await store.commit([make.png(C), make.dead(D, cause="http_500")])
    await store.finish(complete=False, counts=JobCounts(1, 0, dead=1))
    await store.close()
    key = replay_key(SourceInfo("mirror", "mirror"), 1)
    for tile_id, state in [(B, "partial"), (D, "complete")]:
        store = backend.open()
        await store.begin(key)
        await store.commit([make.png(tile_id)])
        await store.finish(complete=True)
        await store.close()
        info = await told(backend)
        assert info.state == state
        assert ("mirror:other" in info.metadata["tilehaul_jobs"]) == (state == "complete")


@pytest.mark.parametrize("other", [{"source": "mirror"}, {"grid": "WorldCRS84Quad"}])
@pytest.mark.parametrize("tiles", [0, 1])
async def test_replay_of_another_source_or_grid_is_refused_unless_forced(
    backend: Any, make: Any, other: Any, tiles: Any
) -> None:
    """Also in a store without one tile, whose letters another seed would forget. It stays its source's."""
    await ended(backend, make, [make.png(A)] * tiles + [make.dead(B)])
    key = make.job("", replay=True, **other)
    store = backend.open()
    with pytest.raises(PlanError, match="--force-source"):
        await store.begin(key)
    await store.close()
    store = backend.open()
    assert await store.begin(key, force_source=True) is None
    assert [letter.tile_id async for letter in store.dead_letters()] == [B]
    await store.commit([make.png(B)])
    await store.finish(complete=True)
    await store.close()
    assert await begun(backend, make.job(planned=tiles + 1)) == JobCounts(tiles + 1, 0)


async def test_replay_in_a_store_that_no_job_wrote_is_refused(backend: Any, make: Any) -> None:
    store = backend.open()
    with pytest.raises(PlanError, match="no dead letters"):
        await store.begin(REPLAY, force_source=True)
    await store.close()
    assert await begun(backend, make.job()) is None


async def test_dropped_tile_is_neither_dead_nor_done(backend: Any, make: Any) -> None:
    """The job is complete without it and says so, now and in the next process; other jobs meet it too."""
    await ended(backend, make, [make.png(A), make.dead(B, cause="dns"), make.dead(C)])
    store = backend.open()
    seen: list[DeadLetter] = []
    assert await drop(store, ["network"], told=seen.append) == 1
    assert seen == [make.dead(B, cause="dns")]
    await store.close()
    info = await told(backend)
    assert (info.state, info.dead, info.dropped, info.tiles) == ("partial", 1, 1, 1)

    store = backend.open()
    assert await drop(store) == 1
    await store.close()
    info = await told(backend)
    assert (info.state, info.dead, info.dropped, info.absent, info.tiles) == ("complete", 0, 2, 0, 1)
    assert await begun(backend, make.job(planned=3)) == JobCounts(1, 0, dropped=2)

    store = backend.open()
    assert await store.begin(make.job("more", planned=2)) is None
    assert list(await store.settled([A, B, C, D])) == ["done", "dropped", "dropped", None]
    assert await store.get(B) == NoTile(B, "not_stored", "store")
    await store.commit([make.png(D)])
    await store.finish(complete=True, counts=JobCounts(1, 0, dropped=1))
    await store.close()
    assert (await told(backend)).dropped == 2


@pytest.mark.parametrize("then", ["png", "absent", "dead"])
async def test_dropped_tile_can_be_brought_back(backend: Any, make: Any, then: Any) -> None:
    """By whatever is committed later: an overwrite."""
    await ended(backend, make, [make.png(A), make.dead(B)])
    store = backend.open()
    await drop(store)
    await store.begin(make.job(planned=2))
    await store.commit([getattr(make, then)(B)])
    state = {"png": "done"}.get(then, then)
    assert list(await store.settled([B])) == [state]
    await store.close()
    assert (await told(backend)).dropped == 0


async def test_dropping_a_tile_that_died_in_an_overwrite_keeps_its_old_bytes(backend: Any, make: Any) -> None:
    """Readable, and still not done."""
    await ended(backend, make, [make.png(A)])
    store = backend.open()
    await store.begin(make.job(planned=1))
    await store.commit([make.dead(A)])
    await store.commit([Dropped(A)])
    assert list(await store.settled([A])) == ["dropped"]
    assert await store.get(A) == Tile(A, make.png(A).body, "image/png", "store")
    await store.finish(complete=True, counts=JobCounts(0, 0, dropped=1))
    await store.close()
    store = backend.open()
    assert await store.begin(make.job(planned=1)) == JobCounts(0, 0, dropped=1)
    assert list(await store.settled([A])) == ["dropped"]
    await store.close()


async def test_nothing_dead_means_nothing_dropped(backend: Any, make: Any) -> None:
    await ended(backend, make, [make.png(A), make.absent(B)])
    store = backend.open()
    assert await drop(store) == 0
    await store.close()
    info = await told(backend)
    assert (info.state, info.dropped) == ("complete", 0)
    assert await begun(backend, make.job(planned=2)) == JobCounts(1, 1)
