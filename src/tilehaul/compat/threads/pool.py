"""A pool of threads that can be cancelled, as add-ons know it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from tilehaul.compat.threads.workers import Workers

P = ParamSpec("P")
R = TypeVar("R")

# Results are kept until they are waited for.
TASKS_MAX = 1_000_000


class CancellableThreadPool:
    """Runs functions in threads; a progress callback, a limit for each task, and cancellation.

    Threads are started when there is work and end when there is none, so nothing has to be closed. A task
    that never ends keeps neither `wait_completion` nor the interpreter from ending: see `timeout`.

    As a context manager it cancels, at the end of the block, what was not waited for.

    Args:
        max_workers: Threads at most, >= 1.
        timeout: Seconds one task may run, > 0; None: however long. A task over it counts as failed, with
            TimeoutError; its thread is replaced and ends by itself as soon as the task does, and what the
            task answers then is dropped. Python cannot stop a function from outside: a long task may look at
            `cancel_event`. Noticed while somebody is in `wait_completion`.

    Raises:
        ValueError: A number out of range.
    """

    def __init__(self, max_workers: int = 5, timeout: float | None = 30) -> None:
        if max_workers < 1:
            raise ValueError(f"max_workers must be 1 or more, not {max_workers}")
        if timeout is not None and not 0 < timeout <= threading.TIMEOUT_MAX:
            raise ValueError(f"timeout must be above 0 seconds, or None for no limit, not {timeout}")
        self.max_workers = max_workers
        self.timeout = timeout
        # Set by `cancel`, for tasks that look whether they are still wanted. To cancel, call `cancel`.
        self.cancel_event = threading.Event()
        self._workers = Workers(max_workers, timeout)
        self._submitted: list[Future[Any]] = []
        self._waiter = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def submit_task(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have `fn(*args, **kwargs)` run. The future tells this one task's outcome; it need not be kept.

        Raises:
            RuntimeError: The pool was cancelled; or TASKS_MAX tasks were submitted and not waited for.
        """
        if len(self._submitted) >= TASKS_MAX:
            raise RuntimeError(f"{TASKS_MAX:,} tasks submitted: call wait_completion before the next")
        future = self._workers.submit(partial(fn, *args, **kwargs))
        self._submitted.append(future)
        return future

    def wait_completion(
        self, callback_progress: Callable[[int, int], object] | None = None
    ) -> tuple[list[Any], list[str]]:
        """Wait until every task has ended. The pool can be used again afterwards.

        Args:
            callback_progress: Called here, in the waiting thread, as `callback_progress(ended, submitted)`
                after each task. The tasks do not wait for it. It may call `cancel`. If it raises, the pool is
                cancelled and the exception passes on.

        Returns:
            Results, and errors as one line each ("KeyError: 'x'"), in the order of submission; together as
            many as there were tasks. The exceptions themselves are in the futures.

        Raises:
            RuntimeError: The pool was cancelled, before or meanwhile: at once, without waiting for tasks that
                run. Or another thread is waiting already.
        """
        if not self._waiter.acquire(blocking=False):
            raise RuntimeError("another thread waits for this pool already")
        try:
            self._wait(callback_progress)
        except BaseException:
            # Also Ctrl-C: nobody is left to take the results.
            self.cancel()
            raise
        finally:
            self._waiter.release()
        tasks, self._submitted = self._submitted, []
        return _sorted_out(tasks)

    def cancel(self) -> None:
        """Begin no more tasks. Those that run end by themselves; their results are dropped.

        Safe from any thread, and to call twice. Cannot be undone.
        """
        self.cancel_event.set()
        self._workers.cancel()

    def _wait(self, callback_progress: Callable[[int, int], object] | None) -> None:
        ended = 0
        while True:
            if self._workers.cancelled:
                raise RuntimeError(f"cancelled: {ended:,} of {len(self._submitted):,} tasks had ended")
            if ended == len(self._submitted):
                return
            if self._workers.next_done() is not None:
                ended += 1
                if callback_progress is not None:
                    callback_progress(ended, len(self._submitted))


def _sorted_out(tasks: list[Future[Any]]) -> tuple[list[Any], list[str]]:
    results: list[Any] = []
    errors: list[str] = []
    for task in tasks:
        if task.cancelled():
            errors.append("CancelledError: its future was cancelled before it began")
        elif (error := task.exception()) is not None:
            errors.append(f"{type(error).__name__}: {error}")
        else:
            results.append(task.result())
    return results, errors
