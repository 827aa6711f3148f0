"""What a job will come to, from a sample of its tiles.

The tiles of each zoom are a stratum: sampled and judged by themselves, and joined by how many there are. A
tile that the source does not have counts as 0 bytes; one that failed tells nothing and is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

# Tiles that each zoom gets first: one has no spread.
SAMPLED_EACH = 2
# Student's t, two-sided 95 %, for 1 to 20 degrees of freedom (any table of it).
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
# What a sample of n has not met is at most this / n of all, in 95 of 100 samples ("rule of three").
_UNSEEN = 3.0


@dataclass(frozen=True, slots=True)
class Sampled:
    """What came of the tiles of one zoom that were asked for.

    `sizes_bytes` has one entry for each that was answered, 0 for each of the `absent` among them.
    """

    sizes_bytes: tuple[int, ...] = ()
    absent: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class ZoomEstimate:
    """One zoom: `tiles` of it, each `mean_bytes` +- `margin_bytes` (95 %); an absent tile is 0 bytes.

    `like_zoom`: where the figures are taken from when nothing was answered here; the margin is the whole
    mean then.
    """

    zoom: int
    tiles: int
    answered: int
    failed: int
    mean_bytes: float
    margin_bytes: float
    absent_share: float
    like_zoom: int | None = None

    @property
    def bytes(self) -> float:
        return self.tiles * self.mean_bytes


@dataclass(frozen=True, slots=True)
class Estimate:
    """All zooms, ascending. `bytes_margin`: half of an interval that holds the truth 95 times in 100."""

    zooms: tuple[ZoomEstimate, ...]
    tiles: int
    bytes: float
    bytes_margin: float
    absent_share: float

    @property
    def present(self) -> float:
        """Tiles that the source is expected to have."""
        return self.tiles * (1.0 - self.absent_share)


def shares_of(by_zoom: Mapping[int, int], sample: int) -> dict[int, int]:
    """How many tiles of each zoom a sample of that many takes, >= 1; never more than there are.

    Half of them are for SAMPLED_EACH of each zoom, the deepest first; the rest goes to the zooms by what they
    have left, which is to where the bytes are.
    """
    left = min(sample, sum(by_zoom.values()))
    even = (left + 1) // 2
    shares = {}
    for zoom in sorted(by_zoom, reverse=True):
        shares[zoom] = min(SAMPLED_EACH, by_zoom[zoom], even)
        even -= shares[zoom]
    left -= sum(shares.values())
    room = {zoom: by_zoom[zoom] - share for zoom, share in shares.items()}
    whole = max(1, sum(room.values()))
    # In whole numbers: a zoom may have more tiles than a float can count.
    parts = {zoom: divmod(left * free, whole) for zoom, free in room.items()}
    missing = left - sum(part for part, _ in parts.values())
    by_rest = sorted(parts, key=lambda zoom: (-parts[zoom][1], -zoom))
    return {zoom: shares[zoom] + parts[zoom][0] + (zoom in by_rest[:missing]) for zoom in sorted(shares)}


def estimate(by_zoom: Mapping[int, int], samples: Mapping[int, Sampled]) -> Estimate:
    """Judge a sample of which at least one tile was answered.

    Args:
        by_zoom: Tiles of each zoom of the job.
        samples: By zoom; zooms without an answer are judged by the nearest one with, a deeper before a
            shallower.
    """
    largest = max(size for sampled in samples.values() for size in sampled.sizes_bytes)
    known = {
        zoom: _judged(zoom, by_zoom[zoom], sampled, largest)
        for zoom, sampled in samples.items()
        if sampled.sizes_bytes
    }
    zooms = []
    for zoom, tiles in sorted(by_zoom.items()):
        near = known[min(known, key=lambda other: (abs(other - zoom), -other))]
        failed = samples.get(zoom, Sampled()).failed
        zooms.append(known[zoom] if zoom in known else _like(near, zoom, tiles, failed))
    tiles = sum(by_zoom.values())
    measured = sqrt(sum((one.tiles * one.margin_bytes) ** 2 for one in zooms if one.like_zoom is None))
    guessed = sum(one.tiles * one.margin_bytes for one in zooms if one.like_zoom is not None)
    return Estimate(
        zooms=tuple(zooms),
        tiles=tiles,
        bytes=sum(one.bytes for one in zooms),
        bytes_margin=measured + guessed,
        absent_share=sum(one.tiles * one.absent_share for one in zooms) / tiles,
    )


def _judged(zoom: int, tiles: int, sampled: Sampled, largest: int) -> ZoomEstimate:
    answered = len(sampled.sizes_bytes)
    mean = fmean(sampled.sizes_bytes)
    return ZoomEstimate(
        zoom=zoom,
        tiles=tiles,
        answered=answered,
        failed=sampled.failed,
        mean_bytes=mean,
        margin_bytes=margin(sampled.sizes_bytes, tiles, largest),
        absent_share=sampled.absent / answered,
    )


def _like(near: ZoomEstimate, zoom: int, tiles: int, failed: int) -> ZoomEstimate:
    return ZoomEstimate(
        zoom=zoom,
        tiles=tiles,
        answered=0,
        failed=failed,
        mean_bytes=near.mean_bytes,
        margin_bytes=near.mean_bytes,
        absent_share=near.absent_share,
        like_zoom=near.zoom,
    )


def margin(sizes: Sequence[int], tiles: int, largest: int) -> float:
    """Half of the interval around the mean of `sizes` that holds the mean of all `tiles`, at 95 %.

    Student's, for a sample of a finite number; but not below what tiles of a kind that the sample has not met
    could make of it, were they absent or as large as the `largest` seen anywhere: a sample of nothing but sea
    must not promise to the byte.
    """
    count = len(sizes)
    if count >= tiles:
        return 0.0
    unseen_share = (tiles - count) / tiles
    mean = fmean(sizes)
    unmet = min(1.0, _UNSEEN / count) * unseen_share * max(mean, largest - mean)
    if count == 1:
        return unmet
    return max(unmet, _t95(count - 1) * stdev(sizes) / sqrt(count) * sqrt(unseen_share))


def _t95(freedom: int) -> float:
    # The approximation is up to 0.2 % above the true value.
    return _T95[freedom - 1] if freedom <= len(_T95) else 1.96 + 2.6 / freedom


def rate_measured(answered: int, elapsed_s: float, bound_per_s: float | None) -> float | None:
    """Requests a second that a sample went at, no more than the bound; None when no time passed."""
    if elapsed_s <= 0.0:
        return None
    return _bounded(answered / elapsed_s, bound_per_s)


def rate_at_most(in_flight_max: int, fetch_s: float, bound_per_s: float | None) -> float | None:
    """Requests a second if as many as may be are always under way, and each takes as long as in the sample.

    None when none may be (there is no lane) or no time was measured.
    """
    if in_flight_max == 0 or fetch_s <= 0.0:
        return None
    return _bounded(in_flight_max / fetch_s, bound_per_s)


def _bounded(rate_per_s: float, bound_per_s: float | None) -> float:
    return rate_per_s if bound_per_s is None else min(rate_per_s, bound_per_s)
