"""How long one more would wait in a lane's queue: work in it over the pace at which it goes away."""

from collections.abc import Iterable
from math import inf


def queue_wait_s(
    ahead: float, *, limit: int, answer_s: float, caps_per_s: Iterable[float | None] = ()
) -> float:
    """Seconds until those ahead have been sent, on what is known; 0.0 when nothing is.

    Args:
        ahead: Attempts that wait already; what is below 0 is room.
        limit: Attempts that may be under way at once, >= 1.
        answer_s: What one takes. A median is below the mean, so this rather errs to the short side.
        caps_per_s: Bounds on attempts a second, None: no bound.
    """
    if ahead <= 0:
        return 0.0
    per_s = limit / answer_s if answer_s > 0 else inf
    for cap_per_s in caps_per_s:
        if cap_per_s is not None:
            per_s = min(per_s, cap_per_s)
    return ahead / per_s
