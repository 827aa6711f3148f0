"""When a job stops itself."""

from dataclasses import dataclass

# The share is judged from this many outcomes on (`contracts`, Jobs).
JUDGED_FROM = 1000
DEAD_IN_A_ROW_MAX = 50
DENIED_IN_A_ROW_MAX = 20


@dataclass(frozen=True, slots=True)
class FailureLimit:
    """`--max-failures`: a count, or a share of the outcomes in [0, 1]; what is None does not limit."""

    count: int | None = None
    share: float | None = None


# 1 % (`contracts`, Jobs).
FAILURES_DEFAULT = FailureLimit(share=0.01)


class Fuse:
    """Counts outcomes and says when too much has failed."""

    def __init__(self, limit: FailureLimit) -> None:
        self._limit = limit
        self._outcomes = 0
        self._dead = 0
        self._dead_in_a_row = 0
        self._denied_in_a_row = 0

    def passed(self) -> None:
        """A tile was done or absent."""
        self._outcomes += 1
        self._dead_in_a_row = 0
        self._denied_in_a_row = 0

    def failed(self, *, denied: bool, cause: str) -> str | None:
        """A tile died of `cause`. Returns why the job must stop now, or None."""
        self._outcomes += 1
        self._dead += 1
        self._dead_in_a_row += 1
        self._denied_in_a_row = self._denied_in_a_row + 1 if denied else 0
        if self._denied_in_a_row >= DENIED_IN_A_ROW_MAX:
            return f"{DENIED_IN_A_ROW_MAX} answers 401/403 in a row: check the key or the permission"
        if self._dead_in_a_row >= DEAD_IN_A_ROW_MAX:
            return (
                f"{DEAD_IN_A_ROW_MAX} tiles in a row failed for good, the last of {cause}: look at the source"
            )
        if self._limit.count is not None and self._dead > self._limit.count:
            return f"{self._dead} tiles failed, more than --max-failures {self._limit.count}"
        if self._limit.share is not None and self._outcomes >= JUDGED_FROM:
            share = self._dead / self._outcomes
            if share > self._limit.share:
                return (
                    f"{share:.1%} of {self._outcomes} tiles failed, more than"
                    f" --max-failures {100.0 * self._limit.share:g}%"
                )
        return None
