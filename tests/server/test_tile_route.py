"""The tile route, asked as an ASGI application."""

import asyncio
import gzip
import logging
import re
import zlib

import pytest
import xxhash

from tilehaul.errors import (
    BrokenError,
    BusyError,
    ConfigError,
    DataError,
    DeniedError,
    FuseError,
    PlanError,
    RefusedError,
    StorageError,
    ThrottledError,
    TilehaulError,
    TimedOutError,
    TransferError,
    UnreachableError,
)
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.blank import TRANSPARENT_PNG
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.serve_tile import etag_matches
from tilehaul.server.reply import head_bytes
from tilehaul.server.statuses import message_of, status_of

AT = "/api/tiles/osm/3/1/2.png"
BODY = b"\x89PNG picture"
ETAG = f'"{xxhash.xxh3_128_hexdigest(BODY)}"'


async def test_tile_comes_with_all_its_headers(service):
    """A miss: bytes, true type, strong tag, lifetime, where from, open to other sites."""
    service.layer().put("3/1/2", BODY)
    answer = await service.ask(AT)
    assert (answer.status, answer.body) == (200, BODY)
    exposed = answer.headers.pop("access-control-expose-headers")
    assert {"X-Tile-Source", "X-Tile-Format", "ETag"} <= set(exposed.split(", "))
    assert answer.headers == {
        "content-type": "image/png",
        "content-length": str(len(BODY)),
        "etag": ETAG,
        "cache-control": "public, max-age=3600",
        "cache-status": "tilehaul; fwd=miss; stored; ttl=3600",
        "x-request-id": "id-1",
        "x-tile-source": "origin",
        "x-tile-format": "png",
        "access-control-allow-origin": "*",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
    }


async def test_hit_says_memory_and_what_is_left(service):
    """The second answer comes from memory; ttl counts down."""
    source = service.layer()
    source.put("3/1/2", BODY)
    await service.ask(AT)
    service.clock.time_s += 600
    answer = await service.ask(AT)
    assert answer.headers["cache-status"] == "tilehaul; hit; ttl=3000"
    assert answer.headers["x-tile-source"] == "memory"
    assert len(source.asked) == 1


async def test_without_a_cache_nothing_is_stored(uncached):
    """No cache: every question goes on, and the answer says so."""
    source = uncached.layer()
    source.put("3/1/2", BODY, place="disk")
    answer = await uncached.ask(AT)
    assert answer.headers["cache-status"] == "tilehaul; hit"
    source.put("3/1/2", BODY)
    assert (await uncached.ask(AT)).headers["cache-status"] == "tilehaul; fwd=miss"
    assert len(source.asked) == 2


async def test_lifetime_told_is_the_layers_own(service):
    """max-age of tiles and of missing tiles are options of the layer."""
    source = service.layer(max_age_s=60, missing_max_age_s=7)
    source.put("3/1/2", BODY)
    assert (await service.ask(AT)).headers["cache-control"] == "public, max-age=60"
    assert (await service.ask("/api/tiles/osm/3/1/3.png")).headers["cache-control"] == "public, max-age=7"


async def test_head_has_the_headers_and_no_body(service):
    """HEAD is GET without the body, Content-Length included; also for what is missing."""
    service.layer().put("3/1/2", BODY)
    got = await service.ask(AT)
    head = await service.ask(AT, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert head.headers["etag"] == ETAG
    missing = await service.ask("/api/tiles/osm/3/1/3.png", method="HEAD")
    assert (missing.status, missing.body) == (404, b"")


@pytest.mark.parametrize(
    "told", [ETAG, f"W/{ETAG}", f'"x", {ETAG}', f'W/"y" , W/{ETAG}', "*", ETAG.strip('"'), f'"x",{ETAG},"z"']
)
async def test_known_tile_is_not_sent_again(service, told):
    """If-None-Match in every form clients send: 304 without body or type, with tag and lifetime."""
    service.layer().put("3/1/2", BODY)
    answer = await service.ask(AT, headers=[("If-None-Match", told)])
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["etag"] == ETAG
    assert answer.headers["cache-control"] == "public, max-age=3600"
    assert not {"content-type", "content-length"} & set(answer.headers)


@pytest.mark.parametrize("told", ['"other"', "W/", '"*"', ETAG[:-2] + '"', ", ,"])
async def test_other_tags_get_the_tile(service, told):
    """A tag that is not this tile's is no match."""
    service.layer().put("3/1/2", BODY)
    assert (await service.ask(AT, headers=[("If-None-Match", told)])).status == 200


def test_repeated_if_none_match_is_one_list():
    """Empty items do not match the empty tag."""
    assert etag_matches('"a", "b"', '"b"')
    assert not etag_matches("", '"b"')


@pytest.mark.parametrize(
    "media_type",
    [
        "text/html",
        "image/svg+xml",
        "application/xml",
        "text/plain",
        "image/tiff",
        "application/json",
        "",
        "image/x\r\ncontent-type: text/html",
    ],
)
@pytest.mark.parametrize("ext", ["png", "pbf"])
async def test_only_tiles_are_sent(service, media_type, ext):
    """What an archive says is a page, a drawing with script or a header of its own is never passed on."""
    body = b"<script>alert(1)</script>"
    source = service.layer()
    source.put("3/1/2", body, media_type)
    for _ in range(2):
        answer = await service.ask(f"/api/tiles/osm/3/1/2.{ext}")
        assert (answer.status, answer.json()["cause"]) == (502, "mistyped")
        assert answer.headers["content-type"] == "application/json"
        assert body not in answer.body


@pytest.mark.parametrize(
    ("media_type", "told", "ending"),
    [
        ("image/png", "image/png", "png"),
        ("image/jpeg", "image/jpeg", "jpg"),
        ("image/jpg", "image/jpeg", "jpg"),
        ("image/webp", "image/webp", "webp"),
        ("image/gif", "image/gif", "gif"),
        ("image/avif", "image/avif", "avif"),
        ("application/x-protobuf", "application/vnd.mapbox-vector-tile", "pbf"),
    ],
)
async def test_every_kind_of_tile_is_sent_by_its_one_name(service, media_type, told, ending):
    """The type on the wire is ours, and a tile opened as a page may do nothing, 304 included."""
    service.layer().put("3/1/2", BODY, media_type)
    answer = await service.ask(f"/api/tiles/osm/3/1/2.{ending}")
    assert (answer.status, answer.headers["content-type"], answer.headers["x-tile-format"]) == (
        200,
        told,
        ending,
    )
    same = await service.ask(f"/api/tiles/osm/3/1/2.{ending}", headers=[("If-None-Match", ETAG)])
    assert same.status == 304
    for each in (answer, same):
        assert each.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert each.headers["x-content-type-options"] == "nosniff"


async def test_stored_format_wins_over_the_asked_one(service):
    """PNG asked, JPEG stored: the JPEG, named truly."""
    service.layer().put("3/1/2", b"\xff\xd8\xff", "image/jpeg")
    answer = await service.ask(AT)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-tile-format"] == "jpg"


async def test_zipped_vector_tile_is_sent_to_who_takes_it(service):
    """A gzipped vector tile keeps its coding for those who accept it, and is unzipped for others."""
    plain = b"\x1a\x02hi" * 50
    service.layer().put("3/1/2", gzip.compress(plain), "application/vnd.mapbox-vector-tile")
    path = "/api/tiles/osm/3/1/2.pbf"
    zipped = await service.ask(path, headers=[("Accept-Encoding", "gzip, br")])
    assert zipped.headers["content-encoding"] == "gzip"
    assert gzip.decompress(zipped.body) == plain
    bare = await service.ask(path, headers=[("Accept-Encoding", "br, gzip;q=0")])
    assert "content-encoding" not in bare.headers
    assert bare.body == plain
    assert bare.headers["etag"] != zipped.headers["etag"]
    assert bare.headers["vary"] == zipped.headers["vary"] == "Accept-Encoding"
    assert bare.headers["content-type"] == "application/vnd.mapbox-vector-tile"
    assert (await service.ask("/api/tiles/osm/3/1/2.png")).status == 400


@pytest.mark.parametrize(("cut", "cause"), [(slice(None, -6), "truncated"), (slice(None), "bad_coding")])
async def test_broken_zip_is_an_error_not_a_tile(service, cut, cause):
    """A stored tile that does not unzip is told as what it is."""
    body = bytearray(gzip.compress(b"\x1a" * 500))
    body[-7] ^= 0 if cause == "truncated" else 255
    service.layer().put("3/1/2", bytes(body)[cut], "application/vnd.mapbox-vector-tile")
    answer = await service.ask("/api/tiles/osm/3/1/2.pbf")
    assert (answer.status, answer.json()["cause"]) == (502, cause)


async def test_missing_tile_is_404_in_our_form(service):
    """By default absence is a 404 with cause, kept by browsers for minutes; the second one is a hit."""
    source = service.layer()
    answer = await service.ask(AT)
    assert answer.status == 404
    assert answer.json() == {
        "success": False,
        "error": "there is no such tile",
        "cause": "http_404",
        "request_id": "id-1",
    }
    assert answer.headers["cache-control"] == "public, max-age=300"
    again = await service.ask(AT)
    assert again.headers["cache-status"] == "tilehaul; hit; ttl=300"
    assert len(source.asked) == 1


async def test_missing_tile_may_be_204(service):
    """204 has no body, no type, no length, no coding."""
    service.layer(missing=204)
    answer = await service.ask(AT)
    assert (answer.status, answer.body) == (204, b"")
    assert not {"content-type", "content-length", "content-encoding"} & set(answer.headers)


async def test_missing_tile_may_be_transparent(service):
    """A real PNG of 256 pixels, all transparent, with a tag of its own."""
    service.layer(missing="transparent")
    answer = await service.ask(AT)
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    assert answer.body == TRANSPARENT_PNG
    assert (await service.ask(AT, headers=[("If-None-Match", answer.headers["etag"])])).status == 304
    width, height = (int.from_bytes(answer.body[at : at + 4]) for at in (16, 20))
    assert (width, height) == (256, 256)
    at = answer.body.index(b"IDAT")
    size = int.from_bytes(answer.body[at - 4 : at])
    assert zlib.decompress(answer.body[at + 4 : at + 4 + size]) == bytes(33 * 256)
    assert answer.body[answer.body.index(b"tRNS") + 4] == 0


async def test_zoom_the_source_has_not_is_absent_without_asking(service):
    """Addresses nobody can have neither reach the origin nor take room in the cache."""
    source = service.layer(info={"zoom_min": 2, "zoom_max": 5})
    for path in ("/api/tiles/osm/6/0/0.png", "/api/tiles/osm/1/0/0.png"):
        answer = await service.ask(path)
        assert (answer.status, answer.json()["cause"]) == (404, "out_of_range")
    assert source.asked == []
    assert service.cache.stats().tiles == 0


@pytest.mark.parametrize(
    "path",
    [
        "3/8/2.png",
        "3/1/8.png",
        "31/0/0.png",
        "3/1/2.exe",
        "3/1/2",
        "3/1/.png",
        "3/1/-2.png",
        "3/+1/2.png",
        "3/1/2 .png",
        "3/1/1_0.png",
        "3/1/٢.png",
        "3/1/2.png.png",
        "99999999999999999999/1/2.png",
    ],
)
async def test_bad_address_is_400_and_nothing_is_asked(service, path):
    """What names no tile is refused with a reason, before any source hears of it."""
    source = service.layer()
    answer = await service.ask(f"/api/tiles/osm/{path}")
    assert answer.status == 400
    assert answer.json()["cause"] == "bad_request"
    assert answer.headers["cache-control"] == "no-store"
    assert source.asked == []


async def test_unknown_layer_is_404(service):
    """With a hint where to look, and not kept: the layer may be added."""
    service.layer()
    for path in ("/api/tiles/nope/3/1/2.png", "/api/tiles/nope", "/api/tiles/nope/cache-stats"):
        answer = await service.ask(path)
        assert (answer.status, answer.json()["cause"]) == (404, "not_found")
        assert "/api/layers" in answer.json()["error"]
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("error", "status", "cause", "retry_after"),
    [
        (UnreachableError("no route", cause="dns"), 502, "dns", None),
        (TimedOutError("slow", phase="first_byte"), 504, "timeout_first_byte", None),
        (ThrottledError("slow down", retry_after_s=2.2), 503, "throttled", "3"),
        (ThrottledError("slow down"), 503, "throttled", "10"),
        (ThrottledError("slow down", retry_after_s=86400.0), 503, "throttled", "300"),
        (BrokenError("broken", cause="http_500"), 502, "http_500", None),
        (DeniedError("key", cause="http_403"), 502, "http_403", None),
        (RefusedError("too large", cause="too_large"), 502, "too_large", None),
        (DataError("cut", cause="truncated"), 502, "truncated", None),
        (BusyError("full", retry_after_s=0.1), 503, "busy", "1"),
        (StorageError("/srv/secret.mbtiles: disk I/O error"), 500, "storage", None),
    ],
)
async def test_origin_errors_have_their_true_status(service, error, status, cause, retry_after):
    """Never 404, never cached; 503 says when to come back; the body has cause and request id."""
    source = service.layer()
    source.fail("3/1/2", error)
    answer = await service.ask(AT, headers=[("X-Request-Id", "abc-1.2")])
    assert answer.status == status
    told = answer.json()
    assert (told["success"], told["cause"], told["request_id"]) == (False, cause, "abc-1.2")
    assert "secret" not in told["error"]
    assert answer.headers.get("retry-after") == retry_after
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"] == "abc-1.2"
    assert service.layers["osm"].stats.errors == {cause: 1}
    source.put("3/1/2", BODY)
    assert (await service.ask(AT)).status == 200


def test_every_error_has_a_status():
    """No class of the tree is missing from the table."""

    def below(kind):
        return [kind, *(deeper for child in kind.__subclasses__() for deeper in below(child))]

    made = {TimedOutError: TimedOutError("x", phase="total")}
    for kind in below(TilehaulError):
        assert status_of(made.get(kind) or kind("x")) in (400, 500, 502, 503, 504), kind
    assert (status_of(PlanError("x")), status_of(ConfigError("x")), status_of(FuseError("x"))) == (
        400,
        500,
        503,
    )
    assert status_of(TransferError("x")) == 502


@pytest.mark.parametrize(
    "error",
    [
        UnreachableError(
            "https://10.1.2.3:9/key/3/1/2.png: no route", url="https://10.1.2.3:9/key/3/1/2.png"
        ),
        TimedOutError("https://10.1.2.3:9/key slow", phase="total"),
        ThrottledError("https://10.1.2.3:9/key says <h1>10.1.2.3</h1>"),
        BrokenError("https://10.1.2.3:9/key: 500", cause="http_500"),
        DeniedError("https://10.1.2.3:9/key: 403"),
        RefusedError("https://10.1.2.3:9/key: 418", cause="http_418"),
        RefusedError("https://10.1.2.3:9/key", cause="refused_address"),
        TransferError("https://10.1.2.3:9/key"),
        DataError("https://10.1.2.3:9/key: <title>10.1.2.3", cause="error_page", head=b"10.1.2.3"),
        DataError("https://10.1.2.3:9/key", cause="never heard of"),
    ],
)
async def test_public_is_told_the_cause_and_not_the_origin(service, error):
    """Neither the origin's address nor its words reach a client: one sentence for each cause does."""
    service.layer().fail("3/1/2", error)
    answer = await service.ask(AT)
    for word in (b"10.1.2.3", b"key", b"<"):
        assert word not in answer.body
    told = answer.json()
    assert told["cause"] == error.cause
    assert len(told["error"].split()) >= 4


def test_reason_of_a_cause_is_told_before_the_classs():
    """A client reads why, as far as it is its business."""
    assert message_of(RefusedError("x", cause="too_large")) == "the tile is larger than this service takes"
    assert message_of(RefusedError("x")) == "the origin of this tile refused the request"
    assert message_of(BusyError("5 wait")) == "5 wait"


@pytest.mark.parametrize("mark", ["\r\nx: y", "\n", "\r", "\0", "\x7f", "\u2028"])
async def test_header_that_would_break_its_line_is_never_sent(service, mark):
    """One guard at both doors: no value with a line end or a control character goes out."""
    service.layer().put("3/1/2", BODY, place=f"origin{mark}")
    answer = await service.ask(AT)
    assert (answer.status, answer.json()["cause"]) == (502, "bad_header")
    for headers in ((("a", f"b{mark}"),), ((f"a{mark}", "b"),)):
        with pytest.raises(DataError):
            head_bytes(200, headers)
    assert head_bytes(200, (("a", "b\tc é"),)) == b"HTTP/1.1 200 OK\r\na: b\tc \xe9\r\n"


async def test_strange_request_id_is_not_repeated(service):
    """A caller's id that could break a header or a log line is replaced."""
    service.layer().fail("3/1/2", BrokenError("x"))
    answer = await service.ask(AT, headers=[("X-Request-Id", 'a"; drop')])
    assert answer.json()["request_id"] == "id-1"


async def test_defect_is_500_and_logged_whole(service, caplog):
    """An error nobody foresaw: told plainly; the traceback is in the log, not in the answer."""
    service.layer().fail("3/1/2", ZeroDivisionError("secret"))
    answer = await service.ask(AT)
    assert (answer.status, answer.json()["cause"]) == (500, "internal")
    assert b"secret" not in answer.body
    assert "ZeroDivisionError" in caplog.text


async def test_log_has_no_coordinates_above_debug(service, caplog):
    """Where people look is not logged: layer and cause are."""
    caplog.set_level(logging.DEBUG)
    source = service.layer()
    source.put("9/271/173", BODY)
    source.fail("9/271/174", BrokenError("http://origin/9/271/174 failed", cause="http_500"))
    for row in (173, 174, 175):
        await service.ask(f"/api/tiles/osm/9/271/{row}.png")
    loud = [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG]
    assert loud == ["layer osm: a tile failed: http_500"]
    assert "271/174" in caplog.text


async def test_stampede_is_one_request(service):
    """Fifty clients ask for one cold tile: the origin is asked once, and the figures say so."""
    source = service.layer()
    source.put("3/1/2", BODY)
    source.hold = asyncio.Event()
    asking = [asyncio.create_task(service.ask(AT)) for _ in range(50)]
    await source.reached.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    source.hold.set()
    answers = await asyncio.gather(*asking)
    assert {(answer.status, answer.body) for answer in answers} == {(200, BODY)}
    assert len(source.asked) == 1
    stats = (await service.ask("/api/tiles/osm/cache-stats")).json()
    assert (stats["coalesced"], stats["total_requests"], stats["cache_misses"]) == (49, 50, 50)
    assert (stats["max_concurrent_fetches"], stats["current_concurrent_fetches"]) == (1, 0)


async def test_client_that_leaves_ends_its_fetch(service):
    """The only asker goes away: the origin's fetch is cancelled, nothing is left behind."""
    source = service.layer()
    source.hold = asyncio.Event()
    gone = asyncio.Event()
    asking = asyncio.create_task(service.ask(AT, gone=gone))
    await source.reached.wait()
    gone.set()
    assert (await asking).status == 499
    assert len(source.cancelled) == 1
    assert service.app.tiles_waiting == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancelled_request_ends_its_fetch(service):
    """The server gives up on a request: its work ends with it, and the cancellation propagates."""
    source = service.layer()
    source.hold = asyncio.Event()
    asking = asyncio.create_task(service.ask(AT))
    await source.reached.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert len(source.cancelled) == 1


async def test_too_many_waiting_are_told_to_come_back(service):
    """The number of waiting tile requests is bounded: 503 with Retry-After, then normal again."""
    source = service.layer()
    source.put("3/1/2", BODY)
    source.hold = asyncio.Event()
    service.build(tiles_waiting_max=1)
    first = asyncio.create_task(service.ask(AT))
    await source.reached.wait()
    second = await service.ask(AT)
    assert (second.status, second.json()["cause"], second.headers["retry-after"]) == (503, "busy", "1")
    source.hold.set()
    assert (await first).status == 200
    assert (await service.ask(AT)).status == 200


async def test_a_layer_that_hangs_leaves_the_others_their_room(service):
    """Nor does it keep its own tiles back that are in memory, stale ones too."""
    hanging, other = service.layer("hanging"), service.layer("other")
    for source in (hanging, other):
        source.put("3/1/2", BODY)
    service.build(tiles_waiting_max=2)
    assert (await service.ask("/api/tiles/hanging/3/1/2.png")).status == 200
    service.clock.time_s += 3_601.0
    hanging.hold = asyncio.Event()
    waiting = [asyncio.create_task(service.ask(f"/api/tiles/hanging/3/{x}/5.png")) for x in range(2)]
    while service.app.tiles_waiting < 2:
        await asyncio.sleep(0)
    refused = await service.ask("/api/tiles/hanging/3/2/5.png")
    shared = await service.ask("/api/tiles/hanging/3/0/5.png")
    assert (refused.status, shared.status) == (503, 503)
    stale = await service.ask("/api/tiles/hanging/3/1/2.png")
    assert (stale.status, stale.body) == (200, BODY)
    assert stale.headers["cache-status"].endswith("; ttl=-1")
    assert (await service.ask("/api/tiles/other/3/1/2.png")).status == 200
    hanging.hold.set()
    assert [answer.status for answer in await asyncio.gather(*waiting)] == [404, 404]
    assert service.app.tiles_waiting == 0


async def test_all_layers_together_have_a_limit_too(service):
    names = ["a", "b", "c", "d", "e"]
    for name in names:
        service.layer(name).hold = asyncio.Event()
    service.build(tiles_waiting_max=1)
    waiting = [asyncio.create_task(service.ask(f"/api/tiles/{name}/3/1/2.png")) for name in names[:4]]
    while service.app.tiles_waiting < 4:
        await asyncio.sleep(0)
    assert (await service.ask("/api/tiles/e/3/1/2.png")).status == 503
    for name in names:
        service.sources[name].hold.set()
    assert [answer.status for answer in await asyncio.gather(*waiting)] == [404] * 4


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "é", "x" * 65, "-a", "a\n"])
def test_layer_names_are_safe(name):
    """A name that would need escaping in an address or a path is refused."""
    with pytest.raises(ConfigError, match="layer name"):
        Layer(name, None)


@pytest.mark.parametrize("wrong", [{"missing": 200}, {"max_age_s": -1}, {"missing_max_age_s": -1}])
def test_wrong_layer_settings_name_their_key(wrong):
    """The message says which key of which layer."""
    key = next(iter(wrong)).removesuffix("_s")
    with pytest.raises(ConfigError, match=re.escape(f"layers.osm.{key}")):
        Layer("osm", None, **wrong)


async def test_what_has_not_come_by_the_deadline_is_504(service):
    """Nobody else waits for it: the fetch ends. Counted and told as every timeout is."""
    source = service.layer()
    source.hold = asyncio.Event()
    service.build(deadline_s=0.005)
    answer = await service.ask(AT)
    assert (answer.status, answer.json()["cause"]) == (504, "timeout_total")
    assert answer.headers["cache-control"] == "no-store"
    await asyncio.sleep(0)  # the fetch has a task of its own, and ends in its turn
    assert source.cancelled == source.asked == [TileId(3, 1, 2)]
    assert service.layers["osm"].stats.errors == {"timeout_total": 1}
    assert service.app.tiles_waiting == 0


async def test_a_fetch_goes_on_past_the_deadline_of_one_if_others_wait(service):
    """The first has more patience than the second, which shares its fetch, and gets the tile."""
    source = service.layer()
    source.put("3/1/2", BODY)
    source.hold = asyncio.Event()
    patient = asyncio.create_task(service.ask(AT))
    await source.reached.wait()
    service.app._routes.tiles.deadline_s = 0.005
    assert (await service.ask(AT)).status == 504
    source.hold.set()
    assert (await patient).status == 200
    assert (source.cancelled, source.asked) == ([], [TileId(3, 1, 2)])
