"""Following redirects: few, each checked, no secret carried to another host."""

from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from tilehaul.codec.safe_url import redact
from tilehaul.errors import RefusedError
from tilehaul.ports.wire import Request, Response, Sender

# `resilience` §8: three hops are plenty for a tile.
HOPS_MAX = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class RedirectedSender:
    """Follows up to HOPS_MAX redirects. Where they lead is checked by the wire's guard, as every address.

    From https to http is refused. A hop to another scheme, host or port sends none of the request's own
    headers: they may hold a key. Raises RefusedError(cause `redirect`) besides what the wire raises.
    """

    wire: Sender

    async def send(self, request: Request) -> Response:
        response = await self.wire.send(request)
        if response.status not in _REDIRECTS:
            return response
        for _ in range(HOPS_MAX):
            target = response.headers.get("location", "")
            request = _next_hop(request, target)
            response = await self.wire.send(request)
            if response.status not in _REDIRECTS:
                return response
        raise _refused(request, f"redirects more than {HOPS_MAX} times")


def _next_hop(request: Request, target: str) -> Request:
    if not target:
        raise _refused(request, "redirects to nowhere")
    try:
        url = urljoin(request.url, target)
        here, there = urlsplit(request.url), urlsplit(url)
        same = (here.scheme, here.hostname, here.port) == (there.scheme, there.hostname, there.port)
    except ValueError as error:
        raise _refused(request, "redirects to an address that is none") from error
    if here.scheme == "https" and there.scheme != "https":
        raise _refused(request, "redirects from https to http")
    return request._replace(url=url.partition("#")[0], headers=request.headers if same else ())


def _refused(request: Request, what: str) -> RefusedError:
    url = redact(request.url)
    return RefusedError(f"{url} {what}", url=url, cause="redirect")
