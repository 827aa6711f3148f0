"""A thread with an event loop, for callers that have none."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from tilehaul.errors import PlanError
from tilehaul.net.loops import new_loop

T = TypeVar("T")

# An interrupted call has this long to commit what it has fetched.
END_S = 30.0


class LoopThread:
    """A thread with a loop, and the means to run coroutines on it from outside."""

    def __init__(self) -> None:
        self._loop = new_loop()
        self._closed = False
        # Nothing may be given to the loop after its end: its caller would wait for ever.
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tilehaul-loop", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result or error.

        A KeyboardInterrupt cancels it, waits until it has put away what it holds, then passes on.

        Raises:
            PlanError: The thread has been closed.
        """
        ended = threading.Event()
        with self._lock:
            if self._closed:
                coroutine.close()
                raise PlanError("this source is closed: use it within its `with` block")
            future = asyncio.run_coroutine_threadsafe(_announced(coroutine, ended), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            ended.wait(END_S)
            raise

    def close(self, *, wait_s: float | None = None) -> None:
        """Cancel what still runs, wait for it, end the thread. Safe to call twice.

        After `wait_s` seconds (None: however long it takes) the thread is left as it is; it is a daemon and
        does not keep the interpreter from ending.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            cancelled = asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop)
        try:
            cancelled.result(wait_s)
        except TimeoutError:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_asyncgens()
        await asyncio.get_running_loop().shutdown_default_executor()


async def _announced(coroutine: Coroutine[Any, Any, T], ended: threading.Event) -> T:
    try:
        return await coroutine
    finally:
        ended.set()
