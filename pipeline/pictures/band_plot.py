"""Plot of each step's change by spatial frequency, as SVG with stacked columns."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from restyle.core.shown_text import plural
from restyle.pipeline.pictures.coarse_to_fine import CoarseToFine

_HEIGHT, _TOP, _LEFT, _BOTTOM = 260, 40, 52, 46
_COLUMN, _PITCH, _LEGEND = 44, 64, 170
# One hue from dark to light: coarse to fine.
_COLOURS = ("#08306b", "#08519c", "#2171b5", "#4292c6", "#6baed6", "#9ecae1", "#c6dbef", "#deebf7")


def band_plot(found: CoarseToFine) -> str:
    """Draw the plot as SVG without scripts and embedded fonts."""
    steps = len(found.energies)
    plot = steps * _PITCH
    width, height = _LEFT + plot + _LEGEND, _TOP + _HEIGHT + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="20" font-size="13" font-weight="bold">Change of each step by '
        f"spatial frequency, mean of {plural(found.faces, 'face')}</text>",
        *_axis(plot),
        *_columns(found),
        *_legend(found, _LEFT + plot + 14),
        f'<text x="{_LEFT + plot / 2}" y="{height - 8}" text-anchor="middle">step</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axis(plot: int) -> Iterator[str]:
    for percent in range(0, 101, 25):
        y = _TOP + _HEIGHT * (1 - percent / 100)
        yield f'<path d="M{_LEFT} {y:.1f}h{plot}" stroke="#ddd"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{percent}%</text>'


def _columns(found: CoarseToFine) -> Iterator[str]:
    for step, shares in enumerate(found.shares):
        x = _LEFT + step * _PITCH + (_PITCH - _COLUMN) / 2
        y = float(_TOP + _HEIGHT)
        for band, share in enumerate(shares):
            y -= share * _HEIGHT
            yield (
                f'<rect x="{x}" y="{y:.2f}" width="{_COLUMN}" height="{share * _HEIGHT:.2f}" '
                f'fill="{_colour(band)}"/>'
            )
        yield (
            f'<text x="{x + _COLUMN / 2}" y="{_TOP + _HEIGHT + 16}" text-anchor="middle">'
            f"{step + 1}</text>"
        )


def _legend(found: CoarseToFine, x: int) -> Iterator[str]:
    yield f'<text x="{x}" y="{_TOP + 10}">cycles per image</text>'
    for row, band in enumerate(reversed(range(len(found.bands)))):
        y = _TOP + 22 + row * 20
        yield f'<rect x="{x}" y="{y}" width="13" height="13" fill="{_colour(band)}"/>'
        yield f'<text x="{x + 20}" y="{y + 11}">{escape(found.bands[band])}</text>'


def _colour(band: int) -> str:
    return _COLOURS[min(band, len(_COLOURS) - 1)]
