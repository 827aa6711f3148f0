"""A PMTiles file elsewhere, read by ranges: one request for the head, one a leaf directory, one a tile."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection, Sequence

from tilehaul.codec.pmtiles import (
    HEAD_BYTES,
    METADATA_BYTES_MAX,
    Span,
    parse_header,
    parse_metadata,
    unpacked,
)
from tilehaul.codec.pmtiles_directory import Directories, Entry, expanded
from tilehaul.errors import DataError, PlanError
from tilehaul.grid.tile_id import ZOOM_MAX, TileId
from tilehaul.policy.causes import REPLACED
from tilehaul.policy.freshness import ABSENT_FRESH_S
from tilehaul.ports.origin import UNNAMED, Heard, Validators
from tilehaul.ports.ranges import RangeReader
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import DeadLetter, State, StoreInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores.archive_metadata import source_info_of
from tilehaul.stores.disk_errors import TILE_BYTES_MAX
from tilehaul.stores.pmtiles_file import tile_from
from tilehaul.stores.pmtiles_metadata import rows_of
from tilehaul.stores.pmtiles_view import first_of_zoom, zoom_of
from tilehaul.stores.record import has_completed, parse_record, state_of


class RemotePmtiles:
    """`TileArchive` for reading over a `RangeReader`. Directories are kept as far as `Directories` has room.

    Every method raises what the reader raises, and DataError (`corrupt_archive`) for a damaged file.
    The reader stays its opener's to close.

    A file that is replaced ends all methods but `ask` with DataError (`replaced`): no job mixes two files.
    """

    def __init__(self, reader: RangeReader) -> None:
        self._reader = reader
        self._opening: asyncio.Task[Directories] | None = None
        self._reads: dict[Span, asyncio.Task[bytes]] = {}
        self._rows: dict[str, str] = {}
        # Whom `ask` asks: the file that was opened, or the one that has taken its place.
        self._current = self

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        return (await self.ask_this_file(tile_id)).told

    async def ask(self, tile_id: TileId, named: Validators = UNNAMED) -> Heard:
        """See `Askable.ask`: the names are the file's. One that was replaced is opened anew.

        Raises as `get`, but `replaced` only when that happens twice meanwhile.
        """
        current = self._current
        try:
            return await current.ask_this_file(tile_id, named, checks=True)
        except DataError as error:
            if error.cause != REPLACED:
                raise
        if self._current is current:
            self._current = RemotePmtiles(self._reader.again())
        return await self._current.ask_this_file(tile_id, named)

    async def ask_this_file(
        self, tile_id: TileId, named: Validators = UNNAMED, *, checks: bool = False
    ) -> Heard:
        """As `ask`, but raises `replaced`. `checks`: before a tile is called absent the file must have been
        seen not long ago.
        """
        z, x, y = tile_id.z, tile_id.x, tile_id.y
        if not 0 <= z <= ZOOM_MAX or not 0 <= x < 1 << z or not 0 <= y < 1 << z:
            return Heard(NoTile(tile_id, "not_stored", "store"))
        directories = await self._opened()
        entry = await self._find(directories, tile_id)
        if entry is None:
            if checks:
                await self._reader.confirm(ABSENT_FRESH_S)
            return Heard(NoTile(tile_id, "not_stored", "store"))
        if entry.length > TILE_BYTES_MAX:
            raise DataError(f"{self._reader.shown}: a tile of {entry.length} bytes", cause="too_large")
        header = directories.header
        # Bytes are the same as long as the file is, and this reader's offsets are good for its own file only.
        known = named if named == self._reader.named else UNNAMED
        part = await self._reader.ask(header.data.offset + entry.offset, entry.length, known)
        if part.body is None:
            return Heard(None, part.headers)
        self._check_length(part.body, entry.length)
        return Heard(tile_from(header, tile_id, part.body), part.headers)

    async def _find(self, directories: Directories, tile_id: TileId) -> Entry | None:
        steps = directories.find(tile_id.pmtiles_id)
        try:
            span = next(steps)
            while True:
                span = steps.send(await self._once(span))
        except StopIteration as end:
            found: Entry | None = end.value
            return found
        except DataError as error:
            raise self._damaged(error) from error

    async def tile_ids(self) -> AsyncIterator[TileId]:
        async for entry in self._walk():
            for number, _, _ in expanded([entry], -1):
                yield TileId.from_pmtiles_id(number)

    async def _walk(self) -> AsyncIterator[Entry]:
        steps = (await self._opened()).walk(-1)
        try:
            item = next(steps)
            while True:
                if isinstance(item, Span):
                    item = steps.send(await self._once(item))
                else:
                    for entry in item:
                        yield entry
                    item = next(steps)
        except StopIteration:
            return
        except DataError as error:
            raise self._damaged(error) from error

    async def _once(self, span: Span) -> bytes:
        """Many tiles of one leaf ask for it with one request; one who leaves does not stop the others."""
        task = self._reads.get(span)
        if task is None:
            task = self._reads[span] = asyncio.create_task(self._whole(span))
            task.add_done_callback(lambda _: self._reads.pop(span, None))
        return await asyncio.shield(task)

    async def _whole(self, span: Span) -> bytes:
        body = await self._reader.read(*span)
        self._check_length(body, span.length)
        return body

    def _check_length(self, body: bytes, length: int) -> None:
        if len(body) < length:
            raise DataError(f"{self._reader.shown} ends early: it was cut off", cause="corrupt_archive")

    async def dead_letters(self, *, causes: Collection[str] = ()) -> AsyncIterator[DeadLetter]:  # noqa: ARG002
        """None: they stay with the journal, on the machine that wrote the file."""
        letters: tuple[DeadLetter, ...] = ()
        for letter in letters:
            yield letter

    async def states(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        directories = await self._opened()
        return ["done" if await self._find(directories, i) is not None else None for i in tile_ids]

    async def has_completed(self, area_identity: str) -> bool:
        await self._opened()
        return has_completed(parse_record(self._rows, self._reader.shown), area_identity)

    async def describe(self) -> StoreInfo:
        """Reads every leaf directory; `bytes` is up to the end of the last section."""
        header = (await self._opened()).header
        by_zoom: dict[int, int] = {}
        async for entry in self._walk():
            number, stop = entry.first, entry.first + entry.run
            while number < stop:
                zoom = zoom_of(number)
                upto = min(stop, first_of_zoom(zoom + 1))
                by_zoom[zoom] = by_zoom.get(zoom, 0) + upto - number
                number = upto
        record = parse_record(self._rows, self._reader.shown)
        dead = 0
        if record is not None:
            dead = sum(job.counts.dead for job in record.unfinished if job.counts is not None)
        return StoreInfo(
            location=self._reader.shown,
            kind="pmtiles",
            tiles=sum(by_zoom.values()),
            absent=0,
            dead=dead,
            bytes=max(span.stop for span in (header.root, header.metadata, header.leaves, header.data)),
            state=state_of(record, dead=dead),
            metadata=dict(self._rows),
            tiles_by_zoom=by_zoom,
        )

    async def source_info(self) -> SourceInfo:
        directories = await self._opened()
        header, shown = directories.header, self._reader.shown
        return source_info_of(
            self._rows,
            name=shown,
            identity=hashlib.sha256(f"pmtiles:{shown}".encode()).hexdigest()[:32],
            zooms=None if directories.empty else (header.zoom_min, header.zoom_max),
            bounds=None,
            media_type=header.media_type,
            version=self._reader.version,
        )

    async def close(self) -> None:
        if self._current is not self:
            await self._current.close()
        for task in list(self._reads.values()):
            task.cancel()

    async def _opened(self) -> Directories:
        """The head, read once for all who ask; again after a failure."""
        if self._opening is None or (self._opening.done() and _has_failed(self._opening)):
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> Directories:
        shown = self._reader.shown
        head = await self._reader.read(0, HEAD_BYTES)
        try:
            header = parse_header(head)
            directories = Directories(header, head)
            span = header.metadata
            packed = head[span.offset : span.stop]
            if len(packed) < span.length:
                packed = await self._whole(span)
            plain = unpacked(packed, header.internal_compression, METADATA_BYTES_MAX, "its metadata")
            self._rows = rows_of(header, parse_metadata(plain))
        except DataError as error:
            raise self._damaged(error) from error
        except PlanError as error:
            raise PlanError(f"{shown}: {error}") from error
        return directories

    def _damaged(self, error: DataError) -> DataError:
        shown = self._reader.shown
        text = str(error)
        return DataError(text if text.startswith(shown) else f"{shown}: {text}", cause=error.cause)


def _has_failed(task: "asyncio.Task[Directories]") -> bool:
    return task.cancelled() or task.exception() is not None
