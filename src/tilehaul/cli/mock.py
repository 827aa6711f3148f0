"""`tilehaul mock`: a tile server that does what it is told, right or wrong."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilehaul.cli import exit_codes
from tilehaul.cli.common import add_command, not_negative, plural, run_async, size_text, until_signal

if TYPE_CHECKING:
    from tilehaul.lab.mock import MockServer, MockSettings, MockStats

PORT_DEFAULT = 8001

_SUMMARY = "run a tile server on this machine that misbehaves as told"

_EXAMPLES = """\
  tilehaul mock                                      small PNG tiles, no faults, port 8001
  tilehaul mock --tiles imagery                      NASA's Blue Marble, cut on the fly
  tilehaul mock --tiles painted --errors 500:0.02,503:0.03 --retry-after 2
  tilehaul mock --latency-ms 80 --jitter-ms 20 --rate-limit 100 --burst 20
  tilehaul mock --truncate short_length:0.01 --truncate bit_flip:0.01 --xml-200 0.01
  tilehaul mock --burst-429 30:5 --absent 'zoom>6:204'
  tilehaul mock --script faults.yaml                 what is wrong when:
      - {at: 10, for: 5, errors: "503:1", retry_after: 2}
      - {at: 30, for: 10, black_hole: 0.5}

Shares are 0 to 1; those of errors and faults exclude one another and add up to 1
at most. Faults depend on --seed, the tile and how often it was asked for: two runs
meet the same ones. Counters are at /_/stats, POST /_/reset begins them again.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `mock` to the commands."""
    parser = add_command(subparsers, "mock", summary=_SUMMARY, examples=_EXAMPLES, run=run)
    server = parser.add_argument_group("server")
    server.add_argument(
        "--port", type=not_negative, default=PORT_DEFAULT, metavar="N", help="0: any free one (%(default)s)"
    )
    server.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="default: %(default)s")
    server.add_argument("--seed", type=int, default=0, metavar="N", help="of all luck (default: 0)")
    server.add_argument("--json", action="store_true", help="address and counts as JSON, one object a line")
    tiles = parser.add_argument_group("tiles")
    tiles.add_argument(
        "--tiles",
        choices=("plain", "painted", "imagery"),
        default="plain",
        help="plain needs nothing installed; the others: pip install 'tilehaul[demo]' (default: plain)",
    )
    tiles.add_argument(
        "--format", choices=("png", "jpg", "webp"), default="", help="default: png; for imagery jpg"
    )
    tiles.add_argument(
        "--tile-bytes", type=not_negative, default=0, metavar="N", help="exact size of plain tiles"
    )
    tiles.add_argument(
        "--absent", metavar="SHARE|zoom>N", help="tiles there are none of: 404, or 204 with :204 behind"
    )
    tiles.add_argument(
        "--no-etag", action="store_true", help="only Last-Modified says whether a tile changed"
    )
    _add_fault_flags(parser)


def _add_fault_flags(parser: argparse.ArgumentParser) -> None:
    """Every flag whose destination begins with `fault_` is a key of `FAULT_KEYS`."""

    def flag(group: argparse._ArgumentGroup, name: str, metavar: str, meaning: str, **more: Any) -> None:
        key = "fault_" + name.removeprefix("--").replace("-", "_")
        group.add_argument(name, dest=key, metavar=metavar, help=meaning, **more)

    time = parser.add_argument_group("time")
    flag(time, "--latency-ms", "MS", "delay of every answer")
    flag(time, "--jitter-ms", "MS", "deviation (uniform: half the width)")
    flag(
        time,
        "--latency-distribution",
        "NAME",
        "fixed, uniform, normal (with jitter the default), lognormal, heavy_tail",
    )
    flag(time, "--capacity", "SERVERS:MS[:QUEUE]", "so many at once, so long each; full queue: 503")
    flag(time, "--slow-body", "BYTES_PER_S[:SHARE]", "bodies trickle")
    limits = parser.add_argument_group("push-back")
    flag(limits, "--rate-limit", "PER_S", "more than that: 429 with Retry-After")
    flag(limits, "--burst", "N", "tokens the rate limit saves up (default: 1)")
    flag(limits, "--burst-429", "EVERY:FOR", "429 for the last FOR of every EVERY seconds")
    flag(
        limits, "--retry-after", "WAIT", "for 429 and 503: SECONDS, date:SECONDS, garbage, none, or raw:TEXT"
    )
    limits.add_argument(
        "--clock-skew", type=float, default=0.0, metavar="S", help="the server's clock is ahead by that"
    )
    faults = parser.add_argument_group("faults")
    flag(faults, "--errors", "STATUS:SHARE,...", "e.g. 500:0.02,503:0.03")
    flag(
        faults,
        "--truncate",
        "KIND:SHARE",
        "short_length, cut_chunked, cut_close, cut_gzip or bit_flip; repeatable",
        action="append",
    )
    flag(faults, "--xml-200", "SHARE", "an OGC ServiceException with status 200")
    flag(faults, "--xml-as-png", "SHARE", "the same, called image/png")
    flag(faults, "--html-200", "SHARE", "a web page with status 200")
    flag(faults, "--empty", "SHARE", "no bytes with status 200")
    flag(faults, "--reset", "[before:]SHARE", "RST in the middle of the body, or instead of an answer")
    flag(faults, "--black-hole", "SHARE", "never an answer, the connection stays open")
    flag(
        faults,
        "--faults",
        "KIND:SHARE",
        "any kind, also blank_200, wrong_tile, header_bomb, gzip_bomb, close_before; repeatable",
        action="append",
    )
    faults.add_argument("--script", type=Path, metavar="FILE", help="YAML: faults over time, see below")


def settings_of(args: argparse.Namespace) -> "MockSettings":
    """The flags as settings. Raises ConfigError."""
    from tilehaul.lab.absence import Absence, parse_absence
    from tilehaul.lab.fault_words import parse_fault_change
    from tilehaul.lab.faults import Faults
    from tilehaul.lab.mock import MockSettings
    from tilehaul.lab.script import Script, read_script

    given = {key: value for key, value in vars(args).items() if key.startswith("fault_")}
    words = {key.removeprefix("fault_"): value for key, value in given.items() if value is not None}
    return MockSettings(
        tiles=args.tiles,
        format=args.format,
        tile_bytes=args.tile_bytes,
        host=args.host,
        port=args.port,
        seed=args.seed,
        faults=parse_fault_change(words).on(Faults()),
        absence=parse_absence(args.absent) if args.absent else Absence(),
        script=read_script(args.script) if args.script else Script(),
        clock_skew_s=args.clock_skew,
        etags=not args.no_etag,
    )


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; that is a good end. Raises ConfigError, as for a port in use."""
    from tilehaul.lab.mock import MockServer

    server = MockServer(settings_of(args))
    try:
        run_async(lambda: _serve(server, as_json=args.json))
    except KeyboardInterrupt:
        # Where signals cannot be handled by the loop (Windows).
        _print_end(server.stats(), as_json=args.json)
    return exit_codes.COMPLETE


async def _serve(server: "MockServer", *, as_json: bool) -> None:
    async with server:
        stats_url = f"{server.base_url}/_/stats"
        if as_json:
            begun = {"event": "started", "template": server.template, "stats": stats_url}
            print(json.dumps(begun), flush=True)
        else:
            print(f"tilehaul mock: {server.template}  (counters: {stats_url})", flush=True)
        await until_signal()
        stats = server.stats()
    _print_end(stats, as_json=as_json)


def _print_end(stats: "MockStats", *, as_json: bool) -> None:
    """One line of counts."""
    if as_json:
        from dataclasses import asdict

        print(json.dumps({"event": "stopped", **asdict(stats)}), flush=True)
        return
    statuses = ", ".join(f"{count:,} x {status}" for status, count in stats.by_status.items())
    faults = ", ".join(f"{count:,} x {kind}" for kind, count in stats.by_fault.items())
    print(
        f"\ntilehaul mock: stopped after {stats.elapsed_s:.0f} s: {plural(stats.requests, 'request')}"
        f" for {plural(stats.tiles_seen, 'tile')}, {size_text(stats.bytes_sent)}"
        f" ({statuses or 'no answers'}; faults: {faults or 'none'})",
        flush=True,
    )
