"""When to try again, and how long to wait first.

Full jitter: a wait is drawn evenly from [0, ceiling), the ceiling doubles from
attempt to attempt. Of the jitters compared it needs the fewest calls (AWS
Architecture Blog, "Exponential backoff and jitter"; re-run in `resilience` §2).
"""

from dataclasses import dataclass

from tilehaul.errors import (
    BrokenError,
    DataError,
    ThrottledError,
    TilehaulError,
    TimedOutError,
    UnreachableError,
)

# Wrong type twice is permanent (`contracts`, Answers of an origin): a server seldom changes its mind.
MISTYPED_MAX = 2
# Waits grow no further than this many times, where nothing else caps them: floats end at 3.0 ** 646.
GROWTHS_MAX = 500
# Damage that another attempt may mend, by `DataError.cause`; any other cause is a body of the wrong kind.
_MENDABLE = frozenset({"truncated", "bad_coding", "corrupt", "empty"})


@dataclass(frozen=True, slots=True)
class RetryRule:
    """How often and how late.

    Args:
        attempts_max: Attempts in all, >= 1. `--retries N` means N + 1.
        delay_s_first: Ceiling of the wait before the second attempt, seconds.
        delay_s_max: The ceiling never exceeds this.
        wait_s_max: Push-back costs no attempt, but an item waits at most this long for it (`--max-wait`).
        growth: The ceiling is this many times as high after each attempt, in [1, 4].
        jitter: Share of the wait that is drawn, in [0, 1]; the rest is always waited. 0.0 is for callers
            whose waits were promised as numbers: those who failed together then come back together, and
            only the lane keeps them apart.
    """

    attempts_max: int = 6
    delay_s_first: float = 0.5
    delay_s_max: float = 60.0
    wait_s_max: float = 1800.0
    growth: float = 2.0
    jitter: float = 1.0

    def delay_s(self, error: TilehaulError, attempt: int, luck: float, *, mistyped: int = 0) -> float | None:
        """Seconds to wait after failed attempt number `attempt` (from 1), or None to give up.

        Args:
            error: How the attempt failed. Push-back is not asked here: see `patience_s`.
            attempt: Attempts made so far that count, >= 1.
            luck: A number in [0, 1).
            mistyped: How many of them brought a whole body of the wrong kind (`is_mistyped`).
        """
        if not is_transient(error) or attempt >= self.attempts_max or mistyped >= MISTYPED_MAX:
            return None
        ceiling_s = min(self.delay_s_first * self.growth ** min(attempt - 1, GROWTHS_MAX), self.delay_s_max)
        return ceiling_s * (1.0 - self.jitter) + luck * self.jitter * ceiling_s

    def patience_s(self, waited_s: float) -> float:
        """Seconds an item that was pushed back may still wait. Zero or less: give up."""
        return self.wait_s_max - waited_s


def is_mistyped(error: TilehaulError) -> bool:
    """Whether the body came whole but is not what was asked for."""
    return isinstance(error, DataError) and error.cause not in _MENDABLE


def is_transient(error: TilehaulError) -> bool:
    """Whether another attempt may succeed. Push-back is neither transient nor permanent: it is a gate."""
    if isinstance(error, ThrottledError):
        return False
    return isinstance(error, UnreachableError | TimedOutError | BrokenError | DataError)
