"""The benchmark: one source, rising concurrency, honest figures.

Little's law (J. D. C. Little, 1961): with `c` requests always under way that each take `w` seconds, the
rate is `c / w` and cannot be more. `w` is the mean time from sending to the last byte of attempts that ended
well, without waits between attempts (of an archive: of the whole answer), the lowest of this level and those
before it: a source that had to warm up does not flatter what follows. So `limit_share` says how much of what
the source allows the engine gets. A source that slows down under load lowers it as well.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from tilehaul.config.sending import Sending
from tilehaul.errors import BusyError, DataError, PlanError, TransferError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.tile_stats import percentile_ms
from tilehaul.policy.tally import Tally
from tilehaul.ports.source import TileSource
from tilehaul.ports.tile import Tile
from tilehaul.wiring.checking import check_location
from tilehaul.wiring.places import open_source

LEVELS = (1, 5, 10, 20, 50)
TILE_COUNT_DEFAULT = 200
TILE_COUNT_MAX = 1_000_000
# Requests made before the clock starts, so that no level pays for opening connections.
WARM_UP_PER_WORKER = 1


@dataclass(frozen=True, slots=True)
class Level:
    """One concurrency level.

    `latency` percentiles in milliseconds, of tiles that came, from asking to having (retries included).
    `limit_per_s` is Little's limit, 0.0 when the base latency is not known; `speed_up` is against
    concurrency 1. `errors` counts tiles that failed for good, by cause.
    """

    concurrency: int
    tiles: int
    absent: int
    failed: int
    retried: int
    elapsed_s: float
    rate_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    limit_per_s: float
    limit_share: float
    speed_up: float
    errors: dict[str, int]
    cut_short: bool


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What to measure.

    Args:
        tile_count: Tiles of each level, in [1, TILE_COUNT_MAX].
        levels: Concurrencies, ascending, the first 1: the base of the speed-up.
        zoom: Of the tiles, which lie in rows from the middle of the world.
        global_timeout_s: A level that takes longer is cut short; None: no limit.
    """

    tile_count: int = TILE_COUNT_DEFAULT
    levels: tuple[int, ...] = LEVELS
    zoom: int = 10
    global_timeout_s: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.tile_count <= TILE_COUNT_MAX:
            raise PlanError(f"--tile-count {self.tile_count} is not within 1..{TILE_COUNT_MAX}")
        if self.tile_count > 4**self.zoom:
            raise PlanError(f"zoom {self.zoom} has only {4**self.zoom} tiles: raise --zoom")


def levels_up_to(most: int) -> tuple[int, ...]:
    """The usual levels below `most`, and `most` itself."""
    return (*(level for level in LEVELS if level < most), most)


async def bench(
    location: str,
    plan: BenchPlan,
    sending: Sending,
    *,
    on_level: Callable[[Level], None] = lambda _: None,
) -> list[Level]:
    """Measure each level in turn, on connections of its own that are warm.

    Raises:
        PlanError: A location that is none, or a host that forbids such use.
    """
    await check_location(location, sending)
    tiles = tuple(_tiles(plan.zoom, plan.tile_count))
    results: list[Level] = []
    service_s = math.inf
    for concurrency in plan.levels:
        tally = Tally()
        async with _opened(location, replace(sending, concurrency=concurrency), tally) as source:
            await _fetch(source, tiles[: concurrency * WARM_UP_PER_WORKER], concurrency, None)
            retried_before = tally.retried
            got = await _fetch(source, tiles, concurrency, plan.global_timeout_s)
        base = results[0] if results else None
        service_s = min(service_s, tally.fetches.mean_s() or _mean(got.times_s) or math.inf)
        level = _level(concurrency, got, tally.retried - retried_before, base, service_s)
        results.append(level)
        on_level(level)
    return results


@asynccontextmanager
async def _opened(location: str, sending: Sending, tally: Tally) -> AsyncIterator[TileSource]:
    async with open_source(location, sending=sending, tally=tally) as source:
        yield source


@dataclass(slots=True)
class _Got:
    """What one level's workers saw."""

    times_s: list[float]
    absent: int
    errors: Counter[str]
    elapsed_s: float
    cut_short: bool


async def _fetch(
    source: TileSource, tiles: Sequence[TileId], concurrency: int, timeout_s: float | None
) -> _Got:
    got = _Got([], 0, Counter(), 0.0, cut_short=False)
    work = iter(tiles)
    begun_s = time.perf_counter()
    try:
        async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(_work(source, work, got))
    except TimeoutError:
        got.cut_short = True
    got.elapsed_s = time.perf_counter() - begun_s
    return got


async def _work(source: TileSource, work: Iterator[TileId], got: _Got) -> None:
    for tile_id in work:
        asked_s = time.perf_counter()
        try:
            answer = await source.get(tile_id)
        except (TransferError, DataError) as error:
            got.errors[error.cause] += 1
        except BusyError:
            got.errors["busy"] += 1
        else:
            got.times_s.append(time.perf_counter() - asked_s)
            got.absent += 0 if isinstance(answer, Tile) else 1


def _level(concurrency: int, got: _Got, retried: int, base: Level | None, service_s: float) -> Level:
    """`service_s`: the lowest time of one tile so far; infinite when none came."""
    times_ms = sorted(value * 1000 for value in got.times_s)
    answered = len(times_ms)
    rate = answered / got.elapsed_s if got.elapsed_s > 0 else 0.0
    limit = concurrency / service_s
    base_rate = base.rate_per_s if base is not None else rate
    return Level(
        concurrency=concurrency,
        tiles=answered - got.absent,
        absent=got.absent,
        failed=got.errors.total(),
        retried=retried,
        elapsed_s=got.elapsed_s,
        rate_per_s=rate,
        p50_ms=percentile_ms(times_ms, 50),
        p95_ms=percentile_ms(times_ms, 95),
        p99_ms=percentile_ms(times_ms, 99),
        limit_per_s=limit,
        limit_share=rate / limit if limit > 0 else 0.0,
        speed_up=rate / base_rate if base_rate > 0 else 0.0,
        errors=dict(got.errors),
        cut_short=got.cut_short,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _tiles(zoom: int, count: int) -> Iterator[TileId]:
    """Tiles in rows of a square around the middle of the world, each once."""
    side = 1 << zoom
    width = min(side, max(1, int(count**0.5)))
    left = (side - width) // 2
    top = max(0, (side - -(-count // width)) // 2)
    for number in range(count):
        yield TileId(zoom, left + number % width, top + number // width)
