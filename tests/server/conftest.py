"""A service over sources that answer what a test tells them, and two ways to ask it."""

import asyncio
import json
from dataclasses import dataclass, field

import pytest

from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.tile_stats import TileStats
from tilehaul.policy.freshness import FreshnessRule
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.server.app import Server, make_app
from tilehaul.sources.background import Background
from tilehaul.sources.cached import CachedSource
from tilehaul.sources.coalesced import CoalescedSource, Flights
from tilehaul.sources.shedding import SheddingSource
from tilehaul.sources.timed import TimedSource
from tilehaul.stores.memory_cache import MemoryCache


class ScriptedSource:
    """Answers by address; what is not told is absent. `hold` keeps every answer back until set."""

    def __init__(self, **info):
        self.info = SourceInfo(
            **{"name": "scripted", "identity": "scripted", "media_type": "image/png", **info}
        )
        self.answers = {}
        self.asked = []
        self.cancelled = []
        self.hold = None
        self.reached = asyncio.Event()

    def put(self, address, body=b"picture", media_type="image/png", place="origin"):
        tile_id = TileId(*map(int, address.split("/")))
        self.answers[tile_id] = Tile(tile_id, body, media_type, place)

    def fail(self, address, error):
        self.answers[TileId(*map(int, address.split("/")))] = error

    async def get(self, tile_id):
        self.asked.append(tile_id)
        self.reached.set()
        if self.hold is not None:
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                self.cancelled.append(tile_id)
                raise
        answer = self.answers.get(tile_id, NoTile(tile_id, "http_404"))
        if isinstance(answer, Exception):
            raise answer
        return answer


class HandClock:
    """Time moved by the test."""

    def __init__(self):
        self.time_s = 1000.0

    def now_s(self):
        return self.time_s

    def wall_s(self):
        return 1.7e9

    async def sleep(self, delay_s):
        raise AssertionError("nobody should wait here")


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


@dataclass
class Service:
    """One service with its parts in reach."""

    clock: HandClock
    cache: MemoryCache | None
    sources: dict
    layers: dict
    app: object = None
    options: dict = field(default_factory=dict)

    def now_s(self):
        """Of the clock that the service has by the time it is asked."""
        return self.clock.now_s()

    def layer(self, name="osm", *, info=None, rule=None, **options):
        source, stats = ScriptedSource(**(info or {})), TileStats()
        self.sources[name] = source
        far = SheddingSource(source, lanes=tuple, far=True, deadline_s=30.0, clock=self.clock)
        timed, flights = TimedSource(far, clock=self.clock, watch=stats), None
        if self.cache is None:
            wrapped = CoalescedSource(timed, joined=stats.joined)
        else:
            flights = Flights(joined=stats.joined)
            wrapped = CachedSource(
                timed,
                flights=flights,
                cache=self.cache,
                layer=name,
                rule=rule or FreshnessRule(revalidate_s=0.0),
                luck=lambda: 0.5,
                background=Background(),
            )
        self.layers[name] = Layer(name, wrapped, stats=stats, flights=flights, **options)
        return source

    def build(self, **options):
        options = {"new_request_id": lambda: "id-1", **options}
        self.app = make_app(list(self.layers.values()), self.cache, clock=self.clock, **options)
        return self.app

    async def ask(self, path, *, method="GET", headers=(), host="localhost", gone=None):
        """Ask the ASGI application directly. `gone`: an event upon which the client has left."""
        if self.app is None:
            self.build()
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", host.encode()), *((k.lower().encode(), v.encode()) for k, v in headers)],
            "server": ("127.0.0.1", 8080),
            "client": ("127.0.0.1", 5),
        }
        sent = []
        asked = []

        async def receive():
            if not asked:
                asked.append(True)
                return {"type": "http.request", "body": b"", "more_body": False}
            await (gone or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        await self.app(scope, receive, send)
        names = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        assert len(names) == len(sent[0]["headers"]), "a header was sent twice"
        return Answer(sent[0]["status"], names, b"".join(m.get("body", b"") for m in sent[1:]))


@pytest.fixture
def service():
    service = Service(HandClock(), None, {}, {})
    service.cache = MemoryCache(now_s=service.now_s)
    return service


@pytest.fixture
def uncached():
    return Service(HandClock(), None, {}, {})


class Line:
    """One raw connection."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    def send(self, path, *, method="GET", headers=(), version="1.1"):
        lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *(f"{k}: {v}" for k, v in headers)]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def read(self, *, head=False):
        block = await self.reader.readuntil(b"\r\n\r\n")
        first, *rest = block.decode().split("\r\n")[:-2]
        pairs = [line.split(": ", 1) for line in rest]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), "a header was sent twice"
        status = int(first.split()[1])
        size = 0 if head or status in (204, 304) else int(headers["content-length"])
        return Answer(status, headers, await self.reader.readexactly(size))

    async def ask(self, path, *, method="GET", headers=(), version="1.1"):
        self.send(path, method=method, headers=headers, version=version)
        return await self.read(head=method == "HEAD")

    async def closed(self):
        return await self.reader.read() == b""


@pytest.fixture
async def listen():
    """Starts a server for a service; `await listen(service)` gives a function that connects."""
    servers, writers = [], []

    async def start(service, **options):
        server = Server(service.app or service.build(), port=0, **options)
        await server.start()
        servers.append(server)

        async def connect():
            reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
            writers.append(writer)
            return Line(reader, writer)

        connect.server = server
        return connect

    yield start
    for writer in writers:
        writer.close()
    for server in servers:
        await server.stop()
