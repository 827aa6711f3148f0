"""The gate of a lane: all wait because the upstream said so.

One client that goes on while another sleeps is what makes a client rude: with a
gate, the requests sent inside a Retry-After are only those already under way
(`resilience`, finding 7). After it has opened, slots come back one by one: a whole
lane that starts in the same instant is pushed back again.
"""

from math import inf
from typing import NamedTuple

# Waits without a Retry-After grow from this, doubling, up to GATE_S_MAX_UNASKED.
GATE_S_FIRST = 1.0
GATE_S_MAX_UNASKED = 60.0
# A lane reopens spread over this share of the wait, at most this many seconds.
SPREAD_SHARE = 0.1
SPREAD_S_MAX = 1.0
# After the gate has opened one more attempt may be under way every so many seconds (`resilience` 1.3), and
# one more with each good answer: a fast upstream is not kept waiting for the clock (decision 0004).
RAMP_S = 0.05
# Who asks for less than one step of the ramp (`Retry-After: 0`) has named no wait.
ASKED_S_MIN = RAMP_S
# A longer wait than this is not slept off in silence (`resilience` 2, Retry-After).
PARK_S = 900.0
# Nothing but push-back for so long parks the lane too (`resilience` 3), once it has been tried so often:
# a single long Retry-After that is followed by a short one is no reason.
PUSHED_BACK_S_MAX = 60.0
PUSHED_BACK_TRIES_MIN = 5


class Spell(NamedTuple):
    """Held for `held_s` seconds, then open for `open_s`, with `answers` good ones to what was sent then."""

    held_s: float
    open_s: float
    answers: int


class Gate:
    """Until when a lane is held. Time is an argument: seconds on one monotonic clock.

    `held_s` is the time the lane has been closed in all; overlapping holds count once.
    `until_s` is when it opens, or opened last; 0.0 when it was never closed.
    """

    __slots__ = (
        "_answers",
        "_asked_s",
        "_closed_s",
        "_pushed_back_s",
        "_starved",
        "_tries",
        "_unasked",
        "held_s",
        "until_s",
    )

    def __init__(self) -> None:
        self.until_s = 0.0
        self.held_s = 0.0
        self._unasked = 0
        self._asked_s = 0.0
        # When it was closed last, and the good answers to what was sent after it had opened.
        self._closed_s = 0.0
        self._answers = 0
        # Since the last success: the first push-back, and how often an open gate was closed.
        self._pushed_back_s = inf
        self._tries = 0
        self._starved = False

    def hold(self, now_s: float, retry_after_s: float | None, luck: float) -> float:
        """Close the gate after a push-back, or keep it closed for longer; it never opens earlier.

        Args:
            now_s: The present.
            retry_after_s: Seconds asked for, >= 0, or None when the upstream named none. Without one
                (or with less than ASKED_S_MIN) the hold doubles with each push-back that follows
                without a success, and the rest of a volley that finds the gate closed changes nothing.
            luck: A number in [0, 1): spreads the reopening, so that clients do not return as one.

        Returns:
            Seconds from now until the gate opens, > 0. A lane that for PUSHED_BACK_S_MAX met nothing
            but push-back, and was tried PUSHED_BACK_TRIES_MIN times, is held at least
            GATE_S_MAX_UNASKED each time.
        """
        self._pushed_back_s = min(self._pushed_back_s, now_s)
        self._tries += now_s >= self.until_s
        self._starved = (
            now_s - self._pushed_back_s >= PUSHED_BACK_S_MAX and self._tries >= PUSHED_BACK_TRIES_MIN
        )
        if retry_after_s is not None and retry_after_s >= ASKED_S_MIN:
            asked_s = retry_after_s
        elif now_s < self.until_s:
            return self.until_s - now_s
        else:
            asked_s = min(GATE_S_FIRST * 2.0**self._unasked, GATE_S_MAX_UNASKED)
            self._unasked = min(self._unasked + 1, 16)
        if self._starved:
            asked_s = max(asked_s, GATE_S_MAX_UNASKED)
        until_s = now_s + asked_s + luck * min(SPREAD_S_MAX, SPREAD_SHARE * asked_s)
        if until_s > self.until_s:
            self.held_s += until_s - max(self.until_s, now_s)
            if now_s >= self.until_s:
                self._closed_s = now_s
            self.until_s = until_s
            self._answers = 0
            self._asked_s = asked_s
        return self.until_s - now_s

    def wait_s(self, now_s: float, in_flight: int = 0) -> float:
        """Seconds until one more attempt may be sent beside `in_flight` others; 0.0: now.

        With `in_flight` 0 that is when the gate opens; each further slot follows RAMP_S later, or with
        the next good answer: what answers in 10 ms is back to 32 at once in 50 ms, and what answers in
        seconds is asked no faster than the clock says.
        """
        if self.until_s == 0.0:
            return 0.0
        return max(0.0, self.until_s + max(0, in_flight - self._answers) * RAMP_S - now_s)

    def spell(self, now_s: float) -> Spell | None:
        """What came of the time since the gate opened last; None while it is closed, or never was."""
        if self.until_s == 0.0 or now_s < self.until_s:
            return None
        return Spell(self.until_s - self._closed_s, now_s - self.until_s, self._answers)

    def open_again(self, sent_s: float = inf) -> None:
        """A good answer came: one more slot, and waits without a Retry-After start from the first again.

        `sent_s` is when that attempt was sent. One sent before the gate closed proves nothing about
        now, and is not heeded.
        """
        if sent_s < self.until_s:
            return
        self._answers += 1
        self._unasked = 0
        self._pushed_back_s = inf
        self._tries = 0
        self._starved = False

    def parked(self, now_s: float) -> str | None:
        """Why the lane is held so long that people must be told, or None. One clause, no name, no stop."""
        if now_s >= self.until_s:
            return None
        if self._asked_s > PARK_S:
            return (
                f"asked to wait {span_text(self._asked_s)}, more than {span_text(PARK_S)}:"
                f" parked, {span_text(self.until_s - now_s)} to go"
            )
        if self._starved:
            return (
                f"nothing but push-back for over {span_text(PUSHED_BACK_S_MAX)}:"
                f" parked, tried again in {span_text(self.until_s - now_s)}"
            )
        return None


def span_text(seconds: float) -> str:
    """A span for people, rounded up: `45 s`, `15 min`, `2 h 5 min`, `11 days`."""
    whole = int(-(-seconds // 1))
    if whole < 120:
        return f"{whole} s"
    minutes = -(-whole // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days"
