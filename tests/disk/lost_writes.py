"""A disk that forgets what was not synced: made of the calls of a program that strace has seen.

The model is harsher than a file system is. Of a file's writes since its last sync any may be missing, or be
there up to a sector; of new, changed and removed names any may be missing until their folder was synced, also
when the file itself was. What was synced stays.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from random import Random

SECTOR_BYTES = 512
# Beyond those that `every_call` breaks: what says which file a descriptor is, and where it stands.
CALLS = ("open", "openat", "close", "lseek", "read", "rmdir")
# Whole, and in hexadecimal.
FLAGS = ("-xx", "-s", "100000000")
# Writes to it are the program's own words, see `Disk.words`.
MARK = "/dev/null"
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)")
_ARGUMENT = re.compile(r'\s*(?:"((?:\\x[0-9a-f]{2})*)"|\[(\d+)\]|([^,"\[]+))(?:,|$)')
# Nothing of these can be lost.
_IGNORED = frozenset({"pread64", "preadv", "preadv2"})


@dataclass
class File:
    """`body` is what a program reads, `synced` what is on the disk for sure, `since` the writes between."""

    body: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    since: list[tuple[int, bytes]] = field(default_factory=list)
    is_folder: bool = False

    def write(self, at: int, data: bytes) -> None:
        _put(self.body, at, data)
        self.since.append((at, data))

    def cut(self, size: int) -> None:
        _cut(self.body, size)
        self.since.append((size, b""))

    def sync(self) -> None:
        self.synced, self.since = bytes(self.body), []

    def after(self, luck: Random | None) -> bytes:
        """What is found of it: without luck only what was synced."""
        body = bytearray(self.synced)
        for at, data in self.since if luck is not None else ():
            fate = luck.random() if luck is not None else 0.0
            if fate < 0.4:
                continue
            if not data:
                _cut(body, at)
            elif fate < 0.6:
                _put(
                    body,
                    at,
                    data[: luck.randrange(len(data)) // SECTOR_BYTES * SECTOR_BYTES] if luck else b"",
                )
            else:
                _put(body, at, data)
        return bytes(body)


@dataclass
class Name:
    """A change of names: `gone` and `new` are paths or empty; `safe` once a folder of one is synced."""

    gone: str
    new: str
    file: int
    safe: bool = False

    def is_in(self, folder: str) -> bool:
        return folder in {str(PurePosixPath(path).parent) for path in (self.gone, self.new) if path}


@dataclass
class _Opened:
    file: int
    path: str
    at: int = 0


class Disk:
    """The folder `root` as the calls so far have made it. `words` are what was written to `MARK`."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.words: list[str] = []
        self.files: list[File] = [File(is_folder=True)]
        self._names: dict[str, int] = {self.root: 0}
        self._changes: list[Name] = []
        self._opened: dict[int, _Opened] = {}

    def replay(self, log: str) -> Iterator[None]:
        """Take in the log of strace, made with FLAGS; stops after each call that matters."""
        for line in log.splitlines():
            found = _CALL.match(line)
            if found is None or found[1] in _IGNORED or int(found[3]) < 0:
                continue
            arguments = [
                (inner or word) if text is None else bytes.fromhex(text.replace("\\x", ""))
                for text, inner, word in (match.groups() for match in _ARGUMENT.finditer(found[2]))
            ]
            take: Callable[[list[str | bytes], int], bool] = getattr(self, f"_{found[1]}")
            if take(arguments, int(found[3])):
                yield

    def keep_names(self) -> None:
        """As if every folder had been synced now."""
        for change in self._changes:
            change.safe = True

    def fall_back(self, place: Path, luck: Random | None) -> None:
        """Put into `place` what is found of the folder when the power comes back."""
        names: dict[str, int] = {self.root: 0}
        for change in self._changes:
            if change.safe or (luck is not None and luck.random() < 0.5):
                names.pop(change.gone, None)
                if change.new:
                    names[change.new] = change.file
        for path, number in sorted(names.items()):
            # What lies in a folder that is not there is not there either.
            if str(PurePosixPath(path).parent) not in names and path != self.root:
                continue
            file, there = self.files[number], place / PurePosixPath(path).relative_to(self.root)
            if not there.parent.is_dir():
                continue
            if file.is_folder:
                there.mkdir(exist_ok=True)
            else:
                there.write_bytes(file.after(luck))

    # One method a call; each says whether it changed or kept something.

    def _openat(self, arguments: list[str | bytes], result: int) -> bool:
        path, flags = self._path(arguments[0], arguments[1]), str(arguments[2])
        return self._open_at(path, flags, result)

    def _open(self, arguments: list[str | bytes], result: int) -> bool:
        return self._open_at(self._path("AT_FDCWD", arguments[0]), str(arguments[1]), result)

    def _open_at(self, path: str, flags: str, result: int) -> bool:
        number = self._names.get(path, -1)
        made = number < 0 and "O_CREAT" in flags and path.startswith(f"{self.root}/")
        if made:
            number = self._make(path, is_folder=False)
        elif number >= 0 and "O_TRUNC" in flags:
            self.files[number].cut(0)
        at = len(self.files[number].body) if number >= 0 and "O_APPEND" in flags else 0
        self._opened[result] = _Opened(number, path, at)
        return made

    def _close(self, arguments: list[str | bytes], _result: int) -> bool:
        self._opened.pop(int(arguments[0]), None)
        return False

    def _mkdir(self, arguments: list[str | bytes], _result: int) -> bool:
        self._make(self._path("AT_FDCWD", arguments[0]), is_folder=True)
        return True

    def _pwrite64(self, arguments: list[str | bytes], result: int) -> bool:
        data = arguments[1]
        assert isinstance(data, bytes)
        return self._written(arguments[0], int(arguments[3]), data[:result])

    def _write(self, arguments: list[str | bytes], result: int) -> bool:
        opened, data = self._opened.get(int(arguments[0])), arguments[1]
        assert isinstance(data, bytes)
        if opened is None:
            return False
        if opened.path == MARK:
            self.words.append(data.decode())
            return True
        opened.at += result
        return self._written(arguments[0], opened.at - result, data[:result])

    def _copy_file_range(self, arguments: list[str | bytes], result: int) -> bool:
        source, target = self._opened[int(arguments[0])], self._opened[int(arguments[2])]
        at = source.at if arguments[1] == "NULL" else int(arguments[1])
        assert arguments[3] == "NULL", "not seen yet"
        source.at += result if arguments[1] == "NULL" else 0
        target.at += result
        return self._written(
            arguments[2], target.at - result, bytes(self.files[source.file].body[at : at + result])
        )

    def _written(self, descriptor: str | bytes, at: int, data: bytes) -> bool:
        opened = self._opened.get(int(descriptor))
        if opened is None or opened.file < 0:
            return False
        self.files[opened.file].write(at, data)
        return True

    def _read(self, arguments: list[str | bytes], result: int) -> bool:
        if opened := self._opened.get(int(arguments[0])):
            opened.at += result
        return False

    def _lseek(self, arguments: list[str | bytes], result: int) -> bool:
        if opened := self._opened.get(int(arguments[0])):
            opened.at = result
        return False

    def _ftruncate(self, arguments: list[str | bytes], _result: int) -> bool:
        opened = self._opened.get(int(arguments[0]))
        if opened is None or opened.file < 0:
            return False
        self.files[opened.file].cut(int(arguments[1]))
        return True

    def _fsync(self, arguments: list[str | bytes], _result: int) -> bool:
        opened = self._opened.get(int(arguments[0]))
        if opened is None or opened.file < 0:
            return False
        if self.files[opened.file].is_folder:
            for change in self._changes:
                change.safe = change.safe or change.is_in(opened.path)
        else:
            self.files[opened.file].sync()
        return True

    _fdatasync = _fsync

    def _syncfs(self, _arguments: list[str | bytes], _result: int) -> bool:
        for file in self.files:
            if not file.is_folder:
                file.sync()
        self.keep_names()
        return True

    def _rename(self, arguments: list[str | bytes], _result: int) -> bool:
        old, new = (self._path("AT_FDCWD", argument) for argument in arguments[:2])
        self._names[new] = self._names.pop(old)
        self._changes.append(Name(old, new, self._names[new]))
        return True

    def _unlink(self, arguments: list[str | bytes], _result: int) -> bool:
        return self._remove(self._path("AT_FDCWD", arguments[0]))

    _rmdir = _unlink

    def _unlinkat(self, arguments: list[str | bytes], _result: int) -> bool:
        return self._remove(self._path(arguments[0], arguments[1]))

    def _remove(self, path: str) -> bool:
        self._changes.append(Name(path, "", self._names.pop(path)))
        return True

    def _make(self, path: str, *, is_folder: bool) -> int:
        self.files.append(File(is_folder=is_folder))
        number = len(self.files) - 1
        self._names[path] = number
        self._changes.append(Name("", path, number))
        return number

    def _path(self, folder: str | bytes, name: str | bytes) -> str:
        path = name.decode() if isinstance(name, bytes) else name
        if path.startswith("/"):
            return os.path.normpath(path)
        base = self.root if folder == "AT_FDCWD" else self._opened[int(folder)].path
        return os.path.normpath(f"{base}/{path}")


def _put(body: bytearray, at: int, data: bytes) -> None:
    if len(body) < at:
        body.extend(bytes(at - len(body)))
    body[at : at + len(data)] = data


def _cut(body: bytearray, size: int) -> None:
    if size < len(body):
        del body[size:]
    else:
        body.extend(bytes(size - len(body)))
