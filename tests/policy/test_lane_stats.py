"""A lane's statistics against a list of all that happened."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilehaul.errors import ConfigError
from tilehaul.policy.lane_stats import NO_TIMES, SLOTS, LaneFigures, LaneStats
from tilehaul.policy.tally import Histogram

WINDOW_S = 60.0
SLOT_S = WINDOW_S / SLOTS

moments = st.floats(0.0, 40.0)
times = st.floats(0.0002, 900.0)
answers = st.tuples(moments, times, times)
failures = st.tuples(moments, st.sampled_from(["rate_limit", "timeout", "server", "body"]))
events = st.lists(answers | failures, max_size=80)


def nearest_rank(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)]


@given(events, moments)
def test_window_is_what_a_list_of_everything_says(steps: list, later_s: float) -> None:
    """Counts are exact; percentiles are never lower and at most 5 % higher than the true ones."""
    stats, now_s = LaneStats(WINDOW_S), 1000.0
    seen: list = []
    for after_s, *rest in steps:
        now_s += after_s
        seen.append((now_s, *rest))
        stats.on_failure(now_s, *rest) if len(rest) == 1 else stats.on_answer(now_s, *rest)
    now_s += later_s
    kept = [step for step in seen if int(step[0] / SLOT_S) > int(now_s / SLOT_S) - SLOTS]
    told = stats.recent(now_s)

    good = [step for step in kept if len(step) == 3]
    causes = [step[1] for step in kept if len(step) == 2]
    failed = [cause for cause in causes if cause != "rate_limit"]
    assert (told.answered, told.failed) == (len(good), len(failed))
    assert told.causes == {cause: causes.count(cause) for cause in set(causes)}
    ended = len(good) + len(failed)
    assert told.failure_share == (len(failed) / ended if ended else 0.0)
    assert stats.requests == len(seen)
    assert sum(stats.causes.values()) == sum(1 for step in seen if len(step) == 2)
    for column, percentiles in ((1, told.ttfb), (2, told.total)):
        values = [step[column] for step in good]
        if not values:
            assert percentiles == NO_TIMES
            continue
        for share, ms in ((0.5, percentiles.p50_ms), (0.95, percentiles.p95_ms), (0.99, percentiles.p99_ms)):
            true_ms = nearest_rank(values, share) * 1000.0
            assert true_ms * 0.9999 <= ms <= true_ms * 1.0501
    # What is younger than all but one slot of the window is in it; what is older than the window is not.
    assert all(now_s - step[0] <= WINDOW_S * 1.0001 for step in kept)
    assert all(step in kept for step in seen if now_s - step[0] < WINDOW_S - SLOT_S)


def test_lane_that_has_seen_nothing_says_nothing() -> None:
    assert LaneStats().recent(5.0) == LaneFigures()


def test_what_is_older_than_the_window_is_forgotten_and_the_sums_are_not() -> None:
    stats = LaneStats(WINDOW_S)
    stats.on_failure(0.0, "timeout")
    stats.on_answer(1.0, 0.1, 0.2)
    assert stats.recent(WINDOW_S - SLOT_S).failure_share == 0.5
    assert stats.recent(WINDOW_S + SLOT_S) == LaneFigures(window_s=WINDOW_S)
    assert (stats.requests, stats.causes) == (2, {"timeout": 1})


def test_push_back_is_a_cause_and_no_failure() -> None:
    stats = LaneStats()
    for _ in range(9):
        stats.on_failure(0.0, "rate_limit")
    stats.on_answer(0.0, 0.1, 0.2)
    told = stats.recent(0.0)
    assert (told.failure_share, told.failed, told.causes) == (0.0, 0, {"rate_limit": 9})


def test_memory_does_not_grow_with_the_attempts() -> None:
    """A day of attempts: no more slots than the window has, all but the newest settled."""
    stats = LaneStats()
    for step in range(86_400):
        stats.on_answer(float(step), 0.001 + (step % 997) / 100, 0.002 + (step % 991) / 100)
    assert len(stats._slots) == SLOTS
    held = [times for slot in stats._slots for times in (slot.ttfb, slot.total)]
    assert sum(len(times._fresh) for times in held[:-2]) == 0
    assert max(len(times._counts) for times in held) <= 332


@pytest.mark.parametrize("window_s", [0.0, -1.0, inf, float("nan")])
def test_window_that_is_none_is_refused(window_s: float) -> None:
    with pytest.raises(ConfigError, match="above 0 seconds"):
        LaneStats(window_s)


@given(st.lists(st.floats(0.0, 2000.0), max_size=50), st.lists(st.floats(0.0, 2000.0), max_size=50))
def test_histograms_together_are_the_histogram_of_all(first: list[float], second: list[float]) -> None:
    """Also when values are sorted in at odd moments."""
    one, other, both = Histogram(), Histogram(), Histogram()
    for histogram, values in ((one, first), (other, second), (both, first + second)):
        for step, value in enumerate(values):
            histogram.add(value)
            if step % 7 == 3:
                histogram.settle()
    one.take_in(other)
    assert one.count == both.count
    assert one.mean_s() == pytest.approx(both.mean_s())
    assert [one.percentile_s(n / 20) for n in range(21)] == [both.percentile_s(n / 20) for n in range(21)]


def test_percentiles_are_the_histograms_own_in_milliseconds() -> None:
    """Four heights of values, so that no percentile can be taken for another."""
    stats, times = LaneStats(WINDOW_S), Histogram()
    for value_s in [0.001] * 900 + [0.01] * 70 + [0.1] * 25 + [1.0] * 5:
        stats.on_answer(1000.0, value_s, 2 * value_s)
        times.add(value_s)
    told = stats.recent(1000.0)
    wanted_ms = [times.percentile_s(share) * 1000.0 for share in (0.5, 0.95, 0.99)]
    assert [told.ttfb.p50_ms, told.ttfb.p95_ms, told.ttfb.p99_ms] == wanted_ms
    assert sorted(set(wanted_ms)) == wanted_ms
    assert wanted_ms[2] < times.percentile_s(1.0) * 1000.0


def test_slot_holds_all_that_happens_in_it_and_no_more() -> None:
    """More answers than there are slots stay; one at the edge belongs to the next slot."""
    stats = LaneStats(WINDOW_S)
    begun_s = 100 * WINDOW_S
    for number in range(10 * SLOTS):
        stats.on_answer(begun_s + number * SLOT_S / (10 * SLOTS), 0.1, 0.1)
    assert stats.recent(begun_s).answered == 10 * SLOTS
    stats.on_answer(begun_s + SLOT_S, 0.1, 0.1)
    stats.on_failure(begun_s + 2 * SLOT_S, "server")
    first_gone = stats.recent(begun_s + WINDOW_S)
    assert (first_gone.answered, first_gone.failed) == (1, 1)
    second_gone = stats.recent(begun_s + WINDOW_S + SLOT_S)
    assert (second_gone.answered, second_gone.failed) == (0, 1)


def test_window_may_be_shorter_than_a_second() -> None:
    assert LaneStats(0.5).window_s == 0.5


def test_one_cause_in_two_slots_is_summed() -> None:
    stats = LaneStats(WINDOW_S)
    for now_s in (1000.0, 1000.0 + SLOT_S, 1000.0 + SLOT_S):
        stats.on_failure(now_s, "server")
    assert stats.recent(1000.0 + 2 * SLOT_S).causes == {"server": 3}
