"""The paper under the pictures of ``plotting``: titles, colours, rows of images, saving and showing."""

import contextlib
import io
import math
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from npnet.internal.words import quantity

__all__ = [
    "COLORS",
    "DPI",
    "GREY",
    "HAIRLINE",
    "HEADER",
    "INK",
    "MARGIN",
    "MARKERS",
    "Caption",
    "PathLike",
    "finish",
    "mosaic",
    "new_figure",
    "tidy",
]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PathLike = str | os.PathLike[str]
Caption = list[tuple[str, str]]  # lines of text with their colours

INK, GREY, HAIRLINE = "#1f2328", "#636c76", "#d8dde3"
# Okabe & Ito 2008: told apart with every kind of colour vision.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#000000")
MARKERS = ("o", "s", "^", "D", "v")
DPI = 150
MARGIN, HEADER = 0.16, 0.72  # inches around the drawing, and above it for title and subtitle


def new_figure(width: float, height: float, title: str, subtitle: str) -> "Figure":
    """A figure with room for a drawing of this size in inches, and title and subtitle above it."""
    _import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    full_width, full_height = width + 2 * MARGIN, height + HEADER + MARGIN
    figure = Figure((full_width, full_height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    place = (MARGIN / full_width, MARGIN / full_height, width / full_width, height / full_height)
    figure.set_layout_engine("constrained", rect=place, w_pad=0, h_pad=0, wspace=0.05)
    left, top, below = MARGIN / full_width, 1 - MARGIN / full_height, 1 - (MARGIN + 0.27) / full_height
    figure.text(left, top, title, size=13, weight="bold", color=INK, va="top")
    figure.text(left, below, subtitle, size=9.5, color=GREY, va="top")
    figure.set_label(f"{title}: {subtitle}")
    return figure


def _import_matplotlib() -> None:
    """Import matplotlib, also where MPLBACKEND names a backend that is not there: ours is always Agg.

    Importing it fails for such a name, and cannot be tried again. So the variable is hidden meanwhile, and
    read afterwards, as matplotlib would have read it, for pictures of others.
    """
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


def finish(figure: "Figure", path: PathLike | None) -> "Figure":
    """Save if asked to, and let a notebook show the figure without pyplot's help.

    Names of classes, columns and runs are drawn as they are: a $ in them begins no formula.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Title": figure.get_label()})
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]  # IPython looks for it
    return figure


def _png(figure: "Figure") -> bytes:
    memory = io.BytesIO()
    figure.savefig(memory, format="png")
    return memory.getvalue()


def tidy(axes: "Axes", spines: tuple[str, ...] = ("bottom",)) -> None:
    """Take away what carries no meaning."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in spines)
        spine.set_color(HAIRLINE)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=GREY)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(size=9, color=GREY)


def mosaic(
    title: str, subtitle: str, images: np.ndarray, cols: int, captions: list[Caption] | None = None
) -> "Figure":
    """Images in rows of ``cols``, with a caption of one line or more under each."""
    # Whole screen pixels for each pixel of 32 x 32 images keep them sharp and the file small.
    side, gap, line = (160 / DPI, 16 / DPI, 24 / DPI) if captions else (64 / DPI, 8 / DPI, 0.0)
    rows = math.ceil(len(images) / cols)
    lines = max((len(caption) for caption in captions or []), default=0)
    tall = side * (images.shape[1] / images.shape[2])
    pitch = tall + gap + lines * line
    width, height = max(cols * (side + gap) - gap, 4.5), max(rows * pitch - gap, 0.1)
    figure = new_figure(width, height, title, subtitle)
    axes = figure.subplots()
    longest = max((len(text) for caption in captions or [] for text, _ in caption), default=0)
    smoothing = "nearest" if images.shape[2] <= side * DPI else "antialiased"
    size = min(8.5, 72 * (side + gap) / (0.6 * max(longest, 1)))  # a letter is about 0.6 of its size wide
    for i, image in enumerate(images):
        left, top = i % cols * (side + gap), i // cols * pitch
        scale = 255 if image.dtype == np.uint8 else 1
        place = (left, left + side, top + tall, top)
        axes.imshow(image, cmap="gray", vmin=0, vmax=scale, extent=place, interpolation=smoothing)
        for number, (text, color) in enumerate(captions[i] if captions else []):
            y = top + tall + 0.04 + number * line
            axes.text(left + side / 2, y, text, size=size, color=color, ha="center", va="top")
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal", anchor="NW")
    axes.axis("off")
    return figure


def percent(share: float, digits: int = 0) -> str:
    """99% for 0.995 and <1% for 0.001: 100% and 0% are said of all and of none only."""
    least = 10.0**-digits
    rounded = round(100 * share, digits)
    if 0 < share < 1:
        rounded = min(rounded, 100 - least)
        if rounded < least:
            return f"<{least:.{digits}f}%"
    return f"{rounded:.{digits}f}%"


def so_far(epochs: int, steps: int) -> str:
    """Return how far a training came: "2 epochs and 1 step"."""
    parts = [quantity(number, noun) for number, noun in ((epochs, "epoch"), (steps, "step")) if number]
    return " and ".join(parts) or quantity(0, "epoch")
