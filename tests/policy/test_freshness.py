"""How long answers stay fresh."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilehaul.codec.cache_control import Lifetime
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
from tilehaul.policy.freshness import UNKEPT, VALIDATED_S, Freshness, FreshnessRule, allows_stale, was_asked


@given(luck=st.floats(0, 1, exclude_max=True))
def test_defaults_are_an_hour_and_five_minutes_spread_by_a_tenth(luck):
    """A tile lives 3600 s whatever the luck, an absence 270 to 330 s."""
    rule = FreshnessRule()
    assert rule.tile() == Freshness(3600.0, 0.0, 60.0, 7 * 86_400.0)
    assert 270.0 <= rule.absence(luck).fresh_s <= 330.0


def test_luck_reaches_both_ends():
    """The spread is used from end to end."""
    rule = FreshnessRule(absent_s=100, absent_spread_share=0.5)
    assert [rule.absence(luck).fresh_s for luck in (0.0, 0.5)] == [50.0, 100.0]
    assert rule.absence(0.999).fresh_s == pytest.approx(149.9)


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


def told(**words):
    return Lifetime(**words)


@pytest.mark.parametrize(
    ("words", "freshness"),
    [
        ({}, Freshness(3600.0, 0.0, 60.0, 604_800.0, source="me")),
        ({"fresh_s": 5.0, "age_s": 2.0}, Freshness(5.0, 2.0, 60.0, 604_800.0, source="me")),
        # An age says nothing where no lifetime was told: the hour begins here.
        ({"age_s": 2.0}, Freshness(3600.0, 0.0, 60.0, 604_800.0, source="me")),
        ({"fresh_s": 9.0, "revalidate_s": 1.0, "stale_s": 0.0}, Freshness(9.0, 0.0, 1.0, 0.0, source="me")),
        # What is not fresh for a moment is not given without asking either.
        ({"fresh_s": 0.0}, Freshness(0.0, 0.0, 0.0, 604_800.0, source="me")),
        ({"keep": False}, UNKEPT),
    ],
)
def test_origin_goes_before_the_rule(words, freshness):
    assert FreshnessRule().told(told(**words), "me") == freshness


@pytest.mark.parametrize("words", [{"keep": False}, {"fresh_s": 5.0, "age_s": 2.0}, {}])
def test_operator_goes_before_the_origin(words):
    """With `overrides` the rule's lifetime holds, whatever was told; the words to ask by stay."""
    freshness = FreshnessRule(tile_s=10.0, overrides=True).told(told(etag='"a"', **words), "me")
    assert freshness == Freshness(10.0, 0.0, 60.0, 604_800.0, '"a"', "", "me")


def test_nothing_is_kept_of_no_lifetime_but_for_an_origin_that_fails():
    assert FreshnessRule(tile_s=0.0).tile() == Freshness(0.0, 0.0, 0.0, 604_800.0)


def test_words_to_ask_by_are_worth_keeping():
    """A tile that must not be given stale is kept all the same, to be asked about by its name."""
    assert Freshness(10.0, age_s=4.0).kept_s == 6.0
    assert Freshness(10.0, age_s=4.0, etag='"a"').kept_s == 6.0 + VALIDATED_S
    assert Freshness(10.0, last_modified="then").kept_s == 10.0 + VALIDATED_S
    assert Freshness(10.0, revalidate_s=3.0, stale_s=2.0).kept_s == 13.0
    assert UNKEPT.kept_s == 0.0
