"""Normalisation of each sample by itself: the same in training and otherwise, whatever the batch."""

import math
from typing import Any

import numpy as np

from npnet import initializers, regularizers
from npnet.internal import checks, config
from npnet.layers.layer import Layer, Shape

__all__ = ["GroupNormalization", "LayerNormalization", "SampleNormalization"]


class SampleNormalization(Layer):
    """Base: y = gamma z + beta with z = (x - mean) / sqrt(variance + epsilon), of parts of a sample.

    Mean and (biased) variance are those of the part; gamma and beta have one number for each channel.

    Parameters
    ----------
    axis
        The channels' axis; the last.
    epsilon
        Added to the variance.
    center, scale
        Whether there is a beta, a gamma.
    beta_initializer, gamma_initializer
        How they begin.
    beta_regularizer, gamma_regularizer
        Penalties on them.
    """

    changeable = ("trainable", "epsilon")

    @config.keras_arguments(beta_constraint=None, gamma_constraint=None)
    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        **options: Any,
    ):
        super().__init__(**options)
        if axis != -1:
            raise ValueError(f"axis must be -1, the last axis, got {axis!r}.")
        self.axis = axis
        self.epsilon = checks.positive("epsilon", epsilon)
        self.center = checks.flag("center", center)
        self.scale = checks.flag("scale", scale)
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Create gamma and beta (C,)."""
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

    def to_rows(self, x: np.ndarray) -> np.ndarray:
        """Return the parts that are normalised, each as a row."""
        raise NotImplementedError

    def from_rows(self, rows: np.ndarray, shape: Shape) -> np.ndarray:
        """Return what ``to_rows`` made rows of, an array of ``shape``."""
        raise NotImplementedError

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return gamma z + beta."""
        self.rows, self.deviation = self.kernels.normalize_rows_forward(self.to_rows(x), self.epsilon)
        self.z = y = self.from_rows(self.rows, x.shape)
        if self.gamma is not None:
            y = y * self.gamma.value
        return y if self.beta is None else y + self.beta.value

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Set dgamma and dbeta, return dx."""
        columns = (-1, dy.shape[-1])
        dgamma, dbeta = self.kernels.batch_norm_backward_parameters(
            dy.reshape(columns), self.z.reshape(columns)
        )
        if self.beta is not None:
            self.beta.grad = dbeta
        dz = dy
        if self.gamma is not None:
            self.gamma.grad, dz = dgamma, dy * self.gamma.value
        dx = self.kernels.normalize_rows_backward(self.to_rows(dz), self.rows, self.deviation)
        return self.from_rows(dx, dy.shape)


class LayerNormalization(SampleNormalization):
    """Normalises over the channels: of each sample, in pictures of each pixel (Ba et al. 2016).

    Parameters
    ----------
    axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer
        See ``SampleNormalization``.
    """

    def to_rows(self, x: np.ndarray) -> np.ndarray:
        """(N, ..., C) -> (N ..., C)."""
        return x.reshape(-1, x.shape[-1])

    def from_rows(self, rows: np.ndarray, shape: Shape) -> np.ndarray:
        """(N ..., C) -> (N, ..., C)."""
        return rows.reshape(shape)


class GroupNormalization(SampleNormalization):
    """Normalises each sample over all pixels and a group of channels together (Wu & He 2018).

    Parameters
    ----------
    groups
        Into how many groups the channels are divided; -1: each is a group ("instance normalisation").
    axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer
        See ``SampleNormalization``.
    """

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        **options: Any,
    ):
        super().__init__(
            axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer,
            gamma_regularizer, **options,
        )  # fmt: skip
        self.groups = groups if groups == -1 else checks.integer("groups", groups)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape; the groups must divide its channels."""
        if self.groups != -1 and input_shape[-1] % self.groups:
            raise ValueError(
                f"groups must divide the channels, got groups={self.groups} and {input_shape[-1]} channels"
                f" before GroupNormalization {self.name!r}."
            )
        return input_shape

    def to_rows(self, x: np.ndarray) -> np.ndarray:
        """(N, ..., C) -> (N groups, pixels C/groups)."""
        n, pixels, groups, part = self._parts(x.shape)
        return x.reshape(n, pixels, groups, part).swapaxes(1, 2).reshape(n * groups, pixels * part)

    def from_rows(self, rows: np.ndarray, shape: Shape) -> np.ndarray:
        """(N groups, pixels C/groups) -> (N, ..., C)."""
        n, pixels, groups, part = self._parts(shape)
        return rows.reshape(n, groups, pixels, part).swapaxes(1, 2).reshape(shape)

    def _parts(self, shape: Shape) -> tuple[int, int, int, int]:
        """Return the numbers of samples, of pixels, of groups, and of channels in a group."""
        n, *places, channels = shape
        groups = channels if self.groups == -1 else self.groups
        return n, math.prod(places), groups, channels // groups
