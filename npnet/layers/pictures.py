"""Layers that cut, resize and vary pictures (N, H, W, C). Names, arguments and meaning are Keras 3's.

The formulas are in ``kernels.reference.more_pictures``, which both kernel sets use. The random ones change
pictures in training only, each with numbers of its own; a model learns that the change does not matter.
"""

from typing import Any

import numpy as np

from npnet.internal import checks, config
from npnet.kernels.reference import more_pictures as formulas
from npnet.layers.layer import Layer, Shape, refuse_larger
from npnet.layers.preprocessing import FILL_MODES, Pictures, choice, limits

__all__ = [
    "CenterCrop",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomRotation",
    "RandomZoom",
    "Resizing",
]


# --- of another size ----------------------------------------------------------------------------------------


class Resizing(Pictures):
    """Pictures of another height and width.

    Parameters
    ----------
    height, width
        The new size.
    interpolation
        "bilinear" or "nearest".
    """

    @config.keras_arguments(
        crop_to_aspect_ratio=False,
        pad_to_aspect_ratio=False,
        fill_mode="constant",
        fill_value=0.0,
        antialias=False,
        data_format=None,
    )
    def __init__(self, height: int, width: int, interpolation: str = "bilinear", **options: Any):
        Layer.__init__(self, **options)
        self.height, self.width = checks.integer("height", height), checks.integer("width", width)
        self.interpolation = choice("interpolation", interpolation, ("bilinear", "nearest"))

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Remember in which dtype bytes are to be resized."""
        self.float_dtype = np.dtype(dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (height, width, channels)."""
        return resized(self, super().compute_output_shape(input_shape))

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return R x S' of each picture."""
        x = self.as_floats(x)
        nearest = self.interpolation == "nearest"
        self.rows, self.columns = (
            formulas.resizing(size, new, nearest).astype(x.dtype)
            for size, new in zip(x.shape[1:3], (self.height, self.width), strict=True)
        )
        return formulas.resize(x, self.rows, self.columns)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return R' dy S."""
        return formulas.resize_backward(dy, self.rows, self.columns)


def resized(layer: Any, shape: Shape) -> Shape:
    """Return the shape of pictures with a layer's height and width; refuse matrices beyond all memory."""
    for size, new in zip(shape, (layer.height, layer.width), strict=False):
        refuse_larger(layer, "matrix", (new, size))
    return (layer.height, layer.width, shape[-1])


class CenterCrop(Pictures):
    """The middle of each picture.

    Of pictures that are smaller, the largest window in the middle with this aspect ratio is enlarged instead.

    Parameters
    ----------
    height, width
        The size of what stays.
    """

    @config.keras_arguments(data_format=None)
    def __init__(self, height: int, width: int, **options: Any):
        Layer.__init__(self, **options)
        self.height, self.width = checks.integer("height", height), checks.integer("width", width)

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Remember in which dtype bytes are to be enlarged."""
        self.float_dtype = np.dtype(dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (height, width, channels)."""
        return resized(self, super().compute_output_shape(input_shape))

    def enlarges(self, rows: int, columns: int) -> bool:
        """Tell whether pictures of these sides are too small to be cut."""
        return rows < self.height or columns < self.width

    def corners(self, x: np.ndarray, training: bool) -> tuple[Any, Any]:
        """Return the first row and the first column of what stays."""
        return (x.shape[1] - self.height) // 2, (x.shape[2] - self.width) // 2

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return what stays of each picture."""
        self.enlarging = None
        if self.enlarges(*x.shape[1:3]):
            x = self.as_floats(x)
            rows, columns = formulas.filling(x.shape[1:3], (self.height, self.width))
            self.enlarging = rows.astype(x.dtype), columns.astype(x.dtype)
            return formulas.resize(x, *self.enlarging)
        top, left = (np.broadcast_to(first, len(x)) for first in self.corners(x, training))
        self.shape = x.shape
        self.kept = (
            np.arange(len(x))[:, None, None],
            (top[:, None] + np.arange(self.height))[:, :, None],
            (left[:, None] + np.arange(self.width))[:, None, :],
        )
        return x[self.kept]

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return dy at the place it was cut from, 0 around it; R' dy S of what was enlarged."""
        if self.enlarging is not None:
            return formulas.resize_backward(dy, *self.enlarging)
        dx = np.zeros(self.shape, dy.dtype)
        dx[self.kept] = dy
        return dx


class RandomCrop(CenterCrop):
    """A part of each picture: in training anywhere, else the middle.

    Of pictures that are smaller, the largest window in the middle with this aspect ratio is enlarged instead.
    So Keras documents it; Keras 3.15 itself enlarges a window of another aspect ratio in training, and
    outside of training it leaves all pictures as they are.

    Parameters
    ----------
    height, width
        The size of what stays.
    seed
        A random stream of its own; by default one derived from the model's seed.
    """

    @config.keras_arguments(data_format=None)
    def __init__(self, height: int, width: int, seed: int | None = None, **options: Any):
        super().__init__(height, width, **options)
        self.seed = checks.optional_seed(seed)

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Keep the stream that is drawn from."""
        Pictures.build(self, input_shape, rng, dtype)

    def corners(self, x: np.ndarray, training: bool) -> tuple[Any, Any]:
        """Return random places in training, else the middle's."""
        if not training:
            return super().corners(x, training)
        highest = [[x.shape[1] - self.height + 1], [x.shape[2] - self.width + 1]]
        top, left = self.stream.integers(0, highest, (2, len(x)))
        return top, left


# --- of another light ---------------------------------------------------------------------------------------


class RandomLight(Pictures):
    """Base of brightness and contrast: y = f x + g mean(x) + d, kept inside ``value_range``."""

    @config.keras_arguments(data_format=None)
    def __init__(self, factor: Any, value_range: Any = (0, 255), seed: int | None = None, **options: Any):
        super().__init__(seed, **options)
        self.factor = self.check_factor(factor)
        low, high = (checks.number("value_range", value) for value in value_range)
        if low >= high:
            raise ValueError(f"value_range must be (lowest, highest), got {value_range!r}.")
        self.value_range = (low, high)

    def check_factor(self, factor: Any) -> tuple[float, float]:
        """Return the two bounds that ``factor`` says."""
        return limits("factor", factor)

    def draw(self, n: int) -> tuple[Any, Any, Any]:
        """Return f, g and d of n pictures, each a number or of shape (n, 1, 1, 1)."""
        raise NotImplementedError

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return pictures of another light in training, else x."""
        if not training:
            self.changed = None
            return x
        x = self.as_floats(x)
        f, g, d = (np.asarray(number, x.dtype) for number in self.draw(len(x)))
        y = f * x + g * x.mean(axis=(1, 2), keepdims=True) + d
        low, high = self.value_range
        self.changed = f, g, (y > low) & (y < high)
        return np.clip(y, low, high)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return f dy + g mean(dy), of what was not cut off."""
        if self.changed is None:
            return dy
        f, g, inside = self.changed
        dy = np.where(inside, dy, 0)
        return f * dy + g * dy.mean(axis=(1, 2), keepdims=True)


class RandomBrightness(RandomLight):
    """y = x + d (highest - lowest value) with a random d for each picture.

    Parameters
    ----------
    factor
        (lowest, highest) d, from -1 to 1; one number f means (-f, f).
    value_range
        Of the pixels: results are kept inside it.
    seed
        A random stream of its own; by default one derived from the model's seed.
    """

    def draw(self, n: int) -> tuple[Any, Any, Any]:
        """Return 1, 0 and a shift for each picture."""
        low, high = self.value_range
        return 1, 0, self.stream.uniform(*self.factor, (n, 1, 1, 1)) * (high - low)


class RandomContrast(RandomLight):
    """y = m + f (x - m), m the mean of a channel of the picture, with a random f for each picture.

    Parameters
    ----------
    factor
        (a, b): f lies between 1 - a and 1 + b; one number a means (a, a).
    value_range
        Of the pixels: results are kept inside it.
    seed
        A random stream of its own; by default one derived from the model's seed.
    """

    def check_factor(self, factor: Any) -> tuple[float, float]:
        """Return (a, b)."""
        both = (factor, factor) if np.ndim(factor) == 0 else tuple(factor)
        for number in both:
            checks.number("factor", number, 0, 1)
        limits("factor", (-both[0], both[1]))
        return both

    def draw(self, n: int) -> tuple[Any, Any, Any]:
        """Return f, 1 - f and 0."""
        f = self.stream.uniform(1 - self.factor[0], 1 + self.factor[1], (n, 1, 1, 1))
        return f, 1 - f, 0


# --- turned and zoomed --------------------------------------------------------------------------------------


class RandomView(Pictures):
    """Base of rotation and zoom: pixel (i, j) is read at a place linear in i and j about the middle."""

    @config.keras_arguments(data_format=None)
    def __init__(
        self,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        **options: Any,
    ):
        super().__init__(seed, **options)
        self.fill_mode = choice("fill_mode", fill_mode, FILL_MODES)
        self.interpolation = choice("interpolation", interpolation, ("bilinear", "nearest"))
        self.fill_value = checks.number("fill_value", fill_value)

    def draw(self, n: int) -> np.ndarray:
        """Return a matrix for each picture, (n, 2, 2): place = matrix (i, j), from the middle."""
        raise NotImplementedError

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return other views in training, else x."""
        if not training:
            self.read = None
            return x
        x = self.as_floats(x)
        sides = x.shape[1:3]
        middle = [(side - 1) / 2 for side in sides]
        i, j = np.meshgrid(
            *(np.arange(side) - m for side, m in zip(sides, middle, strict=True)), indexing="ij"
        )
        (a, b), (c, d) = self.draw(len(x)).transpose(1, 2, 0)[..., None, None]
        rows, columns = a * i + b * j + middle[0], c * i + d * j + middle[1]
        nearest = self.interpolation == "nearest"
        self.read = sides, rows, columns, self.fill_mode, nearest
        return formulas.read_between(x, rows, columns, self.fill_mode, self.fill_value, nearest)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return to each pixel its share of what was read from it."""
        return dy if self.read is None else formulas.read_between_backward(dy, *self.read)


class RandomRotation(RandomView):
    """Turns each picture by a random angle about its middle.

    Parameters
    ----------
    factor
        (lowest, highest) angle as a fraction of a full turn, counter-clockwise; one number f means (-f, f).
    fill_mode, fill_value
        What comes in at the edge; see ``RandomTranslation``.
    interpolation
        "bilinear" or "nearest".
    seed
        A random stream of its own; by default one derived from the model's seed.
    """

    def __init__(
        self,
        factor: Any,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        **options: Any,
    ):
        super().__init__(fill_mode, interpolation, seed, fill_value, **options)
        self.factor = limits("factor", factor)

    def draw(self, n: int) -> np.ndarray:
        """Return the matrices of n rotations."""
        angle = 2 * np.pi * self.stream.uniform(*self.factor, n)
        cos, sin = np.cos(angle), np.sin(angle)
        return np.array([[cos, sin], [-sin, cos]]).transpose(2, 0, 1)


class RandomZoom(RandomView):
    """Zooms each picture about its middle.

    Parameters
    ----------
    height_factor
        (lowest, highest) z, -1 to 1: 1 + z rows are shown as one, so negative ones zoom in. One number f
        means (-f, f).
    width_factor
        The same of columns; None keeps the shape of what is shown.
    fill_mode, fill_value
        What comes in at the edge; see ``RandomTranslation``.
    interpolation
        "bilinear" or "nearest".
    seed
        A random stream of its own; by default one derived from the model's seed.
    """

    def __init__(
        self,
        height_factor: Any,
        width_factor: Any = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        **options: Any,
    ):
        super().__init__(fill_mode, interpolation, seed, fill_value, **options)
        self.height_factor = limits("height_factor", height_factor)
        self.width_factor = None if width_factor is None else limits("width_factor", width_factor)

    def draw(self, n: int) -> np.ndarray:
        """Return the matrices of n zooms."""
        matrices = np.zeros((n, 2, 2))
        matrices[:, 0, 0] = matrices[:, 1, 1] = 1 + self.stream.uniform(*self.height_factor, n)
        if self.width_factor is not None:
            matrices[:, 1, 1] = 1 + self.stream.uniform(*self.width_factor, n)
        return matrices
