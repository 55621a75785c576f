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
from typing import Any

import numpy as np

from npnet.internal import checks, config

__all__ = [
    "NAMES",
    "TRUNCATED_DEVIATION",
    "Constant",
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
    "Zeros",
    "fans",
    "get",
    "truncated_normal",
]

TRUNCATED_DEVIATION = 0.87962566103423978  # standard deviation of a standard normal cut off at +-2


class Initializer(config.Configurable):
    """Draws the first value of a parameter."""

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> np.ndarray:
        """Return a new array of ``shape`` and ``dtype``, drawing from ``rng`` if it draws at all."""
        raise NotImplementedError


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
            return np.asarray(rng.uniform(-limit, limit, shape), dtype)
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
        return np.asarray(rng.uniform(self.minval, self.maxval, shape), dtype)


class RandomNormal(Initializer):
    """Normal of this mean and standard deviation."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None):
        self.mean = checks.number("mean", mean)
        self.stddev = checks.number("stddev", stddev, least=0)
        self.seed = checks.optional_seed(seed)

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> np.ndarray:
        """Return weights of ``shape``, drawn in float64 and rounded to ``dtype``."""
        rng = rng if self.seed is None else np.random.default_rng(self.seed)
        return np.asarray(rng.normal(self.mean, self.stddev, shape), dtype)


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
    "random_uniform": RandomUniform,
    "uniform": RandomUniform,
    "random_normal": RandomNormal,
    "normal": RandomNormal,
}


def get(identifier: Any) -> Initializer:
    """Return the initializer meant by a name, an instance or a dict."""
    return config.get("initializer", identifier, Initializer, NAMES)
