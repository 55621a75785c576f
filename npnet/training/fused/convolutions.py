"""The stage of a convolution, with what follows it computed while its sums are at hand."""

from functools import partial
from typing import TYPE_CHECKING, Literal, TypeGuard

import numpy as np

from npnet.kernels.geometry import Geometry
from npnet.layers.convolution import Conv2D
from npnet.layers.layer import Layer
from npnet.layers.pooling import MaxPooling2D
from npnet.training.fused.flows import ROWS, Call, Derivative, Flow, Memory
from npnet.training.fused.stages import KNOWN, Active, Space, Todos, multiplies_bfloat16

if TYPE_CHECKING:
    from npnet.kernels.convolution import Epilogue

__all__ = ["Followed", "FusedConvolution", "can_convolve"]


def can_convolve(link: Layer) -> TypeGuard[Conv2D]:
    """Whether a link is a convolution that can compute what follows it as well."""
    if link not in KNOWN or not isinstance(link, Conv2D) or link.input_shape is None:
        return False
    if multiplies_bfloat16(link):  # the kernels of convolutions know nothing of it
        return False
    from npnet.kernels.convolution import takes_epilogue

    return takes_epilogue(link.windows(link.input_shape), link.input_shape[-1])


class Followed(Active):
    """A convolution with what follows it, an activation of single elements and the largest of 2 x 2 pixels.

    Attributes
    ----------
    pool
        Whether it has absorbed pooling, "results" of the activation, or "sums" before it; None: no.
    """

    pool: Literal["sums", "results"] | None = None

    def __init__(self, link: Conv2D):
        self.link = link

    def absorb(self, link: Layer) -> bool:
        """Compute the next link as well, if it is one of those that can be; return whether it is."""
        if super().absorb(link):
            return True
        if link in KNOWN and isinstance(link, MaxPooling2D) and self.pool is None and self._can_pool(link):
            self.pool = "sums" if self.activation is None else "results"
            return True
        return False

    def _can_pool(self, link: MaxPooling2D) -> bool:
        from npnet.kernels.convolution import WINDOW_OF_TWO, pools

        if self.link.input_shape is None or link.input_shape is None:
            return False
        windows = self.link.windows(self.link.input_shape)
        fits = link.windows(link.input_shape) == WINDOW_OF_TWO._replace(size=windows.places)
        return fits and pools(windows, self.link.weight.shape[-2], self.link.filters)

    def output_shape(self, pictures: int, geometry: Geometry) -> tuple[int, ...]:
        """Return the shape of y for so many pictures."""
        height, width = geometry.places
        by = 1 if self.pool is None else 2
        return pictures, height // by, width // by, self.link.filters

    @property
    def epilogue(self) -> "Epilogue":
        """What is done with the sums, without the arrays for it."""
        from npnet.kernels.convolution import Epilogue

        if self.activation is None:
            return Epilogue(pool=self.pool)
        return Epilogue(self.activation.rule, self.constants, pool=self.pool)


class FusedConvolution(Followed):
    """y = activation(x * W + b), with pooling: what follows is computed while the sums are at hand.

    Its weights stay where they are; they are small beside the pictures.

    Attributes
    ----------
    y, z, taken, dz, dx
        The numbers of its arrays: the output; what the activation was given, where its derivative reads that;
        where each maximum was; the gradients of x * W + b behind pooling, and of x.
    """

    in_panels = False
    differentiates = True

    def __init__(self, link: Conv2D, space: Space):
        super().__init__(link)
        self.parameters = link.trainable_parameters
        self.y, self.z, self.taken, self.dz, self.dx = (space.new_rows() for _ in range(5))

    def _can_pool(self, link: MaxPooling2D) -> bool:
        # The derivative is taken where the maximum was, of what the activation has left there.
        return not self.remembers_x and super()._can_pool(link)

    def forward(self, x: Flow) -> tuple[Flow, Todos]:
        """Return y."""
        derivative = self.derivative(self.z if self.remembers_x else self.y)
        return Flow(ROWS, derivative=derivative), [Call(self._forward)]

    def _forward(self, memory: Memory) -> None:
        from npnet.kernels.convolution import convolve

        link = memory.own(self.link)
        link.look_at(memory.rows)
        shape = self.output_shape(len(link.x), link.geometry)
        y, epilogue = memory.array_of_rows(self.y, shape, link.x.dtype), self.epilogue
        if self.remembers_x:
            epilogue = epilogue._replace(beside=memory.array_of_rows(self.z, shape, y.dtype))
        if self.pool is not None:
            epilogue = epilogue._replace(taken=memory.array_of_rows(self.taken, shape, np.dtype(np.int32)))
        convolve(link.x, link.bank, link.bias_value, link.geometry, epilogue, y)
        memory.rows = link.as_samples(y)

    def backward(self, x: Flow, dy: Flow) -> tuple[Flow, Todos]:
        """Set the parameters' gradients, return dx, multiplied by what x says."""
        learn = self.backward_parameters(x, dy) if self.parameters else self._before_pooling()
        return Flow(ROWS), [*learn, Call(partial(self._backward_input, x.derivative))]

    def backward_parameters(self, x: Flow, dy: Flow) -> Todos:
        """Set the parameters' gradients."""
        return [*self._before_pooling(), Call(self._backward_parameters)]

    def _backward_parameters(self, memory: Memory) -> None:
        memory.own(self.link).backward_parameters(memory.rows)
        memory.keep_gradients(self.link)

    def _before_pooling(self) -> Todos:
        """Return what makes the gradient of x * W + b of that of y."""
        return [] if self.pool is None else [Call(self._unpool)]

    def _unpool(self, memory: Memory) -> None:
        from npnet.kernels.convolution import WINDOW_OF_TWO, unpool

        dy, size = memory.rows, memory.own(self.link).geometry.places
        dz = memory.array_of_rows(self.dz, (len(dy), *size, self.link.filters), dy.dtype)
        windows = WINDOW_OF_TWO._replace(size=size)
        memory.rows = unpool(dy, memory.kept[self.taken], windows, dz)

    def _backward_input(self, derivative: Derivative | None, memory: Memory) -> None:
        from npnet.kernels.convolution import PLAIN, convolve_back

        link, epilogue = memory.own(self.link), PLAIN
        if derivative is not None:
            rule, remembered, constants, _ = derivative
            beside = memory.kept[remembered]
            epilogue = PLAIN._replace(rule=rule, constants=constants, beside=beside, reads=True)
        dz, dx = link.as_pictures(memory.rows), memory.array_of_rows(self.dx, link.x.shape, link.x.dtype)
        memory.rows = link.as_samples(convolve_back(dz, link.bank, link.geometry, epilogue, dx))
