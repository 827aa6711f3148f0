"""The clients that `engine.py` compares: tilehaul in its layers, the bare library, and the usual pattern.

Each fetches the first `count` tiles with 50 requests in flight and answers how many bytes it got.
"""

import asyncio
import contextlib
import importlib
import select
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pycurl

from origin import tile_ids
from tilehaul.config.sending import Sending
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.seed import seed as run_seed
from tilehaul.jobs.seed_plan import SeedPlan
from tilehaul.net.addresses import AddressGuard
from tilehaul.net.clock import SystemClock
from tilehaul.net.wire import Wire
from tilehaul.policy.tally import Tally
from tilehaul.ports.store import JobKey, Outcome
from tilehaul.ports.tile import Tile
from tilehaul.ports.wire import Request
from tilehaul.stores.memory import MemoryStore
from tilehaul.wiring.places import open_origin, open_source
from tilehaul.wiring.seeding import SeedOptions, seed

IN_FLIGHT = 50
MEMORY_BYTES_MAX = 1 << 30
# Fixed: the figures are of so many in flight from the first tile on.
_SENDING = Sending(concurrency=IN_FLIGHT, adaptive=False)
Client = Callable[[str, int], Coroutine[Any, Any, int]]


def urls_of(base: str, count: int) -> list[str]:
    return [f"{base}/{tile_id}.png" for tile_id in tile_ids(count)]


# --- tilehaul -------------------------------------------------------------------------------------


class ForgetfulStore(MemoryStore):
    """Takes outcomes and drops them: what the job itself costs, without memory that grows."""

    async def commit(self, outcomes: Sequence[Outcome]) -> None:
        del outcomes


async def seed_into_nothing(base: str, count: int) -> int:
    """The seed job without a store."""
    return await _seed_job(base, count, ForgetfulStore())


async def seed_into_memory(base: str, count: int) -> int:
    """The whole engine: what `tilehaul seed` does for each tile, kept in memory."""
    return await _seed_job(base, count, MemoryStore(bytes_max=MEMORY_BYTES_MAX))


async def _seed_job(base: str, count: int, store: MemoryStore) -> int:
    tiles = tile_ids(count)
    tally = Tally()
    async with open_origin(f"{base}/{{z}}/{{x}}/{{y}}.png", sending=_SENDING, tally=tally) as origin:
        plan = SeedPlan(
            tiles=tiles,
            planned=count,
            key=JobKey(origin.source.info.identity, origin.source.info.name, "area", count),
            workers=_SENDING.workers_for("tile"),
        )
        report = await run_seed(origin, store, plan, tally=tally, clock=SystemClock())
    if report.state != "complete":
        raise SystemExit(f"the seed ended {report.state}: {tally.causes}")
    return report.bytes


async def seed_into_mbtiles(base: str, count: int) -> int:
    """`tilehaul.seed` into a file that is synced to the disk at each commit (durability full)."""
    area = Area.from_tiles(tile_ids(count))
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        options = SeedOptions(sending=_SENDING)
        report = await seed(
            f"{base}/{{z}}/{{x}}/{{y}}.png", f"{folder}/seeded.mbtiles", area, options=options
        )
    if report.state != "complete":
        raise SystemExit(f"the seed ended {report.state}")
    return report.bytes


async def source_alone(base: str, count: int) -> int:
    """Source, retries, lane, verification, wire; 50 workers, the tiles dropped: no job, no store."""
    async with open_source(f"{base}/{{z}}/{{x}}/{{y}}.png", sending=_SENDING) as source:

        async def fetch(tile_id: TileId) -> int:
            answer = await source.get(tile_id)
            return len(answer.body) if isinstance(answer, Tile) else 0

        return await _pull(tile_ids(count), fetch)


async def wire_alone(base: str, count: int) -> int:
    """`net/wire.py`: the library driven from asyncio, guarded and timed; nothing verified or retried."""
    guard = AddressGuard(frozenset({base.removeprefix("http://")}))
    async with Wire("tilehaul-benchmark", guard=guard) as wire:

        async def fetch(url: str) -> int:
            return len((await wire.send(Request(url))).body)

        return await _pull(urls_of(base, count), fetch)


async def _pull(items: list[Any], fetch: Callable[[Any], Coroutine[Any, Any, int]]) -> int:
    """Fifty workers that pull from one iterator: the cheapest shape in asyncio."""
    waiting = iter(items)

    async def work() -> int:
        return sum([await fetch(item) for item in waiting])

    return sum(await asyncio.gather(*(work() for _ in range(IN_FLIGHT))))


# --- the bare library -----------------------------------------------------------------------------


def new_curl(head: list[bytes], body: list[bytes]) -> pycurl.Curl:
    """Set up as `net/curl.py` does, without the guard's callback."""
    curl = pycurl.Curl()
    for option, value in (
        (pycurl.NOSIGNAL, 1),
        (pycurl.PROXY, ""),
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS),
        (pycurl.USERAGENT, "benchmark"),
        (pycurl.BUFFERSIZE, 64 * 1024),
        (pycurl.HTTPHEADER, ["Accept-Encoding: gzip"]),
        (pycurl.HEADERFUNCTION, head.append),
        (pycurl.WRITEFUNCTION, body.append),
    ):
        curl.setopt(option, value)
    return curl


class BareMulti:
    """libcurl's socket interface on the running loop by the shortest way: one epoll, one timer."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._multi = pycurl.CurlMulti()
        self._poll = select.epoll()
        self._watched: dict[int, int] = {}
        self._waiting: dict[pycurl.Curl, asyncio.Future[None]] = {}
        self._idle: list[tuple[pycurl.Curl, list[bytes], list[bytes]]] = []
        self._timer: asyncio.Handle | None = None
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._loop.add_reader(self._poll.fileno(), self._on_ready)

    async def fetch(self, url: str) -> int:
        if not self._idle:
            head: list[bytes] = []
            body: list[bytes] = []
            self._idle.append((new_curl(head, body), head, body))
        curl, head, body = self._idle.pop()
        curl.setopt(pycurl.URL, url)
        done = self._waiting[curl] = self._loop.create_future()
        self._multi.add_handle(curl)
        await done
        if curl.getinfo(pycurl.RESPONSE_CODE) != 200:
            raise SystemExit(f"{url}: not answered with 200")
        size = len(b"".join(body))
        head.clear()
        body.clear()
        self._idle.append((curl, head, body))
        return size

    def close(self) -> None:
        self._loop.remove_reader(self._poll.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self._multi.close()
        self._poll.close()

    def _on_socket(self, what: int, fd: int, _multi: object, _data: object) -> None:
        # POLL_IN, POLL_OUT and POLL_INOUT are 1, 2, 3; EPOLLIN and EPOLLOUT are 1 and 4.
        wanted = (0, 1, 4, 5)[what] if what <= 3 else 0
        known = self._watched.pop(fd, 0)
        if wanted:
            self._watched[fd] = wanted
            if known != wanted:
                (self._poll.modify if known else self._poll.register)(fd, wanted)
        elif known:
            self._poll.unregister(fd)

    def _on_timer(self, timeout_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if timeout_ms >= 0:
            self._timer = self._loop.call_later(timeout_ms / 1000, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._settle()

    def _on_ready(self) -> None:
        for fd, events in self._poll.poll(0):
            self._multi.socket_action(fd, (1 if events & ~4 else 0) | (2 if events & ~1 else 0))
        self._settle()

    def _settle(self) -> None:
        _left, done, failed = self._multi.info_read()
        if failed:
            raise SystemExit(str(failed))
        for curl in done:
            self._multi.remove_handle(curl)
            self._waiting.pop(curl).set_result(None)


async def bare_on_the_loop(base: str, count: int) -> int:
    """The library as the wire drives it, on the same event loop, and nothing of ours around it."""
    multi = BareMulti()
    with contextlib.closing(multi):
        return await _pull(urls_of(base, count), multi.fetch)


async def bare_plain_loop(base: str, count: int) -> int:
    """The library's own loop, `perform` and `select`, without asyncio."""
    multi = pycurl.CurlMulti()
    waiting: Iterator[str] = iter(urls_of(base, count))
    bodies: dict[pycurl.Curl, list[bytes]] = {}
    got = 0

    def begin(curl: pycurl.Curl) -> None:
        url = next(waiting, None)
        if url is not None:
            curl.setopt(pycurl.URL, url)
            multi.add_handle(curl)

    for _ in range(IN_FLIGHT):
        body: list[bytes] = []
        curl = new_curl([], body)
        bodies[curl] = body
        begin(curl)
    left = 1
    while left:
        _, left = multi.perform()
        _, done, failed = multi.info_read()
        if failed:
            raise SystemExit(str(failed))
        for curl in done:
            multi.remove_handle(curl)
            got += len(b"".join(bodies[curl]))
            bodies[curl].clear()
            begin(curl)
            left = 1
        if not done:
            multi.select(1.0)
    multi.close()
    return got


# --- what people write ----------------------------------------------------------------------------


async def httpx_gather(base: str, count: int) -> int:
    """One client, a semaphore of 50, gather over everything; every connection may be kept alive."""
    httpx = importlib.import_module("httpx")
    permits = asyncio.Semaphore(IN_FLIGHT)
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=IN_FLIGHT)
    async with httpx.AsyncClient(limits=limits) as client:

        async def fetch(url: str) -> int:
            async with permits:
                response = await client.get(url)
                response.raise_for_status()
                return len(response.content)

        return sum(await asyncio.gather(*(fetch(url) for url in urls_of(base, count))))


# name: (function, module that must be installed, share of the tiles that is worth running)
CLIENTS: dict[str, tuple[Client, str, float]] = {
    "pycurl, plain loop": (bare_plain_loop, "pycurl", 1.0),
    "pycurl on the event loop (bare)": (bare_on_the_loop, "pycurl", 1.0),
    "tilehaul: wire": (wire_alone, "pycurl", 1.0),
    "tilehaul: source (retried, laned, verified)": (source_alone, "pycurl", 1.0),
    "tilehaul: seed, nothing kept": (seed_into_nothing, "pycurl", 1.0),
    "tilehaul: seed into memory (whole engine)": (seed_into_memory, "pycurl", 1.0),
    "tilehaul: seed into MBTiles, durability full": (seed_into_mbtiles, "apsw", 1.0),
    "httpx, semaphore and gather": (httpx_gather, "httpx", 0.1),
}
BARE, ENGINE, ARCHIVE, HTTPX = (
    "pycurl on the event loop (bare)",
    "tilehaul: seed into memory (whole engine)",
    "tilehaul: seed into MBTiles, durability full",
    "httpx, semaphore and gather",
)
