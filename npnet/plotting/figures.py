"""Pictures of data, training and networks.

Every function returns a ``matplotlib.figure.Figure`` and, given a ``path``, also saves it there (png, svg
or pdf, by the ending). No display, window or global state of matplotlib is involved, so they work on a
server and in threads; a notebook shows the figure. ``figure.get_label()`` says in words what is to be seen.

Labels are class indices (N,) or (N, 1), or rows of K scores (one-hot or probabilities) whose largest is the
class. Images are (N, H, W), (N, H, W, 1) or (N, H, W, 3): uint8 in 0..255 or floats in 0..1.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from npnet.internal import checks
from npnet.internal.words import quantity
from npnet.plotting.canvas import (
    COLORS,
    GREY,
    HAIRLINE,
    INK,
    MARKERS,
    PathLike,
    finish,
    mosaic,
    new_figure,
    percent,
    tidy,
)
from npnet.plotting.curves import Panel, panels
from npnet.plotting.inputs import check_classes, check_images, class_probabilities

__all__ = [
    "confident_mistakes",
    "confusion_matrix",
    "decision_boundary",
    "first_layer_images",
    "first_layer_weights",
    "history_curves",
    "image_grid",
    "predictions",
]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_COUNTED = 25  # classes up to which the cells of a confusion matrix have numbers

# --- the pictures -----------------------------------------------------------------------------------------


def history_curves(history: Any, path: PathLike | None = None) -> "Figure":
    """Loss and metrics over the epochs, training against validation, the best epoch marked.

    Parameters
    ----------
    history : History or dict
        What ``fit`` returned, its ``history``: {"loss": [...], "val_loss": [...], "accuracy": [...]}, or what
        a run's history.json holds. Values that are not finite leave a gap. A History knows after which epochs
        validation ran; in a dict, shorter lists of it are spread evenly over the epochs.
    path : str or path, optional
        Where to save the picture.

    Raises
    ------
    ValueError
        If there is no epoch to draw, or the lists cannot belong to one run.
    """
    shown = panels(history)
    both = "training and validation" if any(len(panel.curves) > 1 for panel in shown) else "training"
    epochs = shown[0].curves[0].x
    # A letter of a title is about 0.095 inches wide, one of the words beside it 0.06.
    longest = max(0.095 * len(panel.title) + 0.06 * len(panel.words()) for panel in shown)
    width = max(4.5, longest + 1.2) * len(shown)
    figure = new_figure(width, 3.0, "Learning curves", f"{both} over {quantity(len(epochs), 'epoch')}")
    for axes, panel in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        _draw_curves(axes, panel)
    return finish(figure, path)


def image_grid(
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    rows: int = 4,
    cols: int = 8,
    path: PathLike | None = None,
) -> "Figure":
    """The first ``rows`` x ``cols`` images, each with the name and the index of its class.

    Raises
    ------
    ValueError
        If images, labels and class names do not match one another.
    """
    rows, cols = checks.integer("rows", rows), checks.integer("cols", cols)
    images = check_images("images", images)
    classes = check_classes("labels", labels, len(class_names))
    checks.same_length("labels", classes, "images", images)
    shown = min(rows * cols, len(images))
    subtitle = f"the first {shown} of {quantity(len(images), 'image')}, with class name and class index"
    captions = [[(f"{class_names[k]} ({k})", INK)] for k in classes[:shown]]
    return finish(mosaic("Images and their classes", subtitle, images[:shown], cols, captions), path)


def confusion_matrix(
    y_true: np.ndarray, y_pred: np.ndarray, class_names: Sequence[str], path: PathLike | None = None
) -> "Figure":
    """Which class is taken for which: counts in the cells, coloured by their share of the row.

    Of more than 25 classes the colours are left: thousands of numbers would be too small to read.

    Raises
    ------
    ValueError
        If labels and class names do not match one another.
    """
    size = len(class_names)
    true, predicted = check_classes("y_true", y_true, size), check_classes("y_pred", y_pred, size)
    checks.same_length("y_pred", predicted, "y_true", true)
    counts = np.zeros((size, size), dtype=int)
    np.add.at(counts, (true, predicted), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    right = percent(np.mean(true == predicted), 1)
    subtitle = f"{right} of {quantity(len(true), 'sample')} are right: the diagonal"
    has_counts = size <= MOST_COUNTED
    side = max(4.2, (0.55 if has_counts else 0.13) * size + 0.9)
    figure = new_figure(side, side, "Confusion matrix", subtitle)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_anchor("NW")
    if has_counts:
        for (row, column), number in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else INK if number else HAIRLINE
            weight = "bold" if row == column else "normal"
            axes.text(
                column, row, f"{number}", color=color, weight=weight, size=8.5, ha="center", va="center"
            )
    slant = {"rotation": 40} if has_counts else {"rotation": 90, "va": "center"}
    axes.set_xticks(range(size), class_names, ha="right", rotation_mode="anchor", **slant)
    axes.set_yticks(range(size), class_names)
    axes.set_xlabel("the network's answer")
    axes.set_ylabel("the true class")
    tidy(axes, spines=())
    if not has_counts:
        axes.tick_params(labelsize=6)
    return finish(figure, path)


def first_layer_weights(
    model: Any, image_shape: tuple[int, ...], count: int = 64, path: PathLike | None = None
) -> "Figure":
    """What the first layer looks for: the weights of its strongest units or filters, as pictures.

    A filter of a convolution is a small picture already; a dense unit's weights are folded back into one.

    Each picture is scaled by its own largest weight: middle grey is 0, brighter is positive, darker negative.

    Parameters
    ----------
    model : Sequential or (D, M) or (kh, kw, C, F) array
        The network, or the weights of its first Dense layer or, (kh, kw, C, F), of its first convolution.
    image_shape : (H, W), (H, W, 1) or (H, W, 3)
        The shape of an image before it was flattened to D numbers.
    count : int
        How many units or filters to show, those with the largest norm first.
    path : str or path, optional
        Where to save the picture.

    Raises
    ------
    ValueError
        If the weights do not belong to images of this shape, or are not finite.
    """
    images, noun, total = first_layer_images(model, image_shape, count)
    subtitle = f"the {len(images)} of {quantity(total, noun)} with the largest weights; grey is zero"
    cols = min(16, len(images))
    return finish(mosaic("What the first layer looks for", subtitle, images, cols), path)


def first_layer_images(
    model: Any, image_shape: tuple[int, ...], count: int = 64
) -> tuple[np.ndarray, str, int]:
    """Return the pictures of ``first_layer_weights`` in 0..1, "unit" or "filter", and how many there are."""
    count = checks.integer("count", count)
    arrays = model.get_weights() if hasattr(model, "get_weights") else [np.asarray(model)]
    weight = next((array for array in arrays if array.ndim in (2, 4)), None)
    if weight is None:
        raise ValueError(
            "model must have a built Dense layer or convolution, found none. Call build or fit first."
        )
    noun = "unit" if weight.ndim == 2 else "filter"
    if noun == "filter":
        if weight.shape[2] not in (1, 3):
            raise ValueError(
                "model must look at pictures of 1 or 3 channels first, got filters of"
                f" {weight.shape[2]} channels."
            )
        image_shape = weight.shape[:3]
        weight = weight.reshape(-1, weight.shape[3])
    if len(weight) != math.prod(image_shape):
        raise ValueError(
            f"image_shape must hold {len(weight)} numbers, the inputs of the first layer,"
            f" got {tuple(image_shape)} of {math.prod(image_shape)}."
        )
    if not np.isfinite(weight).all():
        raise ValueError("model must have finite weights, got nan or inf. Did the training diverge?")
    strongest = np.argsort(-np.linalg.norm(weight, axis=0), kind="stable")[:count]
    units = weight[:, strongest].T
    units = units / np.maximum(np.abs(units).max(axis=1, keepdims=True), np.finfo(units.dtype).tiny)
    return check_images("image_shape", (0.5 + 0.5 * units).reshape(-1, *image_shape)), noun, weight.shape[1]


def confident_mistakes(
    images: np.ndarray,
    y_true: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    count: int = 25,
    path: PathLike | None = None,
) -> "Figure":
    """The wrongly classified images of which the network was surest: its answer, how sure, and the truth.

    Raises
    ------
    ValueError
        If images, labels, probabilities and class names do not match one another.
    """
    count = checks.integer("count", count)
    images = check_images("images", images)
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.shape[1] != len(class_names):
        raise ValueError(
            f"probabilities must be (N, {len(class_names)}), a column a class, got {probabilities.shape}."
            " Pass what model.predict returns."
        )
    true = check_classes("y_true", y_true, len(class_names))
    answer = check_classes("probabilities", probabilities, len(class_names))
    checks.same_length("y_true", true, "images", images)
    checks.same_length("probabilities", answer, "images", images)
    wrong = np.flatnonzero(answer != true)
    shown = wrong[np.argsort(-probabilities[wrong, answer[wrong]], kind="stable")][:count]
    if len(wrong):
        subtitle = f"the surest {len(shown)} of {quantity(len(wrong), 'mistake')}: answer, probability, truth"
    else:
        subtitle = f"none: {quantity(len(true), 'image')}, no mistake"
    captions = [
        [(f"{class_names[answer[i]]}, {percent(probabilities[i, answer[i]], 1)}", COLORS[1]),
         (f"true: {class_names[true[i]]}", INK)]
        for i in shown
    ]  # fmt: skip
    cols = max(1, math.ceil(math.sqrt(len(shown))))
    return finish(mosaic("The most confident mistakes", subtitle, images[shown], cols, captions), path)


def predictions(
    true: np.ndarray, predicted: np.ndarray, name: str = "value", path: PathLike | None = None
) -> "Figure":
    """What a network predicts of a quantity beside the truth, and how its residuals are distributed.

    Parameters
    ----------
    true, predicted : (N,) array
        In the same unit. A residual is predicted - true.
    name : str
        What the quantity is called.
    path : str or path, optional
        Where to save the picture.
    """
    true, predicted = (np.asarray(values, np.float64).reshape(-1) for values in (true, predicted))
    checks.same_length("predicted", predicted, "true", true)
    residuals = predicted - true
    subtitle = f"mean absolute error {np.abs(residuals).mean():.4g} on {quantity(len(true), 'row')}"
    figure = new_figure(7.6, 3.9, f"Predicted {name}", subtitle)
    left, right = figure.subplots(1, 2)
    ends = min(true.min(), predicted.min()), max(true.max(), predicted.max())
    left.plot(ends, ends, color=INK, lw=0.8)
    left.plot(true, predicted, ".", color=COLORS[0], ms=4, alpha=0.5)
    left.set_xlabel("true", color=INK)
    left.set_ylabel("predicted", color=INK)
    right.hist(residuals, bins=40, color=COLORS[0])
    right.axvline(0, color=INK, lw=0.8)
    right.set_xlabel("residual: predicted - true", color=INK)
    right.set_ylabel("rows", color=INK)
    for axes in (left, right):
        axes.locator_params(nbins=5)
        tidy(axes)
    return finish(figure, path)


def decision_boundary(
    model: Any,
    x: np.ndarray,
    y: np.ndarray,
    path: PathLike | None = None,
    class_names: Sequence[str] | None = None,
) -> "Figure":
    """What the network answers everywhere in the plane, with the data on top.

    Parameters
    ----------
    model : Sequential
        ``predict`` gives probabilities (N, K), or (N, 1) for the second of two classes.
    x : (N, 2) array
        Points of the plane.
    y : array
        Their labels.
    path : str or path, optional
        Where to save the picture.
    class_names : sequence of str, optional
        For the legend; by default "class 0", "class 1" ...

    Raises
    ------
    ValueError
        If these are not points of a plane, or do not match the labels or the class names.
    """
    from matplotlib.colors import to_rgb

    x = np.asarray(x, dtype=np.float32)
    if x.ndim != 2 or x.shape[1] != 2 or not len(x):
        raise ValueError(f"x must be points of the plane, (N, 2), got shape {x.shape}.")
    checks.finite("x", x)
    center, reach = (x.min(axis=0) + x.max(axis=0)) / 2, 0.54 * np.ptp(x, axis=0).max() or 1.0
    (left, bottom), (right, top) = center - reach, center + reach
    steps = 300
    columns, rows = np.linspace(left, right, steps), np.linspace(bottom, top, steps)
    plane = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    probabilities = class_probabilities(model, plane)
    size = probabilities.shape[1]
    true = check_classes("y", y, size)
    checks.same_length("y", true, "x", x)
    answer = class_probabilities(model, x).argmax(axis=1)
    names = [f"class {k}" for k in range(size)] if class_names is None else class_names
    if len(names) != size:
        raise ValueError(f"class_names must hold {size} names, one a class, got {len(names)}.")

    subtitle = (
        f"{percent(np.mean(answer == true), 1)} of {quantity(len(x), 'point')} lie in the area of their class"
    )
    figure = new_figure(4.9, 3.9, "Decision boundary", subtitle)
    axes = figure.subplots()
    palette = np.array([to_rgb(COLORS[k % len(COLORS)]) for k in range(size)])
    tint = (1 - 0.4 * (1 - probabilities @ palette)).reshape(steps, steps, 3)
    axes.imshow(tint, extent=(left, right, bottom, top), origin="lower")
    axes.set_anchor("NW")
    axes.locator_params(nbins=5)
    for k in range(size):
        lead = probabilities[:, k] - np.delete(probabilities, k, axis=1).max(axis=1)
        if lead.min() < 0 < lead.max():
            lead = lead.reshape(steps, steps)
            axes.contour(columns, rows, lead, levels=[0], colors="white", linewidths=1.5)
        points, marker = x[true == k].T, MARKERS[k % len(MARKERS)]
        axes.plot(*points, marker, color=palette[k], ms=5, mec="white", mew=0.6, label=names[k])
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, labelcolor=INK, fontsize=9)
    tidy(axes, spines=())
    return finish(figure, path)


# --- how they are drawn -----------------------------------------------------------------------------------


def _draw_curves(axes: "Axes", panel: Panel) -> None:
    """One panel of ``history_curves``: the curves, named where they end, and the best epoch."""
    from matplotlib.ticker import MaxNLocator

    first, last = panel.curves[0].x[0], panel.curves[0].x[-1]
    size = 3 if last - first < 40 else 0
    ends = []
    for color, curve in zip(COLORS, panel.curves, strict=False):
        y = np.where(np.isfinite(curve.y), curve.y, np.nan)
        axes.plot(curve.x, y, color=color, lw=1.8, marker="o", ms=size, clip_on=False)
        if curve.points:
            value = curve.points[-1][1]
            ends.append((value, f"{curve.name}\n{value:.4f}", color))
    if panel.best:
        axes.axvline(panel.best[0], color=color, lw=1, ls=(0, (1, 2)), zorder=1)
        axes.plot(*panel.best, "o", ms=9, mfc="none", mec=color, mew=1.5, clip_on=False)
    axes.set_title(panel.title, loc="left", size=10.5, weight="bold", color=INK)
    axes.set_title(panel.words(), loc="right", size=8.5, color=GREY)
    axes.set_xlabel("epoch")
    axes.set_xlim(*((first, last) if first < last else (first - 0.5, first + 0.5)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.margins(y=0.08)
    axes.grid(axis="y", color=HAIRLINE, lw=0.6)
    tidy(axes)
    _label_ends(axes, sorted(ends))


def _label_ends(axes: "Axes", ends: list[tuple[float, str, str]]) -> None:
    """Write each curve's name beside its end, lowest first, pushed apart where they would touch."""
    bottom, top = axes.get_ylim()
    heights = [(y - bottom) / (top - bottom) for y, _, _ in ends]
    if len(heights) == 2:
        push = max(0.0, 0.15 - (heights[1] - heights[0])) / 2
        heights = [heights[0] - push, heights[1] + push]
    for height, (_, text, color) in zip(heights, ends, strict=True):
        axes.text(1.03, height, text, transform=axes.transAxes, color=color, size=8.5, va="center")
