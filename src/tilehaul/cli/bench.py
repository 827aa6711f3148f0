"""`tilehaul bench`: how fast a source answers, one at a time and many at once."""

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from tilehaul.cli import exit_codes
from tilehaul.cli.common import (
    add_command,
    add_rate_flag,
    not_negative,
    positive,
    positive_seconds,
    run_async,
)
from tilehaul.errors import ConfigError

if TYPE_CHECKING:
    from tilehaul.config.sending import Sending
    from tilehaul.lab.bench import BenchPlan, Level

_EXAMPLES = """\
  tilehaul bench                                           a server of its own with 50 ms service time
  tilehaul bench 'http://127.0.0.1:8001/{z}/{x}/{y}.png' --tile-count 1000
  TILE_BASE_URL=http://127.0.0.1:8001 tilehaul bench --max-concurrency 20
  tilehaul bench world.mbtiles --zoom 5 --json

The environment's TILE_BASE_URL (with /{z}/{x}/{y}.png after it), MAX_CONCURRENCY, TIMEOUT_SECONDS and
RETRIES are read where no flag is given. "limit" is Little's law: concurrency / time of one tile alone.
"""
OWN_LATENCY_MS = 50.0
OWN_TILE_BYTES = 15_000


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        subparsers,
        "bench",
        summary="measure how fast a source answers, sequential against concurrent",
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="URL template, archive or directory")
    parser.add_argument(
        "--tile-count", type=positive, default=200, metavar="N", help="per level (default: 200)"
    )
    parser.add_argument(
        "--max-concurrency", type=positive, metavar="N", help="highest of the levels 1, 5, 10, 20, 50"
    )
    parser.add_argument("--timeout", type=positive_seconds, metavar="S", help="per attempt (default: 10)")
    parser.add_argument("--retries", type=not_negative, metavar="N", help="after the first (default: 2)")
    parser.add_argument(
        "--global-timeout", type=positive_seconds, metavar="S", help="cut a level short after this"
    )
    parser.add_argument("--zoom", type=int, default=10, metavar="Z", help="of the tiles (default: 10)")
    add_rate_flag(parser)
    parser.add_argument("--contact", default=os.environ.get("TILEHAUL_CONTACT", ""), metavar="WHO")
    parser.add_argument("--json", action="store_true", help="one JSON object a level on stdout")


def run(options: argparse.Namespace) -> int:
    from tilehaul.config.sending import Sending
    from tilehaul.lab.bench import BenchPlan, levels_up_to

    most = options.max_concurrency or int(_number("MAX_CONCURRENCY", 50, least=1))
    sending = Sending(
        timeout_s=options.timeout or _number("TIMEOUT_SECONDS", 10.0, least=1e-9),
        retries=options.retries if options.retries is not None else int(_number("RETRIES", 2, least=0)),
        contact=options.contact,
        # Each level is a number of requests at once; a limit that finds itself would measure another.
        adaptive=False,
        rate_limit=options.rate_limit,
    )
    plan = BenchPlan(
        tile_count=options.tile_count,
        levels=levels_up_to(most),
        zoom=options.zoom,
        global_timeout_s=options.global_timeout,
    )
    base_url = os.environ.get("TILE_BASE_URL")
    source = options.source or (base_url.rstrip("/") + "/{z}/{x}/{y}.png" if base_url else None)
    return run_async(lambda: _bench(source, plan, sending, as_json=options.json))


def _number(name: str, default: float, *, least: float) -> float:
    """A number from the environment. Raises ConfigError on nonsense."""
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value < float("inf"):
        raise ConfigError(f"{name}={text} is no number of at least {max(0, int(least))}")
    return value


async def _bench(source: str | None, plan: "BenchPlan", sending: "Sending", *, as_json: bool) -> int:
    from tilehaul.lab.bench import bench
    from tilehaul.lab.faults import Faults, Latency
    from tilehaul.lab.mock import MockServer
    from tilehaul.lab.mock_settings import MockSettings

    show = _as_json if as_json else _Table()
    if source is not None:
        levels = await bench(source, plan, sending, on_level=show)
    else:
        own = MockSettings(tile_bytes=OWN_TILE_BYTES, faults=Faults(latency=Latency(ms=OWN_LATENCY_MS)))
        async with MockServer(own) as server:
            if not as_json:
                print(
                    f"no source given: measuring {server.template}, {OWN_LATENCY_MS:.0f} ms", file=sys.stderr
                )
            levels = await bench(server.template, plan, sending, on_level=show)
    return exit_codes.DEAD_LETTERS if any(level.failed or level.cut_short for level in levels) else 0


def _as_json(level: "Level") -> None:
    import dataclasses

    print(json.dumps({"event": "bench.level", **dataclasses.asdict(level)}), flush=True)


class _Table:
    """Prints a row as soon as its level is measured."""

    def __init__(self) -> None:
        print("    c   tiles/s  speed-up     p50 ms    p95 ms    p99 ms   of limit  retried  failed")

    def __call__(self, level: "Level") -> None:
        causes = ", ".join(f"{cause} {count}" for cause, count in sorted(level.errors.items()))
        short = "  cut short" if level.cut_short else ""
        print(
            f"{level.concurrency:>5}{level.rate_per_s:>10,.1f}{level.speed_up:>9.1f}x"
            f"{level.p50_ms:>11.1f}{level.p95_ms:>10.1f}{level.p99_ms:>10.1f}{level.limit_share:>11.1%}"
            f"{level.retried:>9,}{level.failed:>8,}  {causes}{short}".rstrip(),
            flush=True,
        )
