"""`tilehaul demo`: the main job, on real imagery, from a server that misbehaves, to a map."""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tilehaul.cli import exit_codes
from tilehaul.cli.common import add_command, concurrency, run_async
from tilehaul.errors import FuseError, TilehaulError

if TYPE_CHECKING:
    from tilehaul.lab.faults import Faults
    from tilehaul.lab.mock import MockServer
    from tilehaul.wiring.layers import Layers

_EXAMPLES = """\
  tilehaul demo                    seed, report, then a map page until Ctrl-C
  tilehaul demo --once             end after one served tile has been checked (for CI)
  tilehaul demo --store world.mbtiles --port 8080

The tile server is tilehaul's own, on this machine: NASA's Blue Marble, cut into tiles as they are asked
for, with delays, errors, bursts of "too many requests" and damaged answers. Nothing leaves the machine.
"""
# The world: the map page then has no edges that a person would take for a fault.
BBOX_DEG = (-180.0, -85.0, 180.0, 85.0)
ZOOM_MAX = 6
CHECKED_TILE = "3/4/2"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        subparsers,
        "demo",
        summary="show the main job on real imagery: a faulty server, an archive, a map",
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("--once", action="store_true", help="end after checking one served tile")
    parser.add_argument("--store", metavar="FILE", help="keep the archive here (default: a temporary file)")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="of the map page (default: free)")
    parser.add_argument("--mock-port", type=int, default=0, metavar="N", help="of the tile server")
    parser.add_argument("-c", "--concurrency", type=concurrency, metavar="N", help="cap (default: 32)")
    parser.add_argument("--seed", type=int, default=7, metavar="N", help="of the faults (default: 7)")


def run(options: argparse.Namespace) -> int:
    return run_async(lambda: _demo(options))


def demo_faults() -> "Faults":
    """Latency with jitter, 5 % 5xx, bursts of 429 with Retry-After, some truncated bodies."""
    from tilehaul.lab.faults import Bursts, Faults, Latency, RetryAfter

    return Faults(
        latency=Latency(ms=40.0, jitter_ms=15.0, distribution="normal"),
        errors={500: 0.02, 502: 0.02, 504: 0.01},
        shares={"short_length": 0.005, "cut_close": 0.005, "cut_chunked": 0.005, "reset_mid": 0.005},
        burst_429=Bursts(every_s=3.0, for_s=0.3),
        retry_after=RetryAfter(delay_s=1.0),
    )


async def _demo(options: argparse.Namespace) -> int:
    from tilehaul.lab.mock import MockServer
    from tilehaul.lab.mock_settings import MockSettings
    from tilehaul.server.listener import listen

    # Now, and not after the seed: a port in use would throw the seeded tiles away.
    listen("127.0.0.1", options.port, backlog=1).close()
    mock = MockSettings(tiles="imagery", port=options.mock_port, seed=options.seed, faults=demo_faults())
    with _store_file(options.store) as store:
        async with MockServer(mock) as origin:
            code = await _seed_and_serve(options, origin, store)
    return code


@contextlib.contextmanager
def _store_file(wanted: str | None) -> Iterator[str]:
    if wanted is not None:
        yield wanted
        return
    with tempfile.TemporaryDirectory(prefix="tilehaul-demo-") as folder:
        yield str(Path(folder) / "demo.mbtiles")


async def _seed_and_serve(options: argparse.Namespace, origin: "MockServer", store: str) -> int:
    from tilehaul.cli.job import listen
    from tilehaul.cli.watching import Watcher, report_text
    from tilehaul.config.sending import Sending
    from tilehaul.grid.area import Area
    from tilehaul.jobs.stop import Stop
    from tilehaul.wiring.seeding import SeedOptions, seed

    west, south, east, north = BBOX_DEG
    area = Area.from_bbox(west, south, east, north, zooms=range(ZOOM_MAX + 1))
    _say(f"tile server: {origin.template}  (slow, 5 % errors, bursts of 429, damaged bodies)")
    _say(f"seeding {area.count():,} tiles, zoom 0-{ZOOM_MAX}, into {store}")
    wanted = SeedOptions(sending=Sending(concurrency=options.concurrency))
    watcher = Watcher(quiet=False, as_json=False, max_wait_s=wanted.sending.max_wait_s)
    stop = Stop()
    listen(stop, watcher)
    try:
        report = await seed(origin.template, store, area, options=wanted, watch=watcher, stop=stop)
    except FuseError as error:
        _say(f"tilehaul: {error}")
        return exit_codes.STOPPED
    finally:
        watcher.close()
    _say(f"\n{report.state}:\n{report_text(report)}\n")
    if report.state == "interrupted":
        return exit_codes.INTERRUPTED
    return await _serve(options, origin, store)


async def _serve(options: argparse.Namespace, origin: "MockServer", store: str) -> int:
    from tilehaul.config.settings import LayerSettings, ServerSettings, Settings
    from tilehaul.wiring.layers import open_layers

    settings = Settings(
        layers={
            "archive": LayerSettings(source=store, title="Blue Marble, seeded", attribution="NASA"),
            "live": LayerSettings(
                source=origin.template, title="Blue Marble, live", attribution="NASA", max_zoom=8
            ),
        },
        server=ServerSettings(port=options.port),
    )
    async with open_layers(settings) as opened:
        return await _show(options, origin, opened, settings.server.port)


async def _show(options: argparse.Namespace, origin: "MockServer", opened: "Layers", port: int) -> int:
    import asyncio

    from tilehaul.cli.common import until_signal
    from tilehaul.net.clock import SystemClock
    from tilehaul.server.app import Server, make_app

    app = make_app(opened.layers, opened.caches.memory, clock=SystemClock())
    async with Server(app, port=port) as server:
        url = f"{server.url}/api/tiles/archive/{CHECKED_TILE}.jpg"
        served = await asyncio.to_thread(_get, url)
        if served != origin.body_of(CHECKED_TILE):
            raise TilehaulError(f"{url} is not the tile that the origin has")
        _say(f"checked: the served tile {CHECKED_TILE} has the origin's {len(served):,} bytes")
        if options.once:
            return exit_codes.COMPLETE
        _say(f"\nthe map: {server.url}/   (Ctrl-C ends)")
        await until_signal()
    return exit_codes.COMPLETE


def _get(url: str) -> bytes:
    from urllib.request import urlopen

    with urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server, on loopback
        return bytes(answer.read())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
