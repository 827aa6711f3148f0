"""`tilehaul copy --pixels`: a picture into the tiles of its pyramid."""

import argparse
import json
from typing import TYPE_CHECKING

from tilehaul.cli import exit_codes
from tilehaul.cli.common import run_async
from tilehaul.cli.job import AGAIN, AGAIN_OVERWRITING, encoding_of, run_job, say_end, seed_options
from tilehaul.cli.near import check_sending_flags
from tilehaul.errors import PlanError

if TYPE_CHECKING:
    from tilehaul.cli.watching import Watcher

# Of `tilehaul copy`, what a picture has no use for, by the flag's name.
_FOR_MAPS = {
    "bbox": "--bbox",
    "region": "--region",
    "tiles": "--tiles",
    "zooms": "-z",
    "min_zoom": "--min-zoom",
    "max_zoom": "--max-zoom",
    "tiles_of": "--tiles-of",
    "update": "--update",
    "compression": "--compression",
}


def add_picture_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("pictures")
    group.add_argument(
        "--pixels",
        action="store_true",
        help="SOURCE is a JPEG, PNG, TIFF or WebP file: make tiles of its pixels at every zoom",
    )
    group.add_argument(
        "--tile-size",
        type=int,
        choices=(256, 512),
        metavar="PX",
        help="256 or 512, with --pixels (default: 256)",
    )
    group.add_argument(
        "--pad",
        action="store_true",
        help="fill up tiles at the edges, with --pixels: GDAL and QGIS want all of one size",
    )


def run_picture(options: argparse.Namespace) -> int:
    """Raises PlanError for flags that only a map has."""
    for name, flag in _FOR_MAPS.items():
        if getattr(options, name) is not None and getattr(options, name) is not False:
            raise PlanError(f"{flag} is for maps: a picture is cut whole, leave it out with --pixels")
    check_sending_flags(options, options.store)
    if options.dry_run:
        return _count(options)
    from tilehaul.cli.watching import Watcher

    watcher = Watcher(quiet=options.quiet, as_json=options.json, max_wait_s=options.max_wait)
    return run_async(lambda: _copy(options, watcher))


def _count(options: argparse.Namespace) -> int:
    from tilehaul.wiring.picture_copying import plan_picture

    planned = plan_picture(options.source, tile_size=options.tile_size or 256, encoding=encoding_of(options))
    pyramid = planned.pyramid
    by_zoom = {zoom: pyramid.count(zoom) for zoom in range(pyramid.zoom_max + 1)}
    if options.json:
        told = {"planned": pyramid.tiles, "by_zoom": {str(zoom): count for zoom, count in by_zoom.items()}}
        print(json.dumps({**told, "width": pyramid.width, "height": pyramid.height}))
        return exit_codes.COMPLETE
    print(f"  picture  {pyramid.width:,} x {pyramid.height:,} px, tiles {planned.encoding}")
    for zoom, count in by_zoom.items():
        print(f"  zoom {zoom:>2}  {count:>16,}")
    print(f"  in all   {pyramid.tiles:>16,} tiles")
    return exit_codes.COMPLETE


async def _copy(options: argparse.Namespace, watcher: "Watcher") -> int:
    from tilehaul.wiring.picture_copying import copy_picture

    wanted = seed_options(options, overwrite=options.overwrite, deduplicate=options.deduplicate)
    code = await run_job(
        lambda stop: copy_picture(
            options.source,
            options.store,
            tile_size=options.tile_size or 256,
            encoding=encoding_of(options),
            padded=options.pad,
            options=wanted,
            watch=watcher,
            stop=stop,
        ),
        watcher,
        report_file=options.report,
    )
    if watcher.report is not None:
        again = AGAIN_OVERWRITING if options.overwrite else AGAIN
        await say_end(watcher.report, None, quiet=options.quiet, again=again)
    return code
