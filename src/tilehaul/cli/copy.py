"""`tilehaul copy`: an archive into another, whatever their kinds."""

import argparse
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from tilehaul.cli import exit_codes
from tilehaul.cli.common import add_area_flags, add_command, add_sending_flags, plural, run_async
from tilehaul.cli.copy_picture import add_picture_flags, run_picture
from tilehaul.cli.job import (
    AGAIN,
    AGAIN_OVERWRITING,
    add_encoding_flags,
    add_job_flags,
    add_output_flags,
    add_report_flag,
    encoding_of,
    run_job,
    say_end,
    seed_options,
)
from tilehaul.cli.near import check_sending_flags
from tilehaul.cli.seed import area_of
from tilehaul.errors import PlanError

if TYPE_CHECKING:
    from tilehaul.cli.watching import Watcher
    from tilehaul.grid.area import Area
    from tilehaul.ports.events import SeedReport
    from tilehaul.wiring.copying import Extras

_EXAMPLES = """\
  tilehaul copy world.mbtiles world.pmtiles
  tilehaul copy world.pmtiles tiles/ --bbox=5,44,17,48 -z 0-10
  tilehaul copy 'https://host/{z}/{x}/{y}.png' new.mbtiles --tiles-of old.mbtiles
  tilehaul copy new.mbtiles old.pmtiles --update --delete --dry-run
  tilehaul copy picture.jpg pyramid.mbtiles --pixels
  tilehaul copy SOURCE STORE                     again, after an interruption: goes on where it ended

Without an area it is everything that SOURCE holds. A URL template needs an area, or --tiles-of.

exit codes: as `tilehaul seed`
"""
AREA_FLAGS = ("bbox", "region", "tiles", "zooms", "min_zoom", "max_zoom")
ZOOMS_ALL = "0-30"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        subparsers,
        "copy",
        summary="copy an archive into another of any kind; run again to go on",
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("source", metavar="SOURCE", help="where the tiles are")
    parser.add_argument("store", metavar="STORE", help="where they go: a file or a directory")
    parser.add_argument(
        "--tiles-of", metavar="ARCHIVE", help="copy the tiles that this archive has, not all of SOURCE"
    )
    add_area_flags(parser, otherwise="everything there is")
    add_encoding_flags(parser)
    add_picture_flags(parser)
    add_sending_flags(parser)
    job = add_job_flags(parser, max_failures="1%")
    job.add_argument("--overwrite", action="store_true", help="copy again what is there already")
    job.add_argument(
        "--deduplicate", action="store_true", help="keep equal tiles once in a new .mbtiles file"
    )
    job.add_argument(
        "--update", action="store_true", help="compare bytes first, and copy only what differs or is missing"
    )
    job.add_argument(
        "--delete",
        action="store_true",
        help="with --update: delete from STORE what SOURCE does not have, in the area if there is one",
    )
    shown = add_output_flags(parser)
    add_report_flag(shown)
    shown.add_argument("--dry-run", action="store_true", help="count; copy nothing")


def run(options: argparse.Namespace) -> int:
    if options.pixels:
        return run_picture(options)
    if options.tile_size is not None or options.pad:
        raise PlanError("--tile-size and --pad are for pictures: they go with --pixels")
    if options.update and options.overwrite:
        raise PlanError("--update and --overwrite exclude each other: give one")
    if options.delete and not options.update:
        raise PlanError("--delete goes with --update: a copy deletes only what it has compared")
    places = (options.source, options.tiles_of, options.store)
    check_sending_flags(options, *(place for place in places if place is not None))
    within = area_within(options)
    if options.dry_run:
        return run_async(lambda: _count(options, within))
    from tilehaul.cli.watching import Watcher

    watcher = Watcher(quiet=options.quiet, as_json=options.json, max_wait_s=options.max_wait)
    return run_async(lambda: _copy(options, within, watcher))


def area_within(options: argparse.Namespace) -> "Area | None":
    """The area that the flags restrict to, at all zooms unless they are named; None without a flag."""
    if all(getattr(options, name) is None for name in AREA_FLAGS):
        return None
    return area_of(options, zooms_default=ZOOMS_ALL)


async def _count(options: argparse.Namespace, within: "Area | None") -> int:
    from tilehaul.wiring.checking import check_places
    from tilehaul.wiring.copying import Extras, check_mirrored, check_update, extras_of, listing_of
    from tilehaul.wiring.places import open_archive

    sending = seed_options(options).sending
    check_places(options.source, options.store, sending)
    if options.update:
        check_update(options.source, options.tiles_of, encodes=encoding_of(options) is not None)
    listed = options.tiles_of or options.source
    archive = open_archive(listed, sending=sending)
    try:
        if options.delete:
            await check_mirrored(archive, options.source)
        listing = await listing_of(archive, listed, within)
        extras = await extras_of(archive, options.store, within, sending) if options.delete else Extras()
    finally:
        await archive.close()
    if options.json:
        by_zoom = {str(zoom): listing.by_zoom[zoom] for zoom in listing.zooms}
        told: dict[str, object] = {"planned": listing.planned, "by_zoom": by_zoom}
        if options.delete:
            told["delete"] = {str(zoom): count for zoom, count in sorted(extras.by_zoom.items())}
        print(json.dumps(told))
        return exit_codes.COMPLETE
    for zoom in listing.zooms:
        print(f"  zoom {zoom:>2}  {listing.by_zoom[zoom]:>16,}")
    print(f"  in all   {listing.planned:>16,} tiles")
    if options.delete:
        _show_extras(extras)
    return exit_codes.COMPLETE


def _show_extras(extras: "Extras") -> None:
    for zoom, count in sorted(extras.by_zoom.items()):
        print(f"  zoom {zoom:>2}  {count:>16,}  to be deleted")
    for tile_id in extras.named:
        print(f"would delete {tile_id}")
    more = extras.tiles - len(extras.named)
    if more:
        print(f"and {plural(more, 'tile')} more")
    print(f"  {plural(extras.tiles, 'tile')} would be deleted")


async def _copy(options: argparse.Namespace, within: "Area | None", watcher: "Watcher") -> int:
    from tilehaul.wiring.copying import copy

    wanted = seed_options(options, overwrite=options.overwrite, deduplicate=options.deduplicate)
    wanted = replace(wanted, encoding=encoding_of(options))
    code = await run_job(
        lambda stop: copy(
            options.source,
            options.store,
            within=within,
            tiles_of=options.tiles_of,
            update=options.update,
            delete=options.delete,
            options=wanted,
            watch=watcher,
            stop=stop,
        ),
        watcher,
        report_file=options.report,
    )
    if watcher.report is not None:
        again = AGAIN_OVERWRITING if options.overwrite else AGAIN
        await say_end(watcher.report, within, quiet=options.quiet, again=again)
        if options.delete:
            _say_deleted(watcher.report)
    return code


def _say_deleted(report: "SeedReport") -> None:
    """What a person would not expect of a mirror; told also when quiet."""
    if report.state != "complete" and not report.deleted:
        print(f"nothing was deleted from {report.store}: the copy is not complete", file=sys.stderr)
    if report.strangers:
        left = plural(report.strangers, "tile")
        print(f"{left} of {report.store} stay: no job of tilehaul wrote them", file=sys.stderr)
