"""TileJSON 3.0.0."""

import json

import pytest

from tilehaul.codec.tilejson import tilejson
from tilehaul.errors import PlanError

TILES = ["https://h/{z}/{x}/{y}.png"]


def test_full_document():
    """Every member under its own name, nothing that was not given."""
    document = tilejson(
        tiles=TILES, name="n", description="d", attribution="(c) us", bounds=(-1.0, -2.0, 3.0, 4.0),
        center=(1.0, 1.0, 3), minzoom=2, maxzoom=9, format="png", tile_size=512, scheme="tms",
    )  # fmt: skip
    assert json.loads(json.dumps(document)) == {
        "tilejson": "3.0.0", "tiles": TILES, "name": "n", "description": "d", "attribution": "(c) us",
        "bounds": [-1.0, -2.0, 3.0, 4.0], "center": [1.0, 1.0, 3], "minzoom": 2, "maxzoom": 9,
        "format": "png", "tileSize": 512, "scheme": "tms",
    }  # fmt: skip


def test_least_document():
    """Empty members are left out; defaults are the specification's."""
    assert tilejson(tiles=TILES) == {
        "tilejson": "3.0.0", "tiles": TILES, "minzoom": 0, "maxzoom": 30, "scheme": "xyz",
    }  # fmt: skip


def test_vector_tiles_always_list_their_layers():
    """Required by the specification for vector tiles only."""
    assert tilejson(tiles=TILES, format="pbf")["vector_layers"] == []
    layers = [{"id": "roads", "fields": {}}]
    assert tilejson(tiles=TILES, format="pbf", vector_layers=layers)["vector_layers"] == layers
    assert "vector_layers" not in tilejson(tiles=TILES, format="png")


def test_bounds_across_the_antimeridian_are_left_out():
    """West > east cannot be said in TileJSON, and readers would take it for an error."""
    assert "bounds" not in tilejson(tiles=TILES, bounds=(170.0, -1.0, -170.0, 1.0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"tiles": []}, {"tiles": ["/{z}/{x}/{y}"]}, {"tiles": TILES, "minzoom": 5, "maxzoom": 4},
        {"tiles": TILES, "maxzoom": 31}, {"tiles": TILES, "scheme": "wms"},
    ],
)  # fmt: skip
def test_nonsense_is_refused(wrong):
    """A document that readers would reject is not written."""
    with pytest.raises(PlanError, match="TileJSON"):
        tilejson(**wrong)
