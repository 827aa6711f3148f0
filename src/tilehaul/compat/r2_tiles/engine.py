"""The one thread of a cache: begun with the first fetch, ended with its owner."""

import asyncio
import os
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from tilehaul.compat.r2_tiles.book import Book
from tilehaul.compat.r2_tiles.hauler import Hauler, Setup, open_hauler
from tilehaul.compat.r2_tiles.memory import AheadQueue, KeptTiles
from tilehaul.errors import PlanError
from tilehaul.net.loop_thread import Call, LoopThread

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Running:
    thread: LoopThread
    hauler: Hauler


class Engine:
    """Runs a `Hauler` for threads. Nothing that runs holds on to it, so it goes when its owner does."""

    def __init__(self, setup: Setup, kept: KeptTiles, book: Book, ahead: AheadQueue) -> None:
        self._setup = setup
        self._kept = kept
        self._book = book
        self._ahead = ahead
        self._running: Running | None = None
        self._closed = False
        self._lock = threading.Lock()
        _engines.add(self)

    def opened(self) -> Running:
        """Started, if it is not. Raises PlanError when closed."""
        with self._lock:
            if self._closed:
                raise PlanError("this R2TileCache is closed: make another")
            if self._running is None:
                thread = LoopThread()
                try:
                    hauler = thread.enter(open_hauler(self._setup, self._kept, self._book, self._ahead))
                except BaseException:
                    thread.close()
                    raise
                self._running = Running(thread, hauler)
                # Not `close`, which waits: the collector may run in any thread.
                weakref.finalize(self, thread.stop).atexit = False
            return self._running

    def close(self) -> None:
        """For good; safe to call twice."""
        with self._lock:
            self._closed = True
            running, self._running = self._running, None
        if running is not None:
            running.thread.close()

    def after_fork(self) -> None:
        """In the child, which has the parent's memory, and neither its thread nor who held its locks."""
        self._lock = threading.Lock()
        self._running = None
        self._kept.unlock()
        self._ahead.unlock()
        self._book.after_fork()


async def awaited(call: Call[T]) -> T:
    """The call's answer, for a loop that has other things to do. Cancelling ends the call."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        # A loop that has ended meanwhile waits for nothing.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    call.when_done(tell)
    try:
        await done.wait()
    except asyncio.CancelledError:
        call.cancel()
        raise
    return call.result()


_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()


def _forget_all() -> None:
    for engine in list(_engines):
        engine.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
