"""How weights begin.

All of glorot, he and lecun draw with a variance of ``scale / fan`` so that signals keep their size from
layer to layer; they differ in which fan they divide by:

    glorot  variance 1 / ((fan_in + fan_out) / 2)   Glorot & Bengio 2010
    he      variance 2 / fan_in                     He et al. 2015, for ReLU
    lecun   variance 1 / fan_in                     LeCun et al. 1998, for SELU

fan_in is the number of inputs that one output adds up, fan_out the number of outputs that one input reaches;
see ``fans``.

"uniform" draws from U(-sqrt(3 variance), sqrt(3 variance)); "normal" from a normal distribution truncated
at two standard deviations and widened so that its variance is again the one wanted (as Keras does).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np

from npnet.internal import checks, config, results

__all__ = [
    "NAMES",
    "TRUNCATED_DEVIATION",
    "Constant",
    "Dirac",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "RandomNormal",
    "RandomUniform",
    "VarianceScaling",
    "Whitening",
    "Zeros",
    "fans",
    "get",
    "patch_covariance",
    "truncated_normal",
]

DRAWN = 1 << 20  # numbers that are drawn at a time
TRUNCATED_DEVIATION = 0.87962566103423978  # standard deviation of a standard normal cut off at +-2


class Initializer(config.Configurable):
    """Draws the first value of a parameter."""

    results: ClassVar = {"__call__": results.of_shape}

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> np.ndarray:
        """Return a new array of ``shape`` and ``dtype``, drawing from ``rng`` if it draws at all."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__(shape, rng, dtype).")


class Constant(Initializer):
    """Every element is ``value``."""

    def __init__(self, value: float = 0.0):
        self.value = checks.number("value", value)

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> np.ndarray:
        """Return an array filled with ``value``."""
        return np.full(shape, self.value, dtype)


class Zeros(Constant):
    """Every element is 0."""

    def __init__(self) -> None:
        super().__init__(0.0)


class Ones(Constant):
    """Every element is 1."""

    def __init__(self) -> None:
        super().__init__(1.0)


class VarianceScaling(Initializer):
    """Draw with variance ``scale / fan``.

    Parameters
    ----------
    scale
        The variance of a weighted sum of ``fan`` unit signals.
    mode
        Which fan: "fan_in" (rows of a dense kernel), "fan_out" (columns) or "fan_avg", their mean.
    distribution
        "uniform" or "truncated_normal".
    seed
        An own stream for this initializer; by default it draws from the model's.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ):
        config.lookup("mode", mode, dict.fromkeys(("fan_in", "fan_out", "fan_avg")))
        config.lookup("distribution", distribution, dict.fromkeys(("uniform", "truncated_normal")))
        self.scale = checks.positive("scale", scale)
        self.mode = mode
        self.distribution = distribution
        self.seed = checks.optional_seed(seed)

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> np.ndarray:
        """Return weights of ``shape``, drawn in float64 and rounded to ``dtype``."""
        if self.seed is not None:
            rng = np.random.default_rng(self.seed)
        fan_in, fan_out = fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        deviation = np.sqrt(self.scale / fan)
        if self.distribution == "uniform":
            limit = np.sqrt(3) * deviation
            return _rounded(partial(rng.uniform, -limit, limit), shape, dtype)
        return np.asarray(truncated_normal(rng, shape) * (deviation / TRUNCATED_DEVIATION), dtype)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (fan_in, fan_out) of weights of a shape, as Keras counts them.

    The last two axes are inputs and outputs. Axes before them, as a convolution's kernel has them, are places
    that an output adds up: each multiplies both fans. For (3, 3, 64, 128) they are 9 * 64 and 9 * 128. A
    vector's are its length, those of a single number 1.
    """
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    places = math.prod(shape[:-2])
    return places * shape[-2], places * shape[-1]


def _rounded(draw: Callable[[int], Any], shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return numbers that are drawn in float64, some at a time: all together would take twice the room."""
    result = np.empty(shape, dtype)
    numbers = result.reshape(-1)
    for start in range(0, numbers.size, DRAWN):
        some = numbers[start : start + DRAWN]
        some[...] = draw(some.size)
    return result


def truncated_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from the standard normal distribution, again wherever the draw lies outside [-2, 2]."""
    values = np.asarray(rng.standard_normal(shape))
    while (outside := np.abs(values) > 2).any():
        values[outside] = rng.standard_normal(outside.sum())
    return values


class RandomUniform(Initializer):
    """U(minval, maxval): what "uniform" means, the default of Embedding."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None):
        self.minval = checks.number("minval", minval)
        self.maxval = checks.number("maxval", maxval, least=self.minval)
        self.seed = checks.optional_seed(seed)

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> np.ndarray:
        """Return weights of ``shape``, drawn in float64 and rounded to ``dtype``."""
        rng = rng if self.seed is None else np.random.default_rng(self.seed)
        return _rounded(partial(rng.uniform, self.minval, self.maxval), shape, dtype)


class RandomNormal(Initializer):
    """Normal of this mean and standard deviation."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None):
        self.mean = checks.number("mean", mean)
        self.stddev = checks.number("stddev", stddev, least=0)
        self.seed = checks.optional_seed(seed)

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> np.ndarray:
        """Return weights of ``shape``, drawn in float64 and rounded to ``dtype``."""
        rng = rng if self.seed is None else np.random.default_rng(self.seed)
        return _rounded(partial(rng.normal, self.mean, self.stddev), shape, dtype)


class GlorotUniform(VarianceScaling):
    """U(-L, L) with L = sqrt(6 / (fan_in + fan_out)); the default of Dense."""

    def __init__(self, seed: int | None = None):
        super().__init__(1.0, "fan_avg", "uniform", seed)


class GlorotNormal(VarianceScaling):
    """Truncated normal of variance 2 / (fan_in + fan_out)."""

    def __init__(self, seed: int | None = None):
        super().__init__(1.0, "fan_avg", "truncated_normal", seed)


class HeUniform(VarianceScaling):
    """U(-L, L) with L = sqrt(6 / fan_in)."""

    def __init__(self, seed: int | None = None):
        super().__init__(2.0, "fan_in", "uniform", seed)


class HeNormal(VarianceScaling):
    """Truncated normal of variance 2 / fan_in."""

    def __init__(self, seed: int | None = None):
        super().__init__(2.0, "fan_in", "truncated_normal", seed)


class LecunUniform(VarianceScaling):
    """U(-L, L) with L = sqrt(3 / fan_in)."""

    def __init__(self, seed: int | None = None):
        super().__init__(1.0, "fan_in", "uniform", seed)


class LecunNormal(VarianceScaling):
    """Truncated normal of variance 1 / fan_in."""

    def __init__(self, seed: int | None = None):
        super().__init__(1.0, "fan_in", "truncated_normal", seed)


class Dirac(Initializer):
    """Filters (kh, kw, C, F) of which the first min(C, F) let their channel pass: 1 at its centre, else 0.

    A convolution with padding "same" begins so as the identity on the channels it has filters for, and deep
    networks learn faster. Both sides of the window must be odd to have a centre. PyTorch's name.

    Parameters
    ----------
    others
        Initializer of the filters beyond the C-th, if there are any.
    """

    def __init__(self, others: Any = "lecun_uniform"):
        self.others = get(others)

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> np.ndarray:
        """Return the filters; ``others`` draws all of them, so F matters to no number of the first C."""
        if len(shape) < 3 or not all(size % 2 for size in shape[:-2]):
            raise ValueError(f"Dirac is for filters (kh, kw, C, F) with odd kh and kw, got shape {shape}.")
        filters = self.others(shape, rng, dtype)
        passing = np.arange(min(shape[-2:]))
        filters[..., passing] = 0
        centre = filters[tuple(size // 2 for size in shape[:-2])]  # (C, F)
        centre[passing, passing] = 1
        return filters


class Whitening(Initializer):
    """Filters (kh, kw, C, 2 kh kw C) whose outputs are uncorrelated on the patches of given pictures.

    With E the eigenvectors and l the eigenvalues of the patches' covariance, filter i is
    E[:, i] / sqrt(l[i] + epsilon), the largest l first; after them come the negatives of all, so that an
    activation such as ReLU loses nothing. Whoever looks at the data once need not learn these filters
    (Page 2019; Jordan 2024): freeze them.

    Parameters
    ----------
    covariance
        (kh kw C, kh kw C), as ``patch_covariance`` finds it.
    epsilon
        Keeps directions in which patches hardly vary from being blown up.

    Examples
    --------
    >>> layer = Conv2D(24, 2, kernel_initializer=Whitening(patch_covariance(x_train[:5000], 2)))
    >>> model = Sequential([Input((32, 32, 3)), layer, ...])
    >>> layer.kernel.trainable = False
    """

    def __init__(self, covariance: Any, epsilon: float = 5e-4):
        self.covariance = np.array(covariance, np.float64)
        if self.covariance.ndim != 2 or self.covariance.shape[0] != self.covariance.shape[1]:
            raise ValueError(f"covariance must be a square matrix, got shape {self.covariance.shape}.")
        if not np.isfinite(self.covariance).all():
            raise ValueError("covariance must be finite, got NaN or infinity.")
        self.epsilon = checks.positive("epsilon", epsilon)

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> np.ndarray:
        """Return the filters; nothing is drawn."""
        numbers = len(self.covariance)
        if math.prod(shape[:-1]) != numbers or shape[-1] != 2 * numbers:
            raise ValueError(
                f"Whitening with a covariance of {numbers} numbers a patch is for filters (kh, kw, C, F) with"
                f" kh kw C = {numbers} and F = {2 * numbers}, got shape {shape}."
            )
        eigenvalues, vectors = np.linalg.eigh(self.covariance)
        filters = (vectors / np.sqrt(np.maximum(eigenvalues, 0) + self.epsilon))[:, ::-1]
        return np.concatenate([filters, -filters], axis=1).reshape(shape).astype(dtype)


def patch_covariance(x: Any, kernel_size: Any) -> np.ndarray:
    """Return the mean of p p' over all patches p of pictures, for ``Whitening``.

    Parameters
    ----------
    x
        Pictures (N, H, W, C) as the convolution will get them: standardised.
    kernel_size
        (kh, kw), or one number for both.

    Returns
    -------
    numpy.ndarray
        (kh kw C, kh kw C) in float64, the numbers of a patch in the order (kh, kw, C). No mean is subtracted.
    """
    x = checks.array("x", x)
    kernel = (kernel_size, kernel_size) if np.ndim(kernel_size) == 0 else tuple(kernel_size)
    kh, kw = (checks.integer("kernel_size", size) for size in kernel)
    if x.ndim != 4 or not len(x) or x.shape[1] < kh or x.shape[2] < kw:
        raise ValueError(f"x must be pictures (N, H, W, C) of at least {kh} x {kw}, got shape {x.shape}.")
    total, count, size = 0.0, 0, kh * kw * x.shape[-1]
    for picture in x:  # few at a time: patches overlap and take kh kw times the memory
        patches = np.lib.stride_tricks.sliding_window_view(picture.astype(np.float64), (kh, kw), axis=(0, 1))
        rows = patches.transpose(0, 1, 3, 4, 2).reshape(-1, size)
        total, count = total + rows.T @ rows, count + len(rows)
    return np.asarray(total / count)


NAMES: dict[str, type[Initializer]] = {
    "zeros": Zeros,
    "ones": Ones,
    "constant": Constant,
    "variance_scaling": VarianceScaling,
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "he_uniform": HeUniform,
    "he_normal": HeNormal,
    "lecun_uniform": LecunUniform,
    "lecun_normal": LecunNormal,
    "dirac": Dirac,
    "random_uniform": RandomUniform,
    "uniform": RandomUniform,
    "random_normal": RandomNormal,
    "normal": RandomNormal,
}


FROM_DATA: dict[str, type[Initializer]] = {"whitening": Whitening}  # known in files, but by no name alone


def get(identifier: Any) -> Initializer:
    """Return the initializer meant by a name, an instance or a dict."""
    names = NAMES if isinstance(identifier, str) else NAMES | FROM_DATA
    return config.get("initializer", identifier, Initializer, names)
