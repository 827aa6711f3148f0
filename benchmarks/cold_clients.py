"""Clients of `serving_cold.py`: kept connections that ask for one thing at a time, as cheap as Python allows.

A time is that of one request: from before its bytes are written until the last byte of its answer is in.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

# Longer than any answer may take: the service's own deadline is 30 s.
ANSWER_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """`head` is in lower case. `took_s` as above."""

    status: int
    head: bytes
    body: bytes
    took_s: float

    def field(self, name: str) -> str:
        """A header's value, empty when there is none."""
        rest = self.head.partition(f"\r\n{name}:".encode())[2]
        return rest.partition(b"\r\n")[0].strip().decode()


class Connection(asyncio.Protocol):
    """One connection, one request at a time; answers have a Content-Length."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._have = self._want = 0
        self._begun_s = 0.0
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed before the answer"))

    def send(self, path: str, *lines: str) -> "asyncio.Future[Answer]":
        """Ask; the answer comes by itself."""
        assert self._transport is not None
        assert self._answer is None
        self._answer = asyncio.get_running_loop().create_future()
        self._pieces, self._have, self._want = [], 0, 0
        fields = "".join(f"{line}\r\n" for line in lines)
        self._begun_s = time.perf_counter()
        self._transport.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n{fields}\r\n".encode())
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._have += len(data)
        if not self._want:
            whole = b"".join(self._pieces)
            head, found, _ = whole.partition(b"\r\n\r\n")
            if not found:
                return
            length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
            self._want = len(head) + 4 + int(length)
        if self._have >= self._want and self._answer is not None:
            took_s = time.perf_counter() - self._begun_s
            head, _, body = b"".join(self._pieces).partition(b"\r\n\r\n")
            answer, self._answer = self._answer, None
            if not answer.done():
                answer.set_result(Answer(int(head[9:12]), head.lower(), body, took_s))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


@contextlib.asynccontextmanager
async def connections(base: str, count: int) -> AsyncIterator[list[Connection]]:
    """`count` open connections to a server at `base`."""
    address = urlsplit(base)
    loop = asyncio.get_running_loop()
    found: list[Connection] = []
    try:
        for _ in range(count):
            made = await loop.create_connection(
                lambda: Connection(address.netloc), address.hostname, address.port
            )
            found.append(made[1])
        yield found
    finally:
        for one in found:
            one.close()


async def ask_all(clients: Sequence[Connection], paths: Iterable[str]) -> list[Answer]:
    """Every path once; each client takes the next as soon as it has its answer."""
    left, answers = iter(paths), []

    async def work(client: Connection) -> None:
        for path in left:
            answer = await asyncio.wait_for(client.send(path), ANSWER_S_MAX)
            answers.append(answer)

    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(work(client))
    return answers


async def ask_at_once(clients: Sequence[Connection], path: str) -> list[Answer]:
    """All clients ask for the same in one moment."""
    asked = [client.send(path) for client in clients]
    return list(await asyncio.wait_for(asyncio.gather(*asked), ANSWER_S_MAX))
