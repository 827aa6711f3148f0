"""Tiles go from one kind of archive into another, by location alone."""

from pathlib import Path

import apsw
import pytest

from tilehaul.config.locations import parse_location
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png
from tilehaul.ports.store import JobKey
from tilehaul.ports.tile import Tile
from tilehaul.stores.mbtiles import MbtilesStore
from tilehaul.wiring.places import open_archive
from tilehaul.wiring.seeding import SeedOptions, seed

PLANNED = 21


async def made(path: Path) -> str:
    """Zooms 0 to 2; all but the first tile show the same."""
    ids = [TileId(z, x, y) for z in range(3) for x in range(1 << z) for y in range(1 << z)]
    store = MbtilesStore(path, durability="fast")
    await store.begin(JobKey("s", "S", "a", PLANNED))
    await store.commit([Tile(i, plain_png(i if i.z == 0 else ids[1]), "image/png") for i in ids])
    await store.finish(complete=True)
    await store.close()
    return str(path)


async def test_tiles_pass_through_every_kind_unchanged(tmp_path: Path) -> None:
    """MBTiles, GeoPackage under a table's name, deduplicated MBTiles: the same bytes at the same places."""
    first = await made(tmp_path / "a.mbtiles")
    area = Area.from_bbox(-180, -85, 180, 85, zooms=range(3))
    options = SeedOptions(durability="fast", deduplicate=True)
    package = f"{tmp_path / 'b.GPKG'}#imagery"
    assert (await seed(first, package, area, options=SeedOptions(durability="fast"))).done == PLANNED
    last = str(tmp_path / "c.mbtiles")
    report = await seed(package, last, area, options=options)
    assert (report.done, report.state) == (PLANNED, "complete")
    assert (await seed(package, last, area, options=options)).state == "complete"
    here, there = open_archive(first), open_archive(last)
    ids = [tile_id async for tile_id in there.tile_ids()]
    assert len(ids) == PLANNED
    for tile_id in ids:
        assert await here.get(tile_id) == await there.get(tile_id)
    await here.close()
    await there.close()
    connection = apsw.Connection(last)
    assert connection.execute("SELECT count(*) FROM images").get == 2
    connection.close()


@pytest.mark.parametrize(
    ("text", "path", "table"),
    [
        ("maps/a.gpkg", "maps/a.gpkg", ""),
        ("a.gpkg#b", "a.gpkg", "b"),
        ("a.gpkg#b#c.gpkg", "a.gpkg", "b#c.gpkg"),
        ("a.GPKG#Z 1", "a.GPKG", "Z 1"),
        ("a#b.gpkg", "a#b.gpkg", ""),
    ],
)
def test_table_follows_the_name_of_a_geopackage(text: str, path: str, table: str) -> None:
    """The first `.gpkg#` ends the file's name."""
    place = parse_location(text)
    assert (place.kind, place.path, place.table) == ("geopackage", Path(path), table)


def test_other_kinds_have_no_table() -> None:
    """A `#` is a letter of their names."""
    place = parse_location("a#b.mbtiles")
    assert (place.path, place.table) == (Path("a#b.mbtiles"), "")
