"""A few hundred mutations of what the readers read, the same every time. `make fuzz` looks longer."""

import random
import re

import pytest

from fuzz.parsers import PARSERS
from fuzz.seeds import geopackage_bytes
from tilehaul.errors import TilehaulError

VALUES = (
    "", "nan", "inf", "-inf", "1e309", "1e308", "1e-320", "-1", "0", "9" * 30, "9" * 400, "9" * 5000, "1_0",
    "0x10", "\u0661", "http://[bad/", "http://h:99999/", "http://h:port/", "//", "/a", "http://a b/",
    "file:///etc/passwd", "gopher://h/{TileMatrix}/{TileRow}/{TileCol}", "http:///a", "\x7f", "EPSG:", "::",
    "{", "{}", "{TileMatrix}", "http://h:{TileMatrix}/{TileRow}/{TileCol}", "http://{TileMatrix}/{TileRow}/{TileCol}",
    "http://[{TileMatrix}/{TileRow}/{TileCol}", "a/{TileMatrix}/{TileRow}/{TileCol}",
)  # fmt: skip
_VALUE = re.compile(r"(?<=>)[^<>]+(?=<)|(?<==\")[^\"]*(?=\")")


def is_read(name: str, body: bytes) -> bool:
    """False when it is refused, in one line. Anything else comes out."""
    try:
        PARSERS[name].parse(body)
    except TilehaulError as error:
        said = str(error)
    else:
        return True
    assert len(said.splitlines()) == 1, repr(said)
    return False


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_each_begins_from_what_it_reads(name: str) -> None:
    """A fuzzer whose seeds are all refused, or cut off, looks at nothing but the first check."""
    parser = PARSERS[name]
    assert any(is_read(name, seed) for seed in parser.seeds)
    assert all(0 < len(seed) <= parser.bytes_max for seed in parser.seeds)


@pytest.mark.parametrize("name", ["tms-tilemap", "wms-capabilities", "wmts-capabilities"])
def test_every_value_of_capabilities_replaced(name: str) -> None:
    """Each text and each attribute of each document, by each of VALUES in turn: within a third of them."""
    ends = []
    for seed in PARSERS[name].seeds:
        text = seed.decode()
        places = list(_VALUE.finditer(text))
        for number, place in enumerate(places):
            for value in VALUES[number % 3 :: 3]:
                mutated = text[: place.start()] + value + text[place.end() :]
                ends.append(is_read(name, mutated.encode()))
    assert len(ends) > 300
    assert set(ends) == {True, False}


@pytest.mark.parametrize("name", ["geopackage-archive", "mbtiles-archive", "pmtiles-archive"])
def test_bytes_of_archives_replaced(name: str) -> None:
    luck = random.Random(name)
    (seed,) = PARSERS[name].seeds
    ends = []
    for _ in range(100):
        mutated = bytearray(seed)
        for _ in range(luck.choice((1, 1, 4, 16))):
            mutated[luck.randrange(len(mutated))] = luck.choice((0, 1, 127, 128, 255, luck.randrange(256)))
        ends.append(is_read(name, bytes(mutated[: luck.choice((None, None, luck.randrange(len(seed))))])))
    assert set(ends) == {True, False}


NUMBERS = (
    "1e308",
    "-1e308",
    "9e999",
    "1e-320",
    "0",
    "-1",
    "9223372036854775807",
    "'a'",
    "x'ff'",
    "CAST(x'ff' AS TEXT)",
)


@pytest.mark.parametrize(
    "column",
    ["gpkg_tile_matrix_set.min_x", "gpkg_tile_matrix_set.max_x", "gpkg_tile_matrix_set.max_y",
     "gpkg_tile_matrix.matrix_width", "gpkg_tile_matrix.zoom_level", "gpkg_contents.min_x",
     "gpkg_contents.identifier", "gpkg_contents.description", "gpkg_spatial_ref_sys.srs_name",
     "gpkg_spatial_ref_sys.organization", "tiles.zoom_level", "tiles.tile_column", "tiles.tile_data"],
)  # fmt: skip
def test_every_number_of_a_geopackage_replaced(column: str) -> None:
    table, name = column.split(".")
    for value in NUMBERS:
        body = geopackage_bytes(f"UPDATE OR IGNORE {table} SET {name} = {value}")
        is_read("geopackage-archive", body)
    # The extent of a matrix may be wrong on two sides at once.
    if name == "max_x":
        for value in NUMBERS[:4]:
            is_read("geopackage-archive", geopackage_bytes(f"UPDATE {table} SET min_x = 0, max_x = {value}"))
