"""A picture into a store of its tiles: exact, resumable, and known for what it is by who reads the store."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from itertools import pairwise

import pytest
from PIL import Image

from doubles.pictures import save_noisy
from tilehaul.cli.main import main
from tilehaul.errors import PlanError, StorageError
from tilehaul.grid.area import Area
from tilehaul.grid.pyramid import Pyramid
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.compare import compare
from tilehaul.jobs.stop import Stop
from tilehaul.lab.plain_png import plain_png
from tilehaul.ports.events import JobStarted
from tilehaul.sources.picture import PictureSource
from tilehaul.sources.reencoded import Encoding
from tilehaul.wiring import picture_copying
from tilehaul.wiring.copying import copy
from tilehaul.wiring.picture_copying import copy_picture
from tilehaul.wiring.places import open_archive
from tilehaul.wiring.seeding import SeedOptions, seed
from tilehaul.wiring.verifying import verify_archive

FAST = SeedOptions(durability="fast")
PYRAMID = Pyramid(1500, 900)


@pytest.fixture
def picture(tmp_path):
    return str(save_noisy(tmp_path / "wall.jpg", 1500, 900))


@pytest.fixture
def sources(monkeypatch):
    """Every source that a job made, to count what it did."""
    made = []

    class Counted(PictureSource):
        def __init__(self, cut):
            super().__init__(cut)
            self.asked = []
            made.append(self)

        async def get(self, tile_id):
            self.asked.append(tile_id)
            return await super().get(tile_id)

    monkeypatch.setattr(picture_copying, "PictureSource", Counted)
    return made


async def info_of(store):
    archive = open_archive(store)
    try:
        return await archive.source_info(), await archive.describe()
    finally:
        await archive.close()


async def differing(a, b):
    left, right = open_archive(a), open_archive(b)
    try:
        found = await compare(left, right, lambda _: True)
    finally:
        await left.close()
        await right.close()
    return sum(map(found.count, ("different", "only_a", "only_b"))), found.count("same")


async def test_every_store_has_all_of_it_and_knows_what_it_is(tmp_path, picture, sources):
    stores = [str(tmp_path / name) for name in ("a.mbtiles", "b.pmtiles", "c.gpkg", "d/")]
    for store in stores:
        report = await copy_picture(picture, store, options=FAST)
        assert (report.state, report.done, report.planned) == ("complete", PYRAMID.tiles, PYRAMID.tiles)
        assert (sources[-1].passes, sources[-1].asked) == (1, list(PYRAMID.walk()))
        info, described = await info_of(store)
        assert (info.pyramid, info.zoom_max, info.media_type) == (PYRAMID, 3, "image/jpeg")
        assert described.state == "complete"
        verdict = await verify_archive(store, lambda _: None)
        assert verdict.is_fine, verdict.wrong
    # A GeoPackage has tiles of one size.
    stores.pop(2)
    for one, other in pairwise(stores):
        assert await differing(one, other) == (0, PYRAMID.tiles)


async def test_a_copy_of_a_pyramid_is_one_and_so_is_one_of_its_upper_zooms(tmp_path, picture):
    store = str(tmp_path / "a.mbtiles")
    await copy_picture(picture, store, options=FAST)
    for name in ("b.pmtiles", "c.gpkg", "d/"):
        await copy(store, str(tmp_path / name), options=FAST)
        assert (await info_of(str(tmp_path / name)))[0].pyramid == PYRAMID
    small = str(tmp_path / "e.mbtiles")
    world = Area.from_bbox(-180, -85, 180, 85, zooms=range(3))
    await copy(store, small, within=world, options=FAST)
    assert (await info_of(small))[0].pyramid == Pyramid(750, 450)
    assert (await verify_archive(small, lambda _: None)).is_fine
    await copy(store, small, options=FAST)
    assert (await info_of(small))[0].pyramid == PYRAMID
    assert (await verify_archive(small, lambda _: None)).is_fine


async def test_a_job_that_was_stopped_goes_on_and_ends_with_the_same_bytes(tmp_path, picture, sources):
    whole, store = str(tmp_path / "a.mbtiles"), str(tmp_path / "b.mbtiles")
    await copy_picture(picture, whole, options=FAST)
    stop, loop = Stop(), asyncio.get_running_loop()

    def end_soon(event):
        if isinstance(event, JobStarted):
            loop.call_soon_threadsafe(stop.drain)

    first = await copy_picture(picture, store, options=FAST, watch=end_soon, stop=stop)
    assert first.done + first.pending == PYRAMID.tiles
    second = await copy_picture(picture, store, options=FAST)
    assert (second.state, second.skipped) == ("complete", first.done)
    assert len(sources[-1].asked) == PYRAMID.tiles - first.done
    assert sources[-1].passes == (1 if first.pending else 0)
    assert await differing(whole, store) == (0, PYRAMID.tiles)


async def test_the_same_picture_again_is_no_work_and_another_is_refused_with_both_named(
    tmp_path, picture, sources
):
    store = str(tmp_path / "a.mbtiles")
    await copy_picture(picture, store, options=FAST)
    elsewhere = tmp_path / "moved.jpg"
    elsewhere.write_bytes((tmp_path / "wall.jpg").read_bytes())
    for same in (picture, str(elsewhere)):
        report = await copy_picture(same, store, options=FAST)
        assert (report.state, report.skipped, sources[-1].asked) == ("complete", PYRAMID.tiles, [])
        assert sources[-1].passes == 0
    again = await copy_picture(picture, store, options=replace(FAST, overwrite=True))
    assert (again.done, again.skipped, sources[-1].passes) == (PYRAMID.tiles, 0, 1)

    save_noisy(tmp_path / "wall.jpg", 1500, 901, seed=2)
    with pytest.raises(PlanError, match=r"wall.jpg \(1500 x 900 px.* not of wall.jpg \(1500 x 901 px"):
        await copy_picture(picture, store, options=FAST)
    with pytest.raises(PlanError, match=r"as jpg q80.* not of .*as webp q50"):
        await copy_picture(str(elsewhere), store, encoding=Encoding("webp", 50), options=FAST)
    with pytest.raises(PlanError, match=r"tiles of 256 px.* not of .*tiles of 512 px"):
        await copy_picture(str(elsewhere), store, tile_size=512, options=FAST)
    with pytest.raises(PlanError, match="two pictures"):
        await copy_picture(picture, store, options=replace(FAST, force_source=True))


async def test_tiles_of_a_map_and_of_a_picture_do_not_mix(tmp_path, picture):
    tiles = tmp_path / "map" / "0" / "0"
    tiles.mkdir(parents=True)
    (tiles / "0.png").write_bytes(plain_png(TileId(0, 0, 0)))
    store = str(tmp_path / "a.mbtiles")
    await seed(str(tmp_path / "map"), store, Area.from_tiles([TileId(0, 0, 0)]), options=FAST)
    with pytest.raises(PlanError, match="holds tiles of"):
        await copy_picture(picture, store, options=FAST)


async def test_a_truncated_picture_keeps_what_came_before_and_says_so(tmp_path, monkeypatch):
    pytest.importorskip("pyvips", reason="pyvips is not installed")
    monkeypatch.setattr(picture_copying.PictureFile, "is_large", True)
    path = save_noisy(tmp_path / "p.jpg", 600, 4000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    store = str(tmp_path / "a.mbtiles")
    with pytest.raises(StorageError, match=r"p.jpg cannot be decoded below row \d+"):
        await copy_picture(str(path), store, options=FAST)
    described = (await info_of(store))[1]
    assert described.state == "partial"
    assert 0 < described.tiles < Pyramid(600, 4000).tiles
    assert described.dead == 0


async def test_a_picture_that_changes_meanwhile_is_not_called_complete(tmp_path, picture):
    store = str(tmp_path / "a.mbtiles")

    def change(event):
        if isinstance(event, JobStarted):
            save_noisy(tmp_path / "other.jpg", 10, 10).rename(picture)

    with pytest.raises(StorageError, match="changed"):
        await copy_picture(picture, store, options=FAST, watch=change)
    assert (await info_of(store))[1].state == "partial"


async def test_a_pyramid_with_a_hole_or_a_tile_too_many_does_not_verify(tmp_path, picture):
    store = tmp_path / "d"
    await copy_picture(picture, str(store), options=FAST)
    spare = store / "3" / "5" / "3.jpg"
    spare.with_name("7.jpg").write_bytes(spare.read_bytes())
    spare.unlink()
    verdict = await verify_archive(str(store), lambda _: None)
    assert any(
        "1500 x 900 px has 33 tiles, 33 were found, 1 of them outside" in text for text in verdict.wrong
    )


def test_the_command_counts_cuts_and_tells(tmp_path, picture, capsys):
    store = str(tmp_path / "a.mbtiles")
    assert main(["copy", picture, store, "--pixels", "--dry-run", "--tile-size", "512"]) == 0
    assert "1,500 x 900 px, tiles as jpg q80" in capsys.readouterr().out
    assert main(["copy", picture, store, "--pixels", "--format", "webp", "--quality", "60", "--quiet"]) == 0
    assert main(["info", store]) == 0
    assert "picture 1,500 x 900 px   in tiles of 256 px; no map" in capsys.readouterr().out
    assert main(["verify", store]) == 0


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--pixels", "--bbox=1,2,3,4"], "--bbox is for maps"),
        (["--pixels", "--min-zoom", "0"], "--min-zoom is for maps"),
        (["--pixels", "--update"], "--update is for maps"),
        (["--tile-size", "512"], "go with --pixels"),
        (["--pad"], "go with --pixels"),
        ([], "--pixels` makes tiles of it"),
    ],
)
def test_flags_that_make_no_sense_are_refused(tmp_path, picture, capsys, flags, why):
    assert main(["copy", picture, str(tmp_path / "a.mbtiles"), *flags]) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "a.mbtiles").exists()


async def test_padded_tiles_are_all_of_one_size_white_beyond_the_picture(tmp_path, picture):
    plain, padded = str(tmp_path / "a.mbtiles"), str(tmp_path / "b.mbtiles")
    geopackage = str(tmp_path / "c.gpkg")
    await copy_picture(picture, plain, encoding=Encoding("png"), options=FAST)
    with pytest.raises(PlanError, match=r"not of .*px, padded\)"):
        await copy_picture(picture, plain, encoding=Encoding("png"), padded=True, options=FAST)
    await copy_picture(picture, padded, encoding=Encoding("png"), padded=True, options=FAST)
    await copy_picture(picture, geopackage, encoding=Encoding("png"), options=FAST)
    assert await differing(padded, geopackage) == (0, PYRAMID.tiles)
    cut, full = open_archive(plain), open_archive(padded)
    for tile_id in PYRAMID.walk():
        a, b = [Image.open(BytesIO((await one.get(tile_id)).body)) for one in (cut, full)]
        wanted = Image.new("RGB", (256, 256), "white")
        wanted.paste(a, (0, 0))
        assert b.tobytes() == wanted.tobytes()
    await cut.close()
    await full.close()


async def test_a_picture_of_one_tile(tmp_path):
    Image.new("RGB", (3, 2), (10, 200, 30)).save(tmp_path / "dot.png")
    report = await copy_picture(str(tmp_path / "dot.png"), str(tmp_path / "dot.pmtiles"), options=FAST)
    assert (report.state, report.done) == ("complete", 1)
    assert (await info_of(str(tmp_path / "dot.pmtiles")))[0].pyramid == Pyramid(3, 2)


def test_without_pillow_the_command_says_what_to_install(tmp_path, picture):
    code = "import sys; sys.modules['PIL'] = None; from tilehaul.cli.main import run; run()"
    command = [sys.executable, "-c", code, "copy", picture, str(tmp_path / "a.mbtiles"), "--pixels"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "tilehaul: this needs Pillow: pip install 'tilehaul[pixels]'\n",
    )
