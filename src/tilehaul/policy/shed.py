"""Failures that are a limit in disguise.

Many servers shed load without a word of when to come back: nginx's `limit_conn` and `limit_req` answer a bare
503 (or 429, but that is push-back), load balancers a 502, others close the connection. To a lane these are
failures. One that goes on sending is refused quickly, so it asks again quickly: the refusals soon outnumber
the answers, retries use up their budget, the breaker opens, and an upstream that could serve 200 a second
serves six.

So failures cut the limit as push-back does, when they are many. That mends nothing where they have another
reason: one of four backends is broken, and each cut costs answers in proportion; or the upstream is down, and
no answer comes however few ask. By that they are told apart from load. Then the cuts are taken back: how much
is sent to an upstream that is down is the breaker's matter.
"""

from math import inf

from tilehaul.policy.limit import AdaptiveLimit

# "Many" failures: so many in a period, and this share of its outcomes. A random 5 % is none of it.
FAILURES_MIN = 5
FAILED_SHARE = 0.2
# A period lasts this long, and until so many good answers make a rate of it; but never longer than the last.
PERIOD_S = 1.0
ANSWERS_MIN = 20
PERIOD_S_MAX = 5.0
# A cut leaves 0.7 of the limit. Were failures no matter of load, it would leave 0.7 of the answers too; where
# load is the reason, it leaves all of them.
COSTLY_SHARE = 0.85
# Of the answers there were before a cut, less than this share is left only when the upstream is down.
DOWN_SHARE = 0.1
# So long are failures let be that do not follow load; doubled each time that is found again.
LET_BE_S_FIRST = 60.0
LET_BE_S_MAX = 600.0


class Shed:
    """Tells a limit of failures that follow load. Time is an argument (seconds on one monotonic clock).

    `until_s` is when failures that were found unrelated to load are judged anew; -inf while load is to blame.
    """

    __slots__ = (
        "_answers",
        "_down",
        "_ends_s",
        "_failures",
        "_level",
        "_limit",
        "_rate_per_s",
        "_since_s",
        "_span_s",
        "until_s",
    )

    def __init__(self, limit: AdaptiveLimit) -> None:
        self._limit = limit
        self.until_s = -inf
        self._span_s = LET_BE_S_FIRST
        # This period: since when, what came of it, and when it may end.
        self._since_s = -inf
        self._ends_s = -inf
        self._answers = 0
        self._failures = 0
        # Good answers a second in the one before, 0.0 when they were too few to tell; the level before the
        # first of the cuts on trial, 0.0 when none is; whether no answers come, however few ask.
        self._rate_per_s = 0.0
        self._level = 0.0
        self._down = False

    def on_success(self, now_s: float) -> None:
        """A good answer came."""
        self._answers += 1
        if now_s >= self._ends_s and not self._many():
            self._end_period(now_s, 1)

    def on_failure(self, now_s: float, in_flight: int) -> None:
        """An attempt failed, and the upstream named no wait; `in_flight` were under way, it included."""
        self._limit.on_failure(now_s)
        self._failures += 1
        if self._level == 0.0 and self._many() and now_s >= self.until_s and not self._down:
            # The first at once, not at the period's end: what is refused at once is asked for again at once.
            self._cut(now_s, in_flight)
        elif now_s >= self._ends_s:
            self._end_period(now_s, in_flight)

    def _many(self) -> bool:
        return self._failures >= FAILURES_MIN and self._failures >= FAILED_SHARE * (
            self._failures + self._answers
        )

    def _end_period(self, now_s: float, in_flight: int) -> None:
        elapsed_s = now_s - self._since_s
        if elapsed_s == inf:
            self._since_s, self._ends_s = now_s, now_s + PERIOD_S
            return
        rate_per_s, before_per_s = self._answers / elapsed_s, self._rate_per_s
        if self._failures >= FAILURES_MIN and rate_per_s <= DOWN_SHARE * before_per_s:
            self._down = True
            self._take_back()
        elif self._answers < ANSWERS_MIN and elapsed_s < PERIOD_S_MAX:
            return
        else:
            self._down = False
            self._rate_per_s = rate_per_s if self._answers >= ANSWERS_MIN else 0.0
            if now_s < self.until_s or self._limit.probing or not self._many():
                self._level = 0.0
            elif self._level and self._rate_per_s and rate_per_s < COSTLY_SHARE * before_per_s:
                self._take_back()
                self.until_s = now_s + self._span_s
                self._span_s = min(2.0 * self._span_s, LET_BE_S_MAX)
            else:
                self._cut(now_s, in_flight)
                return
        self._begin_period(now_s)

    def _take_back(self) -> None:
        if self._level:
            self._limit.take_back(self._level)
        self._level = 0.0

    def _cut(self, now_s: float, in_flight: int) -> None:
        self._level = self._level or self._limit.level
        self._limit.on_push_back(now_s)
        self._begin_period(now_s)
        # Those still under way tell of the limit that was: as many failures more are forgiven.
        self._failures = 1 - in_flight

    def _begin_period(self, now_s: float) -> None:
        self._since_s = now_s
        # Of a slow upstream answers come in flocks: one must be seen whole.
        self._ends_s = now_s + max(PERIOD_S, 2.0 * (self._limit.base_s or 0.0))
        self._answers = 0
        self._failures = 0
