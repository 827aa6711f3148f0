"""A connection whose request waits for a tile on its way without a task of its own."""

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tilehaul.jobs.serve_tile import Reply
from tilehaul.server.boarding import Boarded, Boarding
from tilehaul.server.meter import TURNED_AWAY
from tilehaul.server.patience import PatientProtocol
from tilehaul.server.reply import BODILESS, head_bytes


@dataclass(slots=True)
class _OnBoard:
    """The one request of a connection that waits for a tile on its way."""

    boarding: Boarding
    boarded: Boarded
    cycle: RequestResponseCycle
    timer: asyncio.TimerHandle


class BoardingProtocol(PatientProtocol):
    """uvicorn's HTTP/1.1 protocol that asks `boarding` before it makes a task for a request.

    It does so where uvicorn makes that task (`_start_asgi_task`): parser and pipeline have done their part.
    Should that door be gone from a later uvicorn, every request is a task again; a test would tell.
    """

    boarding: Boarding | None
    _boarded: _OnBoard | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        if (waiting := self._off_board()) is not None:
            waiting.boarding.left(waiting.boarded)
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self.boarding is None or not self._board(self.boarding, cycle):
            super()._start_asgi_task(cycle, app)

    def _board(self, boarding: Boarding, cycle: RequestResponseCycle) -> bool:
        """Whether the request waits for a tile on its way, instead of in a task."""
        scope = cycle.scope
        if scope["method"] not in ("GET", "HEAD") or TURNED_AWAY in scope["state"] or self.flow.write_paused:
            return False
        boarded = boarding.board(scope, self._landed)
        if boarded is None:
            return False
        timer = self.loop.call_later(boarding.deadline_s, self._late)
        self._boarded = _OnBoard(boarding, boarded, cycle, timer)
        return True

    def _off_board(self) -> "_OnBoard | None":
        waiting, self._boarded = self._boarded, None
        if waiting is not None:
            waiting.timer.cancel()
        return waiting

    def _landed(self, fetch: "asyncio.Task[Any]") -> None:
        if (waiting := self._off_board()) is not None:
            self._end(waiting.cycle, waiting.boarding.landed(waiting.boarded, fetch))

    def _late(self) -> None:
        if (waiting := self._off_board()) is not None:
            self._end(waiting.cycle, waiting.boarding.late(waiting.boarded))

    def _end(self, cycle: RequestResponseCycle, reply: Reply) -> None:
        """Answer a request that the application has never seen."""
        closing = () if cycle.keep_alive else (("connection", "close"),)
        self._write(reply, *closing, with_body=cycle.scope["method"] == "GET")
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def _write(self, reply: Reply, *extra: tuple[str, str], with_body: bool = True) -> None:
        if reply.status not in BODILESS:
            extra = (("content-length", str(len(reply.body))), *extra)
        head = head_bytes(reply.status, (*reply.headers, *extra))
        tail = b"".join(b"%b: %b\r\n" % pair for pair in self.server_state.default_headers)
        self.transport.write(b"".join((head, tail, b"\r\n", reply.body if with_body else b"")))
