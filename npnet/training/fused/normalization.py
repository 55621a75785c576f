"""The stage of batch normalisation, with the activation behind it."""

from typing import TypeGuard

import numpy as np

from npnet.layers.core import BatchNormalization
from npnet.layers.layer import Layer
from npnet.training.fused.flows import ROWS, AddUp, Call, Flow, Meeting, Memory
from npnet.training.fused.stages import KNOWN, Active, Space, Todos

__all__ = ["FusedNormalization", "can_normalize"]


def can_normalize(link: Layer) -> TypeGuard[BatchNormalization]:
    """Whether a link is a batch normalisation by the batch's own statistics."""
    return isinstance(link, BatchNormalization) and link in KNOWN and link.trainable


class FusedNormalization(Active):
    """y = activation(gamma z + beta): z is not kept, the backward pass computes it again from x.

    The statistics are the whole batch's. Where it is cut into shards, these are added up at a meeting.

    Attributes
    ----------
    x, sums, mean, variance, y, u, means, dx
        The numbers of its arrays: the input, its sums, and the batch's statistics; the output; gamma z +
        beta, where the activation's derivative reads that; the batch's means of du z and du, of its sums; the
        gradient of x.
    """

    in_panels = False
    differentiates = False

    def __init__(self, link: BatchNormalization, space: Space):
        self.link = link
        self.parameters = link.trainable_parameters
        self.x, self.sums, self.mean, self.variance = (space.new_rows() for _ in range(4))
        self.y, self.u, self.means, self.dx = (space.new_rows() for _ in range(4))

    def forward(self, x: Flow) -> tuple[Flow, Todos]:
        """Return y."""
        derivative = self.derivative(self.u if self.remembers_x else self.y)
        return Flow(ROWS, derivative=derivative), [
            Call(self._sum), Meeting(self._join), Call(self._normalize),
        ]  # fmt: skip

    def _sum(self, memory: Memory) -> None:
        from npnet.kernels.parallel.columns import sums

        x = _columns(memory.rows)
        memory.kept |= {self.x: x, self.sums: sums(x)}

    def _join(self, memories: list[Memory], add_up: AddUp) -> None:
        """Mean and variance of the batch; the moving averages follow them.

        sum (x - mean)^2 = sum over shards of  sum (x - center)^2 + n (center - mean)^2,  where center is the
        shard's mean and n how many numbers it has of a feature (Chan et al. 1979).
        """
        from npnet.kernels.parallel.columns import mean_of

        count = self._count(memories[0])
        totals, squares = zip(*(memory.kept[self.sums] for memory in memories), strict=True)
        mean = mean_of(add_up(list(totals)), count)
        around = []
        for memory, total, square in zip(memories, totals, squares, strict=True):
            n = mean.dtype.type(len(memory.kept[self.x]))
            around.append(square + n * np.square(mean_of(total, n) - mean))
        variance = add_up(around) / count
        self.link.follow(mean, variance)
        for memory in memories:
            memory.kept |= {self.mean: mean, self.variance: variance}

    def _count(self, memory: Memory) -> np.floating:
        """Return of how many numbers the batch's statistics of a feature are made."""
        x = memory.kept[self.x]
        return x.dtype.type(len(x) // memory.n * memory.batch_size)

    def _normalize(self, memory: Memory) -> None:
        from npnet.kernels import rules
        from npnet.kernels.parallel.columns import normalize

        link, activation, shape = self.link, self.activation, memory.rows.shape
        x, mean, variance = (memory.kept[number] for number in (self.x, self.mean, self.variance))
        y, u = memory.array_of_rows(self.y, shape, x.dtype), None
        if self.remembers_x:
            u = _columns(memory.array_of_rows(self.u, shape, x.dtype))
        normalize(
            x, mean, variance, *link.gamma_and_beta(x), link.epsilon,
            activation.rule if activation else rules.linear, self.constants, _columns(y), u,
        )  # fmt: skip
        memory.rows = y

    def backward(self, x: Flow, dy: Flow) -> tuple[Flow, Todos]:
        """Set the parameters' gradients, return dx."""
        return Flow(ROWS), [*self.backward_parameters(x, dy), Call(self._backward_input)]

    def backward_parameters(self, x: Flow, dy: Flow) -> Todos:
        """Set the parameters' gradients."""
        return [Call(self._sum_back), Meeting(self._join_back)]

    def _sum_back(self, memory: Memory) -> None:
        from npnet.kernels.parallel.columns import sums_back

        x, mean, variance = (memory.kept[number] for number in (self.x, self.mean, self.variance))
        memory.kept[self.sums] = sums_back(_columns(memory.rows), x, mean, variance, self.link.epsilon)

    def _join_back(self, memories: list[Memory], add_up: AddUp) -> None:
        """Dgamma and dbeta of the batch, and the means that dx takes."""
        link, total = self.link, add_up([memory.kept[self.sums] for memory in memories])
        for parameter, gradient in zip((link.gamma, link.beta), total, strict=True):
            if parameter is not None:
                parameter.grad = gradient
        means = total / self._count(memories[0])
        for memory in memories:
            memory.kept[self.means] = means

    def _backward_input(self, memory: Memory) -> None:
        from npnet.kernels.parallel.columns import normalize_back

        du, link = memory.rows, self.link
        x, mean, variance = (memory.kept[number] for number in (self.x, self.mean, self.variance))
        gamma, _ = link.gamma_and_beta(x)
        dx = memory.array_of_rows(self.dx, du.shape, du.dtype)
        means = memory.kept[self.means]
        normalize_back(_columns(du), x, means, gamma, mean, variance, link.epsilon, _columns(dx))
        memory.rows = dx


def _columns(x: np.ndarray) -> np.ndarray:
    """Return x (N, ..., C) as (N ..., C), in a row."""
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])
