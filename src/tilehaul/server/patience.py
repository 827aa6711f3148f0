"""How long a connection waits for the other side: for its next word, and for it to take what it was sent."""

import asyncio
from math import inf
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

# A connection that has sent nothing, or not the whole head of a request, is closed after this.
SILENCE_S = 30.0


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with one deadline, `deadline_s`, for whatever the client is to do next.

    Times are the loop's own. There is one timer a connection, moved only when it would come too late:
    most requests just write down by when the next word is expected.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.deadline_s = inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = inf
        self._unsent_bytes = inf

    @property
    def busy(self) -> bool:
        """Whether a request waits for its answer from the application."""
        return bool(self.cycle) and not (self.cycle.response_complete or self.cycle.disconnected)

    def abort(self) -> None:
        """Close now; what has not been sent is lost."""
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes less than it is sent: the application waits, for a while."""
        super().pause_writing()
        self._unsent_bytes = inf
        self._expect_by(self.loop.time() + SILENCE_S)

    def _expect_by(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        if deadline_s < self._timer_at_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_at(deadline_s, self._on_time)
            self._timer_at_s = deadline_s

    def _on_time(self) -> None:
        self._timer = None
        self._timer_at_s = inf
        now_s = self.loop.time()
        if self.transport.is_closing():
            self._wait_for_reader(now_s)
        elif self.busy:
            # Else on_response_complete winds the clock up again.
            if self.flow.write_paused:
                self._wait_for_reader(now_s)
        elif self.deadline_s > now_s:
            self._expect_by(self.deadline_s)
        else:
            self.transport.close()
            self._wait_for_reader(now_s)

    def _wait_for_reader(self, now_s: float) -> None:
        """One that takes what is sent stays until all is sent; one that takes nothing more is cut."""
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes and unsent_bytes < self._unsent_bytes:
            self._unsent_bytes = unsent_bytes
            self._expect_by(now_s + SILENCE_S)
        elif unsent_bytes:
            self.transport.abort()
