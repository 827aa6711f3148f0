"""A spool, and the file it adds to, become the new file."""

import json
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import apsw

from tilehaul.codec.pmtiles import (
    GZIP,
    HEADER_BYTES,
    NONE,
    TILE_TYPES,
    UNKNOWN,
    VECTOR_TYPE,
    PmtilesHeader,
    Span,
    header_bytes,
    packed,
    tile_type_of,
)
from tilehaul.codec.pmtiles_directory import Entry, expanded
from tilehaul.codec.sniff import VECTOR_TILE, sniff
from tilehaul.errors import PlanError
from tilehaul.ports.store import JobCounts, JobKey
from tilehaul.stores import journal
from tilehaul.stores.archive_metadata import completed_metadata, format_of, media_type_of_format
from tilehaul.stores.atomic_file import sync_folder
from tilehaul.stores.free_space import check_free
from tilehaul.stores.metadata_table import read_metadata
from tilehaul.stores.pmtiles_file import PmtilesFile
from tilehaul.stores.pmtiles_layout import Layout, plan_layout, write_archive
from tilehaul.stores.pmtiles_metadata import bounds_in, center_in, document_of
from tilehaul.stores.pmtiles_spool import BASE_KEY, NEXT, Spool, part_path, write_marks
from tilehaul.stores.pmtiles_view import View
from tilehaul.stores.record import PREFIX, StoreRecord, parse_record
from tilehaul.stores.sqlite_file import WritableFile

# In the metadata of every file we write: follows each address and each body in it.
BUILD = PREFIX + "build"
# Of the file that is added to, so much goes into the index in one transaction, and so much is read at once.
IMPORT_TILES = 1000
IMPORT_BYTES = 16 * 1024 * 1024


def check_addable(path: Path, kept: str, base: PmtilesFile | None, job: JobKey) -> None:
    """PlanError when tiles of a job cannot be put beside those there, whose media type is `kept`."""
    new = media_type_of_format(dict(job.metadata).get("format", "")) or kept
    if kept and (kept == VECTOR_TILE) != (new == VECTOR_TILE):
        raise PlanError(f"{path} holds {format_of(kept)} tiles; {format_of(new)} cannot be added to them")
    if base is None:
        return
    if base.header.tile_compression not in ((GZIP,) if kept == VECTOR_TILE else (NONE, UNKNOWN)):
        raise PlanError(
            f"{path} keeps its tiles in another compression than tilehaul writes: "
            "copy it into a new file first"
        )


def final_rows(
    path: Path, before: dict[str, str], view: View, spool: Spool, job: JobKey, *, names_format: bool
) -> dict[str, str]:
    """The metadata with what the tiles say where nobody else did; without `names_format` no format."""
    # A mirror may have taken the last tile of a zoom out of the file whose header still has it.
    zooms = view.zooms_counted() if job.mirrors else view.zooms()
    # Some kind that PMTiles has no code for.
    other = sniff(spool.head()) if spool.stop else ""
    rows = completed_metadata(
        before,
        name=path.stem,
        zooms=zooms,
        bounds=view.bounds(zooms[1]) if zooms and "bounds" not in before else None,
        media_type=view.media_type() or other,
    )
    return rows if names_format else {name: text for name, text in rows.items() if name != "format"}


def ends_here(job: JobKey, record: StoreRecord, *, complete: bool, counts: JobCounts | None) -> bool:
    """Whether nothing of the job is pending, so that the file can be made; dead tiles can wait."""
    if job.replay:
        return all(other.counts is not None for other in record.unfinished)
    return complete or (counts is not None and counts.total == job.planned)


def holds_all(base: PmtilesFile, connection: apsw.Connection, location: str) -> bool:
    """Whether a journal without tiles knows nothing that the file does not. Raises apsw.Error."""
    record = parse_record(base.metadata, location)
    return (
        read_metadata(connection) == base.metadata
        and (record is None or not record.unfinished)
        and not journal.has_dead(connection)
        and not journal.has_dropped(connection)
    )


def merge(
    path: Path,
    file: WritableFile,
    spool: Spool,
    base: PmtilesFile | None,
    rows: dict[str, str],
    *,
    free_bytes_min: int,
) -> bool:
    """Put a new file in place, durably; False without a tile: an archive of none cannot be.

    The journal names the file that comes (`NEXT`) before it is renamed, so that whoever finds it knows
    that the spool is merged. Begins anew after a crash. `rows` without a format get that of most tiles.

    Raises:
        DataError: `base` is damaged.
        StorageError: The disk is too small or refused.
        OSError: As it came.
    """
    if base is not None:
        _import(file, spool, base)
    folder = part_path(path)
    with file.translated("reading"):
        layout = plan_layout(file.connection, folder)
        if layout is None:
            return False
        view = View(file.connection, base)
        tile_type = view.tile_type() if "format" in rows else view.tile_type_counted()
    named = format_of(TILE_TYPES.get(tile_type, ""))
    if named:
        rows = {"format": named} | rows
    metadata = packed(
        json.dumps(document_of(rows | {BUILD: layout.build}), ensure_ascii=False, sort_keys=True).encode(
            "utf-8", "replace"
        )
    )
    header = _header(layout, len(metadata), tile_type, rows)
    check_free(folder, free_bytes_min + header.data.stop)
    archive = write_archive(
        header_bytes(header) + layout.root + metadata,
        folder,
        spool=spool.descriptor,
        base=None if base is None else base.descriptor(),
        base_data=0 if base is None else base.header.data.offset,
    )
    written = PmtilesFile(archive)
    written.close()
    with file.transaction() as connection:
        write_marks(connection, **{NEXT: written.fingerprint})
    os.replace(archive, path)  # noqa: PTH105  as everywhere in the stores
    sync_folder(str(path.parent))
    return True


def _header(layout: Layout, metadata_bytes: int, tile_type: int, rows: dict[str, str]) -> PmtilesHeader:
    root = Span(HEADER_BYTES, len(layout.root))
    metadata = Span(root.stop, metadata_bytes)
    leaves = Span(metadata.stop, layout.leaves_bytes)
    return PmtilesHeader(
        root,
        metadata,
        leaves,
        Span(leaves.stop, layout.data_bytes),
        layout.addressed,
        layout.entries,
        layout.contents,
        clustered=True,
        tile_compression=GZIP if tile_type == VECTOR_TYPE else NONE,
        tile_type=tile_type,
        zoom_min=layout.zooms[0],
        zoom_max=layout.zooms[1],
        bounds_deg=bounds_in(rows),
        center=center_in(rows, layout.zooms),
    )


def _import(file: WritableFile, spool: Spool, base: PmtilesFile) -> None:
    """Index the tiles of `base` that neither the spool nor an absence replaces; their bytes stay there."""
    tiles = expanded(base.walk(), -1)
    while batch := list(islice(tiles, IMPORT_TILES)):
        with file.transaction() as connection:
            hidden = View(connection, None).hidden([number for number, _, _ in batch])
            wanted = [tile for tile in batch if tile[0] not in hidden]
            if not wanted:
                continue
            keys = {BASE_KEY + offset: length for _, offset, length in wanted}
            known = connection.execute(
                "SELECT t.key FROM carray(?) AS c CROSS JOIN tilehaul_content AS t ON t.key = c.value",
                (apsw.carray(array("q", keys)),),
            )
            # Where each body is: its own place, unless equal bytes are in the spool.
            places = {int(row[0] or 0): int(row[0] or 0) for row in known}
            before = set(places)
            unknown = ((key, length) for key, length in keys.items() if key not in places)
            for group in _groups(unknown):
                bodies = [(key, *_read(base, key, length)) for key, length in group]
                placed = spool.place_base(bodies, base)
                placed.write(connection)
                places |= zip((key for key, _ in group), placed.keys, strict=True)
            rows = [(number, places[BASE_KEY + offset]) for number, offset, _ in wanted]
            connection.executemany("INSERT INTO tilehaul_tile VALUES (?, ?)", rows)
            # One more than there are, for most: that costs a look-up later, one too few a second copy.
            uses = Counter(key for _, key in rows)
            shared = [(key,) for key, count in uses.items() if count > 1 or key in before]
            connection.executemany("UPDATE tilehaul_content SET uses = uses + 1 WHERE key = ?", shared)


def _groups(contents: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Cut so that no group has many more than `IMPORT_BYTES`."""
    group: list[tuple[int, int]] = []
    size = 0
    for content in contents:
        group.append(content)
        size += content[1]
        if size >= IMPORT_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _read(base: PmtilesFile, key: int, length: int) -> tuple[bytes, int]:
    body = base.body(Entry(0, 1, key - BASE_KEY, length))
    return body, base.header.tile_type or tile_type_of(sniff(body))
