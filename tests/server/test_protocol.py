"""One connection's limits and refusals, on the wire."""

import asyncio
import json
import logging
from typing import ClassVar

import pytest

from tilehaul.server import protocol
from tilehaul.server.app import Server
from tilehaul.server.early_hits import EarlyHits

AT = "/api/tiles/osm/3/1/2.png"
BODY = b"\x89PNG" + bytes(range(256)) * 8
HEAD = f"GET {AT} HTTP/1.1\r\nHost: localhost\r\n".encode()
PIECE = 16_384


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Nothing here ends because the time after a refusal is over."""
    monkeypatch.setattr(protocol, "LINGER_S", 30.0)


async def ended(line):
    """The connection is over; that it was cut while we were sending is no difference."""
    try:
        return await line.closed()
    except ConnectionError:
        return True


async def warm(service, listen, **options):
    """A service whose tile 3/1/2 is in memory, and a function that connects to it."""
    service.layer().put("3/1/2", BODY)
    await service.ask(AT)
    return await listen(service, **options)


async def pour(line, data):
    """Send in pieces until all is sent, or the other end has had enough."""
    try:
        for at in range(0, len(data), PIECE):
            line.writer.write(data[at : at + PIECE])
            await line.writer.drain()
            await asyncio.sleep(0)
    except ConnectionError:
        pass


async def refused(line, status, cause):
    """The next answer is this refusal in our form, and the last one."""
    answer = await asyncio.wait_for(line.read(), 2)
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert answer.headers["content-type"] == "application/json"
    assert {"date", "server"} <= set(answer.headers)
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert (told["success"], told["cause"], told["request_id"]) == (False, cause, "id-1")
    assert told["error"]
    assert await asyncio.wait_for(line.closed(), 2)


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"X: " + b"a" * protocol.HEAD_BYTES_MAX + b"\r\n\r\n",
        HEAD + b"X: " + b"a" * 4 * protocol.HEAD_BYTES_MAX,
        b"GET /" + b"a" * 4 * protocol.HEAD_BYTES_MAX,
        b"GET /" + b"a" * (protocol.HEAD_BYTES_MAX - 40) + b" HTTP/1.1\r\nX: " + b"a" * 50 + b"\r\n\r\n",
        HEAD + b"a" * 4 * protocol.HEAD_BYTES_MAX,
        HEAD + b"X: y\r\n" * protocol.FIELDS_MAX + b"\r\n",
    ],
    ids=["value", "endless value", "endless address", "both", "endless name", "fields"],
)
async def test_head_above_its_limits_is_431(service, listen, head):
    """Too many bytes or fields, finished or not: refused in our form, and the connection is closed."""
    line = await (await warm(service, listen))()
    await pour(line, head)
    await refused(line, 431, "head_too_large")
    assert service.layers["osm"].stats.hits == 0


async def test_head_just_within_its_limits_is_answered(service, listen):
    """The limits are what they say: a head that has 64 KiB in all but its line ends, and 100 fields."""
    line = await (await warm(service, listen))()
    fields = b"X: y\r\n" * (protocol.FIELDS_MAX - 2)
    room = protocol.HEAD_BYTES_MAX - len(AT) - len(b"hostlocalhost") - 2 * (protocol.FIELDS_MAX - 2) - 1
    await pour(line, HEAD + fields + b"L: " + b"a" * room + b"\r\n\r\n")
    assert (await line.read()).body == BODY
    await pour(line, HEAD + fields + b"L: " + b"a" * (room + 1) + b"\r\n\r\n")
    await refused(line, 431, "head_too_large")


async def test_many_small_requests_at_once_are_no_large_head(service, listen):
    """Pipelined questions may come in pieces larger than one head."""
    line = await (await warm(service, listen))()
    count = 3 * protocol.HEAD_BYTES_MAX // len(HEAD)
    line.writer.write((HEAD + b"\r\n") * count)
    for _ in range(count):
        assert (await line.read()).body == BODY


async def test_endless_head_takes_no_memory(service, listen):
    """What a stranger sends is not collected: it ends within two reads of the limit."""
    fed = []

    class Spy:
        def __init__(self, parser):
            self.parser = parser

        def feed_data(self, data):
            fed.append(len(data))
            self.parser.feed_data(data)

    connect = await warm(service, listen)
    line = await connect()
    await asyncio.sleep(0.001)
    (end,) = connect.server._uvicorn.server_state.connections
    end.parser = Spy(end.parser)
    await pour(line, HEAD + b"X: " + b"a" * 8_000_000)
    await refused(line, 431, "head_too_large")
    assert sum(fed) <= protocol.HEAD_BYTES_MAX + 2 * 256 * 1024


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"Content-Length: 9000000\r\n\r\n", b"x" * PIECE),
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 3_000),
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"y" * PIECE),
    ],
    ids=["body", "trailer fields", "trailer value"],
)
async def test_endless_rest_of_a_request_ends_the_connection(service, listen, start, piece):
    """Bodies and trailers are read to a limit, whatever the answer was."""
    connect = await warm(service, listen)
    line = await connect()
    line.writer.write(HEAD + start)
    assert (await line.read()).body == BODY
    await pour(line, piece * (2 * protocol.REQUEST_BYTES_MAX // len(piece)))
    assert await asyncio.wait_for(ended(line), 2)


async def test_trailers_are_not_taken_for_the_heads_fields(service, listen):
    """What comes behind a body changes nothing of the question, and the connection lives on."""
    line = await (await warm(service, listen))()
    tail = b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nIf-None-Match: *\r\n\r\n"
    line.writer.write(HEAD + tail)
    assert (await line.read()).status == 200
    assert (await line.ask(AT)).body == BODY


async def test_one_deadline_holds_for_the_whole_head(service, listen, monkeypatch):
    """A head that comes line by line for ever is closed after the time a silent one has."""
    connect = await warm(service, listen)
    monkeypatch.setattr(protocol.patience, "SILENCE_S", 0.05)
    line = await connect()
    line.writer.write(HEAD)
    reading = asyncio.create_task(ended(line))
    begun_s = asyncio.get_running_loop().time()
    while not reading.done() and asyncio.get_running_loop().time() - begun_s < 2:
        line.writer.write(b"X: y\r\n")
        await asyncio.sleep(0.002)
    took_s = asyncio.get_running_loop().time() - begun_s
    assert await reading
    assert 0.04 < took_s < 1


async def test_deadline_holds_behind_an_answer_of_the_application(service, listen, monkeypatch):
    """The same for the second request of a connection, and for blank lines between requests."""
    connect = await warm(service, listen, keep_alive_s=0)
    monkeypatch.setattr(protocol.patience, "SILENCE_S", 0.05)
    line = await connect()
    line.send("/health/live")
    assert (await line.read()).status == 200
    assert await asyncio.wait_for(line.closed(), 1)
    again = await connect()
    again.writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTT")
    assert (await again.read()).status == 200
    assert await asyncio.wait_for(again.closed(), 1)


async def test_waiting_request_outlives_the_patience_with_an_idle_one(service, listen):
    """The time an idle connection has does not run on while the next request waits."""
    source = service.layer()
    source.put("3/1/2", BODY)
    source.hold = asyncio.Event()
    connect = await listen(service)
    line = await connect()
    await asyncio.sleep(0.001)
    (end,) = connect.server._uvicorn.server_state.connections
    end.timeout_keep_alive = 0.03
    line.send("/health/live")
    assert (await line.read()).status == 200
    line.send(AT)
    await source.reached.wait()
    await asyncio.sleep(0.05)
    source.hold.set()
    assert (await line.read()).body == BODY
    assert await asyncio.wait_for(line.closed(), 2)


async def test_refused_client_that_stays_is_closed(service, listen, monkeypatch):
    """After a refusal the rest is dropped for a while, not for ever."""
    monkeypatch.setattr(protocol, "LINGER_S", 0.02)
    connect = await warm(service, listen)
    line = await connect()
    line.writer.write(b"nonsense\r\n\r\n")
    await line.read()
    state = connect.server._uvicorn.server_state
    for _ in range(400):
        if not state.connections:
            break
        line.writer.write(b"more")
        await asyncio.sleep(0.002)
    assert not state.connections


@pytest.mark.parametrize(
    "raw",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xe9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
    ids=["words", "no colon", "bad address", "bytes", "TLS", "two lengths"],
)
async def test_what_is_no_request_is_told_in_our_form(service, listen, caplog, raw):
    """400 with the JSON body every error has; nothing in the log at a level anybody reads."""
    line = await (await warm(service, listen))()
    line.writer.write(raw)
    await refused(line, 400, "bad_request")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_nonsense_behind_a_waiting_request_waits_too(service, listen):
    """The pending answer comes first and whole; then the connection is closed."""
    source = service.layer()
    source.put("3/1/2", BODY)
    source.hold = asyncio.Event()
    line = await (await listen(service))()
    line.send(AT)
    await source.reached.wait()
    line.writer.write(b"nonsense\r\n\r\n")
    for _ in range(10):
        await asyncio.sleep(0.001)
    line.writer.write(b"more\r\n\r\n")
    source.hold.set()
    answer = await line.read()
    assert (answer.body, answer.headers["connection"]) == (BODY, "close")
    assert await asyncio.wait_for(line.closed(), 2)


async def test_nonsense_behind_an_early_answer_is_told(service, listen):
    """An answered request is over; what follows it is refused for itself."""
    line = await (await warm(service, listen))()
    line.writer.write(HEAD + b"\r\nnonsense\r\n\r\n")
    assert (await line.read()).body == BODY
    await refused(line, 400, "bad_request")


async def test_wish_for_another_protocol_is_ignored_quietly(service, listen, caplog):
    """Upgrade is answered as if it were not there, what comes behind it too, and no line is logged."""
    line = await (await warm(service, listen))()
    wish = HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    line.writer.write(wish * 3 + HEAD + b"\r\n")
    for _ in range(4):
        assert (await line.read()).body == BODY
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_defect_before_routing_is_500_and_logged(service, listen, monkeypatch, caplog):
    """A mistake of ours is not told as the client's."""

    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("secret")

    connect = await warm(service, listen)
    monkeypatch.setattr(EarlyHits, "answer", broken)
    line = await connect()
    line.writer.write(HEAD + b"\r\n")
    await refused(line, 500, "internal")
    assert "ZeroDivisionError" in caplog.text


async def unread(service):
    """A client that takes a large answer's first bytes and no more: is its connection given up?"""
    service.layer().put("3/1/6", b"\x89PNG" + bytes(7_000_000))
    async with Server(service.build(), port=0, keep_alive_s=0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        writer.write(b"GET /api/tiles/osm/3/1/6.png HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()
        for _ in range(400):
            if not server._uvicorn.server_state.connections:
                break
            await asyncio.sleep(0.002)
        left = len(server._uvicorn.server_state.connections)
        writer.transport.abort()
    return left


async def test_reader_that_takes_nothing_is_given_up(service, monkeypatch):
    """Closing waits for the reader, but not for ever."""
    monkeypatch.setattr(protocol.patience, "SILENCE_S", 0.02)
    assert await unread(service) == 0


def test_reader_that_takes_nothing_is_given_up_on_uvloop(service, monkeypatch):
    """The same on the loop that serves in earnest."""
    uvloop = pytest.importorskip("uvloop", reason="no uvloop on this platform")
    monkeypatch.setattr(protocol.patience, "SILENCE_S", 0.02)
    assert uvloop.run(unread(service)) == 0


async def test_slow_reader_gets_the_whole_answer(service, monkeypatch):
    """As long as something is taken between two looks, a closed connection is left to finish."""
    monkeypatch.setattr(protocol.patience, "SILENCE_S", 0.4)
    body = b"\x89PNG" + bytes(7_000_000)
    service.layer().put("3/1/6", body)
    async with Server(service.build(), port=0, keep_alive_s=0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        writer.write(b"GET /api/tiles/osm/3/1/6.png HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        got = b""
        while len(got) < len(body):
            got += await reader.readexactly(min(70_000, len(body) - len(got)))
            await asyncio.sleep(0.008)  # a hundred times: longer in all than the patience
        assert got == body
        assert json.dumps(service.layers["osm"].stats.errors) == "{}"
        writer.close()


async def test_reader_of_a_stream_that_takes_nothing_is_given_up(service, monkeypatch):
    """A batch that nobody reads holds neither its connection nor its tiles in memory."""
    monkeypatch.setattr(protocol.patience, "SILENCE_S", 0.02)
    source = service.layer()
    for x in range(8):
        source.put(f"3/{x}/6", b"\x89PNG" + bytes(2_000_000))
    async with Server(service.build(), port=0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        tiles = "&".join(f"tiles=3/{x}/6.png" for x in range(8))
        writer.write(f"GET /api/tiles/osm/batch?{tiles} HTTP/1.1\r\nHost: x\r\n".encode())
        writer.write(b"Accept: application/x-tar\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()
        state = server._uvicorn.server_state
        for _ in range(400):
            if not state.connections and not state.tasks:
                break
            await asyncio.sleep(0.002)
        assert (len(state.connections), len(state.tasks)) == (0, 0)
        writer.transport.abort()


POST = b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


class Reading:
    """Jobs that nobody may reach without reading the whole body first."""

    key = ""
    jobs: ClassVar = {}


@pytest.mark.parametrize(
    "told", [b"Content-Length: 3000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n2dc6c0\r\n"]
)
async def test_body_above_its_limit_is_told_and_closed(service, listen, caplog, told):
    """The application waits for the rest of a body that is not read any more: 413, and no line in the log."""
    service.layer()
    service.build(jobs=Reading())
    line = await (await listen(service))()
    await pour(line, POST + told + b"a" * (protocol.REQUEST_BYTES_MAX + 65_536))
    await refused(line, 413, "too_large")
    await asyncio.sleep(0)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_body_above_its_limit_behind_a_waiting_request(service, listen):
    """The answer before it comes whole, then the connection ends."""
    source = service.layer()
    source.put("3/1/2", BODY)
    source.hold = asyncio.Event()
    service.build(jobs=Reading())
    line = await (await listen(service))()
    line.send(AT)
    await source.reached.wait()
    sending = asyncio.create_task(
        pour(line, POST + b"Content-Length: 3000000\r\n\r\n" + b"a" * (protocol.REQUEST_BYTES_MAX + 65_536))
    )
    await asyncio.sleep(0.01)
    source.hold.set()
    assert (await line.read()).body == BODY
    await asyncio.wait_for(line.reader.read(), 2)
    await asyncio.gather(sending, return_exceptions=True)


async def test_client_that_leaves_in_its_body_is_no_defect(service, listen, caplog):
    """No traceback for somebody who has gone."""
    service.layer()
    service.build(jobs=Reading())
    connect = await listen(service)
    line = await connect()
    line.writer.write(POST + b"Content-Length: 100\r\n\r\nhalf")
    await line.writer.drain()
    await asyncio.sleep(0.01)
    line.writer.close()
    state = connect.server._uvicorn.server_state
    while state.connections or state.tasks:
        await asyncio.sleep(0.001)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
