"""A thread with an event loop of its own, for callers that have none."""

import asyncio
import atexit
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from tilehaul.errors import PlanError, UnreachableError
from tilehaul.net.loops import new_loop

T = TypeVar("T")

# What is under way when its caller leaves has this long to be put away; then it is left to itself.
END_S = 30.0
# The same when the program ends, for all threads together.
EXIT_S = 2.0
# How often a thread looks whether the program's main thread has ended.
LOOK_S = 0.25

_CLOSED = "this is closed: use it within its `with` block"


class Call(Generic[T]):
    """One coroutine at work in a `LoopThread`. Made by `LoopThread.start`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._answer: Future[T] = Future()
        self._task: asyncio.Task[T] | None = None

    def result(self, timeout_s: float | None = None) -> T:
        """The coroutine's result or error. Whatever interrupts the waiting (Ctrl-C) ends the call.

        Raises:
            TimeoutError: `timeout_s` seconds have passed; the call goes on.
            UnreachableError: The thread was closed before the answer came (cause `closed`).
        """
        try:
            return self._answer.result(timeout_s)
        except Exception:
            raise
        except BaseException:
            self.end()
            raise

    def when_done(self, told: Callable[[], None]) -> None:
        """Call `told`, in the loop's thread or at once, when the result or error is there."""
        self._answer.add_done_callback(lambda _answer: told())

    def end(self) -> None:
        """Cancel the coroutine and wait until it has put away what it holds, `END_S` at most."""
        if self.cancel():
            wait([self._answer], END_S)

    def cancel(self) -> bool:
        """Cancel the coroutine and do not wait. False: it has ended already."""
        if self._answer.done():
            return False
        try:
            self._loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:
            return False  # the loop has ended, and every call with it
        return True

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """In the loop: the task that answers this call."""
        self._task = self._loop.create_task(coroutine)
        self._task.add_done_callback(self._settle)
        return self._task

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _settle(self, task: "asyncio.Task[T]") -> None:
        if task.cancelled():
            text = "closed before the answer came, or the program is ending"
            self._answer.set_exception(UnreachableError(text, cause="closed"))
        elif (error := task.exception()) is not None:
            self._answer.set_exception(error)
        else:
            self._answer.set_result(task.result())


class LoopThread:
    """Runs coroutines for other threads, any number of them at once; a context manager.

    Ends when it is closed, and with the program. While threads of the caller still wait for it after the main
    thread has ended, its calls are ended as if cancelled: Python joins every thread that is no daemon, and
    would otherwise wait for an upstream. `atexit` closes what is open then, within `EXIT_S` in all, before
    Python freezes daemon threads, of which this is one.
    """

    def __init__(self) -> None:
        self._loop = new_loop()
        # Reentrant: the garbage collector may close one of us at any line.
        self._lock = threading.RLock()
        self._closed = False
        self._asked = asyncio.Event()
        self._calls: set[asyncio.Task[Any]] = set()
        self._opened = AsyncExitStack()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="tilehaul-loop", daemon=True)
        _open.add(self)
        try:
            self._thread.start()
        except BaseException:
            _open.discard(self)
            self._loop.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result or error. Raises as `start` and `Call.result`."""
        return self.start(coroutine).result()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Call[T]:
        """Begin the coroutine.

        Raises:
            PlanError: The thread is closed, or the caller is this very thread, which cannot wait for itself.
        """
        reason = ""
        if threading.current_thread() is self._thread:
            reason = "a callback of tilehaul cannot wait for tilehaul: note the tile, ask after the call"
        call: Call[T] = Call(self._loop)
        with self._lock:
            if self._closed:
                reason = _CLOSED
            if not reason:
                self._loop.call_soon_threadsafe(self._begin, call, coroutine)
        if reason:
            coroutine.close()
            raise PlanError(reason)
        return call

    def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter an asynchronous context; it is left when the thread is closed, after every call has ended."""
        return self.run(self._opened.enter_async_context(manager))

    def close(self, *, wait_s: float = END_S) -> None:
        """End every call, leave what was entered, end the thread. Safe to call twice, and from any thread.

        Raises what leaving raised. Returns after `wait_s` seconds at the latest: a call that the operating
        system holds up, say on a dead disk, is left to itself. (libcurl waits for a name server that is
        silent, some 10 s, before it closes.)
        """
        self.stop()
        if threading.current_thread() is not self._thread:
            self._thread.join(wait_s)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def stop(self) -> None:
        """Ask the thread to end; `close` waits for it."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._asked.set)

    def _begin(self, call: Call[T], coroutine: Coroutine[Any, Any, T]) -> None:
        task = call.begin(coroutine)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    def _serve(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._live())
        except BaseException as error:  # noqa: BLE001 - raised where the thread is closed
            self._failure = error
        finally:
            _open.discard(self)

    async def _live(self) -> None:
        async with self._opened:
            try:
                await self._until_the_end()
            finally:
                with self._lock:
                    self._closed = True
                # A call that was handed over a moment ago is a task after one round of the loop.
                await asyncio.sleep(0)
                for task in self._calls:
                    task.cancel()
                await asyncio.gather(*self._calls, return_exceptions=True)

    async def _until_the_end(self) -> None:
        main = threading.main_thread()
        # An embedded interpreter may have been started by a thread that is gone: that says nothing.
        is_watched = main.is_alive()
        while not self._asked.is_set() and (main.is_alive() or not is_watched):
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._asked.wait()
            except TimeoutError:
                pass


# Of the whole process, as the end of the program is.
_open: set[LoopThread] = set()


def _end_all() -> None:
    deadline_s = time.monotonic() + EXIT_S
    threads = list(_open)
    for thread in threads:
        thread.stop()
    for thread in threads:
        # Nobody is left to be told, and the others are to be closed as well.
        with suppress(Exception):
            thread.close(wait_s=max(0.0, deadline_s - time.monotonic()))


atexit.register(_end_all)
