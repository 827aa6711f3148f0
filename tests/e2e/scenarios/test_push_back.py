"""Scenarios 1 to 6: an origin that says "less", in words or by getting slow.

Against the lab's server over a real wire; the long runs of the same scenarios are in virtual time.
"""

import asyncio
from pathlib import Path

from trial import Trial

import tilehaul
from tilehaul.lab.faults import Capacity, Faults, Latency, RateLimit, RetryAfter
from tilehaul.lab.mock import MockServer
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.lab.script import parse_script
from tilehaul.ports.events import Event, LaneHeld

ZOOMS_0_TO_4 = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(5))
ZOOMS_0_TO_5 = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(6))


async def test_01_429_storm(tmp_path: Path) -> None:
    """A hundred a second, then 429 and `Retry-After: 1`: costs no attempt, and holds the whole lane."""
    faults = Faults(rate_limit=RateLimit(per_s=100.0, burst=100), retry_after=RetryAfter(delay_s=1.0))
    async with MockServer(MockSettings(faults=faults)) as server:
        trial = Trial(server, tmp_path, ZOOMS_0_TO_4)
        report = await trial.seed(retries=0, concurrency=8)
        stats = server.stats()
        assert report.state == "complete"
        assert trial.requests == 341 + report.pushed_back
        assert report.pushed_back == stats.by_status[429] > 0
        # Those under way when a gate closed could not be called back: seven of eight at most.
        assert stats.inside_retry_after <= 7 * len(trial.told(LaneHeld))
        assert report.push_back_s > 0.9
        await trial.resumed(report)


async def one_push_back(folder: Path, retry_after: RetryAfter, clock_skew_s: float = 0.0) -> float:
    """An origin that pushes everything back until the lane is held; for how long it was, in seconds."""
    faults = Faults(latency=Latency(ms=5), errors={429: 1.0}, retry_after=retry_after)
    async with MockServer(MockSettings(faults=faults, clock_skew_s=clock_skew_s)) as server:

        def repair(event: Event) -> None:
            if isinstance(event, LaneHeld):
                server.set_faults(Faults())

        trial = Trial(server, folder)
        report = await trial.seed(retries=0, watch=repair)
        held_s = max(event.delay_s for event in trial.told(LaneHeld))
        assert report.state == "complete"
        assert trial.requests == 85 + report.pushed_back
        assert 1 <= report.pushed_back <= 8
        await trial.resumed(report)
        # Of one volley each answer may hold the lane for a little longer.
        return held_s


async def test_02_retry_after_date(tmp_path: Path) -> None:
    """A date a second ahead of the origin's clock, which is an hour off: a wait of a second, not an hour."""
    rule = RetryAfter("date", delay_s=1.0)
    for held_s in await asyncio.gather(
        one_push_back(tmp_path / "ahead", rule, 3600.0),
        one_push_back(tmp_path / "behind", rule, -3600.0),
        one_push_back(tmp_path / "right", rule),
    ):
        # Dates know whole seconds, and the gate opens a tenth later at most.
        assert 0.0 < held_s <= 2.2


async def test_03_retry_after_garbage(tmp_path: Path) -> None:
    """What names no wait is waited for as if nothing had been said: a second, at first."""
    for held_s in await asyncio.gather(
        one_push_back(tmp_path / "words", RetryAfter("raw", text="soon, probably")),
        one_push_back(tmp_path / "negative", RetryAfter("raw", text="-5")),
        one_push_back(tmp_path / "none", RetryAfter("raw")),
    ):
        assert 1.0 <= held_s <= 1.1


async def test_03_retry_after_garbage_of_many_years(tmp_path: Path) -> None:
    """10^12 seconds: nobody sleeps that off. The job stops with a word, exit 4, every tile pending."""
    faults = Faults(errors={503: 1.0}, retry_after=RetryAfter("raw", text="1000000000000"))
    async with MockServer(MockSettings(faults=faults)) as server:
        trial = Trial(server, tmp_path)
        report = await trial.seed()
        assert trial.error is not None
        assert "--max-wait" in str(trial.error)
        assert (report.state, report.pending, report.dead) == ("stopped", 85, 0)
        assert trial.requests <= 8
        assert report.push_back_s <= report.elapsed_s
        await trial.resumed(report)


async def test_04_slow_growth(tmp_path: Path) -> None:
    """Eight workers behind an endless queue: the lane finds that more than they can do is no use."""
    faults = Faults(capacity=Capacity(servers=8, service_ms=20.0))
    async with MockServer(MockSettings(faults=faults)) as server:
        trial = Trial(server, tmp_path, ZOOMS_0_TO_5)
        report = await trial.seed(concurrency=64)
        assert report.state == "complete"
        assert trial.requests == 1365
        assert server.stats().queue_peak <= 10


async def test_05_thrash_503(tmp_path: Path) -> None:
    """Two workers and room for one to wait; the rest gets 503 without a word of when."""
    faults = Faults(capacity=Capacity(servers=2, service_ms=10.0, queue_max=1))
    async with MockServer(MockSettings(faults=faults)) as server:
        trial = Trial(server, tmp_path, ZOOMS_0_TO_4)
        report = await trial.seed(concurrency=64)
        refused = server.stats().by_fault["queue_full"]
        assert report.state == "complete"
        assert trial.requests == 341 + refused == 341 + report.retried
        # Without the cut it is refused many times as often as it is served, until its retries are used up.
        assert 0 < refused <= 0.25 * 341
        await trial.resumed(report, adaptive=False)


async def test_06_capacity_drop(tmp_path: Path) -> None:
    """Sixteen workers, two, sixteen again: it takes longer, and not one request more."""
    script = parse_script("- {at: 0.5, for: 0.5, capacity: '2:20'}")
    faults = Faults(capacity=Capacity(servers=16, service_ms=20.0))
    async with MockServer(MockSettings(faults=faults, script=script)) as server:
        trial = Trial(server, tmp_path, ZOOMS_0_TO_4)
        report = await trial.seed(concurrency=32)
        assert report.state == "complete"
        assert trial.requests == 341
