"""What is wrong in a directory of tiles beyond their bytes: what lies there and is no tile."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tilehaul.codec.sniff import media_type_of, sniff
from tilehaul.grid.tile_id import ZOOM_MAX
from tilehaul.stores.directory_files import EXTENSIONS, plain_number
from tilehaul.stores.disk_errors import from_os

# As far as `sniff` reads.
_HEAD_BYTES = 512


@dataclass(slots=True)
class _Found:
    count: int = 0
    first: str = ""


@dataclass(slots=True)
class _Faults:
    root: Path
    by_words: dict[str, _Found] = field(default_factory=dict)

    def note(self, path: str, words: str) -> None:
        found = self.by_words.setdefault(words, _Found(first=os.path.relpath(path, self.root)))
        found.count += 1


def directory_faults(root: Path) -> list[str]:
    """Files below its zooms that are no tiles, or not what their names say. StorageError.

    What lies beside the zooms is nobody's business: others keep a description or a page there.
    """
    faults = _Faults(root)
    try:
        for zoom, entry in _below(root, faults):
            _look(zoom, entry, faults)
    except OSError as error:
        raise from_os(error, root, "reading") from error
    return [f"{words}: {found.count}, the first is {found.first}" for words, found in faults.by_words.items()]


def _below(root: Path, faults: _Faults) -> "Iterator[tuple[int, os.DirEntry[str]]]":
    """Every entry of every column, with its zoom."""
    for zoom in _sorted(root):
        if not plain_number(zoom.name) or not zoom.is_dir():
            continue
        if int(zoom.name) > ZOOM_MAX:
            faults.note(zoom.path, "folders of no zoom")
            continue
        for column in _sorted(zoom.path):
            if not column.is_dir():
                faults.note(column.path, "files that are no tiles")
            elif not plain_number(column.name) or int(column.name) >= 1 << int(zoom.name):
                faults.note(column.path, "folders of no column")
            else:
                for entry in _sorted(column.path):
                    yield int(zoom.name), entry


def _look(zoom: int, entry: "os.DirEntry[str]", faults: _Faults) -> None:
    stem, _, extension = entry.name.rpartition(".")
    if extension not in EXTENSIONS or not plain_number(stem) or not entry.is_file():
        faults.note(entry.path, "files that are no tiles")
    elif int(stem) >= 1 << zoom:
        faults.note(entry.path, "files outside the grid")
    elif not entry.stat().st_size:
        faults.note(entry.path, "files that are empty")
    else:
        beside = entry.path[: -len(extension)]
        others = EXTENSIONS[: EXTENSIONS.index(extension)]
        if any(os.path.exists(f"{beside}{other}") for other in others):  # noqa: PTH110  one a file
            faults.note(entry.path, "tiles that are there with another ending as well")
        with Path(entry.path).open("rb") as file:
            kind = sniff(file.read(_HEAD_BYTES))
        if kind and kind != media_type_of(extension):
            faults.note(entry.path, f"files that end in .{extension} and are {kind}")


def _sorted(folder: Path | str) -> "list[os.DirEntry[str]]":
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)
