"""A mailbox never makes the job wait, never loses what matters, and counts what it loses."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.mailbox import Mailbox
from tilehaul.jobs.score import Score
from tilehaul.policy.tally import Tally
from tilehaul.ports.events import Event, JobStarted, LaneChanged, LaneHeld, Progress, SeedReport, TileDead


def progress(done: int) -> Progress:
    return Progress(done, 0, 0, 0, 0, 0, 10, 0, 1.0, 1.0)


def changed(limit: int) -> LaneChanged:
    return LaneChanged("a.test (tile)", "limit", limit, "open", "closed")


def dead(x: int) -> TileDead:
    return TileDead(TileId(9, x, 0), "http_500", "server", 6)


STARTED = JobStarted("seed", 10, "a", "b")
REPORT: SeedReport = Score(10, {"done": 0, "absent": 0, "dropped": 0}, Tally(), 0.0).report(
    "complete", 1.0, source="", store=""
)


def all_of(mailbox: Mailbox) -> list[Event]:
    mailbox.close()
    return list(iter(mailbox.take, None))


def test_quick_reader_gets_every_event_in_order() -> None:
    mailbox, told = Mailbox(), [STARTED, progress(1), dead(1), progress(2), changed(3), REPORT]
    read = []
    for event in told:
        mailbox(event)
        read.append(mailbox.take(0.0))
    assert (read, mailbox.dropped) == (told, 0)
    assert mailbox.take(0.0) is None


def test_slow_reader_gets_the_newest_progress_once_and_before_the_report() -> None:
    mailbox = Mailbox()
    for event in (STARTED, progress(1), progress(2), dead(1), progress(3), REPORT):
        mailbox(event)
    *before, last = all_of(mailbox)
    assert before == [STARTED, dead(1), progress(3)]
    assert isinstance(last, SeedReport)
    assert last.events_dropped == 2 == mailbox.dropped


def test_full_box_drops_changes_of_lanes_before_dead_tiles() -> None:
    mailbox = Mailbox(events_max=4)
    for event in (STARTED, dead(1), changed(1), changed(2), dead(2), dead(3), dead(4)):
        mailbox(event)
    assert all_of(mailbox) == [STARTED, dead(2), dead(3), dead(4)]
    assert mailbox.dropped == 3


def test_reader_that_never_reads_costs_bounded_memory() -> None:
    mailbox = Mailbox(events_max=50)
    mailbox(STARTED)
    for number in range(10_000):
        mailbox(dead(number))
        mailbox(progress(number))
        mailbox(LaneHeld("a.test (tile)", 1.0))
    mailbox(REPORT)
    told = all_of(mailbox)
    assert len(told) == 52
    assert (told[0], told[-2]) == (STARTED, progress(9999))
    assert len(told) + mailbox.dropped == 30_002


def test_reader_in_another_thread_waits_and_is_woken() -> None:
    mailbox, read = Mailbox(), []
    thread = threading.Thread(target=lambda: read.extend(iter(mailbox.take, None)))
    thread.start()
    for event in (STARTED, dead(1), REPORT):
        mailbox(event)
    mailbox.close()
    thread.join(10)
    assert read == [STARTED, dead(1), REPORT]


def test_closed_box_takes_nothing_more() -> None:
    mailbox = Mailbox()
    mailbox.close()
    mailbox.close()
    mailbox(STARTED)
    assert (mailbox.take(), mailbox.dropped) == (None, 1)


kinds = st.sampled_from(["progress", "changed", "held", "dead", "read"])


@given(st.lists(kinds, max_size=60), st.integers(1, 6))
def test_whatever_the_pace_what_matters_comes_and_the_rest_is_counted(steps: list[str], size: int) -> None:
    """Against plain bookkeeping: nothing twice, nothing out of its kind's order, all accounted for."""
    mailbox, put, read = Mailbox(events_max=size), [STARTED], []
    mailbox(STARTED)
    for number, step in enumerate(steps):
        if step == "read":
            if (event := mailbox.take(0.0)) is not None:
                read.append(event)
            continue
        made = {
            "progress": progress(number),
            "changed": changed(number),
            "held": LaneHeld("a", float(number)),
            "dead": dead(number),
        }
        put.append(made[step])
        mailbox(made[step])
        assert len(mailbox._events) <= max(size, 2)
    mailbox(REPORT)
    read += all_of(mailbox)
    assert isinstance(read[0], JobStarted)
    assert isinstance(read[-1], SeedReport)
    assert read[-1].events_dropped == mailbox.dropped == len(put) + 1 - len(read)
    for kind in (Progress, LaneChanged, LaneHeld, TileDead):
        seen = [event for event in read if isinstance(event, kind)]
        assert seen == [event for event in put if event in seen]
    newest = next((event for event in reversed(put) if isinstance(event, Progress)), None)
    assert newest is None or newest in read
