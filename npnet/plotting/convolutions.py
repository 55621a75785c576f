"""What a network makes of one picture: its feature maps layer by layer, and where it looks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from npnet.internal import checks
from npnet.plotting.canvas import DPI, GREY, INK, PathLike, finish, mosaic, new_figure, percent
from npnet.plotting.inputs import check_classes, check_images, class_probabilities, in_unit

__all__ = [
    "FeatureMaps",
    "Occlusion",
    "convolves",
    "feature_map_images",
    "feature_maps",
    "occlude",
    "occlusion",
]

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def convolves(model: Any) -> bool:
    """Whether a model or a layer has filters, (kh, kw, C, F)."""
    return any(weight.ndim == 4 for weight in model.get_weights())


# --- feature maps -----------------------------------------------------------------------------------------


class FeatureMaps(NamedTuple):
    """Some of the feature maps of a layer: its name, the shape of all its maps, and pictures in 0..1."""

    name: str
    shape: tuple[int, ...]
    images: np.ndarray


def feature_maps(model: Any, image: np.ndarray, count: int = 8, path: PathLike | None = None) -> "Figure":
    """What a convolutional network makes of one picture, layer by layer.

    A row shows ``count`` feature maps of a layer, those with the most contrast first; an activation, a
    normalisation or a dropout behind it is part of it. Each map is scaled by itself: white is its largest
    number, black is zero, or its smallest number where that is negative.

    Parameters
    ----------
    model : Sequential
        The network.
    image : (H, W, 1) or (H, W, 3)
        A picture as the network takes it: uint8 in 0..255 or floats in 0..1.
    count : int
        How many maps of a layer to show at most.
    path : str or path, optional
        Where to save the picture.

    Raises
    ------
    ValueError
        If the network has no convolution, or the picture does not fit it.
    """
    rows = feature_map_images(model, image, count)
    side, gap, words = 80 / DPI, 8 / DPI, 1.5
    pitch, cols = side + gap, max(len(row.images) for row in rows)
    width, height = words + cols * pitch - gap, (len(rows) + 1) * pitch - gap
    subtitle = f"the {cols} maps of each layer with the most contrast; white is the largest number of a map"
    figure = new_figure(max(width, 5.2), height, "One picture, layer by layer", subtitle)
    axes = figure.subplots()
    picture = in_unit(check_images("image", np.asarray(image)[None]))
    shown = [("the picture", "", picture)]
    shown += [(row.name, " x ".join(map(str, row.shape)), row.images) for row in rows]
    for i, (name, shape, images) in enumerate(shown):
        top = i * pitch
        axes.text(0, top + 0.35 * side, name, size=9, color=INK, va="center")
        axes.text(0, top + 0.7 * side, shape, size=8.5, color=GREY, va="center")
        for j, picture in enumerate(images):
            left = words + j * pitch
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=(left, left + side, top + side, top))
    axes.set(xlim=(0, max(width, 5.2)), ylim=(height, 0), aspect="equal", anchor="NW")
    axes.axis("off")
    return finish(figure, path)


def feature_map_images(model: Any, image: np.ndarray, count: int = 8) -> list[FeatureMaps]:
    """Return the rows of ``feature_maps``."""
    count = checks.integer("count", count)
    x = check_images("image", np.asarray(image)[None])
    model(x)  # refuses what does not fit the network
    outputs: list[tuple[str, np.ndarray]] = []
    x = x.astype(model.dtype)
    for layer in model.layers:
        y = layer(x)
        if y.ndim != 4:
            break
        if convolves(layer) or (outputs and y.shape != x.shape):
            outputs.append((layer.name, y[0]))
        elif outputs:  # an activation or a normalisation of the layer before
            outputs[-1] = outputs[-1][0], y[0]
        x = y
    if not outputs:
        raise ValueError("model must have a convolution before it flattens its pictures, found none.")
    rows = []
    for name, y in outputs:
        maps = np.moveaxis(y, -1, 0)[np.argsort(-y.std(axis=(0, 1)), kind="stable")[:count]]
        low = np.minimum(maps.min(axis=(1, 2), keepdims=True), 0)
        reach = np.maximum(maps.max(axis=(1, 2), keepdims=True) - low, np.finfo(maps.dtype).tiny)
        rows.append(FeatureMaps(name, y.shape, (maps - low) / reach))
    return rows


# --- where it looks ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Occlusion:
    """How the probability of a class changes when a grey square covers a part of a picture.

    Attributes
    ----------
    picture : (H, W, 3) array
        The picture in 0..1.
    probability : float
        Of the class, for the whole picture.
    lowest : float
        The same for the square that costs most.
    drops : (H, W) array
        What the squares over a pixel take from the probability on average; negative where they add to it.
    """

    picture: np.ndarray
    probability: float
    lowest: float
    drops: np.ndarray

    @property
    def spotlight(self) -> np.ndarray:
        """The picture, as bright as what covering a pixel costs: where the network looks."""
        cost = np.maximum(self.drops, 0)
        return self.picture * (0.12 + 0.88 * cost / max(cost.max(), 1e-6))[..., None]


def occlude(model: Any, image: np.ndarray, label: int) -> Occlusion:
    """Cover a picture place by place with a grey square and ask the network each time.

    The square has a quarter of the picture's side and its mean colour. It moves by a quarter of its own side.

    Parameters
    ----------
    model : Sequential
        ``predict`` gives probabilities (N, K), or (N, 1) for the second of two classes.
    image : (H, W), (H, W, 1) or (H, W, 3)
        A picture as the network takes it: uint8 in 0..255 or floats in 0..1.
    label : int
        The class whose probability is watched.
    """
    image = check_images("image", np.asarray(image)[None])[0]
    height, width = image.shape[:2]
    side = max(1, min(height, width) // 4)
    starts = range(-side + 1, max(height, width), max(1, side // 4))
    squares = [
        (slice(max(top, 0), top + side), slice(max(left, 0), left + side))
        for top in starts if top < height
        for left in starts if left < width
    ]  # fmt: skip
    pictures = np.repeat(image[None], len(squares) + 1, axis=0)
    for picture, square in zip(pictures[1:], squares, strict=True):
        picture[square] = image.mean(axis=(0, 1))
    whole, *covered = class_probabilities(model, pictures)[:, label]
    lost, times = np.zeros((height, width)), np.zeros((height, width))
    for square, probability in zip(squares, covered, strict=True):
        lost[square] += whole - probability
        times[square] += 1
    colours = np.broadcast_to(image.reshape(height, width, -1), (height, width, 3))
    return Occlusion(in_unit(colours), float(whole), float(min(covered)), lost / times)


def occlusion(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    path: PathLike | None = None,
) -> "Figure":
    """Where a network looks: each picture above itself, lit where covering it lowers its class's probability.

    Parameters
    ----------
    model : Sequential
        ``predict`` gives probabilities (N, K).
    images, labels
        Some pictures as the network takes them, and the classes to watch.
    class_names : sequence of str
        For the captions.
    path : str or path, optional
        Where to save the picture.

    Raises
    ------
    ValueError
        If images, labels and class names do not match one another.
    """
    images = check_images("images", images)
    classes = check_classes("labels", labels, len(class_names))
    checks.same_length("labels", classes, "images", images)
    looks = [occlude(model, image, k) for image, k in zip(images, classes, strict=True)]
    captions = [
        [(f"{class_names[k]}, {percent(look.probability)}", INK)]
        for look, k in zip(looks, classes, strict=True)
    ]
    captions += [[(f"down to {percent(look.lowest)}", GREY)] for look in looks]
    pictures = [look.picture for look in looks] + [look.spotlight for look in looks]
    subtitle = "bright where a grey square lowers the probability of the class; below that, the lowest"
    figure = mosaic("Where the network looks", subtitle, np.stack(pictures), len(images), captions)
    return finish(figure, path)
