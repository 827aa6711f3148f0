"""The pool, the queue and the time limit of `compat.threads`."""

import queue
import subprocess
import sys
import threading
import time

import pytest

from tilehaul.compat.threads import BoundedQueue, CancellableThreadPool, run_with_timeout, time_limit, workers

LONG_S = 30.0


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("tilehaul")]


def wait_until(condition, what="the condition"):
    """Things end in another thread: give them time, but not without end."""
    until_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < until_s, f"{what} did not come"
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    """Whatever happened to the pool, its threads end."""
    yield
    wait_until(lambda: not ours(), "the end of all threads")


@pytest.fixture
def gate():
    """Tasks that wait for it hang until the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_results_come_in_the_order_of_submission_and_progress_counts_up() -> None:
    """The calls of the old integration guide, one after the other."""
    pool = CancellableThreadPool(max_workers=5, timeout=30)
    seen = []
    for number in range(20):
        pool.submit_task(lambda n: (time.sleep(0.0002 * (20 - n)), n)[1], number)
    results, errors = pool.wait_completion(callback_progress=lambda done, total: seen.append((done, total)))
    assert results == list(range(20))
    assert errors == []
    assert seen == [(done, 20) for done in range(1, 21)]


def test_defaults_are_the_old_ones() -> None:
    pool = CancellableThreadPool()
    assert (pool.max_workers, pool.timeout) == (5, 30)
    assert pool.wait_completion() == ([], [])


def test_never_more_threads_than_workers_and_none_without_work() -> None:
    pool = CancellableThreadPool(max_workers=3)
    assert not ours()
    most, lock = [0], threading.Lock()

    def look() -> None:
        with lock:
            most[0] = max(most[0], len(ours()))

    for _ in range(50):
        pool.submit_task(look)
    pool.wait_completion()
    assert 1 <= most[0] <= 3


def test_keyword_arguments_reach_the_task_whatever_they_are_called() -> None:
    def task(**named: int) -> dict[str, int]:
        return named

    pool = CancellableThreadPool()
    future = pool.submit_task(task, fn=1, self=2)
    assert pool.wait_completion()[0] == [{"fn": 1, "self": 2}]
    assert future.result() == {"fn": 1, "self": 2}


def test_failed_tasks_are_errors_and_nothing_is_lost() -> None:
    """As many results and errors as tasks; the exception itself is in the future."""
    pool = CancellableThreadPool(max_workers=2)
    futures = [pool.submit_task(lambda n: 10 // n, number) for number in (5, 0, 2)]
    pool.submit_task(sys.exit, 3)
    results, errors = pool.wait_completion()
    assert results == [2, 5]
    assert errors == ["ZeroDivisionError: integer division or modulo by zero", "SystemExit: 3"]
    assert isinstance(futures[1].exception(), ZeroDivisionError)


def test_pool_can_be_used_again() -> None:
    pool = CancellableThreadPool(max_workers=2)
    pool.submit_task(int, "1")
    assert pool.wait_completion() == ([1], [])
    pool.submit_task(int, "2")
    assert pool.wait_completion() == ([2], [])


def test_cancelled_from_the_callback_it_begins_no_more_and_raises(gate: threading.Event) -> None:
    """What a window's cancel button does."""
    pool = CancellableThreadPool(max_workers=2)
    begun = []

    def task(number: int) -> None:
        begun.append(number)
        if number > 2:
            gate.wait(LONG_S)

    for number in range(50):
        pool.submit_task(task, number)
    with pytest.raises(RuntimeError, match="cancelled: 3 of 50"):
        pool.wait_completion(callback_progress=lambda done, _total: pool.cancel() if done == 3 else None)
    assert pool.cancel_event.is_set()
    assert len(begun) <= 5


def test_cancel_from_another_thread_wakes_the_waiter_although_a_task_hangs(gate: threading.Event) -> None:
    pool = CancellableThreadPool(max_workers=1)
    pool.submit_task(gate.wait, LONG_S)
    left = pool.submit_task(int, "1")

    def cancel() -> None:
        wait_until(lambda: pool._workers._changed._waiters, "somebody who waits")
        pool.cancel()

    other = threading.Thread(target=cancel)
    other.start()
    with pytest.raises(RuntimeError, match="cancelled"):
        pool.wait_completion()
    other.join()
    assert left.cancelled()


def test_task_can_see_that_it_is_not_wanted_any_more() -> None:
    pool = CancellableThreadPool()
    future = pool.submit_task(pool.cancel_event.wait, LONG_S)
    pool.cancel()
    wait_until(future.done)
    assert future.cancelled() or future.result() is True


def test_cancel_before_the_start_and_twice() -> None:
    pool = CancellableThreadPool()
    pool.cancel()
    pool.cancel()
    with pytest.raises(RuntimeError, match="make a new pool"):
        pool.submit_task(int)
    with pytest.raises(RuntimeError, match="cancelled"):
        pool.wait_completion()
    assert not ours()


def test_block_that_fails_cancels_what_was_not_waited_for(gate: threading.Event) -> None:
    """A crash of the caller between submitting and waiting."""
    left = []

    def crash() -> None:
        with CancellableThreadPool(max_workers=1) as pool:
            left.extend(pool.submit_task(gate.wait, LONG_S) for _ in range(3))
            raise KeyError

    with pytest.raises(KeyError):
        crash()
    assert left[-1].cancelled()


def test_callback_that_raises_cancels_and_passes_on(gate: threading.Event) -> None:
    pool = CancellableThreadPool(max_workers=1)
    pool.submit_task(int)
    left = [pool.submit_task(gate.wait, LONG_S) for _ in range(3)]

    def progress(_done: int, _total: int) -> None:
        raise LookupError("the window is gone")

    with pytest.raises(LookupError, match="the window is gone"):
        pool.wait_completion(progress)
    assert left[-1].cancelled()


def test_callback_that_blocks_does_not_hold_up_the_tasks() -> None:
    pool = CancellableThreadPool(max_workers=2)
    futures = [pool.submit_task(int, str(number)) for number in range(30)]
    held = []

    def progress(done: int, _total: int) -> None:
        if done == 1:
            wait_until(lambda: all(future.done() for future in futures))
        held.append(done)

    assert pool.wait_completion(progress) == (list(range(30)), [])
    assert held == list(range(1, 31))


def test_task_over_its_time_is_an_error_and_the_others_go_on(gate: threading.Event) -> None:
    """Its thread's place is taken by another; what it answers later is dropped."""
    pool = CancellableThreadPool(max_workers=1, timeout=0.05)
    stuck = pool.submit_task(gate.wait, LONG_S)
    pool.submit_task(int, "7")
    results, errors = pool.wait_completion()
    assert results == [7]
    assert errors == ["TimeoutError: not done within 0.05 s; it is left to end by itself"]
    gate.set()
    wait_until(lambda: not ours())
    assert isinstance(stuck.exception(), TimeoutError)


def test_life_of_the_threads_is_told_to_the_log(
    gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """What to look at when a pool seems to hang: `logging.DEBUG`."""
    caplog.set_level("DEBUG", "tilehaul.compat.threads")
    pool = CancellableThreadPool(max_workers=1, timeout=0.02)
    pool.submit_task(gate.wait, LONG_S)
    pool.wait_completion()
    gate.set()
    wait_until(lambda: not ours())
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "worker begins",
        "a task is given up on",
        "a task that was given up on has ended; its answer is dropped",
    ]


def test_stuck_threads_are_bounded_and_every_task_has_an_outcome(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "STUCK_MAX", 3)
    pool = CancellableThreadPool(max_workers=2, timeout=0.02)
    for _ in range(10):
        pool.submit_task(gate.wait, LONG_S)
    withdrawn = pool.submit_task(int)
    withdrawn.cancel()
    results, errors = pool.wait_completion()
    assert results == []
    assert len(errors) == 11
    assert len(ours()) in (3, 4)
    assert sum("not begun" in error for error in errors) in (6, 7)
    assert errors[-1].startswith("CancelledError")


def test_threads_that_came_back_late_are_not_held_against_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "STUCK_MAX", 1)
    pool = CancellableThreadPool(max_workers=1, timeout=0.02)
    for _ in range(2):
        late = threading.Event()
        pool.submit_task(late.wait, LONG_S)
        assert "left to end by itself" in pool.wait_completion()[1][0]
        late.set()
        wait_until(lambda: not ours())
        pool.submit_task(int)
        assert pool.wait_completion() == ([0], [])


def test_task_that_was_withdrawn_is_an_error(gate: threading.Event) -> None:
    pool = CancellableThreadPool(max_workers=1)
    pool.submit_task(gate.wait, LONG_S)
    assert pool.submit_task(int).cancel()
    gate.set()
    assert pool.wait_completion() == ([True], ["CancelledError: its future was cancelled before it began"])


def test_two_threads_cannot_wait_for_one_pool(gate: threading.Event) -> None:
    pool = CancellableThreadPool()
    pool.submit_task(gate.wait, LONG_S)
    waiting = threading.Event()
    outcome = []

    def wait() -> None:
        waiting.set()
        outcome.append(pool.wait_completion())

    other = threading.Thread(target=wait)
    other.start()
    waiting.wait(LONG_S)
    wait_until(pool._waiter.locked)
    with pytest.raises(RuntimeError, match="another thread"):
        pool.wait_completion()
    gate.set()
    other.join(LONG_S)
    assert outcome == [([True], [])]


def test_several_threads_may_submit() -> None:
    pool = CancellableThreadPool(max_workers=4)
    givers = [
        threading.Thread(target=lambda: [pool.submit_task(int, "1") for _ in range(200)]) for _ in range(5)
    ]
    for giver in givers:
        giver.start()
    for giver in givers:
        giver.join()
    assert pool.wait_completion() == ([1] * 1000, [])


def test_tasks_nobody_waits_for_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilehaul.compat.threads.pool.TASKS_MAX", 2)
    pool = CancellableThreadPool()
    pool.submit_task(int)
    pool.submit_task(int)
    with pytest.raises(RuntimeError, match="wait_completion"):
        pool.submit_task(int)
    assert pool.wait_completion() == ([0, 0], [])


@pytest.mark.parametrize(
    "bad", [{"max_workers": 0}, {"max_workers": -1}, {"timeout": 0}, {"timeout": float("inf")}]
)
def test_numbers_out_of_range_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        CancellableThreadPool(**bad)


STUCK = """
import threading
from tilehaul.compat.threads import CancellableThreadPool, run_with_timeout
pool = CancellableThreadPool(max_workers=2, timeout=0.05)
pool.submit_task(threading.Event().wait)
print(pool.wait_completion()[1])
pool.submit_task(threading.Event().wait)
print(run_with_timeout(threading.Event().wait, 0.05))
"""


@pytest.mark.parametrize("end", ["", "import sys; sys.exit(0)"])
def test_interpreter_ends_although_tasks_are_stuck(end: str) -> None:
    """Three tasks that never end; the old pool joined them at exit and hung."""
    done = subprocess.run(
        [sys.executable, "-c", STUCK + end], capture_output=True, text=True, timeout=LONG_S, check=True
    )
    assert done.stdout.count("TimeoutError") == 2
    assert done.stderr == ""


def test_queue_holds_so_much_and_no_more() -> None:
    items = BoundedQueue(maxsize=2)
    assert items.empty()
    items.put("a", timeout=10)
    items.put("b", timeout=10)
    assert (items.qsize(), items.full(), items.maxsize) == (2, True, 2)
    with pytest.raises(queue.Full):
        items.put("c", timeout=0.01)
    assert items.get(timeout=5) == "a"
    assert items.get(timeout=5) == "b"
    with pytest.raises(queue.Empty):
        items.get(timeout=0)


def test_queue_holds_up_the_producer_until_the_consumer_has_taken() -> None:
    items = BoundedQueue(maxsize=1)
    most = []

    def produce() -> None:
        for number in range(100):
            items.put(number)

    producer = threading.Thread(target=produce)
    producer.start()
    got = []
    while len(got) < 100:
        most.append(items.qsize())
        got.append(items.get())
    producer.join()
    assert got == list(range(100))
    assert max(most) <= 1


def test_queue_defaults_and_bad_numbers() -> None:
    assert BoundedQueue().maxsize == 100
    for maxsize in (0, -1):
        with pytest.raises(ValueError, match="maxsize"):
            BoundedQueue(maxsize)
    with pytest.raises(ValueError, match="timeout"):
        BoundedQueue().put(1, timeout=-1)
    with pytest.raises(ValueError, match="timeout"):
        BoundedQueue().get(timeout=-1)


def test_run_with_timeout_answers_three_things(gate: threading.Event) -> None:
    def task(a: int, *, fn: int) -> int:
        return a + fn

    assert run_with_timeout(task, 5, 1, fn=2) == (True, 3, None)
    assert run_with_timeout(int, 5, "x") == (
        False,
        None,
        "ValueError: invalid literal for int() with base 10: 'x'",
    )
    success, result, error = run_with_timeout(gate.wait, 0.02, LONG_S)
    assert (success, result) == (False, None)
    assert error == "TimeoutError: not done within 0.02 s; it is left to end by itself"


def test_calls_that_never_end_are_bounded(gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "STUCK_MAX", 2)
    for _ in range(2):
        assert "not done" in str(run_with_timeout(gate.wait, 0.01, LONG_S)[2])
    assert "not begun" in str(run_with_timeout(gate.wait, 0.01, LONG_S)[2])
    gate.set()
    wait_until(lambda: not ours())
    assert run_with_timeout(int, 5) == (True, 0, None)


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_run_with_timeout_needs_a_time(bad: float) -> None:
    with pytest.raises(ValueError, match="timeout_sec"):
        run_with_timeout(int, bad)
