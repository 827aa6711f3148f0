"""Files that appear whole under their name, or not at all."""

import os
from pathlib import Path

TEMP_SUFFIX = ".tilehaul-tmp"

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def temp_path(path: Path) -> Path:
    """Where the bytes of `path` wait. One name per file: the store has one writer, and the next
    attempt overwrites what a killed one left.
    """
    return path.with_name(f".{path.name}{TEMP_SUFFIX}")


def write_temp(path: Path, body: bytes) -> int:
    """Write the body beside `path` and answer the open descriptor, not yet synced. OSError."""
    descriptor = os.open(temp_path(path), _FLAGS, 0o644)
    try:
        left = memoryview(body)
        while left:
            left = left[os.write(descriptor, left) :]
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


def publish(path: Path) -> None:
    """Give the waiting bytes their name; durable once the folder is synced. OSError."""
    temp_path(path).replace(path)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. OSError."""
    if os.name == "nt":
        return  # Windows cannot open a folder; its file system journals names itself
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
