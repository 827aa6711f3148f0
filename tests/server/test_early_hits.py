"""Hits answered before routing: the same answers, in order, and nothing piles up."""

import asyncio
import gzip

import pytest

from tilehaul.errors import BrokenError
from tilehaul.server import protocol, tile_routes
from tilehaul.server.app import Server

AT = "/api/tiles/osm/3/1/2.png"
BODY = b"\x89PNG" + bytes(range(256)) * 8


@pytest.fixture
def routed(monkeypatch):
    """Counts the tile requests that went through the framework."""
    seen = []
    serve = tile_routes.serve_tile

    def counted(*args, **kwargs):
        seen.append(args[0].tile_id)
        return serve(*args, **kwargs)

    monkeypatch.setattr(tile_routes, "serve_tile", counted)
    return seen


async def warm(service, listen, **options):
    """A service whose tile 3/1/2 is in memory, and one connection to it."""
    source = service.layer(**options)
    source.put("3/1/2", BODY)
    connect = await listen(service)
    line = await connect()
    assert (await line.ask(AT)).headers["x-tile-source"] == "origin"
    return source, connect, line


async def test_hit_is_answered_before_routing(service, listen, routed):
    """GET, HEAD and 304 of a cached tile never reach the framework, and are counted."""
    source, _, line = await warm(service, listen)
    assert len(routed) == 1
    got = await line.ask(AT)
    head = await line.ask(AT, method="HEAD")
    same = await line.ask(AT, headers=[("If-None-Match", f'"x", W/{got.headers["etag"]}')])
    assert [answer.status for answer in (got, head, same)] == [200, 200, 304]
    assert got.body == BODY
    assert head.headers == got.headers
    assert (len(routed), len(source.asked)) == (1, 1)
    stats = service.layers["osm"].stats
    assert (stats.hits, stats.misses) == (3, 1)
    kept = service.cache.stats()
    assert (kept.hits, kept.misses) == (3, 1)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", []),
        ("HEAD", []),
        ("GET", [("If-None-Match", "*")]),
        ("GET", [("If-None-Match", '"a"'), ("If-None-Match", "*")]),
    ],
)
async def test_early_and_routed_answers_are_the_same(service, listen, routed, method, headers):
    """The short way tells exactly what the long way tells (HTTP/1.0 goes the long way)."""
    _, connect, line = await warm(service, listen)
    headers = [*headers, ("X-Request-Id", "mine")]
    early = await line.ask(AT, method=method, headers=headers)
    assert early.headers["x-request-id"] == "mine"
    before = len(routed)
    long = await (await connect()).ask(AT, method=method, headers=headers, version="1.0")
    assert len(routed) == before + 1
    assert long.headers.pop("connection") == "close"
    assert {"date", "server"} <= set(early.headers)
    for answer in (early, long):
        answer.headers.pop("date")
    assert early == long


TAG = '"TAG"'
REPEATED = [
    [("Accept-Encoding", "gzip"), ("Accept-Encoding", "gzip;q=0")],
    [("Accept-Encoding", "gzip;q=0"), ("Accept-Encoding", "*")],
    [("Accept-Encoding", "br"), ("Accept-Encoding", "gzip")],
    [("Accept-Encoding", "gzip"), ("Accept-Encoding", "br")],
    [("Accept-Encoding", ""), ("Accept-Encoding", "gzip")],
    [("X-Request-Id", "one"), ("X-Request-Id", "two")],
    [("X-Request-Id", "not good"), ("X-Request-Id", "two")],
    [("If-None-Match", TAG), ("If-None-Match", '"other"')],
    [("If-None-Match", '"other"'), ("If-None-Match", TAG)],
    [("If-None-Match", ""), ("If-None-Match", "*")],
    [("If-None-Match", "*"), ("If-None-Match", "")],
    [("If-None-Match", "*"), ("If-None-Match", "*")],
]


@pytest.mark.parametrize("path", [AT, "/api/tiles/osm/3/1/4.pbf", "/api/tiles/osm/3/1/7.png"])
async def test_repeated_fields_mean_the_same_in_both_ways(service, listen, path):
    """A field sent twice is one list, of ids the first counts: for a tile, a zipped one, a missing one."""
    source, connect, line = await warm(service, listen, missing="transparent" if "7" in path else 404)
    source.put("3/1/4", gzip.compress(b"\x1a\x02hi" * 50), "application/vnd.mapbox-vector-tile")
    tag = (await line.ask(path)).headers["etag"]
    for told in REPEATED:
        headers = [(name, value.replace(TAG, tag)) for name, value in told]
        early = await line.ask(path, headers=headers)
        long = await (await connect()).ask(path, headers=headers, version="1.0")
        long.headers.pop("connection")
        for answer in (early, long):
            # Ours, for want of a good one: see test_only_the_client_names_a_hit.
            if answer.headers.get("x-request-id") == "id-1":
                del answer.headers["x-request-id"]
        for answer in (early, long):
            answer.headers.pop("date")
        assert early == long, headers
        known = told[0][0] == "If-None-Match" and told != [("If-None-Match", "*")] * 2
        assert early.status == (304 if known else 200), headers


async def test_first_request_id_of_two_is_told_by_both_ways(service, listen, routed):
    """The error body of a known absence names the first id, early as routed."""
    _, connect, line = await warm(service, listen)
    path = "/api/tiles/osm/3/1/7.png"
    ids = [("X-Request-Id", "one"), ("X-Request-Id", "two")]
    await line.ask(path)
    before = len(routed)
    early = await line.ask(path, headers=ids)
    assert len(routed) == before
    long = await (await connect()).ask(path, headers=ids, version="1.0")
    assert (early.json()["request_id"], long.json()["request_id"]) == ("one", "one")


@pytest.mark.parametrize("missing", [404, 204, "transparent"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_known_absence_is_answered_early_too(service, listen, routed, missing, method):
    """A tile known to be missing costs no routing either, and the answer is the routed one's twin."""
    source, connect, line = await warm(service, listen, missing=missing)
    path = "/api/tiles/osm/3/1/7.png"
    headers = [("X-Request-Id", "abc")]
    assert (await line.ask(path)).headers["x-tile-source"] == "origin"
    before = len(routed)
    early = await line.ask(path, method=method, headers=headers)
    assert len(routed) == before
    long = await (await connect()).ask(path, method=method, headers=headers, version="1.0")
    assert len(routed) == before + 1
    assert len(source.asked) == 2
    assert early.headers["cache-status"] == "tilehaul; hit; ttl=300"
    long.headers.pop("connection")
    for answer in (early, long):
        answer.headers.pop("date")
    assert early == long
    if missing == "transparent":
        tag = [("If-None-Match", early.headers["etag"])]
        assert (await line.ask(path, headers=tag)).status == 304


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/api/tiles/osm/3/1/2.exe", [], 400),
        ("/api/tiles/osm/3/1/2.pbf", [], 400),
        ("/api/tiles/osm/3/+1/2.png", [], 400),
        ("/api/tiles/osm/3/1_/2.png", [], 400),
        ("/api/tiles/osm/0003/1/2.png", [], 200),
        ("/api/tiles/osm/3/00000000001/2.png", [], 400),
        ("/api/tiles/o%73m/3/1/2.png", [], 200),
        ("/api/tiles/none/3/1/2.png", [], 404),
        ("/api/tiles/osm/3/1/2.png/", [], 404),
        ("/api/tiles/osm/3/1/3.png", [], 404),
        (AT, [("Content-Length", "0")], 200),
        (AT, [("Connection", "Upgrade"), ("Upgrade", "h2c")], 200),
    ],
)
async def test_everything_unusual_goes_the_long_way(service, listen, routed, path, headers, status):
    """What the short way is not sure of, the framework answers."""
    _, _, line = await warm(service, listen)
    hits = service.layers["osm"].stats.hits
    answer = await line.ask(path, headers=headers)
    assert answer.status == status
    assert len(routed) + (status in (400, 404)) >= 2
    if status == 200:
        assert service.layers["osm"].stats.hits == hits + 1


async def test_query_does_not_matter(service, listen, routed):
    """A cache-busting query asks for the same tile."""
    _, _, line = await warm(service, listen)
    assert (await line.ask(AT + "?v=7")).body == BODY
    assert len(routed) == 1


async def test_post_is_refused_in_our_form(service, listen):
    """Only GET and HEAD; the refusal has the form of every error."""
    _, _, line = await warm(service, listen)
    answer = await line.ask(AT, method="POST", headers=[("Content-Length", "0")])
    assert (answer.status, answer.json()["cause"]) == (405, "method_not_allowed")


async def test_close_is_honoured(service, listen):
    """Connection: close is answered and then closed."""
    _, _, line = await warm(service, listen)
    answer = await line.ask(AT, headers=[("Connection", "close")])
    assert (answer.body, answer.headers["connection"]) == (BODY, "close")
    assert await line.closed()


async def test_pipelined_questions_are_answered_in_order(service, listen):
    """Hit, held miss, hit, error, hit in one write: five answers in that order, none early."""
    source, _, line = await warm(service, listen)
    source.put("3/1/4", b"\x89PNG slow")
    source.fail("3/1/5", BrokenError("x", cause="http_500"))
    source.hold = asyncio.Event()
    source.reached.clear()
    for path in (AT, "/api/tiles/osm/3/1/4.png", AT, "/api/tiles/osm/3/1/5.png", AT):
        line.send(path)
    first = await line.read()
    await source.reached.wait()
    source.hold.set()
    rest = [await line.read() for _ in range(4)]
    assert first.body == BODY
    assert [answer.status for answer in rest] == [200, 200, 502, 200]
    assert [answer.body for answer in rest[:2]] == [b"\x89PNG slow", BODY]
    assert rest[3].body == BODY


async def test_request_in_pieces_is_answered_once(service, listen):
    """A head that arrives byte by byte is one request."""
    _, _, line = await warm(service, listen)
    raw = f"GET {AT} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    for at in range(len(raw)):
        line.writer.write(raw[at : at + 1])
        await line.writer.drain()
        await asyncio.sleep(0)
    assert (await line.read()).body == BODY
    assert (await line.ask(AT)).status == 200
    assert service.layers["osm"].stats.hits == 2


async def pile_up(service):
    """Two thousand pipelined questions from a client that does not read: what waits in our buffers."""
    service.layer().put("3/1/6", b"\x89PNG" + bytes(200_000))
    async with Server(service.build(), port=0) as server:
        port = int(server.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        question = b"GET /api/tiles/osm/3/1/6.png HTTP/1.1\r\nHost: localhost\r\n\r\n"
        writer.write(question)
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(200_004)
        writer.transport.pause_reading()
        writer.write(question * 2_000)
        for _ in range(20):
            await asyncio.sleep(0.001)
        waiting = [
            each.transport.get_write_buffer_size() for each in server._uvicorn.server_state.connections
        ]
        writer.transport.resume_reading()
        for _ in range(20):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(200_004) == b"\x89PNG" + bytes(200_000)
        writer.close()
    return max(waiting)


async def test_client_that_does_not_read_does_not_fill_memory(service):
    """Answers nobody reads do not pile up: the short way stops, the long one waits for the reader."""
    assert 0 < await pile_up(service) < 2_000_000


def test_client_that_does_not_read_does_not_fill_memory_on_uvloop(service):
    """The same on the loop that serves in earnest, whose buffers work otherwise."""
    uvloop = pytest.importorskip("uvloop", reason="no uvloop on this platform")
    assert 0 < uvloop.run(pile_up(service)) < 2_000_000


async def test_new_bytes_get_a_new_block(service, listen):
    """When a tile changes at the origin, the finished answer made of the old one is not used."""
    source, _, line = await warm(service, listen)
    old = await line.ask(AT)
    service.clock.time_s += 3600
    source.put("3/1/2", b"\x89PNG new")
    assert (await line.ask(AT)).headers["x-tile-source"] == "origin"
    new = await line.ask(AT)
    assert (new.body, new.headers["x-tile-source"]) == (b"\x89PNG new", "memory")
    assert new.headers["etag"] != old.headers["etag"]


async def test_zipped_tile_goes_early_only_to_who_takes_it(service, listen, routed):
    """The finished block is the gzipped one; others get theirs unzipped from the framework."""
    source, _, line = await warm(service, listen)
    plain = b"\x1a\x02hi" * 50
    source.put("3/1/4", gzip.compress(plain), "application/vnd.mapbox-vector-tile")
    path = "/api/tiles/osm/3/1/4.pbf"
    await line.ask(path)
    before = len(routed)
    zipped = await line.ask(path, headers=[("Accept-Encoding", "gzip")])
    assert gzip.decompress(zipped.body) == plain
    assert len(routed) == before
    assert (await line.ask(path)).body == plain
    assert len(routed) == before + 1


async def test_tile_that_does_not_unzip_is_told_the_long_way(service, listen):
    """A broken vector tile is no reason for a broken connection."""
    source, _, line = await warm(service, listen)
    source.put("3/1/4", gzip.compress(b"x" * 500)[:-9], "application/vnd.mapbox-vector-tile")
    for _ in range(2):
        assert (await line.ask("/api/tiles/osm/3/1/4.pbf")).status == 502


async def test_idle_connection_is_closed_after_early_answers_too(service, listen):
    """A connection that only ever got early answers does not stay open for ever."""
    service.layer().put("3/1/2", BODY)
    await service.ask(AT)
    connect = await listen(service, keep_alive_s=0)
    line = await connect()
    assert (await line.ask(AT)).headers["x-tile-source"] == "memory"
    assert await asyncio.wait_for(line.closed(), 1)


async def test_silent_connections_are_closed(service, listen, monkeypatch):
    """One that never sends, and one that sends half a request, are closed; an answered one lives on."""
    _, connect, line = await warm(service, listen)
    half = await connect()
    assert (await half.ask(AT)).status == 200
    monkeypatch.setattr(protocol.patience, "SILENCE_S", 0.002)
    silent = await connect()
    half.writer.write(f"GET {AT} HTT".encode())
    assert await asyncio.wait_for(silent.closed(), 1)
    assert await asyncio.wait_for(half.closed(), 1)
    assert (await line.ask(AT)).status == 200
    await asyncio.sleep(0.004)
    assert (await line.ask(AT)).status == 200


async def test_slow_miss_after_an_early_answer_is_not_cut(service, listen):
    """The idle timer an early answer has armed does not close the connection under a waiting request."""
    source = service.layer()
    source.put("3/1/2", BODY)
    source.put("3/1/4", b"\x89PNG slow")
    await service.ask(AT)
    source.reached.clear()
    source.hold = asyncio.Event()
    connect = await listen(service, keep_alive_s=0)
    line = await connect()
    line.send(AT)
    line.send("/api/tiles/osm/3/1/4.png")
    assert (await line.read()).body == BODY
    await source.reached.wait()
    await asyncio.sleep(0.005)
    source.hold.set()
    assert (await line.read()).body == b"\x89PNG slow"


async def test_only_the_client_names_a_hit(service, listen):
    """A hit causes no line in the log that ours would be looked for in; a bad name is not repeated."""
    _, _, line = await warm(service, listen)
    for told in ([], [("X-Request-Id", "a b")], [("X-Request-Id", "x" * 65)]):
        assert "x-request-id" not in (await line.ask(AT, headers=told)).headers


async def test_a_format_that_the_layer_does_not_allow_is_refused_by_both_ways(service, listen):
    """Also where the tile itself is in memory; `jpeg` is another name of an allowed `jpg`."""
    source = service.layer(formats=frozenset({"image/png", "image/jpeg"}))
    source.put("3/1/2", BODY)
    connect = await listen(service)
    line = await connect()
    for _ in range(2):
        assert [(await line.ask(AT.replace("png", ext))).status for ext in ("webp", "png", "jpeg")] == [
            400,
            200,
            200,
        ]
    refused = await line.ask(AT.replace("png", "webp"))
    assert refused.json()["error"] == "layer 'osm' is not served in this format: ask for one of jpg, png"
