"""How close together a lane's requests may follow, learned from push-back.

A limit of concurrency cannot keep to a strict rate limit: ten requests under way are a hundred a second, but
not evenly, and a server without burst (nginx `limit_req` alone) refuses two within 10 ms. When
push-back comes again soon after a gate has opened, the pace spaces requests evenly. Its rate then follows
CUBIC (RFC 9438 4.2, there for a window of packets): quickly back to near the rate at which push-back came,
slowly around it, faster beyond. The rate in use is measured, as botocore's adaptive mode does it.
"""

from dataclasses import dataclass
from math import inf

from tilehaul.errors import ConfigError

# The answers of so many seconds make one measurement of the rate in use (as botocore's adaptive mode).
MEASURE_S = 0.5
MEASURE_WEIGHT = 0.8
# The clock's rounding: who has waited exactly `wait_s` must find that the time has come.
_ROUNDING_S = 1e-9


@dataclass(frozen=True, slots=True)
class PaceRule:
    """Settings of a learned pace; those of decision 0004.

    Args:
        cut: What push-back leaves of the rate, in (0, 1).
        growth: CUBIC's C, as a share of the rate per cubic second, > 0. With `cut` it makes the plateau
            come 9 s after a cut.
        headroom: The rate is never more than this times the rate in use, > 1.
        least_per_s: Never slower than this.
        start_per_s: Taken for the rate in use when push-back comes before it could be measured.
        early_s, early_min: The pace begins when push-back came within `early_s` seconds after the lane
            was let go on, `early_min` times in a row.
        pay_share, pay_weight: Even spacing that brings less than this share of the good answers a second that
            came without it, waits included, is dropped. Each time from push-back to push-back counts with
            this weight, those before it together with the rest.
    """

    cut: float = 0.85
    growth: float = 0.0002
    headroom: float = 1.5
    least_per_s: float = 0.1
    start_per_s: float = 20.0
    early_s: float = 3.0
    early_min: int = 3
    pay_share: float = 0.8
    pay_weight: float = 0.5

    def __post_init__(self) -> None:
        if not (0.0 < self.cut < 1.0 and self.growth > 0.0 and self.headroom > 1.0):
            raise ConfigError("a pace's cut must be in 0 to 1, its growth above 0, its headroom above 1")
        if not (self.least_per_s > 0.0 and self.start_per_s > 0.0):
            raise ConfigError("the rates of a pace must be above 0")
        if not (self.early_s > 0.0 and self.early_min >= 1):
            raise ConfigError("a pace begins after 1 early push-back or more")
        if not (0.0 < self.pay_share <= 1.0 and 0.0 < self.pay_weight <= 1.0):
            raise ConfigError(
                "what a pace must pay, and the weight of the last time, are above 0 and at most 1"
            )


PACE_DEFAULT = PaceRule()


class Pace:
    """`per_s` is the rate, infinite until push-back has asked for one. Time is an argument (monotonic, s)."""

    __slots__ = (
        "_begun_s",
        "_count",
        "_cut_s",
        "_early",
        "_next_s",
        "_paid",
        "_peak_per_s",
        "_rule",
        "_unpaced_per_s",
        "per_s",
        "used_per_s",
    )

    def __init__(self, rule: PaceRule = PACE_DEFAULT) -> None:
        self._rule = rule
        self.per_s = inf
        # Good answers a second, smoothed; 0.0 before the first measurement.
        self.used_per_s = 0.0
        self._peak_per_s = inf
        self._cut_s = -inf
        self._early = 0
        self._begun_s = -inf
        self._count = 0
        self._next_s = -inf
        # Good answers a second from push-back to push-back, waits included: before the pace began; and with
        # it, smoothed, as a share of that.
        self._unpaced_per_s = 0.0
        self._paid = 1.0

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next request may be sent; 0.0: now."""
        wait_s = self._next_s - now_s
        return wait_s if wait_s > _ROUNDING_S else 0.0

    def on_send(self, now_s: float) -> None:
        """A request is sent."""
        if self.per_s != inf:
            self._next_s = max(now_s, self._next_s) + 1.0 / self.per_s

    def on_success(self, now_s: float) -> None:
        """An answer was good: measures the rate in use and lets the pace grow."""
        if self._begun_s == -inf:
            self._begun_s = now_s
            return
        self._count += 1
        passed_s = now_s - self._begun_s
        if passed_s < MEASURE_S:
            return
        rate_per_s = self._count / passed_s
        weight = MEASURE_WEIGHT if self.used_per_s else 1.0
        self.used_per_s += weight * (rate_per_s - self.used_per_s)
        self._begun_s, self._count = now_s, 0
        if self.per_s != inf:
            self._grow(now_s)

    def on_push_back(self, now_s: float, resumed_s: float, yield_per_s: float | None = None) -> None:
        """The upstream asked for less; the lane will be held until `resumed_s`.

        `yield_per_s`: good answers a second since the push-back before, the wait included; None: unknown.
        """
        rule = self._rule
        self._begun_s, self._count = -inf, 0
        since_s = now_s - self._cut_s
        self._cut_s = max(self._cut_s, resumed_s)
        if since_s < 0.0:
            # The rest of a volley: the lane is held already.
            return
        self._early = self._early + 1 if since_s < rule.early_s else 0
        if self.per_s == inf:
            if self._early < rule.early_min:
                return
            self._unpaced_per_s = yield_per_s or 0.0
            self._paid = 1.0
        elif yield_per_s is not None and not self._pays(yield_per_s):
            self.drop()
            self._cut_s = resumed_s
            return
        self._peak_per_s = min(self.per_s, self.used_per_s or rule.start_per_s)
        self.per_s = max(rule.least_per_s, self._peak_per_s * rule.cut)

    def drop(self) -> None:
        """No even spacing any more: what pushes back does not count requests."""
        self.per_s = inf
        self._begun_s, self._count = -inf, 0
        self._cut_s = -inf
        self._early = 0

    def _pays(self, yield_per_s: float) -> bool:
        if self._unpaced_per_s <= 0.0:
            return True
        self._paid += self._rule.pay_weight * (yield_per_s / self._unpaced_per_s - self._paid)
        return self._paid >= self._rule.pay_share

    def _grow(self, now_s: float) -> None:
        rule = self._rule
        scale = rule.growth * self._peak_per_s
        plateau_s = ((1.0 - rule.cut) / rule.growth) ** (1.0 / 3.0)
        per_s = self._peak_per_s + scale * (now_s - self._cut_s - plateau_s) ** 3
        self.per_s = max(rule.least_per_s, min(per_s, rule.headroom * self.used_per_s))
