"""The rest of the service: what it tells of itself, the page's files, and the server around it."""

import asyncio
import gzip
import json
import re
import signal
import socket

import pytest

from tilehaul.errors import ConfigError, PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.tile_stats import FETCH_SAMPLES_MAX, TileStats, figures_of, percentile_ms
from tilehaul.ports.lane import LaneSnapshot, ProcessFigures
from tilehaul.server.app import Server
from tilehaul.server.describe import VECTOR_LAYERS_CHARS_MAX
from tilehaul.server.own_hosts import OwnHosts
from tilehaul.server.reply import accepts_gzip, joined
from tilehaul.stores.disk_cache import DiskCache

AT = "/api/tiles/osm/3/1/2.png"


async def test_cache_stats_has_every_field_twice(service):
    """The promised fields, under `stats` and at the top, with true values."""
    source = service.layer(lane_max=50)
    source.put("3/1/2", b"\x89PNG picture")
    for _ in range(4):
        await service.ask(AT)
    await service.ask("/api/tiles/osm/3/1/3.png")
    told = (await service.ask("/api/tiles/osm/cache-stats")).json()
    stats = told.pop("stats")
    assert told.pop("layer") == "osm"
    assert told == stats
    assert stats == {
        "enabled": True,
        "cache_size": 2,
        "cache_max": None,
        "cache_bytes": 4012,
        "cache_bytes_max": 256_000_000,
        "total_requests": 5,
        "cache_hits": 3,
        "cache_misses": 2,
        "cache_stale": 0,
        "hit_rate": 60.0,
        "coalesced": 0,
        "thread_workers": 50,
        "avg_fetch_time_ms": 0.0,
        "p50_fetch_ms": 0.0,
        "p95_fetch_ms": 0.0,
        "p99_fetch_ms": 0.0,
        "current_concurrent_fetches": 0,
        "max_concurrent_fetches": 1,
    }


async def test_stats_of_the_service_sum_the_layers(service):
    """/api/stats: all layers together, each layer, the cache, the time since the start."""
    service.layer("a").put("3/1/2")
    service.layer("b")
    service.build()
    service.clock.time_s += 12.5
    for layer in ("a", "a", "b"):
        await service.ask(f"/api/tiles/{layer}/3/1/2.png")
    answer = await service.ask("/api/stats")
    told = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert (told["uptime_s"], told["requests"], told["hits"], told["hit_rate_percent"]) == (12.5, 3, 1, 33.33)
    assert told["cache"]["tiles"] == 2
    assert told["jobs"] is None
    assert {name: one["requests"] for name, one in told["layers"].items()} == {"a": 2, "b": 1}


async def test_stats_tell_of_the_cache_on_disk(service, tmp_path):
    """/api/stats: what the cache on disk counts, null where there is none."""
    service.layer("a")
    service.build()
    assert (await service.ask("/api/stats")).json()["disk"] is None
    disk = DiskCache(tmp_path, 1_000_000, wall_s=lambda: 0.0)
    await disk.open()
    await disk.find("a", TileId(3, 1, 2))
    service.build(disk=disk.stats)
    told = (await service.ask("/api/stats")).json()["disk"]
    await disk.aclose()
    assert told == {"tiles": 0, "bytes": 0, "bytes_max": 1_000_000, "hits": 0, "misses": 1, "evictions": 0}


async def test_without_a_cache_the_figures_say_so(uncached):
    """No cache: enabled is false, sizes are zero."""
    uncached.layer()
    stats = (await uncached.ask("/api/tiles/osm/cache-stats")).json()
    assert (stats["enabled"], stats["cache_size"], stats["cache_bytes_max"]) == (False, 0, 0)
    assert (await uncached.ask("/api/stats")).json()["cache"] is None


def test_percentiles_are_of_the_last_fetches():
    """Nearest rank over the newest 1,024; failures count as the time they took."""
    stats = TileStats()
    for ms in range(1, FETCH_SAMPLES_MAX + 101):
        stats.started()
        (stats.failed if ms % 2 else stats.answered)(ms / 1000)
    figures = stats.figures()
    assert figures.fetch_p50_ms == 100 + 512
    assert figures.fetch_p99_ms == 100 + 1014
    assert (figures.fetches, figures.fetches_failed, figures.in_flight, figures.in_flight_max) == (
        562,
        562,
        0,
        1,
    )
    assert percentile_ms([], 95) == 0.0
    assert percentile_ms([7.0], 1) == 7.0
    stats.errors["x"] = 2
    assert figures_of([stats, stats]).errors == {"x": 4}


async def test_tilejson_has_absolute_addresses_of_a_known_host(service):
    """TileJSON 3.0 under the name the service was asked by, when that name is ours."""
    service.layer(
        info={"zoom_min": 1, "zoom_max": 9, "bounds_deg": (5.0, 45.0, 11.0, 48.0), "attribution": "(c) them"},
        title="Streets",
    )
    told = (await service.ask("/api/tiles/osm", host="localhost:8080")).json()
    assert told["tilejson"] == "3.0.0"
    assert told["tiles"] == ["http://localhost:8080/api/tiles/osm/{z}/{x}/{y}.png"]
    assert (told["minzoom"], told["maxzoom"], told["bounds"]) == (1, 9, [5.0, 45.0, 11.0, 48.0])
    assert (told["name"], told["attribution"]) == ("Streets", "(c) them")


VECTOR = {"media_type": "application/vnd.mapbox-vector-tile"}


async def test_tilejson_names_the_archives_vector_layers(service):
    """A style needs them; `fields` is there even when the archive forgot it."""
    text = '[{"id": "roads", "fields": {"kind": "String"}, "minzoom": 3}, {"id": "water"}]'
    service.layer(info={**VECTOR, "vector_layers": text})
    told = (await service.ask("/api/tiles/osm")).json()
    assert told["vector_layers"] == [
        {"id": "roads", "fields": {"kind": "String"}, "minzoom": 3},
        {"id": "water", "fields": {}},
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"vector_layers": []}',
        "7",
        '[{"id": "a", "minzoom": NaN}]',
        "[" * 100_000,
        '["a", null, {"id": 7}, {}]',
        '[{"id": "a"}]' + " " * VECTOR_LAYERS_CHARS_MAX,
    ],
)
async def test_vector_layers_that_are_none_are_left_out(service, text):
    """An archive's mistake costs its list, never the answer."""
    service.layer(info={**VECTOR, "vector_layers": text})
    answer = await service.ask("/api/tiles/osm")
    assert (answer.status, answer.json()["vector_layers"]) == (200, [])


async def test_source_that_has_no_zooms_is_not_the_clients_mistake(service):
    """What a source says of itself may be nonsense: 502, not 400."""
    service.layer(info={"zoom_min": 9, "zoom_max": 3})
    answer = await service.ask("/api/tiles/osm")
    assert (answer.status, answer.json()["cause"]) == (502, "corrupt_archive")


async def test_format_nobody_can_ask_for_is_not_told(service):
    """The addresses told are ones the tile route takes."""
    service.layer(info={"media_type": "text/html"})
    told = (await service.ask("/api/layers")).json()["layers"][0]
    assert (told["format"], told["tiles"]) == ("png", "/api/tiles/osm/{z}/{x}/{y}.png")


async def test_tilejson_does_not_repeat_a_strange_host(service):
    """A forged Host header is refused, not copied; forwarded headers are not believed."""
    service.layer()
    answer = await service.ask("/api/tiles/osm", host="evil.example")
    assert answer.status == 400
    assert b"evil" not in answer.body
    assert "public_url" in answer.json()["error"]
    answer = await service.ask("/api/tiles/osm", headers=[("X-Forwarded-Host", "evil.example")])
    assert b"evil" not in answer.body


async def test_public_url_wins(service):
    """With public_url the Host header does not matter."""
    service.layer()
    service.build(public_url="https://maps.example.com/t/")
    told = (await service.ask("/api/tiles/osm", host="evil.example")).json()
    assert told["tiles"] == ["https://maps.example.com/t/api/tiles/osm/{z}/{x}/{y}.png"]


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("maps.example.com", True),
        ("MAPS.example.com:8080", True),
        ("tiles.example.com:81", True),
        ("tiles.example.com", False),
        ("tiles.example.com:82", False),
        ("10.0.0.5:80", True),
        ("10.0.0.6", False),
        ("[::1]:80", True),
        ("localhost/evil", False),
        ("evil@localhost", False),
        ("", False),
    ],
)
def test_own_hosts_are_names_given_and_addresses_reached(host, good):
    """Known names with any port, names given with a port only with it, the address the client reached."""
    own = OwnHosts(hosts=frozenset({"maps.example.com", "tiles.example.com:81"}))
    if good:
        assert own.base_url(host, scheme="https", local=("10.0.0.5", 80)) == f"https://{host.lower()}"
    else:
        with pytest.raises(PlanError):
            own.base_url(host, scheme="https", local=("10.0.0.5", 80))


def test_ipv6_address_reached_is_own():
    """An IPv6 listener is known by its bracketed address."""
    assert (
        OwnHosts().base_url("[2001:DB8::1]", scheme="http", local=("2001:db8::1", 80))
        == "http://[2001:db8::1]"
    )


@pytest.mark.parametrize("wrong", ["maps.example.com", "ftp://x", "http://", "https://x/?q"])
def test_wrong_public_url_is_a_wrong_setting(wrong):
    """Found at the start, not at the first request."""
    with pytest.raises(ConfigError, match="public_url"):
        OwnHosts(wrong)


async def test_layer_list_is_what_the_page_needs(service):
    """Each layer with title, zooms, bounds, format and a relative address."""
    service.layer("a", attribution="(c) us", info={"media_type": "image/jpeg", "attribution": "(c) them"})
    service.layer("b", info={"media_type": ""})
    a, b = (await service.ask("/api/layers")).json()["layers"]
    assert (a["name"], a["title"], a["attribution"], a["format"]) == ("a", "a", "(c) us", "jpg")
    assert a["tiles"] == "/api/tiles/a/{z}/{x}/{y}.jpg"
    assert b["tiles"] == "/api/tiles/b/{z}/{x}/{y}.png"


async def test_health(service):
    """Live while it runs; ready while its checks hold and it is not draining."""
    service.layer()
    good = {"store": True}

    async def store():
        return good["store"]

    app = service.build(checks={"store": store})
    assert (await service.ask("/health/live")).status == 200
    assert (await service.ask("/health/ready")).json() == {
        "status": "ready",
        "checks": {"store": True, "accepting": True},
    }
    good["store"] = False
    assert (await service.ask("/health/ready")).status == 200, "asked within a second: told the same"
    service.clock.time_s += 1
    answer = await service.ask("/health/ready")
    assert (answer.status, answer.json()["checks"]) == (503, {"store": False, "accepting": True})
    good["store"] = True
    service.clock.time_s += 1
    assert (await service.ask("/health/ready")).status == 200
    app.drain()
    answer = await service.ask("/health/ready")
    assert (answer.status, answer.json()["checks"]["accepting"]) == (503, False)
    assert (await service.ask("/health/live")).status == 200


async def test_page_and_everything_it_names_is_served_by_us(service):
    """No address of another host, no inline script or style, a strict policy, and every file there."""
    service.layer()
    page = await service.ask("/")
    text = page.body.decode()
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; img-src 'self' data:")
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=|<style|\bstyle=|https?://", text)
    names = re.findall(r'(?:src|href)="(/[^"]+)"', text)
    assert len(names) >= 5
    for name in names:
        answer = await service.ask(name)
        assert answer.status == 200, name
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "cache-control" in answer.headers
    assert (await service.ask("/favicon.ico")).headers["content-type"] == "image/svg+xml"


@pytest.mark.parametrize(
    "name", ["leaflet/leaflet.js", "map.js", "charts.js", "live.js", "swipe.js", "tiles.js", "style.css"]
)
async def test_static_files_come_zipped_tagged_and_typed(service, name):
    """gzip for who accepts it, one tag per form, 304 for who has it, HEAD."""
    service.layer()
    path = f"/static/{name}"
    bare = await service.ask(path)
    zipped = await service.ask(path, headers=[("Accept-Encoding", "gzip")])
    assert gzip.decompress(zipped.body) == bare.body
    assert zipped.headers["content-encoding"] == "gzip"
    assert bare.headers["etag"] != zipped.headers["etag"]
    assert bare.headers["content-type"].startswith(("text/javascript", "text/css"))
    again = await service.ask(path, headers=[("If-None-Match", bare.headers["etag"])])
    assert (again.status, again.body) == (304, b"")
    head = await service.ask(path, method="HEAD")
    assert (head.body, head.headers["content-length"]) == (b"", str(len(bare.body)))


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/leaflet/../map.js", "/static/", "/static/app.py", "/x"]
)
async def test_nothing_else_is_served(service, path):
    """Only the files of the table exist."""
    service.layer()
    answer = await service.ask(path)
    assert (answer.status, answer.json()["cause"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("told", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("br, *", True),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity", False),
        ("x-gzip", True),
        (joined(["", "br", "gzip"]), True),
    ],
)
def test_accept_encoding_is_read_as_written(told, accepted):
    """RFC 9110, 12.5.3: a zero weight is a no, a star is everything not named."""
    assert accepts_gzip(told) is accepted


def test_two_layers_of_one_name_are_refused(service):
    """The second would never be reached."""
    service.layer("a")
    only = service.layers["a"]
    service.layers["again"] = only
    with pytest.raises(ConfigError, match=r"layers\.a"):
        service.build()
    del service.layers["again"]
    with pytest.raises(ConfigError, match="tiles_waiting_max"):
        service.build(tiles_waiting_max=0)


async def test_port_in_use_says_what_to_do(service):
    """The message names the port and the flag."""
    service.layer()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} .*in use.*--port"):
            await Server(service.build(), port=port).start()


@pytest.mark.parametrize(("host", "port"), [("203.0.113.1", 0), ("127.0.0.1", 70_000)])
async def test_impossible_address_is_a_wrong_setting(service, host, port):
    """An address of another machine, a port that does not exist."""
    service.layer()
    with pytest.raises(ConfigError):
        await Server(service.build(), host=host, port=port).start()


async def test_server_starts_on_a_free_port_and_leaves_signals_alone(service, listen):
    """Port 0 gives a real one; Ctrl-C stays the program's own business; stopping twice is fine."""
    service.layer()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    server = Server(service.build(), port=0)
    with pytest.raises(RuntimeError):
        _ = server.url
    host, port = await server.start()
    assert server.url == f"http://{host}:{port}"
    assert port > 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    await server.stop()
    await server.stop()
    await server.wait()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection(host, port)


async def test_stop_lets_a_request_on_its_way_end(service, listen):
    """Draining: new connections are refused, ready says no, the waiting one still gets its tile."""
    source = service.layer()
    source.put("3/1/2", b"\x89PNG picture")
    source.hold = asyncio.Event()
    connect = await listen(service)
    idle, line = await connect(), await connect()
    await idle.ask("/health/live")
    line.send(AT)
    await source.reached.wait()
    stopping = asyncio.create_task(connect.server.stop())
    assert await idle.closed()
    with pytest.raises(ConnectionError):
        await connect()
    assert not stopping.done()
    assert (await service.ask("/health/ready")).status == 503
    source.hold.set()
    assert (await line.read()).body == b"\x89PNG picture"
    assert await line.closed()
    await stopping


async def test_stop_does_not_wait_for_ever(service, caplog):
    """A request the origin never answers, and a reader that takes nothing, are cut at the end."""
    source = service.layer()
    source.put("3/1/6", b"\x89PNG" + bytes(7_000_000))
    server = Server(service.build(), port=0, drain_s=1)
    await server.start()
    server._uvicorn.config.timeout_graceful_shutdown = 0.03
    port = int(server.url.rpartition(":")[2])
    writers = []
    for path in ("/api/tiles/osm/3/1/6.png", AT):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        writer.transport.pause_reading()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await source.reached.wait()
        source.reached.clear()
        source.hold = asyncio.Event()
    await asyncio.wait_for(server.stop(), 2)
    assert len(source.cancelled) == 1
    assert "1 requests were cut" in caplog.text
    assert not server._uvicorn.server_state.tasks
    assert not server._uvicorn.server_state.connections
    assert [record for record in caplog.records if record.exc_info] == []
    for writer in writers:
        writer.transport.abort()


async def test_client_that_hangs_up_ends_its_fetch(service, listen):
    """On a real connection too: hanging up cancels the fetch nobody else waits for."""
    source = service.layer()
    source.hold = asyncio.Event()
    line = await (await listen(service))()
    line.send(AT)
    await source.reached.wait()
    line.writer.close()
    for _ in range(200):
        if source.cancelled:
            break
        await asyncio.sleep(0.001)
    assert len(source.cancelled) == 1


def ill(name, **values):
    return LaneSnapshot(name, "tile", 4, **values)


async def test_health_is_told_in_words_without_the_origins_name(service):
    """Degraded is a word, not a status: readiness is another question. Lanes are named by their layer."""
    open_lane = ill("secret.host:8080 (tile)", breaker="open", breaker_since_s=12.0, breaker_wait_s=3.0)
    service.layer("a", lanes=lambda: (ill("secret.host:8080 (tile)"),))
    service.layer("b", lanes=lambda: (ill("secret.host:8080 (tile)"), open_lane))
    service.layer("c")
    answer = await service.ask("/api/health")
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.json() == {
        "status": "degraded",
        "reasons": ["b 2: breaker open since 12 s, tried again in 3 s"],
        "layers": {"a": "healthy", "b": "degraded", "c": "healthy"},
    }
    assert b"secret" not in answer.body
    assert (await service.ask("/health/ready")).status == 200


async def test_stats_tell_lanes_and_process_and_ask_them_once_a_second(service):
    asked = []

    def lanes():
        asked.append(1)
        return (ill("secret.host (tile)", in_flight=3, causes={"timeout": 2}, pace_per_s=0.5),)

    service.layer("a", lanes=lanes)
    service.build(process=lambda: ProcessFigures(threads=7, connections=5))
    told = (await service.ask("/api/stats")).json()
    await service.ask("/api/stats")
    await service.ask("/api/health")
    assert len(asked) == 1
    service.clock.time_s += 1.0
    await service.ask("/api/health")
    assert len(asked) == 2
    assert told["process"] == {"threads": 7, "connections": 5}
    [lane] = told["lanes"]["a"]
    assert (lane["name"], lane["in_flight"], lane["causes"]) == ("a 1", 3, {"timeout": 2})
    assert lane["recent"]["ttfb"] == {"p50_ms": 0.0, "p95_ms": 0.0, "p99_ms": 0.0}
    assert b"secret" not in json.dumps(told).encode()
