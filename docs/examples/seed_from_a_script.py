"""Seed 1,000 tiles from a plain script: progress, a stop in the middle, what is missing, reading back.

To try it, on a server of this machine that takes 10 ms for a tile:

    tilehaul mock --port 8001 --latency-ms 10
    python seed_from_a_script.py 'http://127.0.0.1:8001/{z}/{x}/{y}.png' world.mbtiles

No async, no signal handlers, no thread left behind: it works the same in an add-on or a notebook.
"""

import sys
import threading
from itertools import islice

import tilehaul
from tilehaul import blocking


def main(source: str, store: str) -> None:
    world = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(6))
    area = tilehaul.Area.from_tiles(islice(world, 1000))
    stop_button = threading.Event()

    def progress(event: object) -> None:
        # Called in this thread, so that it may touch the window of an add-on.
        if isinstance(event, tilehaul.Progress):
            print(f"  {event.done} of {event.planned} tiles, {event.rate_per_s:.0f} a second")
            if event.done >= 250:
                stop_button.set()  # from here, from a button, from another thread: all the same

    print("first run")
    report = blocking.seed(source, store, area, progress=progress, cancel=stop_button)
    print(f"{report.state}: {report.done} tiles are kept, {report.requests} requests")

    missing = list(blocking.missing(store, area))
    print(f"{len(missing)} tiles are missing, the first is {missing[0] if missing else None}")

    print("second run")
    report = blocking.seed(source, store, area, timeout=300)
    print(f"{report.state}: {report.done} tiles are kept, {report.requests} requests")
    print(f"{len(list(blocking.missing(store, area)))} tiles are missing")

    with blocking.open(store) as archive:
        total_bytes = 0
        for tile_id in area:
            tile = archive.get(tile_id)
            if isinstance(tile, tilehaul.Tile):
                total_bytes += len(tile.body)
        print(f"{tile_id} is {tile.media_type if isinstance(tile, tilehaul.Tile) else 'no tile'}")
    print(f"{total_bytes} bytes read back")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
