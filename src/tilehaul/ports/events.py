"""What a job tells those who watch it: frozen events, one stream per job."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A job begins. `planned` counts every tile of the area, those an earlier run has ended included."""

    job: str
    planned: int
    source: str
    store: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts so far; `elapsed_s` since the job began, `rate_per_s` over the last seconds."""

    done: int
    absent: int
    dead: int
    skipped: int
    retried: int
    pushed_back: int
    planned: int
    bytes: int
    elapsed_s: float
    rate_per_s: float


@dataclass(frozen=True, slots=True)
class LaneHeld:
    """The upstream asked the whole lane to wait `delay_s` seconds."""

    lane: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class SeedReport:
    """How a seed ended. Every planned tile is exactly one of done, absent, dead, pending, dropped.

    `dropped`: given up by a person (`tilehaul retry --drop`), never by a job. `skipped` are the ones among
    `done`, `absent` and `dropped` that were so before. `bytes` counts what was written in this run.
    Times in seconds; percentiles of the fetch in milliseconds.
    `state` is `complete`, `dead_letters`, `interrupted`, or `stopped` (fuse or origin away).
    """

    state: str
    planned: int
    done: int
    absent: int
    dead: int
    pending: int
    skipped: int
    requests: int
    retried: int
    pushed_back: int
    bytes: int
    elapsed_s: float
    rate_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    push_back_s: float
    source: str
    store: str
    message: str = ""
    dropped: int = 0


Event = JobStarted | Progress | LaneHeld | SeedReport
Watch = Callable[[Event], None]
