"""Serving from an origin that is slow, left by its clients, or gone: over real sockets on both sides."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tilehaul.config.load import parse_settings
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.net.clock import SystemClock
from tilehaul.server.app import Server, make_app
from tilehaul.wiring.layers import open_layers

TILE = "/api/tiles/world/6/{}/1.png"
CLIENTS = 300


@dataclass
class Answered:
    status: int
    headers: dict
    body: bytes


@asynccontextmanager
async def serving(origin, folder=None, **layer):
    """A service of one layer; gives its port."""
    told = {"layers": {"world": {"source": origin.template, "retries": 0, **layer}}}
    if folder is not None:
        told["cache"] = {"disk": "10MB", "path": str(folder)}
    async with open_layers(parse_settings(told, {})) as opened:
        app = make_app(opened.layers, opened.caches.memory, clock=SystemClock())
        async with Server(app, port=0, drain_s=1) as server:
            yield int(server.url.rpartition(":")[2]), app


async def connected(port, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    await writer.drain()
    return reader, writer


async def answered(reader, writer):
    raw = await reader.read()
    writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return Answered(int(first.split()[1]), headers, body)


async def ask(port, path):
    return await answered(*await connected(port, path))


async def test_50_stampede():
    """Three hundred clients want one tile that nobody has: one request, and all get the origin's bytes."""
    with MockThread(MockSettings(faults=Faults(latency=Latency(300.0)))) as origin:
        async with serving(origin) as (port, _):
            answers = await asyncio.gather(*(ask(port, TILE.format(5)) for _ in range(CLIENTS)))
            assert origin.stats().requests == 1
            assert {one.status for one in answers} == {200}
            assert {one.body for one in answers} == {origin.body_of("6/5/1")}


async def test_51_leader_cancelled():
    """Whoever came first leaves: the others get their tile, and nothing is asked for twice."""
    with MockThread(MockSettings(faults=Faults(latency=Latency(300.0)))) as origin:
        async with serving(origin) as (port, app):
            leader = await connected(port, TILE.format(5))
            while not origin.stats().in_flight:
                await asyncio.sleep(0.005)
            others = [await connected(port, TILE.format(5)) for _ in range(20)]
            while app.tiles_waiting < 21:
                await asyncio.sleep(0.005)
            leader[1].close()
            answers = await asyncio.gather(*(answered(*one) for one in others))
            assert origin.stats().requests == 1
            assert {(one.status, one.body) for one in answers} == {(200, origin.body_of("6/5/1"))}
            assert origin.stats().abandoned == 0


async def test_51_leader_cancelled_alone():
    """Nobody is left who wants it: the fetch ends too."""
    with MockThread(MockSettings(faults=Faults(latency=Latency(5_000.0)))) as origin:
        async with serving(origin) as (port, app):
            _, writer = await connected(port, TILE.format(5))
            while not origin.stats().in_flight:
                await asyncio.sleep(0.005)
            writer.close()
            while origin.stats().in_flight or app.tiles_waiting:
                await asyncio.sleep(0.005)
            assert origin.stats().abandoned == 1


async def test_52_upstream_down_serving(tmp_path):
    """Every tile that was seen is given; what was not is an error; the origin's return is noticed."""
    with MockThread(MockSettings(max_age_s=0)) as origin:
        async with serving(origin, tmp_path) as (port, _):
            kept_port = origin.port
            warm = await asyncio.gather(*(ask(port, TILE.format(x)) for x in range(8)))
            origin.__exit__(None, None, None)
            for _ in range(3):
                stale = await asyncio.gather(*(ask(port, TILE.format(x)) for x in range(8)))
                assert [one.body for one in stale] == [one.body for one in warm]
                assert {one.status for one in stale} == {200}
                assert all("fwd=miss" not in one.headers["cache-status"] for one in stale)
                assert {one.headers["cache-control"] for one in stale} == {"public, max-age=0"}
            never = await ask(port, TILE.format(60))
            assert never.status in (502, 503)
            # The breaker has opened by now; it looks again by itself.
            with MockThread(MockSettings(max_age_s=0, port=kept_port)) as again:
                while "fwd=miss" not in (back := await ask(port, TILE.format(0))).headers["cache-status"]:
                    await asyncio.sleep(0.1)
                assert back.body == warm[0].body
                # Unchanged: its tag was enough.
                assert again.stats().by_status.get(304, 0) >= 1


async def test_52_upstream_down_after_a_restart(tmp_path):
    """What a service before this one has kept on disk stands in as well."""
    with MockThread(MockSettings()) as origin:
        async with serving(origin, tmp_path, max_age=0) as (port, _):
            warm = await asyncio.gather(*(ask(port, TILE.format(x)) for x in range(8)))
    async with serving(origin, tmp_path, max_age=0) as (port, _):
        stale = await asyncio.gather(*(ask(port, TILE.format(x)) for x in range(8)))
        assert [(one.status, one.body) for one in stale] == [(200, one.body) for one in warm]
        assert {one.headers["x-tile-source"] for one in stale} == {"disk"}
