"""Work that nobody waits for: bounded, one of a kind at a time, ended with the service."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable

from tilehaul.errors import TilehaulError

log = logging.getLogger(__name__)

# Tiles renewed at once behind the backs of those who were given a stale one: as many as a tile server's lane
# takes. More would wait for it in vain, and fail in the same moment when an origin dies: 200 of them cost one
# in a hundred of a thousand askers 70 ms, 32 of them 13.
RUNNING_MAX = 32


class Background:
    """Starts tasks and keeps hold of them. For one event loop.

    Args:
        running_max: Tasks at once, > 0; what does not fit is not begun.
    """

    def __init__(self, running_max: int = RUNNING_MAX) -> None:
        self._running_max = running_max
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}
        self._closed = False

    @property
    def running(self) -> int:
        return len(self._tasks)

    def start(self, key: Hashable, work: Callable[[], Awaitable[object]]) -> bool:
        """Whether work of this key is under way now: begun here, or already before."""
        if key in self._tasks:
            return True
        if self._closed or len(self._tasks) >= self._running_max:
            return False
        task = asyncio.create_task(_run(work))
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key))
        return True

    async def aclose(self) -> None:
        """Cancel what runs and wait for its end. Nothing begins any more."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run(work: Callable[[], Awaitable[object]]) -> None:
    try:
        await work()
    except TilehaulError as error:
        # Who asks next asks the origin, and hears of it.
        log.debug("in the background: %s", error)
