"""`tilehaul lab simulate`: how flow control behaves against modelled upstreams, in virtual time."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tilehaul.cli import exit_codes, lab_proxy
from tilehaul.cli.common import add_command, positive, positive_seconds
from tilehaul.errors import PlanError, StorageError

if TYPE_CHECKING:
    from tilehaul.lab.simulate import Row

_SUMMARY = "experiments: flow control in virtual time, faults on the wire"

_EXAMPLES = """\
  tilehaul lab simulate                              all models, 300 s each, 3 seeds: some minutes
  tilehaul lab simulate --model queue --seeds 1      8 servers of 100 ms behind an endless queue
  tilehaul lab simulate --model drop --picture drop.svg
  tilehaul lab simulate --seconds 60 --json
  tilehaul lab proxy http://127.0.0.1:8001/{z}/{x}/{y}.png --fault 'reset=500@10%'
"""

_HEADINGS = (
    "model", "limit", "good/s", "of best", "waste %", "inside RA", "in flight then",
    "queue", "p50 s", "p95 s", "fair", "aims missed",
)  # fmt: skip


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `lab` to the commands."""
    parser = add_command(subparsers, "lab", summary=_SUMMARY, examples=_EXAMPLES, run=run)
    experiments = parser.add_subparsers(metavar="EXPERIMENT", dest="experiment", required=True)
    simulate = add_command(
        experiments,
        "simulate",
        summary="compare limits (fixed, AIMD, Vegas, Gradient2, ours) in virtual time",
        examples=_EXAMPLES,
        run=run,
    )
    simulate.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="bucket, strict, queue, thrash, cdn, drop, shared, shed or bursts; repeatable (default: all)",
    )
    simulate.add_argument(
        "--seconds",
        type=positive_seconds,
        default=300.0,
        metavar="S",
        help="virtual seconds a run (default: 300)",
    )
    simulate.add_argument("--seeds", type=positive, default=3, metavar="N", help="runs each (default: 3)")
    simulate.add_argument("--picture", type=Path, metavar="FILE", help="SVG: limit, time, goodput over time")
    simulate.add_argument("--json", action="store_true", help="one object a line, with the curves")
    lab_proxy.add_parser(experiments)


def run(args: argparse.Namespace) -> int:
    """Run the simulation. Exit 0 also when an aim is missed: the table says which."""
    from tilehaul.lab.simulate import compare
    from tilehaul.lab.upstreams import MODELS

    models = list(dict.fromkeys(args.model or MODELS))
    for model in models:
        if model not in MODELS:
            raise PlanError(f'--model "{model}": one of {", ".join(MODELS)}')
    by_model: dict[str, list[Row]] = {}
    if not args.json:
        _print_headings()
    for model in models:
        rows = compare(model, seconds=args.seconds, seeds=args.seeds, said=_said(quiet=args.json))
        by_model[model] = rows
        if args.json:
            for row in rows:
                print(json.dumps(_plain(row)))
        else:
            _print_model(MODELS[model][0], rows)
    if args.picture is not None:
        _write_picture(args.picture, by_model)
    return exit_codes.COMPLETE


def _said(*, quiet: bool) -> Callable[[str], None]:
    if quiet or not sys.stderr.isatty():
        return lambda _: None
    return lambda text: print(f"\r\033[K{text}\r", end="", file=sys.stderr, flush=True)


def _print_headings() -> None:
    print(_line(_HEADINGS))


def _print_model(what: str, rows: "list[Row]") -> None:
    best = rows[0]
    print(f"\n{best.model}: {what}; best fixed limit {best.best_limit}, {best.best_per_s:.1f}/s")
    for row in rows:
        print(
            _line(
                (
                    row.model,
                    row.limit,
                    f"{row.goodput_per_s:.1f}",
                    f"{row.goodput_per_s / row.best_per_s:.1%}" if row.best_per_s else "-",
                    f"{100 * row.wasted_share:.2f}",
                    f"{row.inside:.0f}",
                    f"{row.in_flight_then:.0f}",
                    f"{row.queue_mean:.1f}",
                    f"{row.p50_s:.3f}",
                    f"{row.p95_s:.3f}",
                    f"{row.fairness:.2f}",
                    ", ".join(row.missed()) or "none",
                )
            )
        )


def _line(cells: tuple[str, ...]) -> str:
    widths = (7, 10, 8, 8, 8, 9, 15, 7, 7, 7, 5)
    head = f"{cells[0]:{widths[0]}} {cells[1]:{widths[1]}}"
    middle = " ".join(f"{cell:>{width}}" for cell, width in zip(cells[2:-1], widths[2:], strict=True))
    return f"{head} {middle}  {cells[-1]}"


def _plain(row: "Row") -> dict[str, object]:
    return {
        "type": "simulated",
        "model": row.model,
        "limit": row.limit,
        "best_limit": row.best_limit,
        "best_per_s": row.best_per_s,
        "goodput_per_s": row.goodput_per_s,
        "wasted_share": row.wasted_share,
        "inside_retry_after": row.inside,
        "in_flight_then": row.in_flight_then,
        "queue_mean": row.queue_mean,
        "p50_s": row.p50_s,
        "p95_s": row.p95_s,
        "fairness": row.fairness,
        "missed": row.missed(),
        "trace": {
            "limit": row.trace.limits,
            "good_per_s": row.trace.goods,
            "mean_s": [round(mean_s, 6) for mean_s in row.trace.means_s],
        },
    }


def _write_picture(path: Path, by_model: "dict[str, list[Row]]") -> None:
    from tilehaul.lab.picture import Panel, draw

    panels = [
        [
            Panel(f"{model}: limit", "", {row.limit: row.trace.limits for row in rows}),
            Panel(f"{model}: mean time to first byte", "s", {row.limit: row.trace.means_s for row in rows}),
            Panel(f"{model}: goodput", "/s", {row.limit: row.trace.goods for row in rows}),
        ]
        for model, rows in by_model.items()
    ]
    try:
        path.write_text(draw("Limits against modelled upstreams (tilehaul lab simulate)", panels), "utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
