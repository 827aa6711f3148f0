"""The whole reading of a TileMap: what opening a TMS does, without a network."""

from doubles.tms import tile_map, tile_set
from fuzz.services import Service, at_once, one_word
from tilehaul.config.sending import Sending
from tilehaul.grid.tile_id import TileId
from tilehaul.wiring.tms import open_tms

_FORM = '<TileFormat width="512" height="512" mime-type="image/jpeg" extension=".jpg"/>'
_BOX = '<BoundingBox minx="667916" miny="5732000" maxx="1168000" maxy="6075000"/>'

TMS_SEEDS = (
    tile_map(tile_set(0, 1), tile_set(1, 2, base="")),
    tile_map(tile_set(7, 8, base="//h/a?map=b&amp;c="), form=_FORM, box=_BOX, profile="local"),
    tile_map(tile_set(3, 3, base=""), box="", profile="mercator", origin='<Origin x="5.9" y="45.8"/>'),
    b'<TileMapService><TileMaps><TileMap href="a"/><TileMap href="//h/b"/></TileMaps></TileMapService>',
    b"<TileMapServerError><Message>no</Message></TileMapServerError>",
)


def open_tms_of(body: bytes) -> None:
    """Raises what `open_tms` does."""
    source = at_once(open_tms("https://h/tms/1.0.0/alps?key=abcdef", Service(body), Sending()))
    for z, matrix in source.matrices.items():
        first_row, last_row, first_column, last_column = matrix.limits
        if (
            not 0 <= z <= 30
            or first_row < 0
            or last_row >= 1 << z
            or first_column < 0
            or last_column >= 1 << z
        ):
            raise AssertionError(f"zoom {z}: {matrix.limits}")
        one_word(source.request(TileId(z, 0, 0)))
    west, south, east, north = source.info.bounds_deg
    if not all(-181.0 < number < 181.0 for number in (west, south, east, north)):
        raise AssertionError(source.info.bounds_deg)
