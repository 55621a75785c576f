"""A model among the layers of another one."""

from typing import Any

import numpy as np

from npnet.internal.mixed_precision import DTypePolicy
from npnet.kernels import Kernels
from npnet.layers.chain import Chain, free_name
from npnet.layers.layer import Layer, Shape, shapes_in_file
from npnet.layers.parameter import Parameter
from npnet.layers.registry import CLASSES, from_config

__all__ = ["Nested", "as_layer"]


class Nested(Layer):
    """A chain of layers as one layer: ``model.add(other_model)`` makes it.

    The layers are the other model's own, not copies: both train and freeze the same weights.

    Parameters
    ----------
    layers
        First to last, as objects or as ``get_config`` describes them.
    """

    def __init__(self, layers: list[Any], **options: Any):
        trainable = options.pop("trainable", True)
        super().__init__(**options)
        inside = [from_config(layer) if isinstance(layer, dict) else layer for layer in layers]
        for layer in inside:
            layer.name = layer.name or free_name(type(layer).__name__, {other.name for other in inside})
        self.inner = Chain(self.name or "nested", "float32", 0)
        self.inner.layers[:] = inside
        self.inner.built = bool(inside) and all(layer.built for layer in inside)
        if self.inner.built:
            self.inner.input_shape = inside[0].input_shape
        if not trainable:
            self.inner.trainable = False
        if self._own_policy:
            self.take_policy(self.dtype_policy)

    @property
    def layers(self) -> list[Layer]:
        """The layers inside."""
        return self.inner.layers

    @property
    def trainable(self) -> bool:
        """Whether any layer inside is trained; assign to freeze or train all of them."""
        return "inner" not in vars(self) or self.inner.trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if "inner" in vars(self):
            self.inner.trainable = value

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters inside."""
        return self.inner.parameters if "inner" in vars(self) else []

    @parameters.setter
    def parameters(self, value: list[Parameter]) -> None:
        """Take the empty list of a new layer: the parameters are those inside."""

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Build what is inside, if it is not built, from a seed drawn from ``rng``."""
        held = shapes_in_file.get()
        if held is not None:
            start = f"{self.name}/"
            held = {name.removeprefix(start): held[name] for name in held if name.startswith(start)}
        if any(parameter.dtype != dtype for parameter in self.parameters):
            raise ValueError(f"{self.name!r} has weights of another dtype than {np.dtype(dtype)}.")
        token = shapes_in_file.set(held)
        try:
            # No assignment can change them, but this model has no weights yet.
            vars(self.inner).update(dtype=np.dtype(dtype), seed=int(rng.integers(2**31)))
            self.inner.build((None, *input_shape))
        finally:
            shapes_in_file.reset(token)

    def take_policy(self, policy: DTypePolicy) -> None:
        """Compute by the policy of a model, unless there is another one; and so all layers inside."""
        super().take_policy(policy)
        for layer in self.layers:
            layer.take_policy(self.dtype_policy)

    def use(self, kernels: Kernels) -> None:
        """Compute with this set of kernels, each layer inside as its own policy wants them."""
        for layer in self.layers:
            layer.use(kernels)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape that the last layer gives."""
        return self.inner.compute_output_shape(input_shape)

    def chain(self) -> list[Layer]:
        """Return the links of all layers inside."""
        return self.inner.links

    def leaves(self) -> dict[str, Layer]:
        """Return the layers inside, by name with this layer's before it."""
        return {f"{self.name}/{path}": layer for path, layer in self.inner.leaves().items()}


CLASSES["Nested"] = Nested


def as_layer(layer: Any, taken: set[str]) -> Any:
    """Return a model as a layer, and anything else as it is.

    A model whose name nobody has chosen gets one that is not ``taken``, as any other layer does.
    """
    if not isinstance(layer, Chain):
        return layer
    name = free_name("Sequential", taken) if layer.name == "sequential" else layer.name
    return Nested(layer.layers, name=name, input_shape=layer.input_shape)
