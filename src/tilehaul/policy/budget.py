"""How many retries a lane can afford.

When an upstream fails, retries are what keeps it down. The budget ties them to successes: about one retry
for every ten, whatever the number of attempts an item would be allowed (Google SRE book, "Handling
overload": 10 %; gRPC proposal A6: `tokenRatio` 0.1). Whoever is refused waits; no item is lost by it.

A retry that succeeds gives a token back (as in botocore's standard mode): what the budget is against is
retries that fail as well. Without that an upstream that fails one request in four, and is well otherwise,
would soon be asked for one tile a second (decision 0006).
"""

from dataclasses import dataclass

from tilehaul.errors import ConfigError


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """Args:
    tokens_max: Tokens a full budget holds, and how many it starts with, >= 1.
    per_success: What each success gives back, >= 0.
    floor_per_s: Retries per second allowed also when the budget is empty, > 0: without them a lane
        whose every item has failed once could never find out that the upstream is well again
        (Finagle's `RetryBudget` has 10/s; one is enough to see).
    """

    tokens_max: float = 100.0
    per_success: float = 0.1
    floor_per_s: float = 1.0

    def __post_init__(self) -> None:
        if not (self.tokens_max >= 1.0 and self.per_success >= 0.0 and self.floor_per_s > 0.0):
            raise ConfigError("a retry budget needs 1 token or more, no negative return, a floor above 0")


# `resilience` (a).
BUDGET_DEFAULT = BudgetRule()


class RetryBudget:
    """A token bucket filled by successes. Push-back is not paid from it: the gate answers for that."""

    __slots__ = ("_floor_s", "_rule", "tokens")

    def __init__(self, rule: BudgetRule = BUDGET_DEFAULT) -> None:
        self._rule = rule
        self.tokens = rule.tokens_max
        self._floor_s = 0.0

    def on_success(self) -> None:
        self.tokens = min(self._rule.tokens_max, self.tokens + self._rule.per_success)

    def refund(self) -> None:
        """A retry has succeeded: it earns the next one, beside what every success gives."""
        self.tokens = min(self._rule.tokens_max, self.tokens + 1.0)

    def spend(self, now_s: float) -> bool:
        """Pay for one retry at `now_s` (seconds, monotonic, >= 0). False: not now, see `wait_s`."""
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            return True
        if now_s < self._floor_s:
            return False
        self._floor_s = now_s + 1.0 / self._rule.floor_per_s
        return True

    def wait_s(self, now_s: float) -> float:
        """Seconds until a retry may surely be paid for; 0.0: now. A success may shorten it."""
        if self.tokens >= 1.0:
            return 0.0
        return max(0.0, self._floor_s - now_s)
