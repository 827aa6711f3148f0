"""Where tiles are kept: by a job (exact, durable) and by a service (a cache)."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import SourceInfo, SourceVersion, TileError
from tilehaul.ports.tile import NoTile, Tile


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One item given up on, to be listed, tried again or dropped.

    `cause` as in the error (its class: `policy.causes.class_of`), `url` redacted, `message` one line.
    `at_s` is when, in seconds since 1970; 0.0 where a store did not note it.
    """

    tile_id: TileId
    cause: str
    attempts: int
    url: str = ""
    message: str = ""
    body_head: bytes = b""
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Dropped:
    """A person's word on a dead letter: do without this tile. It is not asked for again, and never counts
    as done or absent. Bytes that an earlier run kept stay readable.
    """

    tile_id: TileId


@dataclass(frozen=True, slots=True)
class Deleted:
    """A tile taken out of the store, bytes and journal row: it is pending again for whoever plans it.

    With it the store forgets that other jobs are complete, for one of them may have brought the tile; one
    that waits for dead letters only is forgotten too, not its letters.
    """

    tile_id: TileId


# What became of one planned tile, or of one that is not wanted any more. Everything else is pending.
Outcome = Tile | NoTile | DeadLetter | Dropped | Deleted


@dataclass(frozen=True, slots=True)
class JobKey:
    """What makes two runs the same job.

    `source_identity` and `grid` must equal the store's own, or the store refuses (unless forced).
    `area_identity` names area and zooms: another one on the same store adds to it.
    `metadata` is what an archive says of itself (MBTiles `metadata` rows): name, format,
    bounds, minzoom, maxzoom, attribution.
    `replay`: the job works off dead letters and has no area of its own. The store's jobs, and the source
    it belongs to, stay what they are, also when it is forced.
    `mirrors`: when the job ends the store holds what its source holds, and nothing else: its bounds and zooms
    take the place of the store's, instead of widening them.
    `version`: the state of its source, where that is known. Another one is not mixed in silently: such a job
    does not go on, unless it `renews`, which says that it compares or moves again what is kept.
    `replaces`: a tile that comes takes the place of what others have put there, also when it is forced.
    """

    source_identity: str
    source_name: str
    area_identity: str
    planned: int
    grid: str = "WebMercatorQuad"
    metadata: tuple[tuple[str, str], ...] = ()
    replay: bool = False
    mirrors: bool = False
    version: SourceVersion | None = None
    renews: bool = False
    replaces: bool = False


State = Literal["done", "absent", "dead", "dropped"]


@dataclass(frozen=True, slots=True)
class JobCounts:
    """What became of the planned tiles of a job, each >= 0; all `JobKey.planned` unless some are pending."""

    done: int
    absent: int
    dropped: int = 0
    dead: int = 0

    @property
    def total(self) -> int:
        return self.done + self.absent + self.dropped + self.dead


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What a store says of itself.

    `state` is `complete` (nothing pending, nothing dead), `partial` or `foreign` (not made by a job).
    `dead_causes` are the dead letters by fine cause.
    """

    location: str
    kind: str
    tiles: int
    absent: int
    dead: int
    bytes: int
    state: str
    metadata: dict[str, str] = field(default_factory=dict)
    tiles_by_zoom: dict[int, int] = field(default_factory=dict)
    dropped: int = 0
    dead_causes: dict[str, int] = field(default_factory=dict)


class JobStore(Protocol):
    """A store a job writes to, with the journal of what became of each tile.

    One owner: calls are made one after another by the job's writer. All raise StorageError
    when the disk refuses; nothing is acknowledged before it is durable.
    """

    async def begin(self, job: JobKey, *, force_source: bool = False) -> JobCounts | None:
        """Take the store for this job; its counts when this very job is complete already, else None.

        A store without one tile is anybody's: what another source left dead or absent in it is dropped.
        A complete job whose counts were not kept answers all of `job.planned` as done. A replay is never
        complete already.

        Raises PlanError when the store holds tiles of another source or grid, or of another version of this
        job's (see `JobKey.version`), and for a replay also when no job ever wrote it.
        """
        ...

    async def settled(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        """For each id, in order: `done`, `absent`, `dead`, `dropped`, or None while pending."""
        ...

    async def commit(self, outcomes: Sequence[Outcome]) -> None:
        """Make the outcomes durable, bytes and journal. A later outcome of one tile replaces an earlier.

        A tile need not be of the job: an absence takes what is kept of it out of the store, and so does
        `Deleted`, where a job of ours brought it.
        """
        ...

    def dead_letters(self, *, causes: Collection[str] = ()) -> AsyncIterator[DeadLetter]:
        """The dead letters whose cause, or its class, is among `causes` (all, when there are none).

        In tile order, walked lazily: outcomes may be committed meanwhile, and no letter comes twice.
        """
        ...

    async def finish(self, *, complete: bool, counts: JobCounts | None = None) -> None:
        """End the job. `complete` (none pending, none dead) marks it done.

        `counts` is what `begin` answers from then on. Without `complete` they are kept when they leave
        nothing pending: a replay that ends with none dead completes the job then, if it is the only one.
        A replay's own counts do not count. The journal goes once nothing is pending, dead or dropped;
        a bucket's stays, for it alone knows what is kept.
        """
        ...

    async def close(self) -> None:
        """Let go of the store. What was committed stays; safe to call twice."""
        ...


class TileArchive(Protocol):
    """A store that can be read: a tile by its address, and what is in it."""

    async def get(self, tile_id: TileId) -> Tile | NoTile: ...

    def tile_ids(self) -> AsyncIterator[TileId]: ...

    def dead_letters(self, *, causes: Collection[str] = ()) -> AsyncIterator[DeadLetter]: ...

    async def states(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        """As `JobStore.settled`, without taking the store; also while a job writes it.

        Every tile of a store that no job wrote is `done`, when it is there.
        """
        ...

    async def has_completed(self, area_identity: str) -> bool:
        """Whether a job over this area has ended whole, so that not one of its tiles needs looking up."""
        ...

    async def describe(self) -> StoreInfo: ...

    async def source_info(self) -> SourceInfo: ...

    async def close(self) -> None: ...


@runtime_checkable
class BatchArchive(TileArchive, Protocol):
    """An archive that reads many tiles at once: one hand-over to its thread, one look at its file."""

    async def get_batch(
        self, tile_ids: Sequence[TileId], check: Callable[[Tile], Tile]
    ) -> Sequence[Tile | NoTile | TileError]:
        """See `BatchSource.get_batch`. `check` is called for each tile on the thread that reads; what it
        raises of a tile stands in its place.
        """
        ...


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counts since start. `bytes_max` is the limit that eviction keeps."""

    tiles: int
    bytes: int
    bytes_max: int
    hits: int
    misses: int
    evictions: int


class TileCache(Protocol):
    """A bounded cache. `find` may give None; what is kept may be gone at any later time.

    No method raises: a cache that fails is one that knows nothing.
    """

    async def find(self, layer: str, tile_id: TileId) -> Tile | NoTile | None:
        """What is kept, fresh or past it: its freshness says which, its age as of now.

        Counts a hit when it is fresh, else a miss.
        """
        ...

    async def look(self, layer: str, tile_id: TileId) -> Tile | NoTile | None:
        """As `find`, for who has asked already or only wants to know: counts nothing."""
        ...

    def keep(self, layer: str, answer: Tile | NoTile) -> None:
        """Keep an answer as long as its freshness lets, in place of an older one. Returns at once."""
        ...
