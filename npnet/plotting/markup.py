"""Tables and charts as HTML and SVG text, in the colours and the type of the page they stand in.

Everything given is text and escaped here. A page may set the colours of curves and of small print by the
CSS variables of ``COLORS`` and ``--muted``.
"""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

from npnet.plotting.curves import Curve, Panel, panels

__all__ = [
    "BOTTOM",
    "COLORS",
    "HEIGHT",
    "LEFT",
    "MANY",
    "MOST_NAMED",
    "NAME_HEIGHT",
    "NAME_LETTERS",
    "RIGHT",
    "TOP",
    "WIDTH",
    "Style",
    "apart",
    "dot",
    "learning",
    "line_chart",
    "panel_chart",
    "path",
    "shortened",
    "table",
    "text",
    "ticks",
    "widened",
]

# Okabe & Ito 2008: told apart with every kind of colour vision, on white and on black.
COLORS = {"training": "var(--training, #0072b2)", "validation": "var(--validation, #d55e00)"}

WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 48, 84, 12, 40  # around the curves: ticks, names, nothing, ticks and a label
NAME_HEIGHT = 32  # a curve's name and last value, two lines
NAME_LETTERS = 12  # of a name that fits there
MOST_NAMED = 6  # names that fit above one another
MANY = 40  # points from which on they are drawn without dots


class Style(NamedTuple):
    """How a curve is drawn: its colour, and the lengths of its dashes and gaps as SVG has them."""

    color: str
    dash: str = ""


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return an HTML table."""

    def row(tag: str, cells: Sequence[object]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(row("td", cells) for cells in rows)
    return f"<table><thead>{row('th', header)}</thead><tbody>{body}</tbody></table>"


def learning(history: Any) -> str:
    """Return a table and the curves of a History."""
    shown = panels(history)
    rows = [
        (
            name,
            f"{points[0][1]:.4f}",
            f"{points[-1][1]:.4f}",
            *((f"{best[1]:.4f}", best[0]) if best else "  "),
        )
        for panel in shown
        for curve in panel.curves
        for name, points, best in [(f"{panel.metric}, {curve.name}", curve.points, panel.best_of(curve))]
        if points
    ]
    charts = "".join(
        f'<div style="flex: 1 1 20em; max-width: 30em"><b>{escape(panel.title)}</b>: {panel.words()}'
        f"{panel_chart(panel)}</div>"
        for panel in shown
        if panel.points
    )
    header = ("", "first", "last", "best", "in epoch")
    return f'{table(header, rows)}<div style="display: flex; flex-wrap: wrap; gap: 1em">{charts}</div>'


def panel_chart(panel: Panel, percent: bool = False) -> str:
    """Return the chart of a metric over the epochs."""
    write = "{:.1%}".format if percent else "{:.4g}".format
    steps = [
        f"{curve.name} from {write(curve.points[0][1])} to {write(curve.points[-1][1])}"
        for curve in panel.curves
        if curve.points
    ]
    description = f"{panel.title} over the epochs: {', '.join(steps)}; {panel.words(write)}."
    return line_chart(description, panel.curves, "epoch", percent, panel.best)


def line_chart(
    description: str,
    curves: Sequence[Curve],
    x_label: str,
    percent: bool = False,
    best: tuple[float, float] | None = None,
    styles: Sequence[Style] | None = None,
) -> str:
    """Return an SVG picture of curves, each named where it ends.

    Parameters
    ----------
    description
        What is to be seen, for those who do not see it.
    percent
        Whether the values are shares, to be written in percent.
    best
        A point to mark.
    styles
        Of each curve, in place of the colours of training and validation. More curves than ``MOST_NAMED`` are
        not named: what they are is then said beside the picture.

    Raises
    ------
    ValueError
        If no curve has a finite value.
    """
    points = [point for curve in curves for point in curve.points]
    if not points:
        raise ValueError("curves must hold at least one finite value.")
    xs, ys = zip(*points, strict=True)
    x_low, x_high = widened(min(xs), max(xs))
    margin = 0.06 * (max(ys) - min(ys))
    y_low, y_high = widened(min(ys) - margin, max(ys) + margin)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        down = TOP + (y_high - y) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return across, down

    parts = []
    end, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    for tick in ticks(y_low, y_high, 5):
        down = place(x_low, tick)[1]
        parts.append(
            f'<path d="M{LEFT} {down:.1f}H{end}" stroke="currentColor" stroke-opacity=".15"/>'
            + text(LEFT - 8, down + 4, f"{100 * tick:.4g}%" if percent else f"{tick:.4g}", "end")
        )
    least = 1 if x_label == "epoch" else 0
    parts += [
        text(place(tick, y_low)[0], floor + 17, f"{tick:,.6g}", "middle")
        for tick in ticks(x_low, x_high, 6, least)
    ]
    parts.append(text((LEFT + end) / 2, HEIGHT - 5, x_label, "middle"))

    names = []
    if styles is None:
        styles = [Style(COLORS.get(curve.name, COLORS["training"])) for curve in curves]
    for curve, (color, dash) in zip(curves, styles, strict=True):
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(
            f'<path d="{path(curve, place)}" fill="none" stroke="{color}" stroke-width="2"{dashed}/>'
        )
        if len(curve.points) < MANY:
            parts += [dot(*place(x, y), color) for x, y in curve.points]
        if curve.points and len(curves) <= MOST_NAMED:
            names.append((place(*curve.points[-1])[1], curve, color))
    if best:
        across, down = place(*best)
        parts.append(
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="6" fill="none" stroke="currentColor"'
            ' stroke-width="1.5"/>'
        )
    names.sort(key=lambda name: name[0])
    for down, (_, curve, color) in zip(apart([name[0] for name in names]), names, strict=True):
        last = curve.points[-1][1]
        parts.append(text(end + 12, down - 2, shortened(curve.name), color=color))
        parts.append(text(end + 12, down + 13, f"{last:.1%}" if percent else f"{last:.4g}", color=color))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="inherit" font-size="12">'
        f"<title>{escape(description)}</title>{''.join(parts)}</svg>"
    )


def shortened(name: str) -> str:
    """Return a name that fits beside the curves; of a long one its end, which tells numbered ones apart."""
    return name if len(name) <= NAME_LETTERS else f"…{name[1 - NAME_LETTERS :]}"


def ticks(low: float, high: float, count: int, least: float = 0) -> list[float]:
    """Return about ``count`` round numbers from ``low`` to ``high``, ``least`` or more apart.

    >>> ticks(0.13, 0.48, 4)
    [0.2, 0.3, 0.4]
    """
    rough = max((high - low) / count, least)
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [factor * power for factor in (1, 2, 2.5, 5, 10) if not least or factor * power % least == 0]
    step = next(step for step in steps if step >= 0.999 * rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def widened(low: float, high: float) -> tuple[float, float]:
    """Return the limits, moved apart where they are one."""
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def apart(heights: list[float]) -> list[float]:
    """Return rising heights moved so that names do not touch and all stay beside the curves."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + NAME_HEIGHT) if moved else max(height, TOP + 8))
    ceiling = HEIGHT - BOTTOM - 8.0
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - NAME_HEIGHT
    return moved


def path(curve: Curve, place: Callable[[float, float], tuple[float, float]]) -> str:
    """Return the commands that draw a curve, lifting the pen where a value is missing."""
    commands, pen = [], "M"
    for x, y in zip(curve.x, curve.y, strict=True):
        if not math.isfinite(y):
            pen = "M"
            continue
        across, down = place(x, y)
        commands.append(f"{pen}{across:.1f} {down:.1f}")
        pen = "L"
    return "".join(commands)


def dot(x: float, y: float, color: str) -> str:
    """Return a point of a curve."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>'


def text(
    x: float, y: float, words: str, anchor: str = "start", color: str = "var(--muted, currentColor)"
) -> str:
    """Return a line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{escape(words)}</text>'
