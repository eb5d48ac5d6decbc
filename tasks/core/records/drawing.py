"""Numbers drawn: bars and intervals in plain text, and a feature's shape as an image that needs no file."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from html import escape

from tasks.core.drift.shape import Shape

_WIDTH = 49
_ROW, _TOP, _LEFT, _BAR, _RIGHT = 34, 34, 170, 330, 120
_INK, _BEFORE, _NOW = "#1f2933", "#9aa5b1", "#d64545"


def gauge(ratio: float | None) -> str:
    """Return how near a value is to its limit, which stands in the middle; twice the limit fills it.

    Example:
        >>> gauge(0.5), gauge(1.5), gauge(9.0), gauge(None)
        ('███···┃······', '██████┃███···', '██████┃██████', '······┃······')
    """
    filled = 0 if ratio is None or not math.isfinite(ratio) else min(12, max(0, round(ratio * 6)))
    cells = "█" * filled + "·" * (12 - filled)
    return f"{cells[:6]}┃{cells[6:]}"


def interval(low: float, value: float, high: float, marks: Mapping[float, str]) -> str:
    """Return one line with the interval `├─●─┤` and the marks, on a scale that holds them all.

    `marks` gives a sign for each position. Where a sign and the interval meet the sign stands, so that a
    reader sees on which side of it the interval ends; the value itself always stands.

    Example:
        >>> interval(1.0, 2.0, 3.0, {0.0: "│"})
        '    │            ├─────────────●────────────┤    '
    """
    if not all(math.isfinite(each) for each in (low, value, high, *marks)):
        return ""
    first, last = min(low, *marks), max(high, *marks)
    room = _WIDTH - 9
    step = (last - first) / room or 1.0

    def place(x: float) -> int:
        return 4 + round((x - first) / step)

    line = [" "] * _WIDTH
    for spot in range(place(low), place(high) + 1):
        line[spot] = "─"
    line[place(low)], line[place(high)] = "├", "┤"
    for position, sign in marks.items():
        line[place(position)] = sign
    line[place(value)] = "●"
    return "".join(line)


def shape_svg(shape: Shape, *, before: str = "reference", now: str = "this window") -> str:
    """Return an SVG of the shape: per label a grey bar for the reference above a red one for the window."""
    most = max((*shape.reference, *shape.current), default=0.0) or 1.0
    width, height = _LEFT + _BAR + _RIGHT, _TOP + _ROW * len(shape.labels) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>',
        _key(_LEFT, _BEFORE, before),
        _key(_LEFT + 190, _NOW, now),
    ]
    for place, label in enumerate(shape.labels):
        y = _TOP + _ROW * place
        old, new = shape.reference[place], shape.current[place]
        parts.append(_text(_LEFT - 10, y + 18, label, "end"))
        parts.append(_bar(y, old / most, _BEFORE))
        parts.append(_bar(y + 12, new / most, _NOW))
        parts.append(_text(_LEFT + _BAR + 10, y + 18, f"{_percent(old)} → {_percent(new)}", "start"))
    return "".join([*parts, "</svg>"])


def image(svg: str, alt: str) -> str:
    """Return Markdown that shows the SVG itself, which needs no server and no file."""
    text = "".join(sign for sign in alt if sign.isalnum() or sign in " .,:%-_")
    return f"![{text}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _key(x: int, colour: str, text: str) -> str:
    return f'<rect x="{x}" y="12" width="12" height="10" fill="{colour}"/>' + _text(x + 18, 22, text, "start")


def _bar(y: int, part: float, colour: str) -> str:
    length = max(round(_BAR * part, 1), 1.0 if part else 0.0)
    return f'<rect x="{_LEFT}" y="{y + 2}" width="{length:g}" height="10" fill="{colour}"/>'


def _text(x: int, y: int, text: str, anchor: str) -> str:
    clean = escape("".join(sign if sign.isprintable() else "?" for sign in text))
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{_INK}">{clean}</text>'


def _percent(share: float) -> str:
    return f"{share:.0%}" if share == 0 or share >= 0.1 else f"{share:.1%}"
