"""An origin that dies under a warmed service, and comes back: part of `serving_cold.py`."""

import asyncio
import json
import os
import signal
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import tables
from cold_clients import Answer, Connection, ask_all, connections
from origin import TILE_BYTES_MEAN, free_port, tilehaul

LATENCY_MS = 50
TILES, CLIENTS = 1_000, 50
FRESH_S = 2
STALE_MS_MAX, RECOVERY_S_MAX = 50.0, 10.0
# While the origin is down and while it comes back somebody asks this often.
ASK_EVERY_S = 0.05
RECOVERY_S_GIVEN_UP = 150.0
Row = tuple[str, str, str, bool]

# What a layer does with a stale tile: gives it at once and renews it meanwhile (the default, for a minute),
# or asks the origin first, as it does after that minute.
LAYERS = {
    "at once": {"name": "given", "settings": {}},
    "asked first": {"name": "asked", "settings": {"stale_while_revalidate": 0}},
}


def mock_words(port: int) -> tuple[str, ...]:
    latency = ("--latency-ms", str(LATENCY_MS), "--latency-distribution", "fixed")
    return ("mock", "--port", str(port), "--tile-bytes", str(TILE_BYTES_MEAN), *latency)


async def outages(*, rounds: int, outage_s: float) -> list[Row]:
    """`rounds` outages of `outage_s` seconds each, of one service."""
    port, stale, recovery_s = free_port(), {name: [] for name in LAYERS}, []
    lost = 0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        config = Path(folder) / "layers.yaml"
        source = f"http://127.0.0.1:{port}/{{z}}/{{x}}/{{y}}.png"
        layers = {
            layer["name"]: {"source": source, "max_age": FRESH_S, **layer["settings"]}
            for layer in LAYERS.values()
        }
        config.write_text(json.dumps({"layers": layers}))
        origin = stack.enter_context(tilehaul(*mock_words(port)))[0]
        service, _ = stack.enter_context(tilehaul("serve", "--config", str(config), "--port", "0"))
        async with connections(service.url, CLIENTS) as clients:
            for _ in range(rounds):
                for layer in LAYERS.values():
                    await ask_all(clients, paths(layer["name"]))
                await asyncio.sleep(FRESH_S + 0.5)
                os.kill(origin.pid, signal.SIGKILL)
                ends_s = time.monotonic() + outage_s
                for name, layer in LAYERS.items():
                    answers = await ask_all(clients, paths(layer["name"]))
                    lost += sum(not is_tile(answer) for answer in answers)
                    stale[name] += [answer.took_s * 1000.0 for answer in answers]
                while time.monotonic() < ends_s:
                    lost += not is_tile(await clients[0].send(paths("asked")[0]))
                    await asyncio.sleep(ASK_EVERY_S)
                origin = stack.enter_context(tilehaul(*mock_words(port)))[0]
                recovery_s.append(await first_fresh_s(clients[0]))
    rows = [
        (
            f"origin down, stale tiles {name}: p99 of {len(times):,}",
            f"<= {STALE_MS_MAX:.0f} ms",
            f"{tables.share_of(times, 0.99):.0f} ms (most {max(times):.0f})",
            tables.share_of(times, 0.99) <= STALE_MS_MAX,
        )
        for name, times in stale.items()
    ]
    rows.append(("the same: warmed tiles not answered", "0", str(lost), lost == 0))
    worst_s = max(recovery_s)
    told = f"{tables.spread(recovery_s, 1)} s"
    rows.append(
        (
            f"first fresh tile after {outage_s:.0f} s of it",
            f"<= {RECOVERY_S_MAX:.0f} s",
            told,
            worst_s <= RECOVERY_S_MAX,
        )
    )
    return rows


def paths(layer: str) -> list[str]:
    return [f"/api/tiles/{layer}/12/{number}/7.png" for number in range(TILES)]


def is_tile(answer: Answer) -> bool:
    return answer.status == 200 and len(answer.body) == TILE_BYTES_MEAN


async def first_fresh_s(client: Connection) -> float:
    """Seconds from now until a tile comes from the origin again."""
    begun_s = time.monotonic()
    path = paths("asked")[0]
    while (took_s := time.monotonic() - begun_s) < RECOVERY_S_GIVEN_UP:
        answer = await client.send(path)
        if is_tile(answer) and answer.field("x-tile-source") == "origin":
            return time.monotonic() - begun_s
        await asyncio.sleep(ASK_EVERY_S)
    return took_s
