"""What is noted of a kept tile, so that it can be asked for again only if it has changed."""

from typing import NamedTuple

from tilehaul.grid.tile_id import TileId


class Note(NamedTuple):
    """One check of a tile with its origin.

    `checked_s` is when, in seconds since 1970. `etag` and `last_modified` are exactly as they came, empty
    when there was none. `digest` is of the bytes and the source they belong to: they say nothing of
    others.
    """

    checked_s: float
    etag: str = ""
    last_modified: str = ""
    digest: bytes = b""


Notes = dict[TileId, Note]
