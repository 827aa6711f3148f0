"""Pictures in their own pixels: described for OpenSeadragon, and kept out of everything that is a map."""

import pytest

from tilehaul.grid.pyramid import Pyramid
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import SourceInfo
from tilehaul.server.pyramid_routes import preview_tile

PYRAMID = Pyramid(1500, 900)
WALL = {
    "media_type": "image/jpeg",
    "zoom_max": 3,
    "pyramid": PYRAMID,
    "bounds_deg": PYRAMID.bounds_deg,
    "attribution": "us",
}


@pytest.fixture
def both(service):
    """A picture and a map in one service."""
    service.layer("wall", info=WALL, title="The wall").put("0/0/0", b"all of it", "image/jpeg")
    service.layer("osm", info={"zoom_max": 4}).put("0/0/0", b"the world")
    return service


async def test_info_is_what_a_tile_source_of_openseadragon_takes(both):
    answer = await both.ask("/api/tiles/wall/info", host="localhost:8080")
    assert answer.status == 200
    assert answer.headers["vary"] == "Host"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.json() == {
        "layer": "wall",
        "title": "The wall",
        "attribution": "us",
        "width": 1500,
        "height": 900,
        "tileSize": 256,
        "tileOverlap": 0,
        "minLevel": 0,
        "maxLevel": 3,
        "format": "jpg",
        "tiles": "http://localhost:8080/api/tiles/wall/{z}/{x}/{y}.jpg",
        "preview": "http://localhost:8080/api/tiles/wall/preview",
    }


async def test_a_layer_cut_to_its_upper_zooms_is_the_smaller_picture(service):
    service.layer("wall", info={**WALL, "zoom_max": 2})
    told = (await service.ask("/api/tiles/wall/info")).json()
    assert (told["width"], told["height"], told["maxLevel"]) == (750, 450, 2)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/api/tiles/osm/info", "a map and has no size in pixels"),
        ("/api/tiles/wall", "described at /api/tiles/LAYER/info"),
        ("/api/tiles/none/info", "no such layer"),
        ("/tms/1.0.0/wall", "no map"),
        ("/tms/1.0.0/wall/0/0/0.jpg", "no map"),
        ("/wmts/1.0.0/wall/default/GoogleMapsCompatible/0/0/0.jpg", "no map"),
    ],
)
async def test_one_kind_is_not_found_where_the_other_belongs(both, path, why):
    answer = await both.ask(path)
    assert (answer.status, answer.json()["cause"]) == (404, "not_found")
    assert why in answer.json()["error"]


@pytest.mark.parametrize("path", ["/wmts/1.0.0/WMTSCapabilities.xml", "/tms/1.0.0"])
async def test_documents_of_maps_name_no_picture(both, path):
    body = (await both.ask(path)).body
    assert b"osm" in body
    assert b"wall" not in body


async def test_wmts_with_parameters_has_no_such_layer(both):
    asked = "REQUEST=GetTile&LAYER=wall&TILEMATRIXSET=GoogleMapsCompatible&TILEMATRIX=0&TILEROW=0&TILECOL=0"
    answer = await both.ask(f"/wmts?{asked}")
    assert answer.status == 400
    assert b"there is no such layer" in answer.body


async def test_the_list_of_layers_says_which_is_a_picture(both):
    wall, osm = (await both.ask("/api/layers")).json()["layers"]
    assert wall["pixels"] == [1500, 900]
    assert "pixels" not in osm


async def test_a_preview_is_a_tile_with_all_that_a_tile_has(both):
    for name, body in (("wall", b"all of it"), ("osm", b"the world")):
        answer = await both.ask(f"/api/tiles/{name}/preview")
        tile = await both.ask(f"/api/tiles/{name}/0/0/0.{'jpg' if name == 'wall' else 'png'}")
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["etag"] == tile.headers["etag"]
        assert both.sources[name].asked == [TileId(0, 0, 0)]
        again = await both.ask(
            f"/api/tiles/{name}/preview", headers=[("If-None-Match", answer.headers["etag"])]
        )
        assert (again.status, again.body) == (304, b"")


async def test_vector_tiles_have_no_preview(service):
    service.layer(info={"media_type": "application/vnd.mapbox-vector-tile"})
    answer = await service.ask("/api/tiles/osm/preview")
    assert (answer.status, answer.json()["error"]) == (
        404,
        "this layer has vector tiles: there is no picture of it",
    )
    assert service.sources["osm"].asked == []


@pytest.mark.parametrize(
    ("bounds", "zooms", "tile"),
    [
        ((-180.0, -85.06, 180.0, 85.06), (0, 9), "0/0/0"),
        (TileId(7, 66, 45).bounds_deg, (0, 14), "7/66/45"),
        (TileId(7, 66, 45).bounds_deg, (0, 5), "5/16/11"),
        # Across a border of all zooms but 0.
        ((-1.0, 50.0, 1.0, 51.0), (0, 9), "0/0/0"),
        ((-1.0, 50.0, 1.5, 51.0), (6, 9), "6/32/21"),
        ((170.0, -10.0, -170.0, 10.0), (0, 9), "0/0/0"),
    ],
)
def test_the_preview_of_a_map_is_the_tile_with_most_of_it(bounds, zooms, tile):
    info = SourceInfo("a", "a", zoom_min=zooms[0], zoom_max=zooms[1], bounds_deg=bounds)
    assert str(preview_tile(info)) == tile
