"""Reading a directory of `{z}/{x}/{y}.{ext}`, ours or anybody's."""

import errno
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import apsw

from tilehaul.codec.sniff import media_type_of, sniff
from tilehaul.errors import DataError, PlanError
from tilehaul.grid.tile_id import ZOOM_MAX, TileId
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import DeadLetter, State, StoreInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores import journal
from tilehaul.stores.archive_metadata import (
    identity_of,
    media_type_of_format,
    parse_bounds,
    source_info_of,
)
from tilehaul.stores.directory_files import (
    EXTENSIONS,
    TRUSTED,
    check_rows,
    column_bounds,
    journal_path,
    state_of_file,
    tile_path,
    walk,
    zooms_kept,
)
from tilehaul.stores.disk_errors import TILE_BYTES_MAX, from_os, from_sqlite
from tilehaul.stores.metadata_table import read_metadata
from tilehaul.stores.record import SOURCE, has_completed, parse_record, state_of
from tilehaul.stores.sqlite_file import open_reading

# Links are followed: other writers keep equal tiles once, as links to one file.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class DirectoryReader:
    """Blocking reads, used by one thread; the journal is opened only when it is needed."""

    def __init__(self, root: Path, *, tms: bool = False) -> None:
        self.root = root
        self._tms = tms
        self._likely = EXTENSIONS[0]

    def get(self, tile_id: TileId) -> Tile | NoTile:
        """The tile; what is empty, or no plain file, is none.

        Raises:
            PlanError: There is no such folder.
            DataError: The file is larger than `TILE_BYTES_MAX` (`too_large`).
            StorageError: The disk refused.
        """
        z, x, y = tile_id.z, tile_id.x, tile_id.y
        if 0 <= z <= ZOOM_MAX and 0 <= x < 1 << z and 0 <= y < 1 << z:
            body = self._read(tile_path(self.root, tile_id, self._likely, tms=self._tms))
            if body:
                return self._tile(tile_id, body, self._likely)
            for extension in EXTENSIONS:
                path = tile_path(self.root, tile_id, extension, tms=self._tms)
                if os.path.exists(path) and (body := self._read(path)):  # noqa: PTH110  as in tile_path
                    self._likely = extension
                    return self._tile(tile_id, body, extension)
        if not self.root.is_dir():
            raise PlanError(f"{self.root}: no such folder")
        return NoTile(tile_id, "not_stored", "store")

    def one_look(self) -> AbstractContextManager[None]:
        """Files are looked at one by one in any case."""
        return nullcontext()

    def _tile(self, tile_id: TileId, body: bytes, extension: str) -> Tile:
        return Tile(tile_id, body, sniff(body) or media_type_of(extension), "store")

    def _read(self, path: str) -> bytes:
        """The bytes of a plain file; none when it is not there, or something else."""
        try:
            # A pipe of that name would hold an ordinary open for ever, and the thread with it.
            descriptor = os.open(path, _FLAGS)
            try:
                return _content(descriptor, path)
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        except OSError as error:
            if error.errno in {errno.ENXIO, errno.ELOOP}:  # a socket, a link that leads to itself
                return b""
            raise from_os(error, Path(path), "reading") from error

    def tile_ids(self) -> Iterator[TileId]:
        for tile_id, _, _ in self._walk():
            yield tile_id

    def _walk(self) -> Iterator[tuple[TileId, str, int]]:
        if not self.root.is_dir():
            raise PlanError(f"{self.root}: no such folder")
        try:
            yield from walk(self.root, tms=self._tms)
        except OSError as error:
            raise from_os(error, self.root, "reading") from error

    def dead_letters(self, causes: Collection[str] = ()) -> Iterator[DeadLetter]:
        return journal.dead_letters(self._dead_page, causes)

    def _dead_page(self, after: TileId | None) -> list[DeadLetter]:
        with self._reading() as connection:
            return [] if connection is None else journal.dead_page(connection, after)

    def states(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        if not self.root.is_dir():
            raise PlanError(f"{self.root}: no such folder")
        metadata: dict[str, str] = {}
        notes: dict[int, dict[int, tuple[int, str]]] = {}
        with self._reading() as connection:
            if connection is not None:
                metadata = read_metadata(connection)
                if journal.has_journal(connection):
                    notes = journal.journalled(connection, journal.keys_by_zoom(tile_ids))
        trusted = TRUSTED in metadata or SOURCE not in metadata
        try:
            return [
                state_of_file(
                    self.root,
                    tile_id,
                    notes.get(tile_id.z, {}).get(tile_id.x << journal.KEY_BITS | tile_id.y),
                    trusted=trusted,
                    tms=self._tms,
                )
                for tile_id in tile_ids
            ]
        except OSError as error:
            raise from_os(error, self.root, "reading") from error

    def has_completed(self, area_identity: str) -> bool:
        metadata, _ = self._journal()
        return has_completed(parse_record(metadata, str(self.root)), area_identity)

    def describe(self) -> StoreInfo:
        """Walks the folders; `bytes` is the sum of the tiles' sizes."""
        metadata, noted = self._journal()
        by_zoom: dict[int, int] = {}
        size_bytes = 0
        for tile_id, _, tile_bytes in self._walk():
            by_zoom[tile_id.z] = by_zoom.get(tile_id.z, 0) + 1
            size_bytes += tile_bytes
        return StoreInfo(
            location=str(self.root),
            kind="directory",
            tiles=sum(by_zoom.values()),
            absent=noted.absent,
            dead=noted.dead,
            bytes=size_bytes,
            state=state_of(parse_record(metadata, str(self.root)), dead=noted.dead),
            metadata=metadata,
            tiles_by_zoom=by_zoom,
            dropped=noted.dropped,
            dead_causes=noted.dead_causes,
        )

    def source_info(self) -> SourceInfo:
        """From the journal's metadata; what is missing there, from the names and the first tile."""
        metadata, _ = self._journal()
        if not self.root.is_dir():
            raise PlanError(f"{self.root}: no such folder")
        check_rows(metadata, self.root, tms=self._tms)
        try:
            kept = zooms_kept(self.root)
            first = next(walk(self.root, tms=self._tms), None)
            bounds = None
            if kept and parse_bounds(metadata.get("bounds", "")) is None:
                bounds = column_bounds(self.root, kept[-1], tms=self._tms)
        except OSError as error:
            raise from_os(error, self.root, "reading") from error
        media_type = ""
        if first is not None and not media_type_of_format(metadata.get("format", "")):
            tile = self.get(first[0])
            media_type = tile.media_type if isinstance(tile, Tile) else ""
        return source_info_of(
            metadata,
            name=self.root.name,
            identity=identity_of("directory-tms" if self._tms else "directory", self.root),
            zooms=(kept[0], kept[-1]) if kept else None,
            bounds=bounds,
            media_type=media_type,
        )

    def _journal(self) -> tuple[dict[str, str], journal.JournalCounts]:
        """Metadata and what is noted; nothing for a directory that is not ours."""
        with self._reading() as connection:
            if connection is None:
                return {}, journal.JournalCounts()
            return read_metadata(connection), journal.counts(connection)

    @contextmanager
    def _reading(self) -> Iterator[apsw.Connection | None]:
        """The journal, with SQLite's errors turned into ours; None for a directory that is not ours."""
        path = journal_path(self.root)
        if not path.exists():
            yield None
            return
        connection = open_reading(path)
        try:
            has_metadata = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'metadata'").get
            yield connection if has_metadata else None
        except apsw.Error as error:
            raise from_sqlite(error, path, "reading") from error
        finally:
            connection.close(force=True)

    def release(self) -> None:
        """Nothing stays open between calls."""


def _content(descriptor: int, path: str) -> bytes:
    """What an open file holds; none when it is no plain file. DataError when it is too large; OSError."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return b""
    size = status.st_size
    if size > TILE_BYTES_MAX:
        raise DataError(f"{path} has {size} bytes, allowed are {TILE_BYTES_MAX}", cause="too_large")
    body = os.read(descriptor, size)
    while len(body) < size and (piece := os.read(descriptor, size - len(body))):
        body += piece
    return body
