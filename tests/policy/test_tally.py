"""Counting: percentiles at the edges, means, and the patience of an item that was pushed back."""

import pytest

from tilehaul.policy.retry import RetryRule
from tilehaul.policy.tally import Histogram, Tally


def test_histogram_of_nothing_says_nothing() -> None:
    assert (Histogram().percentile_s(0.5), Histogram().mean_s()) == (0.0, 0.0)


def test_percentiles_are_at_most_five_percent_high() -> None:
    times = Histogram()
    for step in range(1, 1001):
        times.add(step / 1000.0)
    for share in (0.5, 0.95, 0.99, 1.0):
        assert share <= times.percentile_s(share) <= 1.05 * share
    assert times.mean_s() == pytest.approx(0.5005)


def test_times_beyond_the_last_bucket_are_the_last() -> None:
    times = Histogram()
    times.add(1e9)
    assert times.percentile_s(0.5) == times.percentile_s(2.0) == pytest.approx(982.0, rel=0.01)


def test_causes_are_counted() -> None:
    tally = Tally()
    for cause in ("http_503", "timeout_idle", "http_503"):
        tally.failed(cause)
    assert tally.causes == {"http_503": 2, "timeout_idle": 1}


def test_patience_ends_with_max_wait() -> None:
    rule = RetryRule(wait_s_max=100.0)
    assert (rule.patience_s(40.0), rule.patience_s(100.0)) == (60.0, 0.0)


def test_times_below_the_first_bound_have_a_percentile() -> None:
    """The first bucket is one like the others: its bound, not nothing, and not the next one's."""
    times = Histogram()
    for value_s in [0.00005] * 10 + [1.0]:
        times.add(value_s)
    assert times.percentile_s(0.5) == 0.0001
    assert Histogram().percentile_s(0.5) == 0.0
