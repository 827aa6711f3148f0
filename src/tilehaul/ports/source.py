"""Where tiles come from."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tilehaul.errors import DataError, TransferError
from tilehaul.grid.pyramid import Pyramid
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.tile import NoTile, Tile

# What may be wrong with one tile of a batch.
TileError = TransferError | DataError
# A batch is of so many tiles at most, and ends with the tile that brings its bodies to so many bytes.
BATCH_TILES = 128
BATCH_BYTES = 4 * 1024 * 1024

WORLD_DEG = (-180.0, -85.0511287798066, 180.0, 85.0511287798066)


@dataclass(frozen=True, slots=True)
class SourceVersion:
    """One state of a source that can change. `token` is equal for equal states, `shown` is for people."""

    token: str
    shown: str


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source without asking for a tile.

    `name` names it for people, redacted. `identity` is a stable hash of what makes two sources
    the same for a job (template without secrets, scheme, tile size), compared on resume.
    `bounds_deg` is (west, south, east, north) in WGS 84 degrees. Zooms are inclusive.
    `zooms`: those of a source that declares them one by one, ascending; empty: all of them.
    `media_type` is empty when not known. `vector_layers` is the JSON text of TileJSON's list of that
    name (TileJSON 3.0, 3.3), always a list of objects; empty when the source names no layers. `note` is a
    clause that people should read before they take tiles from here; mostly empty.
    `rows` are rows of an archive's metadata that a whole copy says as well: type, version, center.
    `pyramid`: it is a picture in its own pixels and no map; its bounds say where its addresses lie, no more.
    `version`: of an archive that is one file, its state; None where nothing cheap tells it.
    """

    name: str
    identity: str
    media_type: str = ""
    zoom_min: int = 0
    zoom_max: int = 30
    bounds_deg: tuple[float, float, float, float] = WORLD_DEG
    attribution: str = ""
    description: str = ""
    vector_layers: str = ""
    note: str = ""
    rows: tuple[tuple[str, str], ...] = ()
    pyramid: Pyramid | None = None
    version: SourceVersion | None = None
    zooms: tuple[int, ...] = ()


class TileSource(Protocol):
    """Answers one tile.

    `get` answers `Tile`, or `NoTile` when the source says there is none, or raises
    TransferError, DataError, StorageError or BusyError. Only the first two may be
    cached or journalled: absence is not failure, failure is not absence.
    """

    @property
    def info(self) -> SourceInfo: ...

    async def get(self, tile_id: TileId) -> Tile | NoTile: ...


@runtime_checkable
class BatchSource(TileSource, Protocol):
    """A source that many tiles cost little more to ask for than one: an archive on this disk.

    `get_batch` answers for the first of `tile_ids`, at least one, in order: as many as BATCH_BYTES hold.
    What `get` would raise of a tile alone stands in its place; StorageError and PlanError are raised.
    """

    async def get_batch(self, tile_ids: Sequence[TileId]) -> Sequence[Tile | NoTile | TileError]: ...


class Departures(Protocol):
    """Fetches on their way, that others may wait for too. For one event loop."""

    @property
    def in_flight(self) -> int:
        """How many there are."""
        ...

    def board(
        self, key: TileId, landed: "Callable[[asyncio.Task[Tile | NoTile]], None]"
    ) -> Callable[[], None] | None:
        """Wait for the fetch of a tile without a task of one's own; None: there is none.

        `landed` is given the fetch when it has ended, by itself or cancelled. What is returned gives the wait
        up: `landed` is not called then.
        """
        ...
