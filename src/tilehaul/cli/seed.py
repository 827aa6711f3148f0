"""`tilehaul seed`: copy an area's tiles into an archive."""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tilehaul.cli.common import (
    add_area_flags,
    add_command,
    add_sending_flags,
    positive,
    run_async,
    span,
)
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
from tilehaul.errors import PlanError

if TYPE_CHECKING:
    from tilehaul.cli.watching import Watcher
    from tilehaul.grid.area import Area
    from tilehaul.grid.tile_id import TileId

_EXAMPLES = """\
  tilehaul seed 'https://host/{z}/{x}/{y}.png' alps.mbtiles --bbox=5,44,17,48 -z 0-10
  tilehaul seed 'https://host/{z}/{x}/{y}.png' tiles/ --region park.geojson -z 12-16 -c 16
  tilehaul seed SOURCE STORE --bbox=5,44,17,48 --bbox=-10,36,-6,42 -z 0-10     both places, one job
  tilehaul seed SOURCE STORE ... --dry-run       how many tiles, before anything is sent
  tilehaul seed SOURCE r2://maps/alps ... --dry-run --sample 200       bytes, hours and costs from 200 tiles
  tilehaul seed SOURCE STORE ...                 again, after an interruption: goes on where it ended

A source is a URL template ({z} {x} {y}, {-y}, {s}, {q}, {bbox-epsg-3857}), wms+https://..., wmts+https://...
or tms+https://... (docs/wms.md), provider:NAME, an .mbtiles, .pmtiles or .gpkg file, a directory, or
s3://bucket/prefix; a store is one of these files, a directory or a bucket.

exit codes: 0 complete, 2 usage, 3 finished with dead tiles, 4 stopped (too many failures, origin away),
            5 local disk, 130 interrupted
"""
# A world of zoom 8 is 87,381 tiles; more than this many without --region or --bbox is rarely meant.
ZOOMS_DEFAULT = "0-5"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        subparsers,
        "seed",
        summary="copy the tiles of an area into an archive; run again to go on",
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("source", metavar="SOURCE", help="where the tiles are")
    parser.add_argument(
        "store", metavar="STORE", help="where they go: FILE.mbtiles, .pmtiles, .gpkg or a directory"
    )
    add_area_flags(parser)
    add_encoding_flags(parser)
    add_sending_flags(parser)
    job = add_job_flags(parser, max_failures="1%")
    job.add_argument("--overwrite", action="store_true", help="fetch again what is there already")
    job.add_argument(
        "--refresh-older-than",
        type=span,
        metavar="30d",
        help="ask again for tiles last checked longer ago, only if they have changed",
    )
    job.add_argument(
        "--keep-freshness", action="store_true", help="note when tiles were checked, for a later refresh"
    )
    job.add_argument(
        "--deduplicate", action="store_true", help="keep equal tiles once in a new .mbtiles file"
    )
    shown = add_output_flags(parser)
    add_report_flag(shown)
    shown.add_argument(
        "--dry-run", action="store_true", help="count and estimate; send nothing, write nothing"
    )
    shown.add_argument(
        "--sample",
        type=positive,
        metavar="N",
        help="with --dry-run: ask for N tiles, spread over the zooms, and estimate bytes, hours and what a"
        " bucket costs; 200 is a good number",
    )


def run(options: argparse.Namespace) -> int:
    from tilehaul.cli.estimate import check_sample, dry_run

    check_sending_flags(options, options.source, options.store)
    check_sample(options)
    area = area_of(options)
    if options.dry_run:
        return dry_run(options, area)
    from tilehaul.cli.watching import Watcher

    watcher = Watcher(quiet=options.quiet, as_json=options.json, max_wait_s=options.max_wait)
    return run_async(lambda: _seed(options, area, watcher))


def area_of(options: argparse.Namespace, *, zooms_default: str = ZOOMS_DEFAULT) -> "Area":
    """The area that the flags name. Raises PlanError."""
    from tilehaul.grid.area import Area, parse_zooms
    from tilehaul.grid.bounds import parse_bbox
    from tilehaul.ports.source import WORLD_DEG

    given = [name for name in ("bbox", "region", "tiles") if getattr(options, name) is not None]
    if len(given) > 1:
        raise PlanError(f"--{given[0]} and --{given[1]} both name the area: give one")
    zooms_given = [name for name in ("zooms", "min_zoom", "max_zoom") if getattr(options, name) is not None]
    if options.tiles is not None and zooms_given:
        raise PlanError("--tiles names its own zooms: leave out --zooms, --min-zoom and --max-zoom")
    if options.min_zoom is not None and options.max_zoom is None:
        raise PlanError(f"--min-zoom {options.min_zoom} needs --max-zoom as well")
    if options.tiles is not None:
        return Area.from_tiles(_tiles_listed(options.tiles))
    if options.zooms is not None and (options.min_zoom is not None or options.max_zoom is not None):
        raise PlanError("--zooms and --min-zoom/--max-zoom both name the zooms: give one")
    if options.min_zoom is not None or options.max_zoom is not None:
        low = 0 if options.min_zoom is None else options.min_zoom
        zooms = parse_zooms(f"{low}-{options.max_zoom}")
    else:
        zooms = parse_zooms(options.zooms or zooms_default)
    if options.region is not None:
        return Area.from_geojson(_read(options.region), zooms)
    if options.bbox is not None:
        return Area.from_boxes(map(parse_bbox, options.bbox), zooms)
    return Area.from_bbox(*WORLD_DEG, zooms=zooms)


def _read(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"cannot read {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{name} is not UTF-8 text") from error


def _tiles_listed(name: str) -> Iterable["TileId"]:
    from tilehaul.grid.tile_id import TileId

    for number, line in enumerate(_read(name).splitlines(), start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        parts = words[0].split("/")
        # No tile's number is longer; Python refuses far longer ones with an error of its own.
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 12 for part in parts):
            raise PlanError(f'{name}, line {number}: "{words[0][:40]}" is no z/x/y')
        yield TileId(*map(int, parts))


async def _seed(options: argparse.Namespace, area: "Area", watcher: "Watcher") -> int:
    from tilehaul.wiring.seeding import seed

    wanted = seed_options(options, overwrite=options.overwrite, deduplicate=options.deduplicate)
    wanted = replace(
        wanted,
        encoding=encoding_of(options),
        refresh_older_s=options.refresh_older_than,
        keep_freshness=options.keep_freshness,
    )
    code = await run_job(
        lambda stop: seed(options.source, options.store, area, options=wanted, watch=watcher, stop=stop),
        watcher,
        report_file=options.report,
    )
    if watcher.report is not None:
        again = AGAIN_OVERWRITING if options.overwrite else AGAIN
        await say_end(watcher.report, area, quiet=options.quiet, again=again)
    return code
