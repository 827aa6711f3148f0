"""The files of a directory store, on disk. Every method raises OSError as the system gave it."""

import errno
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from tilehaul.grid.tile_id import TileId
from tilehaul.ports.tile import Tile
from tilehaul.stores.atomic_file import (
    TEMP_SUFFIX,
    publish,
    sync_and_close,
    sync_folder,
    temp_path,
    write_temp,
)
from tilehaul.stores.directory_files import EXTENSIONS, numbers, plain_number, tile_path, zooms
from tilehaul.stores.whole_disk import WholeDisk, open_whole_disk

# Where files are synced one by one: written together before the first is synced, so that the later syncs find
# their bytes on disk already. Few enough for the usual limit of 1,024 open files.
FILES_OPEN_MAX = 64
# Folders remembered as existing.
FOLDERS_MAX = 20_000


class DirectoryTree:
    """Blocking file work below `root`, used by one thread. `sync` False leaves syncing to the system.

    `root` itself may be a link; a zoom's or column's folder that is one is neither written, emptied nor
    swept, because it leads out of the store.
    """

    def __init__(self, root: Path, *, sync: bool, tms: bool = False) -> None:
        self.root = root
        self._tms = tms
        self._sync = sync
        self._disk: WholeDisk | None = None
        self._opened = False
        self._folders: set[str] = set()

    def open(self) -> None:
        """The root is there: see how its files are synced. Again after `close`."""
        if self._sync and not self._opened:
            self._opened = True
            self._disk = open_whole_disk(str(self.root))

    def close(self) -> None:
        self._opened = False
        disk, self._disk = self._disk, None
        if disk is not None:
            disk.close()

    def write(self, tiles: Sequence[tuple[Tile, str]]) -> set[str]:
        """Write each tile under `{z}/{x}/{y}.{extension}`, whole; the folders to sync."""
        paths = [tile_path(self.root, tile.tile_id, extension, tms=self._tms) for tile, extension in tiles]
        folders = {path.rpartition("/")[0] for path in paths}
        touched = set(folders)
        for folder in folders - self._folders:
            touched |= self._make_folder(folder)
        files = FILES_OPEN_MAX if self._disk is None else max(1, len(paths))
        for at in range(0, len(paths), files):
            group = slice(at, at + files)
            try:
                self._write_group(paths[group], [tile.body for tile, _ in tiles[group]])
            except OSError:
                # A folder may have been removed by hand: look again at the next commit.
                self._folders.clear()
                for path in paths[group]:
                    Path(temp_path(path)).unlink(missing_ok=True)
                raise
        return touched

    def _write_group(self, paths: Sequence[str], bodies: Sequence[bytes]) -> None:
        one_by_one = self._sync and self._disk is None
        descriptors: list[int] = []
        try:
            for path, body in zip(paths, bodies, strict=True):
                descriptors.append(write_temp(path, body))
                if not one_by_one:
                    os.close(descriptors.pop())
            while descriptors:
                sync_and_close(descriptors.pop(), sync=True)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        if self._disk is not None:
            self._disk.sync()
        for path in paths:
            publish(path)

    def _make_folder(self, folder: str) -> set[str]:
        """Make a column's folder; the folders whose list of names grew."""
        grown: set[str] = set()
        for level in (folder.rpartition("/")[0], folder):
            try:
                Path(level).mkdir()
                grown.add(level.rpartition("/")[0])
            except FileExistsError:
                _check_own(level)
        if self._disk is not None and os.stat(folder).st_dev != self._disk.device:  # noqa: PTH116
            # Another disk hangs there: from here on each file is synced by itself.
            self._disk.close()
            self._disk = None
        if len(self._folders) >= FOLDERS_MAX:
            self._folders.clear()
        self._folders.add(folder)
        return grown

    def remove(self, tile_id: TileId, extensions: Iterable[str]) -> set[str]:
        """Remove files of a tile; the folders to sync."""
        touched: set[str] = set()
        for extension in extensions:
            path = tile_path(self.root, tile_id, extension, tms=self._tms)
            folder = path.rpartition("/")[0]
            if folder not in self._folders:
                _check_own(folder.rpartition("/")[0])
                _check_own(folder)
            try:
                os.unlink(path)  # noqa: PTH108  a Path costs more than the call
                touched.add(folder)
            except FileNotFoundError:
                pass
        return touched

    def sync_folders(self, folders: Collection[str]) -> None:
        """Make names durable."""
        if self._disk is not None and folders:
            self._disk.sync()
        elif self._sync:
            for folder in folders:
                sync_folder(folder)

    def sync_everything(self) -> None:
        """Where nothing was synced till now: make it all durable, if the system has a call for that."""
        if self._sync:
            return
        disk = open_whole_disk(str(self.root))
        if disk is None:
            getattr(os, "sync", lambda: None)()
            return
        try:
            disk.sync()
        finally:
            disk.close()

    def sweep(self) -> Iterator[tuple[TileId, list[str]]]:
        """Remove temporary files; answer the tiles that are there under several extensions."""
        for zoom in zooms(self.root):
            side = 1 << zoom
            columns = [] if _is_link(f"{self.root}/{zoom}") else numbers(self.root / str(zoom), side)
            for column in columns:
                folder = self.root / str(zoom) / str(column)
                if _is_link(str(folder)):
                    continue
                seen: dict[int, list[str]] = {}
                for entry in sorted(folder.iterdir()):
                    if entry.name.startswith(".") and entry.name.endswith(TEMP_SUFFIX):
                        entry.unlink()
                    elif entry.suffix[1:] in EXTENSIONS and plain_number(entry.stem):
                        seen.setdefault(int(entry.stem), []).append(entry.suffix[1:])
                for row, found in seen.items():
                    if len(found) > 1 and row < side:
                        yield (
                            TileId(zoom, column, side - 1 - row if self._tms else row),
                            sorted(found, key=EXTENSIONS.index),
                        )


def _check_own(folder: str) -> None:
    """OSError when a folder of the store is a link; one that is not there is not."""
    if _is_link(folder):
        words = "it is a link that leads out of the store; put a folder in its place"
        raise OSError(errno.ELOOP, words, folder)


def _is_link(folder: str) -> bool:
    return Path(folder).is_symlink()
