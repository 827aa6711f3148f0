"""uvicorn inside a loop that is not its own, and its end."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import uvicorn

log = logging.getLogger(__name__)

# Long enough for a tile on its way from a slow origin, short enough for a service manager's patience.
DRAIN_S = 10.0
TICK_S = 1.0
# How often a stopping server looks whether the last connection has gone.
DRAIN_LOOK_S = 0.01
# What is cut at the end of the patience has this long to notice it.
CUT_S = 0.5


class QuietUvicorn(uvicorn.Server):
    """uvicorn inside a loop that is not its own: no signal handlers, and it says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self.leave = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        # uvicorn's own looks ten times a second whether it should end. This one is told, and wakes
        # once a second only for the Date header (tick 0 renews it).
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.leave.wait(), TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn's own waits a tenth of a second whether somebody is there or not, and when its
        # patience ends leaves the connections of clients that do not read open.
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        if not await self._all_gone(self.config.timeout_graceful_shutdown or 0):
            log.warning("%d requests were cut when the service stopped", len(state.tasks))
            # A request whose client is gone ends by itself, quietly; what does not is cancelled.
            for connection in list(state.connections):
                connection.transport.abort()
            if not await self._all_gone(CUT_S):
                for task in state.tasks:
                    task.cancel()
                await self._all_gone(CUT_S)
        for server in self.servers:
            await server.wait_closed()

    async def _all_gone(self, wait_s: float) -> bool:
        state = self.server_state
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while state.connections or state.tasks:  # noqa: ASYNC110 - uvicorn's sets tell nobody
                    await asyncio.sleep(DRAIN_LOOK_S)
        return not state.connections and not state.tasks

    def end(self) -> None:
        self.should_exit = True
        self.leave.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
