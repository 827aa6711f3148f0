"""The memory cache against a plain model of SIEVE, and its promise about bytes."""

import tracemalloc
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilehaul.errors import ConfigError
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import STALE_S_MAX
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores.memory_cache import ENTRY_OVERHEAD_BYTES, MemoryCache


def tile(x: int, size: int = 10, fill: int = 1) -> Tile:
    return Tile(TileId(20, x, 0), bytes([fill]) * size, "image/png")


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

    def find(self, key: tuple[str, int], now: float) -> Tile | NoTile | None:
        entry = self.kept(key, now)
        if entry is None or entry.expires <= now:
            return None
        entry.visited = True
        return replace(entry.answer, place="memory")

    def kept(self, key: tuple[str, int], now: float) -> ModelEntry | None:
        entry = self.of(key)
        stale = self.stale if entry is not None and isinstance(entry.answer, Tile) else 0
        if entry is not None and entry.expires + stale <= now:
            self.remove(entry)
            return None
        return entry

    def find_stale(self, key: tuple[str, int], now: float) -> Tile | None:
        entry = self.kept(key, now)
        if entry is None or not isinstance(entry.answer, Tile):
            return None
        entry.visited = True
        return replace(entry.answer, place="memory" if now < entry.expires else "stale")

    def keep(self, key: tuple[str, int], answer: Tile | NoTile, fresh: float, now: float) -> None:
        old = self.of(key)
        if old is not None:
            self.remove(old)
        size = (len(answer.body) if isinstance(answer, Tile) else 0) + ENTRY_OVERHEAD_BYTES
        if fresh <= 0 or size > self.bytes_max:
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
        st.tuples(st.sampled_from(["find", "find_stale"]), st.sampled_from("ab"), st.integers(0, 9)),
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
    cache, model = MemoryCache(bytes_max, stale_s_max=stale), Model(bytes_max, stale)
    now = 0.0
    serial = 0
    for step in steps:
        if step[0] == "wait":
            now += step[1]
        elif step[0] == "drop":
            doomed = [entry for entry in model.queue if entry.key[0] == step[1]]
            for entry in doomed:
                model.remove(entry)
            assert cache.drop(step[1]) == len(doomed)
        elif step[0] in ("find", "find_stale"):
            asked, layer, x = step
            got = getattr(cache, asked)(layer, TileId(20, x, 0), now)
            assert got == getattr(model, asked)((layer, x), now)
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
            cache.keep(layer, answer, fresh_s=fresh, now_s=now)
        stats = cache.stats()
        assert stats.bytes == sum(entry.size for entry in model.queue) <= bytes_max
        assert stats.tiles == len(model.queue)
        assert stats.evictions == model.evictions
        for layer in "ab":
            mine = [entry.size for entry in model.queue if entry.key[0] == layer]
            assert cache.layer_size(layer) == (len(mine), sum(mine))


def test_popular_tile_outlives_a_scan():
    """A tile asked for once stays while twice the cache's size of one-time tiles passes."""
    cache = MemoryCache(10 * (ENTRY_OVERHEAD_BYTES + 10))
    cache.keep("a", tile(0), fresh_s=99, now_s=0)
    for x in range(1, 21):
        assert cache.find("a", TileId(20, 0, 0), 0) is not None
        cache.keep("a", tile(x), fresh_s=99, now_s=0)
    assert cache.stats().evictions == 11
    assert cache.find("a", TileId(20, 0, 0), 0) is not None


def test_hand_begins_again_at_the_oldest():
    """After the newest was evicted, the next victim is the oldest again, not the newcomer."""
    cache = MemoryCache(3 * (ENTRY_OVERHEAD_BYTES + 10))
    for x in range(3):
        cache.keep("a", tile(x), fresh_s=9, now_s=0)
    for x in range(2):
        cache.find("a", TileId(20, x, 0), 0)
    cache.keep("a", tile(3), fresh_s=9, now_s=0)
    cache.keep("a", tile(4), fresh_s=9, now_s=0)
    assert [cache.find("a", TileId(20, x, 0), 0) is not None for x in range(5)] == [
        False,
        True,
        False,
        True,
        True,
    ]


def test_lifetime_ends_at_its_second():
    """An entry is found until its lifetime has passed, not at that moment."""
    cache = MemoryCache(stale_s_max=0)
    cache.keep("a", tile(1), fresh_s=10, now_s=100)
    assert cache.left_s("a", TileId(20, 1, 0), 104) == 6
    assert cache.find("a", TileId(20, 1, 0), 109.9) is not None
    assert cache.left_s("a", TileId(20, 1, 0), 110) is None
    assert cache.find("a", TileId(20, 1, 0), 110) is None
    assert cache.stats().tiles == 0


def test_stale_tile_is_there_for_who_asks_for_it():
    """Past its freshness a tile is found by `find_stale` alone, for a day, with a negative rest."""
    cache = MemoryCache()
    here = TileId(20, 1, 0)
    cache.keep("a", tile(1), fresh_s=10, now_s=100)
    fresh = cache.find_stale("a", here, 109.9)
    assert fresh is not None
    assert fresh.place == "memory"
    assert cache.find("a", here, 110) is None
    assert cache.entry(("a", 20, 1, 0), 110) is None
    assert cache.find_stale("a", here, 110) == replace(tile(1), place="stale")
    assert cache.left_s("a", here, 115) == -5
    assert cache.find_stale("a", here, 110 + STALE_S_MAX - 0.1) is not None
    assert cache.stats().tiles == 1
    assert cache.find_stale("a", here, 110 + STALE_S_MAX) is None
    assert cache.stats().tiles == 0


@pytest.mark.parametrize("wrong", [-1.0, float("nan")])
def test_nonsense_time_past_freshness_is_refused(wrong):
    with pytest.raises(ConfigError):
        MemoryCache(stale_s_max=wrong)


def test_absence_is_never_stale():
    """It is gone with its lifetime, and in place of an older tile nothing of that is left."""
    cache = MemoryCache()
    here = TileId(20, 1, 0)
    cache.keep("a", tile(1), fresh_s=10, now_s=0)
    cache.keep("a", NoTile(here), fresh_s=10, now_s=20)
    assert cache.find_stale("a", here, 25) is None
    assert cache.find("a", here, 25) is not None
    assert cache.find_stale("a", here, 30) is None
    assert cache.stats().tiles == 0


def test_stale_tile_in_use_outlives_one_that_is_not():
    """Bytes are bounded as ever; the hand spares what stands in for an origin that is away."""
    cache = MemoryCache(2 * (ENTRY_OVERHEAD_BYTES + 10))
    for x in range(2):
        cache.keep("a", tile(x), fresh_s=1, now_s=0)
    assert cache.find_stale("a", TileId(20, 0, 0), 5) is not None
    cache.keep("a", tile(2), fresh_s=1, now_s=5)
    found = [cache.find_stale("a", TileId(20, x, 0), 5) is not None for x in range(3)]
    assert found == [True, False, True]


def test_same_bytes_kept_again_renew_the_entry():
    """Several askers of one fetch keep one answer: nothing made of it is thrown away."""
    cache = MemoryCache()
    answer = tile(1)
    cache.keep("a", answer, fresh_s=10, now_s=0)
    entry = cache.entry(("a", 20, 1, 0), 0)
    assert entry is not None
    entry.ready = "made of it"
    cache.keep("a", answer, fresh_s=10, now_s=5)
    assert cache.entry(("a", 20, 1, 0), 14) is entry
    assert entry.ready == "made of it"
    cache.keep("a", tile(1, fill=2), fresh_s=10, now_s=5)
    renewed = cache.entry(("a", 20, 1, 0), 14)
    assert renewed is not None
    assert renewed.ready is None


def test_tile_larger_than_the_cache_replaces_nothing_but_its_elder():
    """What does not fit is not kept, and the outdated answer of that tile is gone too."""
    cache = MemoryCache(ENTRY_OVERHEAD_BYTES + 100)
    cache.keep("a", tile(1, 100), fresh_s=9, now_s=0)
    cache.keep("a", tile(2, 101), fresh_s=9, now_s=0)
    assert cache.find("a", TileId(20, 1, 0), 0) is not None
    cache.keep("a", tile(1, 101), fresh_s=9, now_s=0)
    assert cache.find("a", TileId(20, 1, 0), 0) is None


def test_counts_are_of_what_was_asked():
    """find counts a hit or a miss; looking at an entry counts only when told that it was of use."""
    cache = MemoryCache()
    cache.find("a", TileId(20, 1, 0), 0)
    cache.keep("a", tile(1), fresh_s=9, now_s=0)
    cache.find("a", TileId(20, 1, 0), 0)
    entry = cache.entry(("a", 20, 1, 0), 0)
    assert entry is not None
    assert (cache.stats().hits, cache.stats().misses) == (1, 1)
    cache.hit(entry)
    assert cache.stats().hits == 2


def test_no_bytes_is_a_wrong_setting():
    """A cache of nothing is refused with the key's name."""
    with pytest.raises(ConfigError, match=r"cache\.memory"):
        MemoryCache(0)


def test_real_memory_stays_within_what_is_counted():
    """The fixed overhead covers what Python really takes, a header block of the server included."""
    cache = MemoryCache()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for x in range(2_000):
            cache.keep(f"layer-{x % 3}", tile(10_000 + x, 1_000, x % 256), fresh_s=1e6, now_s=float(x))
            entry = cache.entry((f"layer-{x % 3}", 20, 10_000 + x, 0), float(x))
            assert entry is not None
            # Two blocks of headers and their tags, as server/early_hits.py hangs them here.
            entry.ready = (bytes(520), bytes(430), bytes(34), "x" * 34 + str(x))
        real = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert real <= cache.stats().bytes
