"""The programs that faults.py compares: each as its own documentation shows it, in a process of its own.

    PYTHON benchmarks/fault_peers.py PEER BASE FOLDER CONCURRENCY TIMEOUT_S < addresses

PYTHON has the peer installed; nothing of tilehaul is imported. Addresses are `z/x/y`, one a line;
what was taken for a tile is kept as FOLDER/z-x-y, or in FOLDER/out.mbtiles. The last line printed is JSON:
the version, and how often which error was met at the end of a tile.
"""

import asyncio
import importlib.metadata
import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ATTEMPTS = 5


class Run:
    """One task for a peer: what to fetch, from where, and where it is kept."""

    def __init__(
        self, base: str, folder: Path, concurrency: int, timeout_s: float, addresses: list[str]
    ) -> None:
        self.base, self.folder = base, folder
        self.concurrency, self.timeout_s = concurrency, timeout_s
        self.addresses = addresses
        self.failed: Counter[str] = Counter()

    def keep(self, address: str, body: bytes) -> None:
        (self.folder / address.replace("/", "-")).write_bytes(body)


def with_httpx(run: Run) -> None:
    """The recipe of a hundred answers: gather, a semaphore, a loop that doubles its sleep."""
    import httpx

    async def fetch(client: httpx.AsyncClient, turn: asyncio.Semaphore, address: str) -> None:
        async with turn:
            for attempt in range(ATTEMPTS):
                try:
                    response = await client.get(f"{run.base}/{address}.png")
                    response.raise_for_status()
                    run.keep(address, response.content)
                    return
                except httpx.HTTPError as error:
                    failure = error
                    await asyncio.sleep(0.5 * 2**attempt)
            run.failed[type(failure).__name__] += 1

    async def main() -> None:
        turn = asyncio.Semaphore(run.concurrency)
        async with httpx.AsyncClient(timeout=run.timeout_s) as client:
            await asyncio.gather(*(fetch(client, turn, address) for address in run.addresses))

    asyncio.run(main())


def with_urllib3(run: Run) -> None:
    """Threads and `Retry`, as its guide recommends."""
    import urllib3

    statuses = [429, 500, 502, 503, 504]
    retry = urllib3.Retry(total=ATTEMPTS, backoff_factor=0.5, status_forcelist=statuses)
    pool = urllib3.PoolManager(maxsize=run.concurrency, retries=retry, timeout=run.timeout_s)

    def fetch(address: str) -> None:
        try:
            response = pool.request("GET", f"{run.base}/{address}.png")
        except urllib3.exceptions.HTTPError as error:
            run.failed[type(error).__name__] += 1
            return
        if response.status == 200:
            run.keep(address, response.data)
        else:
            run.failed[f"HTTP {response.status}"] += 1

    in_threads(run, fetch)


def with_boto3(run: Run) -> None:
    """`get_object` in threads; the zoom is the bucket, the rest the key. Only the timeouts are set."""
    import boto3
    import botocore.exceptions
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(
        signature_version=UNSIGNED,
        s3={"addressing_style": "path"},
        max_pool_connections=run.concurrency,
        connect_timeout=run.timeout_s,
        read_timeout=run.timeout_s,
    )
    client = boto3.client("s3", endpoint_url=run.base, region_name="us-east-1", config=config)

    def fetch(address: str) -> None:
        bucket, _, key = f"{address}.png".partition("/")
        try:
            run.keep(address, client.get_object(Bucket=bucket, Key=key)["Body"].read())
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            run.failed[type(error).__name__] += 1

    in_threads(run, fetch)


def with_obstore(run: Run) -> None:
    """`get_async` of its HTTP store with its default retries, a semaphore for the concurrency."""
    import datetime as dt

    from obstore.exceptions import BaseError
    from obstore.store import HTTPStore

    timeout = dt.timedelta(seconds=run.timeout_s)
    store = HTTPStore.from_url(run.base, client_options={"timeout": timeout, "allow_http": True})

    async def fetch(turn: asyncio.Semaphore, address: str) -> None:
        async with turn:
            try:
                answer = await store.get_async(f"{address}.png")
                run.keep(address, bytes(await answer.bytes_async()))
            except (BaseError, OSError) as error:
                run.failed[type(error).__name__] += 1

    async def main() -> None:
        turn = asyncio.Semaphore(run.concurrency)
        await asyncio.gather(*(fetch(turn, address) for address in run.addresses))

    asyncio.run(main())


def with_mapproxy(run: Run) -> None:
    """`mapproxy-seed` from a tile source into an MBTiles cache, one tile a request."""
    zooms = [int(address.partition("/")[0]) for address in run.addresses]
    conf = {
        "services": {"demo": None},
        "sources": {
            "lab": {"type": "tile", "grid": "north", "url": f"{run.base}/%(z)s/%(x)s/%(y)s.png"},
        },
        # Rows are counted from the north by the server, from the south in MBTiles.
        "grids": {
            "north": {"base": "GLOBAL_WEBMERCATOR", "origin": "nw"},
            "south": {"base": "GLOBAL_WEBMERCATOR", "origin": "sw"},
        },
        "caches": {
            "kept": {
                "sources": ["lab"],
                "grids": ["south"],
                "format": "image/png",
                "meta_size": [1, 1],
                "meta_buffer": 0,
                "cache": {"type": "mbtiles", "filename": str(run.folder / "out.mbtiles")},
            }
        },
        "layers": [{"name": "kept", "title": "kept", "sources": ["kept"]}],
        "globals": {"http": {"client_timeout": run.timeout_s}, "cache": {"base_dir": str(run.folder)}},
    }
    levels = {"from": min(zooms), "to": max(zooms)}
    seeds = {"seeds": {"all": {"caches": ["kept"], "grids": ["south"], "levels": levels}}}
    for name, content in (("mapproxy.yaml", conf), ("seed.yaml", seeds)):
        (run.folder / name).write_text(json.dumps(content))  # JSON is YAML
    command = [sys.executable, "-m", "mapproxy.seed.script", "-c", str(run.concurrency)]
    script = Path(sys.executable).with_name("mapproxy-seed")
    if script.exists():
        command[:3] = [str(script)]
    done = subprocess.run(
        [*command, "-f", "mapproxy.yaml", "-s", "seed.yaml"],
        cwd=run.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    for line in (done.stdout + done.stderr).splitlines():
        if "ERROR" in line or "WARNING" in line or "Error" in line:
            run.failed["lines of warnings and errors"] += 1
    run.failed["exit status"] = done.returncode


def in_threads(run: Run, fetch) -> None:
    with ThreadPoolExecutor(run.concurrency) as pool:
        for _ in pool.map(fetch, run.addresses):
            pass


PEERS = {
    "httpx": with_httpx,
    "urllib3": with_urllib3,
    "boto3": with_boto3,
    "obstore": with_obstore,
    "MapProxy": with_mapproxy,
}


def main() -> None:
    name, base, folder, concurrency, timeout_s = sys.argv[1:]
    run = Run(base, Path(folder), int(concurrency), float(timeout_s), sys.stdin.read().split())
    PEERS[name](run)
    print(json.dumps({"version": importlib.metadata.version(name), "failed": run.failed}))


if __name__ == "__main__":
    main()
