"""`tilehaul copy`: what an archive holds, into another."""

import argparse
import json
from typing import TYPE_CHECKING

from tilehaul.cli import exit_codes
from tilehaul.cli.common import add_area_flags, add_command, add_sending_flags, run_async
from tilehaul.cli.job import add_job_flags, add_output_flags, run_job, say_end, seed_options
from tilehaul.errors import PlanError

if TYPE_CHECKING:
    from tilehaul.cli.watching import Watcher
    from tilehaul.grid.area import Area

_EXAMPLES = """\
  tilehaul copy world.mbtiles world.pmtiles              all of it, into another format
  tilehaul copy world.pmtiles alps/ --bbox=5,44,17,48 -z 0-10
  tilehaul copy s3://bucket/tiles backup.mbtiles         out of a bucket
  tilehaul copy new.mbtiles s3://bucket/tiles --update   only what differs
  tilehaul copy 'https://host/{z}/{x}/{y}.png' new.mbtiles --tiles-of old.mbtiles
  tilehaul copy SOURCE STORE ...                         again, after an interruption: goes on

Asks only for tiles that are there. Every tile is verified on its way; name, attribution, bounds and
vector layers come along. An archive that has grown is copied again into the same store: what is new is added.

exit codes: 0 complete, 2 usage, 3 finished with dead tiles, 4 stopped, 5 local disk, 130 interrupted
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        subparsers,
        "copy",
        summary="copy what an archive holds into another; run again to go on",
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("source", metavar="SOURCE", help="an archive; with --tiles-of any source")
    parser.add_argument("store", metavar="STORE", help="where the tiles go")
    add_area_flags(parser, default="all the archive holds")
    parser.add_argument(
        "--tiles-of", metavar="ARCHIVE", help="ask SOURCE for the tiles that this archive holds"
    )
    add_sending_flags(parser)
    add_job_flags(parser, max_failures="1%").add_argument(
        "--overwrite", action="store_true", help="copy again what is there already"
    )
    parser.add_argument(
        "--update", action="store_true", help="read both, and move only what differs; nothing is removed"
    )
    add_output_flags(parser).add_argument("--dry-run", action="store_true", help="count; copy nothing")


def run(options: argparse.Namespace) -> int:
    from tilehaul.cli.watching import Watcher

    wanted = seed_options(options, overwrite=options.overwrite)
    if options.update and options.overwrite:
        raise PlanError("--update moves what differs, --overwrite all of it: give one")
    if options.dry_run:
        from tilehaul.wiring.seeding import check_places

        check_places(options.source, options.store, wanted.sending)
        return run_async(lambda: _count(options))
    watcher = Watcher(quiet=options.quiet, as_json=options.json, max_wait_s=options.max_wait)
    return run_async(lambda: _copy(options, watcher))


async def area_within(options: argparse.Namespace, archive: str) -> "Area | None":
    """The area that the flags name; zooms that are not given are the archive's. None: all of it."""
    from tilehaul.cli.seed import area_of
    from tilehaul.config.sending import SENDING_DEFAULT
    from tilehaul.wiring.copying import open_listed

    given = ("bbox", "region", "tiles", "zooms", "min_zoom", "max_zoom")
    if all(getattr(options, name) is None for name in given):
        return None
    if options.tiles is None and options.zooms is None and options.max_zoom is None:
        opened = open_listed(archive, sending=SENDING_DEFAULT)
        try:
            info = await opened.source_info()
        finally:
            await opened.close()
        options.max_zoom = info.zoom_max
        options.min_zoom = info.zoom_min if options.min_zoom is None else options.min_zoom
        if options.min_zoom > options.max_zoom:
            raise PlanError(f"--min-zoom {options.min_zoom}: the archive ends at zoom {options.max_zoom}")
    return area_of(options)


async def _count(options: argparse.Namespace) -> int:
    from tilehaul.wiring.copying import Held, open_listed

    listed = options.tiles_of or options.source
    archive = open_listed(listed, sending=seed_options(options).sending)
    try:
        by_zoom = await Held(archive, await area_within(options, listed)).by_zoom()
    finally:
        await archive.close()
    if options.json:
        told = {str(zoom): count for zoom, count in by_zoom.items()}
        print(json.dumps({"planned": sum(by_zoom.values()), "by_zoom": told}))
        return exit_codes.COMPLETE
    for zoom, count in by_zoom.items():
        print(f"  zoom {zoom:>2}  {count:>16,}")
    print(f"  in all   {sum(by_zoom.values()):>16,} tiles")
    return exit_codes.COMPLETE


async def _copy(options: argparse.Namespace, watcher: "Watcher") -> int:
    from tilehaul.wiring.copying import copy

    wanted = seed_options(options, overwrite=options.overwrite)
    area = await area_within(options, options.tiles_of or options.source)
    code = await run_job(
        lambda stop: copy(
            options.source,
            options.store,
            area=area,
            tiles_of=options.tiles_of,
            update=options.update,
            options=wanted,
            watch=watcher,
            stop=stop,
        ),
        watcher,
    )
    if watcher.report is not None:
        await say_end(watcher.report, area, quiet=options.quiet)
    return code
