"""One PMTiles file on this disk, opened for reading."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import xxhash

from tilehaul.codec.pmtiles import (
    GZIP,
    HEAD_BYTES,
    METADATA_BYTES_MAX,
    VECTOR_TYPE,
    PmtilesHeader,
    Span,
    parse_header,
    parse_metadata,
    unpacked,
)
from tilehaul.codec.pmtiles_directory import Directories, Entry
from tilehaul.codec.sniff import sniff
from tilehaul.errors import DataError, PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.tile import Tile
from tilehaul.stores.disk_errors import TILE_BYTES_MAX, from_os
from tilehaul.stores.pmtiles_metadata import rows_of

T = TypeVar("T")
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0)


class PmtilesFile:
    """Header, metadata and directories of one file, and its tiles' bytes. Used by one thread at a time.

    It stays the file that was opened, also when another takes its name.

    Raises:
        PlanError: There is no such file, or it needs what tilehaul does not read.
        DataError: It is damaged, or no PMTiles (`corrupt_archive`).
        StorageError: The disk refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise PlanError(f"{path} is no file" if path.exists() else f"{path}: no such file")
        try:
            self._descriptor = os.open(path, _FLAGS)
        except OSError as error:
            raise from_os(error, path, "reading") from error
        try:
            self._open()
        except DataError as error:
            self.close()
            raise DataError(
                f"{path} is damaged or no PMTiles archive: {error}", cause="corrupt_archive"
            ) from error
        except PlanError as error:
            self.close()
            raise PlanError(f"{path}: {error}") from error
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        status = os.fstat(self._descriptor)
        self.inode = (status.st_dev, status.st_ino)
        self.size_bytes = status.st_size
        head = read_at(self._descriptor, self.path, Span(0, min(HEAD_BYTES, self.size_bytes)))
        self.header: PmtilesHeader = parse_header(head, size_bytes=self.size_bytes)
        self._directories = Directories(self.header, head)
        packed = read_at(self._descriptor, self.path, self.header.metadata)
        self.document = parse_metadata(
            unpacked(packed, self.header.internal_compression, METADATA_BYTES_MAX, "its metadata")
        )
        self.metadata = rows_of(self.header, self.document)
        # Of the metadata that tilehaul writes, `tilehaul_build` follows every tile's bytes.
        self.fingerprint = fingerprint_of(self.size_bytes, head, packed)

    @property
    def empty(self) -> bool:
        """Whether it holds no tile."""
        return self._directories.empty

    def find(self, number: int) -> Entry | None:
        """The entry of a tile by its PMTiles id. DataError, StorageError."""
        steps = self._directories.find(number)
        try:
            span = next(steps)
            while True:
                span = steps.send(read_at(self._descriptor, self.path, span))
        except StopIteration as end:
            found: Entry | None = end.value
            return found
        except DataError as error:
            raise self._damaged(error) from error

    def walk(self, after: int = -1) -> Iterator[Entry]:
        """The entries that hold tiles beyond an id, in order. DataError, StorageError."""
        steps: Generator[Span | list[Entry], bytes, None] = self._directories.walk(after)
        try:
            item = next(steps)
            while True:
                if isinstance(item, Span):
                    item = steps.send(read_at(self._descriptor, self.path, item))
                else:
                    yield from item
                    item = next(steps)
        except StopIteration:
            return
        except DataError as error:
            raise self._damaged(error) from error

    def body(self, entry: Entry) -> bytes:
        """The bytes kept for an entry, as they are kept."""
        if entry.length > TILE_BYTES_MAX:
            raise DataError(
                f"{self.path}: a tile of {entry.length} bytes, allowed are {TILE_BYTES_MAX}",
                cause="too_large",
            )
        return read_at(self._descriptor, self.path, self.span(entry))

    def span(self, entry: Entry) -> Span:
        """Where in the file an entry's bytes lie."""
        return Span(self.header.data.offset + entry.offset, entry.length)

    def tile(self, tile_id: TileId) -> Tile | None:
        """The tile, or None when it is not there."""
        entry = self.find(tile_id.pmtiles_id)
        if entry is None:
            return None
        return tile_from(self.header, tile_id, self.body(entry))

    def descriptor(self) -> int:
        """For copying from it; closed by `close`."""
        return self._descriptor

    def close(self) -> None:
        os.close(self._descriptor)

    def _damaged(self, error: DataError) -> DataError:
        return DataError(f"{self.path} is damaged: {error}", cause="corrupt_archive")


def fingerprint_of(size_bytes: int, head: bytes, metadata: bytes) -> str:
    """32 hex digits that tell two archives apart: size, first 16 KiB, metadata as they are kept."""
    return xxhash.xxh3_128_hexdigest(b"%d:%d:" % (size_bytes, len(head)) + head + metadata)


def tile_from(header: PmtilesHeader, tile_id: TileId, kept: bytes) -> Tile:
    """The tile of the bytes an archive keeps. Vector tiles stay zipped; anything else is unzipped.

    Raises DataError (`corrupt_archive`).
    """
    body = kept
    if header.tile_compression == GZIP and header.tile_type > VECTOR_TYPE:
        body = unpacked(kept, GZIP, TILE_BYTES_MAX, f"tile {tile_id}")
    return Tile(tile_id, body, sniff(body) or header.media_type, "store")


def read_at(descriptor: int, path: Path, span: Span) -> bytes:
    """Exactly the bytes of a span. DataError (`corrupt_archive`) when the file ends before; StorageError."""
    try:
        body = os.pread(descriptor, span.length, span.offset)
        while len(body) < span.length:
            piece = os.pread(descriptor, span.length - len(body), span.offset + len(body))
            if not piece:
                raise DataError(f"{path} ends within its tiles: it was cut off", cause="corrupt_archive")
            body += piece
    except OSError as error:
        raise from_os(error, path, "reading") from error
    return body
