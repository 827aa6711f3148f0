"""What the cache holds in memory, for threads."""

import threading
from collections import OrderedDict
from collections.abc import Iterable

from tilehaul.compat.r2_tiles.place import Wanted

# Bodies together: `tilehaul serve` takes as much (`contracts`, Service).
BYTES_MAX = 256_000_000
# Tiles that wait to be fetched ahead of anybody asking.
AHEAD_MAX = 500


class KeptTiles:
    """Bodies by key, at most `tiles_max` (0: none) and `bytes_max` bytes; least lately used goes first."""

    def __init__(self, tiles_max: int, bytes_max: int = BYTES_MAX) -> None:
        self.tiles_max = tiles_max
        self.bytes_max = bytes_max
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def find(self, key: str) -> bytes | None:
        with self._lock:
            body = self._bodies.get(key)
            if body is not None:
                self._bodies.move_to_end(key)
            return body

    def keep(self, key: str, body: bytes) -> None:
        """In place of an older one; one that does not fit alone is not kept."""
        with self._lock:
            self._bytes -= len(self._bodies.pop(key, b""))
            if self.tiles_max < 1 or len(body) > self.bytes_max:
                return
            self._bodies[key] = body
            self._bytes += len(body)
            while len(self._bodies) > self.tiles_max or self._bytes > self.bytes_max:
                _, gone = self._bodies.popitem(last=False)
                self._bytes -= len(gone)

    def size(self) -> tuple[int, int]:
        """(tiles, bytes) now."""
        with self._lock:
            return len(self._bodies), self._bytes

    def unlock(self) -> None:
        """After a fork: another thread may have held the lock, and is not here."""
        self._lock = threading.Lock()


class AheadQueue:
    """Tiles to fetch ahead, each once, those of the newest call first. A full one forgets the oldest."""

    def __init__(self, most: int = AHEAD_MAX) -> None:
        self._most = most
        self._tiles: OrderedDict[str, Wanted] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tiles)

    def add(self, tiles: Iterable[Wanted]) -> None:
        with self._lock:
            for wanted in reversed(list(tiles)[: self._most]):
                self._tiles[wanted.key] = wanted
                self._tiles.move_to_end(wanted.key)
            while len(self._tiles) > self._most:
                self._tiles.popitem(last=False)

    def take(self) -> Wanted | None:
        with self._lock:
            return self._tiles.popitem()[1] if self._tiles else None

    def unlock(self) -> None:
        """As `KeptTiles.unlock`; what was waiting waits in the parent."""
        self._lock = threading.Lock()
        self._tiles = OrderedDict()
