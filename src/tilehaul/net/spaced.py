"""Two writes to one key of a bucket keep their distance; nobody else is held up."""

from tilehaul.net.retried import BudgetedSender
from tilehaul.policy.budget import RetryBudget
from tilehaul.policy.key_spacing import KeySpacing
from tilehaul.ports.clock import Clock
from tilehaul.ports.wire import Request, Response

_WRITES = frozenset({"PUT", "DELETE"})


class SpacedSender:
    """Holds a PUT or DELETE back until SPACING_S after the last one to the same address.

    Outside the lane, so that a write that waits for its turn holds no permit; inside the retries, so that a
    repeated write waits as well.
    """

    def __init__(self, inner: BudgetedSender, clock: Clock, spacing: KeySpacing | None = None) -> None:
        self._inner = inner
        self._clock = clock
        self._spacing = KeySpacing() if spacing is None else spacing

    async def send(self, request: Request) -> Response:
        if request.method in _WRITES:
            wait_s = self._spacing.reserve(request.url, self._clock.now_s())
            if wait_s > 0.0:
                await self._clock.sleep(wait_s)
        return await self._inner.send(request)

    def budget_of(self, request: Request) -> RetryBudget:
        """What the request's lane can spend on retries."""
        return self._inner.budget_of(request)
