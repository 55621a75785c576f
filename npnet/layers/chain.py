"""A chain of layers: structure, weights, forward and backward. It knows no loss and no optimizer."""

import copy
import re
import threading
from collections.abc import Iterator
from itertools import count, dropwhile, islice
from operator import attrgetter
from typing import Any

import numpy as np

from npnet.internal import checks, config, mixed_precision
from npnet.internal.mixed_precision import DTypePolicy
from npnet.internal.streams import WEIGHTS, stream
from npnet.internal.strict import Strict
from npnet.kernels import Kernels, UsesKernels
from npnet.layers.core import Flatten, Input
from npnet.layers.layer import Layer, Shape, check_shape, output_shape
from npnet.layers.more import Whole
from npnet.layers.names import WeightNames, overwrite
from npnet.layers.own import check_arguments
from npnet.layers.parameter import Parameter
from npnet.layers.reshaping import Permute, Reshape

__all__ = ["Chain"]

KERNELS = attrgetter("kernels")


class Chain(Strict, UsesKernels, WeightNames):
    """Layers that follow one another.

    Parameters
    ----------
    name
        What reports call it.
    dtype
        A policy of ``npnet.mixed_precision``, or its name; None for the global one.
    seed
        Where the initial weights and the layers' random numbers come from.

    Attributes
    ----------
    dtype
        Of weights, and of what goes in and out.
    layers
        First to last.
    input_shape
        Shape of one sample, None until it is known.
    built
        Whether the weights exist.
    lock
        Held while a training step or a prediction runs, so that other threads see whole steps only.
    identity
        What an optimizer knows the model by whose steps it has counted; a copy gets another one.
    """

    changeable = ("name",)

    def __init__(self, name: str, dtype: Any, seed: int):
        self.name = checks.text("name", name)
        self._dtype_policy = mixed_precision.get(dtype)
        self.dtype = np.dtype(self._dtype_policy.variable_dtype)
        self.seed = checks.integer("seed", seed, least=0)
        self.layers: list[Layer] = []
        self.input_shape: Shape | None = None
        self.built = False
        self.lock = threading.RLock()
        self.identity = object()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "kernels" and isinstance(value, str):
            raise AttributeError(f"The kernels of a model are chosen by compile(kernels={value!r}).")
        super().__setattr__(name, value)

    @property
    def dtype_policy(self) -> DTypePolicy:
        """What layers compute in that say nothing else."""
        return self._dtype_policy

    @property
    def compute_dtype(self) -> str:
        """What the operands of their matrix products are: "float32", "float64" or "bfloat16"."""
        return self._dtype_policy.compute_dtype

    # --- structure ------------------------------------------------------------------------------------------

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
            if link in self.links:
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
        before = [(part, part._policy, part._own_policy) for part in (layer, *layer.leaves().values())]
        try:
            layer.take_policy(self._dtype_policy)
            if shape is not None:
                self._build_layer(layer, shape, len(self.layers))
        except Exception:
            layer.name = own_name
            for part, policy, own in before:
                part._policy, part._own_policy = policy, own
            layer.use_own_kernels()
            raise
        if not self.layers:
            self.input_shape = shape
        self.layers.append(layer)
        self.built = shape is not None

    def pop(self) -> Layer:
        """Remove the last layer and return it."""
        if not self.layers:
            raise ValueError("There are no layers to pop.")
        self.built = self.built and len(self.layers) > 1
        return self.layers.pop()

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Return the layer of this name or at this place."""
        if (name is None) == (index is None):
            raise ValueError("get_layer needs a name or an index.")
        if index is not None:
            return self.layers[index]
        return config.lookup("layer", str(name), {layer.name: layer for layer in self.layers})

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
        if len(input_shape) < 2:
            raise ValueError(
                "build needs the batch axis and the axes of a sample, for instance (None, 3072), got"
                f" {tuple(input_shape)}."
            )
        shape = check_shape("input_shape", input_shape[1:])
        self.compute_output_shape(shape)
        first = shape
        for index, layer in enumerate(self.layers):
            self._build_layer(layer, shape, index)
            shape = output_shape(layer, shape)
        self._refuse_computed_numbers()
        self.input_shape = first
        self.built = True

    def _computing(self) -> Iterator[Layer]:
        """Go through the links from the first one on that does more than to move numbers."""
        links = (link for layer in self.layers for link in layer.chain())
        return dropwhile(lambda link: isinstance(link, (Flatten, Permute, Reshape)), links)

    @property
    def takes_whole_numbers(self) -> bool:
        """Whether the samples are numbers that stand for things."""
        return isinstance(next(self._computing(), None), Whole)

    def _refuse_computed_numbers(self) -> None:
        """Raise a ValueError if a layer computes what one behind it takes for numbers of things."""
        for link in islice(self._computing(), 1, None):
            if isinstance(link, Whole):
                raise ValueError(
                    f"{type(link).__name__} {link.name!r} takes whole numbers, which layers before it would"
                    " compute with. Put it first; before it there may be Flatten, Permute and Reshape."
                )

    def _build_layer(self, layer: Layer, input_shape: Shape, index: int) -> None:
        """Create a layer's weights from the stream of its place, unless it has them already."""
        output_shape(layer, input_shape)
        if layer.built:
            if layer.input_shape != input_shape:
                raise ValueError(
                    f"Layer {layer.name!r} was built for samples of shape {layer.input_shape},"
                    f" got {input_shape}."
                )
            if any(parameter.dtype != self.dtype for parameter in layer.parameters):
                raise ValueError(f"Layer {layer.name!r} has weights of another dtype than {self.dtype}.")
            return
        check_arguments(layer)
        layer.parameters.clear()  # of a build that failed
        layer.build(input_shape, stream(self.seed, WEIGHTS, index), self.dtype)
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
        return self.compute_output_shape(self.require_built("output_shape"))

    def require_built(self, what: str) -> Shape:
        """Return the input shape; raise a RuntimeError that names ``what`` if there are no weights yet."""
        if not self.built or self.input_shape is None:
            raise RuntimeError(
                f"{what} needs a built model: give the first layer input_shape=(...), call"
                " model.build((None, ...)), or fit."
            )
        return self.input_shape

    @property
    def links(self) -> list[Layer]:
        """The links in the order of computation: layers, each followed by its activation."""
        return [link for layer in self.layers for link in layer.chain()]

    def leaves(self) -> dict[str, Layer]:
        """Return the layers by name, those of nested models as "model/layer"."""
        return {path: leaf for layer in self.layers for path, leaf in layer.leaves().items()}

    # --- forward and backward -------------------------------------------------------------------------------

    def use(self, kernels: Kernels) -> None:
        """Let every link compute with this set of kernels, or with what its layer's policy makes of it."""
        if self.kernels is kernels and {kernels}.issuperset(map(KERNELS, self.links)):
            return  # as mostly: each call asks
        self.kernels = kernels
        for layer in self.layers:
            layer.use(kernels)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the output for a batch in the chain's dtype."""
        for link in self.links:
            x = link.forward(x, training)
        return x

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """Return the predictions for a batch in the chain's dtype."""
        return self.forward(x)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Set every parameter's gradient, given dy of the last ``forward``; return dx."""
        for link in reversed(self.links):
            dy = link.backward(dy)
        return dy

    # --- weights --------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters, layer by layer."""
        return [parameter for layer in self.layers for parameter in layer.parameters]

    @property
    def trainable_parameters(self) -> list[Parameter]:
        """The parameters that training changes."""
        return [parameter for layer in self.leaves().values() for parameter in layer.trainable_parameters]

    @property
    def trainable(self) -> bool:
        """Whether any layer is trained; assign to freeze or train all of them."""
        return any(layer.trainable for layer in self.layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = checks.flag("trainable", value)

    def regularize(self) -> float:
        """Add each regularizer's derivative to its gradient; return the sum of the penalties."""
        for parameter in self.trainable_parameters:
            if parameter.regularizer is not None:
                parameter.grad = parameter.grad + parameter.regularizer.gradient(parameter.value)
        return self.penalty()

    def penalty(self) -> float:
        """Return the sum of the regularizers' penalties."""
        if all(parameter.regularizer is None for parameter in self.parameters):
            return 0.0  # as mostly: evaluations ask for every batch
        return sum(
            parameter.regularizer.penalty(parameter.value)
            for parameter in self.trainable_parameters
            if parameter.regularizer is not None
        )

    def count_params(self) -> int:
        """Return how many numbers the parameters hold."""
        self.require_built("count_params")
        return sum(layer.count_params() for layer in self.layers)

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of all parameters' arrays: kernel, bias of the first layer, then the next."""
        self.require_built("get_weights")
        with self.lock:
            return [parameter.numbers.copy() for parameter in self.parameters]

    def set_weights(self, weights: list[Any]) -> None:
        """Overwrite all parameters' arrays with ``weights``, in the order of ``get_weights``.

        Raises
        ------
        ValueError
            If their number or a shape does not fit, or one holds NaN or infinity. Nothing has changed then.
        """
        self.require_built("set_weights")
        with self.lock:
            overwrite(self.parameters, weights)

    # --- copies ---------------------------------------------------------------------------------------------

    def _state(self, memo: dict[int, Any]) -> dict[str, Any]:
        """Return a deep copy of everything between two steps, for ``copy`` and ``pickle``."""
        with self.lock:
            own = {name: value for name, value in super().__getstate__().items() if name != "lock"}
            return copy.deepcopy(own, memo)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Chain":
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__setstate__(self._state(memo))
        return twin

    def __copy__(self) -> "Chain":
        return copy.deepcopy(self)  # two models that share their weights would undo each other's training

    def __getstate__(self) -> dict[str, Any]:
        return self._state({id(self): self})  # what refers to this chain refers to the one being pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.lock = threading.RLock()


def free_name(class_name: str, taken: set[str]) -> str:
    """Return "conv2d_transpose" for Conv2DTranspose; where that is taken "conv2d_transpose_1", "..._2"."""
    base = re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", class_name).lower()
    return next(name for i in count() if (name := f"{base}_{i}" if i else base) not in taken)
