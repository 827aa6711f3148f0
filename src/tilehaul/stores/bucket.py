"""A bucket of loose tiles (S3, R2) as a store: `prefix/{z}/{x}/{y}.{ext}`; its journal is on this machine."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import islice
from pathlib import Path

from tilehaul.codec.sniff import media_type_of
from tilehaul.errors import DataError, PlanError, StorageError, TransferError
from tilehaul.grid.tile_id import ZOOM_MAX, TileId
from tilehaul.ports.origin import UNNAMED, Heard, Validators
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import DeadLetter, JobCounts, JobKey, Outcome, State, StoreInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.ports.wire import Sender
from tilehaul.stores import journal
from tilehaul.stores.archive_metadata import (
    Bounds,
    bounds_of_columns,
    completed_metadata,
    parse_bounds,
    source_info_of,
)
from tilehaul.stores.bucket_keys import METADATA_KEY, metadata_of, tile_of
from tilehaul.stores.bucket_objects import BucketObjects
from tilehaul.stores.bucket_tiles import BucketTiles
from tilehaul.stores.bucket_writer import BucketWriter
from tilehaul.stores.directory_files import plain_number
from tilehaul.stores.journal_file import MIXED, JournalFile, read_dead_letters, read_journal, read_notes
from tilehaul.stores.record import PREFIX, has_completed, parse_record, state_of
from tilehaul.stores.sqlite_file import Durability
from tilehaul.stores.threaded import WALK_ITEMS
from tilehaul.stores.worker_thread import WorkerThread

# A foreign bucket's bounds are looked for in so many keys (ten requests); beyond, it is taken for the world.
BOUNDS_KEYS_MAX = 10_000
OpenSender = Callable[[], AbstractAsyncContextManager[Sender]]

# Tiles seldom change and have no version in their names: a day (`contracts` leaves it to the operator).
CACHE_CONTROL_DEFAULT = "public, max-age=86400"


class BucketStore:
    """`JobStore` and `TileArchive` on one bucket and prefix; nothing is sent before the first call.

    Args:
        url: Endpoint, bucket and prefix as one address that ends in `/`.
        shown: The location for people, `s3://bucket/prefix`.
        open_sender: Opens the sender to the bucket: signed, laned, retried, `expect="any"` honoured.
        journal: The journal's file.
        cache_control: Sent with every tile, kept by the bucket. Empty: none.
    """

    def __init__(
        self,
        url: str,
        *,
        shown: str,
        open_sender: OpenSender,
        journal: Path,
        durability: Durability = "full",
        cache_control: str = CACHE_CONTROL_DEFAULT,
    ) -> None:
        self.shown = shown
        self._url = url
        self._open_sender = open_sender
        self._cache_control = cache_control
        self._journal_path = journal
        self._journal = JournalFile(journal, location=shown, durability=durability)
        self._thread = WorkerThread("bucket-journal")
        self._stack: AsyncExitStack | None = None
        self._tiles: BucketTiles | None = None
        self._begun = False
        self._writer: BucketWriter | None = None

    # Writing

    async def begin(self, job: JobKey, *, force_source: bool = False) -> JobCounts | None:
        """See `JobStore.begin`. Lists the bucket's first keys; deletes what a crash has left of old formats.

        What is there already is kept when forced, unless the job replaces it.

        StorageError when the bucket cannot be listed, or lets nothing be deleted.
        """
        tiles = await self._opened()
        # Looked up below, once the journal is ours.
        tiles.left_over = tiles.left_over or set()
        try:
            has_tiles = bool(await tiles.frequent())
        except (TransferError, DataError) as error:
            raise StorageError(f"{self.shown} cannot be written: {error}") from error
        self._begun = True
        counts = await self._thread.run(
            lambda: self._journal.begin(job, has_tiles=has_tiles, force_source=force_source)
        )
        writer = BucketWriter(
            tiles,
            self._journal,
            self._thread,
            shown=self.shown,
            cache_control=self._cache_control,
            mixed=MIXED in await self._thread.run(self._journal.metadata),
            replaces=job.replaces,
        )
        try:
            await writer.sweep()
        except BaseException:
            await self._thread.run(self._journal.close)
            raise
        self._writer = writer
        return counts

    async def settled(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        """From the journal alone: asking the bucket for each tile would cost as much as fetching it."""
        self._begun_writer()
        return await self._thread.run(self._journal.settled, tile_ids)

    async def commit(self, outcomes: Sequence[Outcome]) -> None:
        """See `JobStore.commit`. StorageError when the bucket refuses one of them: none is journalled.

        StorageError also when an old object cannot be deleted: all is journalled then, `begin` tries again.
        """
        writer = self._begun_writer()
        await writer.commit(outcomes)

    async def finish(self, *, complete: bool, counts: JobCounts | None = None) -> None:
        self._begun_writer()
        told = await self._thread.run(self._journal.metadata)
        extensions = await (await self._opened()).frequent()
        filled = completed_metadata(
            told,
            name=self.shown.rstrip("/").rpartition("/")[2],
            zooms=await self._zooms(),
            bounds=None,
            media_type=media_type_of(extensions[0]) if extensions else "",
        )
        after = await self._thread.run(
            lambda: self._journal.finish(complete=complete, counts=counts, metadata=filled)
        )
        # Journal rows are this machine's business; the rest is for whoever opens the bucket.
        public = {name: value for name, value in after.items() if not name.startswith(PREFIX)}
        body = json.dumps(public, ensure_ascii=False, indent=1).encode()
        objects = (await self._opened()).objects
        try:
            await objects.put(METADATA_KEY, body, (("Content-Type", "application/json"),))
        except (TransferError, DataError) as error:
            raise StorageError(f"{self.shown} refused {METADATA_KEY}: {error}") from error

    async def close(self) -> None:
        """Let go of journal and connections. What was committed stays; safe to call twice."""
        try:
            self._writer = None
            if self._begun:
                self._begun = False
                await self._thread.run(self._journal.close)
        finally:
            await self._thread.stop()
            stack, self._stack, self._tiles = self._stack, None, None
            if stack is not None:
                await stack.aclose()

    def _begun_writer(self) -> BucketWriter:
        if self._writer is None:
            raise PlanError("a store is written only between begin and close")
        return self._writer

    # Reading

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """The tile, `place="store"`, or NoTile(`not_stored`). See `BucketTiles` for what it costs.

        Raises TransferError or DataError as the sender.
        """
        return (await self.ask(tile_id)).told

    async def ask(self, tile_id: TileId, named: Validators = UNNAMED) -> Heard:
        """See `Askable.ask`: the names are the object's. Raises as `get`."""
        z, x, y = tile_id.z, tile_id.x, tile_id.y
        found = None
        if 0 <= z <= ZOOM_MAX and 0 <= x < 1 << z and 0 <= y < 1 << z:
            found = await (await self._opened()).ask(tile_id, named)
        return found or Heard(NoTile(tile_id, "not_stored", "store"))

    async def tile_ids(self) -> AsyncIterator[TileId]:
        """Every tile kept, in the order of their keys."""
        async for tile_id, _, _ in (await self._opened()).walk():
            yield tile_id

    async def dead_letters(self, *, causes: Collection[str] = ()) -> AsyncIterator[DeadLetter]:
        """See `JobStore.dead_letters`; also without `begin`."""
        letters = read_dead_letters(self._journal_path, causes)
        while page := await asyncio.to_thread(lambda: list(islice(letters, WALK_ITEMS))):
            for letter in page:
                yield letter

    async def states(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        """See `TileArchive.states`. A bucket without a journal here is asked for each tile."""
        noted = await asyncio.to_thread(read_notes, self._journal_path, tile_ids)
        if noted is not None:
            return noted
        tiles = await self._opened()
        found = await asyncio.gather(*map(tiles.has, tile_ids))
        return ["done" if is_there else None for is_there in found]

    async def has_completed(self, area_identity: str) -> bool:
        metadata, _ = await self._told()
        return has_completed(parse_record(metadata, self.shown), area_identity)

    async def describe(self) -> StoreInfo:
        """Lists every key: a thousand a request."""
        metadata, noted = await self._told()
        by_zoom: dict[int, int] = {}
        bytes_kept = 0
        async for tile_id, _, size_bytes in (await self._opened()).walk():
            by_zoom[tile_id.z] = by_zoom.get(tile_id.z, 0) + 1
            bytes_kept += size_bytes
        return StoreInfo(
            location=self.shown,
            kind="bucket",
            tiles=sum(by_zoom.values()),
            absent=noted.absent,
            dead=noted.dead,
            bytes=bytes_kept,
            state=state_of(parse_record(metadata, self.shown), dead=noted.dead),
            metadata=metadata,
            tiles_by_zoom=dict(sorted(by_zoom.items())),
            dropped=noted.dropped,
            dead_causes=noted.dead_causes,
        )

    async def source_info(self) -> SourceInfo:
        """From `metadata.json`, else the journal; the format, where they name none, from the first key."""
        metadata, _ = await self._told()
        answer = await (await self._opened()).objects.get(METADATA_KEY)
        if answer is not None:
            metadata |= metadata_of(answer.body)
        zooms = await self._zooms()
        bounds = None
        if zooms is not None and parse_bounds(metadata.get("bounds", "")) is None:
            bounds = await self._bounds(zooms[1])
        extensions = await (await self._opened()).frequent()
        return source_info_of(
            metadata,
            name=self.shown,
            identity=f"bucket:{self._url}",
            zooms=zooms,
            bounds=bounds,
            media_type=media_type_of(extensions[0]) if extensions else "",
        )

    async def _zooms(self) -> tuple[int, int] | None:
        names = await (await self._opened()).objects.folders()
        zooms = [int(name) for name in names if plain_number(name) and int(name) <= ZOOM_MAX]
        return (min(zooms), max(zooms)) if zooms else None

    async def _bounds(self, zoom: int) -> Bounds | None:
        """The box of one zoom's tiles; None when its keys are more than BOUNDS_KEYS_MAX."""
        found: list[TileId] = []
        async for key, _ in (await self._opened()).objects.keys(f"{zoom}/"):
            if (parsed := tile_of(key)) is not None:
                found.append(parsed[0])
            if len(found) > BOUNDS_KEYS_MAX:
                return None
        if not found:
            return None
        columns, rows = [i.x for i in found], [i.y for i in found]
        return bounds_of_columns(zoom, (min(columns), max(columns)), (min(rows), max(rows)))

    async def _told(self) -> tuple[dict[str, str], journal.JournalCounts]:
        return await asyncio.to_thread(read_journal, self._journal_path)

    async def _opened(self) -> BucketTiles:
        if self._tiles is None:
            stack = AsyncExitStack()
            sender = await stack.enter_async_context(self._open_sender())
            self._stack = stack
            self._tiles = BucketTiles(BucketObjects(self._url, sender), self._journal_path)
        return self._tiles
