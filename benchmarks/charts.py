"""Bar charts of ratios as SVG: a bar for the median, a line from the least to the greatest, nothing else.

Ours are blue, the ceiling and other references black, peers grey. Drawn by hand, so that the documentation needs no
plotting library; readable in light and dark themes, because every chart brings its own background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABEL, VALUE = 720, 190, 130
ROW, TOP, BOTTOM = 24, 46, 14
COLOURS = {"ours": "#2563a8", "peer": "#9aa3ab", "ceiling": "#333a40"}


@dataclass(frozen=True)
class Bar:
    """One bar; ratios, more is better."""

    name: str
    kind: str
    median: float
    least: float
    greatest: float


def draw(title: str, subtitle: str, bars: Sequence[Bar]) -> str:
    """Return a chart: the longest bar first.

    Args:
        title: What is compared.
        subtitle: What a ratio of 1 is.
        bars: At least one.
    """
    ordered = sorted(bars, key=lambda bar: -bar.median)
    height = TOP + ROW * len(ordered) + BOTTOM
    room = WIDTH - LABEL - VALUE
    scale = room / max(max(bar.greatest for bar in ordered), 1e-9)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f'<title>{escape(title)}</title><g font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="18" font-weight="bold" fill="#111">{escape(title)}</text>',
        f'<text x="10" y="35" font-size="11" fill="#555">{escape(subtitle)}</text>',
    ]
    if (one := LABEL + scale) <= WIDTH - VALUE:
        lines.append(f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{TOP}" y2="{height - BOTTOM}" stroke="#c33"/>')
    for number, bar in enumerate(ordered):
        lines += _draw_bar(bar, TOP + ROW * number, scale)
    return "\n".join([*lines, "</g></svg>", ""])


def _draw_bar(bar: Bar, y: int, scale: float) -> list[str]:
    middle = y + ROW // 2
    length, least, greatest = bar.median * scale, LABEL + bar.least * scale, LABEL + bar.greatest * scale
    colour = COLOURS.get(bar.kind, COLOURS["peer"])
    return [
        f'<text x="{LABEL - 8}" y="{middle + 4}" text-anchor="end" fill="#111">{escape(bar.name)}</text>',
        f'<rect x="{LABEL}" y="{y + 4}" width="{max(length, 1):.1f}" height="{ROW - 8}" fill="{colour}"/>',
        f'<line x1="{least:.1f}" x2="{greatest:.1f}" y1="{middle}" y2="{middle}" stroke="#e08a00" stroke-width="2"/>',
        f'<text x="{max(LABEL + length, greatest) + 6:.1f}" y="{middle + 4}" fill="#111">{_show(bar.median)}</text>',
    ]


def _show(ratio: float) -> str:
    return f"{ratio:.3f}" if ratio < 0.1 else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
