"""What a source answers: a tile, or the statement that there is none."""

from dataclasses import dataclass

from tilehaul.errors import BusyError, DataError, TransferError
from tilehaul.grid.tile_id import TileId


@dataclass(frozen=True, slots=True)
class Tile:
    """One verified tile.

    `body` is the picture's or vector tile's bytes, content coding removed
    (a gzipped vector tile from an archive is kept gzipped: see `codec/sniff.py`).
    `media_type` is what the bytes are by their magic number, not what a header said.
    `place` says where it was found: `origin`, `store`, `memory`, `disk`, `fallback`; `unchanged` (kept, and
    the origin has just said that it is current); or, in memory and past its freshness, `stale` (the origin
    could not be asked) or `stale_asked` (it was, and failed).
    """

    tile_id: TileId
    body: bytes
    media_type: str
    place: str = "origin"


@dataclass(frozen=True, slots=True)
class NoTile:
    """The source said: there is none. `cause` is `http_404`, `http_204`, `not_stored`, ..."""

    tile_id: TileId
    cause: str = "absent"
    place: str = "origin"


@dataclass(frozen=True, slots=True)
class FailedTile:
    """Neither came: the tile was given up on, after `attempts` requests, for what `error` says.

    No source answers this (it raises); whoever streams many tiles does, so that one failure ends nothing.
    """

    tile_id: TileId
    error: TransferError | DataError | BusyError
    attempts: int
