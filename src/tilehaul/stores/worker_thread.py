"""One thread that does blocking work in order, for callers on an event loop."""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Work = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]
_Answer = tuple["asyncio.Future[Any]", Any, BaseException | None]


class WorkerThread:
    """Runs calls one after another on a thread of its own.

    A thread pool's hand-off costs 35 to 120 us of CPU a call, because every answer wakes the event
    loop by itself; here the answers that are ready together share one wake-up (6 to 9 us a call with
    50 callers, 40 to 70 us with one; `benchmarks/stores.py`).

    The thread starts with the first call. It is a daemon, so that a program that forgot to close a
    store still ends; what was acknowledged is durable by then.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._answers: dict[asyncio.AbstractEventLoop, list[_Answer]] = {}

    def run(self, work: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
        """Queue `work(*args)`. Cancelling the future skips the work unless it has begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put((loop, future, work, args))
        return future

    async def stop(self) -> None:
        """End the thread after the work that is queued. A later `run` starts a new one."""
        if self._thread is not None:
            thread, self._thread = self._thread, None
            self._queue.put(None)
            # The thread has only its queued work left; joining it elsewhere keeps the loop free.
            await asyncio.shield(asyncio.to_thread(thread.join))

    def _serve(self) -> None:
        while (item := self._queue.get()) is not None:
            loop, future, work, args = item
            if future.cancelled():
                continue
            try:
                answer: _Answer = (future, work(*args), None)
            except BaseException as error:  # noqa: BLE001  handed to the caller, whatever it is
                answer = (future, None, error)
            self._hand_back(loop, answer)
            # A local that still names the batch would keep its bodies alive until the next call.
            del item, future, work, args, answer

    def _hand_back(self, loop: asyncio.AbstractEventLoop, answer: _Answer) -> None:
        with self._guard:
            waiting = self._answers.get(loop)
            if waiting is not None:
                waiting.append(answer)
                return
            self._answers[loop] = [answer]
        try:
            loop.call_soon_threadsafe(self._deliver, loop)
        except RuntimeError:
            # The loop was closed while we worked: there is nobody left to tell.
            with self._guard:
                self._answers.pop(loop, None)

    def _deliver(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._guard:
            answers = self._answers.pop(loop, [])
        for future, value, error in answers:
            if future.cancelled():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
