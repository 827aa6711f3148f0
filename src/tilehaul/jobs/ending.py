"""Failures that say something of the source and not of the tile: the tile stays pending, the job ends."""

from typing import Protocol

from tilehaul.errors import BusyError, DataError, ThrottledError
from tilehaul.jobs.score import Score
from tilehaul.policy.causes import REPLACED


def why_end(error: Exception, *, max_wait_s: float, fruitless_s: float) -> str:
    """Why the job must end now; "" when the failure is the tile's own.

    `fruitless_s`: how long ago the last tile came. A push-back ends the job when the origin is away for all,
    not when it pushes this one tile back again and again.
    """
    if isinstance(error, ThrottledError):
        if (error.retry_after_s or 0.0) > max_wait_s or fruitless_s >= max_wait_s:
            return f"{error}: more than --max-wait {max_wait_s:.0f} s"
        return ""
    if isinstance(error, BusyError):
        return str(error) if error.never_answered else ""
    return str(error) if is_replaced(error) else ""


def is_replaced(error: Exception) -> bool:
    """Whether the source is another one by now."""
    return isinstance(error, DataError) and error.cause == REPLACED


class Deadline(Protocol):
    """Of a plan: its deadline in seconds, and whether it moves again what is there."""

    @property
    def deadline_s(self) -> float | None: ...

    @property
    def overwrite(self) -> bool: ...


def late_message(plan: Deadline, score: Score) -> str:
    """Says that the deadline has ended the job, and how to go on."""
    again = "begins anew, for it overwrites" if plan.overwrite else "goes on"
    return (
        f"the deadline of {plan.deadline_s:g} s has come: {score.pending:,} of {score.planned:,} tiles are"
        f" pending; the same again {again}"
    )


def changed_words(score: Score) -> str:
    """Says that what was planned is not what there was."""
    there = score.planned - score.pending
    return f"changed meanwhile: of {score.planned:,} tiles that it had, {there:,} came; run the same again"
