"""Layers that come before a network: samples standardised, and pictures varied at random in training.

They take samples as the user has them, bytes too, so that a batch is all that is ever converted. Names,
arguments and meaning are Keras 3's.
"""

import math
from hashlib import blake2b
from typing import Any

import numpy as np

from npnet.internal import checks, config
from npnet.kernels.reference.more_pictures import places
from npnet.layers.layer import Layer, Shape
from npnet.layers.windows import channels_last

__all__ = [
    "FILL_MODES",
    "LEAST_DEVIATION",
    "Normalization",
    "Pictures",
    "PixelMover",
    "RandomFlip",
    "RandomTranslation",
    "choice",
    "limits",
]

LEAST_DEVIATION = 1e-7  # Keras's epsilon
FILL_MODES = ("constant", "mirror", "nearest", "reflect", "wrap")


class Normalization(Layer):
    """y = (x - mean) / max(sqrt(variance), 1e-7), feature by feature: of pictures, channel by channel.

    A feature that never varies becomes 0, as in Keras.

    Parameters
    ----------
    axis
        The features' axis; the last.
    mean, variance
        A number for all features, or one for each. Without them ``adapt`` finds them.

    Examples
    --------
    >>> standardise = Normalization()
    >>> standardise.adapt(x_train)
    """

    takes_integers = True

    @config.keras_arguments(invert=False)
    def __init__(self, axis: int = -1, mean: Any = None, variance: Any = None, **options: Any):
        super().__init__(**options)
        if axis != -1:
            raise ValueError(f"axis must be -1, the last axis, got {axis!r}.")
        if (mean is None) != (variance is None):
            raise ValueError("mean and variance must be given together, or neither and adapt called.")
        self.axis = axis
        self.mean: np.ndarray | None = None
        self.variance: np.ndarray | None = None
        self._spread: tuple[np.ndarray, np.ndarray] | None = None
        self.samples_shape: Shape | None = None  # until it is built
        if mean is not None:
            self.set_statistics(mean, variance)

    def set_statistics(self, mean: Any, variance: Any) -> None:
        """Standardise by this mean and this variance from now on: numbers, or one for each feature."""
        mean, variance = self.checked_statistics(mean, variance)
        vars(self).update(mean=mean, variance=variance)  # together, which no assignment can do
        self._spread = None

    def checked_statistics(self, mean: Any, variance: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance as arrays.

        Raises
        ------
        ValueError
            If one is not finite, a variance is below 0, or they do not fit the samples that the layer is
            built for.
        """
        mean, variance = np.array(mean, np.float64), np.array(variance, np.float64)
        for name, values in (("mean", mean), ("variance", variance)):
            if values.ndim > 1 or not np.isfinite(values).all():
                raise ValueError(f"{name} must be a finite number, or one for each feature, got {values!r}.")
        if not (variance >= 0).all():
            raise ValueError(f"variance must be at least 0, got {variance.min()}.")
        if self.samples_shape is not None:
            self._refuse_other_sizes(mean, variance, self.samples_shape)
        return mean, variance

    @property
    def deviation(self) -> np.ndarray:
        """What each feature is divided by: the square root of its variance, at least 1e-7."""
        return np.maximum(np.sqrt(self._required(self.variance)), LEAST_DEVIATION)

    def adapt(self, data: Any) -> None:
        """Take mean and variance from ``data`` (N, ..., features), which is only read, piece by piece."""
        x = checks.array("data", data)
        if x.ndim < 2 or not x.size:
            raise ValueError(f"data must be (samples, ..., features), got shape {x.shape}.")
        if self.built and self.input_shape is not None and x.shape[-1] != self.input_shape[-1]:
            raise ValueError(f"data must have {self.input_shape[-1]} features, got {x.shape[-1]}.")
        checks.finite("data", x)
        rows = max(1, checks.CHUNK // x[0].size)
        pieces = [x[start : start + rows] for start in range(0, len(x), rows)]
        count, axes = x.size // x.shape[-1], tuple(range(x.ndim - 1))
        mean = sum(piece.sum(axis=axes, dtype=np.float64) for piece in pieces) / count
        variance = sum(np.square(piece - mean).sum(axis=axes) for piece in pieces) / count
        self.set_statistics(mean, variance)

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Check that there is a mean and a variance for each feature, or one for all."""
        self._refuse_other_sizes(self._required(self.mean), self._required(self.variance), input_shape)
        self.float_dtype, self.samples_shape = np.dtype(dtype), input_shape

    def _refuse_other_sizes(self, mean: np.ndarray, variance: np.ndarray, sample_shape: Shape) -> None:
        """Refuse statistics that are not one for each feature of such samples, or one for all."""
        sizes = mean.size, variance.size
        if not {1, sample_shape[-1]}.issuperset(sizes):
            raise ValueError(
                f"Normalization {self.name!r} expects {sample_shape[-1]} means and variances, one for each"
                f" feature of samples of shape {sample_shape}, got {sizes[0]} and {sizes[1]}."
            )

    def _required(self, values: np.ndarray | None) -> np.ndarray:
        if values is None:
            raise RuntimeError(
                f"Normalization {self.name!r} has no mean and variance: call its adapt(data) before it is"
                " used, or give both."
            )
        return values

    def spread(self, sample_shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation of every number of a sample, in the model's dtype.

        Made when first needed: a model's file may describe samples that nobody has.
        """
        if self._spread is None or self._spread[0].size != math.prod(sample_shape):
            center, deviation = (
                np.broadcast_to(values, sample_shape).astype(self.float_dtype).reshape(-1)
                for values in (self._required(self.mean), self.deviation)
            )
            self._spread = center, deviation
        return self._spread

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return (x - mean) / deviation, of integers in the model's dtype."""
        dtype = x.dtype if x.dtype.kind == "f" else self.float_dtype
        center, deviation = (values.astype(dtype, copy=False) for values in self.spread(x.shape[1:]))
        return self.kernels.standardize(x.reshape(len(x), -1), center, deviation).reshape(x.shape)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return dy / deviation."""
        return dy / self.deviation.astype(dy.dtype, copy=False)


class Pictures(Layer):
    """Base of layers of pictures (N, H, W, C) that draw random numbers.

    Parameters
    ----------
    seed
        A random stream of its own; by default one derived from the model's seed.
    """

    takes_integers = True

    def __init__(self, seed: int | None = None, **options: Any):
        super().__init__(**options)
        self.seed = checks.optional_seed(seed)

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Keep the stream that is drawn from: one that weights drawn from ``rng`` have no part in."""
        self.rng = rng.spawn(1)[0] if self.seed is None else np.random.default_rng(self.seed)
        self.float_dtype = np.dtype(dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape, (height, width, channels)."""
        if len(input_shape) != 3:
            got = ", ".join(map(str, ("batch", *input_shape)))
            raise ValueError(
                f"{type(self).__name__} {self.name!r} expects pictures (batch, height, width, channels), got"
                f" ({got}). Put it before Flatten()."
            )
        return input_shape

    @property
    def stream(self) -> np.random.Generator:
        """The stream that is drawn from."""
        if self.rng is None:
            kind = type(self).__name__
            raise RuntimeError(f"{kind} {self.name!r} has no random numbers before it is built.")
        return self.rng

    def as_floats(self, x: np.ndarray) -> np.ndarray:
        """Return x, integers in the model's dtype."""
        return x if x.dtype.kind == "f" else x.astype(self.float_dtype)


class PixelMover(Pictures):
    """Lays the pixels of each picture (N, H, W, C) anew in training, in one of several ways; else y = x.

    Subclasses give ``arrangements(axis, size)``.
    """

    fill_value = 0.0

    def __init__(self, seed: int | None = None, data_format: str | None = None, **options: Any):
        super().__init__(seed, **options)
        self.data_format = channels_last(data_format)
        self.sides: Shape = ()  # of the pictures that rows and columns are for

    def arrangements(self, axis: int, size: int) -> np.ndarray:
        """Return the ways (., size) in which rows (axis 0) or columns (axis 1) may lie; -1: filled up."""
        raise NotImplementedError

    def choose(self, x: np.ndarray) -> np.ndarray:
        """Return (2, N): which of the ways the rows and the columns of each picture go, any as likely."""
        return self.stream.integers(0, [[len(self.rows)], [len(self.columns)]], (2, len(x)))

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return moved pixels in training, else x."""
        if not training:
            self.ways = None
            return x
        if self.sides != x.shape[1:3]:  # not before: a model's file may describe pictures that nobody has
            self.sides = x.shape[1:3]
            self.rows, self.columns = (self.arrangements(axis, x.shape[1 + axis]) for axis in (0, 1))
        if x.dtype.kind != "f" and x.dtype.type(self.fill_value) != self.fill_value:
            x = x.astype(self.float_dtype)
        self.ways = self.choose(x)
        return self.kernels.move_pixels(x, self.rows, self.columns, self.ways, self.fill_value)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return to each pixel the sum of what became of it."""
        if self.ways is None:
            return dy
        return self.kernels.move_pixels_backward(dy, self.rows, self.columns, self.ways)


class RandomFlip(PixelMover):
    """Mirrors each picture of a batch (N, H, W, C) with probability 1/2 in training.

    Parameters
    ----------
    mode
        "horizontal" (left becomes right), "vertical", or "horizontal_and_vertical", one coin for each.
    seed
        An own stream for the coins; by default one derived from the model's seed.
    data_format
        "channels_last" or None.
    alternate
        Toss each picture's coins once, and turn them over in every second epoch: then it is seen both ways in
        any two epochs, where chance shows every second picture the same way twice (Jordan 2024). The coins
        come from a hash of the picture, so this layer must get the same pixels in each epoch: put it first.
    """

    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        seed: int | None = None,
        data_format: str | None = None,
        alternate: bool = False,
        **options: Any,
    ):
        super().__init__(seed, data_format, **options)
        self.mode = choice("mode", mode, ("horizontal", "vertical", "horizontal_and_vertical"))
        self.alternate = checks.flag("alternate", alternate)
        self.epoch = 0

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Keep the stream, and with ``alternate`` the key that pictures are hashed with."""
        super().build(input_shape, rng, dtype)
        self.key = self.stream.bytes(16) if self.alternate else b""

    def on_epoch_begin(self, epoch: int) -> None:
        """Remember which epoch it is."""
        self.epoch = epoch

    def choose(self, x: np.ndarray) -> np.ndarray:
        """Return coins; with ``alternate`` each picture's own, turned over in every second epoch."""
        if not self.alternate:
            return super().choose(x)
        hashes = [blake2b(picture.tobytes(), digest_size=2, key=self.key).digest() for picture in x]
        coins = (np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 2).T + self.epoch) % 2
        return coins % np.array([[len(self.rows)], [len(self.columns)]])

    def arrangements(self, axis: int, size: int) -> np.ndarray:
        """Return the usual order and, where this axis is mirrored, the reverse."""
        order = np.arange(size)
        return (
            np.stack([order, order[::-1]]) if ("vertical", "horizontal")[axis] in self.mode else order[None]
        )


class RandomTranslation(PixelMover):
    """Shifts each picture of a batch (N, H, W, C) by a random number of whole pixels in training.

    As Keras's layer with ``interpolation="nearest"``, but that every whole shift is as likely as any other.

    Parameters
    ----------
    height_factor
        (lowest, highest) shift down as a share of the height, negative: up; one number f means (-f, f).
        Both ends are rounded to whole pixels and included: ``2 / 32`` of 32 rows gives -2, -1, 0, 1, 2.
    width_factor
        The same to the right, as a share of the width.
    fill_mode
        What comes in at the edge: "constant" ``fill_value``, "nearest" aaa|abcd|ddd, "reflect"
        cba|abcd|dcb, "mirror" dcb|abcd|cba, "wrap" bcd|abcd|abc.
    seed
        An own stream for the shifts; by default one derived from the model's seed.
    fill_value
        For "constant".
    data_format
        "channels_last" or None.
    """

    @config.keras_arguments(interpolation="nearest")
    def __init__(
        self,
        height_factor: Any,
        width_factor: Any,
        fill_mode: str = "reflect",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **options: Any,
    ):
        super().__init__(seed, data_format, **options)
        self.height_factor = limits("height_factor", height_factor)
        self.width_factor = limits("width_factor", width_factor)
        self.fill_mode = choice("fill_mode", fill_mode, FILL_MODES)
        self.fill_value = checks.number("fill_value", fill_value)

    def arrangements(self, axis: int, size: int) -> np.ndarray:
        """Return the order after each whole shift, the edge filled as ``fill_mode`` says."""
        low, high = (round(limit * size) for limit in (self.height_factor, self.width_factor)[axis])
        return places(np.arange(size) - np.arange(low, high + 1)[:, None], size, self.fill_mode)


def limits(name: str, factor: Any) -> tuple[float, float]:
    """Return (lowest, highest) of a factor, which may be one number for both directions."""
    low, high = (-factor, factor) if np.ndim(factor) == 0 else factor
    if not -1 <= low <= high <= 1:
        raise ValueError(
            f"{name} must be a share from 0 to 1, or (lowest, highest) from -1 to 1, got {factor!r}."
        )
    return float(low), float(high)


def choice(name: str, value: str, known: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of the known ones."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}.")
    return value
