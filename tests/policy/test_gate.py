"""The gate of a lane against a simple model."""

from hypothesis import given
from hypothesis import strategies as st

from tilehaul.policy.gate import GATE_S_MAX_UNASKED, SPREAD_S_MAX, Gate


def test_gate_is_open_at_first() -> None:
    assert Gate().wait_s(5.0) == 0.0


def test_retry_after_is_obeyed_and_spread() -> None:
    """At least what was asked, at most a tenth (one second) more."""
    gate = Gate()
    assert gate.hold(100.0, 30.0, luck=0.0) == 30.0
    assert gate.wait_s(129.0) == 1.0
    assert Gate().hold(100.0, 30.0, luck=0.999) < 31.0


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
    for _ in range(8):
        waits.append(gate.hold(now_s, None, luck=0.0))
        now_s += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    gate.open_again()
    assert gate.hold(now_s, None, luck=0.0) == 1.0


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
        least_s = retry_after_s if retry_after_s is not None else 0.0
        named = retry_after_s is not None and retry_after_s >= 1.0
        most_s = (retry_after_s if named else GATE_S_MAX_UNASKED) + SPREAD_S_MAX
        assert wait_s >= least_s - 1e-6
        assert now_s + wait_s <= max(until_s, now_s + most_s) + 1e-6
        new_until_s = now_s + wait_s
        closed_s += max(0.0, new_until_s - max(until_s, now_s))
        until_s = max(until_s, new_until_s)
        assert abs(gate.held_s - closed_s) < 1e-6 * max(1.0, closed_s)
        assert abs(gate.wait_s(now_s) - (until_s - now_s)) < 1e-6
