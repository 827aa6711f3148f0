"""`tilehaul info`: what is in an archive, and is it whole."""

import argparse
import json

from tilehaul.cli import exit_codes
from tilehaul.cli.common import add_command, run_async, shown, size_text

# Most characters shown of a metadata row; `--json` gives the whole.
VALUE_CHARS_MAX = 100

_EXAMPLES = """\
  tilehaul info world.mbtiles
  tilehaul info tiles/ --json
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        subparsers,
        "info",
        summary="say what is in an archive and whether it is whole",
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument(
        "archive", metavar="ARCHIVE", help="an .mbtiles, .pmtiles or .gpkg file, or a directory of tiles"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(options: argparse.Namespace) -> int:
    return run_async(lambda: _info(options))


async def _info(options: argparse.Namespace) -> int:
    import dataclasses

    from tilehaul.policy.causes import by_class
    from tilehaul.wiring.places import open_archive

    archive = open_archive(options.archive)
    try:
        info = await archive.describe()
    finally:
        await archive.close()
    if options.json:
        print(json.dumps(dataclasses.asdict(info)))
        return exit_codes.COMPLETE
    state = {
        "complete": "complete, without the tiles that were dropped" if info.dropped else "complete",
        "partial": "partial: run its `tilehaul seed` again to go on",
        "foreign": "made by another program",
    }[info.state]
    print(f"{shown(info.location)}: {info.kind}, {state}")
    # A directory's bytes are its tiles' own; a file has its index and its free pages besides.
    if info.kind in ("directory", "bucket"):
        print(f"  tiles   {info.tiles:>12,}   {size_text(info.bytes)}")
    else:
        print(f"  file    {size_text(info.bytes):>12}")
        print(f"  tiles   {info.tiles:>12,}")
    if info.absent:
        print(f"  absent  {info.absent:>12,}")
    if info.dead:
        classes = ", ".join(f"{name} {count:,}" for name, count in by_class(info.dead_causes).items())
        print(f"  dead    {info.dead:>12,}   {classes}; see `tilehaul retry`")
    if info.dropped:
        print(f"  dropped {info.dropped:>12,}   dead tiles that somebody chose to do without")
    for zoom, count in sorted(info.tiles_by_zoom.items()):
        print(f"  zoom {zoom:<2} {count:>12,}")
    for name, value in sorted(info.metadata.items()):
        print(f"  {shown(name[:VALUE_CHARS_MAX])}: {shown(value[:VALUE_CHARS_MAX])}")
    return exit_codes.COMPLETE
