"""Activations: layers without parameters.

``Dense(512, activation="relu")`` is the same network as ``Dense(512)`` followed by ``ReLU()``: an activation
is a link of its own in the chain, with its own forward and backward.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from npnet.internal import checks, config
from npnet.kernels import rules
from npnet.layers.layer import Layer

__all__ = [
    "ELU",
    "GELU",
    "NAMES",
    "SELU",
    "Activation",
    "Elementwise",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "ReLU",
    "RowWise",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "get",
]


class Elementwise(Layer):
    """y = f(x) element by element.

    Attributes
    ----------
    rule, rule_backward
        f and its derivative's product with dy, functions of ``kernels.rules``.
    remembers
        Which of "x" and "y" ``rule_backward`` wants.
    constants
        Further arguments of both rules.
    """

    rule: Callable[..., Any]
    rule_backward: Callable[..., Any]
    remembers = "x"

    @property
    def constants(self) -> tuple[float, ...]:
        """The numbers both rules take after their arrays."""
        return ()

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return y = rule(x)."""
        y = self.kernels.elementwise(self.rule, x, *self.constants)
        self.remembered = x if self.remembers == "x" else y
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return dx = rule_backward(dy, x or y)."""
        return self.kernels.elementwise(self.rule_backward, dy, self.remembered, *self.constants)


class ReLU(Elementwise):
    """y = max(x, 0).

    With options: y = max_value from max_value on, x from threshold on, negative_slope (x - threshold) below.

    Parameters
    ----------
    max_value
        Where y stops growing; None for nowhere.
    negative_slope
        Slope below the threshold.
    threshold
        Where the identity begins.
    """

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **options: Any,
    ):
        super().__init__(**options)
        self.max_value = None if max_value is None else checks.number("max_value", max_value, least=0)
        self.negative_slope = checks.number("negative_slope", negative_slope, least=0)
        self.threshold = checks.number("threshold", threshold, least=0)

    @property
    def plain(self) -> bool:
        """Whether this is max(x, 0)."""
        return self.max_value is None and self.negative_slope == 0 and self.threshold == 0

    @property
    def rule(self) -> Callable[..., Any]:  # type: ignore[override]
        """The plain rule where no option is used."""
        return rules.relu if self.plain else rules.bounded_relu

    @property
    def rule_backward(self) -> Callable[..., Any]:  # type: ignore[override]
        """Its derivative's product with dy."""
        return rules.relu_backward if self.plain else rules.bounded_relu_backward

    @property
    def remembers(self) -> str:  # type: ignore[override]
        """The plain rule's derivative can be read off y."""
        return "y" if self.plain else "x"

    @property
    def constants(self) -> tuple[float, ...]:
        """Slope, threshold and bound, unless this is the plain ReLU."""
        if self.plain:
            return ()
        bound = np.inf if self.max_value is None else self.max_value
        return self.negative_slope, self.threshold, bound


class LeakyReLU(Elementwise):
    """y = x where x > 0, else negative_slope x. (As a layer 0.3, by name "leaky_relu" 0.2, as in Keras.)"""

    rule = staticmethod(rules.leaky_relu)
    rule_backward = staticmethod(rules.leaky_relu_backward)

    changeable = ("trainable", "negative_slope")

    def __init__(self, negative_slope: float = 0.3, **options: Any):
        super().__init__(**options)
        self.negative_slope = checks.number("negative_slope", negative_slope)

    @property
    def constants(self) -> tuple[float, ...]:
        """The slope."""
        return (self.negative_slope,)


class ELU(Elementwise):
    """y = x where x > 0, else alpha (e^x - 1) (Clevert et al. 2016)."""

    rule = staticmethod(rules.elu)
    rule_backward = staticmethod(rules.elu_backward)

    changeable = ("trainable", "alpha")

    def __init__(self, alpha: float = 1.0, **options: Any):
        super().__init__(**options)
        self.alpha = checks.number("alpha", alpha)

    @property
    def constants(self) -> tuple[float, ...]:
        """The saturation value."""
        return (self.alpha,)


class RowWise(Layer):
    """Base of softmax and log-softmax: functions of the last axis."""

    def __init__(self, axis: int = -1, **options: Any):
        super().__init__(**options)
        if axis not in (-1, 1):
            raise ValueError(f"axis must be -1, the classes of (batch, classes), got {axis!r}.")
        self.axis = axis

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the input, which must be a vector."""
        if len(input_shape) != 1:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} expects (batch, classes), got (batch, "
                f"{', '.join(map(str, input_shape))}). Add Flatten() before it."
            )
        return input_shape


class Softmax(RowWise):
    """y_k = e^x_k / sum_j e^x_j."""

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the probabilities of each row."""
        self.y = self.kernels.softmax_forward(x)
        return self.y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return the product with the full Jacobian."""
        return self.kernels.softmax_backward(dy, self.y)


class LogSoftmax(RowWise):
    """y_k = x_k - log sum_j e^x_j."""

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the logarithms of each row's probabilities."""
        self.y = self.kernels.log_softmax_forward(x)
        return self.y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return the product with the full Jacobian."""
        return self.kernels.log_softmax_backward(dy, self.y)


class Sigmoid(Elementwise):
    """y = 1 / (1 + e^-x)."""

    rule = staticmethod(rules.sigmoid)
    rule_backward = staticmethod(rules.sigmoid_backward)
    remembers = "y"


class Tanh(Elementwise):
    """y = tanh x."""

    rule = staticmethod(rules.hyperbolic_tangent)
    rule_backward = staticmethod(rules.hyperbolic_tangent_backward)
    remembers = "y"


class Linear(Elementwise):
    """y = x."""

    rule = staticmethod(rules.linear)
    rule_backward = staticmethod(rules.linear_backward)
    remembers = "y"


class SELU(Elementwise):
    """y = 1.0507 elu(x, 1.6733) (Klambauer et al. 2017)."""

    rule = staticmethod(rules.selu)
    rule_backward = staticmethod(rules.selu_backward)


class Softplus(Elementwise):
    """y = log(1 + e^x)."""

    rule = staticmethod(rules.softplus)
    rule_backward = staticmethod(rules.softplus_backward)


class GELU(Elementwise):
    """y = x P(x), P the normal distribution function (Hendrycks & Gimpel 2016), exact as in Keras."""

    rule = staticmethod(rules.gelu)
    rule_backward = staticmethod(rules.gelu_backward)


class SiLU(Elementwise):
    """y = x sigmoid(x)."""

    rule = staticmethod(rules.silu)
    rule_backward = staticmethod(rules.silu_backward)


NAMES: dict[str, type[Layer]] = {
    "linear": Linear,
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "selu": SELU,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "softplus": Softplus,
    "softmax": Softmax,
    "log_softmax": LogSoftmax,
    "gelu": GELU,
    "silu": SiLU,
    "swish": SiLU,
}


FUNCTIONS: dict[Any, str] = {}  # those of ``npnet.activations``, and the names they have here


def get(identifier: Any) -> Layer | None:
    """Return the activation meant by a name, an instance or a dict; None for None.

    An instance is copied: each link remembers its own forward, so one given to two layers becomes two.
    """
    if identifier is None:
        return None
    if isinstance(identifier, str) and identifier == "leaky_relu":
        return LeakyReLU(0.2)
    if callable(identifier) and identifier in FUNCTIONS:
        return get(FUNCTIONS[identifier])
    if callable(identifier) and not isinstance(identifier, (Layer, type)):
        raise TypeError(
            "activation is a plain function, whose derivative npnet cannot know. Write it as a layer with"
            " forward and backward (examples/custom_layer.py shows how) and pass an instance of that."
        )
    activation = config.get("activation", identifier, Layer, NAMES)
    if type(activation).build not in (Layer.build, RowWise.build):
        raise TypeError(
            f"{type(activation).__name__} has something to build, so it is a layer of its own and not the"
            " activation of another: add it to the model after that one."
        )
    return copy.copy(activation)


class Activation(Layer):
    """An activation by name as a layer of its own: ``Activation("relu")``."""

    def __init__(self, activation: Any, **options: Any):
        super().__init__(**options)
        self.activation = get(activation) or Linear()

    def build(self, input_shape: tuple[int, ...], rng: np.random.Generator, dtype: np.dtype) -> None:
        """Build the activation."""
        self.activation.build(input_shape, rng, dtype)

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape the activation gives."""
        return self.activation.compute_output_shape(input_shape)

    def chain(self) -> list[Layer]:
        """Return the activation itself."""
        return [self.activation]
