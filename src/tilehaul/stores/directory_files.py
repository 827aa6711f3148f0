"""What lies in a directory of tiles: its names, and looking at them."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tilehaul.codec.sniff import extension_of, media_type_of
from tilehaul.errors import DataError, PlanError
from tilehaul.grid.tile_id import ZOOM_MAX, TileId
from tilehaul.ports.store import State
from tilehaul.ports.tile import Tile
from tilehaul.stores import journal
from tilehaul.stores.archive_metadata import Bounds, bounds_of_columns
from tilehaul.stores.record import PREFIX, SOURCE

# The journal's mark of a directory whose rows are counted from the south.
SOUTH = PREFIX + "rows_from_south"
# Files without a journal row count as done: a job was complete before, or the operator forced it.
TRUSTED = PREFIX + "trusted"
# Asked for in this order after the extension that was right the last time.
EXTENSIONS = ("png", "jpg", "jpeg", "webp", "pbf", "mvt", "avif", "gif", "tif", "tiff")
_KNOWN = frozenset(EXTENSIONS)


def journal_path(root: Path) -> Path:
    return Path(f"{root}.journal")


def row_of(tile_id: TileId, *, tms: bool) -> int:
    """The row as it is named: counted from the north, or with `tms` from the south."""
    return (1 << tile_id.z) - 1 - tile_id.y if tms else tile_id.y


def tile_path(root: Path, tile_id: TileId, extension: str, *, tms: bool = False) -> str:
    """`root/{z}/{x}/{row}.{ext}`: see `row_of`. `:d` lets nothing but integers into the name.

    A string, because it is made for every tile and a `Path` costs more than reading the file.
    """
    row = row_of(tile_id, tms=tms) if tms else tile_id.y
    return f"{root}/{tile_id.z:d}/{tile_id.x:d}/{row:d}.{extension}"


def numbers(folder: Path, stop: int) -> list[int]:
    """The sub-folders named by a plain number below `stop`, ascending; none without the folder. OSError."""
    try:
        with os.scandir(folder) as entries:
            found = [int(e.name) for e in entries if plain_number(e.name) and _leads_to(e.is_dir)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(number for number in found if number < stop)


def zooms(root: Path) -> list[int]:
    """The zooms that have a folder, ascending. OSError."""
    return numbers(root, ZOOM_MAX + 1)


def zooms_kept(root: Path) -> list[int]:
    """The zooms that have a tile, ascending; looks no further into each than the first. OSError."""
    return [
        zoom
        for zoom in zooms(root)
        if any(
            files(root / str(zoom) / str(column), 1 << zoom)
            for column in numbers(root / str(zoom), 1 << zoom)
        )
    ]


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
            if extension not in _KNOWN or not plain_number(stem) or not _leads_to(entry.is_file):
                continue
            size_bytes = entry.stat().st_size
            row, rank = int(stem), EXTENSIONS.index(extension)
            if row < stop and size_bytes and (row not in best or rank < best[row][0]):
                best[row] = (rank, extension, size_bytes)
    return [(row, extension, size) for row, (_, extension, size) in sorted(best.items())]


def _leads_to(is_kind: Callable[[], bool]) -> bool:
    """Whether an entry is of a kind; a link that leads to itself is of none. OSError."""
    try:
        return is_kind()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def walk(root: Path, *, tms: bool = False) -> Iterator[tuple[TileId, str, int]]:
    """Id, extension and size of every tile, in tile order; holds one column at a time. OSError."""
    for zoom in zooms(root):
        side = 1 << zoom
        for column in numbers(root / str(zoom), side):
            found = files(root / str(zoom) / str(column), side)
            for row, extension, size_bytes in reversed(found) if tms else found:
                yield TileId(zoom, column, side - 1 - row if tms else row), extension, size_bytes


def plain_number(name: str) -> bool:
    """ASCII digits without a leading zero: `007` is no row of ours, nor is an Arabic digit."""
    return name.isascii() and name.isdigit() and len(name) <= 10 and (name == "0" or name[0] != "0")


def has_file(root: Path, tile_id: TileId, extension: str, *, tms: bool = False) -> bool:
    """Whether a plain file is there and not empty. OSError."""
    try:
        path = tile_path(root, tile_id, extension, tms=tms)
        status = os.stat(path)  # noqa: PTH116  asked for every tile of a job
        return status.st_size > 0 and stat.S_ISREG(status.st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def extensions_of(root: Path, tile_id: TileId, *, tms: bool = False) -> list[str]:
    """The extensions under which a tile is kept, not empty. OSError."""
    return [extension for extension in EXTENSIONS if has_file(root, tile_id, extension, tms=tms)]


def state_of_file(
    root: Path, tile_id: TileId, note: tuple[int, str] | None, *, trusted: bool, tms: bool = False
) -> State | None:
    """See `JobStore.settled`. A tile journalled as done whose file is gone or empty is pending. OSError.

    `note` is its journal row, state and extension; `trusted`: a file without one counts as done.
    """
    if note is None:
        return "done" if trusted and extensions_of(root, tile_id, tms=tms) else None
    state = journal.STATES[note[0]]
    return None if state == "done" and not has_file(root, tile_id, note[1], tms=tms) else state


def extension_for(tile: Tile, *, without: str = "a directory has no file name") -> str:
    """The ending a tile is kept under. DataError, with the words `without`: it was not verified."""
    extension: str = extension_of(tile.media_type)
    if extension not in EXTENSIONS:
        # Every source answers only what `verify_tile` has named, and each of those kinds has an ending.
        raise DataError(
            f"tile {tile.tile_id}: {without} for {tile.media_type!r}; the source gave "
            "a tile that was not verified, which is a mistake in tilehaul",
            cause="mistyped",
        )
    return extension


def kinds_kept(root: Path, *, tms: bool = False) -> Counter[str]:
    """Tiles by media type, as their names say: those that we write are named by what they are. OSError."""
    return Counter(media_type_of(ending) for _, ending, _ in walk(root, tms=tms))


def column_bounds(root: Path, zoom: int, *, tms: bool = False) -> Bounds | None:
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
    if tms:
        rows = [side - 1 - row for row in rows]
    return bounds_of_columns(zoom, (columns[0], columns[-1]), (min(rows), max(rows)))


def check_rows(metadata: Mapping[str, str], root: Path, *, tms: bool) -> None:
    """Raise PlanError when our journal says that rows are counted from the other end."""
    if SOURCE in metadata and (metadata.get(SOUTH) == "1") != tms:
        way = "{y}" if tms else "{-y}"
        raise PlanError(f"{root}: its rows are counted from the other end: name it {root}/{{z}}/{{x}}/{way}")
