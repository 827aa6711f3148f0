"""Markdown tables of figures, with the aim beside the measurement."""

import statistics
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table; the first column is words, the others are figures."""
    lines = [f"| {' | '.join(head)} |", "|---|" + "--:|" * (len(head) - 1)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def aims(rows: Iterable[tuple[str, str, str, bool]]) -> str:
    """A table of aims: figure, aim, measured, and whether it was met."""
    head = ("figure", "aim", "measured", "verdict")
    return table(head, ((what, aim, got, "met" if met else "**missed**") for what, aim, got, met in rows))


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The median, and the range behind it: how far two runs of one thing lie apart."""
    middle, low, high = statistics.median(values), min(values), max(values)
    if len(values) == 1:
        return f"{middle:,.{digits}f}"
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"
