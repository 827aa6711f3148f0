"""A job that many may follow: one stream of numbered events, kept for readers who are slow or come later."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from tilehaul.jobs.stop import DRAIN, Stop
from tilehaul.ports.events import Event, JobStarted, LaneChanged, LaneHeld, Progress, SeedReport
from tilehaul.ports.lane import Lanes

# Events of one job that a reader who comes later, or again, can still have.
RING_MAX = 256

State = Literal["running", "draining", "complete", "dead_letters", "interrupted", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event of a stream. `error` is what ended a job that is `stopped` or `failed`."""

    state: State
    report: SeedReport | None
    error: BaseException | None


Numbered = tuple[int, "Event | Ended"]


class RunningJob:
    """One job and its events, numbered from 1. All of it belongs to the service's loop.

    A reader has a place in the stream and nothing else: one that is slow, or gone, costs the job nothing, and
    finds only what the ring still holds. Of `Progress` the ring holds the newest.
    """

    def __init__(self, job_id: str, layer: str, store: str) -> None:
        self.job_id = job_id
        self.layer = layer
        self.store = store
        # Known once the job has begun: to count the tiles of a fine polygon takes seconds.
        self.planned: int | None = None
        self.stop = Stop()
        self.progress: Progress | None = None
        self.report: SeedReport | None = None
        self.ended: Ended | None = None
        # Those to the source while it is open.
        self.lanes: Lanes = tuple
        # A lane's name holds its origin's host: clients are told a number, in the order lanes are heard of.
        self.lane_numbers: dict[str, int] = {}
        self.last_number = 0
        self._ring: deque[Numbered] = deque(maxlen=RING_MAX)
        self._news = asyncio.Event()

    @property
    def state(self) -> State:
        if self.ended is not None:
            return self.ended.state
        return "running" if self.stop.level < DRAIN else "draining"

    def put(self, event: Event) -> None:
        """The next event of the job; what comes after its end is dropped."""
        if self.ended is not None:
            return
        if isinstance(event, SeedReport):
            # Told with the end: a job may yet fail after its report.
            self.report = event
            for lane in event.lanes:
                self._number(lane.name)
            return
        if isinstance(event, JobStarted):
            self.planned = event.planned
        if isinstance(event, Progress):
            self.progress = event
            for one in self._ring:
                if isinstance(one[1], Progress):
                    self._ring.remove(one)
                    break
        if isinstance(event, LaneHeld | LaneChanged):
            self._number(event.lane)
        self._append(event)

    def end(self, state: State, error: BaseException | None = None) -> None:
        self.ended = Ended(state, self.report, error)
        self._append(self.ended)

    def halt(self) -> None:
        """The first time in good order, the second at once. What was committed stays; both can go on."""
        if self.stop.level < DRAIN:
            self.stop.drain()
        else:
            self.stop.cancel()

    async def follow(self, after: int = 0, *, silence_s: float) -> AsyncIterator[Numbered | None]:
        """Events with numbers above `after`, up to the end; None whenever nothing came for `silence_s`."""
        while True:
            news = self._news
            ready = [one for one in self._ring if one[0] > after]
            for number, event in ready[:1]:
                after = number
                yield number, event
                if isinstance(event, Ended):
                    return
            if ready:
                continue
            if self.ended is not None:
                return
            try:
                await asyncio.wait_for(news.wait(), silence_s)
            except TimeoutError:
                yield None

    def _append(self, event: "Event | Ended") -> None:
        self.last_number += 1
        self._ring.append((self.last_number, event))
        # Whoever waits for the old one wakes; the next wait is for the new one.
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _number(self, lane: str) -> None:
        self.lane_numbers.setdefault(lane, len(self.lane_numbers) + 1)


def moved_by(job: RunningJob) -> dict[str, int]:
    """What this run of a job has done so far: bytes written, retries, push-back."""
    told = job.report or job.progress
    if told is None:
        return {}
    return {"bytes": told.bytes, "retried": told.retried, "pushed_back": told.pushed_back}
