"""Export to ONNX, the format other runtimes read.

The exported model computes in float32 whatever npnet's model trained in, takes any number of samples, and
does what ``predict`` does: Dropout and random pictures are left out, BatchNormalization uses its moving
averages.
"""

import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from npnet import layers
from npnet.internal.files import refuse_other_formats, write_atomically
from npnet.kernels.reference.more_pictures import filling
from npnet.kernels.reference.more_pictures import resizing as matrix
from npnet.layers import activations, more_activations
from npnet.layers.chain import Chain
from npnet.layers.layer import Layer

__all__ = [
    "CONVERTERS",
    "FORMAT",
    "OPERATORS",
    "Converter",
    "Graph",
    "batch_normalization",
    "category_encoding",
    "center_crop",
    "converter_of",
    "dense",
    "export",
    "normalization",
    "read_pixels",
    "relu",
    "resizing",
    "rows_of",
    "unchanged",
]

OPERATORS = 20  # the set of operators: the first with Gelu (ONNX 1.15, onnxruntime 1.17)
FORMAT = 9  # the file format of its time, so that the runtimes of its time read the file


class Graph:
    """The operations written so far.

    Attributes
    ----------
    layer
        Name of the layer being written; the names of its operations and constants begin with it.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.layer = ""

    def __call__(self, operator: str, *inputs: Any, **attributes: Any) -> str:
        """Append an ONNX operator and return its output's name.

        Parameters
        ----------
        inputs
            Names of other operations' outputs, or numbers and arrays, which become constants.
        attributes
            The operator's.
        """
        from onnx import helper

        name = f"{self.layer}/{operator}_{len(self.nodes)}"
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        self.nodes.append(helper.make_node(operator, names, [name], name, **attributes))
        return name

    def _constant(self, value: Any) -> str:
        from onnx import numpy_helper

        name = f"{self.layer}/constant_{len(self.constants)}"
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)  # integers are shapes
        self.constants.append(numpy_helper.from_array(array, name))
        return name


def dense(graph: Graph, layer: layers.Dense, x: str) -> str:
    """x W + b, without the activation, which is a link of its own."""
    bias = () if layer.bias is None else (layer.bias.value,)
    return graph("Gemm", x, layer.weight.value, *bias)


def batch_normalization(graph: Graph, layer: layers.BatchNormalization, x: str) -> str:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta with the moving averages."""
    scale = 1 / np.sqrt(layer.moving_variance.value + layer.epsilon)
    if layer.gamma is not None:
        scale = scale * layer.gamma.value
    y = graph("Mul", graph("Sub", x, layer.moving_mean.value), scale)
    return y if layer.beta is None else graph("Add", y, layer.beta.value)


def normalization(graph: Graph, layer: layers.Normalization, x: str) -> str:
    """(x - mean) / deviation."""
    return graph("Div", graph("Sub", x, layer.mean), layer.deviation)


def unchanged(graph: Graph, layer: Layer, x: str) -> str:
    """x: of layers that act in training only."""
    return x


def relu(graph: Graph, layer: activations.ReLU, x: str) -> str:
    """max(x, 0), or with its options: see ``rules.bounded_relu``."""
    if layer.plain:
        return graph("Relu", x)
    slope, threshold, bound = layer.constants
    below = graph("Mul", slope, graph("Sub", x, threshold))
    return graph("Where", graph("GreaterOrEqual", x, threshold), graph("Min", x, bound), below)


# --- pictures: ONNX has the channels before height and width -----------------------------------------------


def channels_first(graph: Graph, x: str, rank: int) -> str:
    """(N, H, W, C) -> (N, C, H, W), with rank 1 (N, L, C) -> (N, C, L)."""
    return graph("Transpose", x, perm=[0, rank + 1, *range(1, rank + 1)])


def channels_last(graph: Graph, x: str, rank: int) -> str:
    """The way back."""
    return graph("Transpose", x, perm=[0, *range(2, rank + 2), 1])


def window(layer: Any) -> dict[str, Any]:
    """Return the attributes of an operator that moves a window: its size, strides and padding."""
    found = layer.windows(layer.input_shape)
    before, after = zip(*found.padding[2 - layer.rank :], strict=True)
    return {
        "kernel_shape": found.kernel[2 - layer.rank :],
        "strides": layer.strides,
        "pads": [*before, *after],
    }


def convolve(graph: Graph, layer: Any, x: str, bank: np.ndarray, bias: np.ndarray | None) -> str:
    """The convolution of x, channels first, with filters (kh, kw, C/groups, F)."""
    filters = bank.transpose(3, 2, 0, 1).reshape(bank.shape[3], bank.shape[2], *layer.kernel_size)
    constants = (filters,) if bias is None else (filters, bias)
    groups = layer.groups_of(layer.input_shape[-1])
    return graph("Conv", x, *constants, dilations=layer.dilation_rate, group=groups, **window(layer))


def convolution(graph: Graph, layer: Any, x: str) -> str:
    """x * W + b, without the activation."""
    y = convolve(graph, layer, channels_first(graph, x, layer.rank), layer.bank, layer.bias_value)
    return channels_last(graph, y, layer.rank)


def separable_convolution(graph: Graph, layer: layers.SeparableConv2D, x: str) -> str:
    """The depthwise convolution, then the pointwise one."""
    z = convolve(graph, layer, channels_first(graph, x, 2), layer.bank, None)
    y = graph("MatMul", channels_last(graph, z, 2), layer.matrix)
    return y if layer.bias is None else graph("Add", y, layer.bias.value)


def transposed_convolution(graph: Graph, layer: layers.Conv2DTranspose, x: str) -> str:
    """ONNX counts the output's size from the padding; what is missing to ours is its output_padding."""
    geometry = layer.windows(layer.input_shape or ())
    missing = [
        size - ((n - 1) * stride + d * (k - 1) + 1 - sum(sides))
        for size, n, stride, d, k, sides in zip(
            geometry.size, layer.input_shape or (), layer.strides, layer.dilation_rate, layer.kernel_size,
            geometry.padding, strict=False,
        )
    ]  # fmt: skip
    filters = layer.weight.value.transpose(3, 2, 0, 1)
    constants = (filters,) if layer.bias is None else (filters, layer.bias.value)
    y = graph(
        "ConvTranspose", channels_first(graph, x, 2), *constants, dilations=layer.dilation_rate,
        output_padding=missing, **window(layer),
    )  # fmt: skip
    return channels_last(graph, y, 2)


def pooling(operator: str) -> "Converter":
    """Return the converter of a pooling; means are those of the pixels that are there, ONNX's default."""

    def convert(graph: Graph, layer: Any, x: str) -> str:
        y = graph(operator, channels_first(graph, x, layer.rank), **window(layer))
        return channels_last(graph, y, layer.rank)

    return convert


def global_pooling(operator: str) -> "Converter":
    """Return the converter of a pooling over whole pictures."""

    def convert(graph: Graph, layer: Any, x: str) -> str:
        return graph(operator, x, np.arange(1, layer.rank + 1), keepdims=int(layer.keepdims))

    return convert


def zero_padding(graph: Graph, layer: layers.ZeroPadding2D, x: str) -> str:
    """Zeros on all sides."""
    before, after = zip(*layer.padding, strict=True)
    return graph("Pad", x, np.array([0, *before, 0, 0, *after, 0]))


def cropping(graph: Graph, layer: layers.Cropping2D, x: str) -> str:
    """The inner part."""
    before, after = zip(*layer.cropping, strict=True)
    ends = [n - side for n, side in zip(layer.input_shape or (), after, strict=False)]
    return graph("Slice", x, np.array(before), np.array(ends), np.array([1, 2]))


def up_sampling(graph: Graph, layer: layers.UpSampling2D, x: str) -> str:
    """Larger pictures; nearness is counted from the pixels' centres."""
    ways: dict[str, dict[str, Any]] = {
        "nearest": {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        },
        "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    }
    scales = np.array([1, 1, *layer.size], np.float32)
    y = graph("Resize", channels_first(graph, x, 2), "", scales, **ways[layer.interpolation])
    return channels_last(graph, y, 2)


def reshape(graph: Graph, layer: layers.Reshape, x: str) -> str:
    """Each sample in another shape."""
    return graph("Reshape", x, np.array([-1, *layer.compute_output_shape(layer.input_shape or ())]))


def scaled(graph: Graph, layer: Any, z: str) -> str:
    """Gamma z + beta."""
    y = z if layer.gamma is None else graph("Mul", z, layer.gamma.value)
    return y if layer.beta is None else graph("Add", y, layer.beta.value)


def layer_normalization(graph: Graph, layer: layers.LayerNormalization, x: str) -> str:
    """z over the last axis, then gamma z + beta."""
    channels = (layer.input_shape or ())[-1]
    return scaled(graph, layer, graph("LayerNormalization", x, np.ones(channels), epsilon=layer.epsilon))


def group_normalization(graph: Graph, layer: layers.GroupNormalization, x: str) -> str:
    """z over pixels and a group's channels, made by instance normalisation of the groups as channels."""
    *places, channels = layer.input_shape or ()
    groups = channels if layer.groups == -1 else layer.groups
    size = math.prod(places) * channels // groups  # said, because no samples at all do not say it
    rows = graph("Reshape", channels_first(graph, x, len(places)), np.array([0, groups, size]))
    z = graph("InstanceNormalization", rows, np.ones(groups), np.zeros(groups), epsilon=layer.epsilon)
    z = graph("Reshape", z, np.array([0, channels, *places]))
    return scaled(graph, layer, channels_last(graph, z, len(places)))


def rows_of(graph: Graph, table: Any, x: str) -> str:
    """The rows of a table at the whole numbers x."""
    return graph("Gather", table, graph("Cast", graph("Round", x), to=7))  # int64


def category_encoding(graph: Graph, layer: layers.CategoryEncoding, x: str) -> str:
    """Rows of the identity, as they are or added up."""
    y = rows_of(graph, np.eye(layer.num_tokens), x)
    if layer.output_mode == "one_hot" and layer.input_shape and layer.input_shape[-1] != 1:
        return y
    y = graph("Einsum", y, equation="...lk->...k")
    return graph("Min", y, 1.0) if layer.output_mode == "multi_hot" else y


def read_pixels(graph: Graph, rows: np.ndarray, columns: np.ndarray, x: str) -> str:
    """R x S' of each picture."""
    return graph("Einsum", rows, x, columns, equation="ih,nhwc,jw->nijc")


def resizing(graph: Graph, layer: layers.Resizing, x: str) -> str:
    """R x S'."""
    sides, nearest = (layer.input_shape or ())[:2], layer.interpolation == "nearest"
    new = layer.height, layer.width
    rows, columns = (matrix(size, to, nearest) for size, to in zip(sides, new, strict=True))
    return read_pixels(graph, rows, columns, x)


def center_crop(graph: Graph, layer: layers.CenterCrop, x: str) -> str:
    """The middle rows and columns, enlarged where there are too few."""
    sides, kept = (layer.input_shape or ())[:2], (layer.height, layer.width)
    if layer.enlarges(*sides):
        rows, columns = filling(sides, kept)
        return read_pixels(graph, rows, columns, x)
    rows, columns = (
        np.eye(size)[(size - keep) // 2 :][:keep] for size, keep in zip(sides, kept, strict=True)
    )
    return read_pixels(graph, rows, columns, x)


Converter = Callable[[Graph, Any, str], str]

CONVERTERS: dict[type[Layer], Converter] = {
    layers.Dense: dense,
    layers.BatchNormalization: batch_normalization,
    layers.Conv1D: convolution,
    layers.Conv2D: convolution,
    layers.Conv2DTranspose: transposed_convolution,
    layers.DepthwiseConv2D: convolution,
    layers.SeparableConv2D: separable_convolution,
    layers.MaxPooling1D: pooling("MaxPool"),
    layers.MaxPooling2D: pooling("MaxPool"),
    layers.AveragePooling1D: pooling("AveragePool"),
    layers.AveragePooling2D: pooling("AveragePool"),
    layers.GlobalMaxPooling1D: global_pooling("ReduceMax"),
    layers.GlobalMaxPooling2D: global_pooling("ReduceMax"),
    layers.GlobalAveragePooling1D: global_pooling("ReduceMean"),
    layers.GlobalAveragePooling2D: global_pooling("ReduceMean"),
    layers.ZeroPadding2D: zero_padding,
    layers.Cropping2D: cropping,
    layers.UpSampling2D: up_sampling,
    layers.Reshape: reshape,
    layers.Permute: lambda graph, layer, x: graph("Transpose", x, perm=[0, *layer.dims]),
    layers.LayerNormalization: layer_normalization,
    layers.GroupNormalization: group_normalization,
    layers.SpatialDropout2D: unchanged,
    layers.Dropout: unchanged,
    layers.CategoryEncoding: category_encoding,
    layers.CenterCrop: center_crop,
    layers.Embedding: lambda graph, layer, x: rows_of(graph, layer.embeddings.value, x),
    layers.GaussianNoise: unchanged,
    layers.RandomCrop: center_crop,
    layers.Resizing: resizing,
    layers.PReLU: lambda graph, layer, x: graph("PRelu", x, layer.alpha.value),
    layers.RandomBrightness: unchanged,
    layers.RandomContrast: unchanged,
    layers.RandomRotation: unchanged,
    layers.RandomZoom: unchanged,
    layers.Flatten: lambda graph, layer, x: graph("Flatten", x, axis=1),
    layers.Normalization: normalization,
    layers.RandomFlip: unchanged,
    layers.RandomTranslation: unchanged,
    layers.Rescaling: lambda graph, layer, x: graph("Add", graph("Mul", x, layer.scale), layer.offset),
    activations.ELU: lambda graph, layer, x: graph("Elu", x, alpha=float(layer.alpha)),
    activations.GELU: lambda graph, layer, x: graph("Gelu", x),
    activations.LeakyReLU: lambda graph, layer, x: graph("LeakyRelu", x, alpha=layer.constants[0]),
    activations.Linear: unchanged,
    activations.LogSoftmax: lambda graph, layer, x: graph("LogSoftmax", x, axis=-1),
    activations.ReLU: relu,
    activations.SELU: lambda graph, layer, x: graph("Selu", x),
    activations.SiLU: lambda graph, layer, x: graph("Mul", x, graph("Sigmoid", x)),
    activations.Sigmoid: lambda graph, layer, x: graph("Sigmoid", x),
    more_activations.Exponential: lambda graph, layer, x: graph("Exp", x),
    more_activations.HardSigmoid: lambda graph, layer, x: graph("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    more_activations.Mish: lambda graph, layer, x: graph("Mish", x),
    more_activations.ReLU6: relu,
    more_activations.Softsign: lambda graph, layer, x: graph("Softsign", x),
    activations.Softmax: lambda graph, layer, x: graph("Softmax", x, axis=-1),
    activations.Softplus: lambda graph, layer, x: graph("Softplus", x),
    activations.Tanh: lambda graph, layer, x: graph("Tanh", x),
}
"""How each kind of link is written: ``converter(graph, link, x)`` returns the name of y, given that of x.

For a layer of your own add a line: ``CONVERTERS[Swap] = lambda graph, layer, x: graph("Neg", x)``.
"""


def export(model: Chain, filepath: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write ``model`` to an ONNX file, with one input ``x`` (N, ...) and one output ``y``, both float32.

    Parameters
    ----------
    metadata
        Words that the file keeps by name, for instance the names of classes.

    Raises
    ------
    ImportError
        Without the package ``onnx``.
    RuntimeError
        If the model is not built.
    ValueError
        If the name ends as those of another format do.
    NotImplementedError
        If it holds a layer that ``CONVERTERS`` does not know. No file is written then.
    """
    refuse_other_formats(filepath, "ONNX")
    if find_spec("onnx") is None:
        raise ImportError("export needs the package onnx: pip install onnx")
    import onnx
    from onnx import helper

    input_shape = model.require_built("export")
    graph = Graph()
    y = "x"
    for layer in model.layers:
        graph.layer = layer.name
        for link in layer.chain():
            y = converter_of(link, layer)(graph, link, y)
    graph.nodes.append(helper.make_node("Identity", [y], ["y"]))
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ("N", *shape))
        for name, shape in (("x", input_shape), ("y", model.output_shape))
    ]
    proto = helper.make_model(
        helper.make_graph(graph.nodes, model.name, ends[:1], ends[1:], graph.constants),
        producer_name="npnet",
        opset_imports=[helper.make_opsetid("", OPERATORS)],
        ir_version=FORMAT,
    )
    helper.set_model_props(proto, dict(metadata or {}))
    onnx.checker.check_model(proto, full_check=True)
    write_atomically(Path(filepath), proto.SerializeToString())


def converter_of(link: Layer, layer: Layer) -> Converter:
    """Return the converter of exactly the link's class: a subclass may compute something else."""
    if type(link) not in CONVERTERS:
        raise NotImplementedError(
            f"Layer {layer.name!r}: nothing says how {type(link).__name__} is written in ONNX. Add it:"
            f" npnet.models.onnx.CONVERTERS[{type(link).__name__}] = a function (graph, layer, x) that"
            ' returns graph("Operator", x, ...).'
        )
    if "forward" in vars(link):
        raise NotImplementedError(f"Layer {layer.name!r} has a forward of its own, which ONNX cannot hold.")
    return CONVERTERS[type(link)]
