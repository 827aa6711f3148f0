"""Dead letters tried again and dropped, on fakes and in memory: no file, no wire."""

from doubles.tiles import FakeSource, FakeStore, body_of, every_tile
from tilehaul.errors import BrokenError, TimedOutError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.outbox import COMMIT_TILES
from tilehaul.jobs.retries import Origin
from tilehaul.jobs.retry import DeadTiles, drop, replay_key
from tilehaul.jobs.seed import seed
from tilehaul.jobs.seed_plan import SeedPlan
from tilehaul.net.clock import SystemClock
from tilehaul.policy.tally import Tally
from tilehaul.ports.events import SeedReport
from tilehaul.ports.store import DeadLetter, Dropped, JobKey, JobStore
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores.memory import MemoryStore

TILES = [TileId(20, number, number % 7) for number in range(100)]


def broken(tile_id: TileId) -> Tile | NoTile | Exception:
    """One in ten fails for good, one in ten comes too late."""
    if tile_id.x % 10 == 3:
        return BrokenError("boom", attempts=6, cause="http_500")
    return TimedOutError("late", phase="idle", attempts=6) if tile_id.x % 10 == 4 else every_tile(tile_id)


async def run(source: FakeSource, store: JobStore, job: SeedPlan) -> SeedReport:
    return await seed(Origin(source), store, job, tally=Tally(), clock=SystemClock())


async def seeded(store: JobStore) -> SeedReport:
    key = JobKey("fake-1", "fake", "area", len(TILES))
    return await run(FakeSource(broken), store, SeedPlan(TILES, len(TILES), key))


async def replay(source: FakeSource, store: JobStore, *causes: str) -> SeedReport:
    tiles = await DeadTiles.of(store, causes)
    return await run(
        source, store, SeedPlan(tiles, len(tiles), replay_key(source.info, len(tiles)), job="retry")
    )


async def test_replay_asks_for_the_dead_tiles_and_for_nothing_else() -> None:
    store = MemoryStore()
    assert (await seeded(store)).dead == 20
    source = FakeSource()
    first = await replay(source, store, "timeout")
    assert (first.state, first.planned, first.done) == ("complete", 10, 10)
    assert source.asked == TILES[4::10]
    assert (await store.describe()).state == "partial"
    rest = FakeSource()
    assert (await replay(rest, store)).done == 10
    assert rest.asked == TILES[3::10]
    assert (await store.describe()).state == "complete"
    assert {tile_id: (await store.get(tile_id)).body async for tile_id in store.tile_ids()} == {  # type: ignore[union-attr]
        tile_id: body_of(tile_id) for tile_id in TILES
    }
    again = FakeSource()
    key = JobKey("fake-1", "fake", "area", len(TILES))
    report = await run(again, store, SeedPlan(TILES, len(TILES), key))
    assert (report.state, report.done, again.asked) == ("complete", 100, [])


async def test_replay_that_fails_leaves_new_letters() -> None:
    """Their cause is the newest one; the walk does not meet them again."""
    store = MemoryStore()
    await seeded(store)
    source = FakeSource(lambda _: BrokenError("worse", attempts=2, cause="http_502"))
    report = await replay(source, store)
    assert (report.state, report.dead, len(source.asked)) == ("dead_letters", 20, 20)
    assert {(letter.cause, letter.attempts) async for letter in store.dead_letters()} == {("http_502", 2)}
    assert (await store.describe()).dead_causes == {"http_502": 20}


async def test_nothing_dead_is_nothing_to_do() -> None:
    store = MemoryStore()
    await seeded(store)
    assert (await replay(FakeSource(), store)).state == "complete"
    idle = FakeSource()
    report = await replay(idle, store)
    assert (report.state, report.planned, idle.asked) == ("complete", 0, [])


async def test_many_letters_are_dropped_in_commits_of_bounded_size() -> None:
    """Each is told once it is durable."""
    count = 2 * COMMIT_TILES + 1
    store = FakeStore(
        outcomes={TileId(20, x, 0): DeadLetter(TileId(20, x, 0), "dns", 1) for x in range(count)}
    )
    told: list[DeadLetter] = []

    def tell(letter: DeadLetter) -> None:
        assert store.outcomes[letter.tile_id] == Dropped(letter.tile_id)
        told.append(letter)

    assert await drop(store, ["network"], told=tell) == len(told) == count
    assert store.commits == [COMMIT_TILES, COMMIT_TILES, 1]
    assert store.finished == [True]
