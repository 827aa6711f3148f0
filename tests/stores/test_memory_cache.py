"""The memory cache against a plain model of SIEVE, and its promise about bytes."""

import tracemalloc
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilehaul.errors import ConfigError
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import Freshness
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores.memory_cache import BYTES_MAX_DEFAULT, ENTRY_OVERHEAD_BYTES, MemoryCache


class HandCache(MemoryCache):
    """A cache whose clock the test sets."""

    def __init__(self, bytes_max: int = BYTES_MAX_DEFAULT) -> None:
        self.time_s = 0.0
        super().__init__(bytes_max, now_s=lambda: self.time_s)

    def at(self, time_s: float) -> "HandCache":
        self.time_s = time_s
        return self

    def fresh(self, layer: str, tile_id: TileId) -> Tile | NoTile | None:
        found = self.find_now(layer, tile_id)
        return None if found is None or left_s(found) <= 0 else found


def left_s(answer: Tile | NoTile) -> float:
    assert answer.freshness is not None
    return answer.freshness.left_s


def tile(x: int, size: int = 10, fill: int = 1) -> Tile:
    return Tile(TileId(20, x, 0), bytes([fill]) * size, "image/png")


def lasting(answer: Tile | NoTile, fresh_s: float, stale_s: float = 0.0) -> Tile | NoTile:
    return replace(answer, freshness=Freshness(fresh_s, stale_s=stale_s))


@dataclass
class ModelEntry:
    key: tuple[str, int]
    answer: Tile | NoTile
    size: int
    expires: float
    visited: bool = False


class Model:
    """SIEVE as the paper draws it: a list from oldest to newest and an index that walks it."""

    def __init__(self, bytes_max: int, stale: float) -> None:
        self.bytes_max = bytes_max
        self.stale = stale
        self.queue: list[ModelEntry] = []
        self.hand = 0
        self.evictions = 0

    def remove(self, entry: ModelEntry) -> None:
        at = self.queue.index(entry)
        del self.queue[at]
        if at < self.hand:
            self.hand -= 1
        self.wrap()

    def wrap(self) -> None:
        """A hand that has passed the newest entry begins again at the oldest, whatever comes after."""
        if self.hand >= len(self.queue):
            self.hand = 0

    def of(self, key: tuple[str, int]) -> ModelEntry | None:
        return next((entry for entry in self.queue if entry.key == key), None)

    def kept(self, key: tuple[str, int], now: float) -> ModelEntry | None:
        entry = self.of(key)
        stale = self.stale if entry is not None and isinstance(entry.answer, Tile) else 0
        if entry is not None and entry.expires + stale <= now:
            self.remove(entry)
            return None
        return entry

    def find(self, key: tuple[str, int], now: float) -> tuple[Tile | NoTile, float] | None:
        """The answer, and how long it is fresh."""
        entry = self.kept(key, now)
        if entry is None:
            return None
        entry.visited = True
        return replace(entry.answer, place="memory"), entry.expires - now

    def keep(self, key: tuple[str, int], answer: Tile | NoTile, fresh: float, now: float) -> None:
        old = self.of(key)
        if old is not None:
            self.remove(old)
        size = (len(answer.body) if isinstance(answer, Tile) else 0) + ENTRY_OVERHEAD_BYTES
        stale = self.stale if isinstance(answer, Tile) else 0
        if fresh + stale <= 0 or size > self.bytes_max:
            return
        while sum(entry.size for entry in self.queue) + size > self.bytes_max:
            if self.queue[self.hand].visited:
                self.queue[self.hand].visited = False
                self.hand += 1
            else:
                del self.queue[self.hand]
                self.evictions += 1
            self.wrap()
        self.queue.append(ModelEntry(key, answer, size, now + fresh))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("find"), st.sampled_from("ab"), st.integers(0, 9)),
        st.tuples(
            st.just("keep"),
            st.sampled_from("ab"),
            st.integers(0, 9),
            st.integers(0, 3000),
            st.sampled_from([0, 1, 5, 50]),
        ),
        st.tuples(st.just("absent"), st.sampled_from("ab"), st.integers(0, 9), st.sampled_from([1, 50])),
        st.tuples(st.just("wait"), st.integers(1, 4)),
        st.tuples(st.just("drop"), st.sampled_from("ab")),
    ),
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, entries=st.integers(1, 5), stale=st.sampled_from([0, 3, 20]))
def test_any_sequence_behaves_like_the_model(steps, entries, stale):
    """Whatever is kept, found, waited for and dropped: same answers, same order, never too many bytes."""
    bytes_max = entries * (ENTRY_OVERHEAD_BYTES + 1000)
    cache, model = HandCache(bytes_max), Model(bytes_max, stale)
    now = 0.0
    serial = 0
    for step in steps:
        if step[0] == "wait":
            now += step[1]
        elif step[0] == "drop":
            doomed = [entry for entry in model.queue if entry.key[0] == step[1]]
            for entry in doomed:
                model.remove(entry)
            assert cache.forget(step[1], lambda _: True) == len(doomed)
        elif step[0] == "find":
            _, layer, x = step
            got = cache.at(now).find_now(layer, TileId(20, x, 0))
            assert (got and (got, left_s(got))) == model.find((layer, x), now)
        else:
            layer, x, fresh = step[1], step[2], step[-1]
            serial += 1
            answer: Tile | NoTile
            if step[0] == "absent":
                answer = NoTile(TileId(20, x, 0), cause=f"http_{serial}")
            else:
                answer = tile(x, step[3], serial % 256)
                # A new object, so that the cache does not take it for the same bytes kept twice.
                answer = replace(answer, media_type=f"image/{serial}")
            model.keep((layer, x), answer, fresh, now)
            cache.at(now).keep(layer, lasting(answer, fresh, stale if isinstance(answer, Tile) else 0))
        stats = cache.stats()
        assert stats.bytes == sum(entry.size for entry in model.queue) <= bytes_max
        assert stats.tiles == len(model.queue)
        assert stats.evictions == model.evictions
        for layer in "ab":
            mine = [entry.size for entry in model.queue if entry.key[0] == layer]
            assert cache.layer_size(layer) == (len(mine), sum(mine))


def test_popular_tile_outlives_a_scan():
    """A tile asked for once stays while twice the cache's size of one-time tiles passes."""
    cache = HandCache(10 * (ENTRY_OVERHEAD_BYTES + 10))
    cache.at(0).keep("a", lasting(tile(0), 99))
    for x in range(1, 21):
        assert cache.at(0).fresh("a", TileId(20, 0, 0)) is not None
        cache.at(0).keep("a", lasting(tile(x), 99))
    assert cache.stats().evictions == 11
    assert cache.at(0).fresh("a", TileId(20, 0, 0)) is not None


def test_hand_begins_again_at_the_oldest():
    """After the newest was evicted, the next victim is the oldest again, not the newcomer."""
    cache = HandCache(3 * (ENTRY_OVERHEAD_BYTES + 10))
    for x in range(3):
        cache.at(0).keep("a", lasting(tile(x), 9))
    for x in range(2):
        cache.at(0).fresh("a", TileId(20, x, 0))
    cache.at(0).keep("a", lasting(tile(3), 9))
    cache.at(0).keep("a", lasting(tile(4), 9))
    assert [cache.at(0).fresh("a", TileId(20, x, 0)) is not None for x in range(5)] == [
        False,
        True,
        False,
        True,
        True,
    ]


def test_lifetime_ends_at_its_second():
    """An entry is found until its lifetime has passed, not at that moment."""
    cache = HandCache()
    cache.at(100).keep("a", lasting(tile(1), 10))
    found = cache.at(104).find_now("a", TileId(20, 1, 0))
    assert found is not None
    assert found.freshness == Freshness(10, age_s=4)
    assert cache.at(109.9).fresh("a", TileId(20, 1, 0)) is not None
    assert cache.at(110).fresh("a", TileId(20, 1, 0)) is None
    assert cache.stats().tiles == 0


@pytest.mark.parametrize(
    "past",
    [Freshness(10, stale_s=50), Freshness(10, revalidate_s=50)],
)
def test_stale_tile_is_there_for_who_asks_for_it(past):
    """Past its freshness a tile is found, with a negative rest, as long as it may be of use; never early."""
    cache = HandCache()
    here = TileId(20, 1, 0)
    cache.at(100).keep("a", replace(tile(1), freshness=past))
    assert cache.entry(("a", 20, 1, 0), 109.9) is not None
    assert cache.entry(("a", 20, 1, 0), 110) is None
    stale = cache.at(115).find_now("a", here)
    assert stale is not None
    assert (stale.place, left_s(stale)) == ("memory", -5)
    assert cache.at(159.9).find_now("a", here) is not None
    assert cache.stats().tiles == 1
    assert cache.at(160).find_now("a", here) is None
    assert cache.stats().tiles == 0


def test_tile_that_was_older_already_is_fresh_for_the_rest():
    """An age that came with the answer counts."""
    cache = HandCache()
    cache.at(100).keep("a", replace(tile(1), freshness=Freshness(10, age_s=7)))
    assert cache.at(102).fresh("a", TileId(20, 1, 0)) is not None
    assert cache.at(103).find_now("a", TileId(20, 1, 0)) is None


def test_what_says_nothing_of_its_lifetime_is_not_kept():
    cache = HandCache()
    cache.keep("a", tile(1))
    assert cache.stats().tiles == 0


def test_wanted_tiles_are_forgotten():
    """Those of the layer that are wanted, and no others."""
    cache = HandCache()
    for layer, x in (("a", 1), ("a", 2), ("b", 1)):
        cache.keep(layer, lasting(tile(x), 9))
    assert cache.forget("a", lambda tile_id: tile_id.x == 1) == 1
    assert [
        cache.find_now(layer, TileId(20, x, 0)) is None for layer, x in (("a", 1), ("a", 2), ("b", 1))
    ] == [
        True,
        False,
        False,
    ]


def test_absence_is_never_stale():
    """It is gone with its lifetime, and in place of an older tile nothing of that is left."""
    cache = HandCache()
    here = TileId(20, 1, 0)
    cache.at(0).keep("a", lasting(tile(1), 10))
    cache.at(20).keep("a", lasting(NoTile(here), 10))
    assert isinstance(cache.at(25).find_now("a", here), NoTile)
    assert cache.at(30).find_now("a", here) is None
    assert cache.stats().tiles == 0


def test_stale_tile_in_use_outlives_one_that_is_not():
    """Bytes are bounded as ever; the hand spares what stands in for an origin that is away."""
    cache = HandCache(2 * (ENTRY_OVERHEAD_BYTES + 10))
    for x in range(2):
        cache.at(0).keep("a", lasting(tile(x), 1, 50))
    assert cache.at(5).find_now("a", TileId(20, 0, 0)) is not None
    cache.at(5).keep("a", lasting(tile(2), 1, 50))
    found = [cache.at(5).find_now("a", TileId(20, x, 0)) is not None for x in range(3)]
    assert found == [True, False, True]


def test_same_bytes_kept_again_renew_the_entry():
    """Several askers of one fetch keep one answer: nothing made of it is thrown away."""
    cache = HandCache()
    answer = tile(1)
    cache.at(0).keep("a", lasting(answer, 10))
    entry = cache.entry(("a", 20, 1, 0), 0)
    assert entry is not None
    entry.ready = "made of it"
    cache.at(5).keep("a", lasting(answer, 10))
    assert cache.entry(("a", 20, 1, 0), 14) is entry
    assert entry.ready == "made of it"
    cache.at(5).keep("a", lasting(tile(1, fill=2), 10))
    renewed = cache.entry(("a", 20, 1, 0), 14)
    assert renewed is not None
    assert renewed.ready is None


def test_tile_larger_than_the_cache_replaces_nothing_but_its_elder():
    """What does not fit is not kept, and the outdated answer of that tile is gone too."""
    cache = HandCache(ENTRY_OVERHEAD_BYTES + 100)
    cache.at(0).keep("a", lasting(tile(1, 100), 9))
    cache.at(0).keep("a", lasting(tile(2, 101), 9))
    assert cache.at(0).fresh("a", TileId(20, 1, 0)) is not None
    cache.at(0).keep("a", lasting(tile(1, 101), 9))
    assert cache.at(0).fresh("a", TileId(20, 1, 0)) is None


def test_counts_are_of_what_was_asked():
    """find counts a hit or a miss; looking at an entry counts only when told that it was of use."""
    cache = HandCache()
    cache.at(0).fresh("a", TileId(20, 1, 0))
    cache.at(0).keep("a", lasting(tile(1), 9))
    cache.at(0).fresh("a", TileId(20, 1, 0))
    entry = cache.entry(("a", 20, 1, 0), 0)
    assert entry is not None
    assert (cache.stats().hits, cache.stats().misses) == (1, 1)
    cache.hit(entry)
    assert cache.stats().hits == 2


def test_no_bytes_is_a_wrong_setting():
    """A cache of nothing is refused with the key's name."""
    with pytest.raises(ConfigError, match=r"cache\.memory"):
        HandCache(0)


def test_real_memory_stays_within_what_is_counted():
    """The fixed overhead covers what Python really takes, a header block of the server included."""
    cache = HandCache()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for x in range(2_000):
            cache.at(float(x)).keep(f"layer-{x % 3}", lasting(tile(10_000 + x, 1_000, x % 256), 1e6))
            entry = cache.entry((f"layer-{x % 3}", 20, 10_000 + x, 0), float(x))
            assert entry is not None
            # Two blocks of headers and their tags, as server/early_hits.py hangs them here.
            entry.ready = (bytes(520), bytes(430), bytes(34), "x" * 34 + str(x))
        real = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert real <= cache.stats().bytes
