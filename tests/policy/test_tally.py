"""Percentiles from buckets against the exact ones."""

from hypothesis import given
from hypothesis import strategies as st

from tilehaul.policy.tally import Histogram


@given(st.lists(st.floats(0.0001, 900), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_percentile_is_at_most_five_percent_high(values, share) -> None:
    """Never below the exact nearest-rank percentile, never more than a bucket above."""
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    rank = max(1, -(-int(share * len(values) * 10_000) // 10_000))
    exact = sorted(values)[min(rank, len(values)) - 1]
    assert exact * 0.9999 <= histogram.percentile_s(share) <= exact * 1.0501


def test_empty_histogram_says_zero() -> None:
    assert Histogram().percentile_s(0.5) == 0.0
    assert Histogram().mean_s() == 0.0
