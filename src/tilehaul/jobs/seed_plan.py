"""What a seed is to do, apart from where."""

from collections.abc import AsyncIterable, Callable, Iterable
from dataclasses import dataclass

from tilehaul.errors import ConfigError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.worklist import Stale, Unchanged
from tilehaul.policy.fuse import FAILURES_DEFAULT, FailureLimit
from tilehaul.ports.store import JobKey


def _none() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class SeedPlan:
    """What to do, apart from where.

    Args:
        tiles, planned: The planned tiles, walked once (by an archive asynchronously), and how many.
        key: What makes this job this job.
        store_name: The store's location, for events.
        workers: Tiles asked for at once, >= 1: a few more than the lane's limit, so that a permit that
            comes back is used at once. What waits for another attempt needs none.
        overwrite: Fetch tiles again that an earlier run has settled.
        unchanged: Decides instead of the journal which tiles need no fetching: those it says are the same.
        stale: Says which tiles that are done are moved again; None: none is.
        max_failures: When the fuse blows.
        max_wait_s: A job without one success for this long ends.
        deadline_s: The job ends in good order so long after it began, > 0: nothing new is asked for, what is
            under way has DEADLINE_DRAIN_S to end. None: it takes what it takes.
        force_source: Write into a store that another source made.
        listed: The source itself said that it has these tiles: one that it has not is a failure, no absence.
        objection: Asked when all is moved: why the job is not complete all the same; "": it is.
        job, job_id: Its name in events, and which run of it in events, report and log; short.

    Raises ConfigError when `workers` or `deadline_s` is out of range.
    """

    tiles: Iterable[TileId] | AsyncIterable[TileId]
    planned: int
    key: JobKey
    store_name: str = ""
    workers: int = 64
    overwrite: bool = False
    unchanged: Unchanged | None = None
    stale: Stale | None = None
    max_failures: FailureLimit = FAILURES_DEFAULT
    max_wait_s: float = 1800.0
    deadline_s: float | None = None
    force_source: bool = False
    listed: bool = False
    objection: Callable[[], str] = _none
    job: str = "seed"
    job_id: str = ""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers: a job needs 1 or more, not {self.workers}")
        check_deadline(self.deadline_s)


def check_deadline(deadline_s: float | None) -> None:
    """Raise ConfigError unless it is None or a number of seconds above 0."""
    if deadline_s is not None and not deadline_s > 0.0:
        raise ConfigError(f"deadline: {deadline_s:g} s is over before the job begins; give more than 0")
