"""Which HTTP status each error becomes: the one table of the service."""

from math import ceil

from tilehaul.errors import (
    BrokenError,
    BusyError,
    ConfigError,
    DataError,
    DeniedError,
    FuseError,
    PlanError,
    RefusedError,
    StorageError,
    ThrottledError,
    TilehaulError,
    TimedOutError,
    TransferError,
    UnreachableError,
)

# Status, and the word used where the error carries none. Looked up along the error's own bases.
_TABLE: dict[type[TilehaulError], tuple[int, str]] = {
    PlanError: (400, "bad_request"),
    ConfigError: (500, "configuration"),
    UnreachableError: (502, "unreachable"),
    TimedOutError: (504, "timeout"),
    ThrottledError: (503, "throttled"),
    BrokenError: (502, "broken"),
    DeniedError: (502, "denied"),
    RefusedError: (502, "refused"),
    TransferError: (502, "transfer"),
    DataError: (502, "corrupt"),
    BusyError: (503, "busy"),
    StorageError: (500, "storage"),
    FuseError: (503, "fuse"),
    TilehaulError: (500, "internal"),
}

# Told to a client when the upstream pushed back without saying for how long.
RETRY_AFTER_S_DEFAULT = 10.0
# Nobody is sent away for longer: an upstream's hour is its own, the next client may find a cached tile.
RETRY_AFTER_S_MAX = 300.0

# What a client is told of a tile that did not come. The errors' own texts hold the origin's address
# and the first words of its page, which are the operator's business: the debug log has them.
_SENTENCES: dict[type[TilehaulError], str] = {
    UnreachableError: "the origin of this tile cannot be reached",
    TimedOutError: "the origin of this tile did not answer in time",
    ThrottledError: "the origin of this tile asks for fewer requests",
    BrokenError: "the origin of this tile has failed",
    DeniedError: "the origin of this tile does not let this service in",
    RefusedError: "the origin of this tile refused the request",
    TransferError: "the origin of this tile did not deliver it",
    DataError: "what came in place of this tile is damaged",
}
# More than the class says, for causes that have a reason of their own.
_SENTENCES_BY_CAUSE = {
    "bad_coding": "the tile's compression is damaged",
    "bad_header": "the answer would have had a header that no answer may have",
    "corrupt_archive": "the archive that has this tile is damaged",
    "empty": "the tile is empty",
    "error_page": "the origin sent an error page in place of the tile",
    "mistyped": "what came is no tile, or of a format that this layer does not send",
    "redirect": "the origin of this tile redirects too often, or to nowhere",
    "refused_address": "the origin of this tile has an address this service does not ask",
    "refused_scheme": "the origin of this tile has an address this service does not ask",
    "tls_certificate": "the certificate of this tile's origin is not valid",
    "no_range": "the server of the archive that has this tile sent another part of it",
    "replaced": "the archive that has this tile was replaced while it was read",
    "too_large": "the tile is larger than this service takes",
    "truncated": "the tile came incomplete",
}

# These name local files or settings, which are the operator's business: the log has them.
_PRIVATE = (StorageError, ConfigError)


def status_of(error: TilehaulError) -> int:
    """The HTTP status of an error."""
    return _row(error)[0]


def cause_of(error: TilehaulError) -> str:
    """Short machine-readable word: the error's own `cause`, else the table's."""
    if isinstance(error, (TransferError, DataError)) and error.cause:
        return error.cause
    return _row(error)[1]


def message_of(error: TilehaulError) -> str:
    """What a client is told, one line. Of transfers and data never the error's own text."""
    if isinstance(error, _PRIVATE):
        return "the service could not read or write its own storage or settings; its log says more"
    if isinstance(error, (TransferError, DataError)):
        own = _SENTENCES_BY_CAUSE.get(error.cause)
        return own or next(_SENTENCES[kind] for kind in type(error).__mro__ if kind in _SENTENCES)
    return str(error) or "failed"


def retry_after_s(error: TilehaulError) -> int | None:
    """Whole seconds for `Retry-After`, at least 1; None when the status is not 503."""
    if status_of(error) != 503:
        return None
    asked_s = getattr(error, "retry_after_s", None)
    wait_s = RETRY_AFTER_S_DEFAULT if asked_s is None else float(asked_s)
    return max(1, ceil(min(wait_s, RETRY_AFTER_S_MAX)))


def _row(error: TilehaulError) -> tuple[int, str]:
    for kind in type(error).__mro__:
        row = _TABLE.get(kind)
        if row is not None:
            return row
    raise AssertionError("every error has TilehaulError among its bases")
