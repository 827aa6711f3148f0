"""One thread that does blocking work in order, for callers on an event loop."""

import asyncio
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

# How long, and how many, finished answers wait for the ones behind them.
SHARE_S_MAX = 0.001
SHARE_ANSWERS_MAX = 32

_Work = tuple["asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]
_Answer = tuple["asyncio.Future[Any]", Any, BaseException | None]


class WorkerThread:
    """Runs calls one after another on a thread of its own.

    A thread pool's hand-off costs 35 to 120 us of CPU a call, because every answer wakes the event
    loop by itself, and then both threads fight for the interpreter's lock. Here the answers to calls
    that are queued together share one wake-up, for which they wait `SHARE_S_MAX` at most
    (`benchmarks/stores.py`).

    The thread starts with the first call. It is a daemon, so that a program that forgot to close a
    store still ends; what was acknowledged is durable by then.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, work: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
        """Queue `work(*args)`. Cancelling the future skips the work unless it has begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put((future, work, args))
        return future

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    async def stop(self) -> None:
        """End the thread after the work that is queued. A later `run` starts a new one."""
        if self._thread is not None:
            # Waited for as work, not on a thread: while the program ends, none can be started any more.
            worked_off = self.run(_nothing)
            thread, self._thread = self._thread, None
            self._queue.put(None)
            await asyncio.shield(worked_off)
            thread.join()

    def _serve(self) -> None:
        answers: list[_Answer] = []
        shared_since_s = 0.0
        last: Callable[..., Any] | None = None
        while (item := self._queue.get()) is not None:
            future, work, args = item
            # Answers wait for calls of their own kind only: those take about as long as they did.
            if answers and work != last:
                _hand_back(answers)
                answers = []
            last = work
            if not future.cancelled():
                if not answers:
                    shared_since_s = time.monotonic()
                try:
                    answers.append((future, work(*args), None))
                except BaseException as error:  # noqa: BLE001  handed to the caller, whatever it is
                    answers.append((future, None, error))
            # A local that still names the batch would keep its bodies alive until the next call.
            del item, future, work, args
            if answers and (
                self._queue.empty()
                or len(answers) >= SHARE_ANSWERS_MAX
                or time.monotonic() - shared_since_s > SHARE_S_MAX
            ):
                _hand_back(answers)
                answers = []
        if answers:
            _hand_back(answers)


def _nothing() -> None:
    pass


def _hand_back(answers: list[_Answer]) -> None:
    """Tell each loop once. A loop that was closed while we worked has nobody left to tell."""
    loops: dict[asyncio.AbstractEventLoop, list[_Answer]] = {}
    for answer in answers:
        loops.setdefault(answer[0].get_loop(), []).append(answer)
    for loop, some in loops.items():
        try:
            loop.call_soon_threadsafe(_deliver, some)
        except RuntimeError:
            continue


def _deliver(answers: list[_Answer]) -> None:
    for future, value, error in answers:
        if future.cancelled():
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
