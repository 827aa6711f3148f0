"""Where nothing may be skipped (`.ci/run`), a skipped test is a failure."""

import os

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not os.environ.get("TILEHAUL_NO_SKIPS"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if skipped:
        print(f"\nTILEHAUL_NO_SKIPS is set and {len(skipped)} tests were skipped")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
