"""What becomes of a request that the parser did not like."""

import logging

import httptools

log = logging.getLogger(__name__)

# Request line and fields of one head. Browsers send under 2 kB, a proxy's cookies rarely reach 16 kB.
HEAD_BYTES_MAX = 64 * 1024
FIELDS_MAX = 100


class RefusedRequestError(Exception):
    """Raised inside the parser's callbacks, so that it stops where it is."""

    def __init__(self, status: int, cause: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.cause = cause


def head_too_large() -> RefusedRequestError:
    return RefusedRequestError(
        431, "head_too_large", f"a request's head may have {HEAD_BYTES_MAX} bytes and {FIELDS_MAX} fields"
    )


def reason_of(error: httptools.HttpParserError) -> RefusedRequestError:
    """Why the parser stopped: our own refusal, what the client sent, or a defect of ours."""
    inner = error.__context__
    if isinstance(inner, RefusedRequestError):
        return inner
    theirs = (httptools.HttpParserError, UnicodeDecodeError)
    if isinstance(error, httptools.HttpParserCallbackError) and not isinstance(inner, theirs):
        log.error("a request failed before it reached the application", exc_info=inner)
        return RefusedRequestError(500, "internal", "the service failed; its log says more")
    return RefusedRequestError(400, "bad_request", "this is not a request of HTTP/1.1")
