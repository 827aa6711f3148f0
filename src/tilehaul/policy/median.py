"""The middle of some times, and how sure it is."""

from math import sqrt

# Less certain than this a median is not told to be: a lane with few and wild samples still reacts.
ERROR_MAX = 0.25


def median_and_error(values: list[float]) -> tuple[float, float]:
    """The median of one value or more, and its standard error as a share of it, at most ERROR_MAX.

    The error of a median is about 1.25 standard deviations by the root of the number; a standard deviation is
    about the distance of the quartiles by 1.35 (both for normal values; the quartiles do not mind a tail).
    """
    values.sort()
    count = len(values)
    p50 = values[count // 2]
    if p50 <= 0.0:
        return p50, 0.0
    spread = values[3 * count // 4] - values[count // 4]
    return p50, min(ERROR_MAX, 1.25 * spread / (1.35 * p50 * sqrt(count)))
