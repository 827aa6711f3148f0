"""The pace: nothing before it is needed, then spacing, cuts and growth."""

from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tilehaul.errors import ConfigError
from tilehaul.policy.pace import MEASURE_S, Pace, PaceRule


def use(pace: Pace, *, per_s: float, from_s: float, seconds: float) -> float:
    """Good answers at a rate; returns the time after the last."""
    for step in range(int(seconds * per_s) + 1):
        pace.on_success(from_s + step / per_s)
    return from_s + int(seconds * per_s) / per_s


def pushed_back_early(pace: Pace, now_s: float) -> float:
    """Four push-backs, each half a second after a second of holding; returns when the last ends."""
    for _ in range(4):
        pace.on_push_back(now_s, now_s + 1.0)
        now_s += 1.5
    return now_s - 0.5


def test_no_pace_without_need() -> None:
    pace = Pace()
    use(pace, per_s=100.0, from_s=0.0, seconds=5.0)
    pace.on_send(5.0)
    assert (pace.per_s, pace.wait_s(5.0)) == (inf, 0.0)
    assert pace.used_per_s == pytest.approx(100.0)


def test_rare_push_back_sets_no_pace() -> None:
    """A bucket with a burst is kept to by the limit alone."""
    pace = Pace()
    for step in range(10):
        pace.on_push_back(step * 10.0, step * 10.0 + 1.0)
    assert pace.per_s == inf


def test_volley_is_one_push_back() -> None:
    pace = Pace()
    for _ in range(20):
        pace.on_push_back(10.0, 11.0)
    assert pace.per_s == inf


def test_push_back_soon_after_the_gate_sets_the_pace_below_the_rate_in_use() -> None:
    pace = Pace()
    now_s = use(pace, per_s=50.0, from_s=0.0, seconds=4.0)
    pushed_back_early(pace, now_s)
    assert pace.per_s == pytest.approx(0.85 * 50.0)


def test_rate_that_was_never_measured_is_assumed() -> None:
    pace = Pace()
    pushed_back_early(pace, 0.0)
    assert pace.per_s == 0.85 * 20.0


def test_requests_keep_their_distance() -> None:
    pace = Pace(PaceRule(start_per_s=10.0, cut=0.5))
    pushed_back_early(pace, 0.0)
    assert pace.per_s == 5.0
    pace.on_send(100.0)
    assert pace.wait_s(100.0) == pytest.approx(0.2)
    assert pace.wait_s(100.2) == 0.0
    pace.on_send(100.1)
    assert pace.wait_s(100.2) == pytest.approx(0.2)


def test_pace_is_never_slower_than_its_least() -> None:
    pace = Pace()
    now_s = 0.0
    for _ in range(200):
        now_s = pushed_back_early(pace, now_s)
    assert pace.per_s == 0.1


def test_rate_returns_to_its_peak_after_nine_seconds_and_goes_beyond() -> None:
    """CUBIC: 85 % at once, the peak on the plateau, a curve upwards after it."""
    pace = Pace()
    now_s = use(pace, per_s=100.0, from_s=0.0, seconds=4.0)
    resumed_s = pushed_back_early(pace, now_s)
    assert pace.per_s == pytest.approx(85.0)
    reached = {}
    step_s = resumed_s
    while step_s < resumed_s + 25.0:
        step_s = use(pace, per_s=100.0, from_s=step_s, seconds=1.0)
        reached[round(step_s - resumed_s)] = pace.per_s
    assert reached[1] == pytest.approx(100.0 - 0.02 * (9.086 - 1.0) ** 3, rel=0.01)
    assert reached[9] == pytest.approx(100.0, rel=0.001)
    assert reached[20] == pytest.approx(100.0 + 0.02 * (20.0 - 9.086) ** 3, rel=0.02)


def test_unused_rate_does_not_grow_away() -> None:
    """At most half more than what is in use."""
    pace = Pace()
    now_s = use(pace, per_s=100.0, from_s=0.0, seconds=4.0)
    resumed_s = pushed_back_early(pace, now_s)
    use(pace, per_s=20.0, from_s=resumed_s + 60.0, seconds=10.0)
    assert pace.per_s == pytest.approx(30.0, rel=0.01)


def paced(unpaced_per_s: float) -> Pace:
    """A pace that began when push-back left so many good answers a second, and the time is 6.0."""
    pace = Pace()
    use(pace, per_s=100.0, from_s=-4.0, seconds=4.0)
    for step in range(4):
        pace.on_push_back(1.5 * step, 1.5 * step + 1.0, unpaced_per_s)
    assert pace.per_s < inf
    return pace


def test_pace_that_pays_stays() -> None:
    pace = paced(10.0)
    for step in range(20):
        pace.on_push_back(20.0 + 10.0 * step, 21.0 + 10.0 * step, 9.0)
    assert pace.per_s < inf


def test_pace_that_brings_less_than_none_is_dropped() -> None:
    """One poor time from push-back to push-back may be luck (half of it counts), two are not."""
    pace = paced(10.0)
    pace.on_push_back(20.0, 21.0, 6.5)
    assert pace.per_s < inf
    pace.on_push_back(30.0, 31.0, 6.5)
    assert (pace.per_s, pace.wait_s(31.0)) == (inf, 0.0)


def test_dropped_pace_begins_again_only_as_it_began() -> None:
    pace = paced(10.0)
    pace.drop()
    for step in range(4):
        assert pace.per_s == inf
        pace.on_push_back(50.0 + 1.5 * step, 51.0 + 1.5 * step, 10.0)
    assert pace.per_s < inf


def test_nothing_known_before_the_pace_is_nothing_to_beat() -> None:
    pace = paced(0.0)
    pace.on_push_back(20.0, 21.0, 0.001)
    pace.on_push_back(30.0, 31.0, None)
    assert pace.per_s < inf


@pytest.mark.parametrize(
    "wrong",
    [
        {"cut": 0.0},
        {"cut": 1.0},
        {"growth": 0.0},
        {"headroom": 1.0},
        {"least_per_s": 0.0},
        {"start_per_s": 0.0},
        {"early_s": 0.0},
        {"early_min": 0},
        {"pay_share": 0.0},
        {"pay_weight": 1.1},
        {"cut": float("nan")},
    ],
)
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        PaceRule(**wrong)


class PaceMachine(RuleBasedStateMachine):
    """Any history: in bounds, a cut only by push-back, sends at least 1/rate apart once there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.pace = Pace()
        self.now_s = 0.0

    @rule(passed_s=st.floats(0.0, 20.0))
    def wait(self, passed_s: float) -> None:
        self.now_s += passed_s

    @rule(count=st.integers(1, 50), step_s=st.floats(0.001, 1.0))
    def succeed(self, count: int, step_s: float) -> None:
        for _ in range(count):
            self.now_s += step_s
            self.pace.on_success(self.now_s)
        assert count * step_s < 2 * MEASURE_S or count < 3 or self.pace.used_per_s > 0.0

    @rule(hold_s=st.floats(0.0, 5.0), yield_per_s=st.none() | st.floats(0.0, 1000.0))
    def push_back(self, hold_s: float, yield_per_s: float | None) -> None:
        before = self.pace.per_s
        self.pace.on_push_back(self.now_s, self.now_s + hold_s, yield_per_s)
        assert self.pace.per_s <= before or (self.pace.per_s == inf and yield_per_s is not None)

    @rule(count=st.integers(1, 5))
    def send(self, count: int) -> None:
        for _ in range(count):
            self.now_s += self.pace.wait_s(self.now_s)
            assert self.pace.wait_s(self.now_s) == 0.0
            self.pace.on_send(self.now_s)
            if self.pace.per_s != inf:
                assert self.pace.wait_s(self.now_s) >= 0.999 / self.pace.per_s - 1e-6

    @invariant()
    def in_range(self) -> None:
        assert self.pace.per_s >= 0.1
        assert self.pace.used_per_s >= 0.0


PaceMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestPaceMachine = PaceMachine.TestCase
