"""CPU per small tile of the HTTP clients tilehaul could stand on.

    python benchmarks/http_clients.py [--rounds 3] [--tiles 6000] [--only NAME ...]

Two figures for each client: CPU microseconds (user + system, `getrusage` of the client's own
process) per 15 KB tile from nginx on loopback with 50 requests in flight, and the share of
Little's limit (50 in flight / 50 ms = 1,000 answers/s) against a server that takes 50 ms.
Clients run one after another, interleaved over the rounds; the median is printed.
A library that is not installed is named as skipped. nginx is needed; wrk is optional.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import importlib.util
import json
import os
import random
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

TILE_BYTES = 15 * 1024
FILES = 200
IN_FLIGHT = 50
SERVICE_S = 0.05
Fetch = Callable[[str], Awaitable[int]]
Client = Callable[[str, int], Coroutine[Any, Any, None]]


# --- clients: each fetches `tiles` tiles, 50 in flight --------------------------------------------


async def _pull(base: str, tiles: int, fetch: Fetch) -> None:
    """Fifty workers that pull addresses from one iterator: the cheapest shape in asyncio."""
    urls = (f"{base}/{n % FILES}.png" for n in range(tiles))

    async def work() -> None:
        for url in urls:
            size = await fetch(url)
            if size != TILE_BYTES:
                raise SystemExit(f"{url}: {size} bytes instead of {TILE_BYTES}")

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


async def tilehaul_wire(base: str, tiles: int) -> None:
    from tilehaul.net.addresses import AddressGuard
    from tilehaul.net.wire import Wire
    from tilehaul.ports.wire import Request

    guard = AddressGuard(allowed=frozenset({base.removeprefix("http://")}))
    async with Wire("tilehaul-benchmark", guard=guard) as wire:

        async def fetch(url: str) -> int:
            return len((await wire.send(Request(url))).body)

        await _pull(base, tiles, fetch)


async def pycurl_async_multi(base: str, tiles: int) -> None:
    """The asyncio wrapper that pycurl itself ships."""
    import pycurl

    idle: list[pycurl.Curl] = []
    async with pycurl.AsyncCurlMulti() as multi:

        async def fetch(url: str) -> int:
            curl = idle.pop() if idle else pycurl.Curl()
            pieces: list[bytes] = []
            curl.setopt(pycurl.URL, url)
            curl.setopt(pycurl.HEADERFUNCTION, [].append)
            curl.setopt(pycurl.WRITEFUNCTION, pieces.append)
            await multi.perform(curl)
            idle.append(curl)
            return sum(map(len, pieces))

        await _pull(base, tiles, fetch)


async def pycurl_epoll(base: str, tiles: int) -> None:
    """Socket_action, all sockets in one epoll of our own, whose descriptor the loop watches."""
    import select

    import pycurl

    loop = asyncio.get_running_loop()
    multi = pycurl.CurlMulti()
    poll = select.epoll()
    waiting: dict[pycurl.Curl, asyncio.Future[None]] = {}
    watched: dict[int, int] = {}
    timer: list[asyncio.Handle] = []

    def on_socket(what: int, fd: int, _multi: object, _data: object) -> None:
        # POLL_IN, POLL_OUT and POLL_INOUT are 1, 2, 3; EPOLLIN and EPOLLOUT are 1 and 4.
        wanted = {pycurl.POLL_IN: 1, pycurl.POLL_OUT: 4, pycurl.POLL_INOUT: 5}.get(what, 0)
        known = watched.pop(fd, 0)
        if wanted:
            watched[fd] = wanted
            if not known:
                poll.register(fd, wanted)
            elif known != wanted:
                poll.modify(fd, wanted)
        elif known:
            poll.unregister(fd)

    def on_timer(timeout_ms: int) -> None:
        if timer:
            timer.pop().cancel()
        if timeout_ms == 0:
            timer.append(loop.call_soon(fire))
        elif timeout_ms > 0:
            timer.append(loop.call_later(timeout_ms / 1000, fire))

    def fire() -> None:
        timer.clear()
        multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        drain()

    def readable() -> None:
        for fd, events in poll.poll(0):
            multi.socket_action(fd, (1 if events & ~4 else 0) | (2 if events & ~1 else 0))
        drain()

    def drain() -> None:
        _left, done, failed = multi.info_read()
        if failed:
            raise SystemExit(str(failed))
        for curl in done:
            multi.remove_handle(curl)
            waiting.pop(curl).set_result(None)

    multi.setopt(pycurl.M_SOCKETFUNCTION, on_socket)
    multi.setopt(pycurl.M_TIMERFUNCTION, on_timer)
    loop.add_reader(poll.fileno(), readable)
    idle: list[pycurl.Curl] = []

    async def fetch(url: str) -> int:
        curl = idle.pop() if idle else pycurl.Curl()
        pieces: list[bytes] = []
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.HEADERFUNCTION, [].append)
        curl.setopt(pycurl.WRITEFUNCTION, pieces.append)
        waiting[curl] = loop.create_future()
        multi.add_handle(curl)
        await waiting[curl]
        idle.append(curl)
        return sum(map(len, pieces))

    try:
        await _pull(base, tiles, fetch)
    finally:
        loop.remove_reader(poll.fileno())
        multi.close()


async def pycurl_thread(base: str, tiles: int) -> None:
    """A thread of its own runs the multi; answers come back in batches."""
    import selectors
    import threading
    from collections import deque

    import pycurl

    loop = asyncio.get_running_loop()
    asked: deque[tuple[str, asyncio.Future[int]]] = deque()
    wake_read, wake_write = socket.socketpair()
    wake_read.setblocking(False)
    state = {"stop": False, "awake": False}

    def run() -> None:
        multi = pycurl.CurlMulti()
        poll = selectors.DefaultSelector()
        poll.register(wake_read.fileno(), 1)
        idle: list[pycurl.Curl] = []
        open_: dict[pycurl.Curl, tuple[asyncio.Future[int], list[bytes]]] = {}
        watched: dict[int, int] = {}
        deadline = [0.0]

        def on_socket(what: int, fd: int, _multi: object, _data: object) -> None:
            wanted = {pycurl.POLL_IN: 1, pycurl.POLL_OUT: 2, pycurl.POLL_INOUT: 3}.get(what, 0)
            known = watched.pop(fd, 0)
            if wanted:
                watched[fd] = wanted
                poll.modify(fd, wanted) if known else poll.register(fd, wanted)
            elif known:
                poll.unregister(fd)

        def on_timer(timeout_ms: int) -> None:
            deadline[0] = time.monotonic() + timeout_ms / 1000 if timeout_ms >= 0 else 0.0

        multi.setopt(pycurl.M_SOCKETFUNCTION, on_socket)
        multi.setopt(pycurl.M_TIMERFUNCTION, on_timer)
        while not state["stop"]:
            wait_s = max(0.0, deadline[0] - time.monotonic()) if deadline[0] else 1.0
            for key, events in poll.select(wait_s):
                if key.fd == wake_read.fileno():
                    wake_read.recv(4096)
                    state["awake"] = False
                else:
                    multi.socket_action(key.fd, events)
            while asked:
                url, future = asked.popleft()
                curl = idle.pop() if idle else pycurl.Curl()
                pieces: list[bytes] = []
                curl.setopt(pycurl.URL, url)
                curl.setopt(pycurl.HEADERFUNCTION, [].append)
                curl.setopt(pycurl.WRITEFUNCTION, pieces.append)
                open_[curl] = (future, pieces)
                multi.add_handle(curl)
            if deadline[0] and deadline[0] <= time.monotonic():
                deadline[0] = 0.0
                multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            batch = []
            for curl in multi.info_read()[1]:
                multi.remove_handle(curl)
                future, pieces = open_.pop(curl)
                idle.append(curl)
                batch.append((future, sum(map(len, pieces))))
            if batch:
                loop.call_soon_threadsafe(settle, batch)
        multi.close()

    def settle(batch: list[tuple[asyncio.Future[int], int]]) -> None:
        for future, size in batch:
            future.set_result(size)

    async def fetch(url: str) -> int:
        future: asyncio.Future[int] = loop.create_future()
        asked.append((url, future))
        if not state["awake"]:
            state["awake"] = True
            wake_write.send(b"x")
        return await future

    thread = threading.Thread(target=run)
    thread.start()
    try:
        await _pull(base, tiles, fetch)
    finally:
        state["stop"] = True
        wake_write.send(b"x")
        thread.join()


async def pyreqwest(base: str, tiles: int) -> None:
    library = importlib.import_module("pyreqwest.client")
    async with library.ClientBuilder().gzip(False).follow_redirects(False).build() as client:

        async def fetch(url: str) -> int:
            response = await client.get(url).build().send()
            return len(await response.bytes())

        await _pull(base, tiles, fetch)


async def aiohttp(base: str, tiles: int) -> None:
    library = importlib.import_module("aiohttp")
    connector = library.TCPConnector(limit=IN_FLIGHT)
    async with library.ClientSession(connector=connector, auto_decompress=False) as session:

        async def fetch(url: str) -> int:
            async with session.get(url, allow_redirects=False) as response:
                return len(await response.read())

        await _pull(base, tiles, fetch)


async def httpx(base: str, tiles: int) -> None:
    library = importlib.import_module("httpx")
    limits = library.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    async with library.AsyncClient(limits=limits) as client:

        async def fetch(url: str) -> int:
            return len((await client.get(url)).content)

        await _pull(base, tiles, fetch)


# name: (function, the module that must be there, share of the tiles it is worth running)
CLIENTS: dict[str, tuple[Client, str, float]] = {
    "tilehaul wire": (tilehaul_wire, "tilehaul.net.wire", 1.0),
    "pycurl AsyncCurlMulti": (pycurl_async_multi, "pycurl", 1.0),
    "pycurl own epoll": (pycurl_epoll, "pycurl", 1.0),
    "pycurl thread": (pycurl_thread, "pycurl", 1.0),
    "pyreqwest": (pyreqwest, "pyreqwest", 1.0),
    "aiohttp": (aiohttp, "aiohttp", 1.0),
    "httpx": (httpx, "httpx", 0.1),
}


# --- servers --------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
            return
        time.sleep(0.02)
    raise SystemExit(f"no server on port {port}")


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """Serve `folder` with one nginx worker; answer its base address."""
    port = _free_port()
    # Started by root, nginx's worker would be `nobody`, who may not read a private folder.
    user = "user root;" if os.geteuid() == 0 else ""
    temp = "".join(
        f"{kind}_temp_path {folder}/tmp-{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf = folder / "nginx.conf"
    conf.write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; {user}"
        f"events {{ worker_connections 1024; }} http {{ access_log off; keepalive_requests 1000000; {temp}"
        f"server {{ listen 127.0.0.1:{port}; root {folder}; }} }}"
    )
    server = subprocess.Popen(["nginx", "-c", str(conf), "-e", f"{folder}/error.log"])
    try:
        _await_port(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


async def _serve_slowly(port: int) -> None:
    """Answer every request after SERVICE_S with a tile; one request at a time a connection."""
    loop = asyncio.get_running_loop()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % TILE_BYTES + bytes(TILE_BYTES)

    class Slow(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            self.buffer = b""

        def data_received(self, data: bytes) -> None:
            self.buffer += data
            if self.buffer.endswith(b"\r\n\r\n"):
                self.buffer = b""
                loop.call_later(SERVICE_S, self.transport.write, answer)  # type: ignore[attr-defined]

    server = await loop.create_server(Slow, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


@contextlib.contextmanager
def slow_server() -> Iterator[str]:
    port = _free_port()
    server = subprocess.Popen([sys.executable, __file__, "--serve-slowly", str(port)])
    try:
        _await_port(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


# --- measuring ------------------------------------------------------------------------------------


def _new_loop(*, plain: bool) -> asyncio.AbstractEventLoop:
    if plain or not importlib.util.find_spec("uvloop"):
        return asyncio.SelectorEventLoop()
    import uvloop

    return uvloop.new_event_loop()


def measure_here(name: str, base: str, tiles: int, *, plain: bool) -> dict[str, float]:
    """Run one client in this process: warm up, then measure."""
    client, _, share = CLIENTS[name]
    tiles = max(IN_FLIGHT * 4, int(tiles * share))
    with asyncio.Runner(loop_factory=lambda: _new_loop(plain=plain)) as runner:
        runner.run(client(base, IN_FLIGHT * 2))
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        runner.run(client(base, tiles))
        after, elapsed_s = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - start
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "cpu_us": cpu_s / tiles * 1e6,
        "per_s": tiles / elapsed_s,
        "rss_mb": after.ru_maxrss / 1024,
    }


def measure(name: str, base: str, tiles: int, *, plain: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--run", name, "--base", base, "--tiles", str(tiles)]
    done = subprocess.run(
        [*command, *(["--plain"] if plain else [])], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout))


def import_ms(module: str) -> float:
    """CPU milliseconds of an interpreter that imports `module`, the interpreter's own included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def wrk(base: str) -> float:
    """CPU of wrk per request: the floor, a client in C that throws bodies away."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["wrk", "-t1", f"-c{IN_FLIGHT}", "-d2s", f"{base}/0.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    requests = int(done.stdout.split(" requests in ")[0].split()[-1])
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / requests * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiles", type=int, default=6000)
    parser.add_argument("--only", nargs="*", default=list(CLIENTS), choices=list(CLIENTS))
    parser.add_argument("--plain", action="store_true", help="plain asyncio instead of uvloop")
    for inner in ("--run", "--base"):
        parser.add_argument(inner, help=argparse.SUPPRESS)
    parser.add_argument("--serve-slowly", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve_slowly:
        with asyncio.Runner(loop_factory=lambda: _new_loop(plain=False)) as runner:
            runner.run(_serve_slowly(asked.serve_slowly))
    elif asked.run:
        print(json.dumps(measure_here(asked.run, asked.base, asked.tiles, plain=asked.plain)))
    else:
        _report(asked.only, asked.rounds, asked.tiles, plain=asked.plain)


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(CLIENTS[name][1]) is not None
    except ModuleNotFoundError:
        return False


def _report(only: list[str], rounds: int, tiles: int, *, plain: bool) -> None:
    if not shutil.which("nginx"):
        raise SystemExit("nginx is not installed: nothing measured")
    names = [name for name in only if _installed(name)]
    for name in only:
        if name not in names:
            print(f"SKIPPED {name}: {CLIENTS[name][1]} is not installed")
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    shares: dict[str, list[float]] = {name: [] for name in names}
    floor: list[float] = []
    with tempfile.TemporaryDirectory() as folder, nginx(Path(folder)) as base, slow_server() as slow:
        luck = random.Random(1)
        for n in range(FILES):
            (Path(folder) / f"{n}.png").write_bytes(luck.randbytes(TILE_BYTES))
        for _ in range(rounds):
            if shutil.which("wrk"):
                floor.append(wrk(base))
            for name in names:
                figures[name].append(measure(name, base, tiles, plain=plain))
                slow_tiles = 2000 if CLIENTS[name][2] == 1.0 else 4000
                per_s = measure(name, slow, slow_tiles, plain=plain)["per_s"]
                shares[name].append(per_s * SERVICE_S / IN_FLIGHT)
    print(
        f"\n{'plain asyncio' if plain else 'uvloop where installed'}, {tiles} tiles, {rounds} rounds, medians"
    )
    print("| client | CPU us/tile | tiles/s (wall) | share of Little's limit | peak RSS MB | import ms |")
    print("|---|--:|--:|--:|--:|--:|")
    if floor:
        print(f"| wrk (floor) | {statistics.median(floor):.0f} | | | | |")
    for name in names:
        cells = [statistics.median(f[key] for f in figures[name]) for key in ("cpu_us", "per_s", "rss_mb")]
        share = statistics.median(shares[name])
        cost_ms = statistics.median(import_ms(CLIENTS[name][1]) for _ in range(3))
        print(f"| {name} | {cells[0]:.0f} | {cells[1]:.0f} | {share:.1%} | {cells[2]:.0f} | {cost_ms:.0f} |")


if __name__ == "__main__":
    main()
