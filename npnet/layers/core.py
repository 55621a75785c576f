"""Layers with something of their own to do: Dense and its companions, and every activation as a layer."""

import math
from typing import Any

import numpy as np

from npnet import constraints, initializers, regularizers
from npnet.internal import checks, config
from npnet.layers import activations
from npnet.layers.layer import Layer, Shape, check_shape
from npnet.layers.parameter import Parameter
from npnet.layers.windows import channels_last, expect_places

__all__ = [
    "BatchNormalization", "Dense", "Dropout", "Flatten", "Input", "Rescaling", "SpatialDropout2D",
]  # fmt: skip


class Input(Layer):
    """States the shape of one sample; not listed among a model's layers.

    Parameters
    ----------
    shape
        Without the batch axis: ``Input(shape=(3072,))``.
    """

    @config.keras_arguments(
        batch_size=None, dtype=None, sparse=None, ragged=None, tensor=None, optional=False
    )
    def __init__(self, shape: Shape, name: str | None = None):
        super().__init__(name=name, input_shape=check_shape("shape", shape))
        self.shape = self.input_shape


class Dense(Layer):
    """y = activation(x W + b).

    Parameters
    ----------
    units
        M, the number of outputs.
    activation
        A name, an instance, or None for none.
    use_bias
        False leaves b out.
    kernel_initializer, bias_initializer
        How W (D, M) and b (M,) begin.
    kernel_regularizer, bias_regularizer
        Penalties on them, for instance ``"l2"`` or ``L2(1e-4)``.
    kernel_constraint, bias_constraint
        What each step ends with, for instance ``MaxNorm(3)``.
    """

    changeable = ("trainable", "activation")

    @config.keras_arguments(
        lora_rank=None,
        lora_alpha=None,
        quantization_config=None,
    )
    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **options: Any,
    ):
        super().__init__(**options)
        if not isinstance(units, (int, np.integer)) or isinstance(units, bool) or units < 1:
            raise ValueError(f"units must be a positive integer, got {units!r}.")
        self.units = int(units)
        self.activation = activations.get(activation)
        self.use_bias = checks.flag("use_bias", use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Create W (D, M) and b (M,)."""
        shape = (*input_shape, self.units)
        self.weight = self.add_parameter(
            "kernel", shape, self.kernel_initializer, rng, dtype, self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )  # fmt: skip
        self.bias = (
            self.add_parameter(
                "bias", (self.units,), self.bias_initializer, rng, dtype, self.bias_regularizer,
                constraint=self.bias_constraint,
            )
            if self.use_bias
            else None
        )  # fmt: skip

    @property
    def kernel(self) -> Parameter:
        """W under Keras's name."""
        return self.weight

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (M,)."""
        if len(input_shape) != 1:
            got = ", ".join(map(str, input_shape))
            each_step = f" The same weights for each step: Conv1D({self.units}, 1)."
            raise ValueError(
                f"Dense {self.name!r} expects (batch, features), got (batch, {got}). Flatten first: "
                f"x.reshape(len(x), {math.prod(input_shape)}), or add Flatten()."
                f"{each_step if len(input_shape) == 2 else ''}"
            )
        return (self.units,)

    def chain(self) -> list[Layer]:
        """Return the affine map and, if there is one, the activation."""
        return [self] if self.activation is None else [self, self.activation]

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return x W + b: the affine map alone, the activation is the next link of the chain."""
        self.x = x
        bias = None if self.bias is None else self.bias.numbers
        return self.kernels.dense_forward(x, self.weight.numbers, bias)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Set dW and db, return dx."""
        self.backward_parameters(dy)
        return self.backward_input(dy)

    def backward_parameters(self, dy: np.ndarray) -> None:
        """How should I change?  dW = x' dy,  db = column sums of dy."""
        self.weight.grad, dbias = self.kernels.dense_backward_parameters(self.x, dy)
        if self.bias is not None:
            self.bias.grad = dbias

    def backward_input(self, dy: np.ndarray) -> np.ndarray:
        """Whom do I blame?  dx = dy W'."""
        return self.kernels.dense_backward_input(dy, self.weight.numbers)


class Flatten(Layer):
    """(N, H, W, C) -> (N, H W C), in the order the numbers lie in memory.

    Parameters
    ----------
    data_format
        "channels_last" or None.
    """

    takes_integers = True

    def __init__(self, data_format: str | None = None, **options: Any):
        super().__init__(**options)
        self.data_format = channels_last(data_format)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (H W C,)."""
        return (math.prod(input_shape),)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return x as one row a sample."""
        self.sample_shape = x.shape[1:]
        return x.reshape(len(x), int(np.prod(self.sample_shape)))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return dy in the shape of x."""
        return dy.reshape(len(dy), *self.sample_shape)


class Rescaling(Layer):
    """y = scale x + offset: ``Rescaling(1 / 255)`` lets pixels stay uint8 until they are needed."""

    changeable = ("trainable", "scale", "offset")

    def __init__(self, scale: float, offset: float = 0.0, **options: Any):
        super().__init__(**options)
        self.scale = checks.number("scale", scale)
        self.offset = checks.number("offset", offset)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return scale x + offset."""
        return self.scale * x + self.offset

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return scale dy."""
        return self.scale * dy


class Dropout(Layer):
    """In training each element is 0 with probability ``rate``, else x / (1 - rate); otherwise y = x.

    The division keeps the expected value (Srivastava et al. 2014, "inverted" form).

    Parameters
    ----------
    rate
        Share of elements to drop, 0 <= rate < 1.
    seed
        An own stream for the masks; by default one derived from the model's seed.
    """

    changeable = ("trainable", "rate")

    @config.keras_arguments(noise_shape=None)
    def __init__(self, rate: float, seed: int | None = None, **options: Any):
        super().__init__(**options)
        self.rate = checks.share("rate", rate)
        self.seed = checks.optional_seed(seed)

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Keep the stream the masks are drawn from."""
        self.rng = rng if self.seed is None else np.random.default_rng(self.seed)

    def mask_shape(self, x_shape: Shape) -> Shape:
        """Return the shape of the mask for a batch: a decision for each element."""
        return x_shape

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return x times a fresh mask of 0 and 1 / (1 - rate) in training, else x."""
        if not training or self.rate == 0:
            self.mask = None
            return x
        if self.rng is None:
            raise RuntimeError(
                f"{type(self).__name__} {self.name!r} has no random numbers before it is built."
            )
        kept = self.rng.random(self.mask_shape(x.shape), dtype=np.float32) >= self.rate
        self.mask = kept * x.dtype.type(1 / (1 - self.rate))
        return x * self.mask

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return dy times the mask of the last forward."""
        return dy if self.mask is None else dy * self.mask


class SpatialDropout2D(Dropout):
    """Dropout of whole channels: in training a channel of a picture (N, H, W, C) is kept, or all of it is 0.

    Neighbouring pixels are so alike that dropping single ones takes little away (Tompson et al. 2015).

    Parameters
    ----------
    rate
        Share of channels to drop, 0 <= rate < 1.
    data_format
        "channels_last" or None.
    seed
        An own stream for the masks; by default one derived from the model's seed.
    """

    def __init__(self, rate: float, data_format: str | None = None, seed: int | None = None, **options: Any):
        super().__init__(rate, seed, **options)
        self.data_format = channels_last(data_format)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape, (H, W, C)."""
        expect_places(self, input_shape, 2)
        return input_shape

    def mask_shape(self, x_shape: Shape) -> Shape:
        """Return the shape of the mask for a batch: a decision for each picture and channel."""
        return (x_shape[0], 1, 1, x_shape[-1])


class BatchNormalization(Layer):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, feature by feature (Ioffe & Szegedy 2015).

    In training mean and variance are the batch's (the variance biased), and moving averages follow them:
    ``moving = momentum moving + (1 - momentum) batch``. Otherwise the moving averages are used.

    Parameters
    ----------
    axis
        The features' axis; the last.
    momentum
        Weight of the old moving average (Keras's meaning; PyTorch's is one minus this).
    epsilon
        Added to the variance.
    center, scale
        Whether there is a beta, a gamma.
    beta_regularizer, gamma_regularizer
        Penalties on them.
    """

    changeable = ("trainable", "momentum", "epsilon")

    @config.keras_arguments(
        beta_constraint=None,
        gamma_constraint=None,
        synchronized=False,
        renorm=False,
        renorm_clipping=None,
        renorm_momentum=0.99,
    )
    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        **options: Any,
    ):
        super().__init__(**options)
        if axis != -1:
            raise ValueError(f"axis must be -1, the last axis, got {axis!r}.")
        self.axis = axis
        self.momentum = checks.number("momentum", momentum, 0, 1)
        self.epsilon = checks.positive("epsilon", epsilon)
        self.center = checks.flag("center", center)
        self.scale = checks.flag("scale", scale)
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Create gamma, beta and the moving averages, one number a feature."""
        shape = input_shape[-1:]
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_parameter(
                "gamma", shape, self.gamma_initializer, rng, dtype, self.gamma_regularizer
            )
        if self.center:
            self.beta = self.add_parameter(
                "beta", shape, self.beta_initializer, rng, dtype, self.beta_regularizer
            )
        self.moving_mean = self.add_parameter(
            "moving_mean", shape, self.moving_mean_initializer, rng, dtype, trainable=False
        )
        self.moving_variance = self.add_parameter(
            "moving_variance", shape, self.moving_variance_initializer, rng, dtype, trainable=False
        )

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Normalise with the batch's statistics in training, with the moving ones otherwise."""
        columns = x.reshape(-1, x.shape[-1])
        self.frozen = not (training and self.trainable)
        if self.frozen:
            y = self.normalize(columns, self.moving_mean.value, self.moving_variance.value.copy())
        else:
            gamma, beta = self.gamma_and_beta(columns)
            y, self.normalized, mean, self.variance = self.kernels.batch_norm_forward(
                columns, gamma, beta, self.epsilon
            )
            self.follow(mean, self.variance)
        return y.reshape(x.shape)

    def normalize(self, columns: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Return y of columns (N, C) with these statistics, keeping what ``backward`` needs."""
        gamma, beta = self.gamma_and_beta(columns)
        self.variance = variance
        self.normalized = (columns - mean) / np.sqrt(variance + self.epsilon)
        return gamma * self.normalized + beta

    def scale_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what the moving averages make of the layer: y = scale x + shift."""
        gamma, beta = self.gamma_and_beta(self.moving_mean.value)
        scale = gamma / np.sqrt(self.moving_variance.value + self.epsilon)
        return scale, beta - scale * self.moving_mean.value

    def follow(self, mean: np.ndarray, variance: np.ndarray) -> None:
        """Let the moving averages follow a batch's statistics."""
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(self.momentum * moving.value + (1 - self.momentum) * batch)

    def gamma_and_beta(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return gamma and beta, ones and zeros where there are none."""
        features, dtype = columns.shape[-1], columns.dtype
        gamma = np.ones(features, dtype) if self.gamma is None else self.gamma.value
        beta = np.zeros(features, dtype) if self.beta is None else self.beta.value
        return gamma, beta

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Set dgamma and dbeta, return dx."""
        columns = dy.reshape(-1, dy.shape[-1])
        dgamma, dbeta = self.kernels.batch_norm_backward_parameters(columns, self.normalized)
        if self.gamma is not None:
            self.gamma.grad = dgamma
        if self.beta is not None:
            self.beta.grad = dbeta
        gamma, _ = self.gamma_and_beta(columns)
        if self.frozen:  # the statistics are constants
            dx = columns * (gamma / np.sqrt(self.variance + self.epsilon))
        else:
            dx = self.kernels.batch_norm_backward_input(
                columns, self.normalized, gamma, self.variance, self.epsilon
            )
        return dx.reshape(dy.shape)
