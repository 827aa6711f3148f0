"""A thread with a loop: what its callers get when it is closed, interrupted or torn down."""

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from tilehaul.errors import PlanError, StorageError, UnreachableError
from tilehaul.net.loop_thread import LoopThread


async def never(begun: threading.Event | None = None) -> None:
    if begun is not None:
        begun.set()
    await asyncio.Event().wait()


async def thread_name() -> str:
    return threading.current_thread().name


def of_ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tilehaul")]


def test_calls_of_several_threads_run_in_one_loop() -> None:
    names: list[str] = []
    with LoopThread() as thread:
        callers = [threading.Thread(target=lambda: names.append(thread.run(thread_name()))) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert names == ["tilehaul-loop"] * 8
    assert of_ours() == []


def test_close_ends_calls_under_way_and_their_callers_are_told() -> None:
    told: list[BaseException] = []
    begun = threading.Event()
    thread = LoopThread()

    def ask() -> None:
        try:
            thread.run(never(begun))
        except UnreachableError as error:
            told.append(error)

    caller = threading.Thread(target=ask)
    caller.start()
    begun.wait(10)
    thread.close()
    caller.join(10)
    assert [error.cause for error in told if isinstance(error, UnreachableError)] == ["closed"]
    thread.close()
    with pytest.raises(PlanError, match="closed"):
        thread.run(never())


def test_call_handed_over_in_the_moment_of_closing_is_answered() -> None:
    """Many rounds of the race: each caller gets an answer or an error, none waits for ever."""
    for _ in range(100):
        thread = LoopThread()
        answers: list[object] = []

        def ask(thread: LoopThread = thread, answers: list[object] = answers) -> None:
            try:
                answers.append(thread.run(never()))
            except (PlanError, UnreachableError) as error:
                answers.append(error)

        callers = [threading.Thread(target=ask) for _ in range(3)]
        for caller in callers:
            caller.start()
        thread.close()
        for caller in callers:
            caller.join(10)
        assert len(answers) == 3


def test_thread_cannot_wait_for_itself() -> None:
    """What would hang for ever is an error."""
    with LoopThread() as thread:

        async def ask_oneself() -> None:
            thread.run(never())

        with pytest.raises(PlanError, match="callback"):
            thread.run(ask_oneself())


def test_what_was_entered_is_left_after_the_calls_have_ended() -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def place() -> AsyncIterator[str]:
        yield "place"
        steps.append("left")

    async def call() -> None:
        try:
            await never()
        finally:
            steps.append("ended")

    with LoopThread() as thread:
        assert thread.enter(place()) == "place"
        thread.start(call())
    assert steps == ["ended", "left"]


def test_error_of_leaving_is_raised_by_close() -> None:
    @asynccontextmanager
    async def place() -> AsyncIterator[None]:
        yield
        raise StorageError("disk full")

    thread = LoopThread()
    thread.enter(place())
    with pytest.raises(StorageError, match="disk full"):
        thread.close()
    thread.close()
    assert of_ours() == []


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_call_that_kills_the_loop_leaves_nobody_waiting(kind: type[BaseException]) -> None:
    """Python lets these two out of a loop; its thread ends, and says so to whoever waits."""

    async def die() -> None:
        raise kind

    thread = LoopThread()
    other = thread.start(never())
    with pytest.raises(kind):
        thread.run(die())
    with pytest.raises(UnreachableError):
        other.result(10)
    with pytest.raises(kind):
        thread.close()
    with pytest.raises(PlanError, match="closed"):
        thread.run(never())


def test_interrupted_caller_waits_until_the_call_has_put_away_what_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_away: list[bool] = []

    begun = threading.Event()

    async def hold() -> None:
        try:
            await never(begun)
        finally:
            await asyncio.sleep(0.01)
            put_away.append(True)

    with LoopThread() as thread:
        call = thread.start(hold())
        begun.wait(10)

        def interrupted(_timeout: float | None = None) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(call._answer, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call.result()
        assert put_away == [True]


def test_dropped_without_close_by_its_own_thread_does_not_hang() -> None:
    """The garbage collector runs wherever it likes, also in the loop's thread."""

    @contextmanager
    def opened():
        with LoopThread() as thread:
            yield thread

    manager = opened()
    thread = manager.__enter__()
    holder = [manager]
    del manager

    async def drop() -> None:
        holder.clear()
        gc.collect()

    call = thread.start(drop())
    try:
        call.result(10)
    except UnreachableError:
        pass  # it ended itself
    thread._thread.join(10)
    assert of_ours() == []


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_loop_that_cannot_be_made_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="start new thread"):
        LoopThread()
