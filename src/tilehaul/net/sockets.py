"""Watches a foreign library's sockets on an asyncio loop, cheaply.

libcurl begins and ends its interest in a socket for every request, and a loop's `add_reader` and
`remove_reader` cost more than the request's own bytes. So the sockets live in an epoll of their
own, and the loop watches that epoll's descriptor, which is readable while one of its sockets is
ready: one `add_reader` for all of them. Where there is no epoll (macOS, Windows), each socket is
given to the loop, which is slower and works the same.
"""

import asyncio
import select
import socket
from collections.abc import Callable, Sequence
from typing import Any

READ, WRITE = 1, 2

# What became ready: descriptor and a mask of READ and WRITE.
Ready = Sequence[tuple[int, int]]


class SocketWatch:
    """Calls `on_ready` with sockets that became ready.

    Level triggered: a socket that nobody reads is reported again. A descriptor must be
    forgotten before it is closed. An error or a hang-up counts as both READ and WRITE.

    `seen`: all descriptors that were ever watched; few, for the lowest free number is given out.

    Raises:
        NotImplementedError: The loop cannot watch sockets (Windows' proactor).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_ready: Callable[[Ready], None]) -> None:
        self._loop = loop
        self._on_ready = on_ready
        self._wanted: dict[int, int] = {}
        self.seen: set[int] = set()
        # Any: the attribute does not exist for a type checker on other systems.
        self._epoll: Any = select.epoll() if hasattr(select, "epoll") else None
        if self._epoll is not None:
            # The numbers differ from READ and WRITE, and only two combinations occur often.
            self._to_epoll = {
                READ: select.EPOLLIN,
                WRITE: select.EPOLLOUT,
                READ | WRITE: select.EPOLLIN | select.EPOLLOUT,
            }
            self._from_epoll = {bits: mask for mask, bits in self._to_epoll.items()}
            loop.add_reader(self._epoll.fileno(), self._turn)
        else:
            # Ask now whether the loop can watch sockets, not in the middle of the first request.
            with socket.socket() as probe:
                loop.remove_reader(probe)

    def watch(self, fd: int, wanted: int) -> None:
        """Report `fd` when it is ready for `wanted`, a mask of READ and WRITE, not 0."""
        known = self._wanted.get(fd, 0)
        if known == wanted:
            return
        self._wanted[fd] = wanted
        self.seen.add(fd)
        if self._epoll is None:
            self._give_to_loop(fd, known, wanted)
        elif known:
            self._epoll.modify(fd, self._to_epoll[wanted])
        else:
            self._epoll.register(fd, self._to_epoll[wanted])

    def forget(self, fd: int) -> None:
        """Stop reporting `fd`; nothing happens if it is not watched."""
        known = self._wanted.pop(fd, 0)
        if not known:
            return
        if self._epoll is None:
            self._give_to_loop(fd, known, 0)
        else:
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Forget everything and let go of the loop."""
        for fd in list(self._wanted):
            self.forget(fd)
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _turn(self) -> None:
        usual = self._from_epoll
        self._on_ready([(fd, usual.get(bits, READ | WRITE)) for fd, bits in self._epoll.poll(0)])

    def _give_to_loop(self, fd: int, known: int, wanted: int) -> None:
        for mask, add, remove in (
            (READ, self._loop.add_reader, self._loop.remove_reader),
            (WRITE, self._loop.add_writer, self._loop.remove_writer),
        ):
            if wanted & mask and not known & mask:
                add(fd, self._on_ready, ((fd, mask),))
            elif known & mask and not wanted & mask:
                remove(fd)
