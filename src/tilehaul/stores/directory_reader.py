"""Reading a directory of `{z}/{x}/{y}.{ext}`, ours or anybody's."""

import errno
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

import apsw

from tilehaul.codec.sniff import media_type_of, sniff
from tilehaul.errors import DataError, PlanError
from tilehaul.grid.tile_id import ZOOM_MAX, TileId
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import DeadLetter, StoreInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores import journal
from tilehaul.stores.archive_metadata import (
    Bounds,
    bounds_of_columns,
    media_type_of_format,
    parse_bounds,
    source_info_of,
)
from tilehaul.stores.mbtiles_reader import identity_of
from tilehaul.stores.metadata_table import read_metadata
from tilehaul.stores.record import parse_record, state_of
from tilehaul.stores.sqlite_file import TILE_BYTES_MAX, from_os, from_sqlite, open_reading

# Asked for in this order after the extension that was right the last time.
EXTENSIONS = ("png", "jpg", "jpeg", "webp", "pbf", "mvt", "avif", "gif", "tif", "tiff")
_KNOWN = frozenset(EXTENSIONS)
# Links are followed: other writers keep equal tiles once, as links to one file.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def journal_path(root: Path) -> Path:
    return Path(f"{root}.journal")


def tile_path(root: Path, tile_id: TileId, extension: str) -> str:
    """`root/{z}/{x}/{y}.{ext}`. `:d` lets nothing but integers into the name.

    A string, because it is made for every tile and a `Path` costs more than reading the file.
    """
    return f"{root}/{tile_id.z:d}/{tile_id.x:d}/{tile_id.y:d}.{extension}"


def numbers(folder: Path, stop: int) -> list[int]:
    """The sub-folders named by a plain number below `stop`, ascending; none without the folder. OSError."""
    try:
        with os.scandir(folder) as entries:
            found = [int(e.name) for e in entries if plain_number(e.name) and e.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(number for number in found if number < stop)


def zooms(root: Path) -> list[int]:
    """The zooms that have a folder, ascending. OSError."""
    return numbers(root, ZOOM_MAX + 1)


def files(folder: Path, stop: int) -> list[tuple[int, str, int]]:
    """Row, extension and size in bytes of the tiles of one column, ascending. OSError.

    Rows from `stop` on are off the grid, and no tiles; nor is what is empty or no plain file. Of two
    extensions of a row, the one `EXTENSIONS` names first counts.
    """
    best: dict[int, tuple[int, str, int]] = {}
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return []
    with entries:
        for entry in entries:
            stem, _, extension = entry.name.rpartition(".")
            if extension not in _KNOWN or not plain_number(stem) or not entry.is_file():
                continue
            size_bytes = entry.stat().st_size
            row, rank = int(stem), EXTENSIONS.index(extension)
            if row < stop and size_bytes and (row not in best or rank < best[row][0]):
                best[row] = (rank, extension, size_bytes)
    return [(row, extension, size) for row, (_, extension, size) in sorted(best.items())]


def walk(root: Path) -> Iterator[tuple[TileId, str, int]]:
    """Id, extension and size of every tile, in tile order; holds one column at a time. OSError."""
    for zoom in zooms(root):
        side = 1 << zoom
        for column in numbers(root / str(zoom), side):
            for row, extension, size_bytes in files(root / str(zoom) / str(column), side):
                yield TileId(zoom, column, row), extension, size_bytes


def plain_number(name: str) -> bool:
    """ASCII digits without a leading zero: `007` is no row of ours, nor is an Arabic digit."""
    return name.isascii() and name.isdigit() and len(name) <= 10 and (name == "0" or name[0] != "0")


class DirectoryReader:
    """Blocking reads, used by one thread; the journal is opened only when it is needed."""

    def __init__(self, root: Path) -> None:
        self.root = root
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
            body = self._read(tile_path(self.root, tile_id, self._likely))
            if body:
                return self._tile(tile_id, body, self._likely)
            for extension in EXTENSIONS:
                path = tile_path(self.root, tile_id, extension)
                if os.path.exists(path) and (body := self._read(path)):  # noqa: PTH110  as in tile_path
                    self._likely = extension
                    return self._tile(tile_id, body, extension)
        if not self.root.is_dir():
            raise PlanError(f"{self.root}: no such folder")
        return NoTile(tile_id, "not_stored", "store")

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
            if error.errno == errno.ENXIO:  # a socket
                return b""
            raise from_os(error, Path(path), "reading") from error

    def tile_ids(self) -> Iterator[TileId]:
        for tile_id, _, _ in self._walk():
            yield tile_id

    def _walk(self) -> Iterator[tuple[TileId, str, int]]:
        if not self.root.is_dir():
            raise PlanError(f"{self.root}: no such folder")
        try:
            yield from walk(self.root)
        except OSError as error:
            raise from_os(error, self.root, "reading") from error

    def dead_letters(self, causes: Collection[str] = ()) -> Iterator[DeadLetter]:
        return journal.dead_letters(self._dead_page, causes)

    def _dead_page(self, after: TileId | None) -> list[DeadLetter]:
        path = journal_path(self.root)
        if not path.exists():
            return []
        connection = open_reading(path)
        try:
            return journal.dead_page(connection, after)
        except apsw.Error as error:
            raise from_sqlite(error, path, "reading") from error
        finally:
            connection.close(force=True)

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
        try:
            kept = zooms(self.root)
            first = next(walk(self.root), None)
            bounds = None
            if kept and parse_bounds(metadata.get("bounds", "")) is None:
                bounds = column_bounds(self.root, kept[-1])
        except OSError as error:
            raise from_os(error, self.root, "reading") from error
        media_type = ""
        if first is not None and not media_type_of_format(metadata.get("format", "")):
            tile = self.get(first[0])
            media_type = tile.media_type if isinstance(tile, Tile) else ""
        return source_info_of(
            metadata,
            name=self.root.name,
            identity=identity_of("directory", self.root),
            zooms=(kept[0], kept[-1]) if kept else None,
            bounds=bounds,
            media_type=media_type,
        )

    def _journal(self) -> tuple[dict[str, str], journal.JournalCounts]:
        """Metadata and what is noted; nothing for a directory that is not ours."""
        path = journal_path(self.root)
        if not path.exists():
            return {}, journal.JournalCounts()
        connection = open_reading(path)
        try:
            has_metadata = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'metadata'").get
            if not has_metadata:
                return {}, journal.JournalCounts()
            return read_metadata(connection), journal.counts(connection)
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


def column_bounds(root: Path, zoom: int) -> Bounds | None:
    """The box of one zoom's tiles, in degrees; None without a tile. OSError."""
    columns: list[int] = []
    rows: list[int] = []
    side = 1 << zoom
    for column in numbers(root / str(zoom), side):
        found = files(root / str(zoom) / str(column), side)
        if found:
            columns.append(column)
            rows += (found[0][0], found[-1][0])
    if not columns:
        return None
    return bounds_of_columns(zoom, (columns[0], columns[-1]), (min(rows), max(rows)))
