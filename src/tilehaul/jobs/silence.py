"""How long nothing has come."""


class Silence:
    """Counts seconds without a sign of life, look by look; times are seconds on one monotonic clock.

    A program that was suspended (Ctrl-Z, a closed lid) has not waited: a look counts at most twice the time
    that should be between two of them.
    """

    __slots__ = ("_between_s", "_heard_s", "_looked_s", "_silent_s")

    def __init__(self, now_s: float, *, between_s: float) -> None:
        self._between_s = between_s
        self._heard_s = now_s
        self._looked_s = now_s
        self._silent_s = 0.0

    def heard(self, now_s: float) -> None:
        """A sign of life."""
        self._heard_s = now_s

    def look(self, now_s: float) -> float:
        """Seconds of silence until now; 0.0 when there was a sign of life since the last look."""
        if self._heard_s >= self._looked_s:
            self._silent_s = 0.0
        else:
            self._silent_s += min(now_s - self._looked_s, 2 * self._between_s)
        self._looked_s = now_s
        return self._silent_s
