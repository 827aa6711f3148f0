"""What people wait for whose tiles are in no cache: batches, a crowd, many tiles, an origin that is down.

    python benchmarks/serving_cold.py [--rounds 5] [--outage-s 20]

`tilehaul serve` over an XYZ origin (`tilehaul mock`, 50 ms an answer, tiles of 15 kB), each in a process of
its own. Tiles are fresh ones in every sample, connections are open before it. The origin counts what it is
asked, tile by tile, and its peak. Times are taken at the client (`cold_clients.py`, in this process). Nothing
beyond Python is needed.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import tables
from cold_clients import Answer, ask_all, ask_at_once, connections
from cold_outage import LATENCY_MS, outages
from origin import TILE_BYTES_MEAN, Running, slow_mock, tilehaul
from tilehaul.net.loops import new_loop

SAMPLES = 40
CROWD = 1_000
MANY, MANY_CLIENTS = 10_000, 200
RSS_MB_MAX = 300.0
# A lane finds its limit itself, from 4 on: so many batches bring it to where it stays.
WARMING = 30
Row = tuple[str, str, str, bool]


@dataclass(slots=True)
class Bench:
    """The two servers, and tiles nobody has asked for yet."""

    service: Running
    origin: Running
    asked: int = 0

    def fresh(self, count: int) -> list[str]:
        """Addresses Z/X/Y.EXT."""
        numbers = range(self.asked, self.asked + count)
        self.asked += count
        return [f"14/{number % (1 << 14)}/{number >> 14}.png" for number in numbers]

    def batch(self, layer: str, count: int) -> str:
        return f"/api/tiles/{layer}/batch?" + "&".join(f"tiles={tile}" for tile in self.fresh(count))

    def seen(self) -> dict[str, Any]:
        """What the origin saw since the last look."""
        seen: dict[str, Any] = json.load(urlopen(f"{self.origin.url}/_/stats"))
        urlopen(Request(f"{self.origin.url}/_/reset", method="POST")).read()
        return seen

    def lane_most(self, layer: str) -> int:
        stats: dict[str, int] = json.load(urlopen(f"{self.service.url}/api/tiles/{layer}/cache-stats"))
        return stats["thread_workers"]


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """`wide`: as many at once as a batch may name; `usual`: the default, 32."""
    with tempfile.TemporaryDirectory() as folder, slow_mock(LATENCY_MS) as (origin, told):
        # Two names of one host, so that the layers have a lane each.
        other = told["template"].replace("127.0.0.1", "localhost")
        config = Path(folder) / "layers.yaml"
        layers = {"wide": {"source": told["template"], "concurrency": 100}, "usual": {"source": other}}
        config.write_text(json.dumps({"layers": layers}))
        with tilehaul("serve", "--config", str(config), "--port", "0") as (service, _):
            yield Bench(service, origin)


def whole(answer: Answer) -> Answer:
    """The answer to one tile; one that is not what the origin sends ends the benchmark."""
    if answer.status != 200 or len(answer.body) != TILE_BYTES_MEAN:
        raise SystemExit(f"status {answer.status} with {len(answer.body)} bytes: {answer.body[:200]!r}")
    return answer


def ms(answers: list[Answer], share: float = 0.5) -> float:
    return tables.share_of([answer.took_s for answer in answers], share) * 1000.0


async def batches(at: Bench) -> list[Row]:
    """Batches and single tiles, one after another on one connection."""
    rows: list[Row] = []
    async with connections(at.origin.url, 1) as [direct]:
        alone = [whole(await direct.send(f"/{at.fresh(1)[0]}")) for _ in range(SAMPLES)]
    async with connections(at.service.url, 1) as [client]:

        async def sampled(layer: str, count: int) -> list[Answer]:
            answers = []
            for _ in range(SAMPLES):
                answer = await client.send(at.batch(layer, count))
                if answer.status != 200 or json.loads(answer.body)["count"] != count:
                    raise SystemExit(f"a batch of {count}: status {answer.status}, {answer.body[:200]!r}")
                answers.append(answer)
            return answers

        for layer in ("wide", "usual"):
            for _ in range(WARMING):
                await client.send(at.batch(layer, 100))
        for layer, count, aim in (("usual", 10, 60), ("wide", 50, 70), ("usual", 50, None)):
            got = await sampled(layer, count)
            # Without `concurrency:` no more than 32 are asked for at once, so fifty take two turns.
            name = f"batch of {count} cold tiles, p50" + ("" if aim else ", 32 at once")
            aim_ms = aim or 2 * LATENCY_MS + 20
            told = f"{ms(got):.0f} ms (p99 {ms(got, 0.99):.0f})"
            rows.append((name, f"<= {aim_ms} ms", told, ms(got) <= aim_ms))
        single = [whole(await client.send(f"/api/tiles/wide/{at.fresh(1)[0]}")) for _ in range(SAMPLES)]
    added_ms = ms(single) - ms(alone)
    told = f"{ms(single):.1f} - {ms(alone):.1f} = {added_ms:.1f} ms"
    return [*rows, ("single cold tile, p50, less the origin's own", "<= 3 ms", told, added_ms <= 3)]


async def crowd(at: Bench, rounds: int) -> list[Row]:
    """A thousand clients on one cold tile, and the same on one in memory: what this process itself needs."""
    p99s, warm, requests, cpu_us = [], [], 0, []
    async with connections(at.service.url, CROWD) as clients:
        for number in range(rounds + 1):
            path = f"/api/tiles/wide/{at.fresh(1)[0]}"
            at.seen()
            before_s = at.service.cpu_s()
            cold = [whole(answer) for answer in await ask_at_once(clients, path)]
            used_s = at.service.cpu_s() - before_s
            asked = int(at.seen()["requests"])
            again = [whole(answer) for answer in await ask_at_once(clients, path)]
            if number:  # the first is of clients that have never asked for anything
                p99s.append(ms(cold, 0.99))
                warm.append(ms(again, 0.99))
                cpu_us.append(used_s / CROWD * 1e6)
            requests = max(requests, asked)
    got = statistics.median(p99s)
    used = f"CPU {statistics.median(cpu_us):.0f} us a client"
    told = f"{tables.spread(p99s)} ms (in memory {tables.spread(warm)}; {used})"
    return [
        (f"{CROWD:,} clients on one cold tile: requests to the origin", "1", str(requests), requests == 1),
        ("the same: p99", f"<= {LATENCY_MS + 50} ms", told, got <= LATENCY_MS + 50),
    ]


async def many(at: Bench) -> list[Row]:
    """Ten thousand tiles by two hundred clients, through a lane as it is by default."""
    at.seen()
    begun_s = asyncio.get_running_loop().time()
    async with connections(at.service.url, MANY_CLIENTS) as clients:
        answers = await ask_all(clients, [f"/api/tiles/usual/{tile}" for tile in at.fresh(MANY)])
    took_s = asyncio.get_running_loop().time() - begun_s
    good = sum(answer.status == 200 and len(answer.body) == TILE_BYTES_MEAN for answer in answers)
    seen, most = at.seen(), at.lane_most("usual")
    told = f"{good:,} in {took_s:.1f} s, p99 {ms(answers, 0.99):.0f} ms"
    peak = int(seen["peak_in_flight"])
    once = seen["requests"] == seen["tiles_seen"] == MANY
    return [
        (f"{MANY:,} cold tiles by {MANY_CLIENTS} clients: answered", f"{MANY:,}", told, good == MANY),
        ("the same: asked of the origin once each", f"{MANY:,}", f"{seen['requests']:,}", once),
        ("the same: most at the origin at once", f"<= {most}", str(peak), peak <= most),
    ]


def memory(at: Bench) -> list[Row]:
    """The most memory the service ever had, after all of the above."""
    peak_mb = at.service.peak_mb()
    return [
        ("the service's memory, peak", f"< {RSS_MB_MAX:.0f} MB", f"{peak_mb:.0f} MB", peak_mb < RSS_MB_MAX)
    ]


async def _all(rounds: int, outage_s: float) -> list[Row]:
    rows: list[Row] = []

    async def part(what: Callable[[], Coroutine[Any, Any, list[Row]]]) -> None:
        for row in await what():
            rows.append(row)
            print(f"  {row[0]}: {row[2]} (aim {row[1]})", file=sys.stderr, flush=True)

    async with bench() as at:
        await part(lambda: batches(at))
        await part(lambda: crowd(at, rounds))
    # Another service, so that its memory is of this load alone.
    async with bench() as at:
        await part(lambda: many(at))
        rows += memory(at)
    await part(lambda: outages(rounds=max(1, rounds // 2), outage_s=outage_s))
    return rows


def measure(*, rounds: int, outage_s: float) -> str:
    """The table of what is cold."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return tables.aims(runner.run(_all(rounds, outage_s)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of the crowd; half as many outages")
    parser.add_argument("--outage-s", type=float, default=20.0)
    asked = parser.parse_args()
    print(measure(rounds=asked.rounds, outage_s=asked.outage_s))


if __name__ == "__main__":
    main()
