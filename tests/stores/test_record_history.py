"""Random histories of seeds, replays and drops on one store, against a dictionary of the tiles' states."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import event, given, settings
from hypothesis import strategies as st

from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.retry import drop
from tilehaul.ports.store import DeadLetter, JobCounts, JobKey, Outcome
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores.memory import MemoryStore
from tilehaul.stores.record import counts_of

# Three areas: two that overlap, one apart.
AREAS = {"left": range(4), "middle": range(2, 7), "right": range(8, 11)}
REPLAY = JobKey("s", "S", "", 0, replay=True)
KINDS = st.sampled_from(["done", "absent", "dead"])
# What becomes of a job's open tiles, in order; fewer than there are: it was interrupted there.
SEED = st.tuples(st.just("seed"), st.sampled_from(sorted(AREAS)), st.lists(KINDS, max_size=5), st.booleans())
# What becomes of the first dead letters, and whether the replay comes to its end.
REPLAYED = st.tuples(st.just("replay"), st.just(""), st.lists(KINDS, min_size=1, max_size=6), st.booleans())
DROP = st.tuples(st.just("drop"), st.just(""), st.just([]), st.just(True))


def tile(number: int) -> TileId:
    return TileId(5, number, 0)


def outcome(number: int, kind: str) -> Outcome:
    if kind == "done":
        return Tile(tile(number), b"body", "image/png")
    return NoTile(tile(number)) if kind == "absent" else DeadLetter(tile(number), "http_500", 1)


def key(area: str) -> JobKey:
    return JobKey("s", "S", area, len(AREAS[area]))


@dataclass
class Model:
    """What is true: the state of each tile, and which jobs have begun."""

    states: dict[int, str] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)

    def counts(self, area: str) -> JobCounts:
        found = Counter(self.states.get(number, "pending") for number in AREAS[area])
        return JobCounts(found["done"], found["absent"], found["dropped"], found["dead"])

    def open(self, area: str) -> list[int]:
        return [number for number in AREAS[area] if self.states.get(number, "dead") == "dead"]

    def dead(self) -> list[int]:
        return sorted(number for number, state in self.states.items() if state == "dead")


async def run_seed(store: MemoryStore, model: Model, area: str, kinds: list[str], *, finishes: bool) -> None:
    job = key(area)
    counts = await store.begin(job)
    model.begun.add(area)
    if counts is not None:
        event("a complete job began again")
        assert counts == model.counts(area)
        assert not model.open(area)
        return
    for number, kind in zip(model.open(area), kinds, strict=False):
        await store.commit([outcome(number, kind)])
        model.states[number] = kind
    if finishes:
        counts = model.counts(area)
        await store.finish(complete=counts.total == job.planned and counts.dead == 0, counts=counts)


async def replay(store: MemoryStore, model: Model, kinds: list[str], *, finishes: bool) -> None:
    await store.begin(REPLAY)
    letters = [letter.tile_id.x async for letter in store.dead_letters()]
    assert letters == model.dead()
    for number, kind in zip(letters, kinds, strict=False):
        await store.commit([outcome(number, kind)])
        model.states[number] = kind
    if finishes:
        await store.finish(complete=not model.dead(), counts=JobCounts(0, 0))


async def check(store: MemoryStore, model: Model) -> None:
    info = await store.describe()
    assert info.dead == len(model.dead())
    states = await store.settled([tile(number) for number in range(11)])
    told = {number: state for number, state in enumerate(states) if state is not None}
    complete = [area for area in model.begun if (await peek(store, area)) is not None]
    for number, state in model.states.items():
        # The absences of complete jobs are forgotten with the journal; whatever else is true is told.
        if told.get(number) != state:
            assert state == "absent"
            assert number not in told
            assert any(number in AREAS[area] for area in complete)
    if info.state == "complete":
        event("complete")
        assert not any(model.open(area) for area in model.begun)


async def peek(store: MemoryStore, area: str) -> JobCounts | None:
    """What the record says of a job, without beginning it."""
    assert store._record is not None
    return counts_of(store._record, key(area))


async def follow(steps: list[tuple[str, str, list[str], bool]]) -> None:
    store, model = MemoryStore(), Model()
    # A tile that stays, so that the store is nobody else's.
    await run_seed(store, model, "left", ["done"], finishes=False)
    for what, area, kinds, finishes in steps:
        if what == "seed":
            await run_seed(store, model, area, kinds, finishes=finishes)
        elif what == "replay":
            await replay(store, model, kinds, finishes=finishes)
        else:
            assert await drop(store) == len(model.dead())
            model.states.update(dict.fromkeys(model.dead(), "dropped"))
        await check(store, model)
        await store.close()
    # Every job can be brought to its end, and then says what is true.
    for area in sorted(model.begun):
        await run_seed(store, model, area, ["done"] * 5, finishes=True)
        counts = await store.begin(key(area))
        assert counts == model.counts(area)
    assert (await store.describe()).state == "complete"


@given(st.lists(st.one_of(SEED, SEED, REPLAYED, DROP), max_size=12))
@settings(max_examples=150, deadline=None)
def test_no_history_makes_a_store_say_what_is_not_true(steps: list[tuple[str, str, list[str], bool]]) -> None:
    """Complete is said of a job only when none of its tiles is pending or dead, and with its true counts."""
    asyncio.run(follow(steps))
