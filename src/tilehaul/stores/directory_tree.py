"""The files of a directory store, on disk. Every method raises OSError as the system gave it."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from tilehaul.grid.tile_id import ZOOM_MAX, TileId
from tilehaul.ports.tile import Tile
from tilehaul.stores.atomic_file import (
    TEMP_SUFFIX,
    publish,
    sync_and_close,
    sync_folder,
    temp_path,
    write_temp,
)
from tilehaul.stores.directory_reader import EXTENSIONS, numbers, tile_path

# Written together before the first is synced: the later syncs find their bytes on disk already.
# Few enough for the usual limit of 1,024 open files.
FILES_OPEN_MAX = 64
# Folders remembered as existing.
FOLDERS_MAX = 20_000


class DirectoryTree:
    """Blocking file work below `root`, used by one thread. `sync` False leaves syncing to the system."""

    def __init__(self, root: Path, *, sync: bool) -> None:
        self.root = root
        self._sync = sync
        self._folders: set[Path] = set()

    def write(self, tiles: Iterable[tuple[Tile, str]]) -> set[Path]:
        """Write each tile under `{z}/{x}/{y}.{extension}`, whole; the folders to sync."""
        touched: set[Path] = set()
        rest = iter(tiles)
        while group := list(islice(rest, FILES_OPEN_MAX)):
            paths = [tile_path(self.root, tile.tile_id, extension) for tile, extension in group]
            for path in paths:
                touched |= self._make_folder(path.parent)
            try:
                self._write_group(paths, [tile.body for tile, _ in group])
            except OSError:
                # The zoom's folder may have been removed by hand: look again at the next commit.
                self._folders.clear()
                for path in paths:
                    temp_path(path).unlink(missing_ok=True)
                raise
            touched.update(path.parent for path in paths)
        return touched

    def _write_group(self, paths: Sequence[Path], bodies: Sequence[bytes]) -> None:
        descriptors: list[int] = []
        try:
            for path, body in zip(paths, bodies, strict=True):
                descriptors.append(write_temp(path, body))
            while descriptors:
                sync_and_close(descriptors.pop(), sync=self._sync)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        for path in paths:
            publish(path)

    def _make_folder(self, folder: Path) -> set[Path]:
        """Make a column's folder; the folders whose list of names grew."""
        if folder in self._folders:
            return set()
        grown: set[Path] = set()
        for level in (folder.parent, folder):
            try:
                level.mkdir()
                grown.add(level.parent)
            except FileExistsError:
                pass
        if len(self._folders) >= FOLDERS_MAX:
            self._folders.clear()
        self._folders.add(folder)
        return grown

    def remove(self, tile_id: TileId, extensions: Iterable[str]) -> set[Path]:
        """Remove files of a tile; the folders to sync."""
        touched: set[Path] = set()
        for extension in extensions:
            path = tile_path(self.root, tile_id, extension)
            try:
                path.unlink()
                touched.add(path.parent)
            except FileNotFoundError:
                pass
        return touched

    def sync_folders(self, folders: Iterable[Path]) -> None:
        """Make names durable, each folder once."""
        if self._sync:
            for folder in folders:
                sync_folder(folder)

    def has(self, tile_id: TileId, extension: str) -> bool:
        """Whether the file is there and not empty."""
        try:
            # A string, not a Path: this is asked for every tile of a resumed job.
            return os.stat(_name(self.root, tile_id, extension)).st_size > 0  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return False

    def find(self, tile_id: TileId) -> list[str]:
        """The extensions under which a tile is kept, not empty."""
        return [extension for extension in EXTENSIONS if self.has(tile_id, extension)]

    def sweep(self) -> Iterator[tuple[TileId, list[str]]]:
        """Remove temporary files; answer the tiles that are there under several extensions."""
        for zoom in numbers(self.root):
            for column in numbers(self.root / str(zoom)):
                folder = self.root / str(zoom) / str(column)
                seen: dict[str, list[str]] = {}
                for entry in sorted(folder.iterdir()):
                    if entry.name.startswith(".") and entry.name.endswith(TEMP_SUFFIX):
                        entry.unlink()
                    elif entry.suffix[1:] in EXTENSIONS and entry.stem.isascii() and entry.stem.isdigit():
                        seen.setdefault(entry.stem, []).append(entry.suffix[1:])
                for row, found in seen.items():
                    if len(found) > 1 and zoom <= ZOOM_MAX:
                        yield TileId(zoom, column, int(row)), sorted(found, key=EXTENSIONS.index)


def _name(root: Path, tile_id: TileId, extension: str) -> str:
    return f"{root}/{tile_id.z:d}/{tile_id.x:d}/{tile_id.y:d}.{extension}"
