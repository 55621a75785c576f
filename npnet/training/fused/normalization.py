"""The stage of batch normalisation, with the activation behind it."""

from functools import partial
from typing import TypeGuard

import numpy as np

from npnet.layers.core import BatchNormalization
from npnet.layers.layer import Layer
from npnet.training.fused.flows import ROWS, Call, Flow, Memory
from npnet.training.fused.stages import KNOWN, Active, Space, Todos

__all__ = ["FusedNormalization", "can_normalize"]


def can_normalize(link: Layer) -> TypeGuard[BatchNormalization]:
    """Whether a link is a batch normalisation by the batch's own statistics."""
    return isinstance(link, BatchNormalization) and link in KNOWN and link.trainable


class FusedNormalization(Active):
    """y = activation(gamma z + beta): z is not kept, the backward pass computes it again from x.

    Attributes
    ----------
    x, mean, variance, y, u, dx
        The numbers of its arrays: the input and its statistics; the output; gamma z + beta, where the
        activation's derivative reads that; the gradient of x.
    """

    in_panels = False
    differentiates = False

    def __init__(self, link: BatchNormalization, space: Space):
        self.link = link
        self.parameters = link.trainable_parameters
        self.x, self.mean, self.variance, self.y, self.u, self.dx = (space.new_rows() for _ in range(6))

    def forward(self, x: Flow) -> tuple[Flow, Todos]:
        """Return y."""
        derivative = self.derivative(self.u if self.remembers_x else self.y)
        return Flow(ROWS, derivative=derivative), [Call(self._forward)]

    def _forward(self, memory: Memory) -> None:
        from npnet.kernels import rules
        from npnet.kernels.parallel.columns import normalize

        link, activation = self.link, self.activation
        x, shape = _columns(memory.rows), memory.rows.shape
        y, u = memory.array_of_rows(self.y, shape, x.dtype), None
        if self.remembers_x:
            u = _columns(memory.array_of_rows(self.u, shape, x.dtype))
        mean, variance = normalize(
            x, *link.gamma_and_beta(x), link.epsilon, activation.rule if activation else rules.linear,
            self.constants, _columns(y), u,
        )  # fmt: skip
        link.follow(mean, variance)
        memory.kept |= {self.x: x, self.mean: mean, self.variance: variance}
        memory.rows = y

    def backward(self, x: Flow, dy: Flow) -> tuple[Flow, Todos]:
        """Set the parameters' gradients, return dx."""
        return Flow(ROWS), [Call(partial(self._backward, True))]

    def backward_parameters(self, x: Flow, dy: Flow) -> Todos:
        """Set the parameters' gradients."""
        return [Call(partial(self._backward, False))]

    def _backward(self, to_x: bool, memory: Memory) -> None:
        from npnet.kernels.parallel.columns import normalize_back

        link, du = self.link, memory.rows
        x, mean, variance = (memory.kept[number] for number in (self.x, self.mean, self.variance))
        dx = memory.array_of_rows(self.dx, du.shape, du.dtype) if to_x else None
        gamma, _ = link.gamma_and_beta(x)
        dgamma, dbeta = normalize_back(
            _columns(du), x, gamma, mean, variance, link.epsilon, None if dx is None else _columns(dx)
        )
        if link.gamma is not None:
            link.gamma.grad = dgamma
        if link.beta is not None:
            link.beta.grad = dbeta
        if dx is not None:
            memory.rows = dx


def _columns(x: np.ndarray) -> np.ndarray:
    """Return x (N, ..., C) as (N ..., C), in a row."""
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])
