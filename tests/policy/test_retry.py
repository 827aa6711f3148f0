"""The retry rule: which errors, how often, how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilehaul.errors import (
    BrokenError,
    DataError,
    DeniedError,
    RefusedError,
    ThrottledError,
    TimedOutError,
    UnreachableError,
)
from tilehaul.policy.retry import RetryRule, is_mistyped, is_transient

RULE = RetryRule(attempts_max=4, delay_s_first=0.5, delay_s_max=3.0)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (UnreachableError("x"), True),
        (TimedOutError("x", phase="idle"), True),
        (BrokenError("x"), True),
        (DataError("x", cause="truncated"), True),
        (ThrottledError("x"), False),
        (DeniedError("x"), False),
        (RefusedError("x"), False),
    ],
)
def test_transient_errors_are_those_another_attempt_may_mend(error, transient) -> None:
    """Push-back is neither: it is the gate's business."""
    assert is_transient(error) is transient
    assert (RULE.delay_s(error, 1, 0.5) is not None) is transient


def test_attempts_end_at_the_maximum() -> None:
    """Four attempts in all: three waits."""
    delays = [RULE.delay_s(BrokenError("x"), attempt, 0.999) for attempt in (1, 2, 3, 4)]
    assert delays[3] is None
    assert None not in delays[:3]


def test_ceiling_doubles_and_is_capped() -> None:
    """With luck close to 1 the wait is close to its ceiling."""
    rule = RetryRule(attempts_max=9, delay_s_first=0.5, delay_s_max=3.0)
    delays = [rule.delay_s(BrokenError("x"), attempt, 1.0) for attempt in range(1, 7)]
    assert delays == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]


def test_waits_that_were_promised_as_numbers_are_those_numbers() -> None:
    """No jitter: luck changes nothing. Some: only its share is drawn."""
    rule = RetryRule(attempts_max=9, delay_s_first=0.3, delay_s_max=10.0, growth=3.0, jitter=0.0)
    for luck in (0.0, 0.5, 0.999):
        delays = [rule.delay_s(BrokenError("x"), attempt, luck) for attempt in range(1, 6)]
        assert delays == pytest.approx([0.3, 0.9, 2.7, 8.1, 10.0])
    half = RetryRule(delay_s_first=4.0, jitter=0.5)
    assert [half.delay_s(BrokenError("x"), 1, luck) for luck in (0.0, 0.5, 1.0)] == [2.0, 3.0, 4.0]


def test_waits_of_any_number_of_attempts_are_numbers() -> None:
    rule = RetryRule(attempts_max=10_000, delay_s_max=60.0, growth=4.0)
    assert rule.delay_s(BrokenError("x"), 9_999, 1.0) == 60.0


@given(attempt=st.integers(1, 200), luck=st.floats(0, 1, exclude_max=True))
def test_delay_is_within_its_jitter(attempt: int, luck: float) -> None:
    """Full jitter: anywhere from zero to the ceiling, for any attempt number."""
    rule = RetryRule(attempts_max=1000)
    delay_s = rule.delay_s(BrokenError("x"), attempt, luck)
    assert delay_s is not None
    assert 0.0 <= delay_s <= 60.0


def test_error_page_gets_one_more_attempt_only() -> None:
    """A whole body of the wrong kind seldom mends."""
    error = DataError("html", cause="error_page")
    assert is_mistyped(error)
    assert RULE.delay_s(error, 1, 0.5, mistyped=1) is not None
    assert RULE.delay_s(error, 2, 0.5, mistyped=2) is None


def test_damage_is_not_a_wrong_type() -> None:
    for cause in ("truncated", "bad_coding", "corrupt", "empty"):
        assert not is_mistyped(DataError("x", cause=cause))
    assert not is_mistyped(BrokenError("x"))
