"""Where nothing may be skipped (`.ci/run`), a skipped test is a failure; and what many tests need."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# For `make mutants`: each of two thousand wrong versions meets a few examples, every time the same.
settings.register_profile("mutants", max_examples=20, stateful_step_count=20, deadline=None, derandomize=True)


@pytest.fixture
def log_kept() -> Iterator[None]:
    """For tests that set up the log: it is as it was afterwards."""
    root, own = logging.getLogger(), logging.getLogger("tilehaul")
    handlers, levels = root.handlers[:], (root.level, own.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not os.environ.get("TILEHAUL_NO_SKIPS"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if skipped:
        print(f"\nTILEHAUL_NO_SKIPS is set and {len(skipped)} tests were skipped")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
