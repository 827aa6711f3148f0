"""What a source answers: a tile, or the statement that there is none."""

from dataclasses import dataclass, field
from typing import Literal

from tilehaul.errors import BusyError, DataError, TransferError
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import Freshness


@dataclass(frozen=True, slots=True)
class Tile:
    """One verified tile.

    `body` is the picture's or vector tile's bytes, content coding removed
    (a gzipped vector tile from an archive is kept gzipped: see `codec/sniff.py`).
    `media_type` is what the bytes are by their magic number, not what a header said.
    `place` says where it was found: `origin`, `store`, `memory`, `disk`, `fallback`; `unchanged` (kept, and
    the origin has just said that it is current).
    `freshness` is how long a cache may keep it; None: its source does not know. `stale`: it is given past
    that, because its origin has not been asked (`unasked`), or was asked and failed (`asked`).
    """

    tile_id: TileId
    body: bytes
    media_type: str
    place: str = "origin"
    freshness: Freshness | None = field(default=None, compare=False, repr=False)
    stale: Literal["", "unasked", "asked"] = ""


@dataclass(frozen=True, slots=True)
class NoTile:
    """The source said: there is none. `cause` is `http_404`, `http_204`, `not_stored`, ...

    `freshness` as of a tile. An absence is never given stale.
    """

    tile_id: TileId
    cause: str = "absent"
    place: str = "origin"
    freshness: Freshness | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class FailedTile:
    """Neither came: the tile was given up on, after `attempts` requests, for what `error` says.

    No source answers this (it raises); whoever streams many tiles does, so that one failure ends nothing.
    """

    tile_id: TileId
    error: TransferError | DataError | BusyError
    attempts: int
