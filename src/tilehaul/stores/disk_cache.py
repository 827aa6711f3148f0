"""The service's cache on disk: it outlasts the process, and never makes anybody wait for a write."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import apsw

from tilehaul.errors import ConfigError, StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import CacheStats
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores.disk_cache_file import (
    ENTRY_OVERHEAD_BYTES,
    FILE_NAME,
    PLACE,
    USELESS,
    DiskCacheFile,
    Kept,
    Key,
)
from tilehaul.stores.disk_errors import from_os, from_sqlite
from tilehaul.stores.worker_thread import WorkerThread

log = logging.getLogger(__name__)

T = TypeVar("T")

# Answers on their way to the disk. What comes faster than the disk takes it is not kept there.
PENDING_BYTES_MAX = 32 * 1024 * 1024
# Answers are written together, this long after the first of them.
WRITE_DELAY_S = 0.25
# Rows found since the last write, noted with the next: more than these stay unmarked.
VISITED_MAX = 10_000


class DiskCache:
    """A `TileCache` in one file of a folder, of at most `bytes_max` bytes.

    A file that is damaged or gone is begun anew, with a line in the log: it is only a cache. A disk
    that refuses later on keeps nothing and finds nothing, which is said in the log once.

    Use: `open`, then `find` and `keep`, then `aclose`. For one event loop; processes may share a file.

    Args:
        folder: Made when it does not exist.
        bytes_max: > 0. What is too much is evicted when the cache is opened, and with each write.
        wall_s: Seconds since 1970.
    """

    def __init__(self, folder: Path, bytes_max: int, *, wall_s: Callable[[], float]) -> None:
        if bytes_max <= 0:
            raise ConfigError("cache.disk must be more than 0 bytes; leave it out to keep nothing on disk")
        self.path = folder / FILE_NAME
        self._bytes_max = bytes_max
        self._wall_s = wall_s
        self._read_thread = WorkerThread("cache-read")
        self._write_thread = WorkerThread("cache-write")
        self._reader: DiskCacheFile | None = None
        self._writer: DiskCacheFile | None = None
        self._pending: dict[Key, Kept] = {}
        self._pending_bytes = 0
        self._writing: dict[Key, Kept] = {}
        self._visited: set[int] = set()
        self._flush: asyncio.Task[None] | None = None
        self._told = False
        self._failing = self._closed = False
        self._hits = 0
        self._misses = 0
        self._evictions = 0
        self._tiles = 0
        self._bytes = 0

    async def open(self) -> None:
        """Open or make the file, and bring it within its bytes.

        Raises StorageError: The folder or file cannot be made, read or written.
        """
        try:
            await self._write_thread.run(self._open)
        except apsw.Error as error:
            raise StorageError(f"cache.path: {from_sqlite(error, self.path, 'opening')}") from error
        except OSError as error:
            raise StorageError(f"cache.path: {from_os(error, self.path, 'opening')}") from error

    async def find(self, layer: str, tile_id: TileId) -> Tile | NoTile | None:
        """See `TileCache.find`; the place is `disk`."""
        found = await self.look(layer, tile_id)
        if found is not None and found.freshness is not None and found.freshness.left_s > 0:
            self._hits += 1
        else:
            self._misses += 1
        return found

    async def look(self, layer: str, tile_id: TileId) -> Tile | NoTile | None:
        """See `TileCache.look`."""
        key = _key(layer, tile_id)
        if (known := self._pending.get(key) or self._writing.get(key)) is not None:
            # What must not be kept is on its way too, to take the place of what was.
            useful = known.freshness is not None and known.freshness.kept_s > 0
            return replace(known, place=PLACE) if useful else None
        reader = self._reader
        if reader is None:
            return None
        try:
            found = await self._read_thread.run(reader.find, key)
        except apsw.Error as error:
            await self._complain("reading", error)
            return None
        if found is None:
            return None
        number, answer = found
        if len(self._visited) < VISITED_MAX:
            self._visited.add(number)
        return answer

    def keep(self, layer: str, answer: Tile | NoTile) -> None:
        """See `TileCache.keep`. Written a moment later; found at once."""
        size_bytes = _bytes_of(answer)
        if self._writer is None or self._pending_bytes + size_bytes > PENDING_BYTES_MAX:
            return
        key = _key(layer, answer.tile_id)
        before = self._pending.get(key)
        self._pending_bytes += size_bytes - (0 if before is None else _bytes_of(before))
        self._pending[key] = answer
        if self._flush is None:
            self._flush = asyncio.create_task(self._write_soon())

    async def forget(self, layer: str, wanted: Callable[[TileId], bool]) -> int:
        """Drop the tiles of a layer that are `wanted`, those on their way to the disk too.

        Returns their number. Raises StorageError.
        """
        for key in [key for key in self._pending if key[0] == layer and wanted(TileId(*key[1:]))]:
            self._pending_bytes -= _bytes_of(self._pending.pop(key))
        return await self._ask_writer(lambda file: file.forget(layer, wanted))

    async def sizes(self) -> dict[str, dict[int, tuple[int, int]]]:
        """By layer and zoom (tiles, bytes). Raises StorageError."""
        return await self._ask_writer(lambda file: file.sizes())

    async def usable(self) -> bool:
        """Whether the last write succeeded, and the file is there (again) and lets itself be written to."""
        if self._writer is None and not self._closed:
            # It could not be opened again when it was damaged or gone.
            with contextlib.suppress(StorageError):
                await self.open()
        writer = self._writer
        if writer is None or self._failing:
            return False

        def look() -> bool:
            writer.try_writing()
            return self._is_ours()

        try:
            if not await self._write_thread.run(look):
                await self._miss_file()
            return self._writer is not None
        except apsw.BusyError:
            # Another process writes just now.
            return True
        except (apsw.Error, OSError):
            return False

    def stats(self) -> CacheStats:
        """`tiles` and `bytes` are those of the last write or opening."""
        return CacheStats(
            tiles=self._tiles,
            bytes=self._bytes,
            bytes_max=self._bytes_max,
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
        )

    async def aclose(self) -> None:
        """Write what is on its way, and let go of the file."""
        self._closed = True
        if self._flush is not None:
            self._flush.cancel()
            await asyncio.gather(self._flush, return_exceptions=True)
        await self._write()
        reader, writer = self._reader, self._writer
        self._reader = self._writer = None
        if reader is not None:
            await self._read_thread.run(reader.close)
        if writer is not None:
            await self._write_thread.run(writer.close)
        await self._read_thread.stop()
        await self._write_thread.stop()

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._writer = self._opened()
        except USELESS as error:
            log.warning("the disk cache is begun anew: %s: %s", self.path, error)
            self._unlink()
            self._writer = self._opened()
        self._reader = DiskCacheFile(self.path, self._bytes_max, self._wall_s)
        self._inode = self.path.stat().st_ino
        self._failing = False

    def _opened(self) -> DiskCacheFile:
        file = DiskCacheFile(self.path, self._bytes_max, self._wall_s)
        try:
            self._evictions += file.shrink()
            self._tiles, self._bytes = file.total()
        except BaseException:
            file.close()
            raise
        return file

    def _unlink(self) -> None:
        for ending in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    async def _begin_anew(self, *, damaged: bool = True) -> None:
        """Open the file again; throw it away if it is damaged. Nothing is found or kept meanwhile."""
        reader, writer = self._reader, self._writer
        if reader is None or writer is None:
            return
        self._reader = self._writer = None
        await self._read_thread.run(reader.close)
        await self._write_thread.run(writer.close)
        try:
            if damaged:
                await self._write_thread.run(self._unlink)
            await self.open()
        except (StorageError, OSError) as error:
            log.warning("the disk cache is of no use any more: %s", error)

    async def _write_soon(self) -> None:
        while self._pending:
            await asyncio.sleep(WRITE_DELAY_S)
            await self._write()
        self._flush = None

    async def _write(self) -> None:
        writer, answers, visited = self._writer, self._pending, self._visited
        if writer is None or not (answers or visited):
            return
        self._writing, self._pending, self._visited = answers, {}, set()
        self._pending_bytes = 0

        def write() -> tuple[int, tuple[int, int]]:
            if not self._is_ours():
                # The system would let us write to what nobody can ever open again.
                raise FileNotFoundError
            return writer.write(answers, visited), writer.total()

        try:
            evicted, (self._tiles, self._bytes) = await self._write_thread.run(write)
            self._evictions += evicted
            self._failing = False
        except FileNotFoundError:
            await self._miss_file()
        except apsw.Error as error:
            self._failing = True
            await self._complain("writing", error)
        finally:
            self._writing = {}

    async def _ask_writer(self, ask: Callable[[DiskCacheFile], T]) -> T:
        writer = self._writer
        if writer is None:
            raise StorageError("the disk cache is closed")
        await self._write()
        try:
            return await self._write_thread.run(ask, writer)
        except apsw.Error as error:
            raise StorageError(str(from_sqlite(error, self.path, "reading"))) from error

    def _is_ours(self) -> bool:
        """Whether the file of that name is the one that was opened."""
        return self.path.exists() and self.path.stat().st_ino == self._inode

    async def _miss_file(self) -> None:
        log.warning("the disk cache is opened again: %s was removed", self.path)
        await self._begin_anew(damaged=False)

    async def _complain(self, doing: str, error: apsw.Error) -> None:
        if isinstance(error, USELESS):
            log.warning("the disk cache is begun anew: %s: %s", self.path, error)
            await self._begin_anew()
        elif not self._told:
            self._told = True
            log.warning("the disk cache fails: %s", from_sqlite(error, self.path, doing))


def _key(layer: str, tile_id: TileId) -> Key:
    return layer, tile_id.z, tile_id.x, tile_id.y


def _bytes_of(answer: Kept) -> int:
    return (len(answer.body) if isinstance(answer, Tile) else 0) + ENTRY_OVERHEAD_BYTES
