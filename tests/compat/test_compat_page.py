"""The examples of docs/compat.md run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tilehaul.lab.mock import MockThread

PAGE = Path(__file__).parents[2] / "docs" / "compat.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("number", "requests", "says"),
    [(0, 8, "8/8"), (1, 64, "64 0 0 0"), (2, 1 + 100 + 100, "'status': 'healthy'"), (3, 11, "10 ")],
)
def test_example_runs(number: int, requests: int, says: str) -> None:
    assert len(EXAMPLES) == 4
    with MockThread() as server:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", EXAMPLES[number]],
            env={**os.environ, "TILE_BASE_URL": server.base_url, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert server.stats().requests == requests
    assert done.stderr == ""
    assert says in done.stdout
