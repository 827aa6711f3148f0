"""The adaptive limit: each rule alone, then random histories against what must always hold."""

from math import sqrt

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tilehaul.errors import ConfigError
from tilehaul.policy.limit import SAMPLES_MAX, AdaptiveLimit, FixedLimit
from tilehaul.policy.limit_rule import CLASS_LIMITS, LIMIT_MAX, LimitRule, limit_rule
from tilehaul.policy.median import ERROR_MAX, median_and_error

MIDDLE = 0.5


class Lane:
    """Drives a limit: each window `count` answers a second, all with one time to first byte."""

    def __init__(self, **settings_of_rule) -> None:
        self.limit = AdaptiveLimit(LimitRule(**settings_of_rule))
        self.now_s = 100.0

    def window(self, ttfb_s=0.1, *, share=1.0, count=50, luck=MIDDLE) -> int:
        """Until a window has closed, at most a little over a second later; `share` of the limit in use."""
        for _ in range(count + 5):
            # Answers to what was sent before the window opened are not counted: hence the longer time.
            self.now_s += (1.0 + 2.0 * ttfb_s) / count
            before_s = self.limit._opened_s
            self.limit.on_success(self.now_s, ttfb_s, max(1, int(share * self.limit.limit)), luck)
            if self.limit._opened_s != before_s and self.limit._samples == 0:
                return self.limit.limit
        raise AssertionError("no window closed")


def test_first_window_sets_the_base_and_slow_start_grows_by_half() -> None:
    lane = Lane(start=4, most=128)
    assert lane.limit.base_s is None
    assert [lane.window() for _ in range(4)] == [6, 9, 13, 20]
    assert lane.limit.base_s == 0.1


def test_limit_never_exceeds_its_most() -> None:
    lane = Lane(start=4, most=10)
    assert [lane.window() for _ in range(4)] == [6, 9, 10, 10]


def test_unused_limit_does_not_grow() -> None:
    """App-limited: nothing was learned about more."""
    lane = Lane(start=8, most=128)
    assert [lane.window(share=0.3) for _ in range(3)] == [8, 8, 8]
    assert lane.window(share=0.5) == 12


def test_slower_answers_shrink_by_the_gradient() -> None:
    """p50 at twice the base: gradient 0.75, level times 0.875."""
    lane = Lane(start=100, most=100, pay_share=0.0)
    lane.window()
    assert lane.window(0.2) == 87
    assert lane.window(10.0) == int(87.5 * 0.75)


def test_growth_after_trouble_is_a_root_at_most_one_a_window() -> None:
    lane = Lane(start=100, most=1000, pay_share=0.0)
    lane.window()
    lane.limit._set(100.0)
    lane.window(0.3)
    level = lane.limit._level
    lane.window(0.1)
    assert lane.limit._level == pytest.approx(level + sqrt(level) / 2)


def test_push_back_cuts_once_per_window_and_twice_the_base() -> None:
    lane = Lane(start=100, most=100)
    assert lane.limit.on_push_back(10.0)
    assert lane.limit.limit == 70
    assert not lane.limit.on_push_back(10.5)
    assert not lane.limit.on_push_back(10.999)
    assert lane.limit.on_push_back(11.0)
    assert lane.limit.limit == 49
    slow = Lane(start=100, most=100)
    slow.window(3.0)
    slow.limit.on_push_back(1000.0)
    slow.limit.on_push_back(1005.9)
    assert slow.limit.limit == 70
    slow.limit.on_push_back(1006.0)
    assert slow.limit.limit == 49


def test_push_back_never_cuts_below_one() -> None:
    limit = AdaptiveLimit(LimitRule(start=1, most=4))
    assert not limit.on_push_back(5.0)
    assert limit.limit == 1


def test_window_with_push_back_does_not_grow() -> None:
    lane = Lane(start=10, most=100)
    lane.window()
    lane.limit._cut_s = lane.now_s  # no second cut: only the window's mark
    lane.limit.on_push_back(lane.now_s)
    assert lane.window() == 15
    assert lane.window() > 15


def test_after_push_back_growth_is_small_near_the_old_level_for_a_minute() -> None:
    """Small steps above three quarters of where it happened; whole ones below, and after a minute."""
    lane = Lane(start=100, most=1000)
    lane.window()
    lane.limit._set(100.0)
    lane.limit.on_push_back(lane.now_s)
    lane.window()  # the window with the mark
    steps = []
    for _ in range(4):
        before = lane.limit._level
        lane.window()
        steps.append(lane.limit._level - before)
    whole = sqrt(70.0) / 2
    assert steps[0] == pytest.approx(whole)
    assert steps[1] == pytest.approx(sqrt(70.0 + whole) / 2)
    assert steps[2] == pytest.approx(0.1 * sqrt(70.0 + steps[0] + steps[1]) / 2)
    lane.now_s += 60.0
    lane.limit._probe_s = float("inf")
    before = lane.limit._level
    lane.window()
    assert lane.limit._level - before > 3.0


def test_fast_failures_never_raise_the_limit() -> None:
    limit = AdaptiveLimit(LimitRule(start=4, most=100))
    for step in range(10_000):
        assert not limit.on_failure(step / 1000)
    assert limit.limit == 4


def test_window_with_a_tenth_of_failures_does_not_grow() -> None:
    lane = Lane(start=10, most=100)
    lane.window()
    for _ in range(20):
        lane.limit.on_failure(lane.now_s)
    assert lane.window() == 15
    lane.limit.on_failure(lane.now_s)
    assert lane.window() == 22


def test_answers_sent_before_the_window_are_not_counted() -> None:
    """They tell of the limit there was then."""
    lane = Lane(start=10, most=100)
    lane.window()
    opened_s = lane.now_s
    for step in range(200):
        lane.limit.on_success(opened_s + 0.5 + step / 1000, 5.0, 10, MIDDLE)
    assert lane.limit._samples == 0
    assert lane.window() == 22


def test_base_is_measured_anew_with_a_quarter_of_the_limit() -> None:
    """A base that rose for good is believed after the probe."""
    lane = Lane(start=40, most=40)
    lane.window()
    lane.now_s += 60.0
    assert lane.window(0.14) == 10
    assert lane.limit.probing
    assert lane.window(0.14) == 40
    assert not lane.limit.probing
    assert lane.limit.base_s == pytest.approx(0.14)


@pytest.mark.parametrize(("luck", "after_s"), [(0.0, 51.0), (0.5, 60.0), (1.0, 69.0)])
def test_probes_are_spread_by_luck(luck: float, after_s: float) -> None:
    lane = Lane(start=4, most=4)
    lane.window(luck=luck)
    assert lane.limit._probe_s - lane.limit._opened_s == pytest.approx(after_s)


def test_push_back_during_a_probe_cuts_the_level_to_return_to() -> None:
    lane = Lane(start=40, most=40)
    lane.window()
    lane.now_s += 70.0
    lane.window()
    assert (lane.limit.limit, lane.limit.probing) == (10, True)
    assert not lane.limit.on_push_back(lane.now_s)
    assert lane.limit.limit == 10
    assert lane.window() == 28
    for step in range(1, 12):
        lane.limit._saved = 2.0
        lane.limit.on_push_back(lane.now_s + 2.0 * step)
    assert lane.limit._saved == pytest.approx(1.4)
    assert lane.limit.limit == 1


def test_push_back_taken_back_leaves_slow_start_as_it_was() -> None:
    lane = Lane(start=8, most=128)
    assert [lane.window(), lane.window()] == [12, 18]
    level = lane.limit.level
    lane.limit.on_push_back(lane.now_s)
    lane.window()
    lane.limit.take_back(level)
    assert [lane.limit.limit, lane.window(), lane.window()] == [18, 27, 40]


def test_push_back_taken_back_does_not_undo_what_time_has_said() -> None:
    """Slow start ended where answers became slow: from there on it is a step a window."""
    lane = Lane(start=16, most=128, pay_share=0.0)
    lane.window()
    lane.window(0.2)
    level = lane.limit.level
    lane.limit.on_push_back(lane.now_s)
    lane.limit.take_back(level)
    lane.window()
    assert lane.limit.level == level
    lane.window()
    assert lane.limit.level == pytest.approx(level + sqrt(level) / 2.0)


def test_push_back_taken_back_never_lowers() -> None:
    lane = Lane(start=50, most=128)
    lane.limit.take_back(10.0)
    assert lane.limit.limit == 50


def test_push_back_taken_back_during_a_probe_is_for_after_it() -> None:
    lane = Lane(start=40, most=40)
    lane.window()
    lane.now_s += 70.0
    while not lane.limit.probing:
        lane.window()
    lane.limit.on_push_back(lane.now_s)
    assert lane.limit.level == pytest.approx(28.0)
    lane.limit.take_back(40.0)
    assert (lane.limit.limit, lane.limit.level) == (10, 40.0)
    lane.window()
    assert lane.limit.limit == 40


def vain_lane(**more) -> Lane:
    """Grown from 10 to 15, crowded now (p50 at 1.3 times the base, within the tolerance)."""
    lane = Lane(start=10, most=100, **more)
    lane.window(count=100)
    assert lane.limit.limit == 15
    return lane


def test_growth_that_brings_no_more_answers_is_taken_back_and_held() -> None:
    lane = vain_lane()
    assert lane.window(0.13, count=100) == 10
    assert [lane.window(0.1, count=100) for _ in range(5)] == [10] * 5
    assert lane.window(0.1, count=100) == 11


def test_growth_that_pays_is_kept() -> None:
    """Twice the answers a second."""
    lane = vain_lane()
    assert lane.window(0.13, count=250) == 22


def test_growth_is_kept_while_nobody_waits() -> None:
    """No more answers, yet no slower: something else than the upstream is the limit."""
    lane = vain_lane()
    assert lane.window(0.105, count=100) == 22


def test_growth_is_not_judged_on_few_samples() -> None:
    lane = vain_lane(window_samples=1000)
    assert lane.limit._judge_growth(0.0, crowded=True) is None


def test_growth_is_never_judged_when_told_so() -> None:
    lane = vain_lane(pay_share=0.0)
    assert lane.window(0.13, count=100) == 22


def test_memory_of_a_window_is_bounded_and_the_median_stays() -> None:
    limit = AdaptiveLimit(LimitRule(start=1, most=1, window_s=1e6))
    for step in range(3 * SAMPLES_MAX):
        limit.on_success(float(step), 0.1 if step % 3 else 0.3, 1, MIDDLE)
        assert len(limit._ttfbs_s) < SAMPLES_MAX
    assert sorted(limit._ttfbs_s)[len(limit._ttfbs_s) // 2] == 0.1
    assert limit._stride == 4


def test_window_closes_with_the_wanted_answer_and_not_before_its_time() -> None:
    """Twice the limit, 20 at most; a second at least."""
    limit = AdaptiveLimit(LimitRule(start=4, most=100))
    limit.on_success(10.0, 0.0, 4, MIDDLE)
    for number in range(2, 8):
        assert not limit.on_success(20.0 + number, 0.0, 4, MIDDLE)
    assert limit.on_success(30.0, 0.0, 4, MIDDLE)
    limit = AdaptiveLimit(LimitRule(start=40, most=100))
    for number in range(1, 20):
        assert not limit.on_success(10.0 + number, 0.0, 40, MIDDLE)
    assert limit.on_success(40.0, 0.0, 40, MIDDLE)
    limit = AdaptiveLimit(LimitRule(start=4, most=100))
    limit.on_success(10.0, 0.0, 4, MIDDLE)
    for _ in range(100):
        assert not limit.on_success(10.999, 0.0, 4, MIDDLE)
    assert limit.on_success(11.0, 0.0, 4, MIDDLE)


def test_use_of_an_earlier_window_does_not_count() -> None:
    lane = Lane(start=10, most=100)
    assert lane.window() == 15
    assert lane.window(share=0.3) == 15


def test_failures_and_push_back_of_an_earlier_window_do_not_count() -> None:
    lane = Lane(start=10, most=10)
    for _ in range(50):
        lane.limit.on_failure(lane.now_s)
    lane.limit.on_push_back(lane.now_s)
    assert lane.window() == 7
    assert lane.window() > 7


def test_median_is_known_to_within_its_error_only() -> None:
    """Quartiles 0.08 and 0.12, 100 samples: 1.25 * 0.04 / 1.35 / 10, of a median of 0.1."""
    values = [0.08, 0.08, 0.1, 0.12, 0.12] * 20
    p50_s, error = median_and_error(values)
    assert p50_s == 0.1
    assert error == pytest.approx(1.25 * 0.04 / (1.35 * 0.1 * 10.0))
    assert median_and_error([0.0, 0.0, 5.0]) == (0.0, 0.0)
    assert median_and_error([0.5, 2.0, 900.0]) == (2.0, ERROR_MAX)


def noisy_window(lane: Lane, around_s: float) -> int:
    """Times spread by +-20 % around one."""
    for number in range(400):
        lane.now_s += 0.01
        before_s = lane.limit._opened_s
        ttfb_s = around_s * (0.8, 0.8, 1.0, 1.2, 1.2)[number % 5]
        lane.limit.on_success(lane.now_s, ttfb_s, lane.limit.limit, MIDDLE)
        if lane.limit._opened_s != before_s and lane.limit._samples == 0:
            return lane.limit.limit
    raise AssertionError("no window closed")


def test_doubt_is_in_favour_of_the_upstream() -> None:
    """The base takes the upper end, and 1.55 times the median is no queue when the error says so."""
    lane = Lane(start=10, most=10)
    noisy_window(lane, 0.1)
    base_s = lane.limit.base_s
    assert base_s is not None
    assert 0.1 < base_s < 0.108
    assert noisy_window(lane, 0.155) == 10
    assert noisy_window(lane, 0.17) < 10


def test_least_median_stays_the_base() -> None:
    lane = Lane(start=10, most=10)
    for ttfb_s in (0.12, 0.1, 0.13):
        lane.window(ttfb_s)
    assert lane.limit.base_s == pytest.approx(0.1)


def test_growth_is_judged_from_twenty_samples_on() -> None:
    lane = Lane(start=10, most=100)
    limit = lane.limit
    limit._first_s = 0.0
    limit._samples = 19
    assert limit._rate_per_s(1.0) == 0.0
    limit._samples = 20
    assert limit._rate_per_s(2.0) == 9.5
    assert limit._rate_per_s(0.0) == 0.0


def test_wariness_ends_after_its_time() -> None:
    """Vain growth: small steps for 15 s above three quarters of the level, then whole ones."""
    lane = vain_lane(hold_windows=0)
    lane.window(0.13, count=100)
    assert lane.limit._wary_from == pytest.approx(0.75 * 15.0)
    until_s = lane.limit._wary_until_s
    assert until_s - lane.now_s == pytest.approx(15.0)
    lane.limit._set(12.0)
    lane.limit._threshold = 12.0
    lane.limit._grow(until_s - 0.1, 0.0)
    assert lane.limit._level == pytest.approx(12.0 + 0.25 * sqrt(12.0) / 2)
    lane.limit._set(12.0)
    lane.limit._grow(until_s, 0.0)
    assert lane.limit._level == pytest.approx(12.0 + sqrt(12.0) / 2)
    lane.limit._set(11.25)
    lane.limit._threshold = 0.0
    lane.limit._grow(until_s - 0.1, 0.0)
    assert lane.limit._level == pytest.approx(11.25 + sqrt(11.25) / 2)


def test_vain_growth_after_push_back_does_not_shorten_the_wariness() -> None:
    lane = vain_lane()
    lane.limit._wary_until_s = lane.now_s + 50.0
    until_s = lane.limit._wary_until_s
    assert lane.window(0.13, count=100) == 10
    assert lane.limit._wary_until_s == until_s


def test_zero_times_are_taken_as_they_are() -> None:
    lane = Lane(start=4, most=8)
    assert [lane.window(0.0) for _ in range(2)] == [6, 8]


def test_fixed_limit_stays() -> None:
    limit = FixedLimit(7)
    answers = [limit.on_success(1.0, 0.1, 7, MIDDLE), limit.on_push_back(1.0), limit.on_failure(1.0)]
    assert answers == [False] * 3
    assert limit.limit == 7


@pytest.mark.parametrize("limit", [0, -1, LIMIT_MAX + 1])
def test_fixed_limit_out_of_range_is_refused(limit: int) -> None:
    with pytest.raises(ConfigError, match=str(limit)):
        FixedLimit(limit)


@pytest.mark.parametrize(
    "wrong",
    [
        {"most": 0}, {"most": LIMIT_MAX + 1}, {"start": 0}, {"start": 9, "most": 8}, {"window_s": 0.0},
        {"window_samples": 0}, {"probe_every_s": 0.0}, {"tolerance": 0.9}, {"slow_start": 0.9}, {"room": 0.9},
        {"cut": 0.0}, {"cut": 1.1}, {"probe_share": 0.0}, {"failed_share": 0.0}, {"wary_share": 0.0},
        {"wary_vain_share": 0.0},
        {"probe_spread": 1.0}, {"probe_spread": -0.1}, {"pay_share": -0.1}, {"pay_share": 1.1},
        {"hold_windows": -1}, {"wary_near": -0.1}, {"wary_near": 1.1}, {"wary_pushed_s": -1.0},
        {"wary_unpaid_s": -1.0}, {"window_s": float("nan")}, {"tolerance": float("nan")},
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        LimitRule(**wrong)


def test_edges_of_settings_are_allowed() -> None:
    LimitRule(
        most=LIMIT_MAX, start=1, window_samples=1, tolerance=1.0, slow_start=1.0, room=1.0, cut=1.0,
        probe_spread=0.0, pay_share=1.0, hold_windows=0, wary_near=0.0, wary_pushed_s=0.0, wary_unpaid_s=0.0,
    )  # fmt: skip
    LimitRule(wary_near=1.0, failed_share=1.0, probe_share=1.0, pay_share=0.0, most=1, start=1)


def test_classes_and_the_cap_of_the_user() -> None:
    for name, (start, most) in CLASS_LIMITS.items():
        assert (limit_rule(name).start, limit_rule(name).most) == (start, most)
    assert limit_rule("unheard-of") == limit_rule("tile") == LimitRule()
    assert (limit_rule("tile", cap=100).start, limit_rule("tile", cap=100).most) == (4, 100)
    assert (limit_rule("cdn", cap=3).start, limit_rule("cdn", cap=3).most) == (3, 3)
    assert limit_rule("tile", cap=100, start=50) == LimitRule(start=50, most=100)
    assert limit_rule("tile", start=50) == LimitRule(start=32, most=32)
    for cap in (0, -5):
        with pytest.raises(ConfigError):
            limit_rule("tile", cap=cap)
        with pytest.raises(ConfigError):
            limit_rule("tile", start=cap)


class LimitMachine(RuleBasedStateMachine):
    """Any history: the limit stays in range, only successes raise it, only once a window."""

    @initialize(start=st.integers(1, 20), more=st.integers(0, 100))
    def begin(self, start: int, more: int) -> None:
        self.rule = LimitRule(start=start, most=start + more)
        self.limit = AdaptiveLimit(self.rule)
        self.now_s = 0.0
        self.raised_s = float("-inf")
        self.cut_s = float("-inf")

    @rule(passed_s=st.floats(0.0, 30.0))
    def wait(self, passed_s: float) -> None:
        self.now_s += passed_s

    @rule(
        count=st.integers(1, 60),
        ttfb_s=st.floats(0.0, 3.0),
        step_s=st.floats(0.0, 0.2),
        share=st.floats(0.0, 1.5),
        luck=st.floats(0, 1, exclude_max=True),
    )
    def succeed(self, count: int, ttfb_s: float, step_s: float, share: float, luck: float) -> None:
        for _ in range(count):
            self.now_s += step_s
            before, probing = self.limit.limit, self.limit.probing
            in_flight = max(1, int(share * before))
            changed = self.limit.on_success(self.now_s, ttfb_s, in_flight, luck)
            assert changed == (self.limit.limit != before)
            if self.limit.limit > before:
                assert self.now_s - self.raised_s >= self.rule.window_s * 0.999
                self.raised_s = self.now_s
                if not probing:
                    assert self.limit.limit <= max(before * 1.5 + 1.0, before + 1)

    @rule(count=st.integers(1, 5))
    def push_back(self, count: int) -> None:
        for _ in range(count):
            before = self.limit.limit
            self.limit.on_push_back(self.now_s)
            assert self.limit.limit <= before
            if self.limit.limit < before:
                assert self.now_s - self.cut_s >= self.rule.window_s
                assert self.limit.limit >= int(before * self.rule.cut)
                self.cut_s = self.now_s

    @rule(count=st.integers(1, 100))
    def fail(self, count: int) -> None:
        before = self.limit.limit
        for _ in range(count):
            assert not self.limit.on_failure(self.now_s)
        assert self.limit.limit == before

    @invariant()
    def in_range(self) -> None:
        if hasattr(self, "limit"):
            assert 1 <= self.limit.limit <= self.rule.most
            assert self.limit.base_s is None or self.limit.base_s >= 0.0


LimitMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestLimitMachine = LimitMachine.TestCase


def counted_window(lane: Lane, failures: int) -> tuple[int, int]:
    """One window with so many failures in it: the good answers it had, and the limit after it."""
    for _ in range(failures):
        lane.limit.on_failure(lane.now_s)
    counted = 0
    while True:
        lane.now_s += 0.03
        before_s = lane.limit._opened_s
        lane.limit.on_success(lane.now_s, 0.1, lane.limit.limit, MIDDLE)
        if lane.limit._opened_s != before_s and lane.limit._samples == 0:
            return counted + 1, lane.limit.limit
        counted = lane.limit._samples


def test_share_of_failures_is_of_all_outcomes_and_each_counts_once() -> None:
    """With a share of one half: as many failures as answers hold the limit, one fewer does not."""
    for missing, grows in ((0, False), (1, True)):
        lane = Lane(start=10, most=100, failed_share=0.5, pay_share=0.0)
        good, limit = counted_window(lane, 0)
        assert limit == 15
        good, limit = counted_window(lane, 0)
        assert limit == 22
        assert (counted_window(lane, good - missing)[1] > 22) is grows
        assert counted_window(lane, 0)[1] > 22, "failures of an earlier window do not count"


def test_few_failures_count_once_each() -> None:
    lane = Lane(start=10, most=100, failed_share=0.5, pay_share=0.0)
    counted_window(lane, 0)
    good, before = counted_window(lane, 0)
    assert counted_window(lane, 3 * good // 4)[1] > before


def test_use_just_below_half_does_not_grow() -> None:
    lane = Lane(start=9, most=128)
    assert lane.window(share=0.45) == 9


def test_growth_that_pays_in_proportion_is_kept_although_crowded() -> None:
    """Half as many again, for half as many answers more."""
    lane = vain_lane()
    assert lane.window(0.13, count=150) == 22


def test_base_after_a_probe_is_the_upper_end_of_what_it_can_be() -> None:
    lane = Lane(start=40, most=40)
    lane.window()
    lane.now_s += 60.0
    lane.window()
    assert lane.limit.probing
    noisy_window(lane, 0.2)
    base_s = lane.limit.base_s
    assert not lane.limit.probing
    assert base_s is not None
    assert 0.2 < base_s < 0.22


def test_quartiles_are_a_quarter_from_each_end() -> None:
    """Values at the fifths differ from those at the quarters."""
    p50_s, error = median_and_error([1.0] * 22 + [1.5] * 3 + [2.0] * 48 + [2.5] * 4 + [3.0] * 23)
    assert (p50_s, error) == (2.0, pytest.approx(1.25 * (2.5 - 2.0) / (1.35 * 2.0 * 10.0)))


def test_quick_absences_do_not_count_as_how_fast_tiles_come() -> None:
    """Before the first tile, and between tiles: neither makes tiles look as if they queued."""
    limit = AdaptiveLimit(limit_rule("tile"))
    now_s = 0.0
    for _ in range(400):
        now_s += 0.01
        limit.on_success(now_s, 0.002, limit.limit, 0.5, is_tile=False)
    assert limit.base_s == pytest.approx(0.002)
    for turn in range(2_000):
        now_s += 0.02
        is_tile = turn % 4 == 0
        limit.on_success(now_s, 0.1 if is_tile else 0.002, limit.limit, 0.5, is_tile=is_tile)
    assert limit.base_s == pytest.approx(0.1, rel=0.3)
    assert limit.limit == 32


def test_first_tile_after_absences_begins_anew() -> None:
    limit = AdaptiveLimit(limit_rule("tile"))
    start = limit.limit
    now_s = 0.0
    for _ in range(2_000):
        now_s += 0.01
        limit.on_success(now_s, 0.002, limit.limit, 0.5, is_tile=False)
    assert limit.limit > start
    assert limit.on_success(now_s + 0.2, 0.1, 1, 0.5) is False
    assert (limit.limit, limit.base_s) == (start, None)
