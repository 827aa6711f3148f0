"""The `tilehaul` command: one file a subcommand, loaded only when it runs."""

import argparse
import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tilehaul import __version__
from tilehaul.cli import exit_codes
from tilehaul.errors import TilehaulError

if TYPE_CHECKING:
    from tilehaul.cli.parsing import Parser

# Of a file's name that is too long.
NAME_SHOWN = 60

_DESCRIPTION = """\
Move map imagery from where it lives to where it is needed: as fast as the
source allows, never faster than it permits, and nothing lost."""

_EPILOG = """\
examples:
  tilehaul demo                                   see it work, on real imagery
  tilehaul seed 'https://host/{z}/{x}/{y}.png' alps.mbtiles --bbox=5,44,17,48 -z 0-10
  tilehaul copy alps.mbtiles alps.pmtiles         from one format into another
  tilehaul serve alps.mbtiles                     a map page of the archive
  tilehaul cache info ./cache                     what its disk cache holds
  tilehaul info alps.mbtiles                      what is in it, and is it whole
  tilehaul verify alps.mbtiles                    is every tile of it whole
  tilehaul diff alps.mbtiles alps.pmtiles         do they hold the same tiles
  tilehaul retry alps.mbtiles                     which tiles failed for good, and ask for them again
  tilehaul providers                              what hosts permit
  tilehaul mock --tiles painted --errors 503:0.05 a tile server that misbehaves
  tilehaul bench 'http://127.0.0.1:8001/{z}/{x}/{y}.png'
  tilehaul lab simulate --model queue             how flow control behaves, in virtual time

`tilehaul COMMAND --help` says more, with examples.
"""


def _parser() -> "Parser":
    from tilehaul.cli import (
        bench,
        cache,
        copy,
        demo,
        diff,
        info,
        lab,
        mock,
        providers,
        retry,
        seed,
        serve,
        verify,
    )
    from tilehaul.cli.parsing import Parser

    parser = Parser(
        prog="tilehaul",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tilehaul {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for command in (seed, copy, serve, cache, info, verify, diff, retry, providers, mock, bench, lab, demo):
        command.add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code; argparse's own usage errors raise SystemExit(2)."""
    try:
        parser = _parser()
        options = parser.parse_strictly(arguments)
        if options.command is None:
            parser.print_help()
            return exit_codes.USAGE
        _set_up_log(options)
        code = options.run(options)
    except TilehaulError as error:
        print(f"tilehaul: {error}", file=sys.stderr)
        return exit_codes.code_of_error(error)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # `tilehaul info ... | head`: whoever read has read enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            print(f"tilehaul: {error.strerror}: {str(error.filename)[:NAME_SHOWN]}...", file=sys.stderr)
            return exit_codes.USAGE
        if error.errno not in {errno.EMFILE, errno.ENFILE}:
            raise
        # Before any store or wire is open: those tell it as an error of ours, with what they were opening.
        print(f"tilehaul: {error.strerror}: allow more (ulimit -n 1024) and run again", file=sys.stderr)
        return exit_codes.LOCAL_IO
    return int(code)


def _set_up_log(options: argparse.Namespace) -> None:
    if os.environ.get("TILEHAUL_LOG") or options.log_level or options.log_json:
        from tilehaul.cli.logs import log_settings_of, set_up_log

        if (settings := log_settings_of(options)) is not None:
            set_up_log(settings)


def run() -> None:
    """The console script."""
    sys.exit(main())
