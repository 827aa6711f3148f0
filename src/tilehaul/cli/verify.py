"""`tilehaul verify`: is an archive whole, and what it says it is?"""

import argparse
import json
import sys

from tilehaul.cli import exit_codes
from tilehaul.cli.common import add_command, plural, run_async, shown, size_text
from tilehaul.cli.counting import CountBar

_EXAMPLES = """\
  tilehaul verify world.mbtiles
  tilehaul verify world.pmtiles --json

Reads every tile: structure of the file, magic, length and end of each picture, format, zooms, bounds and
counts as declared.

exit codes: 0 sound, 1 something is wrong, 2 usage, or no archive
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        subparsers,
        "verify",
        summary="read all of an archive, and say what is wrong where",
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("archive", metavar="ARCHIVE", help="a file, a directory or a bucket of tiles")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--quiet", action="store_true", help="only what is wrong")


def run(options: argparse.Namespace) -> int:
    return run_async(lambda: _verify(options))


async def _verify(options: argparse.Namespace) -> int:
    from tilehaul.wiring.verifying import verify

    bar = CountBar(quiet=options.quiet or options.json)
    try:
        report = await verify(options.archive, told=bar)
    finally:
        bar.close()
    if options.json:
        wrong = [
            {"tile": str(one.tile_id), "cause": one.cause, "message": one.message} for one in report.wrong
        ]
        print(
            json.dumps(
                {
                    "archive": report.location,
                    "kind": report.kind,
                    "sound": report.sound,
                    "tiles": report.tiles,
                    "bytes": report.bytes,
                    "media_types": report.media_types,
                    "faults": report.faults,
                    "wrong_count": report.wrong_count,
                    "wrong": wrong,
                }
            )
        )
    else:
        for fault in report.faults:
            print(f"wrong: {shown(fault)}", file=sys.stderr)
        for one in report.wrong:
            print(f"wrong {one.tile_id} {one.cause}: {shown(one.message)}", file=sys.stderr)
        if report.wrong_count > len(report.wrong):
            print(f"and {plural(report.wrong_count - len(report.wrong), 'wrong tile')} more", file=sys.stderr)
        if not options.quiet:
            said = "sound" if report.sound else "not sound"
            print(
                f"{shown(report.location)}: {said}; {plural(report.tiles, 'tile')} read, "
                f"{size_text(report.bytes)}"
            )
    return exit_codes.COMPLETE if report.sound else exit_codes.DIFFERENT
