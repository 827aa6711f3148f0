"""Nothing that was asked comes back, and no name leaves its folder (scenarios 29 and 30)."""

import io
from urllib.parse import quote

import pytest

from server.over_http import Running
from tilehaul.cli.logs import LogSettings, set_up_log
from tilehaul.config.load import parse_settings
from tilehaul.net.clock import SystemClock
from tilehaul.policy.keyring import hash_of
from tilehaul.server.app import Server, make_app
from tilehaul.wiring.layers import api_keys, open_layers
from tilehaul.wiring.running_jobs import RunningJobs

CANARY = "canary<i>7f3"
# Short enough for an extension.
WORD = "cnry7f3"
# Wherever a request has a place for a word.
PATHS = [
    "/{}",
    "/api/{}",
    "/api/tiles/{}",
    "/api/tiles/{}/3/1/2.png",
    "/api/tiles/osm/{}/1/2.png",
    "/api/tiles/osm/3/{}/2.png",
    "/api/tiles/osm/3/1/{}.png",
    "/api/tiles/osm/3/1/2.{}",
    "/api/tiles/osm/cache?bbox={}",
    "/api/tiles/osm/cache?zooms={}",
    "/api/tiles/osm/cache?{}=1",
    "/api/tiles/osm/batch?{}=1",
    "/api/tiles/osm?{}",
    "/api/layers?key={}",
    "/api/stats?{}",
    "/metrics?name={}",
    "/wmts?REQUEST={}",
    "/wmts?SERVICE={}",
    "/wmts?REQUEST=GetTile&LAYER={}&TILEMATRIXSET=a&TILEMATRIX=1&TILEROW=1&TILECOL=1",
    "/wmts?REQUEST=GetTile&LAYER=osm&TILEMATRIXSET={}&TILEMATRIX=1&TILEROW=1&TILECOL=1",
    "/wmts?REQUEST=GetTile&LAYER=osm&TILEMATRIXSET=GoogleMapsCompatible&TILEMATRIX={}&TILEROW=1&TILECOL=1",
    "/wmts?REQUEST=GetTile&LAYER=osm&TILEMATRIXSET=GoogleMapsCompatible&TILEMATRIX=1&TILEROW={}&TILECOL=1",
    "/wmts?REQUEST=GetTile&LAYER=osm&TILEMATRIXSET=GoogleMapsCompatible&TILEMATRIX=1&TILEROW=1&TILECOL={}",
    "/wmts?REQUEST=GetTile&LAYER=osm&STYLE={}&TILEMATRIXSET=a&TILEMATRIX=1&TILEROW=1&TILECOL=1",
    "/wmts?REQUEST=GetCapabilities&VERSION={}",
    "/wmts/1.0.0/osm/{}/GoogleMapsCompatible/3/2/1.png",
    "/wmts/1.0.0/osm/default/{}/3/2/1.png",
    "/wmts/1.0.0/osm/default/GoogleMapsCompatible/{}/2/1.png",
    "/tms/1.0.0/{}",
    "/tms/1.0.0/osm/{}/1/2.png",
    "/static/{}",
    "/api/jobs/{}",
    "/api/jobs/{}/events",
]
HEADERS = ["Accept", "Accept-Encoding", "Authorization", "Cookie", "Host", "If-None-Match", "Origin", "Range"]
HEADERS += ["Referer", "User-Agent", "X-Api-Key", "X-Forwarded-For", "X-Forwarded-Host", "X-Request-Id"]


@pytest.fixture
def told_nothing(service):
    service.layer().put("3/1/2", b"\x89PNG picture")
    service.layer("plans", private=True)

    async def forget(layer, wanted):
        del layer, wanted
        return 0

    service.build(forget=forget, admin_key="")
    return service


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("word", [CANARY, WORD])
async def test_no_part_of_an_address_comes_back(told_nothing, path, word):
    """As it is or encoded, whatever the method. Only a batch names its tiles, and an error a number."""
    for method in ("GET", "DELETE", "POST", "OPTIONS"):
        for form in (word, quote(word, safe="")):
            answer = await told_nothing.ask(path.format(form), method=method)
            said = f"{answer.headers} {answer.body.decode('latin-1')}"
            assert answer.status < 500
            assert word not in said
            assert form not in said


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("path", ["/api/tiles/osm/3/1/2.png", "/api/tiles/osm/9/9/x.png", "/n", "/", "/wmts"])
async def test_no_header_comes_back(told_nothing, name, path):
    """A request id does, if it is a harmless word: that is what it is for."""
    host = CANARY if name == "Host" else "localhost"
    headers = [] if name == "Host" else [(name, CANARY), ("x-other", WORD)]
    answer = await told_nothing.ask(path, headers=headers, host=host)
    said = f"{answer.headers} {answer.body.decode('latin-1')}"
    assert "canary" not in said
    assert WORD not in said
    named = await told_nothing.ask("/nothing", headers=[("X-Request-Id", WORD)])
    assert named.headers["x-request-id"] == named.json()["request_id"] == WORD


async def test_what_cannot_be_read_does_not_come_back(told_nothing, listen):
    connect = await listen(told_nothing)
    for raw in (f"GET /{WORD} HTTP/9.{WORD}", f"{WORD} / HTTP/1.1", f"GET / HTTP/1.1\r\n{WORD}"):
        line = await connect()
        line.writer.write(f"{raw}\r\n\r\n".encode())
        answer = await line.read()
        assert answer.status == 400
        assert WORD not in f"{answer.headers} {answer.body}"


UP = [
    "..",
    "../..",
    "..%2f..",
    "%2e%2e",
    "%252e%252e%252f",
    "....//",
    "..\\..",
    "..%5c..",
    "%00",
    "/etc",
    "C:",
    "~",
]


@pytest.mark.parametrize("name", UP)
async def test_29_traversal_of_addresses(tmp_path, name):
    """No address leads to a file: outside of the folder or inside it, but what are tiles."""
    tiles = tmp_path / "tiles" / "0" / "0"
    tiles.mkdir(parents=True)
    (tiles / "0.png").write_bytes(b"\x89PNG secret-inside")
    for place in (tmp_path, tmp_path / "tiles"):
        (place / "secret.png").write_bytes(b"\x89PNG secret-file")
        (place / "1.png").write_bytes(b"\x89PNG secret-file")
    settings = parse_settings({"layers": {"near": {"source": str(tmp_path / "tiles")}}}, {})
    async with open_layers(settings) as opened:
        app = make_app(opened.layers, opened.caches.memory, clock=SystemClock())
        async with Server(app, port=0, drain_s=1) as server:
            running = Running(int(server.url.rpartition(":")[2]), None)
            for path in (
                f"/api/tiles/near/{name}/secret.png",
                f"/api/tiles/near/{name}/{name}/1.png",
                f"/api/tiles/near/0/{name}/1.png",
                f"/api/tiles/near/0/0/{name}/secret.png",
                f"/api/tiles/{name}/0/0/1.png",
                f"/tms/1.0.0/near/{name}/0/1.png",
                f"/wmts/1.0.0/near/default/GoogleMapsCompatible/{name}/0/1.png",
                f"/static/{name}/secret.png",
                f"/static/leaflet/{name}/index.html",
                f"/{name}/secret.png",
                f"/api/tiles/near/batch?tiles={name}/0/1.png",
            ):
                answer = await running.ask("GET", path)
                assert answer.status in (400, 404) or "errors" in answer.json(), path
                assert b"secret" not in answer.body
                assert str(tmp_path).encode() not in answer.body


@pytest.mark.parametrize(
    "name", [*UP, "a/b", "a.mbtiles/../b", ".hidden", "a" * 65, "a.txt", "con:", "a\x00", ""]
)
async def test_29_traversal_of_stores_of_jobs(tmp_path, name):
    """A store's name is a plain one: 400, and no file or folder was made."""
    folder = tmp_path / "stores"
    layers = {"osm": {"source": "http://127.0.0.1:9/{z}/{x}/{y}.png"}}
    settings = parse_settings({"layers": layers, "jobs": {"folder": str(folder)}}, {})
    async with open_layers(settings) as opened, RunningJobs(settings) as jobs:
        app = make_app(opened.layers, None, clock=SystemClock(), jobs=jobs)
        async with Server(app, port=0, drain_s=1) as server:
            running = Running(int(server.url.rpartition(":")[2]), jobs)
            asked = {"source": "osm", "store": name, "zooms": "0", "bbox": [5, 44, 17, 48]}
            assert (await running.ask("POST", "/api/jobs", asked)).status == 400
    assert list(tmp_path.rglob("*")) == [folder]


async def test_30_credential_leak_of_keys(tmp_path, log_kept):
    """Right or wrong, in every place a key may be sent: not in the log at its loudest, not in any answer."""
    right, wrong = "canary-right-0123456789", "canary-wrong-0123456789"
    (tmp_path / "tiles").mkdir()
    settings = parse_settings(
        {
            "layers": {"plans": {"source": str(tmp_path / "tiles"), "private": True}},
            "keys": {"site": {"sha256": hash_of(right.encode()).hex(), "layers": ["plans"]}},
            "server": {"admin_key": "canary-admin-0123456789"},
        },
        {},
    )
    log = io.StringIO()
    set_up_log(LogSettings("debug"), log)
    answers = []
    async with open_layers(settings) as opened:
        app = make_app(
            opened.layers,
            opened.caches.memory,
            clock=SystemClock(),
            keys=api_keys(settings),
            admin_key=settings.server.admin_key,
            forget=opened.caches.forget,
        )
        async with Server(app, port=0, drain_s=1) as server:
            running = Running(int(server.url.rpartition(":")[2]), None)
            for path in (
                "/api/tiles/plans/3/1/2.png",
                "/api/tiles/plans",
                "/api/layers",
                "/metrics",
                "/wmts",
                "/x",
            ):
                for key in (right, wrong, settings.server.admin_key):
                    answers.append(await running.ask("GET", f"{path}?key={key}"))
                    answers.append(await running.ask("GET", path, None, [("X-Api-Key", key)]))
                    answers.append(await running.ask("GET", path, None, [("Authorization", f"Bearer {key}")]))
            answers.append(await running.ask("DELETE", f"/api/tiles/plans/cache?key={right}&bbox={wrong}"))
    assert {answer.status for answer in answers} >= {200, 401, 404}
    said = "".join(f"{answer.headers} {answer.body!r}" for answer in answers) + log.getvalue()
    assert "canary" not in said
    for key in (right, wrong, settings.server.admin_key):
        assert hash_of(key.encode()).hex() not in said
    assert "canary-right" not in repr(app.early_hits.__dict__) + repr(settings)
