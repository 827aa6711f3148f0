"""The gate of a lane: each rule alone, then random histories against a simple model."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tilehaul.policy.gate import (
    ASKED_S_MIN,
    GATE_S_MAX_UNASKED,
    PARK_S,
    PUSHED_BACK_S_MAX,
    PUSHED_BACK_TRIES_MIN,
    RAMP_S,
    SPREAD_S_MAX,
    Gate,
    Spell,
    span_text,
)


def test_gate_is_open_at_first() -> None:
    """Also for the hundredth attempt: there is nothing to ramp after."""
    assert Gate().wait_s(5.0) == 0.0
    assert Gate().wait_s(0.0, in_flight=100) == 0.0


def test_retry_after_is_obeyed_and_spread() -> None:
    """At least what was asked, at most a tenth (one second) more."""
    gate = Gate()
    assert gate.hold(100.0, 30.0, luck=0.0) == 30.0
    assert gate.wait_s(129.0) == 1.0
    assert Gate().hold(100.0, 30.0, luck=0.999) < 31.0
    assert Gate().hold(100.0, 2.0, luck=0.5) == pytest.approx(2.1)
    assert Gate().hold(100.0, 800.0, luck=0.5) == pytest.approx(800.5)


def test_answers_that_were_under_way_do_not_double_the_hold() -> None:
    """A burst of thirty-two 429 at once is one push-back."""
    gate = Gate()
    for _ in range(32):
        assert gate.hold(100.0, None, luck=0.0) == 1.0
    assert gate.hold(101.5, None, luck=0.0) == 2.0


def test_retry_after_below_a_second_is_treated_as_none() -> None:
    gate = Gate()
    waits = [gate.hold(1000.0 * n, 0.0, luck=0.0) for n in range(4)]
    assert waits == [1, 2, 4, 8]


def test_longer_wait_extends_a_closed_gate_and_a_shorter_one_does_not() -> None:
    gate = Gate()
    gate.hold(100.0, 30.0, luck=0.0)
    assert gate.hold(110.0, 5.0, luck=0.0) == 20.0
    assert gate.hold(110.0, 40.0, luck=0.0) == 40.0
    assert gate.held_s == 50.0


def test_holds_without_retry_after_double_until_a_success() -> None:
    gate = Gate()
    now_s = 0.0
    waits = []
    for _ in range(6):
        waits.append(gate.hold(now_s, None, luck=0.0))
        now_s += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 32]
    gate.open_again()
    assert gate.hold(now_s, None, luck=0.0) == 1.0


def test_hold_without_retry_after_has_a_ceiling() -> None:
    gate = Gate()
    now_s = 0.0
    for _ in range(30):
        wait_s = gate.hold(now_s, None, luck=0.0)
        now_s += wait_s
    assert wait_s == GATE_S_MAX_UNASKED


def test_volley_counts_once() -> None:
    """Ten answers 429 without Retry-After to ten requests under way are one sign, not ten."""
    gate = Gate()
    assert [gate.hold(10.0 + step / 100, None, luck=0.0) for step in range(3)] == pytest.approx(
        [1, 0.99, 0.98]
    )
    assert gate.hold(11.0, None, luck=0.0) == 2.0


def test_retry_after_of_nothing_is_none() -> None:
    """`Retry-After: 0` must not make a lane that sends as fast as it can be refused."""
    gate = Gate()
    assert gate.hold(10.0, 0.0, luck=0.0) == 1.0
    assert gate.hold(11.0, 0.049, luck=0.0) == 2.0
    assert gate.hold(13.0, ASKED_S_MIN, luck=0.0) == pytest.approx(ASKED_S_MIN)


def test_shorter_hold_does_not_open_earlier() -> None:
    gate = Gate()
    gate.hold(0.0, 100.0, luck=0.0)
    assert gate.hold(1.0, 5.0, luck=0.0) == 99.0
    assert gate.held_s == 100.0
    assert gate.hold(90.0, 20.0, luck=0.0) == 20.0
    assert gate.held_s == 110.0


def test_slots_come_back_one_by_one() -> None:
    """One attempt when it opens, one more every 50 ms."""
    gate = Gate()
    gate.hold(0.0, 10.0, luck=0.0)
    assert gate.wait_s(10.0) == 0.0
    assert gate.wait_s(10.0, in_flight=1) == pytest.approx(RAMP_S)
    assert gate.wait_s(10.0, in_flight=20) == pytest.approx(20 * RAMP_S)
    assert gate.wait_s(11.01, in_flight=20) == 0.0


def test_each_good_answer_brings_a_slot_at_once() -> None:
    """Two for each that comes back, as in slow start: a fast upstream is not kept waiting for the clock."""
    gate = Gate()
    gate.hold(0.0, 10.0, luck=0.0)
    gate.open_again(sent_s=9.0)
    assert gate.wait_s(10.0, in_flight=1) == pytest.approx(RAMP_S)
    gate.open_again(sent_s=10.0)
    assert gate.wait_s(10.0, in_flight=1) == 0.0
    assert gate.wait_s(10.0, in_flight=2) == pytest.approx(RAMP_S)
    gate.hold(10.0, 5.0, luck=0.0)
    assert gate.wait_s(15.0, in_flight=1) == pytest.approx(RAMP_S)


def test_spell_is_what_came_of_the_time_between_two_holds() -> None:
    gate = Gate()
    assert gate.spell(1.0) is None
    gate.hold(5.0, 2.0, luck=0.0)
    gate.hold(6.0, 2.0, luck=0.0)
    assert gate.spell(7.9) is None
    for sent_s in (4.0, 8.0, 8.5):
        gate.open_again(sent_s)
    assert gate.spell(9.5) == Spell(held_s=3.0, open_s=1.5, answers=2)
    gate.hold(9.5, 1.0, luck=0.0)
    assert gate.spell(10.5) == Spell(held_s=1.0, open_s=0.0, answers=0)


def test_success_of_what_was_sent_before_proves_nothing() -> None:
    gate = Gate()
    gate.hold(10.0, None, luck=0.0)
    gate.open_again(sent_s=9.9)
    assert gate.hold(11.0, None, luck=0.0) == 2.0
    gate.open_again(sent_s=13.0)
    assert gate.hold(14.0, None, luck=0.0) == 1.0


def test_more_than_fifteen_minutes_parks_and_says_so() -> None:
    gate = Gate()
    gate.hold(0.0, PARK_S, luck=0.0)
    assert gate.parked(1.0) is None
    assert gate.hold(0.0, 7500.0, luck=0.0) == 7500.0
    assert gate.parked(0.0) == "asked to wait 2 h 5 min, more than 15 min: parked, 2 h 5 min to go"
    assert gate.parked(7499.5) == "asked to wait 2 h 5 min, more than 15 min: parked, 1 s to go"
    assert gate.parked(7500.0) is None


@pytest.mark.parametrize(
    ("asked_s", "words"),
    [
        (901.0, "16 min"),
        (7140.0, "119 min"),
        (7200.0, "2 h"),
        (7260.5, "2 h 2 min"),
        (86400.0 * 2 - 60.0, "47 h 59 min"),
        (86400.0 * 2, "2 days"),
        (1e9, "11574 days"),
    ],
)
def test_spans_are_for_people(asked_s: float, words: str) -> None:
    gate = Gate()
    gate.hold(0.0, asked_s, luck=0.0)
    assert str(gate.parked(0.0)).startswith(f"asked to wait {words},")


def test_nothing_but_push_back_for_a_minute_parks() -> None:
    """`Retry-After: 1` again and again and never a success: tried once a minute from then on."""
    gate = Gate()
    now_s = begun_s = 1000.0
    while now_s < begun_s + PUSHED_BACK_S_MAX:
        assert gate.hold(now_s, 1.0, luck=0.0) == 1.0
        assert gate.parked(now_s) is None
        now_s += 1.0
    assert gate.hold(now_s, 1.0, luck=0.0) == GATE_S_MAX_UNASKED
    assert gate.parked(now_s) == "nothing but push-back for over 60 s: parked, tried again in 60 s"
    gate.open_again()
    assert gate.parked(now_s) is None
    gate.open_again(sent_s=now_s + 60.0)
    assert gate.hold(now_s + 61.0, 1.0, luck=0.0) == 1.0
    assert gate.parked(now_s + 61.0) is None


def test_few_tries_do_not_park() -> None:
    """Held long, pushed back once more for a moment: believed."""
    gate = Gate()
    now_s = 0.0
    for _ in range(4):
        gate.hold(now_s, 100.0, luck=0.0)
        now_s += 100.0
    assert (gate.hold(now_s - 0.5, 5.0, luck=0.0), gate.parked(now_s - 0.5)) == (5.0, None)
    now_s += 4.5
    assert gate.hold(now_s, 5.0, luck=0.0) == GATE_S_MAX_UNASKED


def test_success_ends_the_count_of_push_back() -> None:
    gate = Gate()
    gate.hold(0.0, 1.0, luck=0.0)
    gate.open_again()
    assert gate.hold(100.0, 1.0, luck=0.0) == 1.0


# No deadline: a machine that is busy for a moment is no fault of the gate.
@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 50), st.one_of(st.none(), st.floats(0, 900)), st.floats(0, 1, exclude_max=True)
        ),
        max_size=40,
    )
)
def test_gate_never_opens_early_and_counts_closed_time_once(steps) -> None:
    """`held_s` is the length of the union of all holds, whatever their order."""
    gate = Gate()
    now_s = 0.0
    until_s = 0.0
    closed_s = 0.0
    for passed_s, retry_after_s, luck in steps:
        now_s += passed_s
        wait_s = gate.hold(now_s, retry_after_s, luck)
        # Less than a step of the ramp names no wait.
        asked_s = retry_after_s if retry_after_s is not None and retry_after_s >= ASKED_S_MIN else 0.0
        assert wait_s > 0.0
        assert wait_s >= asked_s - 1e-6
        assert now_s + wait_s <= max(until_s, now_s + max(asked_s, GATE_S_MAX_UNASKED) + SPREAD_S_MAX) + 1e-6
        new_until_s = now_s + wait_s
        closed_s += max(0.0, new_until_s - max(until_s, now_s))
        until_s = max(until_s, new_until_s)
        assert abs(gate.held_s - closed_s) < 1e-6 * max(1.0, closed_s)
        assert abs(gate.wait_s(now_s) - (until_s - now_s)) < 1e-6


class GateMachine(RuleBasedStateMachine):
    """In whole seconds and without luck, against a model that says when each rule applies."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.now_s = 0.0
        self.until_s = 0.0
        self.asked_s = 0.0
        self.in_a_row = 0
        self.tries = 0
        self.pushed_s: float | None = None

    @rule(passed_s=st.integers(0, 70))
    def wait(self, passed_s: int) -> None:
        self.now_s += passed_s

    @rule(asked_s=st.one_of(st.none(), st.integers(0, 2000)))
    def push_back(self, asked_s: int | None) -> None:
        if self.pushed_s is None:
            self.pushed_s = self.now_s
        self.tries += self.now_s >= self.until_s
        starved = self.now_s - self.pushed_s >= 60 and self.tries >= 5
        wait_s = self.gate.hold(self.now_s, asked_s, luck=0.0)
        if asked_s or self.now_s >= self.until_s:
            hold_s = asked_s or min(60, 2**self.in_a_row)
            self.in_a_row += not asked_s
            hold_s = max(hold_s, 60) if starved else hold_s
            if self.now_s + hold_s > self.until_s:
                self.until_s, self.asked_s = self.now_s + hold_s, hold_s
        assert wait_s == self.until_s - self.now_s
        long = self.asked_s > 900 or starved
        assert (self.gate.parked(self.now_s) is not None) == (long and self.now_s < self.until_s)

    @rule(age_s=st.integers(0, 100))
    def succeed(self, age_s: int) -> None:
        sent_s = self.now_s - age_s
        self.gate.open_again(sent_s)
        if sent_s >= self.until_s:
            self.in_a_row, self.tries, self.pushed_s = 0, 0, None

    @invariant()
    def slots_follow_one_another(self) -> None:
        waits = [self.gate.wait_s(self.now_s, in_flight) for in_flight in range(4)]
        assert waits == sorted(waits)
        assert waits[0] == max(0.0, self.until_s - self.now_s)
        assert waits[3] <= waits[0] + 3 * RAMP_S + 1e-9


GateMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestGateMachine = GateMachine.TestCase


def test_tries_before_a_good_answer_do_not_park_later() -> None:
    """Four tries in a minute without one; the count begins at nothing after each good answer."""
    gate, now_s = Gate(), 0.0
    gate.hold(now_s, 1.0, luck=0.0)
    gate.open_again()
    for _ in range(PUSHED_BACK_TRIES_MIN - 1):
        now_s += 100.0
        assert gate.hold(now_s, 1.0, luck=0.0) == 1.0
    assert gate.parked(now_s) is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(119.0, "119 s"), (119.1, "2 min"), (120.0, "2 min"), (0.0, "0 s")]
)
def test_two_minutes_are_told_in_minutes(seconds: float, words: str) -> None:
    assert span_text(seconds) == words
