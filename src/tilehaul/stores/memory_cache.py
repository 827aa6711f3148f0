"""The service's cache in memory: bounded by bytes, evicted by SIEVE."""

from collections.abc import Callable
from dataclasses import replace

from tilehaul.errors import ConfigError
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import UNKEPT, Freshness
from tilehaul.ports.store import CacheStats
from tilehaul.ports.tile import NoTile, Tile

BYTES_MAX_DEFAULT = 256_000_000

# What one entry costs besides its body: the entry, its key, the answer and its address, the
# dictionary's slot and the finished header block that the server hangs on it. Measured by
# tests/stores/test_memory_cache.py, which fails when the real cost exceeds this.
ENTRY_OVERHEAD_BYTES = 2_000

PLACE = "memory"

_Key = tuple[str, int, int, int]


class Entry:
    """One kept answer. Readers may look at `answer`, `fresh_s` and `expires_s` and own `ready`.

    `ready` belongs to whoever serves the answer: something derived from it that is worth keeping
    as long as the answer itself (a finished header block). It is emptied when the answer changes.
    `expires_s`, when the answer is no longer fresh, and `until_s`, when it is of no use any more, are on the
    cache's clock. `fresh_s` is its whole lifetime, so it is `fresh_s - (expires_s - now)` seconds old.
    """

    __slots__ = (
        "answer",
        "expires_s",
        "fresh_s",
        "key",
        "newer",
        "older",
        "ready",
        "size_bytes",
        "until_s",
        "visited",
    )

    key: _Key
    answer: Tile | NoTile
    fresh_s: float
    expires_s: float
    until_s: float
    size_bytes: int
    visited: bool
    ready: object | None
    newer: "Entry"
    older: "Entry"


class MemoryCache:
    """A `TileCache` that holds at most `bytes_max` bytes, overhead included.

    Eviction is SIEVE (Zhang et al., NSDI 2024): entries stay in the order they came; a hand walks
    from the oldest to the newest, forgives an entry asked for since it last passed, and evicts the
    first that was not. A hit only sets a flag, so it costs no reordering.

    For one event loop: no method waits, none is safe to call from two threads at once.

    Args:
        bytes_max: Limit in bytes, > 0. An answer that does not fit alone is not kept.
        now_s: A monotonic time.

    Raises:
        ConfigError: `bytes_max` is not positive.
    """

    def __init__(self, bytes_max: int = BYTES_MAX_DEFAULT, *, now_s: Callable[[], float]) -> None:
        if bytes_max <= 0:
            raise ConfigError("cache.memory must be more than 0 bytes; leave it out to use the default")
        self.bytes_max = bytes_max
        self._now_s = now_s
        self._entries: dict[_Key, Entry] = {}
        # A ring closed by a guard that is never visited nor evicted: guard.older is the newest entry,
        # guard.newer the oldest, so walking `newer` from the guard goes from old to new.
        self._guard = Entry()
        self._guard.newer = self._guard.older = self._guard
        self._hand = self._guard
        self._sizes: dict[str, list[int]] = {}
        self._bytes = 0
        self._hits = 0
        self._misses = 0
        self._evictions = 0

    async def find(self, layer: str, tile_id: TileId) -> Tile | NoTile | None:
        """See `find_now`; never waits."""
        return self.find_now(layer, tile_id)

    async def look(self, layer: str, tile_id: TileId) -> Tile | NoTile | None:
        """See `look_now`; never waits."""
        return self.look_now(layer, tile_id)

    def find_now(self, layer: str, tile_id: TileId) -> Tile | NoTile | None:
        """As `look_now`; a fresh answer is counted as a hit, anything else as a miss."""
        found = self.look_now(layer, tile_id)
        if found is not None and found.freshness is not None and found.freshness.left_s > 0:
            self._hits += 1
        else:
            self._misses += 1
        return found

    def look_now(self, layer: str, tile_id: TileId) -> Tile | NoTile | None:
        """The kept answer, fresh or past it, with place `memory` and its age as of now.

        It is spared when the hand comes by: while the origin is away, it is the stale tile that is of use.
        """
        now_s = self._now_s()
        entry = self._kept((layer, tile_id.z, tile_id.x, tile_id.y), now_s)
        if entry is None:
            return None
        entry.visited = True
        freshness = entry.answer.freshness
        assert freshness is not None  # noqa: S101 - `keep` takes no other
        aged = freshness._replace(age_s=entry.fresh_s - (entry.expires_s - now_s))
        return replace(entry.answer, freshness=aged)

    def entry(self, key: _Key, now_s: float) -> Entry | None:
        """The entry of (layer, z, x, y) while it is fresh. Counts nothing: see `hit`.

        Who cannot use what is found here asks `find` next, which then counts the hit or miss once.
        """
        entry = self._kept(key, now_s)
        return None if entry is None or entry.expires_s <= now_s else entry

    def holds(self, layer: str, tile_id: TileId) -> bool:
        """Whether there is an answer, fresh or past it. Counts nothing."""
        return self._kept((layer, tile_id.z, tile_id.x, tile_id.y), self._now_s()) is not None

    def hit(self, entry: Entry) -> None:
        """Say that an entry was of use: counted, and spared when the hand comes by."""
        entry.visited = True
        self._hits += 1

    def miss(self) -> None:
        """Say that somebody waits for a tile that is not here, who did not ask by `find`."""
        self._misses += 1

    def keep(self, layer: str, answer: Tile | NoTile) -> None:
        """Keep an answer as long as its freshness says, in place of an older one of the same tile.

        Keeping the very same bytes again (several askers of one fetch, or "not modified") only renews the
        lifetime. An answer without a freshness is not kept.
        """
        tile_id = answer.tile_id
        key = (layer, tile_id.z, tile_id.x, tile_id.y)
        body_bytes = len(answer.body) if isinstance(answer, Tile) else 0
        size_bytes = body_bytes + ENTRY_OVERHEAD_BYTES
        freshness = answer.freshness or UNKEPT
        kept = freshness.kept_s > 0
        known = self._entries.get(key)
        if known is not None:
            if kept and _same(known.answer, answer):
                self._date(known, replace(answer, place=PLACE), freshness)
                return
            self._remove(known)
        if not kept or size_bytes > self.bytes_max:
            return
        while self._bytes + size_bytes > self.bytes_max:
            self._evict()
        self._insert(key, replace(answer, place=PLACE), size_bytes, freshness)

    def forget(self, layer: str, wanted: Callable[[TileId], bool]) -> int:
        """Drop the tiles of a layer that are `wanted`. Returns their number; walks over all entries."""
        doomed = [
            entry
            for entry in self._entries.values()
            if entry.key[0] == layer and wanted(TileId(*entry.key[1:]))
        ]
        for entry in doomed:
            self._remove(entry)
        return len(doomed)

    def stats(self) -> CacheStats:
        return CacheStats(
            tiles=len(self._entries),
            bytes=self._bytes,
            bytes_max=self.bytes_max,
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
        )

    def layer_size(self, layer: str) -> tuple[int, int]:
        """(entries, bytes) a layer takes now."""
        tiles, size_bytes = self._sizes.get(layer, (0, 0))
        return tiles, size_bytes

    def _kept(self, key: _Key, now_s: float) -> Entry | None:
        """The entry, fresh or stale; one that is neither any more is removed."""
        entry = self._entries.get(key)
        if entry is None or now_s < entry.until_s:
            return entry
        self._remove(entry)
        return None

    def _date(self, entry: Entry, answer: Tile | NoTile, freshness: Freshness) -> None:
        now_s = self._now_s()
        if freshness.fresh_s != entry.fresh_s:
            # What was made of it says how long it is good.
            entry.ready = None
        entry.answer = answer
        entry.fresh_s = freshness.fresh_s
        entry.expires_s = now_s + freshness.left_s
        entry.until_s = now_s + freshness.kept_s

    def _insert(self, key: _Key, answer: Tile | NoTile, size_bytes: int, freshness: Freshness) -> None:
        entry = Entry()
        entry.key = key
        entry.fresh_s = freshness.fresh_s
        entry.size_bytes = size_bytes
        entry.visited = False
        entry.ready = None
        self._date(entry, answer, freshness)
        guard = self._guard
        newest = guard.older
        entry.older = newest
        entry.newer = guard
        newest.newer = guard.older = entry
        self._entries[key] = entry
        self._bytes += size_bytes
        size = self._sizes.setdefault(key[0], [0, 0])
        size[0] += 1
        size[1] += size_bytes

    def _remove(self, entry: Entry) -> None:
        if self._hand is entry:
            self._hand = entry.newer
        entry.older.newer = entry.newer
        entry.newer.older = entry.older
        layer = entry.key[0]
        del self._entries[entry.key]
        self._bytes -= entry.size_bytes
        size = self._sizes[layer]
        size[0] -= 1
        size[1] -= entry.size_bytes
        if not size[0]:
            del self._sizes[layer]

    def _evict(self) -> None:
        """Remove one entry. At most one whole round: the hand clears every flag it passes."""
        hand, guard = self._hand, self._guard
        while True:
            if hand is guard:
                hand = guard.newer
            if not hand.visited:
                break
            hand.visited = False
            hand = hand.newer
        self._hand = hand
        self._remove(hand)
        self._evictions += 1


def _same(known: Tile | NoTile, answer: Tile | NoTile) -> bool:
    if isinstance(known, Tile):
        return (
            isinstance(answer, Tile) and known.body is answer.body and known.media_type == answer.media_type
        )
    return isinstance(answer, NoTile) and known.cause == answer.cause
