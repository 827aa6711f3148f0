"""One connection of the mock server: requests in, planned answers out, as broken as planned."""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from typing import Final, cast

import httptools

from tilehaul.lab.mock_origin import Ask, MockOrigin, Plan
from tilehaul.lab.wreckage import End, text_reply

# Requests sent ahead by one client before the connection stops reading.
PIPELINE_MAX: Final = 64
HEAD_BYTES_MAX: Final = 64 * 1024
# A trickling body is written this often, unless single bytes are slower than that.
DRIP_S: Final = 0.02
# Bytes before a reset need to leave first: a reset throws away what is not sent yet.
RESET_AFTER_S: Final = 0.005
# Close at once with RST instead of FIN (Linux socket(7), SO_LINGER).
LINGER_NONE: Final = struct.pack("ii", 1, 0)


class MockConnection(asyncio.Protocol):
    """Speaks HTTP/1.0 and 1.1, answers in the order of the requests."""

    def __init__(
        self, origin: MockOrigin, loop: asyncio.AbstractEventLoop, all_of: "set[MockConnection]"
    ) -> None:
        self._origin = origin
        self._tally = origin.tally
        self._loop = loop
        self._all = all_of
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Ask] = deque()
        self._ask: Ask | None = None
        self._answered = False
        self._timer: asyncio.TimerHandle | None = None
        self._lost = self._pumping = self._write_paused = self._read_paused = False
        self._begin_message()

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._all.add(self)
        self._tally.connections_open += 1
        self._tally.connections_total += 1
        if self._tally.connections_open > self._origin.settings.connections_max:
            self._tally.by_fault["connections_full"] += 1
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._lost = True
        self._all.discard(self)
        self._tally.connections_open -= 1
        if self._timer is not None:
            self._timer.cancel()
        if self._ask is not None and self._ask.counted:
            self._tally.in_flight -= 1
            self._tally.abandoned += not self._answered
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # The request was taken already; the wish for another protocol is declined by not answering it.
            self._parser = httptools.HttpRequestParser(self)
            self.data_received(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(431 if self._head_bytes > HEAD_BYTES_MAX else 400)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._pump()

    # httptools calls these.

    def on_message_begin(self) -> None:
        self._begin_message()

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        lower = name.lower()
        if lower == b"user-agent":
            self._tally.last_user_agent = value.decode("latin-1")
        elif lower == b"if-none-match":
            self._if_none_match = value.decode("latin-1")
        elif lower == b"if-modified-since":
            self._if_modified_since = value.decode("latin-1")

    def on_message_complete(self) -> None:
        parser = self._parser
        ask = Ask(
            parser.get_method(),
            self._target,
            self._if_none_match,
            self._if_modified_since,
            parser.should_keep_alive(),
            parser.get_http_version() == "1.0",
        )
        self._waiting.append(ask)
        if len(self._waiting) >= PIPELINE_MAX and not self._read_paused:
            self._read_paused = True
            self._transport.pause_reading()
        self._pump()

    # Ours.

    def cut(self) -> None:
        """Drop the connection without waiting for anything."""
        self._transport.abort()

    def _begin_message(self) -> None:
        self._target = b""
        self._if_none_match = self._if_modified_since = ""
        self._head_bytes = 0

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            raise httptools.HttpParserError(f"a head of more than {HEAD_BYTES_MAX} bytes")

    def _refuse(self, status: int) -> None:
        """Answer bytes that are not HTTP, and close."""
        if self._lost or self._transport.is_closing():
            return
        reply = text_reply(status, b"this is not an HTTP request\n")
        self._transport.write(b"".join((reply.head, b"Connection: close\r\n\r\n", reply.body)))
        self._transport.close()

    def _pump(self) -> None:
        """Work on waiting requests, one at a time, while the client takes the answers."""
        if self._pumping:
            return
        self._pumping = True
        while self._waiting and self._ask is None and not self._write_paused and not self._lost:
            self._ask = self._waiting.popleft()
            self._answered = False
            if self._ask.counted:
                self._tally.begin()
            self._origin.answer(self._ask, self._take_plan)
        self._pumping = False
        if self._read_paused and len(self._waiting) < PIPELINE_MAX and not self._transport.is_closing():
            self._read_paused = False
            self._transport.resume_reading()

    def _take_plan(self, plan: Plan) -> None:
        if self._lost:
            return
        if plan.delay_s > 0:
            self._timer = self._loop.call_later(plan.delay_s, self._send, plan)
        else:
            self._send(plan)

    def _send(self, plan: Plan) -> None:
        reply, ask, tally = plan.reply, self._ask, self._tally
        if self._lost or ask is None or self._transport.is_closing():
            return
        self._answered = True
        if reply.fault:
            tally.by_fault[reply.fault] += 1
        if reply.status == 0:
            self._end(reply.end)
            return
        if ask.counted:
            self._origin.sent(reply)
        end = reply.end if ask.keep_alive or reply.end != "keep" else "close"
        line = b"\r\n"
        if end == "close":
            line = b"Connection: close\r\n\r\n"
        elif ask.old_http:
            line = b"Connection: keep-alive\r\n\r\n"
        body = b"" if ask.method == b"HEAD" else reply.body
        head = b"".join((reply.head, self._origin.date_line(), line))
        if plan.bytes_per_s and body:
            tally.by_fault["slow_body"] += 1
            self._transport.write(head)
            self._drip(body, 0, plan.bytes_per_s, end)
            return
        if ask.counted:
            tally.bytes_sent += len(body)
        self._transport.write(head + body)
        if end == "reset":
            self._timer = self._loop.call_later(RESET_AFTER_S, self._end, end)
        else:
            self._end(end)

    def _drip(self, body: bytes, at: int, bytes_per_s: float, end: End) -> None:
        """Write the next piece and come back for the rest."""
        if self._lost:
            return
        piece = max(int(bytes_per_s * DRIP_S), 1)
        self._transport.write(body[at : at + piece])
        self._tally.bytes_sent += len(body[at : at + piece])
        at += piece
        pause_s = piece / bytes_per_s
        if at < len(body):
            self._timer = self._loop.call_later(pause_s, self._drip, body, at, bytes_per_s, end)
        else:
            self._end(end)

    def _end(self, end: End) -> None:
        """The answer is out: go on, close, reset, or stay silent for ever."""
        if self._lost or end == "hang":
            return
        self._timer = None
        if end == "keep":
            if self._ask is not None and self._ask.counted:
                self._tally.in_flight -= 1
            self._ask = None
            self._pump()
        elif end == "close":
            self._transport.close()
        else:
            # A socket that is gone already needs no reset.
            with contextlib.suppress(OSError):
                self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
            self._transport.abort()

    def _socket(self) -> socket.socket:
        return cast("socket.socket", self._transport.get_extra_info("socket"))
