"""The documented examples, run as a reader would run them."""

import re
import subprocess
import sys
from pathlib import Path

import tilehaul
from tilehaul import blocking
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TILES = 1000


def test_seed_from_a_script(tmp_path: Path) -> None:
    """Cancelled in the middle, gone on with, every tile asked for once, listed and read back."""
    store = str(tmp_path / "world.mbtiles")
    with MockThread(MockSettings(faults=Faults(latency=Latency(ms=10)))) as server:
        command = [sys.executable, str(EXAMPLES / "seed_from_a_script.py"), server.template, store]
        run = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
        assert (run.returncode, run.stderr) == (0, "")
        said = run.stdout
        stopped = re.search(r"interrupted: (\d+) tiles are kept, (\d+) requests", said)
        assert stopped is not None, said
        kept, asked = int(stopped[1]), int(stopped[2])
        assert 250 <= kept < TILES
        assert f"{TILES - kept} tiles are missing, the first is" in said
        # What was under way when it stopped is asked for again, and nothing else.
        assert f"complete: {TILES} tiles are kept, {TILES - kept} requests" in said
        assert "\n0 tiles are missing\n" in said
        assert server.stats().requests == asked + TILES - kept
        with blocking.open(store) as archive:
            bodies = 0
            area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(6))
            for tile_id in list(area)[:TILES]:
                tile = archive.get(tile_id)
                assert isinstance(tile, tilehaul.Tile)
                assert tile.body == server.body_of(tile_id)
                bodies += len(tile.body)
        assert f"{bodies} bytes read back" in said


def test_every_example_is_linked_from_the_readme_and_run_here() -> None:
    readme = (EXAMPLES.parents[1] / "README.md").read_text()
    own = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f"docs/examples/{path.name}" in readme
        assert f"def test_{path.stem}(" in own
