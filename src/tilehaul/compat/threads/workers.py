"""Daemon threads that exist only while there is work, and give up on tasks that take too long."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

_log = logging.getLogger(__name__)

# Python cannot end a thread from outside. So many tasks that were given up on may still be running; after
# that no thread is started in their place.
STUCK_MAX = 32


class _Task:
    __slots__ = ("call", "future", "started_s")

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.future: Future[Any] = Future()
        self.started_s = 0.0


class Workers:
    """Runs tasks in at most `count` threads, first come first served.

    A thread ends as soon as nothing waits to be done: none is ever left behind waiting for work. All are
    daemons, so that a task that never ends does not keep the interpreter from ending; it is cut off then.

    A task that has run for `task_s_max` seconds is given up on: its future gets TimeoutError, another thread
    takes the place of its thread, and what it may answer later is dropped. That is noticed by who waits in
    `next_done`. When STUCK_MAX tasks that were given up on still run and no other thread is left, the tasks
    that wait get TimeoutError too.
    """

    def __init__(self, count: int, task_s_max: float | None) -> None:
        self._count = count
        self._task_s_max = task_s_max
        self._changed = threading.Condition()
        self._waiting: deque[_Task] = deque()
        # In the order they were begun, so the first is the oldest.
        self._running: dict[_Task, None] = {}
        self._done: deque[Future[Any]] = deque()
        self._threads = 0
        self._stuck = 0
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Have `call` run. Raises RuntimeError after `cancel`, or when no thread can be started."""
        task = _Task(call)
        with self._changed:
            if self._cancelled:
                raise RuntimeError("cancelled: no more tasks are taken; make a new pool")
            self._waiting.append(task)
            try:
                self._start_threads()
            except RuntimeError:
                self._waiting.pop()
                raise
        return task.future

    def next_done(self, timeout_s: float | None = None) -> Future[Any] | None:
        """The next task that has ended, in the order they end; each is told once.

        None: cancelled, or none ended within `timeout_s` seconds (None: however long it takes). Waits for
        ever when there is no task.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._changed:
                late = self._take_late()
                if not late:
                    if self._done:
                        return self._done.popleft()
                    now_s = time.monotonic()
                    if self._cancelled or (until_s is not None and now_s >= until_s):
                        return None
                    self._changed.wait(self._wait_s(now_s, until_s))
                    continue
            for task, text in late:
                _log.debug("a task is given up on: %s", text)
                task.future.set_exception(TimeoutError(text))
                with self._changed:
                    self._done.append(task.future)

    def cancel(self) -> None:
        """Begin no more tasks, cancel their futures; those that run are let run. Safe to call twice."""
        with self._changed:
            self._cancelled = True
            dropped = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for task in dropped:
            task.future.cancel()

    def _wait_s(self, now_s: float, until_s: float | None) -> float | None:
        waits_s = [] if until_s is None else [until_s - now_s]
        if self._task_s_max is not None and self._running:
            waits_s.append(next(iter(self._running)).started_s + self._task_s_max - now_s)
        return max(0.0, min(waits_s)) if waits_s else None

    def _start_threads(self) -> None:
        """With the lock held: as many threads as there is work for."""
        while self._threads < self._count and self._threads - len(self._running) < len(self._waiting):
            if self._stuck >= STUCK_MAX:
                return
            thread = threading.Thread(target=self._work, name="tilehaul-worker", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                if self._threads == 0:
                    raise
                return  # those that run will do the work
            self._threads += 1

    def _take_late(self) -> list[tuple[_Task, str]]:
        """With the lock held: the tasks to be given up on, and why."""
        limit_s = self._task_s_max
        if limit_s is None:
            return []
        late = []
        due_s = time.monotonic() - limit_s
        for task in list(self._running):
            if task.started_s > due_s:
                break
            del self._running[task]
            self._threads -= 1
            self._stuck += 1
            late.append((task, f"not done within {limit_s:g} s; it is left to end by itself"))
        if late:
            self._start_threads()
        if self._waiting and self._threads == 0:
            text = (
                f"not begun: {self._stuck} tasks before it were not done within {limit_s:g} s and still run"
            )
            for task in self._waiting:
                if task.future.set_running_or_notify_cancel():
                    late.append((task, text))
                else:
                    self._done.append(task.future)
            self._waiting.clear()
        return late

    def _work(self) -> None:
        """One thread's life."""
        _log.debug("worker begins")
        while (task := self._next_task()) is not None:
            result, error = None, None
            try:
                result = task.call()
            except BaseException as raised:  # noqa: BLE001 - the door of a thread: the waiter gets it
                error = raised
            with self._changed:
                if task not in self._running:
                    self._stuck -= 1
                    _log.debug("a task that was given up on has ended; its answer is dropped")
                    return
                del self._running[task]
            # Not under the lock: this runs what the user has hung on the future.
            if error is not None:
                task.future.set_exception(error)
            else:
                task.future.set_result(result)
            with self._changed:
                self._done.append(task.future)
                self._changed.notify_all()
        _log.debug("worker ends: nothing left to do")

    def _next_task(self) -> _Task | None:
        with self._changed:
            while self._waiting:
                task = self._waiting.popleft()
                if task.future.set_running_or_notify_cancel():
                    task.started_s = time.monotonic()
                    self._running[task] = None
                    if len(self._running) == 1:
                        # Who waits does so without a limit yet: it is counted from the oldest task's start.
                        self._changed.notify_all()
                    return task
                self._done.append(task.future)
                self._changed.notify_all()
            self._threads -= 1
            return None
