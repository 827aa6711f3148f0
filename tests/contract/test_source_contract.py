"""What every source promises, whatever its tiles come from, and a job over each."""

# mypy: allow-untyped-defs, allow-untyped-calls

import asyncio
import io
from contextlib import asynccontextmanager

import pytest
from PIL import Image

import tilehaul
from doubles.bucket import bucket_store
from doubles.upstream import ZOOM_MAX, Upstream
from tilehaul.config.locations import parse_location
from tilehaul.config.sending import Sending
from tilehaul.errors import DataError, TransferError
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.bucket import LabBucket
from tilehaul.lab.plain_png import plain_png
from tilehaul.ports.store import JobKey
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.stored import StoredSource
from tilehaul.wiring.places import open_archive, open_source, open_store

# Neither diagonal nor symmetrical, so that no swapped or flipped axis goes unseen.
THERE = [TileId(3, 5, 1), TileId(3, 5, 2), TileId(3, 6, 1), TileId(4, 1, 12), TileId(1, 0, 1)]
ABSENT = TileId(3, 1, 5)
TILES = {tile_id: plain_png(tile_id) for tile_id in THERE}
# To add a kind of source: one line here, and its place in `location`.
ADDRESSES = {
    "xyz": "/xyz/{z}/{x}/{y}.png",
    "rows from the south": "/south/{z}/{x}/{-y}.png",
    "quadkey": "/quadkey/{q}.png",
    "tms": "/tms/1.0.0/alps",
    "wmts rest": "/wmts.xml?layer=alps",
    "wmts kvp": "/wmts.xml?layer=alps&tilehaul.encoding=kvp",
    "wms": "/wms?layers=relief&tilehaul.meta=1&tilehaul.buffer=0",
}
OVER_HTTP = tuple(ADDRESSES)
KEPT = {
    "directory": "tiles",
    "directory, rows from the south": "tms-rows/{z}/{x}/{-y}",
    "mbtiles": "a.mbtiles",
    "geopackage": "a.gpkg",
    "pmtiles": "a.pmtiles",
    "pmtiles over http": "b.pmtiles",
    "bucket": "",
}
# A WMS draws something at every place.
KNOWS_ABSENCE = tuple(kind for kind in (*OVER_HTTP, *KEPT) if kind != "wms")
ONE_RETRY = Sending(retries=1, timeout_s=2.0)


@pytest.fixture(scope="module")
def upstream():
    with Upstream(TILES) as server:
        yield server


@pytest.fixture(autouse=True)
def _as_before(upstream):
    yield
    upstream.answers.clear()
    upstream.asked.clear()


async def filled(store):
    await store.begin(JobKey("s", "S", "a", len(TILES), metadata=(("name", "kept"), ("format", "png"))))
    await store.commit([Tile(tile_id, body, "image/png") for tile_id, body in TILES.items()])
    await store.finish(complete=True)
    await store.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, upstream):
    """Every archive, filled once."""
    folder = tmp_path_factory.mktemp("kept")

    async def fill():
        for name in KEPT.values():
            if name:
                await filled(open_store(parse_location(str(folder / name)), durability="fast"))

    asyncio.run(fill())
    upstream.files["/b.pmtiles"] = (folder / "b.pmtiles").read_bytes()
    return folder


@pytest.fixture
def opened(upstream, folder, tmp_path):
    """Opens a kind of source."""

    @asynccontextmanager
    async def opened(kind, query=""):
        if kind == "bucket":
            bucket = LabBucket()
            await filled(bucket_store(bucket, tmp_path / "journal"))
            archive = bucket_store(bucket, tmp_path / "other")
            try:
                yield await StoredSource.open(archive)
            finally:
                await archive.close()
            return
        async with open_source(location(kind, upstream, folder) + query, sending=ONE_RETRY) as source:
            yield source

    return opened


def location(kind, upstream, folder):
    if kind == "pmtiles over http":
        return f"{upstream.url}/b.pmtiles"
    if kind in KEPT:
        return str(folder / KEPT[kind])
    scheme = kind.partition(" ")[0]
    return ("" if scheme in ("xyz", "rows", "quadkey") else f"{scheme}+") + upstream.url + ADDRESSES[kind]


def pixels(body):
    with Image.open(io.BytesIO(body)) as picture:
        return picture.convert("RGB").tobytes()


@pytest.mark.parametrize("kind", [*OVER_HTTP, *KEPT])
async def test_each_tile_is_at_its_own_address(opened, kind):
    """One after another, and all at once."""
    async with opened(kind) as source:
        for tile_id in THERE:
            tile = await source.get(tile_id)
            assert (tile.tile_id, tile.media_type) == (tile_id, "image/png")
            assert pixels(tile.body) == pixels(TILES[tile_id])
        at_once = await asyncio.gather(*(source.get(tile_id) for tile_id in THERE * 8))
        assert [pixels(tile.body) for tile in at_once] == [pixels(TILES[tile_id]) for tile_id in THERE * 8]


@pytest.mark.parametrize("kind", KNOWS_ABSENCE)
async def test_absence_is_an_answer(opened, upstream, kind):
    """Neither an error nor a reason to ask again."""
    async with opened(kind) as source:
        answer = await source.get(ABSENT)
    assert isinstance(answer, NoTile)
    assert (answer.tile_id, bool(answer.cause)) == (ABSENT, True)
    assert upstream.asked.count(ABSENT) == (kind in OVER_HTTP)


@pytest.mark.parametrize("kind", [*OVER_HTTP, *KEPT])
@pytest.mark.parametrize("tile_id", [TileId(3, 8, 0), TileId(3, 0, -1), TileId(31, 0, 0)])
async def test_an_address_outside_the_world_is_no_tile(opened, upstream, kind, tile_id):
    """Never another place's tile."""
    upstream.answers[tile_id] = (404, "text/plain", b"")
    async with opened(kind) as source:
        assert isinstance(await source.get(tile_id), NoTile)


FAILURES = {
    "an error": ((500, "text/plain", b"broken"), TransferError, 2),
    "a page instead of a picture": ((200, "text/html", b"<html>log in</html>"), DataError, 2),
    "a picture that is cut off": ((200, "image/png", TILES[THERE[0]][:-20]), DataError, 2),
    "an answer that is cut off": ((200, "image/png", TILES[THERE[0]], 20), (DataError, TransferError), 2),
    "no body at all": ((200, "image/png", b""), (DataError, TransferError), 2),
    "a refusal": ((403, "text/plain", b"no"), TransferError, 1),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("kind", OVER_HTTP)
async def test_a_failure_is_neither_a_tile_nor_an_absence(opened, upstream, kind, failure):
    """And is asked for as often as it helps: once more where it may pass, not again where it will not."""
    answer, error, requests = FAILURES[failure]
    upstream.answers[THERE[0]] = answer
    async with opened(kind) as source:
        with pytest.raises(error):
            await source.get(THERE[0])
        assert upstream.asked.count(THERE[0]) == requests
        # Its neighbour is none the worse.
        assert pixels((await source.get(THERE[1])).body) == pixels(TILES[THERE[1]])


@pytest.mark.parametrize("kind", [*OVER_HTTP, *KEPT])
async def test_what_it_is_stays_the_same_and_tells_no_secret(opened, kind):
    """The identity by which a job knows its source again."""
    query = ("&" if "?" in ADDRESSES.get(kind, "") else "?") + "token=hush-hush" if kind in OVER_HTTP else ""
    async with opened(kind, query) as source:
        first = source.info
    async with opened(kind, query) as source:
        assert source.info == first
    assert first.identity
    assert "hush" not in repr(first)
    assert first.zoom_min <= 1
    assert first.zoom_max >= ZOOM_MAX


async def test_no_two_are_the_same_source(opened):
    identities = []
    for kind in (*OVER_HTTP, *KEPT):
        async with opened(kind) as source:
            identities.append(source.info.identity)
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize("kind", [kind for kind in (*OVER_HTTP, *KEPT) if kind != "bucket"])
async def test_a_job_over_it_loses_nothing(upstream, folder, kind, tmp_path):
    """Every tile that is there, once, and those that are not as absent."""
    target = str(tmp_path / "out.mbtiles")
    options = {"max_failures": tilehaul.FailureLimit(), "durability": "fast"}
    place = location(kind, upstream, folder)
    if kind in OVER_HTTP:
        area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=[1, 3])
        chosen = tilehaul.SeedOptions(**options)
        report = await tilehaul.seed(place, target, area, options=chosen)
        wanted = {tile_id for tile_id in TILES if tile_id.z in (1, 3)}
        assert report.planned == 68
        assert sorted(upstream.asked) == sorted(area)
    else:
        report = await tilehaul.copy(place, target)
        wanted = set(TILES)
    archive = open_archive(target)
    found = {tile_id async for tile_id in archive.tile_ids()}
    assert found == wanted
    for tile_id in found:
        assert pixels((await archive.get(tile_id)).body) == pixels(TILES[tile_id])
    await archive.close()
    assert (report.state, report.done, report.dead) == ("complete", len(wanted), 0)
