"""Writes to one key of a bucket, far enough apart.

R2 takes one write a second for each key and answers 429 above (Cloudflare R2, "Limits"). Other keys are not
held up, so this is no business of the lane's gate.
"""

from math import inf

SPACING_S = 1.0


class KeySpacing:
    """When a key may be written next. Remembers a key until its spacing is over.

    Times are seconds on one monotonic clock.
    """

    __slots__ = ("_next_s", "spacing_s")

    def __init__(self, spacing_s: float = SPACING_S) -> None:
        self.spacing_s = spacing_s
        self._next_s: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._next_s)

    def reserve(self, key: str, now_s: float) -> float:
        """Take the key's next turn; seconds until it comes, 0.0: now. Turns are given in order."""
        self._forget(now_s)
        turn_s = max(now_s, self._next_s.pop(key, -inf))
        # Put last: the dictionary stays almost in the order of its times.
        self._next_s[key] = turn_s + self.spacing_s
        return turn_s - now_s

    def _forget(self, now_s: float) -> None:
        while self._next_s:
            oldest = next(iter(self._next_s))
            if self._next_s[oldest] > now_s:
                return
            del self._next_s[oldest]
