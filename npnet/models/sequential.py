"""Sequential: a stack of layers."""

import re
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from npnet.internal import checks
from npnet.layers import Input
from npnet.layers.layer import Layer, Shape, check_shape, output_shape
from npnet.layers.parameter import Parameter
from npnet.models import onnx, saving
from npnet.models.summary import html_summary, print_summary
from npnet.training import batches as data
from npnet.training.loops import Trainer
from npnet.utils import new_seed

__all__ = ["Sequential", "load_model"]


class Sequential(Trainer):
    """A network whose layers follow one another.

    Parameters
    ----------
    layers
        The layers, first to last; more can be added.
    name
        "sequential" by default.
    dtype
        "float32" or "float64", of weights and arithmetic.
    seed
        Where all random numbers of the model come from (initial weights, shuffling, dropout). The same seed
        gives the same bits, at any thread count. A random one by default; NumPy's generator is not touched.

    Examples
    --------
    >>> model = Sequential([Dense(512, "relu", input_shape=(3072,)), Dense(10, "softmax")])
    >>> model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    >>> history = model.fit(x_train, y_train, epochs=20, validation_data=(x_test, y_test))
    """

    def __init__(
        self,
        layers: list[Layer] | None = None,
        name: str | None = None,
        dtype: Any = "float32",
        seed: int | None = None,
    ):
        self.name = "sequential" if name is None else checks.text("name", name)
        try:
            self.dtype = np.dtype(dtype)
        except TypeError:
            self.dtype = np.dtype(object)
        if dtype is None or self.dtype not in (np.float32, np.float64):
            raise ValueError(f'dtype must be "float32" or "float64", got {dtype!r}.')
        if layers is not None and not isinstance(layers, (list, tuple)):
            raise TypeError(f"layers must be a list of layers, got {layers!r}.")
        self.seed = new_seed() if seed is None else checks.integer("seed", seed, least=0)
        self.layers: list[Layer] = []
        self.input_shape: Shape | None = None
        self.built = False
        for layer in layers or []:
            self.add(layer)

    # --- structure ----------------------------------------------------------------------------------------

    def add(self, layer: Layer) -> None:
        """Append a layer. Once the input shape is known, weights are created at once.

        Raises
        ------
        TypeError
            If ``layer`` is no layer.
        ValueError
            If it or its activation is in the model already, its name is taken, or it does not fit the one
            before.
        """
        if not isinstance(layer, Layer):
            raise TypeError(f"add expects a layer such as Dense(10), got {layer!r}.")
        if isinstance(layer, Input):
            if self.layers or self.input_shape:
                raise ValueError("Input must come first.")
            self.input_shape = layer.input_shape
            return
        for link in layer.chain():  # each remembers its own forward until backward
            if link in self.chain:
                raise ValueError(f"{link!r} is in this model already; make another one.")
        taken = {other.name for other in self.layers}
        name = layer.name or free_name(type(layer).__name__, taken)
        if name in taken:
            raise ValueError(f"A layer named {name!r} is in this model already; choose another name.")
        shape = self.output_shape if self.built else self.input_shape
        if not self.layers and layer.input_shape is not None:
            if shape not in (None, layer.input_shape):
                raise ValueError(
                    f"The model takes samples of shape {shape}, got {name!r} with"
                    f" input_shape={layer.input_shape}."
                )
            shape = layer.input_shape
        own_name, layer.name = layer.name, name
        try:
            if shape is not None:
                self._build_layer(layer, shape, len(self.layers))
        except Exception:
            layer.name = own_name
            raise
        if not self.layers:
            self.input_shape = shape
        self.layers.append(layer)
        self.built = shape is not None
        self._step = None
        self._metrics = []

    def pop(self) -> Layer:
        """Remove the last layer and return it."""
        if not self.layers:
            raise ValueError("There are no layers to pop.")
        self._step = None
        self._metrics = []
        self.built = self.built and len(self.layers) > 1
        return self.layers.pop()

    def build(self, input_shape: Any = None) -> None:
        """Create the weights for samples of ``input_shape``, given with the batch axis: ``(None, 3072)``.

        Does nothing if they exist already.

        Raises
        ------
        ValueError
            If a layer does not fit the shape, or the model was built for another one.
        """
        if self.built:
            if input_shape is not None and tuple(input_shape)[1:] != self.input_shape:
                raise ValueError(
                    f"The model was built for samples of shape {self.input_shape},"
                    f" got build({input_shape!r})."
                )
            return
        if not self.layers:
            raise ValueError("The model has no layers: add some first, model.add(Dense(...)).")
        if input_shape is None:
            raise ValueError("build needs an input shape with its batch axis, for instance (None, 3072).")
        if not isinstance(input_shape, (tuple, list)):
            raise TypeError(f"build needs a shape such as (None, 3072), got {input_shape!r}.")
        shape = check_shape("input_shape", input_shape[1:])
        self.compute_output_shape(shape)
        first = shape
        for index, layer in enumerate(self.layers):
            self._build_layer(layer, shape, index)
            shape = output_shape(layer, shape)
        self.input_shape = first
        self.built = True

    def _build_layer(self, layer: Layer, input_shape: Shape, index: int) -> None:
        """Create a layer's weights from the stream of its place, unless it has them already."""
        output_shape(layer, input_shape)
        if layer.built:
            if layer.input_shape != input_shape:
                raise ValueError(
                    f"Layer {layer.name!r} was built for samples of shape {layer.input_shape},"
                    f" got {input_shape}."
                )
            if any(parameter.value.dtype != self.dtype for parameter in layer.parameters):
                raise ValueError(f"Layer {layer.name!r} has weights of another dtype than {self.dtype}.")
            return
        layer.parameters.clear()  # of a build that failed
        layer.build(input_shape, data.stream(self.seed, data.WEIGHTS, index), self.dtype)
        layer.input_shape = input_shape
        layer.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one output sample for input samples of ``input_shape``."""
        for layer in self.layers:
            input_shape = output_shape(layer, input_shape)
        return input_shape

    @property
    def output_shape(self) -> Shape:
        """The shape of one output sample of the built model."""
        return self.compute_output_shape(self._require_built("output_shape"))

    def _require_built(self, what: str) -> Shape:
        if not self.built or self.input_shape is None:
            raise RuntimeError(
                f"{what} needs a built model: give the first layer input_shape=(...), call"
                " model.build((None, ...)), or fit."
            )
        return self.input_shape

    @property
    def chain(self) -> list[Layer]:
        """The links of all layers, activations among them, in the order of computation."""
        return [link for layer in self.layers for link in layer.chain()]

    def __call__(self, x: Any, training: bool = False) -> np.ndarray:
        """Return the outputs of one batch."""
        x = self._check_x(x)
        self._prepare_to_run(x)
        return self.forward(data.gather(x, np.arange(len(x)), self.dtype), training)

    # --- weights --------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters, layer by layer."""
        return [parameter for layer in self.layers for parameter in layer.parameters]

    @property
    def trainable_parameters(self) -> list[Parameter]:
        """The parameters that training changes."""
        return [
            parameter
            for layer in self.layers
            if layer.trainable
            for parameter in layer.parameters
            if parameter.trainable
        ]

    def count_params(self) -> int:
        """Return how many numbers the parameters hold."""
        self._require_built("count_params")
        return sum(layer.count_params() for layer in self.layers)

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of all parameters' arrays: kernel, bias of the first layer, then the next."""
        self._require_built("get_weights")
        return [parameter.value.copy() for parameter in self.parameters]

    def set_weights(self, weights: list[Any]) -> None:
        """Overwrite all parameters' arrays with ``weights``, in the order of ``get_weights``.

        Raises
        ------
        ValueError
            If their number or a shape does not fit, or one holds NaN or infinity. Nothing has changed then.
        """
        self._require_built("set_weights")
        if not isinstance(weights, (list, tuple)):
            raise TypeError(f"weights must be a list of arrays, got {type(weights).__name__}.")
        if len(weights) != len(self.parameters):
            raise ValueError(f"weights must hold {len(self.parameters)} arrays, got {len(weights)}.")
        arrays = []
        for i, (parameter, weight) in enumerate(zip(self.parameters, weights, strict=True)):
            array = checks.numbers(f"weights[{i}]", weight)
            if array.shape != parameter.shape:
                raise ValueError(
                    f"weights[{i}] ({parameter.name}) must have shape {parameter.shape}, got {array.shape}."
                )
            checks.finite(f"weights[{i}] ({parameter.name})", array, self.dtype, "Training had diverged?")
            arrays.append(array)
        for parameter, array in zip(self.parameters, arrays, strict=True):
            parameter.assign(array)

    # --- showing and saving ----------------------------------------------------------------------------

    def summary(self, line_length: int | None = None, print_fn: Any = None) -> None:
        """Print layers, output shapes and numbers of parameters as Keras does."""
        print_summary(self, line_length, print_fn or print)

    def save(self, filepath: str | Path, overwrite: bool = True) -> None:
        """Write architecture, weights and training state to one safetensors file (see ``saving.py``)."""
        saving.save_model(self, filepath, overwrite)

    def save_weights(self, filepath: str | Path, overwrite: bool = True) -> None:
        """Write the weights alone to a safetensors file."""
        saving.save_weights(self, filepath, overwrite)

    def load_weights(self, filepath: str | Path, skip_mismatch: bool = False) -> None:
        """Read the weights from a file of ``save`` or ``save_weights``, by layer and parameter name."""
        saving.load_weights(self, filepath, skip_mismatch)

    def export(self, filepath: str | Path, format: str = "onnx") -> None:
        """Write the model for other runtimes; see ``npnet.models.onnx``."""
        if format != "onnx":
            raise ValueError(f'format must be "onnx", got {format!r}.')
        onnx.export(self, filepath)

    def __repr__(self) -> str:
        return f"<Sequential {self.name!r}: {', '.join(repr(layer) for layer in self.layers)}>"

    def _repr_html_(self) -> str:
        """Return the summary as a table, for notebooks."""
        return html_summary(self)


def load_model(
    filepath: str | Path, custom_objects: dict[str, Any] | None = None, compile: bool = True
) -> Sequential:
    """Return the model a file of ``model.save`` holds, ready to go on training.

    Parameters
    ----------
    custom_objects
        {"ClassName": class} of layers, losses or optimizers that are not npnet's.
    compile
        False leaves the training state in the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, no npnet model, or names an unknown class.
    """
    return saving.load_model(Sequential, filepath, custom_objects, compile)


def free_name(class_name: str, taken: set[str]) -> str:
    """Return "dense", or "dense_1", "dense_2" ... where that is taken."""
    base = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", class_name).lower()
    return next(name for i in count() if (name := f"{base}_{i}" if i else base) not in taken)
