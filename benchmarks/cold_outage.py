"""An origin that dies or hangs under a warmed service, and comes back: part of `serving_cold.py`."""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.request import Request, urlopen

import tables
from cold_clients import Answer, Connection, ask_all, connections
from origin import TILE_BYTES_MEAN, Running, free_port, tilehaul

LATENCY_MS = 50
TILES, CLIENTS = 1_000, 50
FRESH_S = 2
STALE_MS_MAX, RECOVERY_S_MAX = 50.0, 10.0
# While the origin is down and while it comes back somebody asks this often.
ASK_EVERY_S = 0.05
RECOVERY_S_GIVEN_UP = 150.0
WARMINGS = 50
Row = tuple[str, str, str, bool]

# What a layer does with a stale tile: gives it at once and renews it meanwhile (the default, for a minute),
# or asks the origin first, as it does after that minute.
LAYERS: dict[str, dict[str, int]] = {"given": {}, "asked": {"stale_while_revalidate": 0}}
WORDS = {"given": "stale tiles given at once", "asked": "stale tiles, origin asked first"}


class Outages:
    """One service with both layers, and what was seen of it."""

    def __init__(self, service: Running, clients: Sequence[Connection]) -> None:
        self.service = service
        self.clients = clients
        self.lost = 0
        self.times_ms: dict[tuple[str, str], list[float]] = {}

    async def warm(self) -> None:
        """Every tile of both layers has just been fetched, and is no longer fresh."""
        for layer in LAYERS:
            # Else those that are stale would be given, and not all of them renewed.
            urlopen(Request(f"{self.service.url}/api/tiles/{layer}/cache", method="DELETE")).close()
            # Of an origin that has just come back one tile at a time is asked for until a few have come.
            for _ in range(WARMINGS):
                if all(map(is_tile, await ask_all(self.clients, paths(layer)))):
                    break
                await asyncio.sleep(ASK_EVERY_S)
            else:
                raise SystemExit("the service could not be warmed")
        await asyncio.sleep(FRESH_S + 0.5)

    async def ask(self, how: str) -> None:
        """For every tile of both layers."""
        for layer in LAYERS:
            answers = await ask_all(self.clients, paths(layer))
            self.lost += sum(not is_tile(answer) for answer in answers)
            times = self.times_ms.setdefault((how, layer), [])
            times += [answer.took_s * 1000.0 for answer in answers]

    async def ask_until(self, ends_s: float) -> None:
        while time.monotonic() < ends_s:
            self.lost += not is_tile(await self.clients[0].send(paths("asked")[0]))
            await asyncio.sleep(ASK_EVERY_S)

    async def first_fresh_s(self) -> float:
        """Seconds from now until a tile comes from the origin again."""
        begun_s = time.monotonic()
        while (took_s := time.monotonic() - begun_s) < RECOVERY_S_GIVEN_UP:
            answer = await self.clients[0].send(paths("asked")[0])
            if is_tile(answer) and answer.field("x-tile-source") == "origin":
                return time.monotonic() - begun_s
            await asyncio.sleep(ASK_EVERY_S)
        return took_s

    def rows(self) -> list[Row]:
        rows = []
        for (how, layer), times in self.times_ms.items():
            p99 = tables.share_of(times, 0.99)
            told = f"{p99:.0f} ms (p50 {tables.share_of(times, 0.5):.0f}, most {max(times):.0f})"
            rows.append(
                (f"origin {how}, {WORDS[layer]}: p99", f"<= {STALE_MS_MAX:.0f} ms", told, p99 <= STALE_MS_MAX)
            )
        return [
            *rows,
            ("warmed tiles that were not answered with their bytes", "0", str(self.lost), self.lost == 0),
        ]


async def outages(*, rounds: int, outage_s: float) -> list[Row]:
    """`rounds` outages of `outage_s` seconds each, of one service; then one in which the origin hangs."""
    port, recovery_s = free_port(), []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        config = Path(folder) / "layers.yaml"
        source = f"http://127.0.0.1:{port}/{{z}}/{{x}}/{{y}}.png"
        layers = {name: {"source": source, "max_age": FRESH_S, **more} for name, more in LAYERS.items()}
        config.write_text(json.dumps({"layers": layers}))
        origin = stack.enter_context(tilehaul(*mock_words(port)))[0]
        service, _ = stack.enter_context(tilehaul("serve", "--config", str(config), "--port", "0"))
        async with connections(service.url, CLIENTS) as clients:
            seen = Outages(service, clients)
            for number in range(rounds):
                print(f"  outage {number + 1} of {rounds}", file=sys.stderr, flush=True)
                await seen.warm()
                os.kill(origin.pid, signal.SIGKILL)
                ends_s = time.monotonic() + outage_s
                await seen.ask("down")
                await seen.ask_until(ends_s)
                origin = stack.enter_context(tilehaul(*mock_words(port)))[0]
                recovery_s.append(await seen.first_fresh_s())
            await seen.warm()
            os.kill(origin.pid, signal.SIGSTOP)
            try:
                await seen.ask("hangs")
            finally:
                os.kill(origin.pid, signal.SIGCONT)
    met = max(recovery_s) <= RECOVERY_S_MAX
    what = f"first fresh tile after {outage_s:.0f} s without an origin"
    return [*seen.rows(), (what, f"<= {RECOVERY_S_MAX:.0f} s", f"{tables.spread(recovery_s, 1)} s", met)]


def mock_words(port: int) -> tuple[str, ...]:
    latency = ("--latency-ms", str(LATENCY_MS), "--latency-distribution", "fixed")
    return ("mock", "--port", str(port), "--tile-bytes", str(TILE_BYTES_MEAN), *latency)


def paths(layer: str) -> list[str]:
    return [f"/api/tiles/{layer}/12/{number}/7.png" for number in range(TILES)]


def is_tile(answer: Answer) -> bool:
    return answer.status == 200 and len(answer.body) == TILE_BYTES_MEAN
