"""What a tile served from a cache costs: `tilehaul serve` beside nginx, Varnish and MapProxy.

    python benchmarks/serving.py [--rounds 5] [--seconds 3]

200 PNG tiles of 15 kB on average, asked for in random order by wrk (one thread; 50 connections, then 200),
each server in processes of its own on the same machine:

* `tilehaul serve` over an MBTiles file, every tile in its memory cache;
* `tilehaul serve` before nginx, its memory cache too small for any tile: each comes from its disk cache;
* nginx on the same files, nginx's proxy_cache and Varnish (in memory) before that;
* MapProxy under gunicorn over the same MBTiles file.

All are warmed: no request reaches an origin. CPU: microseconds (user + system of all the server's processes,
/proc) per request. Then the same with If-None-Match, answered 304. nginx and wrk are needed; Varnish and
MapProxy are left out where they are missing (see `serving_peers.py`).
"""

import argparse
import asyncio
import http.client
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

import serving_peers
import tables
from origin import (
    FILES,
    Running,
    WrkResult,
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
from tilehaul.stores.disk_cache import WRITE_DELAY_S
from tilehaul.stores.mbtiles import MbtilesStore

OURS, OURS_DISK = "tilehaul serve, memory hit", "tilehaul serve, disk hit"
FILES_SERVED, CACHED = "nginx, files", "nginx, proxy_cache hit"
VARNISH, MAPPROXY = "Varnish, memory hit", "MapProxy, MBTiles"
CONNECTIONS = (50, 200)
STATUSES = ("200", "304")
# (server, status, connections) -> (CPU us per request, what wrk saw) of each round.
Figures = dict[tuple[str, str, int], list[tuple[float, WrkResult]]]


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


def warm(base: str, paths: list[str], place: str = "") -> list[tuple[str, str]]:
    """Ask for every tile until all were answered twice; answer paths and ETags.

    `place`: what X-Tile-Source must say the second time. A tile that is not whole, or comes from elsewhere,
    ends the benchmark.
    """
    connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=30)
    found: list[tuple[str, str]] = []
    for turn in range(2):
        found.clear()
        for path, size in zip(paths, tile_sizes(), strict=True):
            connection.request("GET", path)
            answer = connection.getresponse()
            if answer.status != 200 or len(answer.read()) != size:
                raise SystemExit(f"{base}{path}: status {answer.status}, not the {size} bytes of the tile")
            told = answer.headers.get("x-tile-source", "")
            if turn and place and told != place:
                raise SystemExit(f"{base}{path} came from {told}, not from {place}")
            found.append((path, answer.headers["etag"]))
        # What is on its way to the disk is given from memory until it is there.
        time.sleep(4 * WRITE_DELAY_S)
    _check_cached(connection, *found[0])
    connection.close()
    return found


def _check_cached(connection: http.client.HTTPConnection, path: str, etag: str) -> None:
    connection.request("GET", path, headers={"If-None-Match": etag})
    answer = connection.getresponse()
    answer.read()
    told = answer.headers.get("Cache-Status", "") + answer.headers.get("X-Cache", "")
    if answer.status != 304 or (told and "hit" not in told.lower()):
        raise SystemExit(f"{path}: status {answer.status} ({told}), not 304 from a cache")


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, tuple[Running, list[str], str]]]:
    """Each with its paths, and what its X-Tile-Source says of a hit."""
    plain = [f"/{tile_id}.png" for tile_id in tile_ids(FILES)]
    api = [f"/api/tiles/tiles{path}" for path in plain]
    write_tiles(folder / "tiles", FILES)
    archive = folder / "tiles.mbtiles"
    write_archive(archive)
    with ExitStack() as stack:
        files = stack.enter_context(nginx_files(folder, folder / "tiles"))
        ours, _ = stack.enter_context(tilehaul("serve", f"tiles={archive}", "--port", "0"))
        disk = ("--cache-memory", "1kB", "--cache-disk", "1GB", "--cache-path", str(folder / "cache"))
        origin = f"tiles={files.url}/{{z}}/{{x}}/{{y}}.png"
        ours_disk, _ = stack.enter_context(tilehaul("serve", origin, *disk, "--port", "0"))
        found = {
            FILES_SERVED: (files, plain, ""),
            CACHED: (stack.enter_context(nginx_cache(folder, files)), plain, ""),
            OURS: (ours, api, "memory"),
            OURS_DISK: (ours_disk, api, "disk"),
        }
        if not serving_peers.varnish_missing():
            found[VARNISH] = (stack.enter_context(serving_peers.varnish(folder, files)), plain, "")
        if not serving_peers.mapproxy_missing():
            paths = [f"{serving_peers.MAPPROXY_PATH}{path}" for path in plain]
            found[MAPPROXY] = (stack.enter_context(serving_peers.mapproxy(folder, archive)), paths, "")
        yield found


def one_load(
    folder: Path, server: Running, requests: list[tuple[str, str]], seconds: int, connections: int
) -> tuple[float, WrkResult]:
    """CPU us per request, and the rest, of one run of wrk."""
    before_s = server.cpu_s()
    got = wrk(folder, server.url, requests, seconds=seconds, connections=connections)
    return (server.cpu_s() - before_s) / got.requests * 1e6, got


def measure(*, rounds: int, seconds: int) -> str:
    """The tables of serving."""
    if reason := missing("nginx", "wrk"):
        return reason
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as text, servers(Path(text)) as found:
        known = {name: warm(server.url, paths, place) for name, (server, paths, place) in found.items()}
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for name, (server, paths, _) in found.items():
                loads = {"200": [(path, "") for path in paths], "304": known[name]}
                for status, connections in product(STATUSES, CONNECTIONS):
                    got = one_load(Path(text), server, loads[status], seconds, connections)
                    figures.setdefault((name, status, connections), []).append(got)
                    told = f"{got[0]:.1f} us, {got[1].per_s:,.0f}/s, p99 {got[1].p99_ms:.1f} ms"
                    print(f"  {name} {status} by {connections}: {told}", file=sys.stderr, flush=True)
    left_out = [
        reason for reason in (serving_peers.varnish_missing(), serving_peers.mapproxy_missing()) if reason
    ]
    notes = [note for note in (serving_peers.versions(), *left_out) if note]
    tables_of = [f"Answered {status}:\n\n{_table(figures, status)}" for status in STATUSES]
    return "\n\n".join((_aims(figures), *tables_of, *notes)) + "\n"


def _cpu_us(figures: Figures, name: str) -> float:
    return statistics.median(cpu for cpu, _ in figures[name, "200", CONNECTIONS[0]])


def _aims(figures: Figures) -> str:
    """Of CPU per request, answered 200, by 50 connections."""
    ours, cached = _cpu_us(figures, OURS), _cpu_us(figures, CACHED)
    rows = [
        ("memory hit, CPU per request", "<= 60 us", f"{ours:.0f} us", ours <= 60),
        ("the same, goal", "<= 27 us", f"{ours:.0f} us", ours <= 27),
        ("within 2 x nginx proxy_cache", f"<= {2 * cached:.0f} us", f"{ours:.0f} us", ours <= 2 * cached),
        ("ahead of nginx proxy_cache, goal", f"<= {cached:.0f} us", f"{ours:.0f} us", ours <= cached),
    ]
    if (VARNISH, "200", CONNECTIONS[0]) in figures:
        varnish = _cpu_us(figures, VARNISH)
        rows.insert(2, ("ahead of Varnish", f"<= {varnish:.0f} us", f"{ours:.0f} us", ours <= varnish))
    if (MAPPROXY, "200", CONNECTIONS[0]) in figures:
        mapproxy = _cpu_us(figures, MAPPROXY)
        times = mapproxy / ours
        rows.append(("MapProxy's CPU per request over ours", ">= 20 x", f"{times:.0f} x", times >= 20))
    return tables.aims(rows)


def _table(figures: Figures, status: str) -> str:
    """A row for each server: CPU, rate and waiting, by 50 and by 200 connections."""
    head = ["server"]
    for connections in CONNECTIONS:
        head += [f"CPU us, {connections}", f"requests/s, {connections}", f"p50 / p99 ms, {connections}"]
    rows = []
    for name in (FILES_SERVED, CACHED, VARNISH, OURS, OURS_DISK, MAPPROXY):
        if (name, status, CONNECTIONS[0]) not in figures:
            continue
        cells = [name]
        for connections in CONNECTIONS:
            runs = figures[name, status, connections]
            p50, p99 = (
                statistics.median(getattr(got, key) for _, got in runs) for key in ("p50_ms", "p99_ms")
            )
            cells += [
                tables.spread([cpu for cpu, _ in runs], 1),
                f"{statistics.median(got.per_s for _, got in runs):,.0f}",
                f"{p50:.1f} / {p99:.1f}",
            ]
        rows.append(cells)
    return tables.table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of one load")
    asked = parser.parse_args()
    print(measure(rounds=asked.rounds, seconds=asked.seconds))


if __name__ == "__main__":
    main()
