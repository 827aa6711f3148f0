"""The score of one running job: counted outcomes, told as progress and as the report."""

from collections import deque

from tilehaul.jobs.telling import death_of
from tilehaul.policy.causes import by_class
from tilehaul.policy.tally import Tally
from tilehaul.ports.events import Progress, SeedReport, TileDead
from tilehaul.ports.store import DeadLetter, Outcome, State
from tilehaul.ports.tile import NoTile, Tile

RATE_WINDOW_S = 5.0
# Dead tiles that a report names; the archive has all.
FIRST_DEAD_MAX = 20


class Score:
    """Counts what became durable. Times are seconds on the job's monotonic clock."""

    def __init__(self, planned: int, skipped: dict[State, int], tally: Tally, begun_s: float) -> None:
        self.planned = planned
        self._skipped = skipped
        self._tally = tally
        self._begun_s = begun_s
        self._done = 0
        self._absent = 0
        self._bytes = 0
        self._unchanged = 0
        self._marks: deque[tuple[float, int]] = deque([(begun_s, 0)])
        self.dead = 0
        self._first_dead: list[TileDead] = []

    def add(self, batch: list[Outcome]) -> list[DeadLetter]:
        """Count a batch that has been committed. Answers the dead letters in it."""
        letters: list[DeadLetter] = []
        for outcome in batch:
            if isinstance(outcome, Tile):
                self._done += 1
                if outcome.place == "unchanged":
                    self._unchanged += 1
                else:
                    self._bytes += len(outcome.body)
            elif isinstance(outcome, NoTile):
                self._absent += 1
            elif isinstance(outcome, DeadLetter):
                letters.append(outcome)
        self.dead += len(letters)
        if len(self._first_dead) < FIRST_DEAD_MAX:
            self._first_dead += map(death_of, letters[: FIRST_DEAD_MAX - len(self._first_dead)])
        return letters

    @property
    def done(self) -> int:
        return self._done + self._skipped["done"]

    @property
    def absent(self) -> int:
        return self._absent + self._skipped["absent"]

    @property
    def dropped(self) -> int:
        return self._skipped["dropped"]

    @property
    def skipped(self) -> int:
        return self._skipped["done"] + self._skipped["absent"] + self._skipped["dropped"]

    @property
    def pending(self) -> int:
        return self.planned - self.done - self.absent - self.dropped - self.dead

    def settled(self) -> dict[str, int]:
        """Planned tiles by what became of them, without the pending ones."""
        return {"done": self.done, "absent": self.absent, "dropped": self.dropped, "dead": self.dead}

    def counts(self) -> dict[str, int]:
        """Planned tiles by what became of them; the values add up to `planned`."""
        return {**self.settled(), "pending": self.pending}

    def progress(self, now_s: float) -> Progress:
        moved = self._done + self._absent + self.dead
        self._marks.append((now_s, moved))
        while len(self._marks) > 2 and now_s - self._marks[0][0] > RATE_WINDOW_S:
            self._marks.popleft()
        span_s = now_s - self._marks[0][0]
        return Progress(
            done=self.done,
            absent=self.absent,
            dead=self.dead,
            skipped=self.skipped,
            retried=self._tally.retried,
            pushed_back=self._tally.pushed_back,
            planned=self.planned,
            bytes=self._bytes,
            elapsed_s=now_s - self._begun_s,
            rate_per_s=(moved - self._marks[0][1]) / span_s if span_s > 0 else 0.0,
            unchanged=self._unchanged,
        )

    def report(self, state: str, now_s: float, *, source: str, store: str, message: str = "") -> SeedReport:
        elapsed_s = now_s - self._begun_s
        fetches = self._tally.fetches
        return SeedReport(
            state=state,
            planned=self.planned,
            done=self.done,
            absent=self.absent,
            dead=self.dead,
            pending=self.pending,
            skipped=self.skipped,
            requests=self._tally.requests,
            retried=self._tally.retried,
            pushed_back=self._tally.pushed_back,
            bytes=self._bytes,
            elapsed_s=elapsed_s,
            rate_per_s=(self._done + self._absent) / elapsed_s if elapsed_s > 0 else 0.0,
            p50_ms=fetches.percentile_s(0.50) * 1000,
            p95_ms=fetches.percentile_s(0.95) * 1000,
            p99_ms=fetches.percentile_s(0.99) * 1000,
            # A hold that was asked for and not sat out has cost nothing.
            push_back_s=min(self._tally.push_back_s, elapsed_s),
            source=source,
            store=store,
            message=message,
            dropped=self.dropped,
            unchanged=self._unchanged,
            deleted=self._tally.deleted,
            strangers=self._tally.strangers,
            causes=by_class(self._tally.causes),
            first_dead=tuple(self._first_dead),
        )
