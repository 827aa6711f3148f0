"""Markdown tables of figures, with the aim beside the measurement, and the pages they stand on."""

import datetime as dt
import math
import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path


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


def share_of(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of all of them does not exceed: 0.99 is the 99th percentile."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def write_block(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- begin NAME -->` and `<!-- end NAME -->`; both must be there."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    head, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page.name} has no block {name}: add {begin} and {end}")
    page.write_text(f"{head}{begin}\n{text.strip()}\n{end}{tail}", encoding="utf-8")


def stamp(load_before: float) -> str:
    """When it was measured, and the load average around it: `load_before` is that of the beginning."""
    now = f"{dt.datetime.now(tz=dt.UTC):%d %B %Y, %H:%M} UTC"
    return f"*{now}; load average {load_before:.1f} before, {os.getloadavg()[0]:.1f} after.*"
