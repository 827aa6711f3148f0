"""What a job tells those who watch it: frozen events, one stream per job.

The progress bar, `--json`, the log and a caller's callback all read this stream (`docs/observing.md`).
`job_id` names the job, in all its events, its log lines and its report; a service's lanes belong to none.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Final

from tilehaul.grid.tile_id import TileId
from tilehaul.policy.breaker import BreakerState
from tilehaul.policy.causes import CauseClass
from tilehaul.policy.health import HEALTHY, GateState, Health
from tilehaul.ports.lane import LaneSnapshot


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A job begins. `planned` counts every tile of the area, those an earlier run has ended included.

    `note` is what people should know of the source (`SourceInfo.note`), else "".
    """

    job: str
    planned: int
    source: str
    store: str
    job_id: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts so far; `elapsed_s` since the job began, `rate_per_s` over the last seconds.

    `unchanged` and `bytes` as in the report.
    """

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
    unchanged: int = 0
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class LaneHeld:
    """Nothing is sent in a lane for `delay_s` seconds, because the upstream asked for it.

    `reason` says in a clause what is unusual: a very long wait, or an upstream that fails; else "".
    """

    lane: str
    delay_s: float
    reason: str = ""
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class LaneChanged:
    """The state of a lane is another than before: `what` of `limit`, `gate`, `breaker` has changed.

    `pace_per_s` is None while push-back has taught the lane no pace. For people who look closely: there may
    be several a second.
    """

    lane: str
    what: str
    limit: int
    gate: GateState
    breaker: BreakerState
    pace_per_s: float | None = None
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class TileDead:
    """One tile was given up on, and its dead letter is durable. `url` is redacted, `message` one line."""

    tile_id: TileId
    cause: str
    cause_class: CauseClass
    attempts: int
    url: str = ""
    message: str = ""
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class SeedReport:
    """How a seed ended. Every planned tile is exactly one of done, absent, dead, pending, dropped.

    `dropped`: given up by a person (`tilehaul retry --drop`), never by a job. `skipped` are the ones among
    `done`, `absent` and `dropped` that were so before. `unchanged` are the ones among `done` of which the
    origin said in this run that what is kept is current (304): no body came. `bytes` counts the bodies of
    the others that were written in this run. `deleted`: tiles outside the plan that a mirroring copy took
    out of the store; `strangers`: such ones that stayed, because no job of ours wrote them.
    Times in seconds; percentiles of the fetch in milliseconds.
    `state` is `complete`, `dead_letters`, `interrupted`, or `stopped` (fuse or origin away).
    `causes` counts failed attempts and push-back by class. `lanes` and `health` are as they were at the end.
    `first_dead`: the first few tiles that this run gave up on, with what their source said.
    `events_dropped`: what a slow reader has lost of the stream before this event; 0 in the report that a call
    returns.
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
    unchanged: int = 0
    deleted: int = 0
    strangers: int = 0
    job_id: str = ""
    causes: dict[CauseClass, int] = field(default_factory=dict)
    lanes: tuple[LaneSnapshot, ...] = ()
    health: Health = HEALTHY
    first_dead: tuple[TileDead, ...] = ()
    events_dropped: int = field(default=0, compare=False)


Event = JobStarted | Progress | LaneHeld | LaneChanged | TileDead | SeedReport
Watch = Callable[[Event], None]
TellLane = Callable[[LaneHeld | LaneChanged], None]

NAMES: Final[dict[type, str]] = {
    JobStarted: "job.started",
    Progress: "job.progress",
    LaneHeld: "lane.held",
    LaneChanged: "lane.changed",
    TileDead: "tile.dead",
    SeedReport: "job.report",
}


def record_of(event: Event) -> dict[str, Any]:
    """An event as JSON takes it: its name under `event`, then its fields; a tile as `z/x/y`."""
    told = {one.name: _plain(getattr(event, one.name)) for one in fields(event)}
    return {"event": NAMES[type(event)], **told}


def _plain(value: Any) -> Any:
    if isinstance(value, TileId):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, TileDead):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
