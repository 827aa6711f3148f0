"""Scenarios 41 to 44 and 49: a job is asked to end, is huge, its clock jumps, its key expires."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from trial import SEED, Trial
from virtual import VirtualTrial

import tilehaul
from doubles.wire import answer
from tilehaul.cli import exit_codes
from tilehaul.errors import BrokenError, ThrottledError
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.ports.events import LaneHeld

ZOOMS_0_TO_4 = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(5))


@dataclass(frozen=True)
class Summary:
    """The one line that a seed ends with, for people, as numbers."""

    state: str
    planned: int
    done: int
    absent: int
    dead: int
    pending: int

    @classmethod
    def of(cls, lines: list[str]) -> "Summary":
        [line] = [line for line in lines if " tiles done, " in line]

        def count(words: str) -> int:
            found = re.search(words.replace("N", "([0-9,]+)"), line)
            return int(found[1].replace(",", "")) if found else 0

        state, _, _ = line.partition(": ")
        done, planned = count(": N of "), count(" of N tiles done")
        return cls(state, planned, done, count(" N absent"), count(" N dead"), count(" N pending"))


class Program:
    """`tilehaul seed` as a person runs it, in a process of its own."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        command = [sys.executable, "-m", "tilehaul", "seed", trial.template, str(trial.path), "-c", "8"]
        command += ["--bbox=-180,-85,180,85", "-z", "0-4"]
        self.child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert self.child.poll() is None, self.child.communicate()

    def end(self) -> tuple[Summary, list[str]]:
        """The counts and the lines of standard error, once it has ended; and the invariant."""
        _, errors = self.child.communicate(timeout=30)
        lines = errors.splitlines()
        assert "Traceback" not in errors
        summary = Summary.of(lines)
        self.trial.check(summary)
        return summary, lines


async def interrupted_once(folder: Path, number: int) -> None:
    with MockThread(MockSettings(faults=Faults(latency=Latency(ms=20)))) as server:
        trial = Trial(server, folder, ZOOMS_0_TO_4)
        program = Program(trial)
        program.until(lambda: trial.requests >= 50)
        program.child.send_signal(number)
        summary, errors = program.end()
        assert program.child.returncode == exit_codes.INTERRUPTED
        assert "same command again" in errors[-1]
        # What was under way has been waited for, and kept.
        assert trial.requests == summary.done == 341 - summary.pending
        await trial.resumed(summary)
        assert server.stats().max_per_tile == 2, "once for the job, once for the smooth one"


async def test_41_sigint_once(tmp_path: Path) -> None:
    """Exit 130 after what is under way, and the way to go on."""
    await interrupted_once(tmp_path, signal.SIGINT)


async def test_42_sigterm(tmp_path: Path) -> None:
    """As the first Ctrl-C."""
    await interrupted_once(tmp_path, signal.SIGTERM)


async def test_42_sigint_twice(tmp_path: Path) -> None:
    """Tiles that never come do not hold the person up; what has come is kept."""
    with MockThread(MockSettings(seed=SEED, faults=Faults(shares={"black_hole": 0.3}))) as server:
        trial = Trial(server, tmp_path, ZOOMS_0_TO_4)
        program = Program(trial)
        program.until(lambda: server.stats().in_flight >= 4)
        program.child.send_signal(signal.SIGINT)
        # The first is heard before the second is sent: two at once may be one.
        assert any("press Ctrl-C again" in line for line in program.child.stderr)
        program.child.send_signal(signal.SIGINT)
        summary, _ = program.end()
        assert program.child.returncode == exit_codes.INTERRUPTED
        assert trial.requests - 8 <= summary.done < trial.requests
        await trial.resumed(summary)


@pytest.mark.parametrize("status", [401, 403])
async def test_49_expired_credentials(tmp_path: Path, status: int) -> None:
    """From one moment on nobody is let in: the job stops, with one word, and can go on."""
    with MockThread(MockSettings(faults=Faults(latency=Latency(ms=5)))) as server:
        trial = Trial(server, tmp_path, ZOOMS_0_TO_4)
        program = Program(trial)
        program.until(lambda: trial.requests >= 100)
        server.set_faults(Faults(errors={status: 1.0}))
        asked = trial.requests
        summary, errors = program.end()
        assert program.child.returncode == exit_codes.STOPPED
        assert [line for line in errors if "401/403" in line] == [
            "tilehaul: 20 answers 401/403 in a row: check the key or the permission"
        ]
        # An answer that was good already may come between them, on a busy machine: then counting begins anew.
        assert 20 <= summary.dead <= 19 + 20 + 2 * 8
        assert summary.pending > 100
        assert trial.requests - asked <= 19 + 20 + 3 * 8
        await trial.resumed(summary)


@pytest.mark.slow
def test_43_million_tiles() -> None:
    """Memory does not grow with the size of the job. (A tenth of a million here; all in `make soak`.)"""
    count = int(os.environ.get("TILEHAUL_TILES", "100000"))
    script = Path(__file__).with_name("million.py")
    done = subprocess.run([sys.executable, script, str(count)], capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    print(figures)
    assert figures["done"] == count
    assert figures["peak_mib"] < 300
    assert figures["peak_mib"] - figures["early_mib"] < 16


async def test_44_clock_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock jumps a day ahead and back, at every look: gate, breaker, backoff do not."""

    def step(sent_s: float):
        if 2.0 <= sent_s < 2.3:
            return ThrottledError("x", retry_after_s=3.0)
        if 8.0 <= sent_s < 20.0:
            return BrokenError("x", cause="http_502")
        return answer()

    seen = []
    for jump_s in (0.0, 86_400.0):
        with monkeypatch.context() as patch:
            trial = VirtualTrial(patch, step)
            jumps = iter(range(10**9))
            real = trial.clock.wall_s
            patch.setattr(trial.clock, "wall_s", lambda: real() + jump_s * (next(jumps) % 3 - 1))  # noqa: B023
            report = await trial.seed(ZOOMS_0_TO_4, concurrency=8, retries=12)
            assert report.state == "complete"
            held_s = [event.delay_s for event in trial.events if isinstance(event, LaneHeld)]
            seen.append((trial.wire.sent_s, held_s))
    assert seen[0] == seen[1]
