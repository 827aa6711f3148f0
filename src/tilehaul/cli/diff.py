"""`tilehaul diff`: which tiles of two archives differ."""

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from tilehaul.cli import exit_codes
from tilehaul.cli.common import add_area_flags, add_command, plural, run_async
from tilehaul.cli.copy import area_within

if TYPE_CHECKING:
    from tilehaul.grid.area import Area
    from tilehaul.jobs.compare import Difference, Sort, ZoomDifference

_EXAMPLES = """\
  tilehaul diff old.mbtiles new.pmtiles
  tilehaul diff tiles/ world.mbtiles -z 0-8 --json

exit codes: 0 the same, 1 different or with damaged tiles, 2 usage or too damaged to be listed, 5 local disk
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        subparsers, "diff", summary="say which tiles of two archives differ", examples=_EXAMPLES, run=run
    )
    parser.add_argument("a", metavar="A", help="an archive")
    parser.add_argument("b", metavar="B", help="another")
    add_area_flags(parser, otherwise="everything there is")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(options: argparse.Namespace) -> int:
    within = area_within(options)
    return run_async(lambda: _diff(options, within))


async def _diff(options: argparse.Namespace, within: "Area | None") -> int:
    from tilehaul.jobs.compare import compare
    from tilehaul.wiring.places import open_archive

    a = open_archive(options.a)
    try:
        b = open_archive(options.b)
        try:
            found = await compare(a, b, lambda tile_id: within is None or tile_id in within)
        finally:
            await b.close()
    finally:
        await a.close()
    if options.json:
        print(json.dumps(_record(found)))
    else:
        _show(found, options.a, options.b)
    return exit_codes.COMPLETE if found.is_same else exit_codes.DIFFERENT


def _record(found: "Difference") -> dict[str, object]:
    return {
        "same": found.is_same,
        "by_zoom": {str(zoom): asdict(counts) for zoom, counts in sorted(found.by_zoom.items())},
        "tiles": {sort: [str(tile_id) for tile_id in tiles] for sort, tiles in found.named.items()},
    }


def _show(found: "Difference", a: str, b: str) -> None:
    words: dict[Sort, str] = {
        "only_a": f"only in {a}",
        "only_b": f"only in {b}",
        "different": "different",
        "damaged_a": f"damaged in {a}",
        "damaged_b": f"damaged in {b}",
    }
    for sort, word in words.items():
        for tile_id in found.named[sort]:
            print(f"{word}: {tile_id}")
        more = found.count(sort) - len(found.named[sort])
        if more:
            print(f"{word}: and {plural(more, 'tile')} more")
    for zoom, counts in sorted(found.by_zoom.items()):
        print(
            f"  zoom {zoom:>2}  {counts.same:,} same, {counts.different:,} different,"
            f" {counts.only_a:,} only in A, {counts.only_b:,} only in B{_damage(counts)}"
        )
    print("the same tiles" if found.is_same else "not the same tiles")


def _damage(counts: "ZoomDifference") -> str:
    """Told only where there is any: it is no part of a comparison that went well."""
    sides = (("A", counts.damaged_a), ("B", counts.damaged_b))
    return "".join(f", {count:,} damaged in {side}" for side, count in sides if count)
