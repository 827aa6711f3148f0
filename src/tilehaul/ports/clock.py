"""Time and luck, injected."""

from collections.abc import Callable
from typing import Protocol

# Answers a number in [0, 1).
Luck = Callable[[], float]


class Clock(Protocol):
    """`now_s` is monotonic; `wall_s` is seconds since 1970, for HTTP dates only."""

    def now_s(self) -> float: ...

    def wall_s(self) -> float: ...

    async def sleep(self, delay_s: float) -> None: ...
