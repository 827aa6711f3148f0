"""Readiness: what a service needs to be of use, and when it has it no more."""

import shutil
from pathlib import Path

import pytest

import tilehaul
from tilehaul.config.load import parse_settings
from tilehaul.config.settings import Settings
from tilehaul.errors import TilehaulError
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.net.clock import SystemClock
from tilehaul.policy.freshness import Freshness
from tilehaul.ports.tile import Tile
from tilehaul.server.readiness import Readiness
from tilehaul.wiring.layers import Layers, open_layers

AREA = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(2))


def settings_of(layers: dict[str, object], **more: object) -> Settings:
    return parse_settings({"layers": layers, **more}, {})


async def told(opened: Layers) -> dict[str, bool]:
    return await Readiness(opened.checks, SystemClock()).look()


async def test_an_archive_that_cannot_be_read_any_more(tmp_path: Path) -> None:
    """Each kind by its own way to break; a second source that works is enough."""
    with MockThread() as origin:
        for name in ("a.mbtiles", "b.pmtiles", "c", "d"):
            await tilehaul.seed(origin.template, str(tmp_path / name), AREA)
        names = ("a.mbtiles", "b.pmtiles", "c")
        layers: dict[str, object] = {name: {"source": str(tmp_path / name)} for name in names}
        layers["both"] = {"source": [str(tmp_path / "c"), str(tmp_path / "d")]}
        layers["far"] = {"source": [str(tmp_path / "c"), origin.template]}
        async with open_layers(settings_of(layers)) as opened:
            checked = {"archive of a.mbtiles", "archive of b.pmtiles", "archive of c", "archive of both"}
            assert await told(opened) == {**dict.fromkeys(checked, True), "accepting": True}
            for name in names[:2]:
                (tmp_path / name).write_bytes(b"")
            shutil.rmtree(tmp_path / "c")
            fared = await told(opened)
            assert {name for name, good in fared.items() if good} == {"archive of both", "accepting"}
            assert set(fared) == {*checked, "accepting"}


async def test_private_layers_are_told_together_and_without_names(tmp_path: Path) -> None:
    with MockThread() as origin:
        for name in ("a.mbtiles", "b.pmtiles"):
            await tilehaul.seed(origin.template, str(tmp_path / name), AREA)
    layers: dict[str, object] = {
        name: {"source": str(tmp_path / name), "private": True} for name in ("a.mbtiles", "b.pmtiles")
    }
    settings = settings_of(layers, server={"admin_key": "k" * 20})
    async with open_layers(settings) as opened:
        assert await told(opened) == {"archives of private layers": True, "accepting": True}
        (tmp_path / "b.pmtiles").write_bytes(b"")
        assert await told(opened) == {"archives of private layers": False, "accepting": True}


async def test_a_disk_cache_that_takes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    cache = {"disk": "1MB", "path": str(folder)}
    with MockThread() as origin:
        layers: dict[str, object] = {"far": {"source": origin.template}}
        async with open_layers(settings_of(layers, cache=cache)) as opened:
            assert await told(opened) == {"cache": True, "accepting": True}
            disk = opened.caches.disk
            assert disk is not None
            assert disk._writer is not None
            disk._writer._db.execute("PRAGMA query_only = ON")
            assert await told(opened) == {"cache": False, "accepting": True}
            disk._writer._db.execute("PRAGMA query_only = OFF")
            assert await told(opened) == {"cache": True, "accepting": True}
            shutil.rmtree(folder)
            assert await told(opened) == {"cache": True, "accepting": True}, "it is made again"
            shutil.rmtree(folder)
            folder.write_text("a file")
            for _ in range(2):
                assert await told(opened) == {"cache": False, "accepting": True}
            folder.unlink()
            assert await told(opened) == {"cache": True, "accepting": True}
        async with open_layers(settings_of(layers, cache=cache, server={"ready_needs": []})) as opened:
            assert opened.checks == {}


async def test_origins_count_only_while_no_cache_has_a_tile() -> None:
    """Not looked at unless it is asked for."""
    with MockThread(MockSettings(faults=Faults(errors={500: 1.0}))) as origin:
        layers: dict[str, object] = {"far": {"source": origin.template, "retries": 0}}
        async with open_layers(settings_of(layers)) as opened:
            assert opened.checks == {}
        async with open_layers(settings_of(layers, server={"ready_needs": ["origins"]})) as opened:
            assert await told(opened) == {"origins": True, "accepting": True}, "nobody was asked yet"
            (layer,) = opened.layers
            for x in range(40):
                with pytest.raises(TilehaulError):
                    await layer.source.get(TileId(6, x, 1))
            (lane,) = layer.lanes()
            assert lane.breaker == "open"
            assert await told(opened) == {"origins": False, "accepting": True}
            freshness = Freshness(60.0, 0.0)
            opened.caches.memory.keep("far", Tile(TileId(1, 0, 0), b"x", "image/png", "origin", freshness))
            assert await told(opened) == {"origins": True, "accepting": True}
