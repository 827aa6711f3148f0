"""Copies between stores of all kinds: what went in comes out, also after an interruption."""

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.compare import compare
from tilehaul.jobs.stop import Stop
from tilehaul.lab.plain_png import plain_png
from tilehaul.policy.fuse import FailureLimit
from tilehaul.ports.events import Event, JobStarted
from tilehaul.wiring.copying import copy
from tilehaul.wiring.places import open_archive
from tilehaul.wiring.seeding import SeedOptions, seed

FAST = SeedOptions(durability="fast")
tile_ids = st.integers(0, 30).flatmap(
    lambda z: st.builds(TileId, st.just(z), st.integers(0, (1 << z) - 1), st.integers(0, (1 << z) - 1))
)
# Of any tile set some tiles have the same bytes.
tile_sets = st.dictionaries(tile_ids, st.integers(0, 3), min_size=1, max_size=12)


def write(root: Path, tiles: dict[TileId, int]) -> None:
    for tile_id, number in tiles.items():
        folder = root / str(tile_id.z) / str(tile_id.x)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{tile_id.y}.png").write_bytes(plain_png(TileId(0, 0, number)))


async def differ(a: str, b: str) -> tuple[int, int]:
    """Tiles that are the same, and that are not."""
    left, right = open_archive(a), open_archive(b)
    try:
        found = await compare(left, right, lambda _: True)
    finally:
        await left.close()
        await right.close()
    return found.count("same"), sum(map(found.count, ("different", "only_a", "only_b")))


@settings(max_examples=8, deadline=None)
@given(tile_sets)
def test_any_tile_set_comes_back_from_every_kind_of_store(tiles: dict[TileId, int]) -> None:
    async def round_trip(root: Path) -> None:
        chain = [str(root / name) for name in ("a", "b.mbtiles", "c.pmtiles", "d", "e.pmtiles", "f.mbtiles")]
        for source, store in pairwise(chain):
            report = await copy(source, store, options=FAST)
            assert (report.state, report.done, report.planned) == ("complete", len(tiles), len(tiles))
        assert await differ(chain[0], chain[-1]) == (len(tiles), 0)

    with TemporaryDirectory() as folder:
        write(Path(folder) / "a", tiles)
        asyncio.run(round_trip(Path(folder)))


async def test_an_interrupted_copy_goes_on_and_reads_no_tile_twice(tmp_path: Path) -> None:
    tiles = {TileId(8, x, y): 0 for x in range(40) for y in range(40)}
    write(tmp_path / "a", tiles)
    source, store = str(tmp_path / "a"), str(tmp_path / "b.mbtiles")
    stop = Stop()
    loop = asyncio.get_running_loop()

    def end_soon(event: Event) -> None:
        if isinstance(event, JobStarted):
            loop.call_soon_threadsafe(stop.drain)

    first = await copy(source, store, options=FAST, watch=end_soon, stop=stop)
    assert first.done + first.pending == first.planned == len(tiles)
    second = await copy(source, store, options=FAST)
    assert second.state == "complete"
    assert second.skipped == first.done
    assert await differ(source, store) == (len(tiles), 0)


async def test_a_complete_copy_is_known_without_a_walk(tmp_path: Path) -> None:
    write(tmp_path / "a", {TileId(0, 0, 0): 0})
    source, store = str(tmp_path / "a"), str(tmp_path / "b.mbtiles")
    await copy(source, store, options=FAST)
    again = await copy(source, store, options=FAST)
    assert (again.state, again.skipped, again.bytes) == ("complete", 1, 0)


async def test_what_a_seed_found_absent_is_copied_once_the_source_lists_it(tmp_path: Path) -> None:
    """A journal that lives on, for the sake of a dead letter, knows what was absent then."""
    write(tmp_path / "a", {TileId(1, 0, 0): 0})
    (tmp_path / "a/1/0/1.png").write_bytes(b"no tile")
    source, store = str(tmp_path / "a"), str(tmp_path / "b.mbtiles")
    sending = replace(FAST, max_failures=FailureLimit())
    seeded = await seed(source, store, Area.from_bbox(-180, -85, 180, 85, zooms=[1]), options=sending)
    assert (seeded.absent, seeded.dead) == (2, 1)
    write(tmp_path / "a", {TileId(1, 0, 1): 1, TileId(1, 1, 1): 2})
    copied = await copy(source, store, options=FAST)
    assert (copied.state, copied.done, copied.absent, copied.skipped) == ("complete", 3, 0, 1)
    assert await differ(source, store) == (3, 0)


async def test_what_an_archive_says_besides_is_carried_with_all_of_it(tmp_path: Path) -> None:
    """An overlay stays one. A part has a middle of its own."""
    write(tmp_path / "a", {TileId(1, 1, 1): 0, TileId(2, 3, 3): 0})
    first, last = str(tmp_path / "b.mbtiles"), str(tmp_path / "d.mbtiles")
    await copy(str(tmp_path / "a"), first, options=FAST)
    said = {"type": "overlay", "version": "2.1", "center": "120.5,-70.25,2"}
    with closing(sqlite3.connect(first)) as connection:
        connection.executemany(
            "UPDATE metadata SET value = ? WHERE name = ?", [(v, k) for k, v in said.items()]
        )
        connection.commit()
    await copy(first, str(tmp_path / "c.pmtiles"), options=FAST)
    await copy(str(tmp_path / "c.pmtiles"), last, options=FAST)
    assert said.items() <= (await described(last)).items()
    part = str(tmp_path / "e.mbtiles")
    await copy(first, part, within=Area.from_bbox(100, -80, 170, -70, zooms=[2]), options=FAST)
    carried = await described(part)
    assert (carried["type"], carried["version"]) == ("overlay", "2.1")
    assert carried["center"] == "135,-75,2"


async def described(location: str) -> Mapping[str, str]:
    archive = open_archive(location)
    try:
        return (await archive.describe()).metadata
    finally:
        await archive.close()
