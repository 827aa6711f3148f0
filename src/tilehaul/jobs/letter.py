"""A tile that was given up on becomes a dead letter."""

from tilehaul.codec.safe_url import redact_text
from tilehaul.errors import BusyError, DataError
from tilehaul.policy.causes import cause_of
from tilehaul.ports.store import DeadLetter
from tilehaul.ports.tile import FailedTile


def dead_letter(failed: FailedTile, *, at_s: float) -> DeadLetter:
    """What the journal keeps of it: cause, attempts, redacted address, the beginning of a wrong body.

    `at_s` is when, in seconds since 1970.
    """
    error = failed.error
    head = b""
    if isinstance(error, DataError):
        # An error page may repeat the key that was sent with the request. What is no text stays as it came.
        shown = redact_text(error.head.decode("utf-8", "surrogateescape"))
        head = shown.encode("utf-8", "surrogateescape")[: DataError.HEAD_BYTES_MAX]
    return DeadLetter(
        failed.tile_id,
        cause=cause_of(error),
        attempts=failed.attempts,
        url="" if isinstance(error, BusyError) else error.url,
        message=str(error),
        body_head=head,
        at_s=at_s,
    )
