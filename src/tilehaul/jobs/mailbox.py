"""Between a job and somebody who reads its events: bounded, and the job never waits."""

import threading
from collections import deque
from dataclasses import replace

from tilehaul.ports.events import Event, JobStarted, LaneChanged, Progress, SeedReport

EVENTS_MAX = 1000


class Mailbox:
    """Takes events from a job and keeps them until they are read, by one reader in any thread.

    It is a `Watch`: give it to `tilehaul.seed` as `watch` and read it elsewhere. A reader that is slow loses
    what has become old, counted in `dropped`: a `Progress` when there is a newer one; and when `events_max`
    events wait, the oldest `LaneChanged`, else the oldest `LaneHeld` or `TileDead` (the dead letter itself is
    in the journal). Never `JobStarted`, nor the report, which is the last.

    A `Progress` may be read later than events that came after it, never after the report.
    """

    def __init__(self, *, events_max: int = EVENTS_MAX) -> None:
        self.dropped = 0
        self._events_max = events_max
        self._events: deque[Event] = deque()
        self._progress: Progress | None = None
        self._changes = 0
        self._closed = False
        self._news = threading.Condition()

    def __call__(self, event: Event) -> None:
        """Put an event in; returns at once. After `close` it is dropped."""
        with self._news:
            if self._closed:
                self.dropped += 1
                return
            if isinstance(event, Progress):
                self.dropped += self._progress is not None
                self._progress = event
            else:
                self._append(event)
            self._news.notify()

    def close(self) -> None:
        """No more events will come. Those that wait can still be read. Safe to call twice."""
        with self._news:
            self._closed = True
            self._news.notify()

    def take(self, timeout_s: float | None = None) -> Event | None:
        """The next event; waits for it. None when there will be no more, or none came within `timeout_s`."""
        with self._news:
            self._news.wait_for(lambda: self._events or self._progress or self._closed, timeout_s)
            if self._events:
                event = self._events.popleft()
                self._changes -= isinstance(event, LaneChanged)
                return event
            progress, self._progress = self._progress, None
            return progress

    def _append(self, event: Event) -> None:
        if isinstance(event, SeedReport):
            if self._progress is not None:
                self._events.append(self._progress)
                self._progress = None
            if self.dropped:
                event = replace(event, events_dropped=self.dropped)
        elif len(self._events) >= self._events_max:
            self._drop_oldest()
        self._events.append(event)
        self._changes += isinstance(event, LaneChanged)

    def _drop_oldest(self) -> None:
        """Make room: a change of a lane if one waits, else what is no start of a job."""
        changes = self._changes > 0
        for index, event in enumerate(self._events):
            if isinstance(event, LaneChanged) if changes else not isinstance(event, JobStarted):
                del self._events[index]
                self._changes -= changes
                self.dropped += 1
                return
