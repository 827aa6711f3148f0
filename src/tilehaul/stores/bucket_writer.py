"""Writing to a bucket: the objects first, then the journal, then what is no more to be goes."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tilehaul.errors import DataError, PlanError, StorageError, TransferError, first_error
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import DeadLetter, Deleted, Dropped, Outcome
from tilehaul.ports.tile import Tile
from tilehaul.stores import journal
from tilehaul.stores.bucket_keys import headers_for, key_of
from tilehaul.stores.bucket_tiles import BucketTiles
from tilehaul.stores.directory_files import extension_for
from tilehaul.stores.journal_file import JournalFile
from tilehaul.stores.worker_thread import WorkerThread


@dataclass(frozen=True, slots=True)
class _Change:
    """What a commit does to the objects of one tile.

    `keeps` is the extension that the tile has afterwards, or ""; `old` go once the journal says so.
    `known`: the journal named an object before. `puts`: the object is written, `over` what may be there.
    """

    tile_id: TileId
    keeps: str
    old: tuple[str, ...] = ()
    known: bool = False
    puts: bool = False
    over: bool = False


class BucketWriter:
    """Commits of one job.

    Every object of a batch is acknowledged by the bucket before the journal is written, and an old one is
    deleted only then. A crash before the journal leaves objects it does not know; they are sent again and
    found to be there already. Of a tile that changes its format both may be left: see `leftovers`.

    Args:
        tiles: The bucket.
        journal_file: Begun.
        thread: The journal's own.
        shown: The location for people.
        cache_control: Sent with every tile. Empty: none.
        mixed: There may be tiles that the journal does not know: each is looked for before it is written.
        replaces: See `JobKey.replaces`; otherwise those tiles stay.
    """

    def __init__(
        self,
        tiles: BucketTiles,
        journal_file: JournalFile,
        thread: WorkerThread,
        *,
        shown: str,
        cache_control: str,
        mixed: bool,
        replaces: bool,
    ) -> None:
        self._shown = shown
        self._tiles = tiles
        self._journal = journal_file
        self._thread = thread
        self._cache_control = cache_control
        self._mixed = mixed
        self._replaces = replaces

    async def commit(self, outcomes: Sequence[Outcome]) -> None:
        """See `BucketStore.commit`."""
        for run in journal.distinct_runs(outcomes):
            await self._commit_run(run)

    async def _commit_run(self, run: Sequence[Outcome]) -> None:
        tiles = self._tiles
        notes = await self._thread.run(self._journal.notes, [outcome.tile_id for outcome in run])
        with self._refusals("refused to be asked for a tile"):
            async with asyncio.TaskGroup() as group:
                planned = [group.create_task(self._change(*one)) for one in zip(run, notes, strict=True)]
        changes = [task.result() for task in planned]
        # Another format has another key: until the journal names the new object, it is the one to go.
        coming = [(i.tile_id, i.keeps) for i in changes if i.known and i.puts and i.old]
        if coming:
            await self._thread.run(self._journal.note_left_over, coming)
            tiles.left_over = (tiles.left_over or set()) | {key_of(*one) for one in coming}
        with self._refusals("refused a tile"):
            async with asyncio.TaskGroup() as group:
                for outcome, change in zip(run, changes, strict=True):
                    if change.puts and isinstance(outcome, Tile):
                        group.create_task(self._put(outcome, change))
        going = [(change.tile_id, extension) for change in changes for extension in change.old]
        details = {change.tile_id: change.keeps for change in changes}
        await self._thread.run(self._journal.commit, run, details, going)
        for change in changes:
            if change.puts:
                tiles.wrote(change.tile_id, change.keeps)
        if going or tiles.left_over:
            await self.sweep()

    async def _change(self, outcome: Outcome, note: tuple[int, str] | None) -> _Change:
        tile_id = outcome.tile_id
        known = bool(note is not None and note[0] != journal.ABSENT and note[1])
        there = [note[1]] if known and note is not None else []
        stays = isinstance(outcome, DeadLetter | Dropped)
        looked_for = isinstance(outcome, Tile | Deleted) or (stays and self._replaces)
        if self._mixed and not known and looked_for:
            # Somebody else's, under any extension. Noted with a dead letter, a retry replaces it.
            there = await self._tiles.extensions_of(tile_id)
        kept = there and not known and not self._replaces and not isinstance(outcome, Deleted)
        if stays or kept:
            return _Change(tile_id, there[0] if there else "")
        if not isinstance(outcome, Tile):
            return _Change(tile_id, "", tuple(there))
        new = extension_for(outcome, without="a bucket has no key")
        old = tuple(extension for extension in there if extension != new)
        return _Change(tile_id, new, old, known=known, puts=True, over=bool(there))

    async def _put(self, tile: Tile, change: _Change) -> None:
        headers = headers_for(tile, self._cache_control)
        key = key_of(tile.tile_id, change.keeps)
        objects = self._tiles.objects
        if change.over:
            await objects.put(key, tile.body, headers)
        else:
            await objects.create(key, tile.body, headers, keep_other=self._mixed and not self._replaces)

    async def sweep(self) -> None:
        """Delete what the journal does not name, of tiles that have changed. StorageError."""
        tiles = self._tiles
        gone = {key_of(*one) for one in await self._thread.run(self._journal.left_over)}
        tiles.left_over = gone
        with self._refusals("did not delete an object that is replaced (allow it, and run the same again)"):
            async with asyncio.TaskGroup() as group:
                for key in gone:
                    group.create_task(tiles.objects.delete(key))
        await self._thread.run(self._journal.forget_left_over)
        tiles.left_over = set()

    @contextmanager
    def _refusals(self, words: str) -> Iterator[None]:
        try:
            yield
        except* (TransferError, DataError, PlanError, StorageError) as errors:
            error = first_error(errors)
            raise StorageError(f"{self._shown} {words}: {error}") from error
