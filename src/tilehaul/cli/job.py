"""What the commands that move tiles share: their flags, their options, and how they are run and stopped."""

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable, Container
from pathlib import Path
from typing import TYPE_CHECKING

from tilehaul.cli import exit_codes
from tilehaul.cli.common import (
    check_output,
    failure_limit,
    headers_of,
    plural,
    positive_seconds,
    providers_of,
    span,
)
from tilehaul.errors import FuseError, PlanError, StorageError

if TYPE_CHECKING:
    from tilehaul.cli.watching import Watcher
    from tilehaul.grid.tile_id import TileId
    from tilehaul.jobs.stop import Stop
    from tilehaul.ports.events import SeedReport
    from tilehaul.sources.reencoded import Encoding
    from tilehaul.wiring.seeding import SeedOptions

# Dead tiles named one by one; the rest is a number.
DEAD_SHOWN = 20
# Causes of tiles that died before a server was spoken to; busy: it was left alone after others had.
NEVER_REACHED = {"dns", "connect", "timeout_connect", "busy"}
AGAIN = "run the same command again"
# Which tiles of an overwrite are new already is noted nowhere: without the flag all of them count as settled.
AGAIN_OVERWRITING = "run the same command again, with --overwrite (it begins from the start),"


def add_job_flags(parser: argparse.ArgumentParser, *, max_failures: str | None) -> "argparse._ArgumentGroup":
    """Add the flags `seed_options` reads, but those of `add_sending_flags`. Returns their group.

    `max_failures` is the default of that flag; None: no limit.
    """
    job = parser.add_argument_group("job")
    job.add_argument(
        "--max-failures",
        type=failure_limit,
        default=max_failures,
        metavar="N|P%",
        help="stop when more tiles than this failed for good"
        + (" (default: %(default)s)" if max_failures else " (default: no limit)"),
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
    job.add_argument(
        "--journal", metavar="FILE", help="where a bucket's journal lies (default: in the state folder)"
    )
    job.add_argument(
        "--force-source", action="store_true", help="write into a store that another source made"
    )
    job.add_argument(
        "--durability",
        choices=("full", "fast"),
        default="full",
        help="fast: fewer syncs; a power cut costs an MBTiles or GeoPackage file its last second, and leaves "
        "broken tiles in an unfinished directory or PMTiles job (default: %(default)s)",
    )
    job.add_argument(
        "--allow-private",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="private address that a redirect may lead to; repeatable",
    )
    job.add_argument("--tls-roots", metavar="FILE", help="PEM file of trusted roots instead of the system's")
    return job


def add_output_flags(parser: argparse.ArgumentParser) -> "argparse._ArgumentGroup":
    shown = parser.add_argument_group("output")
    shown.add_argument("--json", action="store_true", help="events and report as JSON lines on stdout")
    shown.add_argument("--quiet", action="store_true", help="errors and dead tiles only")
    return shown


def add_report_flag(group: "argparse._ArgumentGroup") -> None:
    """Add `--report`, for the `report_file` of `run_job`."""
    group.add_argument("--report", metavar="FILE", help="write the report of the run there, as JSON")


def add_encoding_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags `encoding_of` reads."""
    becoming = parser.add_argument_group("encoding")
    becoming.add_argument(
        "--format", choices=("png", "jpg", "webp"), help="re-encode pictures (default: bytes as they are)"
    )
    becoming.add_argument("--quality", type=int, metavar="N", help="1-100, for jpg and webp (default: 80)")
    becoming.add_argument(
        "--compression", choices=("gzip", "none"), help="of vector tiles (default: as they are)"
    )


def encoding_of(options: argparse.Namespace) -> "Encoding | None":
    """What the flags say; None without one. Raises PlanError, ConfigError."""
    from tilehaul.sources.reencoded import Encoding

    if options.quality is not None and options.format not in {"jpg", "webp"}:
        raise PlanError("--quality is for --format jpg and --format webp")
    if options.format is None and options.compression is None:
        return None
    quality = 80 if options.quality is None else options.quality
    return Encoding(options.format or "", quality, options.compression or "")


def seed_options(
    options: argparse.Namespace, *, overwrite: bool = False, deduplicate: bool = False
) -> "SeedOptions":
    """What the flags say. Raises PlanError, ConfigError."""
    from tilehaul.config.sending import Sending
    from tilehaul.policy.fuse import FailureLimit
    from tilehaul.wiring.seeding import SeedOptions

    sending = Sending(
        concurrency=options.concurrency,
        timeout_s=options.timeout,
        retries=options.retries,
        max_wait_s=options.max_wait,
        contact=options.contact,
        headers=headers_of(options.header),
        allow_private=tuple(options.allow_private),
        tls_roots=options.tls_roots,
        providers=providers_of(options.providers),
        adaptive=not options.fixed,
        rate_limit=options.rate_limit,
    )
    return SeedOptions(
        sending=sending,
        overwrite=overwrite,
        max_failures=options.max_failures or FailureLimit(),
        durability=options.durability,
        force_source=options.force_source,
        deadline_s=options.deadline,
        journal=options.journal,
        deduplicate=deduplicate,
    )


async def run_job(
    start: "Callable[[Stop], Awaitable[SeedReport]]", watcher: "Watcher", *, report_file: str | None = None
) -> int:
    """Run a job that ends with a report, stoppable by Ctrl-C. Returns its exit code.

    `watcher` has the report afterwards, when the job got as far as taking its store; it is in `report_file`
    then too, however the job ended. Raises PlanError when that is in no folder, StorageError.
    """
    import asyncio

    from tilehaul.jobs.stop import Stop

    if report_file is not None:
        check_report(Path(report_file))
    stop = Stop()
    listen(stop, watcher)
    try:
        report = await start(stop)
        # Who reads standard output may be slow: the job did not wait for it, the program does.
        await asyncio.to_thread(watcher.ended.wait)
        return exit_codes.code_of_state(report.state)
    except (FuseError, StorageError) as error:
        print(f"tilehaul: {error}", file=sys.stderr)
        return exit_codes.code_of_error(error)
    finally:
        watcher.close()
        if report_file is not None and watcher.report is not None:
            write_report(Path(report_file), watcher.report)


def check_report(path: Path) -> None:
    """Raise PlanError when no report can be put there."""
    check_output(path, "--report")
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise PlanError(f"--report {path}: name a file in a folder that is there")


def write_report(path: Path, report: "SeedReport") -> None:
    """Put the report there, whole or not at all. Raises StorageError."""
    from tilehaul.ports.events import record_of
    from tilehaul.stores.atomic_file import publish, sync_and_close, write_temp
    from tilehaul.stores.disk_errors import from_os

    name = str(path.absolute())
    try:
        sync_and_close(write_temp(name, f"{json.dumps(record_of(report))}\n".encode()), sync=True)
        publish(name)
    except OSError as error:
        raise from_os(error, path, "writing") from error


def listen(stop: "Stop", watcher: "Watcher") -> None:
    """First Ctrl-C, SIGTERM or SIGHUP drains, the second cancels, the third exits at once."""
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
    numbers = [signal.SIGINT, signal.SIGTERM]
    # A terminal that is closed. Under nohup it is ignored, and stays so.
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is signal.SIG_DFL:
        numbers.append(hang_up)
    for number in numbers:
        try:
            loop.add_signal_handler(number, pressed)
        except (NotImplementedError, RuntimeError):
            # Windows has none: Ctrl-C then raises KeyboardInterrupt, and what was committed stays.
            return


async def say_end(
    report: "SeedReport", within: "Container[TileId] | None" = None, *, quiet: bool, again: str = AGAIN
) -> None:
    """What every job says last, on standard error, also without a terminal.

    Args:
        within: Dead tiles of these only: the store may hold those of other jobs. None: all of them.
        again: The beginning of what to do about a job that is not complete.
    """
    from tilehaul.cli.watching import summary_line
    from tilehaul.jobs.letter import said_of
    from tilehaul.wiring.places import open_archive

    if not quiet:
        print(summary_line(report), file=sys.stderr)
        if report.state == "stopped":
            for reason in report.health.reasons:
                print(f"degraded: {reason}", file=sys.stderr)
        if report.state == "complete" and report.absent == report.planned > 0:
            print(_none_there(report), file=sys.stderr)
    if report.dead:
        archive = open_archive(report.store)
        count = 0
        causes = set()
        try:
            async for letter in archive.dead_letters():
                if within is not None and letter.tile_id not in within:
                    continue
                if count < DEAD_SHOWN:
                    print(f"dead {letter.tile_id} {letter.cause} {said_of(letter)}".rstrip(), file=sys.stderr)
                count += 1
                causes.add(letter.cause)
        finally:
            await archive.close()
        if count > DEAD_SHOWN:
            print(f"and {plural(count - DEAD_SHOWN, 'dead tile')} more", file=sys.stderr)
        if report.done == 0 and causes <= NEVER_REACHED:
            print(
                f"{report.source} was never reached: is the address right, and does it run?", file=sys.stderr
            )
    if report.state == "interrupted" and report.message:
        # Told also when quiet: nobody has pressed a key.
        print(f"tilehaul: {report.message}", file=sys.stderr)
    elif report.state == "dead_letters" and not quiet:
        more = f"tilehaul retry {shlex.quote(report.store)}"
        print(f"{again} to try the dead ones again; {more} tells more of them", file=sys.stderr)
    elif report.state != "complete" and not quiet and "--overwrite" not in report.message:
        print(f"{again} to go on", file=sys.stderr)


def _none_there(report: "SeedReport") -> str:
    """A job that is complete and brought no tile: mostly the wrong place was asked for."""
    from tilehaul.config.locations import parse_location

    place = parse_location(report.store)
    # The format has no archive without a tile: what the job knows is in the journal.
    made = place.kind != "pmtiles" or place.path.exists()
    kept = "holds none of them" if made else "was not made, for a PMTiles file holds one tile at least"
    return (
        f"{report.source} has none of these {plural(report.absent, 'tile')}, and {report.store} {kept}:"
        " look at address, area and zooms if there should be some"
    )
