"""One function with a time limit."""

import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# Calls that were given up on and still run, in the whole process.
STUCK_MAX = 100
_RUNS, _STUCK = "tilehaul-limited", "tilehaul-stuck"


def run_with_timeout(
    fn: Callable[P, R], timeout_sec: float, /, *args: P.args, **kwargs: P.kwargs
) -> tuple[bool, R | None, str | None]:
    """Run `fn(*args, **kwargs)` in a thread of its own and wait for it `timeout_sec` seconds, > 0.

    A function that is not done by then cannot be stopped from outside: it runs on in its daemon thread, which
    ends when the function does and does not keep the interpreter from ending; its answer is dropped.

    Returns:
        `(True, result, None)`, or `(False, None, error)` with the error as one line: what `fn` raised, that
        the time is over, or that STUCK_MAX such functions still run and `fn` was therefore not begun.

    Raises:
        ValueError: The time limit is not above 0.
    """
    if not 0 < timeout_sec <= threading.TIMEOUT_MAX:
        raise ValueError(f"timeout_sec must be above 0 seconds, not {timeout_sec}")
    if sum(thread.name == _STUCK for thread in threading.enumerate()) >= STUCK_MAX:
        return False, None, f"not begun: {STUCK_MAX} calls that were not done in time still run"
    outcome: list[tuple[bool, R | None, str | None]] = []

    def run() -> None:
        try:
            outcome.append((True, fn(*args, **kwargs), None))
        except BaseException as error:  # noqa: BLE001 - the door of a thread: the caller is told
            outcome.append((False, None, f"{type(error).__name__}: {error}"))

    thread = threading.Thread(target=run, name=_RUNS, daemon=True)
    thread.start()
    thread.join(timeout_sec)
    if outcome:
        return outcome[0]
    thread.name = _STUCK
    return False, None, f"TimeoutError: not done within {timeout_sec:g} s; it is left to end by itself"
