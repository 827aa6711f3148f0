"""One connection through the fault proxy: up at once, down as the fate of the moment says."""

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final

from tilehaul.lab.link_faults import End, Fate

PIECE_BYTES: Final = 64 * 1024
# On their way down in one connection; beyond it the upstream is not read.
PIECES_MAX: Final = 16
# A throttled connection is written to this often, unless single bytes are slower than that.
DRIP_S: Final = 0.02
# Bytes before a reset need to leave first: a reset throws away what is not sent yet.
RESET_AFTER_S: Final = 0.005
# A client that was told the end has this long to say its own.
FAREWELL_S_MAX: Final = 2.0
# Close at once with RST instead of FIN (Linux socket(7), SO_LINGER).
LINGER_NONE: Final = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class LinkTally:
    """Counters that all connections of a proxy share, as in `ProxyStats`."""

    connections: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    by_fault: Counter[str] = field(default_factory=Counter)


def reset_at_close(client: socket.socket) -> None:
    """Have the socket end with RST. One that is gone already needs none."""
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)


class Link:
    """A connection to `upstream` (host, port).

    Its methods answer with how it ends for the client: `cut` is an ordinary end too. `fate` is asked before
    every step; `now_s` is monotonic.
    """

    def __init__(
        self,
        upstream: tuple[str, int],
        fate: Callable[[], Fate],
        tally: LinkTally,
        now_s: Callable[[], float],
    ) -> None:
        self._upstream = upstream
        self._fate = fate
        self._tally = tally
        self._now_s = now_s
        self._down = 0
        # When it is due, and the bytes: none at the upstream's end, None at its reset.
        self._coming: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(PIECES_MAX)

    async def run(self, client: socket.socket) -> None:
        """Carry until one side ends or a fault does."""
        self._reader, self._writer = await asyncio.open_connection(sock=client, limit=PIECE_BYTES)
        end: End = "cut"
        try:
            end = self._end_at_once() or await self._carry()
            while end == "black_hole" and await self._reader.read(PIECE_BYTES):
                pass
        except OSError:
            pass  # the client did not wait for the end of the silence
        finally:
            await self._close(client, reset=end == "reset")

    def _end_at_once(self) -> End | None:
        fate = self._fate()
        return None if fate.end is None or fate.end_bytes is not None else self._struck(fate.end)

    def _struck(self, end: End) -> End:
        self._tally.by_fault[end] += 1
        return end

    async def _carry(self) -> End:
        try:
            upstream, up = await asyncio.open_connection(*self._upstream, limit=PIECE_BYTES)
        except OSError:
            self._tally.by_fault["upstream_away"] += 1
            return "cut"
        fetching = asyncio.create_task(self._fetch(upstream))
        upwards = asyncio.create_task(self._pass_up(up))
        downwards = asyncio.create_task(self._pass_down())
        try:
            await asyncio.wait({upwards, downwards}, return_when=asyncio.FIRST_COMPLETED)
            return downwards.result() if downwards.done() else upwards.result()
        finally:
            for task in (fetching, upwards, downwards):
                task.cancel()
            await asyncio.gather(fetching, upwards, downwards, return_exceptions=True)
            # At once, so that the upstream sees a client that is gone.
            up.transport.abort()

    async def _pass_up(self, up: asyncio.StreamWriter) -> End:
        try:
            while piece := await self._reader.read(PIECE_BYTES):
                if (end := self._end_at_once()) is not None:
                    return end
                up.write(piece)
                self._tally.bytes_up += len(piece)
                await up.drain()
        except OSError:
            return "reset"
        return "cut"

    async def _fetch(self, upstream: asyncio.StreamReader) -> None:
        """Take what comes from the upstream as it comes, so that a delay is one of time and not of pieces."""
        piece: bytes | None = b""
        while True:
            try:
                piece = await upstream.read(PIECE_BYTES)
            except OSError:
                piece = None
            await self._coming.put((self._now_s() + self._fate().delay_s, piece))
            if not piece:
                return

    async def _pass_down(self) -> End:
        try:
            while True:
                due_s, piece = await self._coming.get()
                wait_s = due_s - self._now_s()
                if wait_s > 0.0:
                    await asyncio.sleep(wait_s)
                if not piece:
                    return "reset" if piece is None else "cut"
                end = await self._hand_on(piece)
                if end is not None:
                    return end
        except OSError:
            return "cut"  # the client is gone

    async def _hand_on(self, piece: bytes) -> End | None:
        """Write a piece as slowly, and as much of it, as may be."""
        at = 0
        while True:
            fate = self._fate()
            size = len(piece) - at
            if fate.end is not None:
                left = (fate.end_bytes or 0) - self._down
                if left <= 0:
                    return self._struck(fate.end)
                size = min(size, left)
            if size == 0:
                return None
            if fate.bytes_per_s < inf:
                size = min(size, max(int(fate.bytes_per_s * DRIP_S), 1))
            self._writer.write(piece[at : at + size])
            await self._writer.drain()
            at += size
            self._down += size
            self._tally.bytes_down += size
            if fate.bytes_per_s < inf:
                await asyncio.sleep(size / fate.bytes_per_s)

    async def _close(self, client: socket.socket, *, reset: bool) -> None:
        transport = self._writer.transport
        if not reset:
            try:
                # What the client still says is heard out: closing a socket with unread bytes sends a RST.
                async with asyncio.timeout(FAREWELL_S_MAX):
                    self._writer.write_eof()
                    while await self._reader.read(PIECE_BYTES):
                        pass
            except OSError:
                pass  # TimeoutError is one: the client takes its time
            finally:
                transport.close()
            return
        try:
            await asyncio.sleep(RESET_AFTER_S)
        finally:
            reset_at_close(client)
            transport.abort()
