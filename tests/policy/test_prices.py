"""What a bucket costs."""

import pytest

from tilehaul.policy.prices import PRICES, bucket_cost


def test_ten_million_loose_tiles_in_r2():
    """$45 to write them, and 150 GB kept at a cent and a half."""
    cost = bucket_cost(PRICES["r2"], tiles=10_000_000, kept_bytes=150e9)
    assert cost.writes == 10_000_000
    assert cost.write_usd == pytest.approx(45.0)
    assert cost.month_usd == pytest.approx(2.25)


def test_a_thousand_writes_to_s3_are_half_a_cent():
    """Its GB is 2^30 bytes."""
    cost = bucket_cost(PRICES["s3"], tiles=1000.4, kept_bytes=2**30)
    assert cost.writes == 1000
    assert cost.write_usd == pytest.approx(0.005, rel=1e-3)
    assert cost.month_usd == pytest.approx(0.023)


def test_prices_say_where_they_are_from():
    """And when that was read: a price is true for a while only."""
    for price in PRICES.values():
        assert price.source.startswith("https://")
        assert price.date >= "2026"
