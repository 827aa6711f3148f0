"""The server that seeding.py seeds from, in a process of its own: Blue Marble, 50 ms an answer.

    python benchmarks/seeding_origin.py ZOOM_MAX DIGESTS.json [faulty]

All tiles are cut before it listens, so that a client waits for latency and not for Pillow; the digest of
each goes into DIGESTS.json. `faulty`: one tile is 404 and one 500 for good, 2 % of requests are 500 or 503.
Prints its address; ends with its standard input.
"""

import json
import sys
from pathlib import Path

from tilehaul.grid.tile_id import TileId
from tilehaul.lab import mock_origin
from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import Faults, Judge, Latency, Verdict
from tilehaul.lab.mock import MockServer, MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.lab.tile_bodies import TileBodies

LATENCY_MS = 50.0
FORMAT = "jpg"
ABSENT = TileId(4, 5, 6)
BROKEN = TileId(4, 9, 3)
TRANSIENT = {500: 0.01, 503: 0.01}


class BrokenTile(Judge):
    """One tile is 500 however often it is asked for: shares draw anew at each request."""

    __slots__ = ()

    def decide(self, tile_id: TileId, attempt: int) -> Verdict:
        verdict = super().decide(tile_id, attempt)
        return Verdict(500, None, verdict.delay_s) if tile_id == BROKEN else verdict


class WarmServer(MockServer):
    """Has every tile ready before the first request."""

    zoom_max = 0
    digests: Path

    def _load_bodies(self) -> TileBodies:
        bodies, digests = super()._load_bodies(), {}
        for z in range(self.zoom_max + 1):
            for x in range(1 << z):
                for y in range(1 << z):
                    tile_id = TileId(z, x, y)
                    made = bodies.make(tile_id, FORMAT)
                    bodies.keep(tile_id, FORMAT, made)
                    digests[str(tile_id)] = made.etag.strip('"')
        self.digests.write_text(json.dumps(digests), encoding="utf-8")
        return bodies


class WarmThread(MockThread):
    def __init__(self, server: MockServer) -> None:
        super().__init__()
        self._inner = server


def main() -> None:
    settings = MockSettings(tiles="imagery", faults=Faults(latency=Latency(LATENCY_MS)))
    if "faulty" in sys.argv[3:]:
        mock_origin.Judge = BrokenTile
        settings = MockSettings(
            tiles="imagery",
            faults=Faults(latency=Latency(LATENCY_MS), errors=TRANSIENT),
            absence=Absence(when=lambda tile_id: tile_id == ABSENT),
            seed=1,
        )
    server = WarmServer(settings)
    server.zoom_max, server.digests = int(sys.argv[1]), Path(sys.argv[2])
    with WarmThread(server) as running:
        print(running.base_url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
