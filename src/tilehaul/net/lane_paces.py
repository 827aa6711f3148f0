"""What spaces a lane's attempts out in time: its own pace, an announced quota, a rate that was set."""

from math import inf

from tilehaul.policy.pace import Pace
from tilehaul.policy.quota_pace import QuotaPace
from tilehaul.policy.rate import Rate


class LanePaces:
    """All three must agree. `rate`: several lanes may keep one together; None: none."""

    __slots__ = ("own", "quota", "rate")

    def __init__(self, rate: Rate | None) -> None:
        self.own = Pace()
        self.quota = QuotaPace()
        self.rate = rate

    def wait_s(self, now_s: float) -> float:
        """Seconds until one more attempt may go; 0.0: now."""
        wait_s = 0.0
        if self.own.per_s != inf:
            wait_s = self.own.wait_s(now_s)
        if self.quota.until_s > now_s:
            wait_s = max(wait_s, self.quota.wait_s(now_s))
        if self.rate is not None:
            wait_s = max(wait_s, self.rate.wait_s(now_s))
        return wait_s

    def take(self, now_s: float) -> None:
        """One attempt goes."""
        if self.rate is not None:
            self.rate.take(now_s)
        if self.quota.until_s > now_s:
            self.quota.on_send(now_s)
        if self.own.per_s != inf:
            self.own.on_send(now_s)
