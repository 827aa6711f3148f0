"""The service under viewers for minutes: `make soak ARGS="--serve --minutes 20"`.

`tilehaul serve` as a program, caches in memory and on disk that are too small for what is asked, before a lab
server that fails: errors, damaged bodies, resets, silence, bursts of 429, and once a minute an outage. Forty
viewers pan and zoom (`benchmarks/viewers.py`), ask for batches, leave in the middle; caches are purged.

* every answer has the origin's bytes, or says honestly why not, and there is an answer to every question;
* errors come in outages, and hardly outside of them; there is no 500;
* memory, descriptors and threads are flat in the second half (`serve_judge.growth`);
* at the end no fetch is left under way, the service ends with 0 when told to, and has written no traceback.

A service that listens for SIGHUP is told to read its configuration anew, once a minute.
"""

import asyncio
import contextlib
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from soak.serve_judge import Outages, Sample, Verdicts, growth
from soak.serve_viewers import Crowd, fetching_now
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.absence import Absence
from tilehaul.lab.plain_png import plain_png
from tilehaul.net.loops import new_loop

VIEWERS = 40
TILE_BYTES = 4_000
ABSENT_SHARE = 0.05
OUTAGES = Outages(first_s=40.0, every_s=60.0, for_s=8.0)
SAMPLE_EVERY_S = 2.0
RELOAD_EVERY_S = 60.0
# What is under way when the last viewer leaves ends within the layers' timeout and its retries.
REST_S_MAX = 60.0
END_S_MAX = 40.0
FAULTS = (
    *("--latency-ms", "30", "--jitter-ms", "10", "--errors", "500:0.02,503:0.01", "--burst-429", "25:2"),
    *("--truncate", "short_length:0.005", "--truncate", "bit_flip:0.005", "--html-200", "0.002"),
    *("--reset", "0.005", "--black-hole", "0.0005"),
)
# Short lives, so that all ways are gone: given while it is renewed, asked for first, stood in for.
LAYERS = {"swr": {"max_age": 20}, "first": {"max_age": 20, "stale_while_revalidate": 0}}


def main(minutes: float, seed: int) -> int:
    """Run it, print a short table. 0: all of the above holds."""
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        asyncio.Runner(loop_factory=new_loop) as runner,
    ):
        failures = runner.run(_soak(Path(folder), minutes * 60.0, seed))
    print("\n".join(f"FAILED: {failure}" for failure in failures) or "nothing lost, nothing wrong, all flat")
    return 1 if failures else 0


async def _soak(folder: Path, for_s: float, seed: int) -> list[str]:
    absence = Absence(share=ABSENT_SHARE)

    @lru_cache(maxsize=20_000)
    def truth(address: str) -> bytes | None:
        z, x, y = map(int, address.split("/"))
        tile_id = TileId(z, x, y)
        return None if absence.covers(tile_id, seed) else plain_png(tile_id, size_bytes=TILE_BYTES)

    verdicts = Verdicts(truth, OUTAGES)
    with (folder / "service.log").open("w+") as log, contextlib.ExitStack() as stack:
        origin, told = stack.enter_context(_program(_origin_words(folder, for_s, seed), None))
        begun_s = time.monotonic()
        service, started = stack.enter_context(_program(_service_words(folder, told["template"]), log))
        crowd = Crowd(started["url"], list(LAYERS), verdicts, seed=seed, begun_s=begun_s)
        samples = await _watched(crowd, service, for_s)
        failures = verdicts.failures() + growth(samples)
        if await _still_fetching(started["url"]):
            failures.append(f"fetches under way {REST_S_MAX:.0f} s after the last viewer left")
        service.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.to_thread(service.wait, END_S_MAX)
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            failures.append(f"the service ended with {code} when told to end")
        log.seek(0)
        written = log.read()
        if "Traceback" in written:
            failures.append(f"a traceback:\n{written[written.index('Traceback') :][:3000]}")
        if origin.poll() is not None:
            failures.append("the lab server has ended: what was measured is not what was meant")
    print(_table(crowd, verdicts, samples))
    return failures


async def _watched(crowd: Crowd, service: "subprocess.Popen[str]", for_s: float) -> list[Sample]:
    samples: list[Sample] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(VIEWERS):
            group.create_task(crowd.view())
        purging = group.create_task(crowd.purge())
        begun_s, reloaded_s = time.monotonic(), 0.0
        while (at_s := time.monotonic() - begun_s) < for_s:
            await asyncio.sleep(SAMPLE_EVERY_S)
            samples.append(sample(service.pid, at_s))
            if at_s - reloaded_s >= RELOAD_EVERY_S and _listens_for(service.pid, signal.SIGHUP):
                service.send_signal(signal.SIGHUP)
                reloaded_s = at_s
        crowd.stopped = True
        purging.cancel()
    return samples


def sample(pid: int, at_s: float) -> Sample:
    """Of the process and all below it, from /proc."""
    rss_kb = files = threads = 0
    for one in _family(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{one}/status").read_text()
            rss_kb += int(status.partition("VmRSS:")[2].split()[0])
            threads += int(status.partition("Threads:")[2].split()[0])
            files += sum(1 for _ in Path(f"/proc/{one}/fd").iterdir())
    return Sample(at_s, rss_kb * 1024 / 1e6, files, threads)


def _family(pid: int) -> list[int]:
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in children.read_text().split():
                found += _family(int(child))
    return found


def _listens_for(pid: int, number: signal.Signals) -> bool:
    """Whether a process catches a signal that would end it otherwise."""
    caught = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(caught, 16) >> (number - 1) & 1)


async def _still_fetching(url: str) -> bool:
    ends_s = time.monotonic() + REST_S_MAX
    while time.monotonic() < ends_s:
        if not await fetching_now(url, list(LAYERS)):
            return False
        await asyncio.sleep(0.5)
    return True


def _origin_words(folder: Path, for_s: float, seed: int) -> tuple[str, ...]:
    outages = range(int(for_s // OUTAGES.every_s) + 1)
    script = [
        {"at": OUTAGES.first_s + number * OUTAGES.every_s, "for": OUTAGES.for_s, "errors": "503:0.96"}
        for number in outages
    ]
    (folder / "origin.yaml").write_text(json.dumps(script))
    return (
        *("mock", "--port", "0", "--tile-bytes", str(TILE_BYTES), "--seed", str(seed)),
        *("--absent", str(ABSENT_SHARE), "--script", str(folder / "origin.yaml"), *FAULTS),
    )


def _service_words(folder: Path, template: str) -> tuple[str, ...]:
    settings = {
        "layers": {name: {"source": template, "timeout": 5, **more} for name, more in LAYERS.items()},
        "cache": {"memory": "8MB", "disk": "24MB", "path": str(folder / "cache")},
    }
    (folder / "service.yaml").write_text(json.dumps(settings))
    return ("serve", "--config", str(folder / "service.yaml"), "--port", "0")


@contextlib.contextmanager
def _program(
    words: tuple[str, ...], errors: object
) -> Iterator[tuple["subprocess.Popen[str]", dict[str, str]]]:
    """`tilehaul WORDS --json`, and the first object it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tilehaul", *words, "--json"],
        stdout=subprocess.PIPE,
        stderr=errors,  # type: ignore[call-overload]
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def _table(crowd: Crowd, verdicts: Verdicts, samples: list[Sample]) -> str:
    counts = ", ".join(f"{status}: {count:,}" for status, count in sorted(verdicts.answers.items()))
    fifth = max(1, len(samples) // 5)
    asked = f"{crowd.batches:,} batches, {crowd.left:,} left in the middle, {crowd.purges:,} purges"
    lines = [
        f"answers   {counts}",
        f"          {verdicts.unexplained:,} errors outside outages; {asked}",
        "median of each fifth   memory MB   descriptors   threads",
    ]
    for number in range(5):
        part = samples[number * fifth : (number + 1) * fifth] or samples[-1:]
        middle = [
            statistics.median(getattr(one, name) for one in part) for name in ("rss_mb", "files", "threads")
        ]
        lines.append(f"{part[0].at_s:>8.0f} s on {middle[0]:>20.0f} {middle[1]:>13.0f} {middle[2]:>9.0f}")
    return "\n".join(lines)
