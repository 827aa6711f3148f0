"""How a running job is asked to end."""

import asyncio

DRAIN = 1
CANCEL = 2


class Stop:
    """A request to end, in two steps: `drain` (finish what is under way), then `cancel`.

    Steps only rise. Set from the job's own loop; from another thread through `call_soon_threadsafe`.
    """

    def __init__(self) -> None:
        self.level = 0
        self._changed = asyncio.Event()

    def drain(self) -> None:
        self._raise_to(DRAIN)

    def cancel(self) -> None:
        self._raise_to(CANCEL)

    async def reached(self, level: int) -> None:
        """Wait until the level is at least this."""
        while self.level < level:
            self._changed.clear()
            await self._changed.wait()

    def _raise_to(self, level: int) -> None:
        if level > self.level:
            self.level = level
            self._changed.set()
