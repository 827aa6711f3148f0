"""The wire against a raw server on loopback that answers byte for byte what a test says."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs

import asyncio
import contextlib
import gzip
import os
import select
import shutil
import socket
import ssl
import struct
import subprocess
import sys
from pathlib import Path

import pycurl
import pytest
import trustme

from tilehaul.errors import (
    ConfigError,
    PlanError,
    RefusedError,
    TimedOutError,
    TransferError,
    UnreachableError,
)
from tilehaul.net import curl as curl_module
from tilehaul.net.addresses import AddressGuard
from tilehaul.net.wire import Wire
from tilehaul.ports.wire import Request, Timeouts


def only(phase):
    """Limits of which one is short: on a busy machine another would be met by accident."""
    limits = {"connect_s": 9.0, "first_byte_s": 9.0, "idle_s": 9.0, "total_s": 9.0}
    return Timeouts(**{**limits, f"{phase}_s": 0.06})


def answer(body=b"tile", status="200 OK", *headers):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Origin:
    """Answers each request with `reply`: bytes, or a coroutine function of (head, writer).

    The end the fault asks for follows: `keep` the connection, `close` or `reset` it.
    `await writer.until_gone()` waits until the client has closed its side.
    """

    port: int
    url: str

    def __init__(self, reply, end="keep"):
        self.reply, self.end = reply, end
        self.heads, self.connections, self.open, self.open_max = [], 0, 0, 0
        self.closed = asyncio.Event()

    async def serve(self, reader, writer):
        self.connections += 1
        self.open += 1
        writer.until_gone = reader.read
        self.open_max = max(self.open, self.open_max)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head.decode())
                if callable(self.reply):
                    await self.reply(self.heads[-1], writer)
                else:
                    writer.write(self.reply)
                    await writer.drain()
                if self.end == "reset":
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                if self.end != "keep":
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            self.closed.set()
            writer.close()


@contextlib.asynccontextmanager
async def origin(reply=None, end="keep", tls=None):
    served = Origin(answer() if reply is None else reply, end)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=tls)
    served.port = server.sockets[0].getsockname()[1]
    served.url = f"{'https' if tls else 'http'}://127.0.0.1:{served.port}"
    try:
        yield served
    finally:
        server.close()
        # Python 3.12 waits for the connections too: they end when the wire is closed.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 1)


def wire_to(served, **options):
    hosts = {f"{host}:{served.port}" for host in ("127.0.0.1", "localhost")}
    return Wire("tilehaul/test (+https://example.com)", guard=AddressGuard(frozenset(hosts)), **options)


async def failure_of(served, request=None, **options):
    async with wire_to(served, **options) as wire:
        with pytest.raises(Exception) as caught:  # the type is what the test looks at
            await wire.send(request or Request(f"{served.url}/1/2/3.png"))
        assert wire.in_flight == 0
        return caught.value


async def test_answer_carries_status_headers_body_and_times():
    """Names are lower case, repeated headers joined, the body raw, the times filled."""
    extra = ('ETag: "a:b"', "X-A: 1", "x-a: 2", "Content-Type: image/png")
    async with origin(answer(b"\x89PNG", "200 OK", *extra)) as served, wire_to(served) as wire:
        got = await wire.send(Request(f"{served.url}/1/2/3.png"))
    assert (got.status, got.body, got.url) == (200, b"\x89PNG", f"{served.url}/1/2/3.png")
    expected = {"content-length": "4", "etag": '"a:b"', "x-a": "1, 2", "content-type": "image/png"}
    assert got.headers == expected
    assert 0 < got.ttfb_s <= got.total_s < 5


async def test_request_names_us_and_adds_headers():
    """User-Agent, gzip and the request's own headers are sent, and nothing that follows or tracks."""
    async with origin() as served, wire_to(served) as wire:
        await wire.send(Request(f"{served.url}/a?b=c#d", headers=(("If-None-Match", '"x"'), ("X-Empty", ""))))
    head = served.heads[0]
    assert head.startswith("GET /a?b=c HTTP/1.1\r\n")
    for line in (
        "User-Agent: tilehaul/test (+https://example.com)",
        'If-None-Match: "x"',
        "Accept-Encoding: gzip",
    ):
        assert f"\r\n{line}\r\n" in head
    assert "\r\nX-Empty:" in head
    assert "Cookie" not in head
    assert "Referer" not in head


@pytest.mark.parametrize("header", [("Range", "bytes=0-9"), ("accept-encoding", "identity")])
async def test_range_or_own_coding_goes_without_gzip(header):
    """A range of a coded body is a range of something else."""
    async with origin() as served, wire_to(served) as wire:
        await wire.send(Request(served.url, headers=(header,)))
        await wire.send(Request(served.url))
    assert "gzip" not in served.heads[0]
    assert "Accept-Encoding: gzip" in served.heads[1]


async def test_gzip_body_stays_coded():
    """The wire decodes nothing: a bomb crosses it as small as it is."""
    packed = gzip.compress(bytes(4_000_000))
    async with origin(answer(packed, "200 OK", "Content-Encoding: gzip")) as served, wire_to(served) as wire:
        got = await wire.send(Request(served.url, body_bytes_max=len(packed)))
    assert got.body == packed
    assert got.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("status", ["404 Not Found", "429 Slow", "302 Found", "304 Not Modified", "503 Busy"])
async def test_any_status_is_an_answer_and_redirects_are_not_followed(status):
    """What a status means is decided above the wire."""
    reply = answer(b"" if "304" in status else b"x", status, "Location: /other", "Retry-After: 7")
    async with origin(reply) as served, wire_to(served) as wire:
        got = await wire.send(Request(served.url))
    assert got.status == int(status[:3])
    assert got.headers["retry-after"] == "7"
    assert len(served.heads) == 1


async def test_head_has_no_body_and_the_next_get_has():
    """HEAD answers the length without the body; the handle's next use is a GET again."""

    async def reply(head, writer):
        whole = answer(b"0123456789")
        writer.write(whole.removesuffix(b"0123456789") if head.startswith("HEAD") else whole)

    async with origin(reply) as served, wire_to(served) as wire:
        head = await wire.send(Request(served.url, method="HEAD"))
        got = await wire.send(Request(served.url))
    assert (head.headers["content-length"], head.body, got.body) == ("10", b"", b"0123456789")


async def test_interim_answers_and_trailers_are_not_headers():
    """1xx blocks come before the answer's headers, trailers after; neither is one of them."""
    reply = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n"
        b"Transfer-Encoding: chunked\r\nTrailer: Late\r\n\r\n3\r\nabc\r\n0\r\nLate: yes\r\n\r\n"
    )
    async with origin(reply) as served, wire_to(served) as wire:
        got = await wire.send(Request(served.url))
    assert got.body == b"abc"
    assert got.headers["a"] == "b"
    assert not got.headers.keys() & {"link", "late"}


async def test_non_ascii_path_is_percent_encoded():
    """An address may be written as people write it."""
    async with origin() as served, wire_to(served) as wire:
        await wire.send(Request(f"{served.url}/Zürich/%C3%BC?q=é"))
    assert served.heads[0].startswith("GET /Z%C3%BCrich/%C3%BC?q=%C3%A9 HTTP/1.1")


async def test_connections_that_are_open_are_counted():
    """Idle ones count, those that a wire has closed do not, and other sockets of the process never."""
    gate = asyncio.Event()

    async def together(_head, writer):
        if served.open == 5:
            gate.set()
        await gate.wait()
        writer.write(answer())

    async with origin(together) as served, wire_to(served) as wire, origin() as other:
        assert wire.connections_held == 0
        await asyncio.gather(*(wire.send(Request(served.url)) for _ in range(5)))
        assert (wire.connections_held, wire.in_flight) == (5, 0)
        _, writer = await asyncio.open_connection("127.0.0.1", other.port)
        await wire.send(Request(served.url))
        assert wire.connections_held == 5
        writer.close()
    assert wire.connections_held == 0


async def test_closed_connections_are_forgotten():
    """A server that closes after each answer: many begun, few known, none held."""
    async with origin(end="close") as served, wire_to(served, connections_max=2) as wire:
        for _ in range(20):
            await wire.send(Request(served.url))
        assert wire.connections_opened == 20
        assert wire.connections_held <= 1
        assert len(wire._curls._inodes) <= 9


async def test_connection_is_kept_alive():
    """Twenty requests in a row, and two in between from the server's side, use one connection."""
    async with origin() as served, wire_to(served) as wire:
        for _ in range(20):
            await wire.send(Request(served.url))
        assert wire.connections_opened == 1
    assert served.connections == 1


async def test_connection_closed_while_idle_is_replaced():
    """A server that closes a kept connection does not make the next request fail."""
    async with origin(answer(), end="close") as served, wire_to(served) as wire:
        for _ in range(5):
            assert (await wire.send(Request(served.url))).body == b"tile"
    assert served.connections == 5


async def test_concurrent_answers_belong_to_their_requests():
    """Two hundred at once: each body is the one asked for, within the limit of connections."""

    async def echo(head, writer):
        writer.write(answer(head.split()[1].encode() * 500))

    async with origin(echo) as served, wire_to(served, connections_max=20) as wire:
        got = await asyncio.gather(*(wire.send(Request(f"{served.url}/{n}")) for n in range(200)))
    assert [r.body for r in got] == [f"/{n}".encode() * 500 for n in range(200)]
    assert served.open_max <= 20
    assert served.connections <= 20


PROMISED = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("reply", "end", "kind", "cause"),
    [
        pytest.param(PROMISED + b"x" * 60, "close", UnreachableError, "cut", id="short content-length"),
        pytest.param(CHUNKED + b"64\r\n" + b"x" * 60, "close", UnreachableError, "cut", id="cut chunk"),
        pytest.param(CHUNKED + b"4\r\nabcd\r\n", "close", UnreachableError, "cut", id="missing last chunk"),
        pytest.param(CHUNKED + b"zz\r\nabcd\r\n", "close", UnreachableError, "cut", id="bad chunk size"),
        pytest.param(PROMISED + b"x" * 60, "reset", UnreachableError, "reset", id="reset mid-body"),
        pytest.param(b"", "close", UnreachableError, "cut", id="no answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConte", "close", UnreachableError, "cut", id="cut headers"),
        pytest.param(
            b"what is this\r\n\r\n", "close", UnreachableError, "bad_reply", id="garbage status line"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\ntiles",
            "close",
            UnreachableError,
            "bad_reply",
            id="two lengths",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n" + b"X-Bomb: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 18000,
            "close",
            RefusedError,
            "headers_too_large",
            id="header bomb of many",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n" + (b"X-Bomb: " + b"a" * 1000 + b"\r\n") * 1000,
            "close",
            RefusedError,
            "headers_too_large",
            id="header bomb of 1 MB",
        ),
    ],
)
async def test_broken_framing_is_an_error(reply, end, kind, cause):
    """What a server breaks on the way never looks like a whole answer."""
    async with origin(reply, end) as served:
        error = await failure_of(served)
    assert (type(error), error.cause) == (kind, cause), error
    assert error.url.startswith(served.url)


async def test_bytes_behind_the_answer_do_not_reach_the_next():
    """Extra bytes after Content-Length are dropped with their connection."""
    async with (
        origin(answer(b"tile") + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil") as served,
        wire_to(served) as wire,
    ):
        for _ in range(3):
            assert (await wire.send(Request(served.url))).body == b"tile"
    assert served.connections == 3


async def test_body_over_the_limit_by_its_length_is_refused():
    """A declared length over the limit is refused before the body is read."""
    async with origin(answer(b"x" * 1001)) as served:
        error = await failure_of(served, Request(served.url, body_bytes_max=1000))
    assert (type(error), error.cause) == (RefusedError, "too_large")


async def test_body_at_the_limit_passes():
    """The limit is inclusive."""
    async with origin(answer(b"x" * 1000)) as served, wire_to(served) as wire:
        assert len((await wire.send(Request(served.url, body_bytes_max=1000))).body) == 1000


async def test_body_without_length_is_stopped_at_the_limit():
    """An endless chunked body is cut off at the limit and its connection dropped."""
    sent = 0

    async def endless(_head, writer):
        nonlocal sent
        writer.write(CHUNKED)
        while True:
            writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            sent += 65536
            await writer.drain()

    async with origin(endless) as served:
        error = await failure_of(served, Request(served.url, body_bytes_max=100_000))
        await asyncio.wait_for(served.closed.wait(), 2)
    assert (type(error), error.cause) == (RefusedError, "too_large")
    assert sent < 20_000_000  # what the kernel's buffers held, not what the server had to give


async def silent(_head, writer):
    await writer.until_gone()


async def half(_head, writer):
    writer.write(PROMISED + b"x" * 10)
    await writer.until_gone()


async def trickle(_head, writer):
    writer.write(PROMISED)
    for _ in range(100):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(("reply", "phase"), [(silent, "first_byte"), (half, "idle"), (trickle, "total")])
async def test_each_phase_has_its_limit(reply, phase):
    """No first byte, no next byte, too slow in all: each is told apart, and the connection dropped."""
    async with origin(reply) as served:
        task = asyncio.create_task(failure_of(served, timeouts=only(phase)))
        error = await asyncio.wait_for(task, 2)
    assert isinstance(error, TimedOutError)
    assert error.phase == phase
    assert error.cause == f"timeout_{phase}"


@pytest.mark.parametrize(("reply", "phase"), [(silent, "first_byte"), (half, "idle"), (trickle, "total")])
async def test_request_may_bring_its_own_limits(reply, phase):
    """They hold for it alone, also when others with longer ones are under way already."""
    async with origin(reply) as served, wire_to(served, timeouts=only("connect")) as wire:
        patient = asyncio.create_task(wire.send(Request(served.url)))
        while wire.in_flight == 0:
            await asyncio.sleep(0)
        with pytest.raises(TimedOutError) as caught:
            await asyncio.wait_for(wire.send(Request(served.url, timeouts=only(phase))), 2)
        assert caught.value.phase == phase
        assert wire.in_flight == 1
        patient.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await patient


async def test_handshake_without_answer_times_out_as_connect():
    """TCP and TLS share the limit of connecting: a server that accepts and is silent."""
    accepted = asyncio.Event()

    async def mute(_reader, writer):
        accepted.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Wire(
        "t", timeouts=only("connect"), guard=AddressGuard(frozenset({f"127.0.0.1:{port}"}))
    ) as wire:
        with pytest.raises(TimedOutError) as caught:
            await wire.send(Request(f"https://127.0.0.1:{port}/"))
    server.close()
    await asyncio.wait_for(accepted.wait(), 9.0)
    assert caught.value.phase == "connect"


async def test_request_may_bring_its_own_limit_of_connecting():
    """And a request after it, on the same handle, has the wire's again."""

    async def mute(_reader, writer):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with Wire("t", timeouts=only("total"), guard=AddressGuard(frozenset({url[8:-1]}))) as wire:
        for timeouts, phase in ((only("connect"), "connect"), (None, "total")):
            with pytest.raises(TimedOutError) as caught:
                await wire.send(Request(url, timeouts=timeouts))
            assert caught.value.phase == phase
    server.close()


async def test_nobody_listening_is_unreachable():
    """A refused connection is an error of the connection."""
    async with origin() as served:
        pass
    error = await failure_of(served)
    assert (type(error), error.cause) == (UnreachableError, "connect")


async def test_name_that_cannot_exist_is_a_dns_error():
    """A label over 63 characters is refused by the resolver itself, without a network."""
    async with Wire("t") as wire:
        with pytest.raises(UnreachableError) as caught:
            await wire.send(Request(f"http://{'x' * 64}.invalid/"))
    assert caught.value.cause == "dns"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "file:///etc/passwd", "127.0.0.1/", "gopher://a/", ""])
async def test_other_schemes_are_refused(url):
    """http and https only; libcurl's many others are closed."""
    async with Wire("t") as wire:
        with pytest.raises(RefusedError) as caught:
            await wire.send(Request(url))
    assert caught.value.cause == "refused_scheme"


@pytest.mark.parametrize("url", ["http://", "http://a b/", "http://a:99999/", "HTTP://a/\r\nX: y"])
async def test_malformed_address_is_refused(url):
    """An address that is none never becomes a request."""
    async with Wire("t") as wire:
        with pytest.raises(RefusedError) as caught:
            await wire.send(Request(url))
    assert caught.value.cause == "bad_url"


@pytest.mark.parametrize(
    "request_",
    [
        Request("http://a/", headers=(("X", "a\r\nHost: b"),)),
        Request("http://a/", headers=(("X\n", "a"),)),
        Request("http://a/", headers=(("X:", "a"),)),
        Request("http://a/", method="POST"),
        Request("http://a/", body_bytes_max=0),
    ],
)
async def test_impossible_request_is_a_plan_error(request_):
    """Nothing is sent, and the wire goes on."""
    async with origin() as served, wire_to(served) as wire:
        with pytest.raises(PlanError):
            await wire.send(request_)
        assert (await wire.send(Request(served.url))).status == 200


@pytest.mark.parametrize(
    ("reply", "options"),
    [
        pytest.param(PROMISED, {}, id="cut"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: y\r\n", {}, id="cut headers"),
        pytest.param(answer(b"x" * 1001), {}, id="too large"),
        pytest.param(half, {"timeouts": only("idle")}, id="timeout"),
    ],
)
async def test_error_hides_secrets_of_the_address(reply, options):
    """User, password and key are masked in an error's address and message."""
    async with origin(reply, "close") as served:
        url = f"http://bob:hunter2@127.0.0.1:{served.port}/x?access_token=hunter3"
        error = await failure_of(served, Request(url, body_bytes_max=1000), **options)
    assert isinstance(error, TransferError)
    assert "hunter" not in error.url + str(error) + repr(error)
    assert str(served.port) in error.url


# --- the guard --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]"]
)
async def test_private_address_is_never_connected_to(host):
    """However it is spelled, an inside address that nobody allowed gets no connection."""
    async with origin() as served, Wire("t") as wire:
        with pytest.raises(RefusedError) as caught:
            await wire.send(Request(f"http://{host}:{served.port}/"))
        await asyncio.sleep(0.005)
        assert served.connections == 0
        assert wire.connections_opened == 0
    assert caught.value.cause == "refused_address"
    assert f":{served.port}" in str(caught.value)
    assert "--allow-private" in str(caught.value)


async def test_name_that_changes_its_address_is_checked_where_it_connects(monkeypatch):
    """DNS rebinding: the first answer is public, the one libcurl connects to is not."""
    async with origin() as served:
        answers = [f"rebind.example:{served.port}:127.0.0.1"]
        make = curl_module.CurlHandle.prepare

        def prepare(self, *args):
            make(self, *args)
            self.curl.setopt(pycurl.RESOLVE, answers)

        monkeypatch.setattr(curl_module.CurlHandle, "prepare", prepare)
        guard = AddressGuard(frozenset({f"127.0.0.1:{served.port}"}))
        assert guard.permits(f"rebind.example:{served.port}", "93.184.216.34")
        async with Wire("t", guard=guard) as wire:
            with pytest.raises(RefusedError) as caught:
                await wire.send(Request(f"http://rebind.example:{served.port}/"))
        assert served.connections == 0
    assert caught.value.cause == "refused_address"


async def test_permission_of_one_host_is_not_another_s(monkeypatch):
    """A kept connection of an allowed host is not lent to a name that leads to the same place."""
    async with origin() as served, wire_to(served) as wire:
        await wire.send(Request(f"http://localhost:{served.port}/"))
        with pytest.raises(RefusedError):
            await wire.send(Request(f"http://127.1.0.0:{served.port}/"))
        for url in (
            f"http://127.0.0.1:{served.port}@127.0.0.2:{served.port}/",
            f"http://127.0.0.2:{served.port}/",
        ):
            with pytest.raises(RefusedError):
                await wire.send(Request(url))
    assert served.connections == 1


# --- leaving in the middle --------------------------------------------------------------------------


def open_files():
    return set(Path("/proc/self/fd").iterdir()) if Path("/proc/self/fd").exists() else set()


async def test_cancelled_in_the_body_leaves_nothing_behind():
    """The half-read connection is closed, the next request gets its own answer, nothing leaks."""
    started = asyncio.Event()

    async def reply(head, writer):
        if "/slow" in head:
            writer.write(PROMISED + b"OLD")
            started.set()
            await asyncio.sleep(0.005)
            writer.write(b"OLD" * 40)
        else:
            writer.write(answer(b"new"))

    async with origin(reply) as served, wire_to(served) as wire:
        assert (await wire.send(Request(served.url))).body == b"new"
        files, tasks = open_files(), asyncio.all_tasks()
        for _ in range(10):
            started.clear()
            task = asyncio.create_task(wire.send(Request(f"{served.url}/slow")))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert wire.in_flight == 0
            assert (await wire.send(Request(served.url))).body == b"new"
        await asyncio.sleep(0.02)
        assert len(open_files()) <= len(files) + 2  # the one kept connection, both ends of it here
        assert len(asyncio.all_tasks()) <= len(tasks) + 1
    assert served.connections == 11


async def test_cancelled_before_it_began_does_not_reach_the_server():
    """Cancellation while connecting."""
    async with origin() as served, wire_to(served) as wire:
        task = asyncio.create_task(wire.send(Request(served.url)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert wire.in_flight == 0
        assert (await wire.send(Request(served.url))).status == 200
    assert len(served.heads) == 1


async def test_places_are_given_in_order_and_never_lost():
    """Two places: four wait in order; one that is cancelled while waiting takes none with it."""
    gate, order = asyncio.Event(), []

    async def reply(head, writer):
        order.append(head.split()[1])
        await gate.wait()
        writer.write(answer())

    async with origin(reply) as served, wire_to(served, connections_max=1) as wire:
        tasks = [asyncio.create_task(wire.send(Request(f"{served.url}/{n}"))) for n in range(5)]
        while not order:
            await asyncio.sleep(0.001)
        assert wire.in_flight == 1
        tasks[2].cancel()
        gate.set()
        got = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(got.pop(2), asyncio.CancelledError)
        assert [getattr(r, "status", r) for r in got] == [200] * 4
        assert (await wire.send(Request(f"{served.url}/last"))).status == 200
    assert order == ["/0", "/1", "/3", "/4", "/last"]


async def test_place_left_to_a_cancelled_waiter_is_passed_on():
    """The place was given in the same turn in which its taker was cancelled."""
    async with origin() as served, wire_to(served, connections_max=1) as wire:
        wire._places = 0
        first = asyncio.create_task(wire.send(Request(served.url)))
        await asyncio.sleep(0)
        wire._leave_place()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await asyncio.wait_for(wire.send(Request(served.url)), 2)).status == 200


async def test_close_fails_what_is_in_flight_and_ends_the_wire():
    """A request in flight learns of it; later ones are refused; closing twice is one closing."""
    async with origin(silent) as served:
        wire = wire_to(served)
        async with wire:
            task = asyncio.create_task(wire.send(Request(served.url)))
            while not served.heads:
                await asyncio.sleep(0.001)
        await wire.close()
        with pytest.raises(UnreachableError) as caught:
            await task
        with pytest.raises(PlanError):
            await wire.send(Request(served.url))
        await asyncio.wait_for(served.closed.wait(), 2)
    assert caught.value.cause == "closed"


async def test_wires_opened_and_closed_leak_no_descriptors():
    """Twenty wires, each with its connections and its timers."""
    async with origin() as served:
        files = 0
        for _ in range(20):
            async with wire_to(served) as wire:
                await asyncio.gather(*(wire.send(Request(served.url)) for _ in range(3)))
            while served.open:
                await asyncio.sleep(0.001)
            files = files or len(open_files())
        assert len(open_files()) <= files


# --- TLS, HTTP/2, loops -------------------------------------------------------------------------------


class Authority(trustme.CA):
    """A certificate authority of our own; `roots` is the file that trusts it."""

    roots: Path


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    made = Authority()
    made.roots = tmp_path_factory.mktemp("tls") / "roots.pem"
    made.cert_pem.write_to_path(str(made.roots))
    return made


def tls_server(authority, name="127.0.0.1"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_tls_with_trusted_root(authority):
    """Certificates of the given root are trusted, and the connection is kept."""
    async with (
        origin(tls=tls_server(authority)) as served,
        wire_to(served, tls_roots=authority.roots) as wire,
    ):
        for _ in range(3):
            assert (await wire.send(Request(served.url))).body == b"tile"
    assert served.connections == 1


@pytest.mark.parametrize("case", ["other root", "other name"])
async def test_bad_certificate_is_refused_for_good(authority, case):
    """An unknown authority or another host's certificate: refused, nothing sent, no retry."""
    tls = tls_server(authority, "127.0.0.1" if case == "other root" else "other.example")
    roots = {} if case == "other root" else {"tls_roots": authority.roots}
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # the server's side of the broken handshake
    async with origin(tls=tls) as served:
        error = await failure_of(served, **roots)
    assert (type(error), error.cause) == (RefusedError, "tls_certificate")
    assert served.heads == []


async def test_server_without_tls_is_unreachable_by_https():
    """A plain server asked over TLS is a failed handshake, worth another try."""

    async def plain(_reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Wire("t", guard=AddressGuard(frozenset({f"127.0.0.1:{port}"}))) as wire:
        with pytest.raises(UnreachableError) as caught:
            await wire.send(Request(f"https://127.0.0.1:{port}/"))
    server.close()
    assert caught.value.cause == "tls"


async def test_unreadable_roots_are_named(tmp_path):
    """A wrong path of roots is not taken for a bad server."""
    async with origin() as served:
        url = served.url.replace("http", "https")
        error = await failure_of(served, Request(url), tls_roots=tmp_path / "none.pem")
    assert (type(error), error.cause) == (RefusedError, "tls_roots")


@pytest.mark.skipif(not shutil.which("nginx"), reason="HTTP/2 needs nginx as the server")
async def test_http2_shares_one_connection(authority, tmp_path):
    """Thirty requests at once to an HTTP/2 server: one connection, thirty right answers."""
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    for n in range(30):
        (tmp_path / f"{n}.png").write_bytes(bytes([n]) * 20_000)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    temp = " ".join(
        f"{k}_temp_path {tmp_path}/{k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (tmp_path / "conf").write_text(
        f"daemon off; {user} pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}}"
        f" http {{ access_log off; {temp} server {{ listen 127.0.0.1:{port} ssl http2;"
        f" root {tmp_path}; add_header X-Via $server_protocol/$connection;"
        f" ssl_certificate {tmp_path}/both.pem; ssl_certificate_key {tmp_path}/both.pem; }} }}"
    )
    server = subprocess.Popen(
        ["nginx", "-c", str(tmp_path / "conf"), "-e", str(tmp_path / "log")], stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
                break
            await asyncio.sleep(0.01)
        guard = AddressGuard(frozenset({f"127.0.0.1:{port}"}))
        async with Wire("t", guard=guard, tls_roots=authority.roots) as wire:
            urls = [f"https://127.0.0.1:{port}/{n}.png" for n in range(30)]
            got = await asyncio.gather(*(wire.send(Request(url)) for url in urls))
            assert wire.connections_opened == 1
    finally:
        server.terminate()
        server.wait()
    assert [r.body for r in got] == [bytes([n]) * 20_000 for n in range(30)]
    assert len({r.headers["x-via"] for r in got}) == 1
    assert got[0].headers["x-via"].startswith("HTTP/2.0/")


async def test_system_without_epoll_gives_sockets_to_the_loop(monkeypatch, authority):
    """macOS and Windows have no epoll: the loop watches each socket, TLS handshakes included."""
    monkeypatch.delattr(select, "epoll", raising=False)
    async with (
        origin(tls=tls_server(authority)) as served,
        wire_to(served, tls_roots=authority.roots) as wire,
    ):
        got = await asyncio.gather(*(wire.send(Request(served.url)) for _ in range(10)))
        again = await wire.send(Request(served.url))
    assert [r.body for r in [*got, again]] == [b"tile"] * 11


async def test_loop_that_cannot_watch_sockets_is_named(monkeypatch):
    """Windows' proactor loop: the error says which loop to take, before anything is sent."""

    def refuse(_fd):
        raise NotImplementedError

    monkeypatch.delattr(select, "epoll", raising=False)
    monkeypatch.setattr(asyncio.get_running_loop(), "remove_reader", refuse)
    with pytest.raises(ConfigError, match="SelectorEventLoop"):
        async with Wire("t"):
            pass


async def test_proxy_of_the_environment_is_not_used(monkeypatch):
    """Behind a proxy the guard would see the proxy's address and not where the name leads."""
    async with origin() as served, origin() as proxy, wire_to(served) as wire:
        for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert (await wire.send(Request(served.url))).status == 200
    assert (served.connections, proxy.connections) == (1, 0)


async def test_answer_that_came_before_closing_is_still_given():
    """The answer was complete when the wire closed, and its task had not run yet."""
    async with origin() as served:
        wire = wire_to(served)
        await wire.__aenter__()
        task = asyncio.create_task(wire.send(Request(served.url)))
        while not wire.in_flight:
            await asyncio.sleep(0)
        done = next(iter(wire._curls.busy.values())).done
        closing = asyncio.Event()
        done.add_done_callback(lambda _: closing.set())
        await closing.wait()
        await wire.close()
        assert (await task).body == b"tile"


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not exist on Windows")
def test_wire_on_uvloop():
    """The loop of the program; every other test here runs on plain asyncio."""
    uvloop = pytest.importorskip("uvloop")

    async def run():
        async with origin() as served, wire_to(served) as wire:
            got = await asyncio.gather(*(wire.send(Request(served.url)) for _ in range(50)))
            return [r.body for r in got]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run()) == [b"tile"] * 50
