"""A rate that finds itself: slowly up while all goes well, halved when the upstream asks for less."""

import asyncio

from tilehaul.net.clock import SystemClock
from tilehaul.ports.clock import Clock

# The old numbers: 10 % more after more than 10 successes, half after a push-back.
SUCCESSES_PER_STEP = 10
GROWTH, CUT = 1.1, 0.5
# Without bounds, a bad hour would stop it for ever and a good one make it meaningless. Requests a second.
RATE_MIN, RATE_MAX = 0.1, 1000.0


class AdaptiveRateLimiter:
    """At most `current_rate` requests a second, whoever asks: the callers of one loop share it.

    The engine has a limit of its own for each host, which also counts what is under way; this is for
    programs that pace something themselves.

    Args:
        initial_rate: Requests a second, within RATE_MIN..RATE_MAX.
        clock: For tests.

    Raises:
        ValueError: The rate is out of range.
    """

    def __init__(self, initial_rate: float = 10.0, *, clock: Clock | None = None) -> None:
        if not RATE_MIN <= initial_rate <= RATE_MAX:
            raise ValueError(
                f"initial_rate must be within {RATE_MIN:g}..{RATE_MAX:g} a second, not {initial_rate}"
            )
        self.current_rate = initial_rate
        self.success_count = 0
        self.error_count = 0
        self._clock = clock or SystemClock()
        self._turn = asyncio.Lock()
        self._last_s = float("-inf")

    async def acquire(self) -> None:
        """Wait for one's turn, first come first served; the first one does not wait."""
        async with self._turn:
            # Looked at again after the sleep: meanwhile the rate may have been cut.
            while (wait_s := self._last_s + 1.0 / self.current_rate - self._clock.now_s()) > 0.0:
                await self._clock.sleep(wait_s)
            self._last_s = self._clock.now_s()

    def on_success(self) -> None:
        """The eleventh success in a row of counting raises the rate by a tenth, and counting begins again."""
        self.success_count += 1
        if self.success_count > SUCCESSES_PER_STEP:
            self.current_rate = min(self.current_rate * GROWTH, RATE_MAX)
            self.success_count = 0

    def on_error(self, error_type: str) -> None:
        """`rate_limit` halves the rate; other errors are counted only: they do not mean "too fast"."""
        self.error_count += 1
        if error_type == "rate_limit":
            self.current_rate = max(self.current_rate * CUT, RATE_MIN)
            self.success_count = 0
