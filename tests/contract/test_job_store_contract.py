"""What every `JobStore` promises, over all backends."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilehaul.errors import PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import SourceVersion
from tilehaul.ports.store import Deleted, JobCounts, JobStore, Outcome
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores import journal

A, B, C, D = TileId(0, 0, 0), TileId(3, 5, 1), TileId(3, 5, 2), TileId(30, 2**30 - 1, 2**30 - 1)
# What a complete job of `make.job` answers when its counts were not kept.
ALL_DONE = JobCounts(10, 0)


async def test_outcomes_are_told_in_order(backend: Any, make: Any) -> None:
    """`settled` answers each id in its place, also twice the same, and None while pending."""
    store: JobStore = backend.open()
    assert await store.begin(make.job()) is None
    await store.commit([make.png(A), make.absent(B), make.dead(C), make.jpeg(D)])
    assert list(await store.settled([C, A, TileId(1, 1, 1), B, A, D])) == [
        "dead", "done", None, "absent", "done", "done",
    ]  # fmt: skip
    assert list(await store.settled([])) == []
    await store.close()


async def test_reopened_store_knows_what_was_committed(backend: Any, make: Any) -> None:
    """Everything acknowledged is there for the next process."""
    store = backend.open()
    await store.begin(make.job())
    await store.commit([make.png(A), make.absent(B)])
    await store.commit([make.dead(C)])
    await store.close()

    again = backend.open()
    assert await again.begin(make.job()) is None
    assert list(await again.settled([A, B, C, D])) == ["done", "absent", "dead", None]
    assert [letter async for letter in again.dead_letters()] == [make.dead(C)]
    await again.close()


@pytest.mark.parametrize("first", ["png", "absent", "dead"])
@pytest.mark.parametrize("then", ["png", "jpeg", "absent", "dead"])
@pytest.mark.parametrize("batches", [1, 2])
async def test_later_outcome_replaces_earlier(
    backend: Any, make: Any, first: Any, then: Any, batches: Any
) -> None:
    """In one batch or two; an absence removes the bytes, a dead letter keeps old ones readable."""
    store = backend.open()
    await store.begin(make.job())
    earlier, later = getattr(make, first)(A), getattr(make, then)(A)
    if batches == 1:
        await store.commit([earlier, make.png(B), later])
    else:
        await store.commit([earlier, make.png(B)])
        await store.commit([later])
    state = {"png": "done", "jpeg": "done", "absent": "absent", "dead": "dead"}[then]
    assert list(await store.settled([A, B])) == [state, "done"]
    body_from = later if isinstance(later, Tile) else earlier if then == "dead" else None
    answer = await store.get(A)
    if isinstance(body_from, Tile):
        assert isinstance(answer, Tile)
        assert (answer.body, answer.media_type) == (body_from.body, body_from.media_type)
    else:
        assert answer == NoTile(A, "not_stored", "store")
    assert len([letter async for letter in store.dead_letters()]) == (then == "dead")
    assert [i async for i in store.tile_ids()].count(A) == isinstance(body_from, Tile)
    await store.close()


async def test_complete_job_is_recognised_with_nothing_to_do(backend: Any, make: Any) -> None:
    """`begin` answers counts for the very same job, though absent tiles left no row."""
    store = backend.open()
    await store.begin(make.job())
    await store.commit([make.png(A), make.absent(B)])
    await store.finish(complete=True)
    assert (await store.describe()).state == "complete"
    await store.close()

    again = backend.open()
    assert await again.begin(make.job()) == ALL_DONE
    done, absent = await again.settled([A, B])
    # A journal of its own remembers the absent one as well.
    assert (done, absent) == ("done", "absent" if backend.kind == "bucket" else None)
    await again.finish(complete=True)
    assert (await again.describe()).state == "complete"
    await again.close()


async def test_unfinished_job_is_not_complete(backend: Any, make: Any) -> None:
    """With dead letters the store stays partial; once they are replayed it is complete."""
    store = backend.open()
    await store.begin(make.job())
    await store.commit([make.png(A), make.dead(B)])
    await store.finish(complete=False)
    assert (await store.describe()).state == "partial"
    await store.close()

    again = backend.open()
    assert await again.begin(make.job()) is None
    assert [letter.tile_id async for letter in again.dead_letters()] == [B]
    await again.commit([make.png(B)])
    await again.finish(complete=True)
    info = await again.describe()
    assert (info.state, info.tiles, info.dead) == ("complete", 2, 0)
    await again.close()


async def test_other_area_adds_and_leaves_the_first_complete(backend: Any, make: Any) -> None:
    """A second area of the same source goes into the same store."""
    store = backend.open()
    await store.begin(make.job("one"))
    await store.commit([make.png(A)])
    await store.finish(complete=True)
    assert await store.begin(make.job("two")) is None
    assert list(await store.settled([A, B])) == ["done", None]
    await store.commit([make.png(B)])
    assert (await store.describe()).state == "partial"
    await store.finish(complete=True)
    assert (await store.describe()).tiles == 2
    assert await store.begin(make.job("one")) == ALL_DONE
    assert await store.begin(make.job("two")) == ALL_DONE
    await store.close()


async def test_store_with_another_unfinished_job_stays_partial(backend: Any, make: Any) -> None:
    """Completing one job does not forget the dead letters of another."""
    store = backend.open()
    await store.begin(make.job("one"))
    await store.commit([make.dead(A)])
    await store.finish(complete=False)
    await store.begin(make.job("two"))
    await store.commit([make.png(B)])
    await store.finish(complete=True)
    info = await store.describe()
    assert (info.state, info.dead) == ("partial", 1)
    assert await store.begin(make.job("two")) == ALL_DONE
    assert await store.begin(make.job("one")) is None
    assert [letter.tile_id async for letter in store.dead_letters()] == [A]
    await store.close()


async def test_interrupted_job_stays_open_beside_a_completed_one(backend: Any, make: Any) -> None:
    """What another job left pending still makes the store partial, and its absences stay known."""
    store = backend.open()
    await store.begin(make.job("one"))
    await store.commit([make.absent(A)])
    await store.close()
    store = backend.open()
    await store.begin(make.job("two"))
    await store.commit([make.png(B)])
    await store.finish(complete=True)
    assert (await store.describe()).state == "partial"
    assert await store.begin(make.job("one")) is None
    assert list(await store.settled([A])) == ["absent"]
    await store.finish(complete=True)
    assert (await store.describe()).state == "complete"
    await store.close()


async def test_complete_job_answers_its_counts(backend: Any, make: Any) -> None:
    """Each job its own, in the next process too; an overwrite's counts replace them."""
    store = backend.open()
    one, two = make.job("one", planned=2), make.job("two", planned=1)
    assert await store.begin(one) is None
    await store.commit([make.png(A), make.absent(B)])
    await store.finish(complete=True, counts=JobCounts(1, 1))
    assert await store.begin(two) is None
    await store.commit([make.png(C)])
    await store.finish(complete=True, counts=JobCounts(1, 0))
    await store.close()

    again = backend.open()
    assert await again.begin(one) == JobCounts(1, 1)
    assert await again.begin(two) == JobCounts(1, 0)
    assert await again.begin(one) == JobCounts(1, 1)
    await again.commit([make.png(B)])
    await again.finish(complete=True, counts=JobCounts(2, 0))
    assert await again.begin(one) == JobCounts(2, 0)
    await again.close()


async def test_counts_of_a_job_that_is_not_complete_are_not_kept(backend: Any, make: Any) -> None:
    """Nor do counts count that are not the plan's: they would leave tiles pending."""
    store = backend.open()
    await store.begin(make.job())
    await store.commit([make.png(A), make.dead(B)])
    await store.finish(complete=False, counts=JobCounts(10, 0))
    assert await store.begin(make.job()) is None
    await store.commit([make.png(B)])
    await store.finish(complete=True, counts=JobCounts(1, 1))
    assert await store.begin(make.job()) == ALL_DONE
    await store.close()


@pytest.mark.parametrize("other", [{"source": "mirror"}, {"grid": "WorldCRS84Quad"}])
@pytest.mark.parametrize("complete", [False, True])
async def test_store_without_tiles_is_anybodys(backend: Any, make: Any, other: Any, complete: Any) -> None:
    """A mistyped address that brought nothing leaves nothing: no letters, absences, names or jobs."""
    store = backend.open()
    await store.begin(make.job(metadata=(("name", "Wrong"), ("attribution", "nobody"))))
    await store.commit([make.absent(A)] if complete else [make.absent(A), make.dead(B)])
    await store.finish(complete=complete)
    await store.close()

    right = backend.open()
    job = make.job(**other, metadata=(("name", "Right"),))
    assert await right.begin(job) is None
    assert list(await right.settled([A, B])) == [None, None]
    assert [letter async for letter in right.dead_letters()] == []
    await right.commit([make.png(A), make.png(B)])
    await right.finish(complete=True)
    info = await right.describe()
    assert (info.state, info.tiles, info.absent, info.dead) == ("complete", 2, 0, 0)
    assert (info.metadata["name"], info.metadata.get("attribution")) == ("Right", None)
    assert await right.begin(job) == ALL_DONE
    await right.close()


async def test_store_without_tiles_keeps_what_its_own_source_left(backend: Any, make: Any) -> None:
    """The same source again: the absences need no second request, the dead letters are told."""
    store = backend.open()
    await store.begin(make.job())
    await store.commit([make.absent(A), make.dead(B)])
    await store.close()
    again = backend.open()
    assert await again.begin(make.job()) is None
    assert list(await again.settled([A, B])) == ["absent", "dead"]
    assert await again.begin(make.job("more")) is None
    assert list(await again.settled([A, B])) == ["absent", "dead"]
    await again.close()


@pytest.mark.parametrize("other", [{"source": "mirror"}, {"grid": "WorldCRS84Quad"}])
async def test_56_job_changed(backend: Any, make: Any, other: Any) -> None:
    """The message names both and the way out; what is kept stays as it was."""
    store = backend.open()
    await store.begin(make.job())
    await store.commit([make.png(A)])
    await store.finish(complete=True)
    await store.close()

    again = backend.open()
    with pytest.raises(PlanError, match="--force-source") as refusal:
        await again.begin(make.job("elsewhere", **other))
    names = (
        ("name of mirror", "name of source") if "source" in other else ("WorldCRS84Quad", "WebMercatorQuad")
    )
    assert all(name in str(refusal.value) for name in names)
    await again.close()
    assert (await again.describe()).state == "complete"

    forced = backend.open()
    assert await forced.begin(make.job("elsewhere", **other), force_source=True) is None
    assert list(await forced.settled([A])) == ["done"]
    await forced.commit([make.png(B)])
    await forced.finish(complete=True)
    assert (await forced.describe()).tiles == 2
    await forced.close()


async def test_an_unfinished_job_does_not_go_on_with_a_changed_source(backend: Any, make: Any) -> None:
    """Both versions are told; who compares or moves all again is let in, and must come to the end of it."""
    first, second, third = (SourceVersion(f"{n}", f"{n} bytes") for n in (1, 22, 333))

    async def begun(**about: object) -> JobCounts | None:
        store = backend.open()
        try:
            counts: JobCounts | None = await store.begin(make.job(**about))
            if counts is None:
                await store.commit([make.png(A)])
        finally:
            await store.close()
        return counts

    assert await begun(version=first) is None
    assert await begun(version=first) is None
    for forced in (False, True):
        store = backend.open()
        with pytest.raises(
            PlanError, match=r"then 1 bytes, now 22 bytes: `tilehaul copy --update`.*--overwrite"
        ):
            await store.begin(make.job(version=second), force_source=forced)
        await store.close()
    # Nor does a job of another area bring the other version in beside it.
    with pytest.raises(PlanError, match="then 1 bytes, now 22 bytes"):
        await begun(version=second, area="elsewhere")
    assert await begun(version=second, renews=True) is None
    for version in (first, second):
        with pytest.raises(PlanError, match="then more than one version, now"):
            await begun(version=version)
    store = backend.open()
    assert await store.begin(make.job(version=second, renews=True)) is None
    await store.commit([make.png(A)])
    await store.finish(complete=True, counts=ALL_DONE)
    await store.close()
    assert await begun(version=second) == ALL_DONE
    # A complete job vouches for the version it was of; a copy of the next adds what is new.
    assert await begun(version=third) is None
    with pytest.raises(PlanError, match="then 333 bytes, now 22 bytes"):
        await begun(version=second)


async def test_overwriting_a_complete_job_makes_it_partial_meanwhile(backend: Any, make: Any) -> None:
    """After its counts a caller may still commit; a crash in between must not pass for complete."""
    store = backend.open()
    await store.begin(make.job())
    await store.commit([make.png(A)])
    await store.finish(complete=True)
    assert await store.begin(make.job()) == ALL_DONE
    await store.commit([make.jpeg(A, b"newer")])
    assert (await store.describe()).state == "partial"
    await store.close()
    again = backend.open()
    assert await again.begin(make.job()) is None
    await again.finish(complete=True)
    assert (await again.describe()).state == "complete"
    answer = await again.get(A)
    assert isinstance(answer, Tile)
    assert answer.media_type == "image/jpeg"
    await again.close()


async def test_dead_letters_come_in_order_with_every_field(backend: Any, make: Any, monkeypatch: Any) -> None:
    """Also without `begin`, as `jobs` lists them; more than one page of them."""
    monkeypatch.setattr(journal, "PAGE_ROWS", 70)
    ids = [TileId(12, x, y) for x in range(20) for y in range(20)]
    store = backend.open()
    await store.begin(make.job())
    await store.commit([make.dead(tile_id, cause=f"c{tile_id.x}") for tile_id in reversed(ids)])
    await store.close()
    reader = backend.open()
    letters = [letter async for letter in reader.dead_letters()]
    assert letters == [make.dead(tile_id, cause=f"c{tile_id.x}") for tile_id in ids]
    await reader.close()


async def test_nothing_is_left_beside_a_closed_store(backend: Any, make: Any) -> None:
    """No -wal, -shm, .lock: after finish, after close in the middle, after close twice."""
    store = backend.open()
    await store.begin(make.job())
    await store.commit([make.png(A), make.dead(B)])
    await store.close()
    await store.close()
    assert backend.leftovers() == set()
    again = backend.open()
    await again.begin(make.job())
    await again.commit([make.png(B)])
    # A reader of ours is open: it must not keep the file in the writer's mode.
    assert await again.get(B) == Tile(B, make.png(B).body, "image/png", "store")
    await again.finish(complete=True)
    allowed = {"store.lock", "store.mbtiles.lock", "store.gpkg.lock", "store.pmtiles.lock"}
    if backend.kind == "bucket":
        allowed = {"store.journal.lock", "store.journal-shm", "store.journal-wal"}
    assert backend.leftovers() <= allowed
    await again.close()
    assert backend.leftovers() == set()


async def test_writing_without_begin_is_refused(backend: Any, make: Any) -> None:
    """No lock, no record: no write."""
    store = backend.open()
    with pytest.raises(PlanError, match="begin"):
        await store.commit([make.png(A)])
    with pytest.raises(PlanError, match="begin"):
        await store.settled([A])
    with pytest.raises(PlanError, match="begin"):
        await store.finish(complete=True)
    await store.close()


IDS = [TileId(z, x, y) for z, x, y in [(0, 0, 0), (2, 1, 3), (2, 1, 2), (2, 3, 0), (17, 90000, 5)]]
KINDS = st.sampled_from(["png", "jpeg", "absent", "dead", "deleted"])
BATCH = st.lists(st.tuples(st.sampled_from(IDS), KINDS, st.binary(max_size=3)), min_size=1, max_size=8)
STEPS = st.lists(st.one_of(BATCH, st.sampled_from(["reopen", "finish"])), max_size=8)


@given(steps=STEPS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_equals_a_dictionary(kind: Any, make: Any, steps: Any) -> None:
    """Random commits, finishes and reopenings leave exactly what two dictionaries say."""
    for backend in make.backend(kind):
        asyncio.run(_replay(backend, make, steps))


async def _replay(backend: Any, make: Any, steps: list[Any]) -> None:
    states: dict[TileId, str] = {}
    bodies: dict[TileId, bytes] = {}
    store = backend.open()
    await store.begin(make.job())
    for step in steps:
        if step == "reopen":
            await store.close()
            store = backend.open()
            await store.begin(make.job())
        elif step == "finish":
            await store.finish(complete=False)
        else:
            await store.commit([_outcome(make, entry, states, bodies) for entry in step])
        assert list(await store.settled(IDS)) == [states.get(tile_id) for tile_id in IDS]
    for tile_id in IDS:
        answer = await store.get(tile_id)
        assert (answer.body if isinstance(answer, Tile) else None) == bodies.get(tile_id)
    assert {tile_id async for tile_id in store.tile_ids()} == bodies.keys()
    dead = sorted(tile_id for tile_id, state in states.items() if state == "dead")
    assert [letter.tile_id async for letter in store.dead_letters()] == dead
    info = await store.describe()
    assert (info.tiles, info.dead) == (len(bodies), len(dead))
    assert info.absent == sum(state == "absent" for state in states.values())
    await store.close()


def _outcome(make: Any, entry: Any, states: dict[TileId, str], bodies: dict[TileId, bytes]) -> Outcome:
    tile_id, kind, text = entry
    if kind == "deleted":
        states.pop(tile_id, None)
        bodies.pop(tile_id, None)
        return Deleted(tile_id)
    states[tile_id] = {"png": "done", "jpeg": "done"}.get(kind, kind)
    if kind in ("png", "jpeg"):
        tile: Tile = getattr(make, kind)(tile_id, text)
        bodies[tile_id] = tile.body
        return tile
    if kind == "absent":
        bodies.pop(tile_id, None)
        return make.absent(tile_id)  # type: ignore[no-any-return]
    return make.dead(tile_id)  # type: ignore[no-any-return]
