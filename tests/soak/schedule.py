"""What one soak run does, drawn from two numbers. Pure: the same numbers, the same schedule."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tilehaul.grid.area import Area
from tilehaul.lab.absence import Absence
from tilehaul.lab.fault_words import FaultChange
from tilehaul.lab.faults import (
    KINDS,
    Bursts,
    Capacity,
    Faults,
    Kind,
    Latency,
    RateLimit,
    RetryAfter,
    SlowBody,
)
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.lab.script import Script, Step

TILES_MIN, TILES_MAX = 50, 400
# The weather changes within this time; afterwards only what was wrong from the start still is.
SCRIPT_S = 1.6
# How long an undisturbed job would take, about: long enough to meet the weather and be ended in the middle.
JOB_S_MIN, JOB_S_MAX = 0.3, 1.5
LATENCY_MS_MAX = 60.0
# A silent server is given up on after this long, so that a run takes a second and not a minute.
TIMEOUT_S = 0.4
MAX_WAIT_S = 3.0

End = Literal["kill", "interrupt", "terminate", "deadline", "cancel", "drain"]
ENDS: tuple[End, ...] = ("kill", "kill", "interrupt", "terminate", "deadline", "cancel", "drain")


@dataclass(frozen=True, slots=True)
class Life:
    """One run of the job that is ended early.

    `kill`, `interrupt` and `terminate` are signals to `tilehaul seed` as a program, `deadline` is its own
    `--deadline` of `then_s`; `cancel` cancels the task of `tilehaul.seed`, `drain` asks it to end. It
    happens `then_s` seconds after the server saw `requests` of this life; `again_s` later a second time,
    unless None.
    """

    end: End
    requests: int
    then_s: float
    again_s: float | None


@dataclass(frozen=True, slots=True)
class Schedule:
    """One run: an area, a misbehaving server, a store, and how the job's lives are ended.

    `link` are faults of a proxy before the server, as `lab/link_faults.py` writes them; none: no proxy.
    `replay`: after the repair dead tiles come back by `tilehaul.retry`, else by the same seed again.
    """

    seed: int
    number: int
    bbox: tuple[float, float, float, float]
    zooms: tuple[int, int]
    store: Literal["mbtiles", "directory"]
    concurrency: int
    retries: int
    max_failures: str
    server: MockSettings
    link: tuple[str, ...]
    lives: tuple[Life, ...]
    replay: bool

    @property
    def area(self) -> Area:
        return Area.from_bbox(*self.bbox, zooms=range(self.zooms[0], self.zooms[1] + 1))


def draw(seed: int, number: int) -> Schedule:
    """The schedule of one run."""
    luck = random.Random(f"{seed}/{number}")
    bbox, zooms, planned = _area(luck)
    concurrency = luck.choice((1, 2, 4, 8, 8, 16, 32, 64))
    latency_ms = 1000.0 * luck.uniform(JOB_S_MIN, JOB_S_MAX) * concurrency / planned
    latency_ms = min(latency_ms, LATENCY_MS_MAX)
    base = Faults(latency=Latency(latency_ms, luck.uniform(0.0, latency_ms / 2), "uniform"))
    for _ in range(luck.choice((0, 1, 1, 2))):
        base = luck.choice(LASTING)(luck).on(base)
    server = MockSettings(
        tile_bytes=luck.choice((0, 0, 3000, 20_000)),
        seed=luck.randrange(1 << 30),
        faults=base,
        script=Script(tuple(_steps(luck))),
        absence=Absence(luck.choice((0.0, 0.0, 0.1, 0.5)), status=luck.choice((404, 204))),
        clock_skew_s=luck.choice((0.0, 0.0, 3600.0, -3600.0)),
    )
    return Schedule(
        seed=seed,
        number=number,
        bbox=bbox,
        zooms=zooms,
        store=luck.choice(("mbtiles", "directory")),
        concurrency=concurrency,
        retries=luck.choice((0, 1, 2, 5)),
        max_failures=luck.choice(("1%", "20", "1000")),
        server=server,
        link=tuple(_link(luck) for _ in range(luck.choice((0, 0, 1, 2)))),
        lives=tuple(_life(luck, planned) for _ in range(luck.choice((0, 1, 1, 2, 3)))),
        replay=luck.random() < 0.5,
    )


def _area(luck: random.Random) -> tuple[tuple[float, float, float, float], tuple[int, int], int]:
    while True:
        west, south = luck.uniform(-170, 100), luck.uniform(-80, 60)
        bbox = (west, south, west + luck.uniform(1, 70), south + luck.uniform(1, 20))
        bbox = tuple(round(side, 3) for side in bbox)  # type: ignore[assignment]
        low = luck.randint(0, 5)
        zooms = (low, low + luck.randint(0, 4))
        planned = Area.from_bbox(*bbox, zooms=range(zooms[0], zooms[1] + 1)).count()
        if TILES_MIN <= planned <= TILES_MAX:
            return bbox, zooms, planned


def _life(luck: random.Random, planned: int) -> Life:
    again_s = luck.uniform(0.0, 0.3) if luck.random() < 0.4 else None
    # Zero requests: in the middle of starting up.
    requests = 0 if luck.random() < 0.1 else luck.randint(1, planned)
    end = luck.choice(ENDS)
    then_s = luck.uniform(0.1, 1.0) if end == "deadline" else luck.uniform(0.0, 0.15)
    return Life(end, requests, then_s, again_s)


def _link(luck: random.Random) -> str:
    """Something wrong with the connections: for some of them, for a while, or both."""
    kind = luck.choice(("delay", "throttle", "cut", "reset", "black_hole", "refuse"))
    amount = {
        "delay": f"={luck.uniform(0.005, 0.1):.3f}",
        "throttle": f"={luck.choice((2_000, 50_000))}",
        "refuse": "",
    }.get(kind, luck.choice(("", f"={luck.randint(0, 5_000)}")))
    from_s = luck.uniform(0.0, SCRIPT_S - 0.3)
    span = f"{from_s:.2f}s-{min(SCRIPT_S, from_s + luck.uniform(0.1, 0.6)):.2f}s"
    share = f"{luck.uniform(2, 30):.0f}%"
    return f"{kind}{amount}@{span if kind == 'refuse' else luck.choice((span, share, f'{span},{share}'))}"


def _steps(luck: random.Random) -> Iterator[Step]:
    """One after another: two outages at once would add up to more than everything."""
    at_s = luck.uniform(-0.2, 0.5)
    while at_s < SCRIPT_S - 0.1:
        stop_s = min(SCRIPT_S, at_s + luck.uniform(0.1, 0.8))
        yield Step(max(0.0, at_s), stop_s, luck.choice(PASSING)(luck))
        at_s = stop_s + luck.choice((0.0, luck.uniform(0.0, 0.5)))


# What can be wrong. Left out, because no client can tell: `wrong_tile` (a whole picture of another place)
# and `blank_200` (a valid picture with nothing on it); and statuses 404 and 410, which say "there is none".

SERVER_TROUBLE = (500, 502, 503, 504, 408, 425)
REFUSALS = (400, 401, 403, 451)
DAMAGE: tuple[Kind, ...] = (
    "short_length", "cut_chunked", "cut_close", "cut_gzip", "bit_flip",
    "empty_200", "close_before", "reset_before", "reset_mid",
)  # fmt: skip
PAGES: tuple[Kind, ...] = ("xml_200", "xml_as_png", "html_200")
BOMBS: tuple[Kind, ...] = ("header_bomb", "gzip_bomb")
# In seconds, as a date, and what no client should take at its word.
WAITS = (
    RetryAfter("seconds", 1),
    RetryAfter("seconds", 1),
    RetryAfter("date", 1),
    RetryAfter("raw"),
    RetryAfter("raw", text="-5"),
    RetryAfter("raw", text="soon, probably"),
    RetryAfter("seconds", 86_400),
)


def _some(luck: random.Random, words: tuple[Any, ...], low: float, high: float) -> dict[Any, float]:
    """One to three of the words, with shares that add up to less than `high`."""
    chosen = luck.sample(words, luck.randint(1, min(3, len(words))))
    return {word: luck.uniform(low, high) / len(chosen) for word in chosen}


def _trouble(luck: random.Random) -> FaultChange:
    return FaultChange(errors=_some(luck, SERVER_TROUBLE, 0.02, 0.3))


def _refusals(luck: random.Random) -> FaultChange:
    return FaultChange(errors=_some(luck, REFUSALS, 0.005, 0.05))


def _damage(luck: random.Random) -> FaultChange:
    return FaultChange(shares=_some(luck, DAMAGE, 0.02, 0.2))


def _pages(luck: random.Random) -> FaultChange:
    return FaultChange(shares=_some(luck, PAGES, 0.01, 0.05))


def _bombs(luck: random.Random) -> FaultChange:
    return FaultChange(shares=_some(luck, BOMBS, 0.005, 0.02))


def _silence(luck: random.Random) -> FaultChange:
    return FaultChange(shares={"black_hole": luck.uniform(0.01, 0.05)})


def _push_back(luck: random.Random) -> FaultChange:
    return FaultChange(errors={429: luck.uniform(0.02, 0.15)}, retry_after=luck.choice(WAITS))


def _bursts(luck: random.Random) -> FaultChange:
    return FaultChange(burst_429=Bursts(luck.uniform(0.4, 0.8), 0.1), retry_after=luck.choice(WAITS[:3]))


def _rate_limit(luck: random.Random) -> FaultChange:
    limit = RateLimit(luck.uniform(80, 400), luck.randint(5, 60))
    return FaultChange(rate_limit=limit, retry_after=luck.choice(WAITS[:3]))


def _capacity(luck: random.Random) -> FaultChange:
    return FaultChange(capacity=Capacity(luck.randint(1, 8), luck.uniform(4, 15), luck.choice((4, 30, 1000))))


def _trickle(luck: random.Random) -> FaultChange:
    return FaultChange(slow_body=SlowBody(luck.choice((1_000, 20_000)), luck.uniform(0.02, 0.2)))


def _outage(luck: random.Random) -> FaultChange:
    """Everything fails in one way, and nothing in another."""
    shares: dict[Kind, float] = dict.fromkeys(KINDS, 0.0)
    errors = dict.fromkeys((*SERVER_TROUBLE, *REFUSALS, 429), 0.0)
    way = luck.choice(("reset_before", "close_before", "black_hole", 500, 503))
    if isinstance(way, int):
        errors[way] = 1.0
    else:
        shares[way] = 1.0
    return FaultChange(shares=shares, errors=errors, retry_after=luck.choice((RetryAfter("raw"), WAITS[0])))


Draw = Callable[[random.Random], FaultChange]
# From the start until the repair.
LASTING: tuple[Draw, ...] = (_trouble, _refusals, _damage, _pages, _bombs, _silence, _trickle)
# For a while.
PASSING: tuple[Draw, ...] = (*LASTING, *(_push_back, _bursts, _rate_limit, _outage) * 2, _capacity)
