"""The two passes that make a PMTiles file of a spool and the file it adds to.

First: in order of id, where each body will lie; directories to a file, and the list of bytes to copy. Second:
the archive, from that list. Both begin anew after a crash; nothing they read is changed by them.
"""

import errno
import os
import struct
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import apsw
import xxhash

from tilehaul.codec.pmtiles import ROOT_BYTES_MAX, Span
from tilehaul.codec.pmtiles_directory import DirectoryBuilder
from tilehaul.stores.disk_errors import sqlite_name
from tilehaul.stores.pmtiles_spool import BASE_KEY
from tilehaul.stores.pmtiles_view import zoom_of

# Leaves of a root of 16 KiB: an entry of the root takes 7 bytes, in a file of any size less than 10.
ROOT_LEAVES_MAX = 1500
# What readers load for one tile: small, and not so small that a map of a few thousand tiles has leaves.
LEAF_ENTRIES_MIN = 4096
COPY_BYTES = 4 * 1024 * 1024
IN_SYSTEM_BYTES = 64 * 1024 * 1024
SHORT_BYTES_MAX = 256 * 1024
_PLAN_ITEMS = 1 << 16
# Two file systems, or one that cannot.
_NOT_IN_SYSTEM = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)
SCRATCH_CACHE_KIB = 16 * 1024

_ROWS = (
    "SELECT t.id, t.key, c.length, c.digest, c.uses FROM tilehaul_tile AS t "
    "JOIN tilehaul_content AS c ON c.key = t.key ORDER BY t.id"
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The first pass's result. `build` is 32 hex digits that follow every address and every body."""

    root: bytes
    leaves_bytes: int
    data_bytes: int
    addressed: int
    entries: int
    contents: int
    zooms: tuple[int, int]
    build: str


def plan_layout(connection: apsw.Connection, folder: Path) -> Layout | None:
    """Write `leaves` and `plan` into `folder`; None without a tile. Raises apsw.Error, OSError."""
    count = int(connection.execute("SELECT count(*) FROM tilehaul_tile").get or 0)
    if not count:
        return None
    leaf_entries = max(LEAF_ENTRIES_MIN, -(-count // ROOT_LEAVES_MAX))
    while True:
        layout = _laid_out(connection, folder, leaf_entries)
        if len(layout.root) <= ROOT_BYTES_MAX:
            return layout
        leaf_entries *= 2


def _laid_out(connection: apsw.Connection, folder: Path, leaf_entries: int) -> Layout:
    builder = DirectoryBuilder(leaf_entries)
    build = xxhash.xxh3_128()
    pack = struct.Struct("<QQq").pack
    stop = contents = leaves_bytes = 0
    zoom_min = zoom_max = -1
    with (
        closing(_Shared(folder / "shared")) as shared,
        (folder / "leaves").open("wb") as leaves,
        (folder / "plan").open("wb") as plan_file,
    ):
        plan = _Plan(plan_file)
        rows: Iterator[tuple[int, ...]] = connection.execute(_ROWS)
        for number, key, length, digest, uses in rows:
            offset = shared.find(key) if uses != 1 else None
            if offset is None:
                offset = stop
                stop += length
                contents += 1
                plan.add(key, length)
                if uses != 1:
                    shared.keep(key, offset)
            leaf = builder.add(number, offset, length)
            if leaf:
                leaves.write(leaf)
                leaves_bytes += len(leaf)
            build.update(pack(number, length, digest))
            if zoom_min < 0:
                zoom_min = zoom_of(number)
            zoom_max = number
        plan.flush()
        leaf, root = builder.end(ROOT_BYTES_MAX)
        leaves.write(leaf)
        leaves_bytes += len(leaf)
    return Layout(
        root,
        leaves_bytes,
        stop,
        builder.addressed,
        builder.entries,
        contents,
        (zoom_min, zoom_of(zoom_max)),
        build.hexdigest(),
    )


class _Shared:
    """Where bodies of more than one tile lie. On disk, because they may be as many as the tiles."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._path = path
        self._connection = apsw.Connection(sqlite_name(path))
        for pragma in (
            "journal_mode=OFF",
            "synchronous=OFF",
            "locking_mode=EXCLUSIVE",
            f"cache_size=-{SCRATCH_CACHE_KIB}",
        ):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute("CREATE TABLE shared (key INTEGER PRIMARY KEY, offset INTEGER NOT NULL)")
        self._connection.execute("BEGIN")

    def find(self, key: int) -> int | None:
        offset: int | None = self._connection.execute("SELECT offset FROM shared WHERE key = ?", (key,)).get
        return offset

    def keep(self, key: int, offset: int) -> None:
        self._connection.execute("INSERT INTO shared VALUES (?, ?)", (key, offset))

    def close(self) -> None:
        self._connection.close(force=True)
        self._path.unlink(missing_ok=True)


class _Plan:
    """Runs of bytes to copy, (key, length), neighbours joined."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._items = array("q")
        self._key = self._length = 0

    def add(self, key: int, length: int) -> None:
        if self._key + self._length == key and self._length:
            self._length += length
            return
        self._push()
        self._key, self._length = key, length

    def _push(self) -> None:
        if self._length:
            self._items.extend((self._key, self._length))
        if len(self._items) >= _PLAN_ITEMS:
            self._write()

    def _write(self) -> None:
        self._items.tofile(self._file)
        self._items = array("q")

    def flush(self) -> None:
        self._push()
        self._write()


def _planned(path: Path) -> Iterator[tuple[int, int]]:
    with path.open("rb") as file:
        while piece := file.read(8 * _PLAN_ITEMS):
            items = array("q", piece)
            yield from zip(items[::2], items[1::2], strict=True)


def write_archive(head: bytes, folder: Path, *, spool: int, base: int | None, base_data: int) -> Path:
    """The second pass: `archive` in `folder`, durable.

    Args:
        head: Header, root directory and metadata.
        folder: With `leaves` and `plan` of `plan_layout`.
        spool, base: Descriptors of the spool and of the file that is added to.
        base_data: Where the tile data of the latter begin.

    Raises OSError.
    """
    path = folder / "archive"
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o644)
    try:
        _write(target, memoryview(head))
        leaves = os.open(folder / "leaves", os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            _copy(leaves, Span(0, os.fstat(leaves).st_size), target)
        finally:
            os.close(leaves)
        gathered = _Gathered(target)
        for key, length in _planned(folder / "plan"):
            if key < BASE_KEY:
                gathered.copy(spool, Span(key, length))
            elif base is not None:
                gathered.copy(base, Span(base_data + key - BASE_KEY, length))
        gathered.flush()
        os.fsync(target)
    finally:
        os.close(target)
    return path


class _Gathered:
    """Spans of other files, appended to one. Methods raise OSError.

    Short ones meet in a buffer: to copy 12 KB inside the system costs twice as much (8.2 to 4.0 us).
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._buffer = memoryview(bytearray(COPY_BYTES))
        self._filled = 0

    def copy(self, source: int, span: Span) -> None:
        if span.length > SHORT_BYTES_MAX:
            self.flush()
            _copy(source, span, self._target)
            return
        if self._filled + span.length > COPY_BYTES:
            self.flush()
        stop = self._filled + span.length
        at = span.offset
        while self._filled < stop:
            done = os.preadv(source, [self._buffer[self._filled : stop]], at)
            if not done:
                raise _ended_early()
            self._filled += done
            at += done

    def flush(self) -> None:
        _write(self._target, self._buffer[: self._filled])
        self._filled = 0
        _let_go(self._target)


def _write(target: int, view: memoryview) -> None:
    while view:
        view = view[os.write(target, view) :]


def _let_go(target: int) -> None:
    """Have the system begin to put on disk what was written, and forget what is there. OSError.

    The sync at the end has little left to wait for, and memory that is used again is cheaper than new: 0.3 s
    instead of 1.1 s for 560 MB.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(target, 0, 0, os.POSIX_FADV_DONTNEED)


def _ended_early() -> OSError:
    return OSError(errno.EIO, "a file that tiles are copied from ended early")


def _copy(source: int, span: Span, target: int) -> None:
    """Append bytes of one file to another; inside the system where it can. OSError."""
    at, left = span
    in_system = hasattr(os, "copy_file_range")
    while left:
        if in_system:
            try:
                done = os.copy_file_range(source, target, min(left, IN_SYSTEM_BYTES), offset_src=at)
            except OSError as error:
                if error.errno not in _NOT_IN_SYSTEM:
                    raise
                in_system = False
                continue
        else:
            piece = os.pread(source, min(left, COPY_BYTES), at)
            done = os.write(target, piece) if piece else 0
        if not done:
            raise _ended_early()
        at += done
        left -= done
        _let_go(target)
