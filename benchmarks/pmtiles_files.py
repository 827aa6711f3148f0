"""Writing and reading PMTiles: tilehaul's store against the `pmtiles` package, rate, CPU and peak memory.

`python benchmarks/pmtiles_files.py [--tiles N] [--peer PYTHON] [--folder DIR]`. PYTHON is one that has
`pmtiles`; without it only tilehaul is measured. Every line is a process of its own, so that its peak
memory is its own. Tiles are 8 KB, 30 % of them the same as an earlier one.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

BODY_BYTES = 8192
SHARE_REPEATED = 0.3
BATCH = 500
READS = 20_000
ZOOM = 9
FIRST = ((1 << 2 * ZOOM) - 1) // 3


def bodies(count: int) -> Iterator[bytes]:
    """Each as from a source: bytes of its own, also when they are the same as another's."""
    luck = random.Random(1)
    noise = luck.randbytes(BODY_BYTES)
    for number in range(count):
        repeats = number > 0 and luck.random() < SHARE_REPEATED
        shown = luck.randrange(number) if repeats else number
        yield b"\x89PNG\r\n\x1a\n" + shown.to_bytes(8, "big") + noise[16:]


def numbers(count: int, order: str) -> list[int]:
    found = list(range(FIRST, FIRST + count))
    if order == "shuffled":
        random.Random(2).shuffle(found)
    return found


async def write_ours(path: Path, count: int, order: str, durability: str) -> None:
    from tilehaul.grid.tile_id import TileId
    from tilehaul.ports.store import JobCounts, JobKey
    from tilehaul.ports.tile import Tile
    from tilehaul.stores.mbtiles import MbtilesStore
    from tilehaul.stores.pmtiles import PmtilesStore

    kind = MbtilesStore if path.suffix == ".mbtiles" else PmtilesStore
    store = kind(path, durability=durability)  # type: ignore[arg-type]
    await store.begin(JobKey("bench", "bench", "area", count))
    batch = []
    for number, body in zip(numbers(count, order), bodies(count), strict=True):
        batch.append(Tile(TileId.from_pmtiles_id(number), body, "image/png"))
        if len(batch) == BATCH:
            await store.commit(batch)
            batch = []
    await store.commit(batch)
    await store.finish(complete=True, counts=JobCounts(count, 0))
    await store.close()


async def read_ours(path: Path, count: int) -> None:
    from tilehaul.grid.tile_id import TileId
    from tilehaul.ports.tile import Tile
    from tilehaul.stores.pmtiles import PmtilesStore

    store = PmtilesStore(path)
    luck = random.Random(3)
    for _ in range(READS // 50):
        wanted = [TileId.from_pmtiles_id(FIRST + luck.randrange(count)) for _ in range(50)]
        answers = await asyncio.gather(*map(store.get, wanted))
        assert all(isinstance(answer, Tile) for answer in answers)
    await store.close()


def write_peer(path: Path, count: int, order: str) -> None:
    from pmtiles.tile import Compression, TileType  # type: ignore[import-not-found]
    from pmtiles.writer import write  # type: ignore[import-not-found]

    with write(path) as writer:
        for number, body in zip(numbers(count, order), bodies(count), strict=True):
            writer.write_tile(number, body)
        header = dict.fromkeys(
            ("min_lon_e7", "min_lat_e7", "max_lon_e7", "max_lat_e7", "center_lon_e7", "center_lat_e7"), 0
        )
        told = {"tile_type": TileType.PNG, "tile_compression": Compression.NONE, "center_zoom": 0}
        writer.finalize({**header, **told}, {"name": "bench"})


def convert_peer(source: Path, path: Path) -> None:
    from pmtiles.convert import mbtiles_to_pmtiles  # type: ignore[import-not-found]

    mbtiles_to_pmtiles(str(source), str(path), ZOOM)


def read_peer(path: Path, count: int) -> None:
    from pmtiles.reader import MmapSource, Reader  # type: ignore[import-not-found]
    from pmtiles.tile import tileid_to_zxy

    luck = random.Random(3)
    with path.open("rb") as file:
        reader = Reader(MmapSource(file))
        for _ in range(READS // 40):
            assert reader.get(*tileid_to_zxy(FIRST + luck.randrange(count)))


def child(what: str, folder: Path, count: int) -> None:
    """One measured line, told as JSON."""
    items = count
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    if what.startswith("tilehaul write"):
        _, _, order, durability = what.split()
        asyncio.run(write_ours(folder / f"{order}.pmtiles", count, order, durability))
    elif what == "mbtiles write":
        asyncio.run(write_ours(folder / "source.mbtiles", count, "ordered", "full"))
    elif what.startswith("pmtiles write"):
        write_peer(folder / "peer.pmtiles", count, what.split()[2])
    elif what == "pmtiles convert":
        convert_peer(folder / "source.mbtiles", folder / "converted.pmtiles")
    elif what == "tilehaul read":
        items = READS
        asyncio.run(read_ours(folder / "ordered.pmtiles", count))
    elif what == "pmtiles read":
        items = READS // 40
        read_peer(folder / "ordered.pmtiles", count)
    wall_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    # Of the program that is measured, not of the one it was forked from.
    status = Path("/proc/self/status").read_text(encoding="utf-8") if sys.platform == "linux" else ""
    peak_kib = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
    peak_kib = peak_kib or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"items": items, "wall_s": wall_s, "cpu_s": cpu_s, "peak_kib": peak_kib}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=100_000)
    parser.add_argument("--peer", default="", help="a Python that has the package pmtiles")
    parser.add_argument("--folder", default=".")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], Path(options.child[1]), options.tiles)
        return
    lines = [
        ("tilehaul write ordered full", sys.executable),
        ("tilehaul write ordered fast", sys.executable),
        ("tilehaul write shuffled full", sys.executable),
        ("mbtiles write", sys.executable),
        ("tilehaul read", sys.executable),
    ]
    if options.peer:
        names = ("write ordered", "write shuffled", "convert", "read")
        lines += [(f"pmtiles {name}", options.peer) for name in names]
    print("| | tiles/s | CPU us a tile | peak MiB | file MB |\n|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for what, python in lines:
            if "write" in what:
                os.sync()
            command = [python, __file__, "--tiles", str(options.tiles), "--child", what, folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            told = json.loads(done.stdout)
            newest = max(Path(folder).iterdir(), key=lambda path: path.stat().st_mtime)
            print(
                f"| {what} | {told['items'] / told['wall_s']:,.0f} "
                f"| {told['cpu_s'] / told['items'] * 1e6:.1f} "
                f"| {told['peak_kib'] / 1024:.0f} | {newest.stat().st_size / 1e6:.0f} |",
                flush=True,
            )
            for path in Path(folder).glob("peer.*"):
                path.unlink()
            if what.endswith("ordered full"):
                (Path(folder) / "ordered.pmtiles").unlink()


if __name__ == "__main__":
    main()
