"""The protocol every layer follows."""

import copy
import math
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from npnet import constraints, initializers, regularizers
from npnet.internal import checks, config, mixed_precision
from npnet.internal.mixed_precision import DTypePolicy
from npnet.kernels import Kernels, UsesKernels
from npnet.layers.names import WeightNames, overwrite
from npnet.layers.parameter import Parameter

__all__ = [
    "MOST_NUMBERS", "Layer", "Shape", "check_shape", "output_shape", "refuse_larger", "refuse_layers",
    "shapes_in_file",
]  # fmt: skip

Shape = tuple[int, ...]
MOST_NUMBERS = 2**30  # that a sample becomes anywhere in a network: 4 GiB in float32

# While a model is loaded: what the file holds, so that nothing is allocated that it does not hold.
shapes_in_file: ContextVar[Mapping[str, Shape] | None] = ContextVar("shapes_in_file", default=None)


class Layer(config.Configurable, UsesKernels, WeightNames):
    """One link of a network: y = f(x), and the way back.

    To write a layer, subclass this and give

    ``build(input_shape, rng, dtype)``
        Create the parameters with ``add_parameter``. Not needed by a layer without any.
    ``forward(x, training)``
        Return y, keeping by name what ``backward`` will need.
    ``backward(dy)``
        Given dy = d loss / d y, overwrite ``parameter.grad`` of each parameter and return dx = d loss / d x.
    ``compute_output_shape(input_shape)``
        Only where the shape changes.

    Constructor arguments are kept in attributes of the same names; that is what saving a model relies on.
    ``check_gradients`` says what is missing; ``own.py`` looks at what the methods take and return.

    Parameters
    ----------
    name
        Unique within a model, without "/"; by default the class name with a number.
    input_shape
        Shape of one sample, if this is the first layer: ``(3072,)``.
    input_dim
        Keras's older way to say ``input_shape=(input_dim,)``.
    trainable
        False freezes the layer's parameters.
    dtype
        A policy of ``npnet.mixed_precision``, or its name: what this layer computes in, if it is not what its
        model does. Its weights must be of the model's dtype: "float32" in a model of "mixed_bfloat16", for
        instance. What a layer multiplies without ``self.kernels`` is not rounded: its ``compute_dtype`` says
        what is wanted.

    Attributes
    ----------
    takes_integers
        Whether ``forward`` also takes integers, pictures' bytes for instance; else they are converted first.
    told_by_kernels
        Whether the docstrings of the kernels it calls say what it computes; else its own do, in
        ``npnet explain``.
    rng
        The random stream of a layer that draws numbers when it runs, else None: ``build`` keeps the generator
        it is given, ``self.rng = rng``. It comes from the model's seed and the layer's place. A saved model
        holds where it stands, so a resumed training draws what it would have drawn; the gradient check sets
        it back before every forward pass.
    """

    changeable: tuple[str, ...] = ("trainable",)
    takes_integers = False
    told_by_kernels = True
    _policy: DTypePolicy | None = None  # None: that of the model the layer will be in
    _own_policy = False  # whether it is said where the layer is described

    @config.keras_arguments(activity_regularizer=None, autocast=True)
    def __init__(
        self,
        name: str | None = None,
        input_shape: Shape | None = None,
        input_dim: int | None = None,
        trainable: bool = True,
        dtype: Any = None,
    ):
        if input_dim is not None:
            if input_shape is not None:
                raise ValueError("Give input_shape or input_dim, not both.")
            input_shape = (input_dim,)
        self.name = "" if name is None else checks.text("name", name, without="/")
        self.input_shape = None if input_shape is None else check_shape("input_shape", input_shape)
        self.trainable = checks.flag("trainable", trainable)
        self.parameters: list[Parameter] = []
        self.rng: np.random.Generator | None = None
        self.built = False
        if dtype is not None:
            self._policy, self._own_policy = mixed_precision.get(dtype), True

    if not TYPE_CHECKING:  # type checkers shall still find names that do not exist

        def __getattr__(self, name):
            """Say why there is no such attribute: called only for those that are not found."""
            cls = type(self).__name__
            if "built" not in vars(self):
                raise AttributeError(
                    f"{cls} has no attribute {name!r}: its __init__ must begin with"
                    " super().__init__(**options), which sets what every layer has."
                )
            unbuilt = "" if self.built else "; it is not built yet: parameters come with the input's shape"
            raise AttributeError(f"{cls} {self.name!r} has no attribute {name!r}{unbuilt}.")

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Create the parameters for samples of ``input_shape`` (without the batch axis)."""

    @property
    def input_dim(self) -> Any:
        """The number in ``input_shape``, under Keras's older name."""
        return None if self.input_shape is None else self.input_shape[0]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one output sample; by default that of the input."""
        return input_shape

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return y = f(x) for a batch x of shape (N, *input_shape)."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(x, training).")

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Overwrite the parameters' gradients and return dx, given dy of the last ``forward``."""
        raise NotImplementedError(f"{type(self).__name__} has no backward(dy).")

    def backward_parameters(self, dy: np.ndarray) -> None:
        """Overwrite the parameters' gradients only: all that the first layer of a network needs."""
        self.backward(dy)

    def on_epoch_begin(self, epoch: int) -> None:
        """Hear which epoch ``fit`` begins or goes on with, counted over the model's life."""

    # --- what it computes in --------------------------------------------------------------------------------

    @property
    def dtype_policy(self) -> DTypePolicy:
        """What the layer computes in; before it is in a model, what it would in one that is made now.

        A policy that is assigned must have weights of the same dtype.
        """
        return mixed_precision.dtype_policy() if self._policy is None else self._policy

    @dtype_policy.setter
    def dtype_policy(self, policy: Any) -> None:
        policy = mixed_precision.get(policy)
        if policy.variable_dtype != self.dtype:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} has weights of {self.dtype}; those of"
                f" {policy.name!r} are {policy.variable_dtype}. Make the model anew with another dtype."
            )
        for layer in (self, *self.leaves().values()):
            layer._policy, layer._own_policy = policy, True
        self.use_own_kernels()

    @property
    def compute_dtype(self) -> str:
        """What the operands of the layer's matrix products are: "float32", "float64" or "bfloat16"."""
        return self.dtype_policy.compute_dtype

    @property
    def dtype(self) -> str:
        """What the layer's weights are, and what goes in and out: "float32" or "float64"."""
        return self.dtype_policy.variable_dtype

    variable_dtype = dtype

    def take_policy(self, policy: DTypePolicy) -> None:
        """Compute by the policy of a model the layer is added to, unless it has one.

        A layer that is in another model already keeps what it has there, and says so from now on.
        """
        if self._policy is None or (self.dtype != policy.variable_dtype and not self._own_policy):
            self._policy = policy
        elif self.dtype != policy.variable_dtype:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} has dtype={self._policy.name!r}, whose weights are"
                f" {self.dtype}; those of the model are {policy.variable_dtype}. Leave it out, or give the"
                " model another dtype."
            )
        else:
            self._own_policy = self._own_policy or self._policy != policy
        self.use_own_kernels()

    def use(self, kernels: Kernels) -> None:
        """Compute with this set of kernels, or with the one that the layer's policy makes of it."""
        from npnet.kernels.mixed import computing_in

        own = computing_in(self.compute_dtype, kernels)
        for link in self.chain():
            if link.kernels is not own:
                link.kernels = own

    def use_own_kernels(self) -> None:
        """Go on with the kernels it has, as its policy wants them now."""
        for leaf in self.leaves().values():
            leaf.use(leaf.kernels)

    # --- its place in a model -------------------------------------------------------------------------------

    def leaves(self) -> "dict[str, Layer]":
        """Return the layers this one stands for, by name: itself, or those of a nested model."""
        return {self.name: self}

    def chain(self) -> "list[Layer]":
        """Return the links this layer stands for: itself, then its activation if it has one."""
        return [self]

    def __call__(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Run the whole chain of this layer on a batch.

        A layer without weights, such as an adapted Normalization, may be called before it is in a model. It
        computes in float64 then if x is of that dtype, else in float32.

        Raises
        ------
        TypeError
            If ``x`` is a layer: there is no functional API.
        RuntimeError
            If the layer has weights and has not been built.
        """
        refuse_layers(x)
        if not self.built and type(self).build is not Layer.build:
            return self._built_for(np.asarray(x))(x, training)
        for link in self.chain():
            x = link.forward(x, training)
        return x

    def _built_for(self, x: np.ndarray) -> "Layer":
        """Return a copy built for one batch, so that a model may still build the layer in its own dtype."""
        twin = copy.deepcopy(self)
        output_shape(twin, x.shape[1:])
        dtype = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
        twin.build(x.shape[1:], np.random.default_rng(), dtype)
        twin.built = True
        if twin.parameters:
            raise RuntimeError(
                f"{type(self).__name__} {self.name!r} is not built: its weights are made when it is"
                " added to a model, Sequential([Input(shape=(4,)), layer]), or by its build."
            )
        return twin

    def add_parameter(
        self,
        name: str,
        shape: Shape,
        initializer: Any,
        rng: np.random.Generator,
        dtype: np.dtype,
        regularizer: Any = None,
        trainable: bool = True,
        constraint: Any = None,
    ) -> Parameter:
        """Create a parameter, append it to ``parameters`` and return it."""
        checks.text("name", name, without="/")
        if any(parameter.name == name for parameter in self.parameters):
            raise ValueError(f"{type(self).__name__} has a parameter named {name!r} already.")
        expected = shapes_in_file.get()
        if expected is not None and expected.get(f"{self.name}/{name}") != shape:
            raise ValueError(f"{self.name}/{name} of shape {shape} is not in the file.")
        value = initializers.get(initializer)(shape, rng, dtype)
        if expected is not None:
            del value  # what was drawn makes room: the file's numbers will take its place
            value = np.zeros(shape, dtype)
        parameter = Parameter(
            name, value, regularizers.get(regularizer), trainable, constraints.get(constraint)
        )
        parameter.path = f"{self.name}/{name}"
        self.parameters.append(parameter)
        return parameter

    @property
    def trainable_parameters(self) -> list[Parameter]:
        """The parameters that training changes."""
        return [parameter for parameter in self.parameters if self.trainable and parameter.trainable]

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of the parameters' arrays, in the order of ``parameters``."""
        return [parameter.numbers.copy() for parameter in self.parameters]

    def set_weights(self, weights: list[Any]) -> None:
        """Overwrite the parameters' arrays, in the order of ``get_weights``, all or none."""
        overwrite(self.parameters, weights)

    def count_params(self) -> int:
        """Return how many numbers the parameters hold."""
        return sum(parameter.size for parameter in self.parameters)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, name and input shape included."""
        common = {"name": self.name, "trainable": self.trainable, "input_shape": self.input_shape}
        arguments = super().get_config() | config.serialize(common)
        arguments.pop("input_dim", None)  # input_shape says the same
        arguments.pop("dtype", None)  # that of the weights; of the layer's own policy the name is kept
        if self._own_policy:
            arguments["dtype"] = self.dtype_policy.name
        return arguments

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def output_shape(layer: Layer, input_shape: Shape) -> Shape:
    """Return what ``compute_output_shape`` returns, or raise a TypeError if that is no shape."""
    shape = layer.compute_output_shape(input_shape)
    try:
        shape = check_shape("shape", shape)
    except ValueError:
        raise TypeError(
            f"{type(layer).__name__}.compute_output_shape must return the shape of one sample, without the"
            f" batch axis, such as (32,), got {shape!r}."
        ) from None
    refuse_larger(layer, "output", shape)
    return shape


def refuse_larger(layer: Layer, what: str, shape: Shape) -> None:
    """Raise a ValueError if what a layer makes of one sample has more than ``MOST_NUMBERS`` numbers.

    A slip or a strange model file would take all the memory of the machine otherwise.
    """
    if math.prod(shape) > MOST_NUMBERS:
        raise ValueError(
            f"{type(layer).__name__} {layer.name!r}: its {what} {shape} of one sample would have"
            f" {math.prod(shape):,} numbers, at most {MOST_NUMBERS:,} are possible. Give it smaller"
            " arguments or smaller samples."
        )


def check_shape(name: str, shape: Any) -> Shape:
    """Return ``shape`` as a tuple of positive integers, or raise a ValueError naming it."""
    if type(shape) is tuple and shape and all(type(size) is int and size > 0 for size in shape):
        return shape  # as nearly always: models ask in every call
    try:
        sizes = tuple(shape)
    except TypeError:
        raise ValueError(f"{name} must be a tuple such as (3072,), got {shape!r}.") from None
    if not sizes or not all(
        isinstance(size, (int, np.integer)) and not isinstance(size, bool) and size > 0 for size in sizes
    ):
        raise ValueError(f"{name} must hold positive integers, got {shape!r}.")
    return tuple(int(size) for size in sizes)


def refuse_layers(x: Any) -> None:
    """Raise a TypeError that shows what to write instead if a layer stands where a batch belongs."""
    if isinstance(x, Layer):
        raise TypeError(
            f"Layers and models are called on arrays, got {x!r}: npnet has no functional API. Put the layers"
            " into a model in their order: Sequential([Input(shape=(4,)), Dense(3)])."
        )
