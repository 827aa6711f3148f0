"""Every source over HTTP heeds its origin's words on lifetimes, and is asked only for what has changed."""

# mypy: allow-untyped-defs, allow-untyped-calls

import io

import pytest
from PIL import Image

from doubles.clock import VirtualClock
from doubles.origins import KINDS, Origin, picture
from tilehaul.config.load import parse_settings
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import TILE_FRESH_S
from tilehaul.ports.store import JobKey
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores.pmtiles import PmtilesStore
from tilehaul.wiring.layers import open_layers

HERE = TileId(1, 1, 0)
BLOCK = [TileId(1, x, y) for y in range(2) for x in range(2)]
DATE = "Sat, 01 Nov 2025 10:00:00 GMT"


async def archive_of(path, shade, ids=(HERE,)):
    """A PMTiles file of pictures of one colour."""
    store = PmtilesStore(path, durability="fast")
    await store.begin(JobKey("s", "S", "a", len(ids)))
    await store.commit([Tile(tile_id, picture(shade), "image/png") for tile_id in ids])
    await store.finish(complete=True)
    await store.close()
    return path.read_bytes()


class Scene:
    """An origin, a clock, and a layer in front of it whose tiles are never given past their time unasked."""

    def __init__(self, origin, clock, folder):
        self.origin, self.clock, self.folder = origin, clock, folder

    def layer(self, kind, **more):
        told = {"source": self.origin.location(kind), "stale_while_revalidate": 0, **more}
        return open_layers(parse_settings({"layers": {"one": told}}, {}))

    async def change(self, shade, ids=(HERE,), **headers):
        """From now on the origin's tiles have another colour, and other names to ask by."""
        self.origin.shade = shade
        self.origin.file = await archive_of(self.folder / f"{shade}-{len(ids)}.pmtiles", shade, ids)
        self.origin.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.fixture
async def scene(monkeypatch, tmp_path):
    clock = VirtualClock()
    for room in ("caches", "wms", "remote"):
        monkeypatch.setattr(f"tilehaul.wiring.{room}.SystemClock", lambda: clock, raising=False)
    with Origin() as origin:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", origin.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-test")
        monkeypatch.setenv("TILEHAUL_STATE", str(tmp_path / "state"))
        yield Scene(origin, clock, tmp_path)


def shade_of(tile):
    with Image.open(io.BytesIO(tile.body)) as shown:
        return shown.convert("RGB").getpixel((100, 100))[0]


every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
async def test_the_origins_max_age_is_the_lifetime(scene, kind):
    await scene.change(1, Cache_Control="max-age=70", Age="10")
    async with scene.layer(kind) as opened:
        source = opened.layers[0].source
        tile = await source.get(HERE)
        assert (tile.freshness.fresh_s, tile.freshness.age_s) == (70.0, 10.0)
        scene.clock.advance(59.0)
        assert (await source.get(HERE)).place == "memory"
        assert len(scene.origin.asked) == 1
        scene.clock.advance(2.0)
        assert (await source.get(HERE)).place != "memory"
        assert [asked.status in (200, 206) for asked in scene.origin.asked] == [True, True]


@pytest.mark.parametrize(
    ("name", "value", "how"), [("ETag", '"a-1"', "etag"), ("Last_Modified", DATE, "date")]
)
@every_kind
async def test_past_its_lifetime_only_what_has_changed_is_sent(scene, kind, name, value, how):
    """A 304 without a body renews what is kept, for as long as the 304 says."""
    await scene.change(1, Cache_Control="max-age=70", **{name: value})
    async with scene.layer(kind) as opened:
        source = opened.layers[0].source
        first = await source.get(HERE)
        scene.origin.headers["Cache-Control"] = "max-age=90"
        scene.clock.advance(71.0)
        again = await source.get(HERE)
        assert (again.body, again.stale, again.freshness.fresh_s) == (first.body, "", 90.0)
        assert [each[:2] for each in scene.origin.asked[1:]] == [((how, value), 304)]
        assert scene.origin.asked[1].body_bytes == 0
        scene.clock.advance(89.0)
        assert (await source.get(HERE)).place == "memory"
        assert len(scene.origin.asked) == 2
        scene.clock.advance(2.0)
        await source.get(HERE)
        # The second 304 was asked for by the name that the first answer gave.
        assert [each[:2] for each in scene.origin.asked[2:]] == [((how, value), 304)]


@every_kind
async def test_what_has_changed_takes_the_place_of_the_old(scene, kind):
    await scene.change(1, Cache_Control="max-age=70", ETag='"a-1"')
    async with scene.layer(kind) as opened:
        source = opened.layers[0].source
        assert shade_of(await source.get(HERE)) == 1
        await scene.change(2, Cache_Control="max-age=70", ETag='"a-2"')
        scene.clock.advance(71.0)
        assert shade_of(await source.get(HERE)) == 2
        scene.clock.advance(69.0)
        assert shade_of(await source.get(HERE)) == 2
        scene.clock.advance(2.0)
        await source.get(HERE)
        assert scene.origin.asked[-1][:2] == (("etag", '"a-2"'), 304)


@every_kind
async def test_what_must_not_be_kept_is_not(scene, kind):
    await scene.change(1, Cache_Control="no-store", ETag='"a-1"')
    async with scene.layer(kind) as opened:
        source = opened.layers[0].source
        await source.get(HERE)
        assert opened.caches.memory.stats().tiles == 0
        scene.clock.advance(10.0)
        assert (await source.get(HERE)).place != "memory"
        assert [each.condition for each in scene.origin.asked] == [None, None]


@pytest.mark.parametrize(("max_age", "fresh_s"), [(None, TILE_FRESH_S), (50, 50.0)])
@every_kind
async def test_an_origin_that_says_nothing_gets_the_layers_word(scene, kind, max_age, fresh_s):
    await scene.change(1)
    async with scene.layer(kind, **({} if max_age is None else {"max_age": max_age})) as opened:
        source = opened.layers[0].source
        assert (await source.get(HERE)).freshness.fresh_s == fresh_s
        scene.clock.advance(fresh_s - 1.0)
        assert (await source.get(HERE)).place == "memory"
        assert len(scene.origin.asked) == 1
        scene.clock.advance(2.0)
        await source.get(HERE)
        assert [each.condition for each in scene.origin.asked] == [None, None]


@every_kind
async def test_without_a_cache_nothing_past_its_lifetime_is_given(scene, kind):
    """Neither are parts of a picture that was cut before, nor tiles of a file that is another now."""
    await scene.change(1, Cache_Control="max-age=70", ETag='"a-1"')
    async with scene.layer(kind, cache="none") as opened:
        source = opened.layers[0].source
        assert shade_of(await source.get(HERE)) == 1
        await scene.change(2, Cache_Control="max-age=70", ETag='"a-2"')
        scene.clock.advance(71.0)
        assert shade_of(await source.get(HERE)) == 2
        assert not any(each.condition for each in scene.origin.asked)
        # A file that was replaced is heard of by an answer that is of no use.
        assert len(scene.origin.asked) == (3 if kind == "pmtiles" else 2)


async def test_a_pictures_lifetime_is_that_of_each_of_its_tiles(scene):
    """One picture is four tiles, asked for at different times: all end together, and one 304 renews all."""
    await scene.change(1, Cache_Control="max-age=70", ETag='"a-1"')
    async with scene.layer("wms") as opened:
        source = opened.layers[0].source
        for age_s, tile_id in zip((0.0, 20.0, 40.0, 60.0), BLOCK, strict=True):
            tile = await source.get(tile_id)
            assert (tile.freshness.fresh_s, tile.freshness.age_s) == (70.0, age_s)
            scene.clock.advance(20.0)
        assert len(scene.origin.asked) == 1
        for tile_id in BLOCK:
            assert (await source.get(tile_id)).place == "origin"
        assert [each[:2] for each in scene.origin.asked[1:]] == [(("etag", '"a-1"'), 304)]


async def test_one_view_is_one_picture_also_where_nothing_may_be_kept(scene):
    """Its tiles are parts of one answer for some seconds, and not longer."""
    await scene.change(1, Cache_Control="no-store")
    async with scene.layer("wms") as opened:
        source = opened.layers[0].source
        for tile_id in BLOCK:
            assert (await source.get(tile_id)).freshness.kept_s <= 0
            scene.clock.advance(1.0)
        assert len(scene.origin.asked) == 1
        scene.clock.advance(5.0)
        await source.get(HERE)
        assert len(scene.origin.asked) == 2
        assert opened.caches.memory.stats().tiles == 0


async def test_what_is_forgotten_is_not_cut_from_a_picture_of_before(scene):
    """Neither is a tile of it that nobody had asked for yet."""
    await scene.change(1, Cache_Control="max-age=70")
    async with scene.layer("wms") as opened:
        source = opened.layers[0].source
        await source.get(HERE)
        scene.clock.advance(1.0)
        await scene.change(2, Cache_Control="max-age=70")
        assert await opened.caches.forget("one", lambda _: True) == 1
        scene.clock.advance(1.0)
        assert [shade_of(await source.get(tile_id)) for tile_id in (BLOCK[0], HERE)] == [2, 2]
        assert len(scene.origin.asked) == 2


async def test_a_picture_that_is_gone_takes_its_tiles_along(scene):
    await scene.change(1, Cache_Control="max-age=70")
    async with scene.layer("wms") as opened:
        source = opened.layers[0].source
        await source.get(HERE)
        scene.clock.advance(71.0)
        scene.origin.gone = True
        assert isinstance(await source.get(HERE), NoTile)
        assert isinstance(await source.get(BLOCK[0]), NoTile)
        assert [asked.status for asked in scene.origin.asked] == [200, 404, 404]


async def test_a_picture_that_only_the_disk_has_is_renewed_for_all_its_tiles(scene):
    """After a restart one "not modified" does for all; a tile that nobody has costs the picture."""
    cache = {"disk": "10MB", "path": str(scene.folder / "cache")}
    told = {"source": scene.origin.location("wms"), "stale_while_revalidate": 0}
    settings = parse_settings({"layers": {"one": told}, "cache": cache}, {})
    await scene.change(1, Cache_Control="max-age=70", ETag='"a-1"')
    async with open_layers(settings) as opened:
        source = opened.layers[0].source
        assert [shade_of(await source.get(tile_id)) for tile_id in BLOCK[:3]] == [1, 1, 1]
    scene.clock.advance(71.0)
    async with open_layers(settings) as opened:
        source = opened.layers[0].source
        assert [shade_of(await source.get(tile_id)) for tile_id in BLOCK] == [1, 1, 1, 1]
    assert [each[:2] for each in scene.origin.asked] == [(None, 200), (("etag", '"a-1"'), 304), (None, 200)]


@pytest.mark.parametrize("first", [0, 1, 2], ids=["lost", "changed", "new"])
async def test_a_changed_file_brings_its_own_directories(scene, first):
    """A tile that only the new file has is found, one that it has lost is absent; no byte is of both."""
    await scene.change(1, BLOCK[:2], Cache_Control="max-age=70", ETag='"a-1"')
    async with scene.layer("pmtiles") as opened:
        source = opened.layers[0].source
        assert [shade_of(await source.get(tile_id)) for tile_id in BLOCK[:2]] == [1, 1]
        await scene.change(2, BLOCK[1:], Cache_Control="max-age=70", ETag='"a-2"')
        scene.clock.advance(301.0)
        for number in (first, 0, 1, 2):
            tile = await source.get(BLOCK[number])
            assert (shade_of(tile) == 2) if number else isinstance(tile, NoTile)
