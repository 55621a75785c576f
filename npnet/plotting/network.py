"""A picture of the layers of a model, one box each."""

from typing import TYPE_CHECKING

from npnet.plotting.canvas import COLORS, GREY, INK, PathLike, finish, new_figure

__all__ = ["network"]

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, LINE, GAP = 4.0, 0.2, 0.28  # inches: of a box, of a line in it, between two


def network(title: str, subtitle: str, boxes: list[list[str]], path: PathLike | None = None) -> "Figure":
    """Boxes of lines of text, the first of each bold, from top to bottom with arrows between them."""
    heights = [LINE * (len(lines) + 0.8) for lines in boxes]
    height = sum(heights) + GAP * (len(boxes) - 1)
    figure = new_figure(WIDTH, height, title, subtitle)
    axes = figure.subplots()
    top = 0.0
    for lines, tall in zip(boxes, heights, strict=True):
        axes.add_patch(_box(top, tall))
        for number, text in enumerate(lines):
            weight, color = ("bold", INK) if number == 0 else ("normal", GREY)
            y = top + LINE * (number + 0.9)
            axes.text(WIDTH / 2, y, text, size=9, weight=weight, color=color, ha="center", va="center")
        if top:
            arrow = {"arrowstyle": "->", "color": GREY}
            axes.annotate("", (WIDTH / 2, top), (WIDTH / 2, top - GAP), arrowprops=arrow)
        top += tall + GAP
    axes.set(xlim=(-0.02, WIDTH + 0.02), ylim=(height + 0.02, -0.02), aspect="equal", anchor="NW")
    axes.axis("off")
    return finish(figure, path)


def _box(top: float, tall: float):  # type: ignore[no-untyped-def]  # a Patch of matplotlib's
    from matplotlib.patches import Rectangle

    return Rectangle((0, top), WIDTH, tall, fill=False, edgecolor=COLORS[0])
