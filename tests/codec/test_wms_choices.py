"""Styles and dimensions that a location names, against what servers of several makes declare."""

import pytest

from doubles.wms import CAPABILITIES_111
from tilehaul.codec.wms_capabilities import WmsLayer, parse_wms_capabilities
from tilehaul.codec.wms_choices import check_dimensions, chosen_styles, no_such
from tilehaul.errors import PlanError

START = "<WMS_Capabilities version='1.3.0'><Capability><Request><GetMap/></Request>"
END = "</Capability></WMS_Capabilities>"

# MapServer: the map is a layer, groups too; every layer has its style, time is an interval.
MAPSERVER = f"""{START}<Layer><Name>MAP</Name><CRS>EPSG:3857</CRS>
 <Layer><Name>weather</Name><Style><Name>grouped</Name></Style>
  <Layer><Name>radar</Name><Style><Name>default</Name></Style>
   <Dimension name="time" units="ISO8601" default="2020-01-01" nearestValue="0">
     2004-01-01/2021-01-01/P1D</Dimension>
  </Layer>
  <Layer><Name>stations</Name></Layer></Layer></Layer>{END}"""

# MapProxy: no styles without legends; values in a list, with white space in it.
MAPPROXY = f"""{START}<Layer><Title>all</Title><CRS>EPSG:3857</CRS>
 <Layer><Name>tiles</Name><Dimension name="time" units="" default="2020-08-25T00:00:00Z">
   2020-08-25T00:00:00Z,
   2020-08-26T00:00:00Z</Dimension>
  <Dimension name="dim_level" units="" default="surface">surface, 500 hPa</Dimension></Layer></Layer>{END}"""

# GeoServer: styles with their workspace, times to the millisecond, elevations as numbers.
GEOSERVER = f"""{START}<Layer><Title>all</Title><CRS>EPSG:3857</CRS><Style><Name>theme</Name></Style>
 <Layer><Name>ws:sea</Name><Style><Name>raster</Name></Style><Style><Name>ws:deep</Name></Style>
  <Dimension name="time" default="current" units="ISO8601" current="1">
    2020-01-01T00:00:00.000Z,2020-02-01T12:30:00.000Z</Dimension>
  <Dimension name="elevation" default="0.0" units="EPSG:5030">0.0,10.0,100.5</Dimension>
  <Dimension name="run" default="a" units="" nearestValue="1">a,b</Dimension></Layer></Layer>{END}"""


def layers(document: str, *names: str) -> list[WmsLayer]:
    said = parse_wms_capabilities(document.encode())
    return [next(layer for layer in said.layers if layer.name == name) for name in names]


@pytest.mark.parametrize(
    ("document", "names", "asked", "sent"),
    [
        (MAPSERVER, ("radar",), "default", "default"),
        (MAPSERVER, ("radar", "stations"), "", ","),
        (MAPSERVER, ("radar", "stations"), "grouped,grouped", "grouped,grouped"),
        (MAPSERVER, ("weather", "stations"), "grouped,", "grouped,"),
        (MAPPROXY, ("tiles",), "default", "default"),
        (GEOSERVER, ("ws:sea",), "ws:deep", "ws:deep"),
        (GEOSERVER, ("ws:sea", "ws:sea"), "theme,raster", "theme,raster"),
    ],
)  # fmt: skip
def test_styles(document: str, names: tuple[str, ...], asked: str, sent: str) -> None:
    assert chosen_styles(asked, layers(document, *names), ()) == sent


@pytest.mark.parametrize(
    ("document", "names", "asked", "says"),
    [
        (MAPSERVER, ("radar",), "foo", "no style for layer radar 'foo'; there are grouped, default"),
        (MAPSERVER, ("radar", "stations"), "default", "is 1 for 2 layers.*as in styles=default,$"),
        (MAPSERVER, ("radar",), "default,", "is 2 for 1 layers.*as in styles=default$"),
        (MAPSERVER, ("MAP",), "grouped", "there are none"),
        (MAPPROXY, ("tiles",), "foo", "there are none"),
        (GEOSERVER, ("ws:sea",), "ws:deap", "did you mean ws:deep"),
    ],
)  # fmt: skip
def test_styles_that_are_none(document: str, names: tuple[str, ...], asked: str, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        chosen_styles(asked, layers(document, *names), ())


def test_names_of_others_are_told_in_one_short_line() -> None:
    names = ["a\nb\x9b", *(f"{number:09}" * 99 for number in range(5000))]
    said = no_such("style", "zz", names)
    assert "a?b?, 0000" in said
    assert said.endswith(", ...")
    assert len(said) < 700


def test_an_sld_brings_its_own_styles() -> None:
    assert chosen_styles("mine", layers(MAPPROXY, "tiles"), [("SLD", "http://h/a.sld")]) == "mine"


@pytest.mark.parametrize(
    ("document", "name", "parameter", "value"),
    [
        (MAPSERVER, "radar", "TIME", "2020-06-01"),
        (MAPSERVER, "weather", "time", "2020-06-01"),
        (MAPSERVER, "MAP", "time", "2020-06-01/2020-06-03"),
        (MAPPROXY, "tiles", "TIME", "2020-08-26T00:00:00Z"),
        (MAPPROXY, "tiles", "TIME", "2020-08-26"),
        (MAPPROXY, "tiles", "TIME", ""),
        (MAPPROXY, "tiles", "dim_level", "500 hPa"),
        (MAPPROXY, "tiles", "anything", "goes"),
        (GEOSERVER, "ws:sea", "time", "current"),
        (GEOSERVER, "ws:sea", "time", "2020-01-01T00:00:00Z"),
        (GEOSERVER, "ws:sea", "time", "2020-02-01t12:30"),
        (GEOSERVER, "ws:sea", "time", "2020-02"),
        (GEOSERVER, "ws:sea", "time", "2020-01-01,2020-02-01"),
        (GEOSERVER, "ws:sea", "Elevation", "10"),
        (GEOSERVER, "ws:sea", "DIM_RUN", "never heard of"),
        (CAPABILITIES_111, "alps", "TIME", "2000-07-01"),
    ],
)  # fmt: skip
def test_dimensions(document: str, name: str, parameter: str, value: str) -> None:
    check_dimensions([(parameter, value)], layers(document, name))


@pytest.mark.parametrize(
    ("document", "name", "parameter", "value", "says"),
    [
        (MAPSERVER, "stations", "TIME", "2020", "no dimension 'TIME'; there are none"),
        (MAPSERVER, "radar", "elevation", "0", "no dimension 'elevation'; there are TIME"),
        (MAPPROXY, "tiles", "dim_levle", "500 hPa", "did you mean DIM_level"),
        (MAPPROXY, "tiles", "TIME", "2020-08-27", "no value of TIME '2020-08-27'; did you mean 2020-08-2"),
        (GEOSERVER, "ws:sea", "time", "2020-1", "no value of TIME '2020-1'"),
        (GEOSERVER, "ws:sea", "time", "2020-02-01T12:00", "no value of TIME"),
        (GEOSERVER, "ws:sea", "time", "2020-01-01,2021-01-01", "no value of TIME '2021-01-01'"),
        (GEOSERVER, "ws:sea", "ELEVATION", "20", "no value of ELEVATION '20'"),
    ],
)  # fmt: skip
def test_dimensions_that_are_none(document: str, name: str, parameter: str, value: str, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        check_dimensions([(parameter, value)], layers(document, name))
