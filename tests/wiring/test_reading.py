"""A callback that watches a job: the job never waits for it, and what it raises ends the job."""

import asyncio
import threading

import pytest

from tilehaul.jobs.mailbox import Mailbox
from tilehaul.ports.events import Event, JobStarted, LaneHeld
from tilehaul.wiring.reading import reading

STARTED = JobStarted("seed", 10, "a", "b")
HELD = LaneHeld("a.test (tile)", 1.0)


async def until(condition, rounds: int = 2000) -> None:
    for _ in range(rounds):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen")


async def test_callback_is_called_in_one_other_thread_in_order() -> None:
    seen: list[tuple[Event, str]] = []
    async with reading(lambda event: seen.append((event, threading.current_thread().name))) as tell:
        tell.job(STARTED)
        tell.job(HELD)
    assert seen == [(STARTED, "tilehaul-events"), (HELD, "tilehaul-events")]
    await until(lambda: all(thread.name != "tilehaul-events" for thread in threading.enumerate()))


async def test_nobody_watching_costs_no_thread() -> None:
    before = threading.active_count()
    async with reading(None) as tell:
        tell.job(STARTED)
        assert threading.active_count() == before


async def test_callback_that_blocks_holds_up_nobody_and_is_left_behind(caplog) -> None:
    """Telling returns at once; the end waits as long as it says and no longer."""
    hanging, go_on = threading.Event(), threading.Event()

    def watch(event: Event) -> None:
        hanging.set()
        go_on.wait()

    try:
        async with asyncio.timeout(5), reading(watch, last_words_s=0.02) as tell:
            for _ in range(5000):
                tell.job(HELD)
        assert hanging.is_set()
        assert "left behind" in caplog.text
    finally:
        go_on.set()


async def test_what_the_callback_raises_comes_out_of_the_next_event_once() -> None:
    def watch(event: Event) -> None:
        raise ZeroDivisionError

    async with reading(watch) as tell:
        tell.job(STARTED)
        with pytest.raises(ZeroDivisionError):
            await until(lambda: tell.job(HELD))
        tell.job(HELD)


async def test_a_lane_is_never_interrupted(caplog) -> None:
    """Lanes tell while they hand out permits: what the callback raised waits for the job's own event."""
    raised = threading.Event()

    def watch(event: Event) -> None:
        raised.set()
        raise ZeroDivisionError

    async with reading(watch) as tell:
        tell.lane(HELD)
        await until(raised.is_set)
        for _ in range(200):
            tell.lane(HELD)
            await asyncio.sleep(0)
        with pytest.raises(ZeroDivisionError):
            await until(lambda: tell.job(HELD))


async def test_what_the_callback_raises_at_the_last_event_comes_out_at_the_end() -> None:
    def watch(event: Event) -> None:
        if event == HELD:
            raise BrokenPipeError

    async def job() -> None:
        async with reading(watch) as tell:
            tell.job(STARTED)
            tell.job(HELD)

    with pytest.raises(BrokenPipeError):
        await job()


async def test_mailbox_is_told_directly_and_closed_at_the_end() -> None:
    mailbox = Mailbox()
    before = threading.active_count()

    async def job() -> None:
        async with reading(mailbox) as tell:
            assert threading.active_count() == before
            tell.job(STARTED)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await job()
    assert (mailbox.take(), mailbox.take()) == (STARTED, None)
