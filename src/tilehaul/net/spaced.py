"""Two writes to one key of a bucket keep their distance; nobody else is held up."""

from tilehaul.policy.key_spacing import KeySpacing
from tilehaul.ports.clock import Clock
from tilehaul.ports.wire import Request, Response, Sender

_WRITES = frozenset({"PUT", "DELETE"})


class SpacedSender:
    """Holds a PUT or DELETE back until SPACING_S after the last one to the same address.

    Inside the lane, whose gate may hold a write back after its turn was taken: what counts is when it is
    sent. The permit that a repeated write holds meanwhile is the price; other keys never wait.
    """

    def __init__(self, inner: Sender, clock: Clock, spacing: KeySpacing | None = None) -> None:
        self._inner = inner
        self._clock = clock
        self._spacing = KeySpacing() if spacing is None else spacing

    async def send(self, request: Request) -> Response:
        if request.method in _WRITES:
            wait_s = self._spacing.reserve(request.url, self._clock.now_s())
            if wait_s > 0.0:
                await self._clock.sleep(wait_s)
        return await self._inner.send(request)
