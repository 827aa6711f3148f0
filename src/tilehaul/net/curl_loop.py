"""libcurl, many transfers at once on one asyncio loop, through its socket interface."""

import asyncio
import os
import socket
from typing import Any

import pycurl

from tilehaul.codec.safe_url import redact
from tilehaul.errors import TransferError, UnreachableError
from tilehaul.net.curl import CurlHandle, CurlSettings
from tilehaul.net.sockets import READ, WRITE, Ready, SocketWatch

_WANTED = {pycurl.POLL_IN: READ, pycurl.POLL_OUT: WRITE, pycurl.POLL_INOUT: READ | WRITE}


class CurlLoop:
    """Runs transfers on the running event loop through libcurl's socket interface.

    Raises:
        NotImplementedError: The loop cannot watch sockets.
    """

    def __init__(self, settings: CurlSettings) -> None:
        self._loop = asyncio.get_running_loop()
        self._watch = SocketWatch(self._loop, self._on_ready)
        self._settings = settings
        self._idle: list[CurlHandle] = []
        self._opened: list[socket.socket] = []
        # The connections begun, by the number that a socket and its duplicate share.
        self._inodes: set[int] = set()
        self._timer: asyncio.Handle | None = None
        self._closed = False
        self.busy: dict[Any, CurlHandle] = {}
        self.connections_opened = 0
        self._multi: Any = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, settings.connections_max)

    def connections_held(self) -> int:
        """Connections that are open now, idle ones included.

        libcurl closes them without a word (its callback for that may come when pycurl cannot take it), so the
        system is asked: which of the descriptors that were ever watched is still one of our sockets? One call
        for each, about a microsecond.
        """
        self._close_originals()
        return len(self._inodes_held())

    def _inodes_held(self) -> set[int]:
        held = set()
        for fd in list(self._watch.seen):
            try:
                inode = os.fstat(fd).st_ino
            except OSError:
                inode = -1
            if inode in self._inodes:
                held.add(inode)
            else:
                self._watch.seen.discard(fd)
        return held

    def take(self) -> CurlHandle:
        """A handle to prepare. Give it back with `give_back`, started or not."""
        if self._idle:
            return self._idle.pop()
        return CurlHandle(self._settings, self._opened)

    def start(self, handle: CurlHandle) -> None:
        """Begin the prepared transfer; `handle.done` tells its end."""
        handle.done = self._loop.create_future()
        handle.start_s = handle.progress_s = self._loop.time()
        self.busy[handle.curl] = handle
        self._multi.add_handle(handle.curl)

    def end(self, handle: CurlHandle, error: TransferError | None) -> None:
        """End a busy transfer. One that is not complete loses its connection.

        The rest of its answer is still to come on it; over HTTP/2 only the stream is reset.
        """
        del self.busy[handle.curl]
        self._multi.remove_handle(handle.curl)
        if not handle.done.done():
            handle.done.set_result(error)

    def give_back(self, handle: CurlHandle) -> None:
        """Take the handle back; a transfer still running is ended (its caller was cancelled)."""
        if self._closed:
            handle.curl.close()
            return
        if handle.curl in self.busy:
            self.end(handle, None)
        handle.head.clear()
        handle.body.clear()
        self._idle.append(handle)

    def close(self) -> None:
        """Fail what is in flight (cause `closed`), close every connection. Safe to call twice."""
        if self._closed:
            return
        for handle in list(self.busy.values()):
            text = "the wire was closed before the answer came"
            self.end(handle, UnreachableError(text, url=redact(handle.url), cause="closed"))
        self._closed = True
        self._multi.close()
        # The others are closed when they are given back: their answers may not be read yet.
        for handle in self._idle:
            handle.curl.close()
        self._close_originals()
        if self._timer is not None:
            self._timer.cancel()
        self._watch.close()

    # --- called by libcurl: must not raise, must not call it back -------------------------------

    def _on_socket(self, what: int, fd: int, _multi: object, _data: object) -> None:
        wanted = _WANTED.get(what)
        if wanted is None:
            self._watch.forget(fd)
        elif not self._closed:  # closing, it tells of sockets it shuts down and closes at once
            self._watch.watch(fd, wanted)

    def _on_timer(self, timeout_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if timeout_ms == 0:
            self._timer = self._loop.call_soon(self._on_time)
        elif timeout_ms > 0:
            self._timer = self._loop.call_later(timeout_ms / 1000, self._on_time)

    # --- called by the loop -------------------------------------------------------------------

    def _on_time(self) -> None:
        self._timer = None
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._settle()

    def _on_ready(self, ready: Ready) -> None:
        act = self._multi.socket_action
        for fd, mask in ready:
            act(fd, mask)
        self._settle()

    def _settle(self) -> None:
        """Take the finished transfers from libcurl and wake those who wait for them."""
        if self._opened:
            self._close_originals()
        _left, done, failed = self._multi.info_read()
        for curl in done:
            self.end(self.busy[curl], None)
        for curl, code, message in failed:
            handle = self.busy[curl]
            self.end(handle, handle.error(code, message))

    def _close_originals(self) -> None:
        """Pycurl connects duplicates of the sockets we made; ours have done their work."""
        self.connections_opened += len(self._opened)
        for opened in self._opened:
            self._inodes.add(os.fstat(opened.fileno()).st_ino)
            opened.close()
        self._opened.clear()
        if len(self._inodes) > 4 * self._settings.connections_max:
            self._inodes = self._inodes_held()
