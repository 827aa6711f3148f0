"""The real clock."""

import asyncio
import time


class SystemClock:
    """Monotonic time for waits, wall time for HTTP dates."""

    def now_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
