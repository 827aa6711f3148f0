"""The service's end of one HTTP/1.1 connection: uvicorn's, with early answers and with limits.

uvicorn with httptools reads heads of any size for as long as somebody sends, and answers what it
cannot parse in a form of its own. Here a head has a size, a number of fields and one deadline, and
every refusal has the form of every other error of the service.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from tilehaul.server import patience
from tilehaul.server.boarding import Boarding
from tilehaul.server.boarding_protocol import BoardingProtocol
from tilehaul.server.connections import OpenConnections
from tilehaul.server.early_hits import NOT_PLAIN, PREFIX, EarlyHits
from tilehaul.server.meter import TURNED_AWAY, Meter
from tilehaul.server.reply import refusal
from tilehaul.server.unreadable import (
    FIELDS_MAX,
    HEAD_BYTES_MAX,
    RefusedRequestError,
    head_too_large,
    reason_of,
)

# A whole request as it crosses the wire. No address of the service needs a body.
REQUEST_BYTES_MAX = 1024 * 1024
# After a refusal what the client still sends is read and dropped for this long: closing at once would
# make its system throw the refusal away unread (RFC 9112, section 9.6).
LINGER_S = 1.0


class Stage(Enum):
    """Where the parser stands. `ANSWERED`: what is left of the request does not matter any more."""

    BETWEEN = 0
    HEAD = 1
    BODY = 2
    ANSWERED = 3


# As constants of the module, because looking a member up on its class costs on every request.
_BETWEEN, _HEAD, _BODY, _ANSWERED = Stage


class TileProtocol(BoardingProtocol):
    """uvicorn's HTTP/1.1 protocol that asks `hits` first. Made by `bound_protocol`."""

    hits: EarlyHits | None
    doors: OpenConnections
    meter: Meter | None
    new_request_id: Callable[[], str]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Paths of tiles say where people look: they are never written to the access log.
        self.access_log = False
        self._stage = _BETWEEN
        self._deaf = False
        self._began = False
        # Whose requests come here: see `Meter.caller`.
        self._caller: str | None = ""
        self._chunk_bytes = 0
        # Of the open request: the piece it began in, and all after that.
        self._first_bytes = 0
        self._later_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.meter is not None:
            self._caller = self.meter.caller(self.client[0] if self.client else "")
        now_s = self.loop.time()
        self._expect_by(now_s + patience.SILENCE_S)
        self.doors.enter(self, now_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self.doors.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._began = False
        self._chunk_bytes = len(data)
        rest: bytes | memoryview = data
        while rest:
            try:
                self.parser.feed_data(rest)
                break
            except httptools.HttpParserUpgrade as upgrade:
                # The wish for another protocol is ignored (RFC 9110, section 7.8), what follows is not.
                rest = memoryview(rest)[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                self._refuse(reason_of(error))
                return
        if not self._began:
            self._later_bytes += len(data)
            if self._later_bytes > HEAD_BYTES_MAX:
                self._check_unfinished()

    def on_message_begin(self) -> None:
        self._stage = _HEAD
        self._began = True
        self._first_bytes = self._chunk_bytes
        self._later_bytes = 0
        self._expect_by(self.loop.time() + patience.SILENCE_S)
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Fields behind the body would otherwise be taken for the head's own.
        if self._stage is not _HEAD:
            return
        if len(self.headers) >= FIELDS_MAX:
            raise head_too_large()
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        # The quick sum counts too much when other requests share a piece; then the head is counted itself.
        seen_bytes = self._first_bytes + self._later_bytes + self._chunk_bytes
        if seen_bytes > HEAD_BYTES_MAX and self._head_bytes() > HEAD_BYTES_MAX:
            raise head_too_large()
        # The caller first: most have none to be counted.
        if (self._caller != "" and self._turn_away()) or (
            self.url.startswith(PREFIX) and self._answer_early()
        ):
            self._stage = _ANSWERED
            self._expect_by(self.loop.time() + self.timeout_keep_alive)
            return
        super().on_headers_complete()
        self._stage = _BODY

    def on_body(self, body: bytes) -> None:
        if self._stage is _BODY:
            super().on_body(body)

    def on_message_complete(self) -> None:
        stage, self._stage = self._stage, _BETWEEN
        if stage is _BODY:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # uvicorn's timer would be put off by every byte of the next head.
        self._unset_keepalive_if_required()
        if self._stage is _HEAD:
            self._expect_by(self.loop.time() + patience.SILENCE_S)
        else:
            self._expect_by(self.loop.time() + self.timeout_keep_alive)

    def _turn_away(self) -> bool:
        """Count the request; whether it was one too many and has been answered so."""
        assert self.meter is not None  # noqa: S101 - without one nobody has a name
        peer = self.client[0] if self.client else ""
        state = self.scope["state"]
        reply = self.meter.judge(self._caller, peer, self.headers, state, self.new_request_id)
        if reply is None:
            return False
        method = self._plain_method()
        if method is None or any(name in NOT_PLAIN for name, _ in self.headers):
            # The application says it, in its turn.
            state[TURNED_AWAY] = reply
            return False
        self._write(reply, with_body=method == b"GET")
        self.server_state.total_requests += 1
        return True

    def _plain_method(self) -> bytes | None:
        """GET or HEAD, if the request may be answered here and now."""
        if self.busy:
            # Answers leave in the order of the questions.
            return None
        if self.flow.write_paused or self.transport.is_closing():
            # The client does not read: the application's path waits, this one would pile up answers.
            return None
        parser = self.parser
        method: bytes = parser.get_method()
        if method not in (b"GET", b"HEAD"):
            return None
        if parser.get_http_version() != "1.1" or not parser.should_keep_alive() or parser.should_upgrade():
            return None
        return method

    def _answer_early(self) -> bool:
        if self.hits is None or (method := self._plain_method()) is None:
            return False
        state = self.server_state
        answer = self.hits.answer(self.url, self.headers, state.default_headers, with_body=method == b"GET")
        if answer is None:
            return False
        self.transport.write(answer)
        state.total_requests += 1
        return True

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _check_unfinished(self) -> None:
        if self._stage is _HEAD:
            self._refuse(head_too_large())
        elif self._stage is not _BETWEEN and self._later_bytes > REQUEST_BYTES_MAX:
            self._refuse(
                RefusedRequestError(413, "too_large", f"a request may have {REQUEST_BYTES_MAX} bytes in all")
            )

    def _refuse(self, why: RefusedRequestError) -> None:
        """Answer for the last time, and listen no more."""
        self._deaf = True
        if self.transport.is_closing():
            return
        if self.busy and self._stage is _BODY and not self.cycle.response_started:
            # The application waits for the rest of this body: it is told that nothing more comes.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.pipeline:
                # Answers leave in the order of the questions: those before have as long as a silent client.
                self._expect_by(self.loop.time() + patience.SILENCE_S)
                return
        if self.busy:
            # As above. The last one on its way closes the connection.
            self.cycle.keep_alive = False
            return
        if self._stage is not _ANSWERED and not self._answered_by_app():
            reply = refusal(why.status, str(why), why.cause, self.new_request_id())
            self._write(reply, ("connection", "close"))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._expect_by(self.loop.time() + LINGER_S)

    def _answered_by_app(self) -> bool:
        # A body may go wrong after its request has been answered: a second answer would be one too many.
        return self._stage is _BODY and bool(self.cycle) and self.cycle.response_complete


def bound_protocol(
    hits: EarlyHits | None,
    boarding: Boarding | None,
    *,
    doors: OpenConnections,
    meter: Meter | None,
    new_request_id: Callable[[], str],
) -> type[TileProtocol]:
    """The protocol class of one server.

    Args:
        hits: Answers tiles in memory; None: none.
        boarding: Answers tiles that are on their way; None: each asker goes to the application.
        doors: Counts the connections.
        meter: Counts each client's requests; None: nobody's.
        new_request_id: Names a request that is refused before it could be read.
    """
    bound = {
        "hits": hits,
        "boarding": boarding,
        "doors": doors,
        "meter": meter,
        "new_request_id": staticmethod(new_request_id),
    }
    return type("BoundTileProtocol", (TileProtocol,), bound)
