"""What r2_tiles.py compares: one tile, ten, fifty and kept ones, in a process of its own.

    PYTHON benchmarks/r2_tiles_peers.py PEER BASE ROUNDS SALT

PYTHON has the peer installed. BASE is a server with tiles at /z/x/y.png; SALT keeps the tiles of two runs
apart. Printed is JSON: the version, and for each case the milliseconds of every round. A second fifty, whose
time is not taken, opens what the first has left unopened.
"""

import http.client
import importlib.metadata
import json
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

WORKERS = 50
TILES_MAX = 500
Tile = tuple[int, int, int, int, str]
Fetch = Callable[[list[Tile]], dict[str, bytes | None]]


def tilehaul(base: str) -> Fetch:
    from tilehaul.compat.r2_tiles import R2TileCache

    return R2TileCache(location=f"{base}/{{z}}/{{x}}/{{y}}.png").fetch_tiles_parallel_sync


def urllib3(base: str) -> Fetch:
    """The old design at its best: one pool of connections for all threads, a dictionary, a lock."""
    import urllib3

    retry = urllib3.Retry(total=3, backoff_factor=0.3, status_forcelist=(500, 502, 503, 504))
    pool = urllib3.PoolManager(maxsize=100, retries=retry, timeout=10)
    threads = ThreadPoolExecutor(WORKERS)
    kept: OrderedDict[str, bytes] = OrderedDict()
    lock = threading.Lock()

    def get(tile: Tile) -> bytes | None:
        _, z, x, y, _ = tile
        answer = pool.request("GET", f"{base}/{z}/{x}/{y}.png")
        return answer.data if answer.status == 200 else None

    def fetch(tiles: list[Tile]) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}
        begun = {}
        for tile in tiles:
            key = "{}/{}/{}/{}.{}".format(*tile)
            with lock:
                body = kept.get(key)
                if body is not None:
                    kept.move_to_end(key)
                    found[key] = body
                    continue
            begun[key] = threads.submit(get, tile)
        for key, future in begun.items():
            found[key] = body = future.result()
            if body is not None:
                with lock:
                    kept[key] = body
                    while len(kept) > TILES_MAX:
                        kept.popitem(last=False)
        return found

    return fetch


def plain(base: str) -> Fetch:
    """One connection of the standard library: what one tile costs at least, from Python."""
    connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=10)

    def fetch(tiles: list[Tile]) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}
        for tile in tiles:
            connection.request("GET", "/{1}/{2}/{3}.png".format(*tile))
            found["{}/{}/{}/{}.{}".format(*tile)] = connection.getresponse().read()
        return found

    return fetch


PEERS = {"tilehaul": tilehaul, "urllib3": urllib3, "plain": plain}


def timed_ms(fetch: Fetch, tiles: list[Tile]) -> float:
    begun_s = time.perf_counter()
    found = fetch(tiles)
    took_s = time.perf_counter() - begun_s
    if len(found) != len(tiles) or not all(found.values()):
        raise SystemExit(
            f"{len(found)} of {len(tiles)} tiles, {sum(map(bool, found.values()))} of them whole"
        )
    return 1000 * took_s


def main() -> None:
    name, base, rounds, salt = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    fetch = PEERS[name](base)
    column = salt * 1000

    def fresh(count: int) -> list[Tile]:
        nonlocal column
        column += 1
        return [(1, 16, column, row, "png") for row in range(count)]

    sizes = (1,) if name == "plain" else (1, 10, 50)
    cold_ms = timed_ms(fetch, fresh(sizes[-1]))
    times: dict[str, list[float]] = {} if name == "plain" else {"first": [cold_ms]}
    fetch(fresh(sizes[-1]))
    for _ in range(rounds):
        for size in sizes:
            tiles = fresh(size)
            times.setdefault(str(size), []).append(timed_ms(fetch, tiles))
            if size == 10:
                times.setdefault("kept", []).append(timed_ms(fetch, tiles))
    version = "" if name == "plain" else importlib.metadata.version(name)
    print(json.dumps({"version": version, "times": times}))


if __name__ == "__main__":
    main()
