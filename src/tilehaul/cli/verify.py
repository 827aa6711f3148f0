"""`tilehaul verify`: whether an archive is whole, and what it says it is."""

import argparse
import json
import sys
import warnings
from typing import TYPE_CHECKING, Any

from tilehaul.cli import exit_codes
from tilehaul.cli.common import add_command, plural, run_async, shown

if TYPE_CHECKING:
    from tilehaul.jobs.verify import Verdict

_EXAMPLES = """\
  tilehaul verify world.mbtiles
  tilehaul verify tiles/ --json
  tilehaul verify photos.pmtiles --decode         pixel by pixel

exit codes: 0 fine, 1 something is wrong, 2 no archive or too damaged to be read, 5 local disk
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        subparsers,
        "verify",
        summary="read every tile of an archive and say what is wrong",
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("archive", metavar="ARCHIVE", help="a file, a directory or a bucket of tiles")
    parser.add_argument(
        "--decode",
        action="store_true",
        help="decode every picture as well (needs the extra tilehaul[pixels]): finds damage inside JPEG,"
        " WebP, GIF and AVIF, and takes far longer",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(options: argparse.Namespace) -> int:
    with warnings.catch_warnings():
        # What Pillow finds odd in a picture and reads all the same is no damage. Its threads are ended below.
        warnings.simplefilter("ignore")
        return run_async(lambda: _verify(options))


async def _verify(options: argparse.Namespace) -> int:
    from tilehaul.wiring.verifying import verify_archive

    bar: Any = None
    if sys.stderr.isatty() and not options.json:
        from tqdm import tqdm

        bar = tqdm(unit=" tiles", file=sys.stderr)
    try:
        verdict = await verify_archive(
            options.archive,
            lambda seen: None if bar is None else bar.update(seen - bar.n),
            decode=options.decode,
        )
    finally:
        if bar is not None:
            bar.close()
    if options.json:
        print(json.dumps(_record(verdict)))
    else:
        _show(verdict, decode=options.decode)
    return exit_codes.COMPLETE if verdict.is_fine else exit_codes.DIFFERENT


def _record(verdict: "Verdict") -> dict[str, object]:
    return {
        "fine": verdict.is_fine,
        "tiles": verdict.tiles,
        "by_zoom": {str(zoom): count for zoom, count in sorted(verdict.by_zoom.items())},
        "kinds": verdict.kinds,
        "decoded": verdict.decoded,
        "wrong": verdict.wrong,
        "damaged": verdict.damaged,
        "named": [{"tile": str(tile_id), "cause": cause} for tile_id, cause in verdict.named],
    }


def _show(verdict: "Verdict", *, decode: bool) -> None:
    for sentence in verdict.wrong:
        print(f"wrong: {shown(sentence)}")
    for tile_id, cause in verdict.named:
        print(f"damaged {tile_id} {cause}")
    more = verdict.damaged - len(verdict.named)
    if more:
        print(f"and {plural(more, 'damaged tile')} more")
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(verdict.kinds.items()))
    word = "fine" if verdict.is_fine else "not fine"
    decoded = f", {verdict.decoded:,} decoded" if decode else ""
    print(f"{word}: {plural(verdict.tiles, 'tile')} read{decoded}: {kinds or 'none'}")
