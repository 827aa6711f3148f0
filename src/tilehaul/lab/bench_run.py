"""The benchmark as people run it: against a source of theirs or a server of our own, shown as a table."""

from collections.abc import Callable

from tilehaul.config.sending import Sending
from tilehaul.lab.bench import BenchPlan, Level, bench
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockServer
from tilehaul.lab.mock_settings import MockSettings

OWN_LATENCY_MS = 50.0
OWN_TILE_BYTES = 15_000


async def bench_or_own(
    source: str | None,
    plan: BenchPlan,
    sending: Sending,
    *,
    on_level: Callable[[Level], None],
    tell: Callable[[str], None],
) -> list[Level]:
    """Measure `source`, or without one a server of our own on this machine, of which `tell` is told.

    Raises as `bench`.
    """
    if source is not None:
        return await bench(source, plan, sending, on_level=on_level)
    own = MockSettings(tile_bytes=OWN_TILE_BYTES, faults=Faults(latency=Latency(ms=OWN_LATENCY_MS)))
    async with MockServer(own) as server:
        tell(f"no source given: measuring {server.template}, {OWN_LATENCY_MS:.0f} ms")
        return await bench(server.template, plan, sending, on_level=on_level)


class BenchTable:
    """Prints a row as soon as its level is measured."""

    def __init__(self) -> None:
        print("    c   tiles/s  speed-up     p50 ms    p95 ms    p99 ms   of limit  retried  failed")

    def __call__(self, level: Level) -> None:
        causes = ", ".join(f"{cause} {count}" for cause, count in sorted(level.errors.items()))
        short = "  cut short" if level.cut_short else ""
        print(
            f"{level.concurrency:>5}{level.rate_per_s:>10,.1f}{level.speed_up:>9.1f}x"
            f"{level.p50_ms:>11.1f}{level.p95_ms:>10.1f}{level.p99_ms:>10.1f}{level.limit_share:>11.1%}"
            f"{level.retried:>9,}{level.failed:>8,}  {causes}{short}".rstrip(),
            flush=True,
        )
