"""A store in memory, bounded by bytes: for tests, notebooks and the bench. Nothing survives the process."""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence

from tilehaul.errors import PlanError, StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.causes import is_among
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import DeadLetter, Deleted, Dropped, JobCounts, JobKey, Outcome, State, StoreInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores.archive_metadata import (
    Bounds,
    bounds_of_columns,
    completed_metadata,
    is_format_due,
    merged_with,
    source_info_of,
    with_format_of,
)
from tilehaul.stores.record import (
    StoreRecord,
    committed,
    counts_of,
    finished,
    has_completed,
    record_rows,
    reopened,
    state_of,
)
from tilehaul.stores.record_begin import begins_anew, decide_begin

BYTES_MAX = 256 * 1024 * 1024
# What a tile costs besides its body: id, values and dictionary slots, measured with CPython 3.11.
TILE_OVERHEAD_BYTES = 400


class MemoryStore:
    """`JobStore` and `TileArchive` in a dictionary, with the same rules as the durable stores.

    It outlives `close`: a second job may go on with it, as with a file.

    Args:
        name: What reports call it.
        bytes_max: Bodies and their overhead together; a commit beyond it raises StorageError and
            changes nothing.
    """

    def __init__(self, name: str = "memory", *, bytes_max: int = BYTES_MAX) -> None:
        self.name = name
        self.bytes_max = bytes_max
        self._tiles: dict[TileId, Tile] = {}
        self._bytes = 0
        self._notes: dict[TileId, NoTile | DeadLetter | Dropped] = {}
        self._metadata: dict[str, str] = {}
        self._record: StoreRecord | None = None
        self._job: JobKey | None = None
        self._writing = False

    # Writing

    async def begin(self, job: JobKey, *, force_source: bool = False) -> JobCounts | None:
        record = decide_begin(
            self._record,
            job,
            has_tiles=bool(self._tiles),
            force_source=force_source,
            location=self.name,
        )
        if begins_anew(self._record, job, has_tiles=bool(self._tiles)):
            self._notes.clear()
            self._metadata = {}
        self._job, self._record = job, record
        counts = counts_of(record, job)
        self._writing = counts is None
        if self._writing:
            self._metadata = merged_with(self._metadata, job)
        return counts

    async def settled(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        self._begun()
        return [self._state(tile_id) for tile_id in tile_ids]

    def _state(self, tile_id: TileId) -> State | None:
        note = self._notes.get(tile_id)
        if note is None:
            return "done" if tile_id in self._tiles else None
        if isinstance(note, Dropped):
            return "dropped"
        return "dead" if isinstance(note, DeadLetter) else "absent"

    async def commit(self, outcomes: Sequence[Outcome]) -> None:
        job, record = self._begun()
        latest = {outcome.tile_id: outcome for outcome in outcomes}
        # A dead letter keeps the bytes an earlier outcome of the same batch brought.
        bodies = {o.tile_id: o for o in outcomes if not isinstance(o, DeadLetter | Dropped)}
        grown = self._bytes + sum(_cost(new) - _cost(self._tiles.get(i)) for i, new in bodies.items())
        if grown > self.bytes_max:
            raise StorageError(
                f"{self.name}: full, {grown} bytes needed and {self.bytes_max} allowed (bytes_max)"
            )
        if not self._writing:
            record = reopened(record, job)
            self._writing = True
        for tile_id, kept in bodies.items():
            if isinstance(kept, Tile):
                self._tiles[tile_id] = Tile(tile_id, kept.body, kept.media_type, "store")
            else:
                self._tiles.pop(tile_id, None)
        for tile_id, outcome in latest.items():
            if isinstance(outcome, Tile | Deleted):
                self._notes.pop(tile_id, None)
            else:
                self._notes[tile_id] = outcome
        self._bytes = grown
        self._record = committed(record, job, outcomes)

    async def dead_letters(self, *, causes: Collection[str] = ()) -> AsyncIterator[DeadLetter]:
        for letter in sorted(self._dead(), key=lambda letter: letter.tile_id):
            if is_among(letter.cause, causes):
                yield letter

    async def finish(self, *, complete: bool, counts: JobCounts | None = None) -> None:
        job, record = self._begun()
        if not self._writing:
            return
        zooms = self._zooms()
        first = next(iter(self._tiles.values()), None)
        if is_format_due(self._metadata, job, complete=complete, counts=counts):
            kinds = Counter(tile.media_type for tile in self._tiles.values())
            self._metadata = with_format_of(self._metadata, kinds)
        self._metadata = completed_metadata(
            self._metadata,
            name=self.name,
            zooms=zooms,
            bounds=self._bounds(zooms[1]) if zooms else None,
            media_type=first.media_type if first else "",
        )
        self._writing = False
        dead = bool(self._dead())
        self._record = finished(record, job, counts, complete=complete, dead=dead)
        dropped = any(isinstance(note, Dropped) for note in self._notes.values())
        if not self._record.unfinished and not dead and not dropped:
            self._notes.clear()

    async def close(self) -> None:
        self._job = None
        self._writing = False

    def _begun(self) -> tuple[JobKey, StoreRecord]:
        if self._job is None or self._record is None:
            raise PlanError("a store is written only between begin and close")
        return self._job, self._record

    # Reading

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        return self._tiles.get(tile_id) or NoTile(tile_id, "not_stored", "store")

    async def tile_ids(self) -> AsyncIterator[TileId]:
        """In tile order, as they were when the walk began."""
        for tile_id in sorted(self._tiles):
            yield tile_id

    async def states(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        return [self._state(tile_id) for tile_id in tile_ids]

    async def has_completed(self, area_identity: str) -> bool:
        return has_completed(self._record, area_identity)

    async def describe(self) -> StoreInfo:
        """`bytes` is the sum of the bodies."""
        by_zoom: dict[int, int] = {}
        for tile_id in sorted(self._tiles):
            by_zoom[tile_id.z] = by_zoom.get(tile_id.z, 0) + 1
        dead = self._dead()
        dropped = sum(isinstance(note, Dropped) for note in self._notes.values())
        record_metadata = {} if self._record is None else record_rows(self._record)
        return StoreInfo(
            location=self.name,
            kind="memory",
            tiles=len(self._tiles),
            absent=len(self._notes) - len(dead) - dropped,
            dead=len(dead),
            bytes=self._bytes - TILE_OVERHEAD_BYTES * len(self._tiles),
            state=state_of(self._record, dead=len(dead)),
            metadata=self._metadata | {name: value for name, value in record_metadata.items() if value},
            tiles_by_zoom=by_zoom,
            dropped=dropped,
            dead_causes=dict(sorted(Counter(letter.cause for letter in dead).items())),
        )

    async def source_info(self) -> SourceInfo:
        """`identity` is this object's: two stores in memory are never the same source."""
        zooms = self._zooms()
        first = next(iter(self._tiles.values()), None)
        return source_info_of(
            self._metadata,
            name=self.name,
            identity=f"memory:{id(self):x}",
            zooms=zooms,
            bounds=self._bounds(zooms[1]) if zooms else None,
            media_type=first.media_type if first else "",
        )

    def _dead(self) -> list[DeadLetter]:
        return [note for note in self._notes.values() if isinstance(note, DeadLetter)]

    def _zooms(self) -> tuple[int, int] | None:
        zooms = {tile_id.z for tile_id in self._tiles}
        return (min(zooms), max(zooms)) if zooms else None

    def _bounds(self, zoom: int) -> Bounds:
        columns = [tile_id.x for tile_id in self._tiles if tile_id.z == zoom]
        rows = [tile_id.y for tile_id in self._tiles if tile_id.z == zoom]
        return bounds_of_columns(zoom, (min(columns), max(columns)), (min(rows), max(rows)))


def _cost(outcome: Outcome | None) -> int:
    return len(outcome.body) + TILE_OVERHEAD_BYTES if isinstance(outcome, Tile) else 0
