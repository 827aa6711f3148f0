"""Whether this service should get requests: what `/health/ready` says."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from math import inf

from tilehaul.errors import TilehaulError
from tilehaul.ports.clock import Clock

log = logging.getLogger(__name__)

# Asked of a condition; raising an error of ours means no, as False does.
Check = Callable[[], Awaitable[bool]]

# Anybody may ask: within this time everybody is told the same, and no disk is touched.
READY_FRESH_S = 1.0
# A disk that hangs does not answer "no". Balancers wait a second or two for theirs.
CHECK_S_MAX = 1.0


class Readiness:
    """Asks all conditions at once.

    Args:
        checks: By name, as `/health/ready` tells them.
        clock: Of what is fresh.
    """

    def __init__(self, checks: Mapping[str, Check], clock: Clock) -> None:
        self.draining = False
        self._checks = checks
        self._clock = clock
        self._seen: dict[str, bool] = {}
        self._until_s = -inf
        self._asking: asyncio.Task[dict[str, bool]] | None = None

    async def look(self) -> dict[str, bool]:
        """The state of each condition, at most READY_FRESH_S old, and last of `accepting`, as of now."""
        if self._clock.now_s() >= self._until_s:
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask())
            # Whoever leaves does not stop it for the others.
            await asyncio.shield(self._asking)
        return {**self._seen, "accepting": not self.draining}

    async def _ask(self) -> dict[str, bool]:
        try:
            answers = await asyncio.gather(*(_holds(name, check) for name, check in self._checks.items()))
            before, self._seen = self._seen, dict(zip(self._checks, answers, strict=True))
            for name, holds in self._seen.items():
                if holds != before.get(name, True):
                    log.warning("readiness: %s is %s", name, "good again" if holds else "not good")
            self._until_s = self._clock.now_s() + READY_FRESH_S
            return self._seen
        finally:
            self._asking = None


async def _holds(name: str, check: Check) -> bool:
    try:
        async with asyncio.timeout(CHECK_S_MAX):
            return await check()
    except TimeoutError:
        log.debug("readiness: %s did not answer", name)
    except TilehaulError as error:
        # The text may hold a path of the operator's: for the log only.
        log.debug("readiness: %s: %s", name, error)
    return False
