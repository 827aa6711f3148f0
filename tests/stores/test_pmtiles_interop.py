"""PMTiles files between tilehaul and the `pmtiles` package, both ways. Skipped where it is not installed."""

from pathlib import Path
from typing import Any

import pytest

from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import JobKey
from tilehaul.ports.tile import Tile
from tilehaul.stores import pmtiles_layout
from tilehaul.stores.pmtiles import PmtilesStore

reader = pytest.importorskip("pmtiles.reader")
writer = pytest.importorskip("pmtiles.writer")
codes = pytest.importorskip("pmtiles.tile")

IDS = [TileId(z, x, y) for z in (0, 3, 7) for x in range(min(1 << z, 40)) for y in range(min(1 << z, 40))]


def body(tile_id: TileId) -> bytes:
    """Every third is the sea."""
    return b"\x89PNG\r\n\x1a\n" + (b"sea" if (tile_id.x + tile_id.y) % 3 else str(tile_id).encode())


@pytest.mark.parametrize("leaf_entries", [4096, 50])
async def test_package_reads_what_tilehaul_wrote(tmp_path: Path, monkeypatch: Any, leaf_entries: Any) -> None:
    """Every tile, no other; header and metadata as it understands them; with leaves and without."""
    monkeypatch.setattr(pmtiles_layout, "LEAF_ENTRIES_MIN", leaf_entries)
    monkeypatch.setattr(pmtiles_layout, "ROOT_BYTES_MAX", 16_257 if leaf_entries > 50 else 400)
    path = tmp_path / "a.pmtiles"
    store = PmtilesStore(path, durability="fast")
    told = (("name", "Alps"), ("attribution", "us"), ("bounds", "-10,-20.5,30,40"))
    await store.begin(JobKey("s", "S", "a", len(IDS), metadata=told))
    await store.commit([Tile(i, body(i), "image/png") for i in reversed(IDS)])
    await store.finish(complete=True)
    await store.close()
    with path.open("rb") as file:
        archive = reader.Reader(reader.MmapSource(file))
        header = archive.header()
        assert bool(header["leaf_directory_length"]) == (leaf_entries == 50)
        assert header["tile_type"] == codes.TileType.PNG
        assert header["tile_compression"] == codes.Compression.NONE
        assert (header["min_zoom"], header["max_zoom"], header["clustered"]) == (0, 7, True)
        assert (header["min_lon_e7"], header["max_lat_e7"]) == (-100_000_000, 400_000_000)
        assert header["addressed_tiles_count"] == len(IDS)
        assert (archive.metadata()["name"], archive.metadata()["attribution"]) == ("Alps", "us")
        found = {TileId(*place): found for place, found in reader.all_tiles(archive.get_bytes)}
        assert found == {i: body(i) for i in IDS}
        assert archive.get(7, 3, 9) == body(TileId(7, 3, 9))
        assert archive.get(7, 100, 100) is None


@pytest.mark.parametrize("order", [1, -1])
async def test_tilehaul_reads_what_the_package_wrote(tmp_path: Path, order: Any) -> None:
    """Also when it is not clustered."""
    path = tmp_path / "a.pmtiles"
    with writer.write(path) as file:
        for tile_id in sorted(IDS, key=lambda i: i.pmtiles_id)[::order]:
            file.write_tile(tile_id.pmtiles_id, body(tile_id))
        sides = dict.fromkeys(("min_lon_e7", "min_lat_e7", "center_lon_e7", "center_lat_e7"), -100_000_000)
        file.finalize(
            {
                **sides,
                "max_lon_e7": 200_000_000,
                "max_lat_e7": 300_000_000,
                "center_zoom": 3,
                "tile_type": codes.TileType.PNG,
                "tile_compression": codes.Compression.NONE,
            },
            {"name": "theirs", "attribution": "them"},
        )
    store = PmtilesStore(path)
    info = await store.source_info()
    assert (info.name, info.attribution, info.media_type) == ("theirs", "them", "image/png")
    assert (info.zoom_min, info.zoom_max, info.bounds_deg) == (0, 7, (-10.0, -10.0, 20.0, 30.0))
    assert {i async for i in store.tile_ids()} == set(IDS)
    for tile_id in IDS:
        assert await store.get(tile_id) == Tile(tile_id, body(tile_id), "image/png", "store")
    assert (await store.describe()).tiles == len(IDS)
    await store.close()
