"""Addresses that a service writes into its own capabilities: checked before anything is asked of them."""

from urllib.parse import SplitResult, urlsplit

from tilehaul.codec.safe_url import redact
from tilehaul.errors import PlanError

SHOWN_CHARS_MAX = 200


def service_address(url: str, what: str) -> SplitResult:
    """The parts of an absolute http address, which may have holes (`{TileRow}`) behind its host.

    Args:
        url: As declared, entities and white space around it already taken off.
        what: For the message: `the service declares for GetMap`.

    Raises:
        PlanError: Another scheme or none, no host, a port that is none, a hole in the host, brackets without
            their other half, white space or control characters.
    """
    shown = redact(url[:SHOWN_CHARS_MAX])
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise PlanError(f"what {what} is no address: {shown}") from error
    if parts.scheme.lower() not in ("http", "https"):
        raise PlanError(f"what {what} does not begin with http:// or https://: {shown}")
    if not host or port == 0 or "{" in parts.netloc or "}" in parts.netloc:
        raise PlanError(f"what {what} names no host and port: {shown}")
    if any(ord(char) <= 32 or ord(char) == 127 for char in url):
        raise PlanError(f"what {what} has white space or a control character in it: {shown}")
    return parts
