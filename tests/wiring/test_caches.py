"""A service's caches over a real origin: what crosses the wire, and what need not."""

import pytest

from tilehaul.config.load import parse_settings
from tilehaul.errors import ConfigError
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.absence import Absence
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores.disk_cache_file import FILE_NAME
from tilehaul.wiring.layers import open_layers
from tilehaul.wiring.seeding import seed

TILES = [TileId(6, x, 1) for x in range(10)]


def settings_of(folder, *, cache=None, **layer):
    parts = {"disk": "10MB", "path": str(folder), **(cache or {})}
    return parse_settings({"layers": {"one": layer}, "cache": parts}, {})


async def places(settings, tiles=TILES):
    async with open_layers(settings) as opened:
        return [(await opened.layers[0].source.get(tile_id)).place for tile_id in tiles]


async def test_warm_restart_asks_for_nothing(tmp_path):
    """Ten tiles, then another service over the same folder: ten requests in all."""
    with MockThread(MockSettings()) as server:
        settings = settings_of(tmp_path, source=server.template)
        assert await places(settings) == ["origin"] * 10
        assert await places(settings) == ["disk"] * 10
        assert await places(settings, TILES[:1] * 2) == ["disk", "memory"]
        assert server.stats().requests == 10


@pytest.mark.parametrize(("max_age", "then"), [(None, "origin"), (60, "disk")])
async def test_origin_is_heeded_unless_the_layer_says_otherwise(tmp_path, max_age, then):
    """max-age=0: each tile is asked about by its tag, which costs a 304; the layer's own word goes before."""
    with MockThread(MockSettings(max_age_s=0)) as server:
        settings = settings_of(tmp_path, source=server.template, max_age=max_age)
        first = await places(settings)
        sent = server.stats().bytes_sent
        assert await places(settings) == [then] * 10
        assert first == ["origin"] * 10
        assert server.stats().requests == (20 if then == "origin" else 10)
        assert server.stats().by_status.get(304, 0) == (10 if then == "origin" else 0)
        assert server.stats().bytes_sent == sent


@pytest.mark.parametrize(
    ("cache", "second", "requests"), [("all", "disk", 10), ("memory", "origin", 20), ("none", "origin", 20)]
)
async def test_layer_says_which_caches_keep_its_tiles(tmp_path, cache, second, requests):
    with MockThread(MockSettings()) as server:
        settings = parse_settings(
            {
                "layers": {"one": {"source": server.template, "cache": cache}},
                "cache": {"disk": "10MB", "path": str(tmp_path)},
            },
            {},
        )
        await places(settings)
        assert await places(settings) == [second] * 10
        again = await places(settings, TILES[:1] * 2)
        assert again[1] == ("origin" if cache == "none" else "memory")
        assert server.stats().requests == requests + (0 if cache == "all" else 2 if cache == "none" else 1)


async def test_what_lies_on_this_disk_is_not_copied_to_it(tmp_path):
    """A local archive's tiles are kept in memory only."""
    with MockThread(MockSettings()) as server:
        await seed(server.template, str(tmp_path / "a.mbtiles"), Area.from_bbox(-180, -85, 180, 85, range(2)))
    settings = settings_of(tmp_path / "cache", source=str(tmp_path / "a.mbtiles"))
    for _ in range(2):
        assert await places(settings, [TileId(1, 0, 0)] * 2) == ["store", "memory"]


async def test_origin_that_is_gone_after_a_restart(tmp_path):
    """Tiles past their freshness stand in from the disk, each asked for first; a tile never seen fails."""
    with MockThread(MockSettings(max_age_s=0)) as server:
        settings = settings_of(tmp_path, source=server.template, retries=0)
        await places(settings)
    async with open_layers(settings) as opened:
        for tile_id in TILES:
            tile = await opened.layers[0].source.get(tile_id)
            assert isinstance(tile, Tile)
            assert (tile.place, tile.stale) == ("disk", "asked")


async def test_forgetting_reaches_both_caches(tmp_path):
    with MockThread(MockSettings()) as server:
        settings = settings_of(tmp_path, source=server.template)
        async with open_layers(settings) as opened:
            source = opened.layers[0].source
            for tile_id in TILES:
                await source.get(tile_id)
            assert await opened.caches.forget("one", lambda tile_id: tile_id.x < 3) == 3
            assert [(await source.get(tile_id)).place for tile_id in TILES[:4]] == ["origin"] * 3 + ["memory"]


async def test_absence_is_kept_on_disk_too(tmp_path):
    with MockThread(MockSettings(absence=Absence(above_zoom=5))) as server:
        settings = settings_of(tmp_path, source=server.template)
        for place in ("origin", "disk"):
            async with open_layers(settings) as opened:
                assert await opened.layers[0].source.get(TILES[0]) == NoTile(TILES[0], "http_404", place)
        assert server.stats().requests == 1


@pytest.mark.parametrize("cache", [{"disk": "1GB"}, {"path": "x"}, {"disk": "much", "path": "x"}])
def test_disk_cache_needs_a_size_and_a_place(cache):
    with pytest.raises(ConfigError, match=r"cache\.disk"):
        parse_settings({"cache": cache}, {})


async def test_nothing_is_made_without_a_disk_cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with open_layers(parse_settings({"layers": {}}, {})):
        assert not (tmp_path / FILE_NAME).exists()
