"""Files that appear whole under their name, or not at all.

Paths are strings here: these calls are made for every tile, and a `Path` costs more than the call.
"""

import os

TEMP_SUFFIX = ".tilehaul-tmp"

# Without waiting: a pipe left under a temporary name must not hold the writer.
_FLAGS = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_TRUNC
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)


def temp_path(path: str) -> str:
    """Where the bytes of `path` wait, in the same folder.

    One name per file: the store has one writer, and the next attempt overwrites what a killed one left.
    """
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}{TEMP_SUFFIX}"


def write_temp(path: str, body: bytes) -> int:
    """Write the body beside `path` and answer the open descriptor, not yet synced. OSError."""
    descriptor = os.open(temp_path(path), _FLAGS, 0o644)
    try:
        left = len(body) - os.write(descriptor, body)
        while left:
            left -= os.write(descriptor, memoryview(body)[-left:])
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def sync_and_close(descriptor: int, *, sync: bool) -> None:
    """A sync that fails is not tried again: the system may have dropped the bytes. OSError."""
    try:
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(path: str) -> None:
    """Give the waiting bytes their name; durable once the folder is synced. OSError."""
    os.replace(temp_path(path), path)  # noqa: PTH105  see the top of the file


def sync_folder(folder: str) -> None:
    """Make the names in a folder durable. OSError."""
    if os.name == "nt":
        return  # Windows cannot open a folder; its file system journals names itself
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
