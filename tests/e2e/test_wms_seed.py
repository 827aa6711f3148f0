"""A WMS on loopback into an archive: what it was asked for is counted."""

# mypy: allow-untyped-defs, allow-untyped-calls

import asyncio
import io
import json
import sys

import pytest
from PIL import Image

import tilehaul
from doubles.wms import EXCEPTION, FakeWms, drawn
from tilehaul.cli.main import main
from tilehaul.errors import BrokenError, ConfigError, DataError, PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.wiring.places import open_archive

AREA = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(4))
# Of 4 x 4 tiles: one each of zooms 0, 1 and 2, then 4.
BLOCKS = 1 + 1 + 1 + 4
ONCE = tilehaul.Sending(retries=0)


async def seeded(wms, path, *, query="layers=relief", sending=None, area=AREA):
    options = tilehaul.SeedOptions(
        sending=sending or tilehaul.Sending(), max_failures=tilehaul.FailureLimit(), durability="fast"
    )
    return await tilehaul.seed(wms.location(query), str(path), area, options=options)


async def test_one_request_a_block_and_every_pixel_right(tmp_path):
    with FakeWms() as wms:
        report = await seeded(wms, tmp_path / "out.mbtiles")
        assert (report.state, len(wms.others), len(wms.maps)) == ("complete", 1, BLOCKS)
        again = await seeded(wms, tmp_path / "out.mbtiles")
        assert (again.state, len(wms.maps)) == ("complete", BLOCKS)
    archive = open_archive(str(tmp_path / "out.mbtiles"))
    try:
        kept = 0
        async for tile_id in archive.tile_ids():
            tile = await archive.get(tile_id)
            kept += 1
            if kept % 17:
                continue
            with Image.open(io.BytesIO(tile.body)) as picture:
                assert picture.convert("RGB").tobytes() == drawn(tile_id.bounds_m, 256, 256).tobytes()
        assert kept == 85
    finally:
        await archive.close()
    asked = wms.maps[0]
    assert (asked["VERSION"], asked["CRS"], asked["FORMAT"]) == ("1.3.0", "EPSG:3857", "image/png")


async def test_small_pictures_need_no_cutting(tmp_path, monkeypatch):
    """Without Pillow it works tile by tile, and says so otherwise."""
    area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(3))
    with FakeWms() as wms:
        query = "layers=relief&tilehaul.meta=1&tilehaul.buffer=0&TIME=2019-01-01&map=/a.map"
        report = await seeded(wms, tmp_path / "a", query=query, area=area)
        assert (report.state, len(wms.maps)) == ("complete", 21)
        assert {(q["TIME"], q["MAP"], q["WIDTH"]) for q in wms.maps} == {("2019-01-01", "/a.map", "256")}
        monkeypatch.setitem(sys.modules, "PIL", None)
        monkeypatch.delitem(sys.modules, "tilehaul.pixels.meta_cut", raising=False)
        with pytest.raises(ConfigError, match=r"tilehaul\[wms\]"):
            await seeded(wms, tmp_path / "b", area=area)
        assert len(wms.maps) == 21


async def test_limits_of_the_server_shrink_the_pictures():
    with FakeWms(most="600") as wms:
        async with tilehaul.open(wms.location()) as source:
            assert isinstance(await source.get(TileId(4, 5, 5)), Tile)
    assert (wms.maps[0]["WIDTH"], wms.maps[0]["HEIGHT"]) == ("576", "576")


async def test_outside_is_absent_without_a_request():
    with FakeWms(east="0") as wms:
        async with tilehaul.open(wms.location()) as source:
            assert await source.get(TileId(3, 4, 2)) == NoTile(TileId(3, 4, 2), "outside")
            assert await source.get(TileId(3, 8, 2)) == NoTile(TileId(3, 8, 2), "out_of_range")
            assert wms.maps == []
            assert isinstance(await source.get(TileId(3, 3, 2)), Tile)


async def test_an_error_is_shared_and_not_kept():
    def first_fails(_query, number):
        return (500, "text/plain", b"no") if number == 1 else None

    tiles = [TileId(4, x, y) for x in range(4) for y in range(4)]
    with FakeWms(answers=first_fails) as wms:
        async with tilehaul.open(wms.location(), sending=ONCE) as source:
            ends = await asyncio.gather(*(source.get(each) for each in tiles), return_exceptions=True)
            assert {type(end) for end in ends} == {BrokenError}
            assert len({id(end) for end in ends}) == 16
            assert len(wms.maps) == 1
            assert isinstance(await source.get(tiles[0]), Tile)
            assert isinstance(await source.get(tiles[9]), Tile)
            assert len(wms.maps) == 2


async def test_who_leaves_does_not_disturb_the_others():
    with FakeWms() as wms:
        async with tilehaul.open(wms.location()) as source:
            leaving = asyncio.create_task(source.get(TileId(2, 0, 0)))
            staying = asyncio.create_task(source.get(TileId(2, 1, 0)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            leaving.cancel()
            assert isinstance(await staying, Tile)
            assert leaving.cancelled()
    assert len(wms.maps) == 1


async def test_an_exception_at_200_is_dead_with_its_words(tmp_path):
    def refused(query, _number):
        return (200, "text/html", EXCEPTION.encode()) if query["WIDTH"] == "256" else None

    area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(2))
    with FakeWms(answers=refused) as wms:
        report = await seeded(wms, tmp_path / "out.mbtiles", sending=tilehaul.Sending(retries=1), area=area)
        # Zoom 0 is asked for twice, its kin once.
        assert len(wms.maps) == 3
    assert report.state != "complete"
    letters = [letter async for letter in tilehaul.dead_letters(str(tmp_path / "out.mbtiles"))]
    assert [(str(letter.tile_id), letter.cause, letter.attempts) for letter in letters] == [
        ("0/0/0", "error_page", 2)
    ]
    assert "LayerNotDefined: no such layer" in letters[0].message
    assert "abcdef123" not in repr(letters)


@pytest.mark.parametrize("more", ["", "x" * 300 + " "])
def test_the_words_of_an_exception_are_shown(tmp_path, capsys, more):
    """In the line of the dead tile, in the list of them, and in the report; masked, short, in one line."""
    body = EXCEPTION.replace("no such", f"TIME=2031 has\n\x9b31mno data; no such {more}").encode()
    store, report = str(tmp_path / "out.mbtiles"), tmp_path / "report.json"
    with FakeWms(answers=lambda _query, _number: (200, "text/xml", body)) as wms:
        flags = ["--bbox=-10,-10,10,10", "-z", "0", "--retries", "0", "--report", str(report)]
        location = wms.location("layers=relief&token=abcdef123")
        assert main(["seed", location, store, *flags]) == 3
    err = capsys.readouterr().err
    (line,) = [line for line in err.splitlines() if line.startswith("dead 0/0/0 ")]
    said = "the service answered with an exception: LayerNotDefined: TIME=2031 has 31mno data; no such"
    assert line.startswith(f"dead 0/0/0 error_page {said}")
    assert len(line) < 250
    (first,) = json.loads(report.read_text())["first_dead"]
    assert (first["tile_id"], first["cause"]) == ("0/0/0", "error_page")
    assert said in first["message"]
    assert main(["retry", store, "--list"]) == 3
    out = capsys.readouterr().out
    assert said in out
    assert len(out.splitlines()) == 2
    assert "abcdef123" not in err + out + report.read_text()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("layers=releif", "did you mean relief"),
        ("layers=relief,rivers,roads", "at most 2 layers"),
        ("layers=relief&crs=EPSG:900913", "not offered in EPSG:900913"),
        ("layers=relief&format=image/jpg", "did you mean image/jpeg"),
        ("layers=rivers&styles=bleu", "did you mean blue"),
        ("layers=rivers,roads&styles=blue", "is 1 for 2 layers"),
        ("layers=relief&time=2031-01-01", "no value of TIME '2031-01-01'"),
        ("layers=roads&time=2020-01-01", "no dimension 'time'"),
    ],
)
async def test_what_the_service_does_not_have(query, says):
    with FakeWms() as wms:
        with pytest.raises(PlanError, match=says):
            async with tilehaul.open(wms.location(query)):
                pass
        assert wms.maps == []


async def test_capabilities_that_are_too_large_are_told_with_their_address(monkeypatch):
    monkeypatch.setattr("tilehaul.wiring.wms.CAPABILITIES_BYTES_MAX", 1 << 10)
    with FakeWms() as wms:
        with pytest.raises(PlanError, match=r"/wms\?.*GetCapabilities.*: its capabilities are larger than"):
            async with tilehaul.open(wms.location("layers=relief&token=abcdef123")):
                pass
        assert len(wms.others) == 1


async def test_an_address_for_maps_that_is_none():
    with FakeWms() as wms:
        typed = wms.location()
        wms.url = "http://[bad/"
        with pytest.raises(PlanError, match=r"declares for GetMap is no address: http://\[bad/"):
            async with tilehaul.open(typed):
                pass
        assert wms.maps == []


async def test_a_picture_of_another_size_is_refused():
    def small(_query, _number):
        out = io.BytesIO()
        Image.new("RGB", (64, 64)).save(out, "PNG")
        return 200, "image/png", out.getvalue()

    with FakeWms(answers=small) as wms:
        async with tilehaul.open(wms.location(), sending=ONCE) as source:
            with pytest.raises(DataError, match="64x64 pixels"):
                await source.get(TileId(0, 0, 0))


def test_the_commands(tmp_path, capsys):
    with FakeWms() as wms:
        code = main(
            [
                "seed",
                wms.location(),
                str(tmp_path / "c.mbtiles"),
                "--bbox=-10,-10,10,10",
                "-z",
                "0-2",
                "--quiet",
            ]
        )
        assert code == 0
        assert len(wms.maps) == 3
        assert main(
            ["seed", wms.location("layers=x"), str(tmp_path / "d.mbtiles"), "--bbox=0,0,1,1", "-z", "0"]
        )
    assert "the service has no layer 'x'" in capsys.readouterr().err
