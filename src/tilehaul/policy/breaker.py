"""When to leave an upstream alone.

The breaker of a lane counts failures and slow answers over a window of time. It opens when both the share
and the number are high enough, waits, then lets one attempt at a time through until enough of them have
succeeded. Each admission is a `Ticket`; what a ticket of an earlier time reports changes nothing any more.

| outcome | closed | half open, the probe's |
|---|---|---|
| success | counted; slow ones also as slow | one of those needed to close |
| answered (absent, other 4xx) | not counted | the same: the upstream is there |
| failure (connect, TLS, timeout, 5xx, corrupt body) | counted | opens again, for longer |
| neutral (cancelled by us, local disk, push-back) | not counted | the place is free for another probe |

Two choices differ from common breakers (`resilience` 3). An ignored outcome is not a success: else a 404
between failures keeps the breaker closed. A slow probe is one: an upstream that has become slow
for good would otherwise never be used again.
"""

from dataclasses import dataclass
from math import inf
from typing import Literal

from tilehaul.errors import ConfigError

BreakerState = Literal["closed", "open", "half_open"]

# The window moves in this many steps: memory and time per call are constant, and what is counted is
# between 29/30 of the window and the whole of it.
WINDOW_STEPS = 30
# 2 ** this many openings in a row reaches any open_s_max from any open_s_first of at least a millisecond.
_DOUBLINGS_MAX = 30


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """Settings; defaults from `resilience` (a).

    Args:
        window_s: Outcomes older than this are forgotten.
        calls_min: Not judged before so many outcomes are in the window (10 when serving).
        failures_min: ... nor opened for failures before so many of them failed.
        failure_share: Opens when at least this share of the outcomes failed, in [0, 1].
        slow_share: Opens when at least this share of the outcomes was slow, in (0, 1].
        slow_factor, slow_s_min: Slow is a time to first byte above `slow_factor` times the base of the
            lane and above `slow_s_min` seconds.
        open_s_first: Ceiling of the first pause; doubles each time a probe fails, but never exceeds the time
            since the last good answer: an outage of seconds is not answered by minutes (decision 0007).
        open_s_max: The ceiling never exceeds this.
        answered_share: While probes fail and the upstream answers all the same (5xx, a damaged body), the
            ceiling is this share of the time since it opened first, in [0, 1]; None: it makes no difference.
        jitter_share: A pause is drawn evenly from (ceiling * (1 - this), ceiling]; 1 is full jitter.
        probe_lease_s: A probe that has not reported by then is given up, and another let through. Longer than
            an attempt may take: a good answer that comes later is not counted.
        successes_to_close: Good probes in a row that close the breaker.
    """

    window_s: float = 30.0
    calls_min: int = 20
    failures_min: int = 1
    failure_share: float = 0.5
    slow_share: float = 0.8
    slow_factor: float = 10.0
    slow_s_min: float = 10.0
    open_s_first: float = 5.0
    open_s_max: float = 120.0
    jitter_share: float = 1.0
    probe_lease_s: float = 150.0
    answered_share: float | None = None
    successes_to_close: int = 3

    def __post_init__(self) -> None:
        if not (self.window_s > 0.0 and self.probe_lease_s > 0.0 and self.slow_s_min >= 0.0):
            raise ConfigError("window and probe lease of a breaker must be above 0 seconds")
        if min(self.calls_min, self.failures_min, self.successes_to_close) < 1:
            raise ConfigError("calls, failures and successes of a breaker must be 1 or more")
        if not (0.0 <= self.failure_share <= 1.0 and 0.0 < self.slow_share <= 1.0):
            raise ConfigError("the shares of a breaker must be in 0 to 1")
        if self.answered_share is not None and not 0.0 <= self.answered_share <= 1.0:
            raise ConfigError("the share of an answered outage must be in 0 to 1")
        if not 0.0 <= self.jitter_share <= 1.0:
            raise ConfigError("the jitter share of a breaker must be in 0 to 1")
        if not (0.0 < self.open_s_first <= self.open_s_max < inf and self.slow_factor >= 1.0):
            raise ConfigError("a breaker opens for more than 0 seconds, and at most for open_s_max")


BREAKER_DEFAULT = BreakerRule()
# For a job, whose tiles wait: it looks sooner, because most outages are short; and where only tiles are left
# that are broken for good, it must come to an end of them (decision 0007).
BREAKER_PAUSING = BreakerRule(open_s_first=1.0, answered_share=1 / 60)
# For a service: fewer calls must do, because people wait, and however long an outage was, its end is seen
# within ten seconds: a probe is one request, and no tile pays for it.
BREAKER_SERVING = BreakerRule(calls_min=10, open_s_max=8.0)


def counting_rule(*, failures: int = 5, window_s: float = 60.0, open_s: float = 60.0) -> BreakerRule:
    """The older kind: opens at so many failures in the window whatever succeeded, for a fixed time, and
    closes at the first good probe. The defaults are those of the programs tilehaul replaces.

    Raises:
        ConfigError: a number is not above 0.
    """
    return BreakerRule(
        window_s=window_s,
        calls_min=failures,
        failures_min=failures,
        failure_share=0.0,
        slow_factor=inf,
        open_s_first=open_s,
        open_s_max=open_s,
        jitter_share=0.0,
        successes_to_close=1,
    )


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave for one attempt. `generation` numbers the time it belongs to; `probe`: it tests a half-open
    breaker.
    """

    generation: int
    probe: bool


class Breaker:
    """One lane's breaker. Time (monotonic seconds, >= 0) and luck are arguments.

    `openings` counts how often it opened. A report with a ticket from an earlier time changes nothing.
    """

    __slots__ = (
        "_doublings",
        "_good_probes",
        "_good_s",
        "_ill_s",
        "_lease_s",
        "_rule",
        "_state",
        "_ticket",
        "_until_s",
        "_window",
        "openings",
    )

    def __init__(self, rule: BreakerRule = BREAKER_DEFAULT) -> None:
        self._rule = rule
        self._state: BreakerState = "closed"
        # The one valid ticket: all admissions of a closed breaker share it.
        self._ticket = Ticket(0, probe=False)
        self._window = _Window(rule.window_s)
        self._until_s = 0.0
        self._lease_s = -inf
        self._good_probes = 0
        # When the upstream last answered as it should, or that there is nothing.
        self._good_s = -inf
        # When it last opened after having been closed.
        self._ill_s = 0.0
        self._doublings = 0
        self.openings = 0

    def state(self, now_s: float) -> BreakerState:
        """`open` becomes `half_open` when its time is over, whether anybody asks or not."""
        if self._state == "open" and now_s >= self._until_s:
            return "half_open"
        return self._state

    def admit(self, now_s: float) -> Ticket | None:
        """Leave for one attempt, whose outcome must be reported, or None: ask again in `retry_after_s`."""
        if self._state == "closed":
            return self._ticket
        if self.retry_after_s(now_s) > 0.0:
            return None
        self._state = "half_open"
        self._lease_s = now_s + self._rule.probe_lease_s
        self._ticket = Ticket(self._ticket.generation + 1, probe=True)
        return self._ticket

    def retry_after_s(self, now_s: float) -> float:
        """Seconds until an attempt may be let through; 0.0: now. Half open: until the probe's lease ends,
        at the latest.
        """
        if self._state == "closed":
            return 0.0
        return max(0.0, (self._until_s if self._state == "open" else self._lease_s) - now_s)

    def on_success(self, now_s: float, ticket: Ticket, ttfb_s: float, base_s: float | None) -> None:
        """Bytes came and verified. `base_s` is the lane's base (`AdaptiveLimit.base_s`), None if unknown.

        May open a closed breaker: success after success can still be too slow. That opening is not
        jittered; nothing failed, so nobody else opens in the same instant.
        """
        if self._is_stale(ticket):
            return
        self._good_s = now_s
        if ticket.probe:
            self._probe_was_good()
            return
        rule = self._rule
        slow = ttfb_s > rule.slow_s_min and base_s is not None and ttfb_s > rule.slow_factor * base_s
        self._window.add(now_s, failed=False, slow=slow)
        if slow:
            self._judge(now_s, luck=0.0)

    def on_answered(self, now_s: float, ticket: Ticket) -> None:
        """The upstream said no, and is well: absent, or a permanent refusal."""
        if self._is_stale(ticket):
            return
        self._good_s = now_s
        if ticket.probe:
            self._probe_was_good()

    def on_failure(self, now_s: float, ticket: Ticket, luck: float, *, answered: bool = False) -> None:
        """Connect, TLS, timeout, 5xx, corrupt body. `luck` in [0, 1) draws the pause if this opens.

        `answered`: the upstream is there and said so, by 5xx or with a body that is damaged.
        """
        if self._is_stale(ticket):
            return
        if ticket.probe:
            self._doublings = min(self._doublings + 1, _DOUBLINGS_MAX)
            self._open(now_s, luck, answered=answered)
            return
        self._window.add(now_s, failed=True, slow=False)
        self._judge(now_s, luck)

    def on_neutral(self, ticket: Ticket) -> None:
        """Cancelled by us, a local error, or push-back: says nothing, frees the probe's place."""
        if not self._is_stale(ticket) and ticket.probe:
            self._end_probe()

    def _is_stale(self, ticket: Ticket) -> bool:
        return ticket.generation != self._ticket.generation

    def _probe_was_good(self) -> None:
        self._good_probes += 1
        self._end_probe()
        if self._good_probes >= self._rule.successes_to_close:
            self._state = "closed"
            self._doublings = 0
            self._window.clear(self._good_s)

    def _end_probe(self) -> None:
        self._lease_s = -inf
        # Whatever this ticket may report a second time is stale.
        self._ticket = Ticket(self._ticket.generation + 1, probe=False)

    def _judge(self, now_s: float, luck: float) -> None:
        rule = self._rule
        calls, failures, slow = self._window.counts(now_s)
        if calls < rule.calls_min:
            return
        if (failures >= rule.failures_min and failures >= rule.failure_share * calls) or (
            slow >= rule.slow_share * calls
        ):
            self._open(now_s, luck)

    def _open(self, now_s: float, luck: float, *, answered: bool = False) -> None:
        rule = self._rule
        if self._state == "closed":
            self._ill_s = now_s
        silent_s = max(rule.open_s_first, now_s - self._good_s)
        ceiling_s: float = min(rule.open_s_first * 2.0**self._doublings, silent_s, rule.open_s_max)
        if answered and rule.answered_share is not None:
            ceiling_s = min(ceiling_s, max(rule.open_s_first, rule.answered_share * (now_s - self._ill_s)))
        self._state = "open"
        self._until_s = now_s + ceiling_s * (1.0 - rule.jitter_share * luck)
        self._good_probes = 0
        self._ticket = Ticket(self._ticket.generation + 1, probe=False)
        self.openings += 1


class _Window:
    """Counts of outcomes over the last `window_s` seconds, in a ring of WINDOW_STEPS slots."""

    __slots__ = ("_failures", "_newest", "_slow", "_step_s", "_total")

    def __init__(self, window_s: float) -> None:
        self._step_s = window_s / WINDOW_STEPS
        self.clear(0.0)

    def clear(self, now_s: float) -> None:
        self._newest = int(now_s / self._step_s)
        self._total = [0] * WINDOW_STEPS
        self._failures = [0] * WINDOW_STEPS
        self._slow = [0] * WINDOW_STEPS

    def add(self, now_s: float, *, failed: bool, slow: bool) -> None:
        if int(now_s / self._step_s) > self._newest:
            self._advance(now_s)
        slot = self._newest % WINDOW_STEPS
        self._total[slot] += 1
        # Said apart from the total: nearly every outcome is neither, and this runs for every tile.
        if failed:
            self._failures[slot] += 1
        if slow:
            self._slow[slot] += 1

    def counts(self, now_s: float) -> tuple[int, int, int]:
        """All outcomes, the failed, the slow."""
        self._advance(now_s)
        return sum(self._total), sum(self._failures), sum(self._slow)

    def _advance(self, now_s: float) -> None:
        """Forget what has become too old."""
        newest = int(now_s / self._step_s)
        if newest > self._newest:
            for step in range(max(self._newest, newest - WINDOW_STEPS) + 1, newest + 1):
                slot = step % WINDOW_STEPS
                self._total[slot] = self._failures[slot] = self._slow[slot] = 0
            self._newest = newest
