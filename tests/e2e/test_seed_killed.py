"""`kill -9` at any moment: nothing lost, nothing committed is fetched again, the end is the same."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings

KILLS = 21
BBOX = "-20,-30,40,45"
ZOOMS = "0-7"


def command(template: str, store: Path) -> list[str]:
    area = ["--bbox=" + BBOX, "-z", ZOOMS]
    return [sys.executable, "-m", "tilehaul", "seed", template, str(store), *area, "-c", "8", "--quiet"]


def stored(store: Path) -> dict[TileId, bytes]:
    """Every committed tile. A journal left by the kill is played back, as any reader of SQLite does."""
    connection = sqlite3.connect(store)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'tiles'").fetchall():
            return {}  # killed before the first commit
        rows = connection.execute("SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles").fetchall()
    finally:
        connection.close()
    return {TileId(z, x, 2**z - 1 - row): data for z, x, row, data in rows}


@pytest.mark.timeout(180)
def test_seed_killed_at_random_moments_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    """At least 20 kills while tiles are on their way, with a faulty server."""
    luck = random.Random(20261121)
    faults = Faults(
        latency=Latency(ms=15.0, jitter_ms=10.0, distribution="uniform"),
        errors={500: 0.02, 502: 0.02},
        shares={"short_length": 0.01, "cut_close": 0.01, "reset_mid": 0.01},
    )
    planned = list(Area.from_bbox(*map(float, BBOX.split(",")), zooms=range(8)))
    disturbed, undisturbed = tmp_path / "killed.mbtiles", tmp_path / "whole.mbtiles"
    with MockThread(MockSettings(tile_bytes=3000, seed=3, faults=faults)) as server:
        # What was committed when first seen, and how often it had been asked for by then.
        asked_at_commit: dict[TileId, int] = {}
        kills = 0
        for _ in range(4 * KILLS):
            if kills == KILLS:
                break
            before = server.stats().requests
            child = subprocess.Popen(command(server.template, disturbed), stderr=subprocess.PIPE)
            while server.stats().requests == before and child.poll() is None:
                time.sleep(0.005)
            time.sleep(luck.uniform(0.0, 0.3))
            child.send_signal(signal.SIGKILL)
            _, errors = child.communicate(timeout=20)
            if child.returncode != -signal.SIGKILL:
                pytest.fail(f"the seed ended before kill {kills + 1}: {errors.decode()}")
            kills += 1
            for tile_id, body in stored(disturbed).items():
                if tile_id not in asked_at_commit:
                    assert body == server.body_of(tile_id)
                    asked_at_commit[tile_id] = server.requests_of(tile_id)
        assert kills >= 20
        assert 0 < len(asked_at_commit) < len(planned)

        subprocess.run(command(server.template, disturbed), check=True, timeout=60)
        again = {tile_id: server.requests_of(tile_id) - count for tile_id, count in asked_at_commit.items()}
        assert {tile_id: count for tile_id, count in again.items() if count} == {}

        subprocess.run(command(server.template, undisturbed), check=True, timeout=60)
        requests = server.stats().requests
        subprocess.run(command(server.template, disturbed), check=True, timeout=60)
        assert server.stats().requests == requests, "the same job on a complete store sends nothing"

        content = stored(disturbed)
        assert content == stored(undisturbed)
        assert content == {tile_id: server.body_of(tile_id) for tile_id in planned}
    assert {path.name for path in tmp_path.iterdir()} == {"killed.mbtiles", "whole.mbtiles"}
