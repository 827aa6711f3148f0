"""A TMS on loopback into an archive: levels, rows from the south, what is absent, and what is refused."""

# mypy: allow-untyped-defs, allow-untyped-calls

import gzip

import pytest

import tilehaul
from doubles import loopback
from doubles.clock import VirtualClock
from doubles.tms import tile_map, tile_set
from doubles.wire import PNG, ScriptedWire, answer
from doubles.wmts import SCALE_0, matrix
from doubles.wmts import document as wmts_document
from tilehaul.cli.main import main
from tilehaul.config.sending import Sending
from tilehaul.errors import DataError, PlanError, RefusedError
from tilehaul.grid.tile_id import TileId
from tilehaul.net.verified import VerifiedSender
from tilehaul.policy.tally import Tally
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.wiring.places import open_archive
from tilehaul.wiring.tms import open_tms, tilemap_url

OUT_OF_RANGE = (
    b'<ExceptionReport><Exception exceptionCode="TileOutOfRange" locator="TILECOL"/></ExceptionReport>'
)
ALL = tilehaul.SeedOptions(max_failures=tilehaul.FailureLimit(), durability="fast")


class FakeTms(loopback.Loopback):
    """Use as a context manager. `document` makes the TileMap of the server's address; tiles are all PNG."""

    def __init__(self, document):
        super().__init__()
        self.url += "/tms/1.0.0/alps"
        self.document = document
        self.tiles, self.documents, self.keys = [], 0, []

    def answered(self, path, headers):
        if path.partition("?")[0].endswith(".png"):
            self.tiles.append(path)
            self.keys.append(headers.get("x-key"))
            return loopback.answer(200, "image/png", PNG)
        self.documents += 1
        return loopback.answer(200, "text/xml", self.document(self.url))


def one_level_off(url):
    return tile_map(*(tile_set(order, order + 1, base=f"{url}/") for order in range(3)))


async def test_a_service_one_level_off_into_an_archive(tmp_path):
    area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(1, 3))
    with FakeTms(one_level_off) as tms:
        report = await tilehaul.seed(f"tms+{tms.url}?k=v", str(tmp_path / "a.mbtiles"), area, options=ALL)
        assert (report.state, report.done, report.requests) == ("complete", 20, 21)
        assert tms.documents == 1
    # Zoom 1 is order 0; the north-west tile is in its second row from the south.
    assert {path.rpartition("/tms/1.0.0/alps/")[2] for path in tms.tiles} == {
        f"{z - 1}/{x}/{y}.png?k=v" for z in (1, 2) for x in range(1 << z) for y in range(1 << z)
    }
    archive = open_archive(str(tmp_path / "a.mbtiles"))
    try:
        assert sorted({tile_id.z async for tile_id in archive.tile_ids()}) == [1, 2]
    finally:
        await archive.close()


async def test_rows_are_counted_from_the_south():
    with FakeTms(one_level_off) as tms:
        async with tilehaul.open(f"tms+{tms.url}", sending=Sending(headers=(("x-key", "k"),))) as source:
            assert isinstance(await source.get(TileId(2, 3, 0)), Tile)
            assert await source.get(TileId(0, 0, 0)) == NoTile(TileId(0, 0, 0), "out_of_range")
            assert await source.get(TileId(4, 0, 0)) == NoTile(TileId(4, 0, 0), "out_of_range")
            assert (source.info.zoom_min, source.info.zoom_max) == (1, 3)
    assert [path.rpartition("alps/")[2] for path in tms.tiles] == ["1/3/3.png"]
    assert tms.keys == ["k"]


async def test_zooms_that_are_not_there_are_refused(tmp_path):
    area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(3))
    with FakeTms(one_level_off) as tms:
        with pytest.raises(PlanError, match=r"has zooms 1-3, not 0: give -z 1-2"):
            await tilehaul.seed(f"tms+{tms.url}", str(tmp_path / "a.mbtiles"), area, options=ALL)
        assert tms.tiles == []


def with_gaps(url):
    return tile_map(*(tile_set(zoom, zoom, base=f"{url}/") for zoom in (1, 3, 5)))


def matrices_with_gaps(url):
    return wmts_document(url, matrix("00", SCALE_0) + matrix("02", SCALE_0 / 4, side=4))


@pytest.mark.parametrize(
    ("document", "location", "zooms", "says"),
    [
        (with_gaps, "tms+{}", range(1, 6), "has zooms 1,3,5, not 2,4: give -z 1,3,5"),
        (with_gaps, "tms+{}", [2, 4], "has zooms 1,3,5, not 2,4$"),
        (matrices_with_gaps, "wmts+{}/kvp?layer=alps", range(4), "has zooms 0,2, not 1,3: give -z 0,2"),
    ],
)
async def test_zooms_in_a_gap_are_refused_and_named(tmp_path, document, location, zooms, says):
    """A whole zoom that nobody has was counted as absent tiles of a complete job."""
    area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=zooms)
    with FakeTms(document) as service:
        with pytest.raises(PlanError, match=says):
            await tilehaul.seed(location.format(service.url), str(tmp_path / "a.mbtiles"), area, options=ALL)
        assert (service.documents, service.tiles, list(tmp_path.iterdir())) == (1, [], [])


async def test_a_copy_of_listed_tiles_in_a_gap_is_refused(tmp_path):
    for zoom in (1, 2):
        (tmp_path / f"a/{zoom}/0").mkdir(parents=True)
        (tmp_path / f"a/{zoom}/0/0.png").write_bytes(PNG)
    with FakeTms(with_gaps) as tms:
        with pytest.raises(PlanError, match="has zooms 1,3,5, not 2: give -z 1"):
            await tilehaul.copy(
                f"tms+{tms.url}", str(tmp_path / "b.mbtiles"), tiles_of=str(tmp_path / "a"), options=ALL
            )
        assert tms.tiles == []


def test_a_sample_of_zooms_in_a_gap_is_refused(tmp_path, capsys):
    with FakeTms(with_gaps) as tms:
        command = ["seed", f"tms+{tms.url}", str(tmp_path / "a.mbtiles"), "-z", "1-3", "--dry-run"]
        assert main([*command, "--sample", "9"]) == 2
        assert "has zooms 1,3,5, not 2: give -z 1,3" in capsys.readouterr().err
        assert tms.tiles == []


async def test_a_level_on_another_private_host_is_not_asked(tmp_path):
    """Only what was typed may be private: a document must not lead into the network behind it."""
    with FakeTms(one_level_off) as other:

        def elsewhere(_url):
            return tile_map(tile_set(0, 1, base=f"{other.url}/"))

        area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=[1])
        with FakeTms(elsewhere) as tms:
            location = f"tms+{tms.url}?token=abcdef"
            async with tilehaul.open(location) as source:
                with pytest.raises(RefusedError, match="private"):
                    await source.get(TileId(1, 0, 0))
            assert (other.tiles, tms.tiles) == ([], [])
            host = other.url.split("/")[2]
            sending = Sending(allow_private=(host,), headers=(("x-key", "k"),))
            options = tilehaul.SeedOptions(sending=sending, durability="fast")
            report = await tilehaul.seed(location, str(tmp_path / "a.mbtiles"), area, options=options)
            assert (report.state, len(other.tiles), tms.tiles) == ("complete", 4, [])
    # A key goes to no other host than the one that was typed, in no form.
    assert set(other.keys) == {None}
    assert not any("token" in path for path in other.tiles)


async def test_a_level_on_a_public_host_needs_a_contact_as_that_host_typed_would(tmp_path):
    """Nothing is sent there: the numbers are an address already, and nobody is named."""
    area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=[1])
    with FakeTms(lambda _url: tile_map(tile_set(0, 1, base="http://8.8.8.8/"))) as tms:
        with pytest.raises(PlanError, match="needs a contact"):
            await tilehaul.seed(f"tms+{tms.url}", str(tmp_path / "a.mbtiles"), area, options=ALL)
        assert tms.documents == 1


async def test_tiles_out_of_range_are_absent_and_other_400_are_not():
    wire = ScriptedWire([answer(200, tile_map(), content_type="text/xml")])
    sender = VerifiedSender(wire, VirtualClock(), Tally())
    source = await open_tms("http://h/tms/1.0.0/alps", sender, Sending())
    tile_id = TileId(1, 0, 0)
    for body, coding in ((OUT_OF_RANGE, {}), (gzip.compress(OUT_OF_RANGE), {"content_encoding": "gzip"})):
        wire.steps.append(answer(400, body, **coding))
        assert await source.get(tile_id) == NoTile(tile_id, "out_of_range")
    wire.steps.append(answer(404, b"<TileMapServerError/>"))
    assert await source.get(tile_id) == NoTile(tile_id, "http_404")
    for body, coding in ((b"<ExceptionReport/>", {}), (OUT_OF_RANGE, {"content_encoding": "gzip"})):
        wire.steps.append(answer(400, body, **coding))
        with pytest.raises(RefusedError):
            await source.get(tile_id)


async def test_gaps_and_bounds_are_absent_without_a_request():
    box = '<BoundingBox minx="0" miny="0" maxx="20037508.34" maxy="20037508.34"/>'
    document = tile_map(tile_set(0, 1), tile_set(1, 3), box=box)
    wire = ScriptedWire([answer(200, document, content_type="text/xml")])
    sender = VerifiedSender(wire, VirtualClock(), Tally())
    source = await open_tms("http://h/tms/1.0.0/alps", sender, Sending())
    assert await source.get(TileId(2, 3, 0)) == NoTile(TileId(2, 3, 0), "out_of_range")
    assert await source.get(TileId(3, 3, 0)) == NoTile(TileId(3, 3, 0), "outside")
    assert isinstance(await source.get(TileId(3, 4, 3)), Tile)
    assert [request.url for request in wire.requests[1:]] == ["http://h/tms/1.0.0/alps/1/4/4.png"]
    assert source.info.bounds_deg == pytest.approx((0, 0, 180, 85.05112878))


async def test_identity_knows_levels_and_no_key():
    async def identity(location="tms+http://h/tms/1.0.0/alps", document=None):
        wire = ScriptedWire([answer(200, document or tile_map(), content_type="text/xml")])
        sender = VerifiedSender(wire, VirtualClock(), Tally())
        return (await open_tms(tilemap_url(location), sender, Sending())).info.identity

    plain = await identity()
    assert plain == await identity(document=tile_map(*(tile_set(at, at + 1) for at in range(9))))
    assert await identity("tms+http://h/tms/1.0.0/alps?token=abcdef") == await identity(
        "tms+http://h/tms/1.0.0/alps?token=ghijkl"
    )
    fine = '<TileFormat width="512" height="512" extension="png"/>'
    others = {
        plain,
        await identity("tms+http://h/tms/1.0.0/alps?map=b"),
        await identity("tms+http://h/tms/1.0.0/andes"),
        await identity(document=tile_map(tile_set(1, 1))),
        await identity(document=tile_map(form=fine)),
    }
    assert len(others) == 5


@pytest.mark.parametrize(
    ("document", "error", "says"),
    [
        (tile_map(srs="EPSG:25832"), PlanError, "http://h/doc: the TileMap is in EPSG:25832"),
        (tile_map(tile_set(0, 0, base="file:///a/")), DataError, "http://h/doc: a level .* no address"),
        (b"<TileMapService/>", PlanError, "http://h/doc: this is a TMS without"),
    ],
)
async def test_what_is_refused_names_the_document(document, error, says):
    wire = ScriptedWire([answer(200, document, content_type="text/xml")])
    with pytest.raises(error, match=says):
        await open_tms("http://h/doc", wire, Sending())


def test_the_command_says_that_tiles_are_large(tmp_path, capsys):
    fine = '<TileFormat width="512" height="512" extension="png"/>'
    with FakeTms(lambda url: tile_map(tile_set(0, 1, base=f"{url}/"), form=fine)) as tms:
        store = str(tmp_path / "a.mbtiles")
        assert main(["seed", f"tms+{tms.url}", store, "-z", "0"]) == 0
        assert f"{tms.url}: its tiles are 512 px wide" in capsys.readouterr().err
        assert [path.rpartition("alps/")[2] for path in tms.tiles] == ["0/0/0.png"]
