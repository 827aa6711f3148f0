"""Providers by their names: an entry of the catalog is an XYZ source with its terms."""

# mypy: allow-untyped-defs

import sys

import pytest

import tilehaul
from tilehaul.config.locations import Location, parse_location
from tilehaul.config.sending import SENDING_DEFAULT
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.mock import MockServer
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.wiring import named
from tilehaul.wiring.checking import check_places
from tilehaul.wiring.shared_lanes import hosts_of

ENTRIES = {
    "Lab.Keyed": {
        "url": "https://{s}.example.com/{variant}/{z}/{x}/{y}{r}.png?apikey={apikey}",
        "subdomains": "xy",
        "variant": "outdoors",
        "apikey": "<insert your api key here>",
        "html_attribution": "<b>no</b>",
        "attribution": "(C) Lab",
        "min_zoom": 1,
        "max_zoom": 9,
        "bounds": [[40, -10], [50, 20]],
    },
    "Lab.Mapnik": {"url": "https://tile.openstreetmap.org/{z}/{x}/{y}.png"},
    "Lab.Polar": {"url": "https://example.com/{z}/{x}/{y}.png", "crs": "EPSG:3031"},
    "Lab.Shifted": {"url": "https://example.com/{z}/{x}/{y}.png", "zoomOffset": -1},
}


@pytest.fixture(autouse=True)
def catalog(monkeypatch):
    entries = dict(ENTRIES)
    monkeypatch.setattr(named, "catalog", lambda: entries)
    return entries


def test_entry_is_a_template_with_what_is_known_of_it():
    place = parse_location("provider:lab.keyed?apikey=secret")
    assert place == Location("provider", "provider:lab.keyed?apikey=secret")
    opener = named.xyz_opener(place)
    assert opener.template.url(TileId(2, 0, 1)).endswith(".example.com/outdoors/2/0/1.png?apikey=secret")
    assert "secret" not in opener.template.shown
    info = opener.info
    assert (info.name, info.attribution, info.zoom_min, info.zoom_max) == ("Lab.Keyed", "(C) Lab", 1, 9)
    assert info.bounds_deg == (-10.0, 40.0, 20.0, 50.0)
    assert sorted(hosts_of(place.text, {})) == ["x.example.com:443", "y.example.com:443"]


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("provider:Lab.Keyd", "did you mean Lab.Keyed"),
        ("provider:Lab.Keyed", r"needs a key of yours: provider:Lab\.Keyed\?apikey="),
        ("provider:Lab.Keyed?apikey=a&colour=red", "takes no colour"),
        ("provider:Lab.Polar", "EPSG:3031"),
        ("provider:Lab.Shifted", "zooms from -1"),
    ],
)
def test_refused(location, words):
    with pytest.raises(tilehaul.PlanError, match=words):
        named.xyz_urls(parse_location(location))


def test_host_that_forbids_bulk_stays_refused(tmp_path):
    with pytest.raises(tilehaul.PlanError, match=r"openstreetmap\.org cannot be seeded"):
        check_places("provider:Lab.Mapnik", str(tmp_path / "a.mbtiles"), SENDING_DEFAULT)


async def test_seeds_and_opens(catalog, tmp_path):
    async with MockServer(MockSettings(seed=5)) as server:
        catalog["Lab.Here"] = {"url": server.template, "attribution": "(C) Here"}
        area = tilehaul.Area.from_bbox(-180, -85, 180, 85, range(3))
        report = await tilehaul.seed("provider:Lab.Here", str(tmp_path / "a.mbtiles"), area)
        assert (report.state, report.done, report.requests) == ("complete", 21, 21)
        async with tilehaul.open("provider:Lab.Here") as source:
            assert isinstance(await source.get(TileId(1, 0, 0)), tilehaul.Tile)
    async with tilehaul.open(str(tmp_path / "a.mbtiles")) as stored:
        assert stored.info.attribution == "(C) Here"


def test_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "xyzservices", None)
    with pytest.raises(tilehaul.PlanError, match=r"pip install 'tilehaul\[providers\]'"):
        named.catalog()
