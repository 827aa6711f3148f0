"""At most so many requests a second: the generic cell rate algorithm (ITU-T I.371, annex A), the token
bucket that remembers one number.
"""

from dataclasses import dataclass

from tilehaul.errors import ConfigError

# The clock's rounding: who has waited exactly `wait_s` must find that the time has come.
_ROUNDING_S = 1e-9


@dataclass(frozen=True, slots=True)
class RateRule:
    """`per_s`: requests a second in the long run, > 0 (0.2 is one in five seconds). `burst`: how many
    may follow at once after a rest, >= 1.
    """

    per_s: float
    burst: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.per_s < float("inf"):
            raise ConfigError(f"a rate must be above 0 requests a second, not {self.per_s}")
        if self.burst < 1:
            raise ConfigError(f"the burst of a rate must be 1 or more, not {self.burst}")


class Rate:
    """In any `t` seconds at most `burst + t * per_s` requests. Time is an argument, monotonic seconds."""

    __slots__ = ("_due_s", "_slack_s", "_step_s", "per_s")

    def __init__(self, rule: RateRule) -> None:
        self.per_s = rule.per_s
        self._step_s = 1.0 / rule.per_s
        self._slack_s = (rule.burst - 1) * self._step_s + _ROUNDING_S
        # When the next request would come if all had kept an even distance.
        self._due_s = float("-inf")

    def wait_s(self, now_s: float) -> float:
        """Seconds until `take` will answer True; 0.0: now."""
        wait_s = self._due_s - self._slack_s - now_s
        return wait_s + _ROUNDING_S if wait_s > 0.0 else 0.0

    def take(self, now_s: float) -> bool:
        """Take leave for one request. False takes nothing."""
        if now_s < self._due_s - self._slack_s:
            return False
        self._due_s = max(now_s, self._due_s) + self._step_s
        return True

    def owe(self, requests: int) -> None:
        """Count so many more, unasked: later ones wait the longer. Only after `take`."""
        self._due_s += requests * self._step_s
