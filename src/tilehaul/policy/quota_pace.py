"""What is left of a quota, spread evenly over the time until there is more.

An upstream that says "12 left, more in 60 s" while 30 attempts are under way will push back soon. Sending
the rest one by one, 5 s apart, uses it up exactly when it is renewed
(draft-ietf-httpapi-ratelimit-headers: a client should not send more than what remains before the reset).
"""

from math import inf

# The clock's rounding: who has waited exactly `wait_s` must find that the time has come.
_ROUNDING_S = 1e-9


class QuotaPace:
    """A temporary distance between requests. Time is an argument: monotonic seconds."""

    __slots__ = ("_next_s", "_step_s", "until_s")

    def __init__(self) -> None:
        # Until when the distance is kept; -inf: it is not.
        self.until_s = -inf
        self._step_s = 0.0
        self._next_s = -inf

    def on_quota(self, now_s: float, per_s: float | None, reset_s: float) -> None:
        """The upstream said how much is left.

        Args:
            now_s: The present.
            per_s: Requests a second that it allows, > 0; None: enough, no distance is needed any more.
            reset_s: Seconds until there is more, >= 0.
        """
        if per_s is None:
            self.until_s = -inf
            return
        self._step_s = 1.0 / per_s
        if now_s >= self.until_s:
            self._next_s = now_s + self._step_s
        self.until_s = now_s + reset_s

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next request may be sent; 0.0: now. Never beyond the end of the quota."""
        wait_s = min(self._next_s, self.until_s) - now_s
        return wait_s if wait_s > _ROUNDING_S else 0.0

    def on_send(self, now_s: float) -> None:
        """A request is sent."""
        self._next_s = max(now_s, self._next_s) + self._step_s
