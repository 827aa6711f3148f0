"""The mock server on the wire: honest answers, its own addresses, its beginning and its end."""

import asyncio
import contextlib
import http.client
import json
import socket
from email.utils import parsedate_to_datetime

import pytest
from mock_client import raw

from tilehaul.errors import ConfigError
from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockServer, MockSettings, MockThread
from tilehaul.net.loops import new_loop

NOON_S = 1_700_000_000.0


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


async def test_a_date_is_looked_at_where_there_is_no_tag():
    """Every tile is of one fixed date; as old or older than the client's is "not modified"."""
    async with MockServer(MockSettings(tile_bytes=4000)) as server:
        whole = await raw(server)
        date = whole.headers["last-modified"]
        assert date == (await raw(server, "/0/0/0.png")).headers["last-modified"]
        dates = ((date, 304), ("Fri, 02 Jan 2026 00:00:00 GMT", 304), ("Sun, 01 Dec 2024 00:00:00 GMT", 200))
        for condition, status in (*dates, ("yesterday", 200)):
            seen = await raw(server, headers=f"If-Modified-Since: {condition}\r\n")
            assert (seen.status, len(seen.body)) == (status, 0 if status == 304 else 4000)
        both = f'If-None-Match: "other"\r\nIf-Modified-Since: {date}\r\n'
        assert (await raw(server, headers=both)).status == 200


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


@pytest.mark.parametrize("turns", range(6))
def test_end_comes_for_those_just_accepted_too(turns):
    """However far the program's own loop has come with a connection when the server ends, it does end."""

    async def ended():
        server = await MockServer().__aenter__()
        with contextlib.ExitStack() as stack:
            for _ in range(5):
                client = socket.create_connection(("127.0.0.1", server.port))
                stack.enter_context(contextlib.closing(client))
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(5):
                await server.__aexit__(None, None, None)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(ended())
