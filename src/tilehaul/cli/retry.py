"""`tilehaul retry`: the dead tiles of an archive, listed, asked for again, or dropped."""

import argparse
import json
import shlex
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tilehaul.cli import exit_codes
from tilehaul.cli.common import add_command, add_sending_flags, plural, run_async, shown
from tilehaul.cli.job import (
    DEAD_SHOWN,
    add_job_flags,
    add_output_flags,
    add_report_flag,
    run_job,
    say_end,
    seed_options,
)
from tilehaul.cli.near import check_sending_flags
from tilehaul.errors import PlanError

if TYPE_CHECKING:
    from tilehaul.ports.store import DeadLetter, StoreInfo

_EXAMPLES = """\
  tilehaul retry world.mbtiles                             how many died, of what, and how to go on
  tilehaul retry world.mbtiles --list --cause timeout      which of them
  tilehaul retry world.mbtiles --source 'https://host/{z}/{x}/{y}.png'
  tilehaul retry world.mbtiles --drop --cause http_403     do without these

An archive keeps no secrets, so the source is named again; it must be the one the tiles came from.
A cause is a class (rate_limit, network, timeout, server, client, body, other) or a word of --list.
Running the seed's own command again asks for its dead tiles again as well, for all of them.
A dropped tile is never asked for again and never counts as done; seed --overwrite brings it back.

exit codes: 0 no dead tile is left in the archive, 2 usage, 3 some are left, 4 stopped (too many failures,
            origin away), 5 local disk, 130 interrupted
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        subparsers,
        "retry",
        summary="list the tiles of an archive that failed for good, ask for them again, or drop them",
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("archive", metavar="ARCHIVE", help="an archive or a directory of a seed")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="one line for each dead tile")
    what.add_argument("--source", metavar="SOURCE", help="ask for them again, here")
    what.add_argument("--drop", action="store_true", help="do without them; sends nothing")
    parser.add_argument(
        "--cause", action="append", default=[], metavar="CAUSE,...", help="only these; repeatable"
    )
    known = set(parser._actions)  # noqa: SLF001 - argparse has no other way
    add_report_flag(parser.add_argument_group("report"))
    add_sending_flags(parser)
    # Tiles that died once may well die again: only a long row of failures ends a replay.
    add_job_flags(parser, max_failures=None)
    parser.set_defaults(
        replay_flags=[
            (action.dest, action.option_strings[-1], action.default)
            for action in parser._actions  # noqa: SLF001
            if action not in known
        ]
    )
    add_output_flags(parser)


def run(options: argparse.Namespace) -> int:
    causes = [word.strip() for words in options.cause for word in words.split(",")]
    if options.source is not None:
        return run_async(lambda: _replay(options, causes))
    for name, flag, default in options.replay_flags:
        if getattr(options, name) != default and not (options.drop and name == "durability"):
            raise PlanError(f"{flag} goes with --source, which says where to ask for the dead tiles again")
    if options.drop:
        return run_async(lambda: _drop(options, causes))
    return run_async(lambda: _list(options, causes) if options.list else _count(options, causes))


async def _count(options: argparse.Namespace, causes: list[str]) -> int:
    """The dead letters by class and cause, and how to go on."""
    from tilehaul.policy.causes import by_class, is_among
    from tilehaul.stores.record import SOURCE_NAME
    from tilehaul.wiring.places import open_archive
    from tilehaul.wiring.retrying import check_causes

    check_causes(causes)
    archive = open_archive(options.archive)
    try:
        info = await archive.describe()
    finally:
        await archive.close()
    counts = {cause: count for cause, count in info.dead_causes.items() if is_among(cause, causes)}
    if options.json:
        told = {"event": "dead.counts", "archive": info.location, "dead": sum(counts.values())}
        classes = {"by_class": by_class(counts), "by_cause": counts}
        source = info.metadata.get(SOURCE_NAME, "")
        print(json.dumps({**told, **classes, "dropped": info.dropped, "source": source}))
    else:
        _show_counts(info, counts, causes)
        if counts and not options.quiet:
            _show_ways(options, shown(info.metadata.get(SOURCE_NAME, "")))
    return _code_of(info.dead)


def _show_counts(info: "StoreInfo", counts: dict[str, int], causes: list[str]) -> None:
    from tilehaul.policy.causes import by_class, class_of

    dead = sum(counts.values())
    words = [plural(dead, "dead tile") if dead else "no dead tiles"]
    if causes:
        words.append(f"of {', '.join(causes)} ({plural(info.dead - dead, 'other')})")
    print(f"{shown(info.location)}: {' '.join(words)}")
    for name, count in by_class(counts).items():
        fine = [(cause, n) for cause, n in counts.items() if class_of(cause) == name]
        fine.sort(key=lambda pair: -pair[1])
        print(f"  {name:<12}{count:>10,}  " + ", ".join(f"{shown(cause)} {n:,}" for cause, n in fine))
    if info.dropped:
        print(f"  {'dropped':<12}{info.dropped:>10,}  given up by a person before")


def _show_ways(options: argparse.Namespace, source: str) -> None:
    """The commands that go on from here; on standard error, so that the answer stays the answer."""
    from tilehaul.codec.safe_url import MASK

    command = f"tilehaul retry {shlex.quote(options.archive)}"
    command += "".join(f" --cause {shlex.quote(words)}" for words in options.cause)
    # Only a template is something to type again; an archive is known by its name alone.
    place = shlex.quote(source) if "{" in source else "SOURCE"
    note = "   (*** stands for a key: it is not kept)" if MASK in place else ""
    print(f"see them:            {command} --list", file=sys.stderr)
    print(f"ask for them again:  {command} --source {place}{note}", file=sys.stderr)
    print(f"do without them:     {command} --drop", file=sys.stderr)


async def _list(options: argparse.Namespace, causes: list[str]) -> int:
    """One line a dead letter, as they are read: there may be many."""
    from tilehaul.wiring.retrying import dead_letters

    letters = dead_letters(options.archive, causes=causes)
    if not options.json and not options.quiet:
        print(_row("tile", "cause", "attempts", "status", "when", "url", "said"))
    async for letter in letters:
        print(_record("dead.letter", letter) if options.json else _line(letter))
    return _code_of(await _left(options.archive))


def _line(letter: "DeadLetter") -> str:
    from tilehaul.jobs.letter import said_of
    from tilehaul.policy.causes import status_of

    status = status_of(letter.cause) or "-"
    when = _when(letter.at_s) or "-"
    tile = str(letter.tile_id)
    return _row(tile, letter.cause, letter.attempts, status, when, letter.url or "-", said_of(letter))


def _row(*words: object) -> str:
    tile, cause, attempts, status, when, url, said = (shown(str(word)) for word in words)
    return f"{tile:<20} {cause:<20} {attempts:>8} {status:>6} {when:<20} {url} {said}".rstrip()


def _record(event: str, letter: "DeadLetter") -> str:
    from tilehaul.policy.causes import class_of, status_of

    return json.dumps(
        {
            "event": event,
            "tile": str(letter.tile_id),
            "class": class_of(letter.cause),
            "cause": letter.cause,
            "attempts": letter.attempts,
            "status": status_of(letter.cause),
            "when": _when(letter.at_s),
            "url": letter.url,
            "message": letter.message,
        }
    )


def _when(at_s: float) -> str | None:
    """A moment as RFC 3339 has it, in UTC to the second; None where it is not known."""
    if not at_s:
        return None
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _drop(options: argparse.Namespace, causes: list[str]) -> int:
    from tilehaul.wiring.retrying import drop_dead_letters

    named = 0

    def told(letter: "DeadLetter") -> None:
        nonlocal named
        named += 1
        if options.json:
            print(_record("dead.dropped", letter))
        if named <= DEAD_SHOWN:
            print(f"dropped {letter.tile_id} {shown(letter.cause)}", file=sys.stderr)

    dropped = await drop_dead_letters(
        options.archive, causes=causes, durability=options.durability, told=told
    )
    if dropped > DEAD_SHOWN:
        print(f"and {plural(dropped - DEAD_SHOWN, 'dropped tile')} more", file=sys.stderr)
    if not options.quiet:
        print(f"{plural(dropped, 'tile')} dropped; nothing was sent", file=sys.stderr)
    return _code_of(await _left(options.archive))


async def _replay(options: argparse.Namespace, causes: list[str]) -> int:
    from tilehaul.cli.watching import Watcher
    from tilehaul.wiring.retrying import retry

    check_sending_flags(options, options.archive, options.source)
    wanted = seed_options(options)
    watcher = Watcher(quiet=options.quiet, as_json=options.json, max_wait_s=options.max_wait)
    code = await run_job(
        lambda stop: retry(
            options.archive, options.source, causes=causes, options=wanted, watch=watcher, stop=stop
        ),
        watcher,
        report_file=options.report,
    )
    if watcher.report is not None:
        await say_end(watcher.report, quiet=options.quiet, again="run the same command again")
    left = await _left(options.archive) if code == exit_codes.COMPLETE else 0
    if not left:
        return code
    if not options.quiet:
        print(f"{plural(left, 'dead tile')} of other causes are left", file=sys.stderr)
    return exit_codes.DEAD_LETTERS


def _code_of(left: int) -> int:
    return exit_codes.DEAD_LETTERS if left else exit_codes.COMPLETE


async def _left(archive: str) -> int:
    """How many dead letters there are, of whatever cause."""
    from tilehaul.wiring.retrying import dead_letters

    count = 0
    async for _ in dead_letters(archive):
        count += 1
    return count
