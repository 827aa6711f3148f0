"""What real servers say of lifetimes, and their "not modified": nginx and MapProxy."""

# mypy: allow-untyped-defs, allow-untyped-calls

import os
import subprocess

import pytest

import tilehaul
from doubles.clock import VirtualClock
from servers.conftest import end, free_port, program, wait_for
from tilehaul.config.load import parse_settings
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.ports.tile import Tile
from tilehaul.wiring.layers import open_layers

pytestmark = pytest.mark.servers

HERE = TileId(3, 4, 2)
NGINX = """daemon off;
{user}
pid {root}/pid;
error_log {root}/error.log;
events {{ worker_connections 64; }}
http {{
access_log off;
client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
server {{ listen 127.0.0.1:{port}; root {root}/www; add_header Cache-Control max-age=70; }}
}}
"""


@pytest.fixture
def clock(monkeypatch):
    """The clock of the caches, which the test moves."""
    clock = VirtualClock()
    for room in ("caches", "wms", "remote"):
        monkeypatch.setattr(f"tilehaul.wiring.{room}.SystemClock", lambda: clock)
    return clock


@pytest.fixture
def nginx(tmp_path):
    """Its address; it serves the folder `www`."""
    root, port = tmp_path / "nginx", free_port()
    (tmp_path / "nginx" / "www").mkdir(parents=True)
    user = "user root;" if os.geteuid() == 0 else ""
    (root / "nginx.conf").write_text(NGINX.format(root=root, port=port, user=user))
    command = [program("nginx"), "-c", root / "nginx.conf", "-e", root / "error.log"]
    process = subprocess.Popen(command, start_new_session=True)
    (root / "www" / "up").write_text("up")
    try:
        wait_for(f"http://127.0.0.1:{port}/up")
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)


async def filled(path, tile_bytes=0):
    """A store of zooms 0 to 3."""
    area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(4))
    with MockThread(MockSettings(tile_bytes=tile_bytes)) as origin:
        assert (await tilehaul.seed(origin.template, str(path), area)).state == "complete"


def layer(source):
    told = {"source": source, "stale_while_revalidate": 0}
    return open_layers(parse_settings({"layers": {"one": told}}, {}))


@pytest.mark.parametrize("name", ["tiles/{z}/{x}/{y}.png", "world.pmtiles"])
async def test_nginx(nginx, tmp_path, clock, statuses, name):
    """Loose files and ranges of one file: renewed by a 304; another file gives its own tiles."""
    www = tmp_path / "nginx" / "www"
    place = www / name.partition("/")[0]
    await filled(place)
    async with layer(f"{nginx}/{name}") as opened:
        source = opened.layers[0].source
        first = await source.get(HERE)
        assert isinstance(first, Tile)
        assert first.freshness.fresh_s == 70.0
        clock.advance(71.0)
        statuses.clear()
        again = await source.get(HERE)
        assert (again.body, again.stale, again.freshness.left_s) == (first.body, "", 70.0)
        assert statuses == [(304, 0)]
        if place.suffix:
            await filled(tmp_path / "new.pmtiles", 900)
            (tmp_path / "new.pmtiles").rename(place)
        else:
            await filled(tmp_path / "new", 900)
            (tmp_path / "new/3/4/2.png").rename(place / "3/4/2.png")
        clock.advance(71.0)
        changed = await source.get(HERE)
        assert (len(changed.body), changed.freshness.left_s) == (900, 70.0)


@pytest.mark.parametrize(
    "location",
    [
        "wmts+{url}/wmts/1.0.0/WMTSCapabilities.xml?layer=earth&tilehaul.encoding=rest",
        "wmts+{url}/service?layer=earth&tilehaul.encoding=kvp",
        "tms+{url}/tms/1.0.0/earth/mercator",
    ],
    ids=["rest", "kvp", "tms"],
)
async def test_mapproxy(mapproxy, clock, statuses, location):
    async with layer(location.format(url=mapproxy)) as opened:
        # It calls a tile that it has just drawn by another name than later.
        await opened.layers[0].source.get(HERE)
    async with layer(location.format(url=mapproxy)) as opened:
        source = opened.layers[0].source
        first = await source.get(HERE)
        clock.advance(first.freshness.left_s + 1.0)
        statuses.clear()
        again = await source.get(HERE)
        assert (again.body, again.stale) == (first.body, "")
        assert statuses == [(304, 0)]
