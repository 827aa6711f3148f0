"""`tilehaul seed`: copy an area's tiles into an archive."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tilehaul.cli import exit_codes
from tilehaul.cli.common import (
    add_area_flags,
    add_command,
    add_sending_flags,
    failure_limit,
    headers_of,
    plural,
    positive_seconds,
    run_async,
    size_text,
    span,
)
from tilehaul.errors import FuseError, PlanError, StorageError

if TYPE_CHECKING:
    from tilehaul.cli.watching import Watcher
    from tilehaul.grid.area import Area
    from tilehaul.grid.tile_id import TileId
    from tilehaul.jobs.stop import Stop
    from tilehaul.ports.events import SeedReport

_EXAMPLES = """\
  tilehaul seed 'https://host/{z}/{x}/{y}.png' alps.mbtiles --bbox=5,44,17,48 -z 0-10
  tilehaul seed 'https://host/{z}/{x}/{y}.png' tiles/ --region park.geojson -z 12-16 -c 16
  tilehaul seed SOURCE STORE ... --dry-run       how many tiles, before anything is sent
  tilehaul seed SOURCE STORE ...                 again, after an interruption: goes on where it ended

A source is a URL template ({z} {x} {y}, {-y}, {s}, {q}, {bbox-epsg-3857}), an .mbtiles file or a directory;
a store an .mbtiles file or a directory.

exit codes: 0 complete, 2 usage, 3 finished with dead tiles, 4 stopped (too many failures, origin away),
            5 local disk, 130 interrupted
"""
# A world of zoom 8 is 87,381 tiles; more than this many without --region or --bbox is rarely meant.
ZOOMS_DEFAULT = "0-5"
# The mean of 32 tile services in the field is between 10 and 20 kB a tile; used for the estimate only.
TILE_BYTES_GUESS = 15_000
DEAD_SHOWN = 20
# Causes of tiles that died before a server was spoken to.
NEVER_REACHED = {"dns", "connect", "timeout_connect"}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        subparsers,
        "seed",
        summary="copy the tiles of an area into an archive; run again to go on",
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("source", metavar="SOURCE", help="where the tiles are")
    parser.add_argument("store", metavar="STORE", help="where they go: FILE.mbtiles or a directory")
    add_area_flags(parser)
    add_sending_flags(parser, concurrency=32)
    job = parser.add_argument_group("job")
    job.add_argument(
        "--max-failures",
        type=failure_limit,
        default="1%",
        metavar="N|P%",
        help="stop when more tiles than this failed for good (default: 1%%)",
    )
    job.add_argument(
        "--max-wait",
        type=positive_seconds,
        default=1800.0,
        metavar="S",
        help="stop when nothing came for this long (default: 1800)",
    )
    job.add_argument(
        "--deadline",
        type=span,
        metavar="S|10m|2h",
        help="end in good order after this long, resumable (default: none)",
    )
    job.add_argument("--overwrite", action="store_true", help="fetch again what is there already")
    job.add_argument(
        "--force-source", action="store_true", help="write into a store that another source made"
    )
    job.add_argument(
        "--durability",
        choices=("full", "fast"),
        default="full",
        help="fast: a power cut may lose the last second; the file stays sound (default: %(default)s)",
    )
    job.add_argument(
        "--allow-private",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="private address that a redirect may lead to; repeatable",
    )
    job.add_argument("--tls-roots", metavar="FILE", help="PEM file of trusted roots instead of the system's")
    shown = parser.add_argument_group("output")
    shown.add_argument("--dry-run", action="store_true", help="count and estimate; send nothing")
    shown.add_argument("--json", action="store_true", help="events and report as JSON lines on stdout")
    shown.add_argument("--quiet", action="store_true", help="errors and dead tiles only")


def run(options: argparse.Namespace) -> int:
    area = area_of(options)
    if options.dry_run:
        from tilehaul.wiring.seeding import check_places

        check_places(options.source, options.store)
        return _estimate(area, as_json=options.json)
    from tilehaul.cli.watching import Watcher

    watcher = Watcher(quiet=options.quiet, as_json=options.json)
    return run_async(lambda: _seed(options, area, watcher))


def area_of(options: argparse.Namespace) -> "Area":
    """The area that the flags name. Raises PlanError."""
    from tilehaul.grid.area import Area, parse_bbox, parse_zooms
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
        zooms = parse_zooms(options.zooms or ZOOMS_DEFAULT)
    if options.region is not None:
        return Area.from_geojson(_read(options.region), zooms)
    if options.bbox is not None:
        return Area.from_bbox(*parse_bbox(options.bbox), zooms=zooms)
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
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
            raise PlanError(f'{name}, line {number}: "{words[0][:40]}" is no z/x/y')
        yield TileId(*map(int, parts))


def _estimate(area: "Area", *, as_json: bool) -> int:
    by_zoom = area.count_by_zoom()
    total = sum(by_zoom.values())
    if as_json:
        counts = {str(zoom): count for zoom, count in by_zoom.items()}
        size = total * TILE_BYTES_GUESS
        print(json.dumps({"planned": total, "by_zoom": counts, "bytes_guess": size}))
        return exit_codes.COMPLETE
    for zoom, count in by_zoom.items():
        print(f"  zoom {zoom:>2}  {count:>16,}")
    print(f"  in all   {total:>16,} tiles, about {size_text(total * TILE_BYTES_GUESS)} at 15 kB a tile")
    return exit_codes.COMPLETE


async def _seed(options: argparse.Namespace, area: "Area", watcher: "Watcher") -> int:
    import asyncio

    from tilehaul.config.sending import Sending
    from tilehaul.jobs.stop import Stop
    from tilehaul.wiring.seeding import SeedOptions, seed

    sending = Sending(
        concurrency=options.concurrency,
        timeout_s=options.timeout,
        retries=options.retries,
        max_wait_s=options.max_wait,
        contact=options.contact,
        headers=headers_of(options.header),
        allow_private=tuple(options.allow_private),
        tls_roots=options.tls_roots,
    )
    limit = options.max_failures
    wanted = SeedOptions(
        sending=sending,
        overwrite=options.overwrite,
        max_failures=failure_limit(limit) if isinstance(limit, str) else limit,
        durability=options.durability,
        force_source=options.force_source,
        deadline_s=options.deadline,
    )
    stop = Stop()
    listen(stop, watcher)
    code = exit_codes.STOPPED
    try:
        report = await seed(options.source, options.store, area, options=wanted, watch=watcher, stop=stop)
        # Who reads standard output may be slow: the job did not wait for it, the program does.
        await asyncio.to_thread(watcher.ended.wait)
        code = exit_codes.code_of_state(report.state)
    except (FuseError, StorageError) as error:
        print(f"tilehaul: {error}", file=sys.stderr)
        code = exit_codes.code_of_error(error)
    finally:
        watcher.close()
    if watcher.report is not None:
        await say_end(watcher.report, area, quiet=options.quiet)
    return code


async def say_end(report: "SeedReport", area: "Area", *, quiet: bool) -> None:
    """What every job says last, on standard error, also without a terminal.

    Dead tiles of the job's own area only: the store may hold those of others.
    """
    from tilehaul.cli.watching import summary_line
    from tilehaul.wiring.places import open_archive

    if not quiet:
        print(summary_line(report), file=sys.stderr)
    if report.dead:
        archive = open_archive(report.store)
        shown = 0
        causes = set()
        try:
            async for letter in archive.dead_letters():
                if letter.tile_id not in area:
                    continue
                if shown < DEAD_SHOWN:
                    print(f"dead {letter.tile_id} {letter.cause}", file=sys.stderr)
                shown += 1
                causes.add(letter.cause)
        finally:
            await archive.close()
        if shown > DEAD_SHOWN:
            print(f"and {plural(shown - DEAD_SHOWN, 'dead tile')} more", file=sys.stderr)
        if report.done == 0 and causes <= NEVER_REACHED:
            print(
                f"{report.source} was never reached: is the address right, and does it run?", file=sys.stderr
            )
    if report.state == "interrupted" and report.message:
        # Told also when quiet: nobody has pressed a key.
        print(f"tilehaul: {report.message}", file=sys.stderr)
    elif report.state != "complete" and not quiet:
        verb = "try the dead ones again" if report.state == "dead_letters" else "go on"
        print(f"run the same command again (without --overwrite) to {verb}", file=sys.stderr)


def listen(stop: "Stop", watcher: "Watcher") -> None:
    """First Ctrl-C or SIGTERM drains, the second cancels, the third exits at once."""
    import asyncio

    presses = 0

    def pressed() -> None:
        nonlocal presses
        presses += 1
        if presses == 1:
            stop.drain()
            watcher.say("finishing what is under way (up to 30 s); press Ctrl-C again to stop at once")
        elif presses == 2:
            stop.cancel()
        else:
            os._exit(exit_codes.INTERRUPTED)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, pressed)
        except (NotImplementedError, RuntimeError):
            # Windows has none: Ctrl-C then raises KeyboardInterrupt, and what was committed stays.
            return
