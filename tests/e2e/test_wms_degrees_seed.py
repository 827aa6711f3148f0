"""A WMS that has a layer in degrees only: what it is asked for, and where its pixels end up."""

# mypy: allow-untyped-defs, allow-untyped-calls

import io
import sys

import pytest
from PIL import Image, ImageChops

import tilehaul
from doubles.degrees import LEVELS_PER_PX, drawn_in_degrees, true_tile
from doubles.wms import FakeWms
from tilehaul.cli.main import main
from tilehaul.errors import ConfigError, DataError, PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.wiring.places import open_archive

ALL = tilehaul.SeedOptions(max_failures=tilehaul.FailureLimit(), durability="fast")


def drawing(z, *, turned):
    """Answers in degrees, drawn for tiles of a zoom; `turned`: the box has latitude first."""

    def answers(query, _number):
        box = tuple(float(part) for part in query["BBOX"].split(","))
        if turned:
            box = (box[1], box[0], box[3], box[2])
        out = io.BytesIO()
        drawn_in_degrees(z, box, int(query["WIDTH"]), int(query["HEIGHT"])).save(out, "PNG", compress_level=1)
        return 200, "image/png", out.getvalue()

    return answers


@pytest.mark.parametrize(
    ("query", "crs", "asked", "turned"),
    [
        ("layers=relief", ("EPSG:4326", "CRS:84"), ("CRS", "EPSG:4326"), True),
        ("layers=relief&version=1.1.1", ("EPSG:4326",), ("SRS", "EPSG:4326"), False),
        ("layers=relief", ("EPSG:25832", "CRS:84"), ("CRS", "CRS:84"), False),
        ("layers=relief&crs=EPSG:4326", ("EPSG:3857", "EPSG:4326"), ("CRS", "EPSG:4326"), True),
    ],
    ids=["1.3.0, latitude first", "1.1.1, longitude first", "CRS:84, longitude first", "asked for"],
)
async def test_every_pixel_is_where_it_belongs(tmp_path, query, crs, asked, turned):
    area = tilehaul.Area.from_bbox(0, 1, 180, 85, zooms=[3])
    with FakeWms(crs=crs, most="4096", answers=drawing(3, turned=turned)) as wms:
        report = await tilehaul.seed(wms.location(query), str(tmp_path / "a.mbtiles"), area, options=ALL)
        assert (report.state, report.done) == ("complete", 16)
        # Of 2 x 2 tiles: those of 4 x 4 beside the pole would have 5,608 rows.
        assert len(wms.maps) == 4
        assert {each[asked[0]] for each in wms.maps} == {asked[1]}
    archive = open_archive(str(tmp_path / "a.mbtiles"))
    try:
        async for tile_id in archive.tile_ids():
            with Image.open(io.BytesIO((await archive.get(tile_id)).body)) as opened:
                apart = ImageChops.difference(opened.convert("RGB"), true_tile(tile_id.x, tile_id.y))
            assert max(high for _, high in apart.getextrema()) < LEVELS_PER_PX, tile_id
    finally:
        await archive.close()


async def test_web_mercator_is_taken_where_it_is_offered():
    with FakeWms(crs=("EPSG:4326", "CRS:84", "EPSG:900913")) as wms:
        async with tilehaul.open(wms.location()) as source:
            await source.get(TileId(2, 0, 0))
            assert source.info.note == ""
    assert [each["CRS"] for each in wms.maps] == ["EPSG:900913"]


async def test_the_source_is_another_than_the_one_in_web_mercator():
    """A store of one must not be filled up from the other without being asked."""
    identities = set()
    for crs in ("EPSG:4326", "EPSG:3857"):
        with FakeWms() as wms:
            async with tilehaul.open(wms.location(f"layers=relief&crs={crs}")) as source:
                identities.add(source.info.identity)
    assert len(identities) == 2


@pytest.mark.parametrize(
    ("query", "crs", "says"),
    [
        ("layers=relief", ("EPSG:2056", "EPSG:21781"), "in EPSG:3857 or EPSG:4326.* EPSG:2056, EPSG:21781$"),
        ("layers=relief", (), "it is in none"),
        ("layers=relief", tuple(f"EPSG:{number}" for number in range(2000, 2030)), "and 20 more$"),
        ("layers=relief&crs=CRS:84", ("EPSG:4326",), "not offered in CRS:84"),
    ],
)  # fmt: skip
async def test_a_layer_in_neither_names_what_it_is_in(query, crs, says):
    with FakeWms(crs=crs) as wms:
        with pytest.raises(PlanError, match=says):
            async with tilehaul.open(wms.location(query)):
                pass
        assert wms.maps == []


def test_the_command_says_that_it_resamples(tmp_path, capsys):
    with FakeWms(crs=("EPSG:4326",), answers=drawing(0, turned=True)) as wms:
        arguments = ["seed", wms.location(), str(tmp_path / "a.mbtiles"), "-z", "0"]
        assert main(arguments) == 0
        assert "its pictures are in EPSG:4326 and are resampled to Web Mercator" in capsys.readouterr().err
        assert main([*arguments[:2], str(tmp_path / "b.mbtiles"), *arguments[3:], "--json"]) == 0
        assert '"note": "its pictures are in EPSG:4326' in capsys.readouterr().out
        # 1403 rows: as many as the world's northernmost row of pixels is high.
        assert {(each["WIDTH"], each["HEIGHT"]) for each in wms.maps} == {("256", "1403")}
        assert all(abs(float(part)) < 180.1 for each in wms.maps for part in each["BBOX"].split(","))


async def test_a_picture_of_another_size_is_no_tile():
    def small(_query, _number):
        out = io.BytesIO()
        Image.new("RGB", (256, 256)).save(out, "PNG")
        return 200, "image/png", out.getvalue()

    with FakeWms(crs=("EPSG:4326",), answers=small) as wms:
        async with tilehaul.open(wms.location(), sending=tilehaul.Sending(retries=0)) as source:
            with pytest.raises(DataError, match="256x256 pixels, 256x1403 were asked for"):
                await source.get(TileId(0, 0, 0))


async def test_without_pillow_it_is_said(monkeypatch):
    """Also where tiles would not be cut: rows are resampled all the same."""
    with FakeWms(crs=("EPSG:4326",)) as wms:
        monkeypatch.setitem(sys.modules, "PIL", None)
        for name in ("degree_cut", "meta_cut", "mercator_cut"):
            monkeypatch.delitem(sys.modules, f"tilehaul.pixels.{name}", raising=False)
        with pytest.raises(ConfigError, match=r"resampling .*'tilehaul\[wms\]'"):
            async with tilehaul.open(wms.location("layers=relief&tilehaul.meta=1&tilehaul.buffer=0")):
                pass


def test_a_service_says_so_too(capsys, monkeypatch):
    async def at_once(self):
        return False

    monkeypatch.setattr("tilehaul.cli.wishes.Wishes.renewal", at_once)
    with FakeWms(crs=("EPSG:4326",)) as wms:
        assert main(["serve", f"relief={wms.location()}", "--port", "0"]) == 0
    assert "relief: its pictures are in EPSG:4326 and are resampled" in capsys.readouterr().err
