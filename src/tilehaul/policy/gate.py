"""The gate of a lane: all wait because the upstream said so.

One client that goes on while another sleeps is what makes a client rude: with a
gate, the requests sent inside a Retry-After are only those already under way
(`resilience`, finding 7).
"""

# Waits without a Retry-After grow from this, doubling, up to GATE_S_MAX_UNASKED.
GATE_S_FIRST = 1.0
GATE_S_MAX_UNASKED = 60.0
# A lane reopens spread over this share of the wait, at most this many seconds.
SPREAD_SHARE = 0.1
SPREAD_S_MAX = 1.0


class Gate:
    """Until when a lane is held. Time is an argument: seconds on one monotonic clock.

    `held_s` is the time the lane has been closed in all; overlapping holds count once.
    """

    __slots__ = ("_unasked", "held_s", "until_s")

    def __init__(self) -> None:
        self.until_s = 0.0
        self.held_s = 0.0
        self._unasked = 0

    def hold(self, now_s: float, retry_after_s: float | None, luck: float) -> float:
        """Close the gate after a push-back.

        Args:
            now_s: The present.
            retry_after_s: Seconds asked for, >= 0, or None when the upstream named none. Without one, or
                with less than GATE_S_FIRST, the hold doubles with each push-back that follows without a
                success: "come back at once" from one who pushes back is no answer to obey.
            luck: A number in [0, 1): spreads the reopening, so that clients do not return as one.

        Returns:
            Seconds from now until the gate opens, > 0.
        """
        asked_s = retry_after_s or 0.0
        # Answers that were under way when the gate closed say nothing new, so they do not double it.
        if asked_s < GATE_S_FIRST and now_s >= self.until_s:
            asked_s = min(GATE_S_FIRST * 2.0**self._unasked, GATE_S_MAX_UNASKED)
            self._unasked = min(self._unasked + 1, 16)
        until_s = now_s + asked_s + luck * min(SPREAD_S_MAX, SPREAD_SHARE * asked_s)
        if until_s > self.until_s:
            self.held_s += until_s - max(self.until_s, now_s)
            self.until_s = until_s
        return self.until_s - now_s

    def wait_s(self, now_s: float) -> float:
        """Seconds until the gate opens; 0.0 when it is open."""
        return max(0.0, self.until_s - now_s)

    def open_again(self) -> None:
        """A success came: the next push-back without a Retry-After starts from the first wait."""
        self._unasked = 0
