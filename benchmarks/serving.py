"""What a tile served from memory costs: `tilehaul serve` beside nginx.

    python benchmarks/serving.py [--rounds 5] [--seconds 3]

200 PNG tiles of 15 kB on average, asked for in random order by wrk (one thread, 50 connections), each
server in a process of its own on the same machine: `tilehaul serve` over an MBTiles file, nginx static,
nginx proxy_cache before the static one. All are warmed: no request reaches a file of tilehaul's or the
cache's origin. CPU: microseconds (user + system of all the server's processes, /proc) per request. Then
the same with If-None-Match, answered 304. nginx and wrk are needed.
"""

import argparse
import asyncio
import http.client
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import tables
from origin import (
    FILES,
    Running,
    missing,
    nginx_cache,
    nginx_files,
    tile_ids,
    tile_sizes,
    tilehaul,
    write_tiles,
    wrk,
)
from tilehaul.lab.plain_png import plain_png
from tilehaul.ports.store import JobKey
from tilehaul.ports.tile import Tile
from tilehaul.stores.mbtiles import MbtilesStore

OURS, FILES_SERVED, CACHED = "tilehaul serve, memory hit", "nginx, files", "nginx, proxy_cache hit"
Figures = dict[tuple[str, str], list[tuple[float, float]]]


def write_archive(path: Path) -> None:
    """The FILES tiles as a finished MBTiles file."""
    pairs = zip(tile_ids(FILES), tile_sizes(), strict=True)
    tiles = [Tile(at, plain_png(at, size_bytes=size), "image/png") for at, size in pairs]

    async def write() -> None:
        store = MbtilesStore(path)
        await store.begin(JobKey("benchmark", "benchmark", "area", len(tiles)))
        await store.commit(tiles)
        await store.finish(complete=True)
        await store.close()

    asyncio.run(write())


def warm(base: str, paths: list[str]) -> list[tuple[str, str]]:
    """Ask for every tile twice; answer paths and ETags. A tile that is not whole ends the benchmark."""
    connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=10)
    found: list[tuple[str, str]] = []
    for _ in range(2):
        found.clear()
        for path, size in zip(paths, tile_sizes(), strict=True):
            connection.request("GET", path)
            answer = connection.getresponse()
            if answer.status != 200 or len(answer.read()) != size:
                raise SystemExit(f"{base}{path}: status {answer.status}, not the {size} bytes of the tile")
            found.append((path, answer.headers["etag"]))
    _check_from_memory(connection, *found[0])
    connection.close()
    return found


def _check_from_memory(connection: http.client.HTTPConnection, path: str, etag: str) -> None:
    connection.request("GET", path, headers={"If-None-Match": etag})
    answer = connection.getresponse()
    answer.read()
    told = answer.headers.get("Cache-Status", "") + answer.headers.get("X-Cache", "")
    if answer.status != 304 or (told and "hit" not in told.lower()):
        raise SystemExit(f"{path}: status {answer.status} ({told}), not 304 from memory")


def one_load(
    folder: Path, server: Running, requests: list[tuple[str, str]], seconds: int
) -> tuple[float, float]:
    """CPU us per request and requests/s of one run of wrk."""
    before_s = server.cpu_s()
    got = wrk(folder, server.url, requests, seconds=seconds)
    return (server.cpu_s() - before_s) / got.requests * 1e6, got.per_s


def measure(*, rounds: int, seconds: int) -> str:
    """The tables of serving."""
    if reason := missing("nginx", "wrk"):
        return reason
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as text, ExitStack() as stack:
        folder = Path(text)
        write_tiles(folder / "tiles", FILES)
        write_archive(folder / "tiles.mbtiles")
        files = stack.enter_context(nginx_files(folder, folder / "tiles"))
        cache = stack.enter_context(nginx_cache(folder, files))
        words = ("serve", f"tiles={folder}/tiles.mbtiles", "--port", "0")
        ours, _ = stack.enter_context(tilehaul(*words))
        plain = [f"/{tile_id}.png" for tile_id in tile_ids(FILES)]
        api = [f"/api/tiles/tiles{path}" for path in plain]
        servers = {OURS: (ours, api), FILES_SERVED: (files, plain), CACHED: (cache, plain)}
        known = {name: warm(server.url, paths) for name, (server, paths) in servers.items()}
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for name, (server, paths) in servers.items():
                loads = {"200": [(path, "") for path in paths], "304": known[name]}
                for status, requests in loads.items():
                    got = one_load(folder, server, requests, seconds)
                    figures.setdefault((name, status), []).append(got)
                    print(f"  {name} {status}: {got[0]:.1f} us, {got[1]:,.0f}/s", file=sys.stderr, flush=True)
    return f"{_aims(figures)}\n\n{_table(figures)}\n"


def _aims(figures: Figures) -> str:
    cpu_us = {key: statistics.median(cpu for cpu, _ in runs) for key, runs in figures.items()}
    ours, cached = cpu_us[OURS, "200"], cpu_us[CACHED, "200"]
    return tables.aims(
        [
            ("memory hit, CPU per request", "<= 100 us", f"{ours:.0f} us", ours <= 100),
            ("the same, first target", "<= 60 us", f"{ours:.0f} us", ours <= 60),
            ("the same, goal", "<= 27 us", f"{ours:.0f} us", ours <= 27),
            (
                "ahead of nginx proxy_cache",
                f"<= {cached:.0f} us (measured here)",
                f"{ours:.0f} us",
                ours <= cached,
            ),
        ]
    )


def _table(figures: Figures) -> str:
    rows = []
    for name in (FILES_SERVED, CACHED, OURS):
        cells = [name]
        for status in ("200", "304"):
            runs = figures[name, status]
            cells += [
                tables.spread([cpu for cpu, _ in runs], 1),
                f"{statistics.median(rate for _, rate in runs):,.0f}",
            ]
        rows.append(cells)
    return tables.table(("server", "CPU us, 200", "requests/s, 200", "CPU us, 304", "requests/s, 304"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of one load")
    asked = parser.parse_args()
    print(measure(rounds=asked.rounds, seconds=asked.seconds))


if __name__ == "__main__":
    main()
