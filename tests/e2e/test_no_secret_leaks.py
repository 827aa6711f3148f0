"""Planted secrets appear nowhere (scenario 30, `credential-leak`).

Not in logs, events, reports, errors or archives, nor in any answer of a service, however loud the log and
however hard the origin tries.
"""

import asyncio
import base64
import io
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import tilehaul
from doubles.wire import PNG
from tilehaul.cli.logs import LogSettings, set_up_log
from tilehaul.cli.main import main
from tilehaul.config.load import parse_settings
from tilehaul.net.clock import SystemClock
from tilehaul.net.loop_thread import LoopThread
from tilehaul.server.app import Server, make_app
from tilehaul.wiring.layers import open_layers

USER, PASSWORD, KEY, TOKEN, HEADER = (f"canary-{n}-3f9c" for n in ("user", "pass", "key", "token", "head"))
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
CANARIES = [USER, PASSWORD, KEY, TOKEN, HEADER, BASIC]
HEADERS = {"X-Api-Key": HEADER, "Authorization": f"Bearer {TOKEN}"}


async def parrot(seen: set[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An origin that repeats all it was told in every place an answer has, and fails in every way."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            target = head.split(" ")[1]
            told = f"<html>denied: {head} url=http://x{target} token={TOKEN} {HEADERS}</html>".encode()
            line = f"X-Told: {target} {TOKEN}"
            ways: list[tuple[str, bytes, tuple[str, ...]]] = [
                ("200 OK", PNG, ("Content-Type: image/png",)),
                ("500 Oh", told, ("Content-Type: text/html",)),
                ("200 OK", told, ("Content-Type: text/html",)),
                ("200 OK", PNG[:40], ("Content-Type: image/png",)),
                ("403 No", told, ()),
                ("302 There", b"", (f"Location: {target}/again",)),
                ("404 None", told, ()),
                ("503 Wait", told, ()),
                ("200 OK", b"", ("Content-Type: image/png", f"Content-Encoding: {TOKEN}")),
            ]
            # Enough is well that no breaker opens: this is about what is said, not about how long it takes.
            ways += [ways[0]] * 2 * len(ways)
            if target not in seen and "/7/7.png" in target:
                ways = [("429 Slow", told, ("Retry-After: 1",))]
            seen.add(target)
            number = zlib.crc32(target.partition("?")[0].encode())
            status, body, headers = ways[number % len(ways)]
            lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", line, *headers, "", ""]
            writer.write("\r\n".join(lines).encode() + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        pass
    finally:
        writer.close()


@asynccontextmanager
async def served() -> AsyncIterator[str]:
    """The parrot's template, secrets and all."""
    server = await asyncio.start_server(partial(parrot, set()), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://{USER}:{PASSWORD}@127.0.0.1:{port}/{{z}}/{{x}}/{{y}}.png?api_key={KEY}&access_token={TOKEN}"
    finally:
        server.close()


def assert_clean(text: str) -> None:
    for canary in CANARIES:
        at = text.find(canary)
        assert at < 0, f"{canary} leaked: ...{text[max(0, at - 200) : at + 60]}..."


def test_seed_tells_no_secret(log_kept, tmp_path: Path, capfd) -> None:
    store = tmp_path / "a.mbtiles"
    with LoopThread() as thread:
        template = thread.enter(served())
        arguments = ["seed", template, str(store), "-z", "0-3", "--json", "--log-level", "debug"]
        flags = ["--retries", "0", "--max-failures", "9999", "--fixed"]
        for name, value in HEADERS.items():
            flags += ["-H", f"{name}: {value}"]
        assert main([*arguments, *flags]) == 3
        said = capfd.readouterr()
        assert main(["info", str(store), "--json"]) == 0
    events = [json.loads(line) for line in said.out.splitlines()]
    assert {"job.started", "tile.dead", "job.report"} <= {event["event"] for event in events}
    causes = {event["cause"] for event in events if event["event"] == "tile.dead"}
    assert causes == {"http_500", "http_503", "http_403", "error_page", "truncated", "bad_coding", "redirect"}
    assert_clean(said.out + said.err + capfd.readouterr().out)
    for file in tmp_path.iterdir():
        assert_clean(file.read_bytes().decode("latin-1"))


async def test_library_tells_no_secret(log_kept) -> None:
    log = io.StringIO()
    set_up_log(LogSettings("debug"), log)
    sending = tilehaul.Sending(retries=0, headers=tuple(HEADERS.items()), max_wait_s=1.0)
    told = []
    async with served() as template, tilehaul.open(template, sending=sending) as source:
        for x in range(100):
            try:
                told.append(repr(await source.get(tilehaul.TileId(7, x, 3))))
            except tilehaul.TilehaulError as error:
                told += [str(error), repr(error), repr(vars(error)), repr(error.__cause__)]
        told += [repr(source.info), repr(source.lanes()), repr(source.health())]
    assert all(any(cause in text for text in told) for cause in ("http_500", "truncated", "bad_coding"))
    assert_clean(log.getvalue() + "".join(told))


async def _ask(port: int, path: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: req-{abs(hash(path))}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    body = await reader.readexactly(length)
    writer.close()
    return (head + body).decode("latin-1")


async def test_service_tells_no_secret_and_above_debug_no_place(log_kept) -> None:
    """Neither answers nor log hold a secret, no answer the origin's address, no line above debug a tile."""
    log = io.StringIO()
    set_up_log(LogSettings("debug", as_json=True), log)
    async with served() as template:
        layer = {"source": template, "headers": HEADERS, "retries": 0, "timeout": 5.0}
        settings = parse_settings({"layers": {"photos": layer}}, {}, name="test")
        async with open_layers(settings) as opened:
            app = make_app(opened.layers, opened.caches.memory, clock=SystemClock(), process=opened.process)
            async with Server(app, port=0) as server:
                port = int(server.url.rpartition(":")[2])
                paths = [f"/api/tiles/photos/14/8531/{5760 + n}.png" for n in range(40)]
                paths += ["/api/stats", "/api/health", "/api/layers", "/api/tiles/photos", "/health/ready"]
                paths += ["/api/tiles/photos/cache-stats", "/"]
                answers = [await _ask(port, path) for path in paths]
    origin = template.rpartition("@")[2].partition("/")[0]
    assert sum("HTTP/1.1 502" in answer for answer in answers) >= 4
    assert_clean("".join(answers) + log.getvalue())
    assert not any(origin in answer for answer in answers)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    failures = [line for line in lines if line.get("layer") == "photos"]
    assert failures
    assert all(line["request_id"].startswith("req-") for line in failures)
    above = [json.dumps(line) for line in lines if line["level"] != "debug"]
    assert not any("8531" in line for line in above)
    assert any("8531" in line for line in log.getvalue().splitlines())
