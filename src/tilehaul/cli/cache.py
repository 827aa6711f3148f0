"""`tilehaul cache`: what the service's disk cache holds, and emptying it."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tilehaul.cli import exit_codes
from tilehaul.cli.common import add_area_flags, add_command, plural, run_async, size_text
from tilehaul.cli.copy import area_within
from tilehaul.errors import PlanError

if TYPE_CHECKING:
    from tilehaul.grid.tile_id import TileId
    from tilehaul.stores.disk_cache import DiskCache

_EXAMPLES = """\
  tilehaul cache info ./cache                               tiles and bytes by layer and zoom
  tilehaul cache purge ./cache --layer satellite            all of one layer
  tilehaul cache purge ./cache --bbox=5,44,17,48 -z 12-18   a region of every layer

FOLDER is `cache.path` of the service. It may run meanwhile: what it has in memory stays until it is stale,
`DELETE /api/tiles/LAYER/cache` empties that too.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        subparsers,
        "cache",
        summary="look into the disk cache of `tilehaul serve`, or empty it",
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("action", choices=("info", "purge"), help="look, or drop tiles")
    parser.add_argument("folder", metavar="FOLDER", help="where the cache lies")
    parser.add_argument("--layer", action="append", metavar="NAME", help="this layer only; repeatable")
    add_area_flags(parser, otherwise="everything there is")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(options: argparse.Namespace) -> int:
    from tilehaul.stores.disk_cache import DiskCache
    from tilehaul.stores.disk_cache_file import FILE_NAME

    folder = Path(options.folder)
    if not (folder / FILE_NAME).is_file():
        raise PlanError(f"{folder}: there is no disk cache ({FILE_NAME}) in this folder")
    within = area_within(options)
    if options.action == "info" and within is not None:
        raise PlanError("`cache info` counts whole layers: leave out the area")
    wanted: Callable[[TileId], bool] = (lambda _: True) if within is None else within.__contains__
    # Its own limit is the service's: looked at without one, nothing is evicted.
    return run_async(lambda: _act(options, DiskCache(folder, NO_LIMIT_BYTES, wall_s=time.time), wanted))


# More than any disk has: 2^62.
NO_LIMIT_BYTES = 1 << 62


async def _act(options: argparse.Namespace, cache: "DiskCache", wanted: "Callable[[TileId], bool]") -> int:
    await cache.open()
    try:
        sizes = await cache.sizes()
        unknown = sorted(set(options.layer or ()) - sizes.keys())
        if unknown:
            there = ", ".join(sizes) or "none"
            raise PlanError(f"the cache has no tile of a layer {unknown[0]}: it has those of {there}")
        layers = options.layer or list(sizes)
        if options.action == "info":
            _show({layer: sizes[layer] for layer in layers}, as_json=options.json)
            return exit_codes.COMPLETE
        forgotten = {layer: await cache.forget(layer, wanted) for layer in layers}
    finally:
        await cache.aclose()
    if options.json:
        print(json.dumps({"forgotten": forgotten}))
    else:
        for layer, count in forgotten.items():
            print(f"{layer}: {plural(count, 'tile')} dropped")
    return exit_codes.COMPLETE


def _show(sizes: dict[str, dict[int, tuple[int, int]]], *, as_json: bool) -> None:
    if as_json:
        told = {
            layer: {str(zoom): {"tiles": tiles, "bytes": size} for zoom, (tiles, size) in by_zoom.items()}
            for layer, by_zoom in sizes.items()
        }
        print(json.dumps({"layers": told}))
        return
    for layer, by_zoom in sizes.items():
        for zoom, (tiles, size) in by_zoom.items():
            print(f"{layer}  zoom {zoom:>2}  {tiles:>12,}  {size_text(size):>10}")
        tiles, size = (sum(pair[at] for pair in by_zoom.values()) for at in (0, 1))
        print(f"{layer}  in all   {tiles:>12,}  {size_text(size):>10}")
    if not sizes:
        print("empty")
