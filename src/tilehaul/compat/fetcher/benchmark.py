"""Sequential against concurrent, measured: the older fetcher's benchmark and its command line."""

import argparse
import os
import sys
from collections.abc import Sequence

from tilehaul.compat.fetcher.config import TileFetcherConfig, checked_template, environment, patience_of
from tilehaul.config.sending import Sending
from tilehaul.errors import TilehaulError
from tilehaul.lab.bench import BenchPlan, Level
from tilehaul.lab.bench_run import BenchTable, bench_or_own
from tilehaul.net.loop_thread import LoopThread

EXIT_USAGE = 2
# As `tilehaul bench`: it ended, but not every tile came.
EXIT_FAILURES = 3


def benchmark(
    tile_count: int = 20,
    max_concurrency: int = 10,
    timeout_seconds: float = 10.0,
    retries: int = 2,
    global_timeout: float | None = None,
    *,
    base_url: str | None = None,
) -> None:
    """Print a table: one tile at a time, then `max_concurrency` at once. `tilehaul bench` says more.

    Also works where a loop runs already, as in a notebook.

    Args:
        tile_count: Tiles of each of the two runs, >= 1.
        max_concurrency, timeout_seconds, retries: As `fetch_tiles_concurrently`.
        global_timeout: Seconds, > 0, after which a run is cut short, and says so; None: no limit.
        base_url: None: TILE_BASE_URL; when that is not set, a server of our own on this machine.

    Raises:
        ValueError: A number out of range, or a base that is no address.
        PlanError: The provider forbids such use; or a public server and no contact (TILEHAUL_CONTACT).
    """
    measure(tile_count, max_concurrency, timeout_seconds, retries, global_timeout, base_url=base_url)


def measure(
    tile_count: int,
    max_concurrency: int,
    timeout_seconds: float,
    retries: int,
    global_timeout: float | None,
    *,
    base_url: str | None,
) -> list[Level]:
    """As `benchmark`, and answers what was measured."""
    if max_concurrency < 1:
        raise ValueError(f"max_concurrency must be 1 or more, not {max_concurrency}")
    if global_timeout is not None and not 0 < global_timeout < float("inf"):
        raise ValueError(f"global_timeout must be above 0 seconds, not {global_timeout}")
    patience_of(timeout_seconds, retries)
    base = base_url or environment().base_url
    plan = BenchPlan(
        tile_count=tile_count,
        levels=(1,) if max_concurrency == 1 else (1, max_concurrency),
        global_timeout_s=global_timeout,
    )
    sending = Sending(
        timeout_s=timeout_seconds,
        retries=retries,
        contact=os.environ.get("TILEHAUL_CONTACT", ""),
        # What is measured is this concurrency, not the one a lane would choose.
        adaptive=False,
    )
    with LoopThread() as thread:
        return thread.run(
            bench_or_own(
                checked_template(base) if base else None, plan, sending, on_level=BenchTable(), tell=print
            )
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code; a usage error raises SystemExit(2)."""
    try:
        options = _parser().parse_args(arguments)
        levels = measure(
            options.tile_count,
            options.max_concurrency,
            options.timeout,
            options.retries,
            options.global_timeout,
            base_url=options.base_url,
        )
    except (TilehaulError, ValueError) as error:
        print(f"tilehaul.compat.fetcher: {error}", file=sys.stderr)
        return EXIT_USAGE
    return EXIT_FAILURES if any(level.failed or level.cut_short for level in levels) else 0


def _parser() -> argparse.ArgumentParser:
    config = TileFetcherConfig()
    parser = argparse.ArgumentParser(
        prog="python -m tilehaul.compat.fetcher",
        description="Measure a tile server, sequential against concurrent. `tilehaul bench` says more.",
        epilog="TILE_BASE_URL, MAX_CONCURRENCY, TIMEOUT_SECONDS and RETRIES are read where no flag is given.",
    )
    parser.add_argument("--tile-count", type=int, default=20, metavar="N", help="of each run (default: 20)")
    parser.add_argument("--max-concurrency", type=int, default=config.max_concurrency, metavar="N")
    parser.add_argument(
        "--timeout", type=float, default=config.timeout_seconds, metavar="S", help="per attempt"
    )
    parser.add_argument("--retries", type=int, default=config.retries, metavar="N")
    parser.add_argument("--global-timeout", type=float, metavar="S", help="cut a run short after this")
    parser.add_argument("--base-url", metavar="URL", help="the server (default: one on this machine)")
    return parser
