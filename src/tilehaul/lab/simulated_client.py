"""A program with one lane and work without end, in virtual time."""

from dataclasses import dataclass

from tilehaul.lab.upstreams import Upstream, World
from tilehaul.policy.blame import Blame
from tilehaul.policy.gate import Gate
from tilehaul.policy.limit import AdaptiveLimit, Limit
from tilehaul.policy.pace import Pace
from tilehaul.policy.shed import Shed
from tilehaul.policy.tally import Histogram

# The clock's rounding: a wake-up must not come a hair before its time, again and again.
_ROUNDING_S = 1e-9


@dataclass(frozen=True, slots=True)
class Parts:
    """What decides when a client sends. Without a gate it sends again at once after a push-back.

    With all three, and a limit that is ours, push-back and failures are judged as in `net/lane.py`.
    """

    limit: Limit
    gate: Gate | None = None
    pace: Pace | None = None


class Client:
    """One program with one lane and work without end."""

    def __init__(self, world: World, upstream: Upstream, parts: Parts) -> None:
        self._world = world
        self._upstream = upstream
        self.limit = parts.limit
        self._gate = parts.gate
        self._pace = parts.pace
        self._blame: Blame | None = None
        self._shed: Shed | None = None
        if isinstance(parts.limit, AdaptiveLimit) and parts.gate is not None and parts.pace is not None:
            self._blame = Blame(parts.limit, parts.pace)
            self._shed = Shed(parts.limit)
        self._in_flight = 0
        self._wakes_s = -1.0
        self._held_until_s = -1.0
        self.sent = self.good = self.wasted = self.in_flight_then = 0
        self.times = Histogram()
        self.second_good = 0
        self.second_sum_s = 0.0

    def fill(self) -> None:
        """Send as much as limit and gate allow now."""
        now_s = self._world.now_s
        while self._in_flight < self.limit.limit:
            wait_s = max(
                self._gate.wait_s(now_s, self._in_flight) if self._gate else 0.0,
                self._pace.wait_s(now_s) if self._pace else 0.0,
            )
            if wait_s > 0.0:
                self._wake_in(wait_s)
                return
            if self._pace:
                self._pace.on_send(now_s)
            self._in_flight += 1
            self.sent += 1
            self._upstream.arrive(_Reply(self, now_s))

    def _wake_in(self, wait_s: float) -> None:
        when_s = self._world.now_s + wait_s + _ROUNDING_S
        if self._wakes_s <= self._world.now_s or when_s < self._wakes_s:
            self._wakes_s = when_s
            self._world.at(when_s, self.fill)

    def answered(self, sent_s: float, status: int, retry_after_s: float | None) -> None:
        now_s = self._world.now_s
        luck = self._world.luck.random
        if status == 200:
            time_s = now_s - sent_s
            self.good += 1
            self.times.add(time_s)
            self.second_good += 1
            self.second_sum_s += time_s
            self.limit.on_success(now_s, time_s, self._in_flight, luck())
            if self._shed:
                self._shed.on_success(now_s)
            if self._gate:
                self._gate.open_again(sent_s)
            if self._pace:
                self._pace.on_success(now_s)
        else:
            self.wasted += 1
            if retry_after_s is not None:
                self._told_to_wait(now_s, retry_after_s, luck())
            elif self._shed:
                self._shed.on_failure(now_s, self._in_flight)
            else:
                self.limit.on_failure(now_s)
        self._in_flight -= 1
        self.fill()

    def _told_to_wait(self, now_s: float, retry_after_s: float, luck: float) -> None:
        if now_s >= self._held_until_s:
            self.in_flight_then += self._in_flight
        self._held_until_s = max(self._held_until_s, now_s + retry_after_s)
        spell = self._gate.spell(now_s) if self._gate else None
        hold_s = self._gate.hold(now_s, retry_after_s, luck) if self._gate else 0.0
        if self._blame:
            self._blame.on_push_back(now_s, now_s + hold_s, spell)
            return
        self.limit.on_push_back(now_s)
        if self._pace:
            self._pace.on_push_back(now_s, now_s + hold_s)


class _Reply:
    """The way back of one request."""

    __slots__ = ("_client", "_sent_s")

    def __init__(self, client: Client, sent_s: float) -> None:
        self._client = client
        self._sent_s = sent_s

    def __call__(self, status: int, retry_after_s: float | None) -> None:
        self._client.answered(self._sent_s, status, retry_after_s)
