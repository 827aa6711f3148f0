"""Curves over time as an SVG, written by hand: a plotting library weighs more than all of tilehaul."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

# Told apart also by those who see red and green alike (Okabe and Ito, "Color Universal Design", 2008).
COLOURS = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00")
_PANEL_W, _PANEL_H, _GAP, _TOP, _LEFT = 420, 150, 70, 70, 60
# A curve has no more corners than the panel has room for.
_POINTS_MAX = 150


@dataclass(frozen=True, slots=True)
class Panel:
    """One diagram: `curves` by name, one value a second, >= 0. A title of its own; `unit` at the axis."""

    title: str
    unit: str
    curves: Mapping[str, Sequence[float]]


def draw(title: str, rows: Sequence[Sequence[Panel]]) -> str:
    """An SVG document: panels in rows, one colour per curve name throughout, and a legend."""
    names = list(dict.fromkeys(name for row in rows for panel in row for name in panel.curves))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    width = _LEFT + max((len(row) for row in rows), default=1) * (_PANEL_W + _GAP)
    height = _TOP + len(rows) * (_PANEL_H + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="12">',
        "<style>text { font-family: sans-serif }</style>",
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="22" font-size="16">{escape(title)}</text>',
        *_legend(colours),
    ]
    for row_number, row in enumerate(rows):
        for column, panel in enumerate(row):
            x = _LEFT + column * (_PANEL_W + _GAP)
            y = _TOP + row_number * (_PANEL_H + _GAP)
            parts += [f'<g transform="translate({x} {y})">', *_panel(panel, colours), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _legend(colours: Mapping[str, str]) -> list[str]:
    parts = []
    x = _LEFT
    for name, colour in colours.items():
        parts.append(f'<rect x="{x}" y="36" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="42">{escape(name)}</text>')
        x += 40 + 8 * len(name)
    return parts


def _panel(panel: Panel, colours: Mapping[str, str]) -> list[str]:
    seconds = max((len(curve) for curve in panel.curves.values()), default=0)
    top = _round_up(max((max(curve, default=0.0) for curve in panel.curves.values()), default=0.0))
    parts = [
        f'<text x="0" y="-8">{escape(panel.title)}</text>',
        f'<path d="M0 0V{_PANEL_H}H{_PANEL_W}" fill="none" stroke="#666666"/>',
        f'<text x="{_PANEL_W}" y="{_PANEL_H + 16}" text-anchor="end">{seconds} s</text>',
    ]
    for share in (0.0, 0.5, 1.0):
        y = _PANEL_H * (1.0 - share)
        label = f"{top * share:.4g} {panel.unit}".strip()
        parts.append(f'<text x="-6" y="{y + 4:.0f}" text-anchor="end" font-size="10">{escape(label)}</text>')
        parts.append(f'<path d="M0 {y:.0f}H{_PANEL_W}" stroke="#dddddd"/>')
    for name, curve in panel.curves.items():
        points = " ".join(_corners(curve, seconds, top))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colours[name]}" stroke-width="1.5"/>')
    return parts


def _corners(curve: Sequence[float], seconds: int, top: float) -> list[str]:
    """Points of a curve; of more values than fit, the mean of each few."""
    step = max(1, -(-len(curve) // _POINTS_MAX))
    corners = []
    for start in range(0, len(curve), step):
        few = curve[start : start + step]
        x = _PANEL_W * (start + len(few) / 2.0) / max(1, seconds)
        y = _PANEL_H * (1.0 - sum(few) / len(few) / top)
        corners.append(f"{x:.1f},{y:.1f}")
    return corners


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten; 1.0 for nothing."""
    if value <= 0.0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= value * 0.999999)
