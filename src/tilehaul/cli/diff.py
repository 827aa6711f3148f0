"""`tilehaul diff`: what one archive holds that another does not."""

import argparse
import json

from tilehaul.cli import exit_codes
from tilehaul.cli.common import add_area_flags, add_command, plural, run_async
from tilehaul.cli.counting import CountBar

_EXAMPLES = """\
  tilehaul diff old.mbtiles new.pmtiles
  tilehaul diff a.mbtiles b/ --bbox=5,44,17,48 -z 0-10 --json

Compares the tiles' bytes, whatever the format of the files.

exit codes: 0 the same tiles, 1 they differ, 2 usage, or no archive
"""
_MARKS = {"left": "-", "right": "+", "changed": "~"}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        subparsers,
        "diff",
        summary="compare the tiles of two archives",
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("left", metavar="A", help="an archive")
    parser.add_argument("right", metavar="B", help="another")
    add_area_flags(parser, default="all they hold")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--quiet", action="store_true", help="say nothing; the exit code tells")


def run(options: argparse.Namespace) -> int:
    return run_async(lambda: _diff(options))


async def _diff(options: argparse.Namespace) -> int:
    from tilehaul.cli.copy import area_within
    from tilehaul.wiring.comparing import diff

    bar = CountBar(quiet=options.quiet or options.json)
    try:
        found = await diff(
            options.left, options.right, area=await area_within(options, options.left), told=bar
        )
    finally:
        bar.close()
    if options.json:
        by_zoom = {str(zoom): counts for zoom, counts in sorted(found.by_zoom.items())}
        first = [{"tile": str(tile_id), "side": side} for tile_id, side in found.named]
        print(json.dumps({"same": found.same, "by_zoom": by_zoom, "named": first}))
    elif not options.quiet:
        for tile_id, side in found.named:
            print(f"{_MARKS[side]} {tile_id}")
        named = len(found.named)
        differing = found.count("left") + found.count("right") + found.count("changed")
        if differing > named:
            print(f"and {plural(differing - named, 'tile')} more")
        for zoom, counts in sorted(found.by_zoom.items()):
            print(
                f"  zoom {zoom:<2} {counts['same']:>12,} the same {counts['changed']:>10,} changed"
                f" {counts['left']:>10,} only in A {counts['right']:>10,} only in B"
            )
    return exit_codes.COMPLETE if found.same else exit_codes.DIFFERENT
