"""One life of a job: started as a program or as a call, ended early or left to end."""

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tilehaul
from soak.schedule import MAX_WAIT_S, TIMEOUT_S, Life, Schedule
from tilehaul.cli.common import failure_limit
from tilehaul.jobs.stop import Stop
from tilehaul.lab.mock import MockThread
from tilehaul.net.loops import new_loop
from tilehaul.ports.events import SeedReport

LOOK_S = 0.003
# Start-up of a program on a busy machine, and the longest that faults can hold a job.
LIFE_S_MAX = 60.0
SIGNALS = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM}
# What `SeedReport.state` is as an exit code (`contracts`, Jobs).
CODES = {"complete": 0, "dead_letters": 3, "stopped": 4, "interrupted": 130}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a life ended. `code` is None after SIGKILL or a cancelled task, which say no more."""

    code: int | None
    report: SeedReport | None
    said: str = ""


def run_program(schedule: Schedule, template: str, store: Path, server: MockThread, life: Life) -> Ended:
    """`tilehaul seed`, ended as the life says."""
    low, high = schedule.zooms
    command = [
        *(sys.executable, "-m", "tilehaul", "seed", template, str(store), "--json"),
        *("--bbox=" + ",".join(map(str, schedule.bbox)), "-z", f"{low}-{high}"),
        *("-c", str(schedule.concurrency), "--retries", str(schedule.retries), "--timeout", str(TIMEOUT_S)),
        *("--max-wait", str(MAX_WAIT_S), "--max-failures", schedule.max_failures),
    ]
    if life.end == "deadline":
        command += ["--deadline", str(life.then_s)]
    before = server.stats().requests
    limit_s = time.monotonic() + LIFE_S_MAX
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(command, stdout=out, stderr=err)
        try:
            if life.end in SIGNALS:
                while server.stats().requests - before < life.requests and child.poll() is None:
                    if time.monotonic() > limit_s:
                        raise AssertionError(f"hung: {life.end} before {life.requests} requests")
                    time.sleep(LOOK_S)
                time.sleep(life.then_s)
                child.send_signal(SIGNALS[life.end])
                if life.again_s is not None:
                    time.sleep(life.again_s)
                    child.send_signal(SIGNALS[life.end])
            child.wait(LIFE_S_MAX)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"hung after {life.end}") from error
        finally:
            child.kill()
            child.wait()
        out.seek(0)
        err.seek(0)
        told, said = out.read().splitlines(), err.read()
    if child.returncode == -signal.SIGKILL:
        return Ended(None, None, said)
    if not told:
        return Ended(None, None, said)  # ended while it started, before it listened for signals
    if "Traceback" in said:
        raise AssertionError(f"a traceback:\n{said}")
    report = _last_report(told)
    if report is not None and child.returncode == -SIGNALS.get(life.end, signal.SIGKILL):
        return Ended(CODES[report.state], report, said)  # it had ended, and was on its way out
    return Ended(child.returncode, report, said)


def _last_report(lines: list[str]) -> SeedReport | None:
    report: SeedReport | None = None
    for line in lines:
        fields: dict[str, Any] = json.loads(line)
        if fields.pop("event") == "job.report":
            report = SeedReport(**fields)
    return report


def replay(template: str, store: Path) -> SeedReport:
    """`tilehaul.retry`: the dead tiles of the store, and no other."""
    options = tilehaul.SeedOptions(sending=tilehaul.Sending(timeout_s=TIMEOUT_S, max_wait_s=MAX_WAIT_S))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(tilehaul.retry(str(store), template, options=options))


def run_call(
    schedule: Schedule, template: str, store: Path, server: MockThread, life: Life | None = None
) -> Ended:
    """`tilehaul.seed` in this process, cancelled or drained when the life says so; no task may be left."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        try:
            return runner.run(_call(schedule, template, store, server, life))
        except TimeoutError as error:
            raise AssertionError(f"hung: {life or 'left alone'}") from error


async def _call(
    schedule: Schedule, template: str, store: Path, server: MockThread, life: Life | None
) -> Ended:
    sending = tilehaul.Sending(
        concurrency=schedule.concurrency,
        timeout_s=TIMEOUT_S,
        retries=schedule.retries,
        max_wait_s=MAX_WAIT_S,
    )
    options = tilehaul.SeedOptions(sending=sending, max_failures=failure_limit(schedule.max_failures))
    stop, reports = Stop(), []

    def watch(event: object) -> None:
        if isinstance(event, SeedReport):
            reports.append(event)

    job = asyncio.create_task(
        tilehaul.seed(template, str(store), schedule.area, options=options, watch=watch, stop=stop)
    )
    async with asyncio.timeout(LIFE_S_MAX):
        if life is not None:
            await _end_when_due(job, stop, server, life)
        await asyncio.wait({job})
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        raise AssertionError(f"tasks left: {left}")
    if job.cancelled():
        return Ended(None, None)
    error = job.exception()
    if error is not None and not isinstance(error, tilehaul.FuseError):
        raise error
    return Ended(CODES[reports[-1].state], reports[-1], str(error or ""))


async def _end_when_due(job: "asyncio.Task[SeedReport]", stop: Stop, server: MockThread, life: Life) -> None:
    before = server.stats().requests
    while server.stats().requests - before < life.requests and not job.done():
        await asyncio.sleep(LOOK_S)
    await asyncio.sleep(life.then_s)
    if life.end == "cancel":
        job.cancel()
    else:
        stop.drain()
    if life.again_s is not None:
        await asyncio.sleep(life.again_s)
        if life.end == "cancel":
            job.cancel()
        else:
            stop.cancel()
