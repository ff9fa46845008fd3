"""Recall against speed as a picture."""

import math
from collections.abc import Iterable, Mapping
from xml.sax.saxutils import escape

Curve = Iterable[tuple[float, float]]

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
COLOURS = ("#0b5fa5", "#c0392b", "#27824f", "#8e44ad", "#b9770e", "#555555", "#148f77")
#: Marks of the axis of recall; it stretches towards 1, where the work is.
RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)


def _x(recall: float) -> float:
    lost = [-math.log10(1 - min(max(r, RECALLS[0]), RECALLS[-1])) for r in (recall, RECALLS[0], RECALLS[-1])]
    return LEFT + (WIDTH - LEFT - RIGHT) * (lost[0] - lost[1]) / (lost[2] - lost[1])


def draw(curves: Mapping[str, Curve], title: str) -> str:
    """An SVG: a line each, recall to the right on a scale of what is lost, the logarithm of queries a second upwards.

    Parameters
    ----------
    curves
        Points (recall, queries a second) by name; the first is drawn broadest.
    """
    points = {name: [(r, s) for r, s in curve if RECALLS[0] <= r <= RECALLS[-1]] for name, curve in curves.items()}
    speeds = [s for curve in points.values() for _, s in curve]
    low, high = math.floor(math.log10(min(speeds))), math.ceil(math.log10(max(speeds)))

    def y(speed: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (math.log10(speed) - low) / (high - low)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        "<style>text { font: 13px sans-serif }</style>",
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" style="font-size: 15px">{escape(title)}</text>',
    ]
    for recall in RECALLS:
        at = _x(recall)
        out.append(f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#dddddd"/>')
        out.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{recall:g}</text>')
    for power in range(low, high + 1):
        for step in (1, 2, 5) if power < high else (1,):
            at = y(step * 10.0**power)
            out.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="{"#bbbbbb" if step == 1 else "#eeeeee"}"/>')
            out.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{step * 10**power:,}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">recall@10</text>')
    out.append(f'<text x="{LEFT - 6}" y="{TOP - 16}" text-anchor="end">queries/s</text>')
    for k, (name, curve) in enumerate(points.items()):
        colour, width = COLOURS[k % len(COLOURS)], 3 if k == 0 else 1.5
        path = "L".join(f"{_x(r):.1f} {y(s):.1f}" for r, s in curve)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        out += [f'<circle cx="{_x(r):.1f}" cy="{y(s):.1f}" r="{width + 1}" fill="{colour}"/>' for r, s in curve]
        line = TOP + 14 + 20 * k
        out.append(f'<path d="M{WIDTH - RIGHT + 14} {line - 4}h18" stroke="{colour}" stroke-width="{width}"/>')
        out.append(f'<text x="{WIDTH - RIGHT + 38}" y="{line}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"
