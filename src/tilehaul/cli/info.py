"""`tilehaul info`: what is in an archive, and is it whole."""

import argparse
import json
import sys
from collections.abc import Mapping
from math import log2
from typing import TYPE_CHECKING

from tilehaul.cli import exit_codes
from tilehaul.cli.common import add_area_flags, add_command, check_output, run_async, shown, size_text
from tilehaul.errors import PlanError

if TYPE_CHECKING:
    from tilehaul.ports.store import TileArchive

# Most characters shown of a metadata row; `--json` gives the whole.
VALUE_CHARS_MAX = 100
BAR_CHARS_MAX = 40

_EXAMPLES = """\
  tilehaul info world.mbtiles
  tilehaul info world.mbtiles --png where.png    a picture of what it covers
  tilehaul info tiles/ --json
  tilehaul info world.mbtiles --missing --bbox=5,44,17,48 -z 0-10    what a seed of it would ask for
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
    parser.add_argument("--png", metavar="FILE", help="draw which places it covers, and how deep")
    parser.add_argument(
        "--missing",
        action="store_true",
        help="list instead the tiles of an area that are not there, one a line (seed --tiles - reads them)",
    )
    add_area_flags(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def blocks_wanted() -> bool:
    """Block characters are for terminals that can show them."""
    return sys.stdout.isatty() and (sys.stdout.encoding or "").lower().startswith("utf")


def histogram(by_zoom: Mapping[int, int], *, blocks: bool) -> list[str]:
    """A line a zoom: its count, and a bar as long as the count's logarithm, at most BAR_CHARS_MAX.

    Zooms hold four times as many tiles each: bars in proportion would show the last zoom alone.
    """
    longest = max((log2(count + 1) for count in by_zoom.values()), default=1.0) or 1.0
    mark = "\N{FULL BLOCK}" if blocks else "#"
    return [
        f"zoom {zoom:<2} {count:>12,}  {mark * round(BAR_CHARS_MAX * log2(count + 1) / longest)}"
        for zoom, count in sorted(by_zoom.items())
    ]


def run(options: argparse.Namespace) -> int:
    if options.png is not None:
        from pathlib import Path

        check_output(Path(options.png), "--png")
    if options.missing:
        return run_async(lambda: _missing(options))
    return run_async(lambda: _info(options))


async def _draw(archive: "TileArchive", name: str) -> None:
    from pathlib import Path

    from tilehaul.pixels.coverage import Coverage
    from tilehaul.stores.atomic_file import publish, sync_and_close, write_temp
    from tilehaul.stores.disk_errors import from_os

    coverage = Coverage()
    async for tile_id in archive.tile_ids():
        coverage.add(tile_id.z, tile_id.x, tile_id.y)
    path = Path(name).resolve()  # noqa: ASYNC240  nothing else runs
    try:
        sync_and_close(write_temp(str(path), coverage.png()), sync=False)
        publish(str(path))
    except OSError as error:
        raise from_os(error, path, "writing") from error


async def _missing(options: argparse.Namespace) -> int:
    from tilehaul.cli.seed import area_of
    from tilehaul.wiring.missing import missing

    if options.png is not None or options.json:
        raise PlanError("--missing lists tiles and nothing else: leave out --png and --json")
    async for tile_id in missing(options.archive, area_of(options)):
        print(tile_id)
    return exit_codes.COMPLETE


async def _info(options: argparse.Namespace) -> int:
    import dataclasses

    from tilehaul.grid.pyramid import pyramid_of
    from tilehaul.policy.causes import by_class
    from tilehaul.wiring.places import open_archive

    archive = open_archive(options.archive)
    try:
        info = await archive.describe()
        if options.png is not None:
            await _draw(archive, options.png)
    finally:
        await archive.close()
    if options.json:
        print(json.dumps(dataclasses.asdict(info)))
        return exit_codes.COMPLETE
    state = {
        "complete": "complete, without the tiles that were dropped" if info.dropped else "complete",
        "partial": "partial: run the command that made it again to go on",
        "foreign": "made by another program",
    }[info.state]
    print(f"{shown(info.location)}: {info.kind}, {state}")
    # A directory's bytes are its tiles' own; a file has its index and its free pages besides.
    if info.kind in ("directory", "bucket"):
        print(f"  tiles   {info.tiles:>12,}   {size_text(info.bytes)}")
    else:
        size = size_text(info.bytes) if info.bytes else "none"
        print(f"  file    {size:>12}")
        print(f"  tiles   {info.tiles:>12,}")
    if pyramid := pyramid_of(info.metadata):
        pixels = f"{pyramid.width:,} x {pyramid.height:,} px"
        print(f"  picture {pixels:>12}   in tiles of {pyramid.tile_size} px; no map")
    if info.absent:
        print(f"  absent  {info.absent:>12,}")
    if info.dead:
        classes = ", ".join(f"{name} {count:,}" for name, count in by_class(info.dead_causes).items())
        print(f"  dead    {info.dead:>12,}   {classes}; see `tilehaul retry`")
    if info.dropped:
        print(f"  dropped {info.dropped:>12,}   dead tiles that somebody chose to do without")
    for line in histogram(info.tiles_by_zoom, blocks=blocks_wanted()):
        print(f"  {line}")
    for name, value in sorted(info.metadata.items()):
        print(f"  {shown(name[:VALUE_CHARS_MAX])}: {shown(value[:VALUE_CHARS_MAX])}")
    return exit_codes.COMPLETE
