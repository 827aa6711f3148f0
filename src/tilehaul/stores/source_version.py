"""What tells one state of an archive file from the next, without reading it."""

from datetime import UTC, datetime
from pathlib import Path

from tilehaul.ports.source import SourceVersion


def file_version(path: Path) -> SourceVersion | None:
    """Of a file on this disk: its size and time, and those of an SQLite log beside it, where a write may be
    alone. None where there is no file.

    To be asked for once the file is open: opening takes back what a dead writer had not committed. Reading
    changes neither: a log that SQLite makes for a reader is empty, and an empty one does not count.
    """
    size_bytes, time_ns, token = 0, 0, []
    for part in (path, Path(f"{path}-wal")):
        try:
            status = part.stat()
        except OSError:
            continue
        if status.st_size:
            size_bytes += status.st_size
            time_ns = max(time_ns, status.st_mtime_ns)
            token.append(f"{status.st_size}:{status.st_mtime_ns}")
    if not token:
        return None
    written = datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(" ", "milliseconds")
    return SourceVersion(" ".join(token), f"{size_bytes:,} bytes, written {written.partition('+')[0]} UTC")


def object_version(tag: str, modified: str, size: str) -> SourceVersion:
    """Of an object elsewhere, by what its server says of it: ETag, else time; empty where it says neither."""
    said = f"ETag {tag}" if tag else f"modified {modified}" if modified else ""
    shown = f"{said}, {size} bytes" if said else f"{size} bytes"
    return SourceVersion(f"{tag or modified} {size}", shown)
