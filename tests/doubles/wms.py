"""A WMS and a WMTS on loopback that draw every place in its own colours and keep what they were asked."""

# mypy: allow-untyped-defs, allow-untyped-calls

import io
import threading
from urllib.parse import parse_qsl, urlsplit

from PIL import Image

from doubles.loopback import Loopback, answer

HALF_WORLD_M = 20037508.342789244

CAPABILITIES_130 = """<?xml version="1.0"?>
<WMS_Capabilities version="1.3.0" xmlns="http://www.opengis.net/wms" xmlns:xlink="http://www.w3.org/1999/xlink">
 <Service><Title>Small</Title><LayerLimit>2</LayerLimit><MaxWidth>%(most)s</MaxWidth><MaxHeight>2048</MaxHeight>
 </Service>
 <Capability><Request><GetMap><Format>image/png</Format><Format>image/jpeg</Format>
  <DCPType><HTTP><Get><OnlineResource xlink:href="%(url)s"/></Get></HTTP></DCPType></GetMap></Request>
  <Exception><Format>XML</Format><Format>INIMAGE</Format></Exception>
  <Layer><Title>All</Title><CRS>EPSG:4326</CRS><CRS>EPSG:3857</CRS>
   <EX_GeographicBoundingBox><westBoundLongitude>-180</westBoundLongitude><eastBoundLongitude>%(east)s</eastBoundLongitude>
    <southBoundLatitude>-90</southBoundLatitude><northBoundLatitude>90</northBoundLatitude></EX_GeographicBoundingBox>
   <Layer><Name>relief</Name><Title>Relief</Title>
    <Dimension name="time" units="ISO8601" default="2020-01-01">2019-01-01,2020-01-01</Dimension></Layer>
   <Layer><Name>rivers</Name><Style><Name>blue</Name></Style></Layer>
   <Layer><Name>roads</Name></Layer>
  </Layer></Capability></WMS_Capabilities>"""

OFFERED = "<CRS>EPSG:4326</CRS><CRS>EPSG:3857</CRS>"

CAPABILITIES_111 = """<?xml version="1.0"?>
<!DOCTYPE WMT_MS_Capabilities SYSTEM "http://example.com/capabilities_1_1_1.dtd" [
 <!ELEMENT VendorSpecificCapabilities EMPTY> ]>
<WMT_MS_Capabilities version="1.1.1"><Service><Title>Old</Title></Service>
 <Capability><Request><GetMap><Format>image/jpeg</Format>
  <DCPType><HTTP><Get><OnlineResource xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href="http://maps.invalid/wms?map=a&amp;"/>
  </Get></HTTP></DCPType></GetMap></Request>
  <Layer><Title>All</Title><SRS>EPSG:4326 EPSG:900913</SRS>
   <LatLonBoundingBox minx="5" miny="45" maxx="11" maxy="48"/>
   <Layer><Name>relief</Name><Dimension name="TIME" units="ISO8601"/>
    <Extent name="TIME" default="2001">2000/2001</Extent>
    <Layer><Name>alps</Name><SRS>EPSG:3857</SRS>
     <LatLonBoundingBox minx="6" miny="46" maxx="7" maxy="47"/></Layer>
   </Layer></Layer></Capability></WMT_MS_Capabilities>"""

EXCEPTION = (
    '<?xml version="1.0"?><ServiceExceptionReport version="1.3.0">'
    '<ServiceException code="LayerNotDefined">no such layer, token=abcdef123</ServiceException>'
    "</ServiceExceptionReport>"
)


def drawn(box, width, height):
    """A picture in which every pixel's colour follows from its place in the world alone."""
    west, _, _, north = box
    px_m = (box[2] - west) / width
    left, top = round((west + HALF_WORLD_M) / px_m), round((HALF_WORLD_M - north) / px_m)
    red = bytes((left + x) % 251 for x in range(width)) * height
    green = b"".join(bytes([(top + y) % 241]) * width for y in range(height))
    wheel = bytes(range(239)) * (width // 239 + 2)
    starts = [(left + 3 * (top + y)) % 239 for y in range(height)]
    blue = b"".join(wheel[start : start + width] for start in starts)
    return Image.merge("RGB", [Image.frombytes("L", (width, height), band) for band in (red, green, blue)])


class FakeWms(Loopback):
    """Use as a context manager. `maps` are the queries of GetMap, `others` all other paths.

    `answers` replaces an answer: called with the query and the number of the map (from 1), it gives
    (status, content type, body) or None.
    """

    def __init__(self, *, east="180", most="2048", answers=None, crs=("EPSG:4326", "EPSG:3857")):
        super().__init__()
        self.url += "/wms?"
        self.maps, self.others, self.answers = [], [], answers
        self.limits = {"east": east, "most": most}
        self.crs = "".join(f"<CRS>{name}</CRS>" for name in crs)
        self.count = threading.Lock()

    def answered(self, path, headers):
        query = {name.upper(): value for name, value in parse_qsl(urlsplit(path).query)}
        if query.get("REQUEST") != "GetMap":
            self.others.append(path)
            body = CAPABILITIES_130 % {"url": self.url, **self.limits}
            return answer(200, "text/xml", body.replace(OFFERED, self.crs).encode())
        with self.count:
            self.maps.append(query)
            number = len(self.maps)
        other = self.answers(query, number) if self.answers else None
        if other is not None:
            return answer(*other)
        box = tuple(float(part) for part in query["BBOX"].split(","))
        out = io.BytesIO()
        drawn(box, int(query["WIDTH"]), int(query["HEIGHT"])).save(out, "PNG", compress_level=1)
        return answer(200, "image/png", out.getvalue())

    def location(self, query="layers=relief"):
        return f"wms+{self.url}{query}"
