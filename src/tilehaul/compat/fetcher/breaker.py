"""A circuit breaker around one's own calls, over `policy.breaker`."""

import random
from collections.abc import Awaitable, Callable
from math import ceil
from typing import Literal, ParamSpec, TypeVar

from tilehaul.errors import BusyError, ConfigError, DeniedError, RefusedError, ThrottledError
from tilehaul.net.clock import SystemClock
from tilehaul.policy.breaker import Breaker, Ticket, counting_rule
from tilehaul.ports.clock import Clock, Luck

P = ParamSpec("P")
R = TypeVar("R")

State = Literal["CLOSED", "OPEN", "HALF_OPEN"]
_STATES: dict[str, State] = {"closed": "CLOSED", "open": "OPEN", "half_open": "HALF_OPEN"}

# Failures count for so long.
WINDOW_S = 60.0


class CircuitBreaker:
    """Opens after so many failures within WINDOW_S seconds, then lets one call through to see.

    What does not say that the other side is ill does not count: cancellation, push-back (ThrottledError),
    refusals (DeniedError, RefusedError). The older one counted those, let any number of calls through when
    half open, and one that was cancelled then left it so.

    Args:
        failure_threshold: Failures that open it, >= 1.
        timeout: Seconds it stays open, > 0; then one call is let through. It closes the breaker, or opens it
            for as long again.
        clock, luck: For tests.

    Raises:
        ValueError: A number out of range.
    """

    def __init__(
        self,
        failure_threshold: int = 5,
        timeout: float = 60.0,
        *,
        clock: Clock | None = None,
        luck: Luck = random.random,
    ) -> None:
        try:
            rule = counting_rule(failures=failure_threshold, window_s=WINDOW_S, open_s=timeout)
        except ConfigError as error:
            raise ValueError(
                f"failure_threshold must be 1 or more, timeout above 0 seconds: {error}"
            ) from error
        self.failure_threshold = failure_threshold
        self.timeout = timeout
        self._breaker = Breaker(rule)
        self._clock = clock or SystemClock()
        self._luck = luck

    @property
    def state(self) -> State:
        return _STATES[self._breaker.state(self._clock.now_s())]

    async def call(self, func: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `func(*args, **kwargs)`.

        Raises:
            BusyError: The breaker is open, or its one probe is under way; `func` was not called.
            Else what `func` raises.
        """
        ticket = self._breaker.admit(self._clock.now_s())
        if ticket is None:
            wait_s = self._breaker.retry_after_s(self._clock.now_s())
            state = self.state
            told = "a trial call is under way" if state == "HALF_OPEN" else f"come back in {ceil(wait_s)} s"
            raise BusyError(f"Circuit breaker is {state}: {told}", retry_after_s=wait_s)
        try:
            result = await func(*args, **kwargs)
        except BaseException as error:
            self._report(ticket, error)
            raise
        self._breaker.on_success(self._clock.now_s(), ticket, 0.0, None)
        return result

    def _report(self, ticket: Ticket, error: BaseException) -> None:
        now_s = self._clock.now_s()
        if isinstance(error, DeniedError | RefusedError):
            self._breaker.on_answered(now_s, ticket)
        elif isinstance(error, ThrottledError | BusyError) or not isinstance(error, Exception):
            self._breaker.on_neutral(ticket)
        else:
            self._breaker.on_failure(now_s, ticket, self._luck())
