"""Estimates from a sample: the arithmetic, and that the intervals hold what they promise."""

import random
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilehaul.policy.estimate import (
    SAMPLED_EACH,
    Sampled,
    estimate,
    margin,
    rate_at_most,
    rate_measured,
    shares_of,
)

STEADY = settings(derandomize=True, deadline=None, database=None)


@given(
    st.dictionaries(st.integers(0, 30), st.integers(0, 4**30), min_size=1).filter(lambda d: any(d.values())),
    st.integers(1, 10_000),
)
@STEADY
def test_shares_are_the_sample_and_never_more_than_there_is(by_zoom, sample):
    """Whatever the counts: all of the sample is given out, in zoom order."""
    shares = shares_of(by_zoom, sample)
    assert sum(shares.values()) == min(sample, sum(by_zoom.values()))
    assert list(shares) == sorted(by_zoom)
    assert all(0 <= shares[zoom] <= count for zoom, count in by_zoom.items())


@pytest.mark.parametrize(
    ("sample", "shares"),
    [
        (1, {0: 0, 1: 0, 2: 0, 3: 1}),
        (4, {0: 0, 1: 0, 2: 0, 3: 4}),
        (21, {0: 1, 1: 2, 2: 5, 3: 13}),
        (85, {0: 1, 1: 4, 2: 16, 3: 64}),
        (1000, {0: 1, 1: 4, 2: 16, 3: 64}),
    ],
)
def test_a_sample_goes_where_the_tiles_are(sample, shares):
    """Two of each zoom, from half of it; the rest by what is left; a small job is sampled wholly."""
    assert shares_of({zoom: 4**zoom for zoom in range(4)}, sample) == shares
    assert SAMPLED_EACH == 2


def test_figures_are_exact():
    """Two zooms of which one is known wholly, an absent tile, a failed one, a zoom without an answer."""
    by_zoom = {0: 1, 1: 4, 2: 100}
    samples = {
        1: Sampled((1000, 3000, 2000, 0), absent=1),
        2: Sampled((500, 700), failed=3),
        0: Sampled(failed=1),
    }
    told = estimate(by_zoom, samples)
    zero, one, two = told.zooms
    assert (one.mean_bytes, one.margin_bytes, one.bytes, one.absent_share) == (1500.0, 0.0, 6000.0, 0.25)
    assert (one.answered, one.failed, one.like_zoom) == (4, 0, None)
    # t(1) = 12.706, s = sqrt(2) * 100, n = 2 of 100; what was not met could be 98 % of it all.
    student = 12.706 * 100 * sqrt(2) / sqrt(2) * sqrt(0.98)
    assert (two.mean_bytes, two.failed) == (600.0, 3)
    assert two.margin_bytes == pytest.approx(0.98 * 2400)
    assert two.margin_bytes > student
    # The nearest zoom that is known stands in, with the whole of it as margin.
    assert (zero.like_zoom, zero.mean_bytes, zero.margin_bytes, zero.absent_share) == (
        1,
        1500.0,
        1500.0,
        0.25,
    )
    assert (zero.answered, zero.failed) == (0, 1)
    assert told.tiles == 105
    assert told.bytes == 1500 + 6000 + 60_000
    assert told.bytes_margin == pytest.approx(100 * 0.98 * 2400 + 1500)
    assert told.absent_share == pytest.approx(1.25 / 105)
    assert told.present == pytest.approx(103.75)


def test_a_deeper_zoom_stands_in_before_a_shallower():
    """Of two at the same distance, where more tiles are."""
    told = estimate({3: 64, 4: 256, 5: 1024}, {3: Sampled((10,)), 5: Sampled((70,))})
    assert [one.like_zoom for one in told.zooms] == [None, 5, None]


def test_a_sample_of_nothing_but_sea_promises_no_exactness():
    """Equal sizes have no spread: what was not met bounds the promise, by the largest seen anywhere."""
    sea = (100,) * 60
    assert margin(sea, 10**6, 100) == pytest.approx(0.05 * 100, rel=1e-3)
    assert margin(sea, 10**6, 20_100) == pytest.approx(0.05 * 20_000, rel=1e-3)
    assert margin((100,), 10**6, 100) == pytest.approx(100, rel=1e-3)
    # Two of three: unseen is one third at most.
    assert margin((100, 100), 3, 100) == pytest.approx(100 / 3)
    assert margin(sea, 60, 20_100) == 0.0


def test_margins_are_students_where_sizes_differ():
    """By hand: n = 25 of many, s = 10.2 (25 values around 50); and beyond the table's end."""
    sizes = tuple(40 + 20 * (number % 2) for number in range(25))
    spread = sqrt(sum((size - 49.6) ** 2 for size in sizes) / 24)
    assert margin(sizes, 10**9, 60) == pytest.approx(max((1.96 + 2.6 / 24) * spread / 5, 3 / 25 * 49.6))
    wide = tuple(1000 * (number % 2) for number in range(21))
    spread = sqrt(sum((size - 10_000 / 21) ** 2 for size in wide) / 20)
    assert margin(wide, 10**9, 1000) == pytest.approx(2.086 * spread / sqrt(21), rel=1e-6)


def test_intervals_hold_the_truth():
    """Of 400 samples from mixed tiles (sea, land, towns), 95 in 100 or more: counted, with a fixed seed."""
    luck = random.Random(7)
    sizes = {
        zoom: [luck.choice((103, 103, 4000, 9000, luck.randrange(20_000, 60_000))) for _ in range(count)]
        for zoom, count in ((4, 256), (5, 1024), (6, 4096))
    }
    truth = sum(map(sum, sizes.values()))
    by_zoom = {zoom: len(tiles) for zoom, tiles in sizes.items()}
    for sample in (30, 200):
        held = 0
        for _ in range(400):
            taken = {
                zoom: Sampled(tuple(luck.sample(sizes[zoom], share)))
                for zoom, share in shares_of(by_zoom, sample).items()
            }
            told = estimate(by_zoom, taken)
            held += abs(told.bytes - truth) <= told.bytes_margin
        assert held >= 0.95 * 400


def test_rates_are_bounded_and_unknown_without_time():
    """What user or provider allow is never exceeded, nor is anything made of no measurement."""
    assert rate_measured(200, 4.0, None) == 50.0
    assert rate_measured(10, 4.5, 2.0) == 2.0
    assert rate_measured(10, 20.0, 2.0) == 0.5
    assert rate_measured(10, 0.0, 2.0) is None
    assert rate_at_most(32, 0.1, None) == 320.0
    assert rate_at_most(32, 0.1, 20.0) == 20.0
    assert rate_at_most(0, 0.1, None) is None
    assert rate_at_most(32, 0.0, None) is None
