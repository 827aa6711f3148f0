"""Failures that say something of the source and not of the tile: the tile stays pending, the job ends."""

from tilehaul.errors import BusyError, DataError, ThrottledError
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
