"""How long answers stay fresh."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilehaul.errors import (
    BrokenError,
    BusyError,
    ConfigError,
    DataError,
    DeniedError,
    RefusedError,
    ThrottledError,
    TimedOutError,
    UnreachableError,
)
from tilehaul.policy.freshness import FreshnessRule, allows_stale, was_asked


@given(luck=st.floats(0, 1, exclude_max=True))
def test_defaults_are_an_hour_and_five_minutes_spread_by_a_tenth(luck):
    """A tile lives 3600 s whatever the luck, an absence 270 to 330 s."""
    rule = FreshnessRule()
    assert rule.fresh_s(absent=False, luck=luck) == 3600.0
    assert 270.0 <= rule.fresh_s(absent=True, luck=luck) <= 330.0


def test_luck_reaches_both_ends():
    """The spread is used from end to end."""
    rule = FreshnessRule(absent_s=100, absent_spread_share=0.5)
    assert [rule.fresh_s(absent=True, luck=luck) for luck in (0.0, 0.5)] == [50.0, 100.0]
    assert rule.fresh_s(absent=True, luck=0.999) == pytest.approx(149.9)


@pytest.mark.parametrize(
    "wrong", [{"tile_s": -1.0}, {"absent_s": float("nan")}, {"absent_spread_share": 1.0}]
)
def test_nonsense_is_refused(wrong):
    """Negative times, NaN and a spread that could reach zero are wrong settings."""
    with pytest.raises(ConfigError):
        FreshnessRule(**wrong)


@pytest.mark.parametrize(
    ("error", "stale", "asked"),
    [
        (BusyError("x"), True, False),
        (ThrottledError("x", cause="held", attempts=1), True, False),
        (ThrottledError("x", cause="held", attempts=2), True, True),
        (ThrottledError("x", cause="http_429", attempts=1), True, True),
        (BrokenError("x"), True, True),
        (UnreachableError("x"), True, True),
        (TimedOutError("x", phase="total"), True, True),
        (DataError("x"), True, True),
        (DeniedError("x"), False, True),
        (RefusedError("x"), False, True),
    ],
)
def test_failures_that_pass_allow_stale_tiles(error, stale, asked):
    """What may be better soon is stood in for; a no is not. A request went out unless the lane kept it in."""
    assert allows_stale(error) is stale
    assert was_asked(error) is asked
