"""Convolutions: the same few weights at every place of a picture.

The mathematics is in ``kernels/reference/convolution.py``. Names, arguments, defaults and the order of axes
are Keras 3's: pictures are (N, H, W, C), sequences (N, L, C), kernels (height, width, channels, filters).
"""

from typing import Any

import numpy as np

from npnet import initializers, regularizers
from npnet.internal import checks, config
from npnet.kernels.geometry import Geometry, geometry, transposed_geometry
from npnet.layers import activations
from npnet.layers.layer import Layer, Shape
from npnet.layers.parameter import Parameter
from npnet.layers.windows import Windowed, channels_last, expect_places, pair, sizes

__all__ = ["Conv1D", "Conv2D", "Conv2DTranspose", "Convolution", "DepthwiseConv2D", "SeparableConv2D"]


class Convolution(Windowed):
    """Base of all convolutions: the window, the bias, the activation, and the passes of the common kind.

    Parameters
    ----------
    kernel_size
        Height and width of the window, (3, 3) or 3.
    strides
        How far it moves from one place to the next.
    padding
        "valid": none, so a window of 3 makes pictures smaller by 2. "same": zeros around the picture, so that
        it keeps its size, or with strides ceil(size / stride); the smaller half comes above and left.
    data_format
        "channels_last" or None.
    dilation_rate
        How many pixels the window's taps are apart. Not together with strides.
    activation
        A name, an instance, or None for none.
    use_bias
        False leaves b out.
    bias_initializer, bias_regularizer
        How b begins, and a penalty on it.

    Attributes
    ----------
    weight
        The parameter "kernel", by the name that Dense has for it.
    filters
        How many channels come out. DepthwiseConv2D finds it out when it is built.
    """

    changeable = ("trainable", "activation")

    weight: Parameter
    bias: Parameter | None
    filters: int

    @config.keras_arguments(bias_constraint=None)
    def __init__(
        self,
        kernel_size: Any,
        strides: Any,
        padding: str,
        data_format: str | None,
        dilation_rate: Any,
        activation: Any,
        use_bias: bool,
        bias_initializer: Any,
        bias_regularizer: Any,
        **options: Any,
    ):
        super().__init__(**options)
        self.kernel_size = sizes("kernel_size", kernel_size, self.rank)
        self.strides = sizes("strides", strides, self.rank)
        self.padding = self.check_padding(padding)
        self.data_format = channels_last(data_format)
        self.dilation_rate = sizes("dilation_rate", dilation_rate, self.rank)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                "strides must be 1 where dilation_rate is above 1, got"
                f" strides={self.strides} and dilation_rate={self.dilation_rate}."
            )
        self.activation = activations.get(activation)
        self.use_bias = checks.flag("use_bias", use_bias)
        self.bias_initializer = initializers.get(bias_initializer)
        self.bias_regularizer = regularizers.get(bias_regularizer)

    # --- shapes ---------------------------------------------------------------------------------------------

    @property
    def window(self) -> Shape:
        """The size of the window."""
        return self.kernel_size

    def groups_of(self, channels: int) -> int:
        """Return into how many groups the input's channels are divided."""
        return 1

    def filters_of(self, channels: int) -> int:
        """Return how many channels come out where so many come in."""
        return self.filters

    def windows(self, input_shape: Shape) -> Geometry:
        """Return where the window stands in samples of a shape."""
        size, kernel, strides, dilation = map(
            pair, (input_shape[:-1], self.kernel_size, self.strides, self.dilation_rate)
        )
        groups = self.groups_of(input_shape[-1])
        return geometry(size, kernel, strides, self.padding, dilation, groups)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (H', W', F)."""
        return (*self.places(input_shape), self.filters_of(input_shape[-1]))

    def chain(self) -> list[Layer]:
        """Return the convolution and, if there is one, the activation."""
        return [self] if self.activation is None else [self, self.activation]

    # --- parameters -----------------------------------------------------------------------------------------

    def add_bias(self, filters: int, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Create b (F,), the last parameter, if there is one."""
        self.bias = None
        if self.use_bias:
            self.bias = self.add_parameter(
                "bias", (filters,), self.bias_initializer, rng, dtype, self.bias_regularizer
            )

    @property
    def kernel(self) -> Parameter:
        """W under Keras's name."""
        return self.weight

    @property
    def bias_value(self) -> np.ndarray | None:
        """The array b, if there is one."""
        return None if self.bias is None else self.bias.value

    @property
    def bank(self) -> np.ndarray:
        """The filters as the kernels want them, (kh, kw, C/groups, F)."""
        return self.weight.value.reshape(*pair(self.kernel_size), -1, self.filters)

    # --- forward and backward -------------------------------------------------------------------------------

    def look_at(self, x: np.ndarray) -> None:
        """Keep a batch as pictures, and where the window stands in them."""
        if self.input_shape is not None and x.shape[-1] != self.input_shape[-1]:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} was built for {self.input_shape[-1]} channels, got"
                f" {x.shape[-1]} in a batch of shape {x.shape}."
            )
        self.x, self.geometry = self.as_pictures(x), self.windows(x.shape[1:])

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the convolution with the filters, plus b; the activation is the next link of the chain."""
        self.look_at(x)
        y = self.kernels.convolution_forward(self.x, self.bank, self.bias_value, self.geometry)
        return self.as_samples(y)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Set dW and db, return dx."""
        if self.trainable_parameters:
            self.backward_parameters(dy)
        return self.backward_input(dy)

    def backward_parameters(self, dy: np.ndarray) -> None:
        """How should I change?  dW = for each tap x' dy,  db = the sum of dy."""
        if not self.weight.trainable and self.bias is not None:  # frozen filters: db alone
            self.bias.grad = dy.sum(axis=tuple(range(dy.ndim - 1)))
            return
        dweight, dbias = self.kernels.convolution_backward_parameters(
            self.x, self.as_pictures(dy), self.geometry
        )
        self.weight.grad = dweight.reshape(self.weight.shape)
        if self.bias is not None:
            self.bias.grad = dbias

    def backward_input(self, dy: np.ndarray) -> np.ndarray:
        """Whom do I blame?  dx = dy W' of each tap, added where the tap stood."""
        dx = self.kernels.convolution_backward_input(self.as_pictures(dy), self.bank, self.geometry)
        return self.as_samples(dx)


class Conv2D(Convolution):
    """y = activation(x * W + b): F filters, each looking at every place of a picture (N, H, W, C).

    W is (kh, kw, C/groups, F): the kernel; b is (F,). The output is (N, H', W', F) with
    H' = floor((H - dilation (kh - 1) - 1) / stride) + 1 for "valid" and ceil(H / stride) for "same".

    Parameters
    ----------
    filters
        F, the number of output channels.
    kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias
        See ``Convolution``.
    groups
        Divides channels and filters into as many groups; each filter sees the channels of its group only.
    kernel_initializer, bias_initializer
        How W and b begin. fan_in is kh kw C/groups, fan_out kh kw F.
    kernel_regularizer, bias_regularizer
        Penalties on them.
    """

    @config.keras_arguments(kernel_constraint=None)
    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        **options: Any,
    ):
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer,
            bias_regularizer, **options,
        )  # fmt: skip
        self.filters = checks.integer("filters", filters)
        self.groups = checks.integer("groups", groups)
        if self.filters % self.groups:
            raise ValueError(f"filters must be a multiple of groups, got {filters} and {groups}.")
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)

    def groups_of(self, channels: int) -> int:
        """Return ``groups``, which must divide the channels."""
        if channels % self.groups:
            raise ValueError(
                f"groups must divide the channels, got groups={self.groups} and {channels} channels before"
                f" {type(self).__name__} {self.name!r}."
            )
        return self.groups

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Create W (kh, kw, C/groups, F) and b (F,)."""
        channels = input_shape[-1]
        shape = (*self.kernel_size, channels // self.groups_of(channels), self.filters)
        self.weight = self.add_parameter(
            "kernel", shape, self.kernel_initializer, rng, dtype, self.kernel_regularizer
        )
        self.add_bias(self.filters, rng, dtype)


class Conv1D(Conv2D):
    """A convolution of sequences (N, L, C): Conv2D of pictures of height one, with a kernel (k, C/groups, F).

    Parameters
    ----------
    padding
        "causal", too: all zeros come first, so that y at step i depends on x up to step i only.
    """

    rank = 1
    paddings = ("valid", "same", "causal")


class DepthwiseConv2D(Convolution):
    """A convolution of each channel by itself, with ``depth_multiplier`` filters for each.

    The kernel is (kh, kw, C, multiplier), b (C multiplier,). The output's channels c multiplier, c multiplier
    + 1, ... come from channel c: it is a Conv2D with as many groups as channels.

    Parameters
    ----------
    kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias
        See ``Convolution``.
    depth_multiplier
        How many channels come out for each that comes in.
    depthwise_initializer, bias_initializer
        How kernel and b begin.
    depthwise_regularizer, bias_regularizer
        Penalties on them.
    """

    @config.keras_arguments(depthwise_constraint=None)
    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        **options: Any,
    ):
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer,
            bias_regularizer, **options,
        )  # fmt: skip
        self.depth_multiplier = checks.integer("depth_multiplier", depth_multiplier)
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer)

    def groups_of(self, channels: int) -> int:
        """Return the number of channels."""
        return channels

    def filters_of(self, channels: int) -> int:
        """Return the number of channels that come out."""
        return channels * self.depth_multiplier

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Create the kernel (kh, kw, C, multiplier) and b (C multiplier,)."""
        channels = input_shape[-1]
        self.filters = self.filters_of(channels)
        self.weight = self.add_parameter(
            "kernel", (*self.kernel_size, channels, self.depth_multiplier), self.depthwise_initializer, rng,
            dtype, self.depthwise_regularizer,
        )  # fmt: skip
        self.add_bias(self.filters, rng, dtype)


class SeparableConv2D(Convolution):
    """y = z P + b with z = x * K: a depthwise convolution, then a dense layer over each pixel's channels.

    (Chollet 2017.)

    Parameters
    ----------
    filters
        F, the number of output channels.
    kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias
        See ``Convolution``.
    depth_multiplier
        How many channels the first step makes of each.
    depthwise_initializer, pointwise_initializer, bias_initializer
        How the depthwise kernel (kh, kw, C, multiplier), the pointwise one (1, 1, C multiplier, F) and b (F,)
        begin.
    depthwise_regularizer, pointwise_regularizer, bias_regularizer
        Penalties on them.
    """

    told_by_kernels = False

    @config.keras_arguments(depthwise_constraint=None, pointwise_constraint=None)
    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        **options: Any,
    ):
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer,
            bias_regularizer, **options,
        )  # fmt: skip
        self.filters = checks.integer("filters", filters)
        self.depth_multiplier = checks.integer("depth_multiplier", depth_multiplier)
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.pointwise_initializer = initializers.get(pointwise_initializer)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer)
        self.pointwise_regularizer = regularizers.get(pointwise_regularizer)

    def groups_of(self, channels: int) -> int:
        """Return the number of channels."""
        return channels

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Create both kernels and b."""
        channels = input_shape[-1]
        self.weight = self.add_parameter(
            "depthwise_kernel", (*self.kernel_size, channels, self.depth_multiplier),
            self.depthwise_initializer, rng, dtype, self.depthwise_regularizer,
        )  # fmt: skip
        self.pointwise = self.add_parameter(
            "pointwise_kernel", (1, 1, channels * self.depth_multiplier, self.filters),
            self.pointwise_initializer, rng, dtype, self.pointwise_regularizer,
        )  # fmt: skip
        self.add_bias(self.filters, rng, dtype)

    @property
    def bank(self) -> np.ndarray:
        """The depthwise filters as the kernels want them, (kh, kw, 1, C multiplier)."""
        return self.weight.value.reshape(*self.kernel_size, 1, -1)

    @property
    def matrix(self) -> np.ndarray:
        """The pointwise kernel as the matrix it is, (C multiplier, F)."""
        return self.pointwise.value[0, 0]

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return z P + b with z the depthwise convolution of x."""
        self.look_at(x)
        z = self.kernels.convolution_forward(self.x, self.bank, None, self.geometry)
        self.z = z.reshape(-1, z.shape[-1])
        y = self.kernels.dense_forward(self.z, self.matrix, self.bias_value)
        return y.reshape(*z.shape[:-1], self.filters)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return the depthwise convolution's dx, of dz = dy P'; dP = z' dy, dK = for each tap x' dz."""
        return super().backward(dy)

    def backward_parameters(self, dy: np.ndarray) -> None:
        """dP = z' dy and db as in a dense layer; the depthwise kernel gets its share by dz = dy P'."""
        dmatrix, dbias = self.kernels.dense_backward_parameters(self.z, dy.reshape(-1, self.filters))
        self.pointwise.grad = dmatrix.reshape(self.pointwise.shape)
        if self.bias is not None:
            self.bias.grad = dbias
        dweight, _ = self.kernels.convolution_backward_parameters(self.x, self._dz(dy), self.geometry)
        self.weight.grad = dweight.reshape(self.weight.shape)

    def backward_input(self, dy: np.ndarray) -> np.ndarray:
        """dx = the depthwise convolution's, of dz = dy P'."""
        return self.kernels.convolution_backward_input(self._dz(dy), self.bank, self.geometry)

    def _dz(self, dy: np.ndarray) -> np.ndarray:
        dz = self.kernels.dense_backward_input(dy.reshape(-1, self.filters), self.matrix)
        return dz.reshape(*dy.shape[:-1], dz.shape[-1])


class Conv2DTranspose(Convolution):
    """y = the sum over taps of x W[tap]', laid where the tap is, plus b: a convolution run backwards.

    What it computes forward is a convolution's backward pass to its input: each pixel of x (N, H, W, C) lays
    its kernel (kh, kw, F, C) over the larger y (N, H', W', F) and adds to it. H' is H stride for "same" and
    (H - 1) stride + max(kh, stride) for "valid".

    Parameters
    ----------
    filters
        F, the number of output channels.
    kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias
        See ``Convolution``; padding and strides are those of the convolution that is run backwards.
    output_padding
        Which of the sizes that this convolution would shrink to H is meant, 0 to stride - 1: H' is
        (H - 1) stride + output_padding + kh for "valid", + 1 instead of kh for "same" with an odd kernel.
    kernel_initializer, bias_initializer
        How kernel and b (F,) begin.
    kernel_regularizer, bias_regularizer
        Penalties on them.
    """

    told_by_kernels = False

    @config.keras_arguments(kernel_constraint=None)
    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        **options: Any,
    ):
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer,
            bias_regularizer, **options,
        )  # fmt: skip
        self.filters = checks.integer("filters", filters)
        self.output_padding = (
            None if output_padding is None else sizes("output_padding", output_padding, self.rank, least=0)
        )
        if any(p >= s for p, s in zip(self.output_padding or (), self.strides, strict=False)):
            raise ValueError(
                f"output_padding must be smaller than strides, got {output_padding!r} and {strides!r}."
            )
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)

    def windows(self, input_shape: Shape) -> Geometry:
        """Return the geometry of the convolution that is run backwards: from the output to the input."""
        expect_places(self, input_shape, self.rank)
        output_padding = None if self.output_padding is None else pair(self.output_padding)
        places, kernel, strides, dilation = map(
            pair, (input_shape[:-1], self.kernel_size, self.strides, self.dilation_rate)
        )
        return transposed_geometry(places, kernel, strides, self.padding, dilation, output_padding)

    def places(self, input_shape: Shape) -> Shape:
        """Return the output's height and width."""
        found = self.windows(input_shape)
        height, width = found.size
        if min(height, width) < 1:
            raise ValueError(
                f"{type(self).__name__} {self.name!r}: its output of {height} x {width} pixels would be"
                " empty. Leave output_padding out, or use an odd kernel_size."
            )
        self.refuse_wide_borders(found, self.filters)
        return height, width

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Create the kernel (kh, kw, F, C) and b (F,)."""
        self.weight = self.add_parameter(
            "kernel", (*self.kernel_size, self.filters, input_shape[-1]), self.kernel_initializer, rng, dtype,
            self.kernel_regularizer,
        )  # fmt: skip
        self.add_bias(self.filters, rng, dtype)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return what the convolution's backward pass makes of x, plus b."""
        self.look_at(x)
        y = self.kernels.convolution_backward_input(x, self.weight.value, self.geometry)
        return y if self.bias is None else y + self.bias.value

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return the sum over taps of dy[at] W[tap]; dW = for each tap dy[at]' x."""
        return super().backward(dy)

    def backward_parameters(self, dy: np.ndarray) -> None:
        """As for the convolution, whose input is dy here and whose dy is x."""
        self.weight.grad, _ = self.kernels.convolution_backward_parameters(dy, self.x, self.geometry)
        if self.bias is not None:
            self.bias.grad = dy.sum(axis=(0, 1, 2))

    def backward_input(self, dy: np.ndarray) -> np.ndarray:
        """Return the convolution of dy."""
        return self.kernels.convolution_forward(dy, self.weight.value, None, self.geometry)
