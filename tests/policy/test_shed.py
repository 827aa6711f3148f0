"""Failures as a sign of load: when they cut a limit, when they are let be, and that they never raise it."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tilehaul.policy.limit import AdaptiveLimit
from tilehaul.policy.limit_rule import LimitRule
from tilehaul.policy.shed import (
    ANSWERS_MIN,
    FAILURES_MIN,
    LET_BE_S_FIRST,
    LET_BE_S_MAX,
    PERIOD_S,
    PERIOD_S_MAX,
    Shed,
)

# A little longer than a period, so that its last outcome ends it.
A_PERIOD_S = PERIOD_S + 0.02


class Rig:
    """A limit of 100 that nothing but failures moves."""

    def __init__(self, start: int = 100) -> None:
        self.limit = AdaptiveLimit(LimitRule(start=start, most=1000))
        self.shed = Shed(self.limit)
        self.now_s = 1000.0
        self.in_flight = 1
        self.cuts: list[tuple[float, int]] = []

    def come(self, answers: int, failures: int, in_s: float = A_PERIOD_S) -> int:
        """So many outcomes evenly in so many seconds, failures first at each moment; the limit then."""
        count = answers + failures
        for number in range(count):
            before = self.limit.limit
            self.now_s += in_s / count
            if (number + 1) * failures // count > number * failures // count:
                self.shed.on_failure(self.now_s, self.in_flight)
            else:
                self.shed.on_success(self.now_s)
            if self.limit.limit < before:
                self.cuts.append((self.now_s, self.limit.limit))
        return self.limit.limit


def test_many_failures_cut_the_limit_at_once() -> None:
    """The fifth, and not the period's end: what is refused at once is asked for again at once."""
    rig = Rig()
    assert rig.come(0, 1, 0.01) == 100
    assert rig.come(16, FAILURES_MIN - 2, 0.1) == 100
    assert rig.come(0, 1, 0.01) == 70


def test_rest_of_a_volley_is_no_second_sign() -> None:
    """Thirty under way when it was cut: what comes of them tells of the limit there was."""
    rig = Rig()
    rig.in_flight = 30
    rig.come(0, 30, 0.1)
    rig.in_flight = 1
    assert rig.come(2, 0, PERIOD_S_MAX) == 70
    assert rig.come(2, FAILURES_MIN, PERIOD_S_MAX) == 49


def test_few_failures_and_a_small_share_change_nothing() -> None:
    assert Rig().come(5, FAILURES_MIN - 1) == 100
    rig = Rig()
    for _ in range(50):
        assert rig.come(96, 16) == 100


def test_failures_of_an_earlier_period_do_not_count() -> None:
    rig = Rig()
    for _ in range(20):
        assert rig.come(30, FAILURES_MIN - 1) == 100


def test_cuts_go_on_while_they_cost_no_answers() -> None:
    """An upstream that does 80 a second, whatever is asked: down until the refusals end."""
    rig = Rig()
    rig.come(80, 0)
    for _ in range(4):
        rig.come(80, 200)
    assert [limit for _, limit in rig.cuts] == [70, 49, 34, 24, 16][: len(rig.cuts)]
    assert len(rig.cuts) >= 4
    assert all(later_s - cut_s >= PERIOD_S for (cut_s, _), (later_s, _) in pairwise(rig.cuts))
    last = rig.limit.limit
    assert rig.come(80, 0) == last
    assert rig.shed.until_s < rig.now_s


def flaky(rig: Rig, seconds: int) -> None:
    """A quarter of the answers fail whatever the load, which follows the limit."""
    for _ in range(10 * seconds):
        rig.come(3 * rig.limit.limit // 10, rig.limit.limit // 10, 0.1)


def test_failures_that_do_not_follow_load_are_let_be() -> None:
    """The cut cost answers in proportion: it is taken back, and there is no other for a minute."""
    rig = Rig()
    rig.come(300, 0)
    flaky(rig, 2)
    assert rig.limit.limit == 100
    assert rig.shed.until_s > rig.now_s + LET_BE_S_FIRST - 2 * PERIOD_S
    flaky(rig, int(LET_BE_S_FIRST) - 3)
    assert rig.limit.limit == 100


def test_they_are_judged_anew_after_a_time_that_doubles() -> None:
    rig = Rig()
    rig.come(300, 0)
    until_s = rig.shed.until_s
    spans = []
    for _ in range(4000):
        flaky(rig, 1)
        if rig.shed.until_s != until_s:
            until_s = rig.shed.until_s
            spans.append(round(until_s - rig.now_s))
    assert [round(span_s, -1) for span_s in spans[:4]] == [60, 120, 240, 480]
    assert {round(span_s, -1) for span_s in spans[4:]} == {LET_BE_S_MAX}
    assert rig.limit.limit in (70, 100)


def test_unknown_rate_before_the_first_cut_is_found_by_the_second() -> None:
    """A lane that meets failures from its first second: two cuts, and both are taken back."""
    rig = Rig()
    flaky(rig, 3)
    assert rig.limit.limit == 100
    assert rig.shed.until_s > rig.now_s


def test_upstream_that_is_down_is_the_breakers_matter() -> None:
    """No answers, however few ask: the cut is taken back, and there is no other until answers come again."""
    rig = Rig()
    rig.come(300, 0)
    assert rig.come(0, 50, 0.5) == 70
    assert rig.come(0, 50) == 100
    for _ in range(20):
        assert rig.come(0, 50) == 100
    assert rig.come(1, 50) == 100, "one straggler is not enough"
    rig.come(300, 0)
    assert rig.come(300, 300) == 70


def test_flock_of_slow_answers_is_seen_whole() -> None:
    """Two seconds a request: a second without answers does not say that it is down."""
    rig = Rig()
    rig.limit.base_s = 2.0
    rig.come(60, 0, 6.0)
    assert rig.come(0, 20, 0.5) == 70
    assert rig.come(0, 40, 2.0) == 70
    assert rig.come(80, 20, 2.5) == 49


def test_slow_upstream_is_judged_on_enough_answers() -> None:
    """Ten a second: a rate is known after two seconds, so the second cut comes then."""
    rig = Rig()
    assert rig.come(10, 30) == 70
    assert rig.come(ANSWERS_MIN // 2 - 1, 30) == 70
    assert rig.come(ANSWERS_MIN, 30) == 49


def test_nothing_is_judged_while_the_base_is_measured() -> None:
    """A quarter of the limit brings a quarter of the answers: that is no cost of a cut."""
    rig = Rig()
    rig.come(400, 0)
    rig.come(400, 200)
    rig.limit._saved = rig.limit.level
    rig.come(100, 50)
    assert rig.shed.until_s < rig.now_s


outcomes = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.floats(0.01, 7.0)), max_size=40)


@settings(deadline=None)
@given(outcomes)
def test_any_history_keeps_the_limit_between_one_and_where_it_was(
    steps: list[tuple[int, int, float]],
) -> None:
    """Failures never raise it, and what is taken back is not more than what was cut."""
    rig = Rig(40)
    for answers, failures, in_s in steps:
        if answers + failures:
            before = rig.limit.limit
            after = rig.come(answers, failures, in_s)
            assert 1 <= after <= 40
            if failures == 0:
                assert after >= before
