"""TileMaps of small TMS."""

UNITS_0 = 156543.03392804097
CORNER = '<Origin x="-20037508.342789" y="-20037508.342789"/>'
BOX = (
    '<BoundingBox minx="-20037508.342789" miny="-20037508.342789"'
    ' maxx="20037508.342789" maxy="20037508.342789"/>'
)


def tile_set(order: int, zoom: int, base: str = "http://h/tms/1.0.0/alps/", units: str = "") -> str:
    """The level that has the tiles of a zoom, as a service writes it."""
    units = units or repr(UNITS_0 / 2**zoom)
    return f'<TileSet href="{base}{order}" units-per-pixel="{units}" order="{order}"/>'


def tile_map(
    *sets: str,
    srs: str = "OSGEO:41001",
    box: str = BOX,
    origin: str = CORNER,
    form: str = '<TileFormat width="256" height="256" mime-type="image/png" extension="png"/>',
    profile: str = "global-mercator",
) -> bytes:
    """By default one level off, as MapProxy has it: order 0 is zoom 1."""
    levels = "".join(sets or [tile_set(order, order + 1) for order in range(3)])
    return (
        f'<?xml version="1.0"?><TileMap version="1.0.0"><Title>Alps</Title><SRS>{srs}</SRS>'
        f'{box}{origin}{form}<TileSets profile="{profile}">{levels}</TileSets></TileMap>'
    ).encode()
