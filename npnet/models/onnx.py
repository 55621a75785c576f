"""Export to ONNX, the format other runtimes read.

The exported model computes in float32 whatever npnet's model trained in, takes any number of samples, and
does what ``predict`` does: Dropout and random pictures are left out, BatchNormalization uses its moving
averages.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from npnet import layers
from npnet.internal.files import refuse_other_formats, write_atomically
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
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
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
    """The middle rows and columns."""
    sides, kept = (layer.input_shape or ())[:2], (layer.height, layer.width)
    rows, columns = (
        np.eye(size)[(size - keep) // 2 :][:keep] for size, keep in zip(sides, kept, strict=True)
    )
    return read_pixels(graph, rows, columns, x)


Converter = Callable[[Graph, Any, str], str]

CONVERTERS: dict[type[Layer], Converter] = {
    layers.Dense: dense,
    layers.BatchNormalization: batch_normalization,
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


def export(model: Chain, filepath: str | Path) -> None:
    """Write ``model`` to an ONNX file, with one input ``x`` (N, ...) and one output ``y``, both float32.

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
    return CONVERTERS[type(link)]
