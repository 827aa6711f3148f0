"""Why things failed, in seven words: one table for reports, statistics and dead letters.

Every failure carries a fine cause (`http_502`, `timeout_idle`, `truncated`); this says which class it is of.

| class | fine causes |
|---|---|
| `rate_limit` | the origin asked for less: `http_429`, `pushed_back_503` and its like, `held`, `throttled` |
| `network` | no connection, or a broken one: `dns`, `connect`, `tls`, `reset`, `cut`, `closed` |
| `timeout` | no progress in time: `timeout_connect`, `timeout_first_byte`, `timeout_idle`, `timeout_total` |
| `server` | the origin failed: `http_5xx`, 408, 425, statuses nobody asked for, `redirect`, `bad_reply` |
| `client` | the origin or a rule of ours refuses the request: other `http_4xx`, `denied`, `refused_address` |
| `body` | bytes came and are not a tile: `truncated`, `mistyped`, `error_page`, `too_large` |
| `other` | our own limits were full (`busy`), or a cause this version does not know |
"""

import re
from collections.abc import Collection, Mapping
from typing import Final, Literal, get_args

from tilehaul.errors import BusyError, DataError, ThrottledError, TilehaulError, TransferError

# The object that is read in pieces is another one by now: no fault of the piece, and the end of the job.
REPLACED: Final = "replaced"

CauseClass = Literal["rate_limit", "network", "timeout", "server", "client", "body", "other"]
CAUSE_CLASSES: Final[tuple[CauseClass, ...]] = get_args(CauseClass)

_BY_CLASS: dict[CauseClass, tuple[str, ...]] = {
    "rate_limit": ("throttled", "held"),
    "network": (
        *("unreachable", "transfer", "dns", "connect", "tls", "tls_certificate"),
        *("reset", "cut", "closed"),
    ),
    "timeout": ("timeout",),
    "server": ("broken", "redirect", "bad_reply", "headers_too_large"),
    "client": ("denied", "refused", "refused_address", "refused_scheme", "bad_url", "tls_roots"),
    "body": (
        *("corrupt", "truncated", "empty", "mistyped", "error_page", "vanished"),
        *("bad_coding", "bad_header", "bad_listing"),
        *("corrupt_archive", "too_large", "too_many_pixels"),
        *("no_range", REPLACED),
    ),
    "other": ("busy",),
}
_CLASS_OF: dict[str, CauseClass] = {cause: name for name, causes in _BY_CLASS.items() for cause in causes}
# The fine causes that are no pattern (as `http_503` or `timeout_idle` are).
CAUSES: Final[frozenset[str]] = frozenset(_CLASS_OF)

_STATUS = re.compile(r"(?:http|pushed_back)_([1-9][0-9]{2})", re.ASCII)
# Below 500, yet the origin's failure (`policy/answers.py`).
_SERVER_STATUSES = frozenset({408, 425})


def cause_of(error: TilehaulError) -> str:
    """The fine cause of an error; `busy` for our own limits, empty for errors that are no failed attempt."""
    if isinstance(error, TransferError | DataError):
        return error.cause
    return "busy" if isinstance(error, BusyError) else ""


def cause_class(error: TilehaulError) -> CauseClass:
    """The class of an error. Push-back is `rate_limit` whatever status it came with."""
    return "rate_limit" if isinstance(error, ThrottledError) else class_of(cause_of(error))


def class_of(cause: str) -> CauseClass:
    """The class of a fine cause; `other` for a word that is not known."""
    status = status_of(cause)
    if status is None:
        if cause.startswith("timeout_"):
            return "timeout"
        if cause.startswith("curl_"):
            return "network"
        return _CLASS_OF.get(cause, "other")
    if status == 429 or cause.startswith("pushed_back_"):
        return "rate_limit"
    return "client" if 400 <= status < 500 and status not in _SERVER_STATUSES else "server"


def status_of(cause: str) -> int | None:
    """The HTTP status that a fine cause names; None where there was no answer, or a good one."""
    found = _STATUS.fullmatch(cause)
    return None if found is None else int(found[1])


def is_among(cause: str, causes: Collection[str]) -> bool:
    """Whether a fine cause or its class is among the words; any is, when there are none."""
    return not causes or cause in causes or class_of(cause) in causes


def by_class(counts: Mapping[str, int]) -> dict[CauseClass, int]:
    """Counts by fine cause as counts by class, in the order of `CAUSE_CLASSES`, without zeros."""
    summed = dict.fromkeys(CAUSE_CLASSES, 0)
    for cause, count in counts.items():
        summed[class_of(cause)] += count
    return {name: count for name, count in summed.items() if count}
