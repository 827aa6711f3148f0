"""The mock server on the wire: raw sockets see every honest answer and every fault as promised."""

import asyncio
import gzip
import http.client
import json
import socket
import zlib
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime

import pytest

from tilehaul.errors import ConfigError
from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import Bursts, Capacity, Faults, Latency, RateLimit, RetryAfter, SlowBody
from tilehaul.lab.mock import MockServer, MockSettings, MockThread
from tilehaul.lab.script import parse_script

NOON_S = 1_700_000_000.0


class Hands:
    """A clock that moves when told to."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@dataclass
class Seen:
    status: int
    headers: dict
    body: bytes
    reset: bool = False


async def raw(server, path="/3/4/2.png", *, method="GET", headers=""):
    """Send one request with Connection: close and read to the end, whatever comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode())
    got, reset = b"", False
    try:
        while piece := await reader.read(1 << 20):
            got += piece
    except ConnectionResetError:
        reset = True
    writer.close()
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    status = int(lines[0].split()[1]) if got else 0
    fields = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines[1:]}
    return Seen(status, fields, body, reset)


def with_fault(kind, **more):
    return MockSettings(faults=Faults(shares={kind: 1.0}, **more), tile_bytes=4000)


async def test_tile_is_answered_whole_and_counted():
    """The true bytes, their type, length, validators and a date; the counters say what happened."""
    async with MockServer(MockSettings(tile_bytes=4000), wall_s=lambda: NOON_S) as server:
        seen = await raw(server, headers="User-Agent: tester/1\r\n")
        assert seen.body == server.body_of("3/4/2")
        assert len(seen.body) == 4000
        assert (seen.status, seen.headers["content-type"]) == (200, "image/png")
        assert seen.headers["content-length"] == "4000"
        assert seen.headers["cache-control"] == "public, max-age=3600"
        assert parsedate_to_datetime(seen.headers["date"]).timestamp() == NOON_S
        assert server.template == f"http://127.0.0.1:{server.port}/{{z}}/{{x}}/{{y}}.png"
        stats = server.stats()
        assert (stats.requests, stats.by_status, stats.by_fault) == (1, {200: 1}, {})
        assert (stats.bytes_sent, stats.tiles_seen, stats.max_per_tile) == (4000, 1, 1)
        assert (stats.last_user_agent, stats.connections_total) == ("tester/1", 1)
        assert [server.requests_of("3/4/2"), server.requests_of("3/4/3")] == [1, 0]


async def test_head_and_conditional_requests_have_no_body():
    """HEAD has the headers of GET; a known tag, also a weak one in a list, is answered 304."""
    async with MockServer(MockSettings(tile_bytes=4000)) as server:
        whole, head = await raw(server), await raw(server, method="HEAD")
        assert (head.status, head.body, head.headers) == (
            200,
            b"",
            {**whole.headers, "date": head.headers["date"]},
        )
        tag = whole.headers["etag"]
        for condition, status in ((tag, 304), (f'"a", W/{tag}', 304), ("*", 304), ('"other"', 200)):
            seen = await raw(server, headers=f"If-None-Match: {condition}\r\n")
            assert (seen.status, len(seen.body)) == (status, 0 if status == 304 else 4000)
            assert seen.headers["etag"] == tag
        assert (await raw(server, "/3/4/3.png")).headers["etag"] != tag
        assert (await raw(server, method="DELETE")).status == 405


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/0/0/0.png", 200),
        ("/3/7/7", 200),
        ("/3/4/2.png?key=x", 200),
        ("/30/1073741823/0.png", 200),
        ("/3/8/0.png", 404),
        ("/3/0/8.png", 404),
        ("/31/0/0.png", 404),
        ("/3/4/2.jpg", 404),
        ("/3/4/-2.png", 404),
        ("/3/4/2.png/..", 404),
        ("/favicon.ico", 404),
        ("/_/nothing", 404),
    ],
)
async def test_paths_inside_and_outside_the_world(path, status):
    """Every column and row below 2^z is there, everything else is not."""
    async with MockServer() as server:
        assert (await raw(server, path)).status == status


async def test_absent_tiles_are_absent_each_time():
    """By zoom, by share and by a caller's rule, with 404 or an empty 204."""
    async with MockServer(MockSettings(absence=Absence(above_zoom=4, status=204))) as server:
        seen = await raw(server, "/5/1/1.png")
        assert (seen.status, seen.body, "content-length" in seen.headers) == (204, b"", False)
        assert (await raw(server, "/4/1/1.png")).status == 200
        assert (await raw(server, "/4/16/1.png")).status == 404
    async with MockServer(MockSettings(absence=Absence(share=0.5), seed=3)) as server:
        paths = [f"5/{x}/9" for x in range(20)]
        seen = [(await raw(server, f"/{path}.png")).status for path in paths * 2]
        assert seen == [404 if server.is_absent(path) else 200 for path in paths * 2]
        assert set(seen) == {200, 404}


async def test_keep_alive_pipelined_answers_keep_their_order():
    """Sixty-four requests sent at once on one connection come back in order, delays or not."""
    settings = MockSettings(faults=Faults(latency=Latency(0.5, 0.5, "uniform")))
    async with MockServer(settings) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for x in range(100):
            writer.write(f"GET /8/{x}/7.png HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for x in range(100):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            assert await reader.readexactly(length) == server.body_of(f"8/{x}/7")
        assert server.stats().connections_total == 1
        writer.close()


async def test_old_http_and_nonsense_are_answered():
    """HTTP/1.0 closes unless asked to stay; bytes that are no HTTP get 400, endless heads 431."""
    async with MockServer() as server:
        for sent, first, last in (
            (b"GET /0/0/0 HTTP/1.0\r\n\r\n", b"HTTP/1.1 200", b"Connection: close"),
            (b"\x16\x03\x01 hello\r\n\r\n", b"HTTP/1.1 400", b"Connection: close"),
            (
                b"GET /0/0/0 HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
                b"HTTP/1.1 431",
                b"Connection: close",
            ),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(first)
            assert last in head
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /0/0/0 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert b"Connection: keep-alive" in await reader.readuntil(b"\r\n\r\n")
        writer.close()
        # An offer to speak something newer is declined by going on in HTTP/1.1.
        upgrade = "Upgrade: h2c\r\n"
        assert (await raw(server, headers=upgrade)).status == 200


async def test_short_length_promises_more_than_it_sends():
    """Content-Length of the whole tile, half of the bytes, then the end."""
    async with MockServer(with_fault("short_length")) as server:
        seen = await raw(server)
        assert seen.headers["content-length"] == "4000"
        assert seen.body == server.body_of("3/4/2")[:2000]
        assert server.stats().by_fault == {"short_length": 1}


async def test_cut_chunked_ends_inside_a_chunk():
    """A chunk that announces all and carries half, no last chunk."""
    async with MockServer(with_fault("cut_chunked")) as server:
        seen = await raw(server)
        assert seen.headers["transfer-encoding"] == "chunked"
        size, _, rest = seen.body.partition(b"\r\n")
        assert int(size, 16) == 4000
        assert rest == server.body_of("3/4/2")[:2000]


async def test_cut_close_gives_no_length_and_half_the_bytes():
    """Only the picture itself can tell that something is missing."""
    async with MockServer(with_fault("cut_close")) as server:
        seen = await raw(server)
        assert not {"content-length", "transfer-encoding"} & set(seen.headers)
        assert (seen.status, seen.headers["connection"]) == (200, "close")
        assert seen.body == server.body_of("3/4/2")[:2000]


async def test_cut_gzip_has_the_right_length_of_a_broken_stream():
    """Content-Length fits the bytes; the gzip stream in them has no end."""
    async with MockServer(with_fault("cut_gzip")) as server:
        seen = await raw(server)
        assert (seen.headers["content-encoding"], int(seen.headers["content-length"])) == (
            "gzip",
            len(seen.body),
        )
        with pytest.raises(EOFError):
            gzip.decompress(seen.body)
        begun = zlib.decompressobj(31).decompress(seen.body)
        assert server.body_of("3/4/2").startswith(begun)


async def test_bit_flip_changes_one_bit_and_nothing_else():
    """Right length, right type, one wrong bit."""
    async with MockServer(with_fault("bit_flip")) as server:
        seen, true = await raw(server), server.body_of("3/4/2")
        assert seen.headers["content-length"] == "4000"
        assert sum((a ^ b).bit_count() for a, b in zip(seen.body, true, strict=True)) == 1


@pytest.mark.parametrize(
    ("kind", "media_type", "begins"),
    [
        ("xml_200", "text/xml; charset=utf-8", b"<?xml"),
        ("xml_as_png", "image/png", b"<?xml"),
        ("html_200", "text/html; charset=utf-8", b"<!DOCTYPE html>"),
        ("empty_200", "image/png", b""),
    ],
)
async def test_wrong_bodies_with_status_200(kind, media_type, begins):
    """An error page or nothing, with the status of success and a true length."""
    async with MockServer(with_fault(kind)) as server:
        seen = await raw(server)
        assert (seen.status, seen.headers["content-type"]) == (200, media_type)
        assert int(seen.headers["content-length"]) == len(seen.body)
        assert seen.body.startswith(begins)
        assert (b"ServiceException" in seen.body) == kind.startswith("xml")
        assert (len(seen.body) == 0) == (kind == "empty_200")


async def test_wrong_tile_is_a_whole_other_tile():
    """Valid, and not the one asked for."""
    async with MockServer(with_fault("wrong_tile")) as server:
        assert (await raw(server)).body == server.body_of("3/5/2")
        assert (await raw(server, "/0/0/0.png")).body == server.body_of("1/0/0")


async def test_bombs_are_as_large_as_they_say():
    """A head of more than a mebibyte, and 64 MiB of zeros in a small body."""
    async with MockServer(with_fault("gzip_bomb")) as server:
        seen = await raw(server)
        assert len(seen.body) < 200_000
        one = zlib.decompressobj(31)
        assert len(one.decompress(seen.body)) == 1 << 20
        assert len(seen.body) == 64 * (len(seen.body) - len(one.unused_data))
        server.set_faults(Faults(shares={"header_bomb": 1.0}))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 22)
        writer.write(b"GET /1/0/0.png HTTP/1.1\r\n\r\n")
        assert len(await reader.readuntil(b"\r\n\r\n")) > 1 << 20
        writer.close()


async def test_resets_and_silent_ends():
    """RST before an answer, RST in the middle of one, a FIN without an answer."""
    async with MockServer(with_fault("reset_before")) as server:
        seen = await raw(server)
        assert (seen.status, seen.reset) == (0, True)
        server.set_faults(Faults(shares={"reset_mid": 1.0}))
        seen = await raw(server)
        assert (seen.status, seen.reset) == (200, True)
        assert seen.body in (b"", server.body_of("3/4/2")[:2000])
        server.set_faults(Faults(shares={"close_before": 1.0}))
        seen = await raw(server)
        assert (seen.status, seen.reset) == (0, False)
        assert server.stats().by_fault == {"reset_before": 1, "reset_mid": 1, "close_before": 1}
        assert server.stats().by_status == {200: 1}


async def test_black_hole_says_nothing_and_stays_open():
    """No byte, no end; the request counts as in flight until the client gives up."""
    async with MockServer(with_fault("black_hole")) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /3/4/2.png HTTP/1.1\r\n\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.03)
        stats = server.stats()
        assert (stats.in_flight, stats.connections_open, stats.by_status) == (1, 1, {})
        assert stats.by_fault == {"black_hole": 1}
        writer.close()
        while server.stats().connections_open:
            await asyncio.sleep(0.001)
        assert server.stats().in_flight == 0


async def test_slow_body_trickles():
    """4,000 bytes at 50,000 a second take at least 60 ms, and come in pieces."""
    settings = MockSettings(tile_bytes=4000, faults=Faults(slow_body=SlowBody(50_000)))
    async with MockServer(settings) as server:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        seen = await raw(server)
        assert seen.body == server.body_of("3/4/2")
        assert 0.055 < loop.time() - begun_s < 2.0
        assert server.stats().by_fault == {"slow_body": 1}


async def test_latency_delays_the_answer_and_shows_concurrency():
    """Ten requests at once of 30 ms take 30 ms; the peak says ten; one that leaves is counted."""
    async with MockServer(MockSettings(faults=Faults(latency=Latency(30)))) as server:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        await asyncio.gather(*(raw(server, f"/4/{x}/0.png") for x in range(10)))
        assert 0.029 <= loop.time() - begun_s < 0.25
        assert server.stats().peak_in_flight == 10
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /3/4/2.png HTTP/1.1\r\n\r\n")
        while not server.stats().in_flight:
            await asyncio.sleep(0.001)
        writer.close()
        while server.stats().in_flight:
            await asyncio.sleep(0.001)
        assert server.stats().abandoned == 1


async def test_rate_limit_pushes_back_and_counts_the_impatient():
    """Two served, the third refused with the honest wait; too early counts, in time is served."""
    clock = Hands()
    settings = MockSettings(faults=Faults(rate_limit=RateLimit(0.25, 2)))
    async with MockServer(settings, now_s=clock) as server:
        assert [(await raw(server)).status for _ in range(2)] == [200, 200]
        refused = await raw(server)
        assert (refused.status, refused.headers["retry-after"]) == (429, "4")
        clock.now_s += 1.0
        early = await raw(server)
        assert (early.status, early.headers["retry-after"]) == (429, "3")
        assert server.stats().inside_retry_after == 1
        clock.now_s += 3.0
        assert (await raw(server)).status == 200
        stats = server.stats()
        assert (stats.inside_retry_after, stats.by_fault) == (1, {"rate_limit": 2})
        assert stats.by_status == {200: 3, 429: 2}


async def test_burst_of_429_names_its_end():
    """Inside the burst 429 until its end, outside 200."""
    clock = Hands()
    async with MockServer(MockSettings(faults=Faults(burst_429=Bursts(30, 5))), now_s=clock) as server:
        assert (await raw(server)).status == 200
        clock.now_s += 27.0
        seen = await raw(server)
        assert (seen.status, seen.headers["retry-after"]) == (429, "3")
        clock.now_s += 3.0
        assert (await raw(server)).status == 200


@pytest.mark.parametrize(
    ("rule", "header"),
    [
        (None, None),
        (RetryAfter("seconds", 7), "7"),
        (RetryAfter("raw", text="soon"), "soon"),
        (RetryAfter("raw"), None),
        (RetryAfter("date", 60), "Tue, 14 Nov 2023 23:14:20 GMT"),
    ],
)
async def test_retry_after_of_503_in_each_form(rule, header):
    """The header as asked for; a date follows the server's clock, which Date shows to be an hour ahead."""
    faults = Faults(errors={503: 1.0}, retry_after=rule)
    settings = MockSettings(faults=faults, clock_skew_s=3600)
    async with MockServer(settings, wall_s=lambda: NOON_S) as server:
        seen = await raw(server)
        assert (seen.status, seen.headers.get("retry-after")) == (503, header)
        assert parsedate_to_datetime(seen.headers["date"]).timestamp() == NOON_S + 3600
        assert server.stats().by_fault == {"error_503": 1}


async def test_capacity_serves_one_after_another_and_refuses_when_full():
    """One worker of 20 ms with one place: of three at once one is refused, the second takes 40 ms."""
    settings = MockSettings(faults=Faults(capacity=Capacity(1, 20, queue_max=1)))
    async with MockServer(settings) as server:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        seen = await asyncio.gather(*(raw(server, f"/4/{x}/0.png") for x in range(3)))
        assert sorted(answer.status for answer in seen) == [200, 200, 503]
        assert loop.time() - begun_s > 0.039
        assert (server.stats().by_fault, server.stats().queue_peak) == ({"queue_full": 1}, 1)


async def test_script_changes_the_faults_with_time():
    """Good, broken, good again; a reset begins the script again."""
    clock = Hands()
    settings = MockSettings(script=parse_script("- {at: 5, for: 10, errors: '503:1', retry_after: 2}"))
    async with MockServer(settings, now_s=clock) as server:
        statuses = []
        for wait_s in (0, 4.9, 0.2, 9.8, 0.2):
            clock.now_s += wait_s
            statuses.append((await raw(server)).status)
        assert statuses == [200, 200, 503, 503, 200]
        server.reset()
        clock.now_s += 6
        assert (await raw(server)).status == 503
        server.set_faults(Faults(latency=Latency(1)))
        assert (await raw(server)).status == 503
        with pytest.raises(ConfigError, match="at 5 s"):
            server.set_faults(Faults(errors={500: 0.5}))


async def test_same_seed_meets_the_same_faults_in_any_order():
    """What happens to a tile depends on seed, tile and attempt, not on what was asked before."""
    faults = Faults(errors={500: 0.3, 404: 0.2}, shares={"xml_200": 0.2})
    paths = [f"/6/{x}/33.png" for x in range(40)]

    async def outcomes(seed, order):
        async with MockServer(MockSettings(faults=faults, seed=seed)) as server:
            first = {path: (await raw(server, path)) for path in order}
            return {path: (seen.status, seen.headers["content-type"]) for path, seen in first.items()}

    forward = await outcomes(1, paths)
    assert await outcomes(1, list(reversed(paths))) == forward
    assert await outcomes(2, paths) != forward
    assert len(set(forward.values())) == 4


async def test_own_addresses_answer_and_do_not_count_themselves():
    """Statistics as JSON, a reset by POST only, health; none of them is a request for a tile."""
    async with MockServer(MockSettings(faults=Faults(errors={503: 1.0}))) as server:
        await raw(server)
        seen = await raw(server, "/_/stats")
        figures = json.loads(seen.body)
        assert seen.headers["content-type"] == "application/json"
        assert (figures["requests"], figures["by_status"], figures["in_flight"]) == (1, {"503": 1}, 0)
        assert (figures["tiles_seen"], figures["max_per_tile"]) == (1, 1)
        assert (await raw(server, "/_/health")).body == b"ok\n"
        assert (await raw(server, "/_/reset")).status == 405
        assert server.stats().requests == 1
        assert (await raw(server, "/_/reset", method="POST")).status == 200
        assert (server.stats().requests, server.requests_of("3/4/2")) == (0, 0)


async def test_connections_over_the_limit_are_cut():
    """The third of two connections gets nothing."""
    async with MockServer(MockSettings(connections_max=2)) as server:
        pairs = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        assert (await raw(server)).status == 0
        for _, writer in pairs:
            writer.close()
        while server.stats().connections_open:
            await asyncio.sleep(0.001)
        assert (await raw(server)).status == 200
        assert server.stats().by_fault == {"connections_full": 1}


async def test_faults_of_a_body_spare_those_without_one():
    """HEAD and absent tiles have nothing to cut: they are answered honestly and no fault is counted."""
    settings = replace(with_fault("short_length"), absence=Absence(above_zoom=3))
    async with MockServer(settings) as server:
        assert (await raw(server, method="HEAD")).headers["content-length"] == "4000"
        assert (await raw(server, "/4/0/0.png")).status == 404
        assert server.stats().by_fault == {}


async def test_port_in_use_says_what_to_do():
    """The message names the port and the way out; the first server is not disturbed."""
    async with MockServer() as server:
        with pytest.raises(ConfigError, match=f"port {server.port} .* --port"):
            await MockServer(MockSettings(port=server.port)).__aenter__()
        assert (await raw(server)).status == 200


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (MockSettings(format="jpg"), "format"),
        (MockSettings(tiles="painted", tile_bytes=4000), "tile_bytes"),
        (MockSettings(port=70_000), "port"),
        (MockSettings(host="192.0.2.1"), "cannot listen"),
    ],
)
async def test_settings_that_cannot_be_are_refused_before_listening(settings, says):
    """A ConfigError, no server."""
    with pytest.raises(ConfigError, match=says):
        await MockServer(settings).__aenter__()


@pytest.mark.parametrize(
    ("tiles", "extension", "magic"), [("painted", "png", b"\x89PNG"), ("imagery", "jpg", b"\xff\xd8\xff")]
)
async def test_pictures_are_made_once_for_all_who_ask(tiles, extension, magic, monkeypatch):
    """Ten askers of one cold tile get one picture, drawn once, of the type it says."""
    pytest.importorskip("PIL")
    async with MockServer(MockSettings(tiles=tiles)) as server:
        bodies, made = server._origin.bodies, []
        make = bodies.make

        def count_and_make(*key):
            made.append(key)
            return make(*key)

        monkeypatch.setattr(bodies, "make", count_and_make)
        seen = await asyncio.gather(*(raw(server, f"/3/4/2.{extension}") for _ in range(10)))
        assert len(made) == 1
        assert {answer.body for answer in seen} == {server.body_of("3/4/2")}
        assert seen[0].body.startswith(magic)
        assert server.template.endswith(extension)
        webp = await raw(server, "/3/4/2.webp")
        assert (webp.headers["content-type"], webp.body[8:12]) == ("image/webp", b"WEBP")


async def test_tile_that_cannot_be_made_is_a_500(monkeypatch, caplog):
    """A bug in the drawing is answered and logged, nobody waits for ever."""
    pytest.importorskip("PIL")
    async with MockServer(MockSettings(tiles="painted")) as server:

        def fail(*_):
            raise OSError("broken brush")

        monkeypatch.setattr(server._origin.bodies, "make", fail)
        assert (await raw(server)).status == 500
        assert "broken brush" in caplog.text


def test_thread_serves_synchronous_callers():
    """The same server from a plain thread: bytes, counters, faults at runtime, a clean end."""
    with MockThread(MockSettings(tile_bytes=2000)) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port)
        client.request("GET", "/3/4/2.png")
        assert client.getresponse().read() == server.body_of("3/4/2")
        server.set_faults(Faults(errors={500: 1.0}))
        client.request("GET", "/3/4/2.png")
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (500, b"mock error 500\n")
        assert server.requests_of("3/4/2") == server.stats().requests == 2
        server.reset()
        assert server.stats().requests == 0
        client.close()
        port = server.port
    with pytest.raises(ConfigError, match="tile_bytes"), MockThread(MockSettings(tile_bytes=1)):
        pass
    with MockThread(MockSettings(port=port)) as again:
        assert again.port == port


@pytest.mark.parametrize("kind", ["reset_before", "reset_mid"])
def test_reset_is_a_reset_on_the_quick_loop_too(kind):
    """uvloop's transports wrap the socket; the RST must come through all the same."""
    with (
        MockThread(with_fault(kind)) as server,
        socket.create_connection(("127.0.0.1", server.port)) as client,
    ):
        client.sendall(b"GET /3/4/2.png HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            list(iter(lambda: client.recv(1 << 16), b""))
