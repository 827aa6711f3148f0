"""`tilehaul cache` on a cache that a service has left."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tilehaul.cli.main import main
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import Freshness
from tilehaul.ports.tile import Tile
from tilehaul.stores.disk_cache import DiskCache
from tilehaul.stores.disk_cache_file import ENTRY_OVERHEAD_BYTES

TILE = Tile(TileId(0, 0, 0), bytes(1_000), "image/png", freshness=Freshness(1e6))
EACH = 1_000 + ENTRY_OVERHEAD_BYTES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    async def fill() -> None:
        cache = DiskCache(tmp_path, 1_000_000, wall_s=lambda: 4e9)
        await cache.open()
        for layer, tile_id in (("a", TileId(1, 0, 0)), ("a", TileId(1, 1, 1)), ("b", TileId(2, 0, 0))):
            cache.keep(layer, replace(TILE, tile_id=tile_id))
        await cache.aclose()

    asyncio.run(fill())
    return tmp_path


def ran(capsys, *words: object) -> tuple[int, str, str]:
    code = main(["cache", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_info_counts_by_layer_and_zoom(capsys, folder: Path) -> None:
    code, out, _ = ran(capsys, "info", folder, "--json")
    assert code == 0
    assert json.loads(out) == {
        "layers": {
            "a": {"1": {"tiles": 2, "bytes": 2 * EACH}},
            "b": {"2": {"tiles": 1, "bytes": EACH}},
        }
    }
    code, out, _ = ran(capsys, "info", folder, "--layer", "b")
    assert [line.split()[:4] for line in out.splitlines()] == [
        ["b", "zoom", "2", "1"],
        ["b", "in", "all", "1"],
    ]


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        ((), {}),
        (("--layer", "a"), {"b": 1}),
        (("-z", "1"), {"b": 1}),
        (("--bbox=-180,1,-1,85",), {"a": 1}),
        (("--bbox=-180,1,-1,85", "--layer", "b"), {"a": 2}),
    ],
)
def test_purge_drops_what_was_meant_and_no_more(capsys, folder: Path, flags, left) -> None:
    assert ran(capsys, "purge", folder, *flags)[0] == 0
    layers = json.loads(ran(capsys, "info", folder, "--json")[1])["layers"]
    assert {name: sum(z["tiles"] for z in by_zoom.values()) for name, by_zoom in layers.items()} == left


def test_bad_input_drops_nothing(capsys, folder: Path, tmp_path_factory) -> None:
    code, _, err = ran(capsys, "purge", folder, "--layer", "c")
    assert (code, "it has those of a, b" in err) == (2, True)
    code, _, err = ran(capsys, "purge", tmp_path_factory.mktemp("other"))
    assert (code, "there is no disk cache" in err) == (2, True)
    assert ran(capsys, "info", folder, "-z", "1")[0] == 2
    assert len(json.loads(ran(capsys, "info", folder, "--json")[1])["layers"]) == 2
