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
    concurrency,
    not_negative,
    positive,
    positive_seconds,
    run_async,
)

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
        "--max-concurrency", type=concurrency, metavar="N", help="highest of the levels 1, 5, 10, 20, 50"
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
    from tilehaul.config.fetch_env import RETRIES_DEFAULT, TIMEOUT_S_DEFAULT, read_fetch_env
    from tilehaul.config.sending import Sending
    from tilehaul.lab.bench import LEVELS, BenchPlan, levels_up_to

    said = read_fetch_env(os.environ)
    most = options.max_concurrency or said.max_concurrency or LEVELS[-1]
    sending = Sending(
        timeout_s=options.timeout or said.timeout_s or TIMEOUT_S_DEFAULT,
        retries=next(n for n in (options.retries, said.retries, RETRIES_DEFAULT) if n is not None),
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
    source = options.source or said.template
    return run_async(lambda: _bench(source, plan, sending, as_json=options.json))


async def _bench(source: str | None, plan: "BenchPlan", sending: "Sending", *, as_json: bool) -> int:
    from tilehaul.lab.bench_run import BenchTable, bench_or_own

    def tell(text: str) -> None:
        if not as_json:
            print(text, file=sys.stderr)

    levels = await bench_or_own(
        source, plan, sending, on_level=_as_json if as_json else BenchTable(), tell=tell
    )
    return exit_codes.DEAD_LETTERS if any(level.failed or level.cut_short for level in levels) else 0


def _as_json(level: "Level") -> None:
    import dataclasses

    print(json.dumps({"event": "bench.level", **dataclasses.asdict(level)}), flush=True)
