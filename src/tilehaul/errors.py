"""Every error tilehaul raises, in one tree.

    TilehaulError
    ├── ConfigError          a setting is wrong
    ├── PlanError            the request cannot become work; nothing was sent
    ├── TransferError        bytes did not move
    │   ├── UnreachableError    DNS, connect, TLS, reset
    │   ├── TimedOutError       no progress within the phase's limit
    │   ├── ThrottledError      the upstream asked for less
    │   ├── BrokenError         5xx and their kin
    │   ├── DeniedError         401, 403
    │   └── RefusedError        other 4xx, a forbidden address, a body over the limit
    ├── DataError            bytes moved but are not what was promised
    ├── BusyError            our own limits are full
    ├── StorageError         the local disk (or a bucket) refused
    └── FuseError            a job stopped itself

Exit codes and HTTP statuses are not here: they belong to the doors
(`cli/exit_codes.py`, `server/statuses.py`).
"""

from typing import Literal

Phase = Literal["connect", "first_byte", "idle", "total", "wait"]


class TilehaulError(Exception):
    """Any error of ours. `str(error)` is one line that says what to do."""


class ConfigError(TilehaulError):
    """A setting is wrong. The message names the key and the nearest known one."""


class PlanError(TilehaulError):
    """The request, or an item of it, cannot become work. Nothing was sent or written for it."""


class TransferError(TilehaulError):
    """Bytes did not move.

    Args:
        message: One line, without secrets.
        url: The address, already redacted (see `codec/safe_url.py`).
        attempts: Attempts made for this item, set by the retrying sender.
        retry_after_s: Seconds the upstream asked us to wait, if it did.
        cause: Short machine-readable word: `http_503`, `timeout_first_byte`, `refused_address`. Every word
            belongs to a class: a new one goes into the table of `policy/causes.py`.

    `probe`, set by the lane: the attempt was the one that an open breaker lets through to see.
    """

    cause_default = "transfer"
    probe = False

    def __init__(
        self,
        message: str,
        *,
        url: str = "",
        attempts: int = 0,
        retry_after_s: float | None = None,
        cause: str = "",
    ) -> None:
        super().__init__(message)
        self.url = url
        self.attempts = attempts
        self.retry_after_s = retry_after_s
        self.cause = cause or self.cause_default


class UnreachableError(TransferError):
    """DNS, connect, TLS, or a connection that was reset or cut."""

    cause_default = "unreachable"


class TimedOutError(TransferError):
    """No progress within the limit of `.phase`."""

    cause_default = "timeout"

    def __init__(self, message: str, *, phase: Phase, url: str = "", attempts: int = 0) -> None:
        super().__init__(message, url=url, attempts=attempts, cause=f"timeout_{phase}")
        self.phase: Phase = phase


class ThrottledError(TransferError):
    """Push-back: 429, 503 or 509 with Retry-After, SlowDown, or a provider's own sign."""

    cause_default = "throttled"


class BrokenError(TransferError):
    """The upstream failed: 5xx, 408, 425."""

    cause_default = "broken"


class DeniedError(TransferError):
    """401 or 403: the credentials or the permission are wrong."""

    cause_default = "denied"


class RefusedError(TransferError):
    """Never worth a retry: other 4xx, a forbidden address, a body over the limit."""

    cause_default = "refused"


class DataError(TilehaulError):
    """Bytes moved but are not what was promised.

    Args:
        message: One line.
        cause: `truncated`, `empty`, `mistyped`, `error_page`, `bad_coding`, `corrupt_archive`.
        url: Redacted address, if there is one.
        attempts: Attempts made, set by the retrying sender.
        head: The first bytes of the body (at most `HEAD_BYTES_MAX`), for the dead letter.

    `probe`: as for TransferError.
    """

    HEAD_BYTES_MAX = 200
    probe = False

    def __init__(
        self,
        message: str,
        *,
        cause: str = "corrupt",
        url: str = "",
        attempts: int = 0,
        head: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.url = url
        self.attempts = attempts
        self.head = head[: self.HEAD_BYTES_MAX]


class BusyError(TilehaulError):
    """Our own limits are full; `retry_after_s` says when to come back.

    `never_answered`: an upstream that failed from the first request on is left alone; a job ends then.
    """

    def __init__(self, message: str, *, retry_after_s: float = 1.0, never_answered: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.never_answered = never_answered


class StorageError(TilehaulError):
    """The local disk or a bucket refused. The message names the file and the cause."""


class FuseError(TilehaulError):
    """A job stopped itself because too much failed, or the origin is away.

    Args:
        message: One line with the counts.
        counts: Outcomes by name, as in the report.
    """

    def __init__(self, message: str, *, counts: dict[str, int] | None = None) -> None:
        super().__init__(message)
        self.counts = dict(counts or {})


def first_error(error: BaseException) -> BaseException:
    """The first plain error inside nested groups: callers are promised typed errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
