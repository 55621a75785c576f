"""A trained array with its gradient and the optimizer's memory of it."""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from npnet.constraints import Constraint
from npnet.internal.strict import Strict
from npnet.regularizers import Regularizer

__all__ = ["Home", "Parameter", "assign"]


class Home(Protocol):
    """Whoever keeps a parameter's numbers in a layout of its own while it trains them."""

    def show(self) -> None:
        """Copy the numbers into the parameter's array, to be read only, and keep them."""

    def give_back(self) -> None:
        """Copy the numbers back into the parameter, if they are not there; wait for the end of a step."""

    def give_back_slots(self) -> None:
        """Copy the slots back as well.

        Raises
        ------
        RuntimeError
            If other processes have parts of them.
        """


class Parameter(Strict):
    """An array that training changes.

    Parameters
    ----------
    name
        Unique within its layer: "kernel", "bias", "gamma" ...
    value
        The array itself; it belongs to the parameter.
    regularizer
        Adds its penalty to the loss and its derivative to ``grad``.
    constraint
        What the array becomes after each step of the optimizer.
    trainable
        False for statistics that are kept but not trained. Assign False to freeze one parameter of a layer:
        ``layer.kernel.trainable = False``.

    Attributes
    ----------
    frozen
        Whether it was made to be trained and is no more; saved with the model.
    grad
        d loss / d value, of the same shape; overwritten by each backward pass. Fused steps keep none.
    path
        "layer/name", of a parameter that a layer has made; by it a MultiOptimizer chooses.
    home
        Whoever may keep the numbers in another layout, or None.
    array
        Where the numbers are while nobody keeps them elsewhere: for ``home``; others ask for ``value``, or,
        if they only read them, for ``numbers``.

    Notes
    -----
    A fused plan keeps the numbers in a layout of its own while it trains. Whoever reads ``value`` or
    ``slots`` gets them back first, so nobody else needs to know. An array taken from ``value`` before
    training is therefore stale after it, until ``value`` is read again. So read it anew, and write through
    ``value`` or ``assign``.
    """

    grad: np.ndarray

    def __init__(
        self,
        name: str,
        value: np.ndarray,
        regularizer: Regularizer | None = None,
        trainable: bool = True,
        constraint: Constraint | None = None,
    ):
        self.name = self.path = name
        self.regularizer = regularizer
        self.constraint = constraint
        self.trainable = self._made_trainable = trainable
        self.home: Home | None = None
        self.array = value
        self._slots: dict[str, np.ndarray] = {}

    if not TYPE_CHECKING:  # mypy would take every name for an attribute

        def __getattr__(self, name: str) -> Any:
            if name == "grad":
                raise AttributeError(
                    f"{self.path} has no gradient: no backward pass has set one. Fused steps use gradients as"
                    " they are computed and keep none; compile(fused=False) keeps them."
                )
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")

    def come_home(self) -> None:
        """Get numbers and slots back from whoever keeps them elsewhere."""
        if self.home is not None:
            self.home.give_back_slots()

    @property
    def value(self) -> np.ndarray:
        """The array itself, not a copy; what is assigned is copied into it."""
        if self.home is not None:
            self.home.give_back()
        return self.array

    @value.setter
    def value(self, value: np.ndarray) -> None:
        if value is not self.array:  # after ``value *= 0.9`` it is
            self.assign(value)

    @property
    def numbers(self) -> np.ndarray:
        """The array as it is now, to be read only: whoever keeps the numbers elsewhere keeps them."""
        if self.home is not None:
            self.home.show()
        return self.array

    @property
    def slots(self) -> dict[str, np.ndarray]:
        """The memory of the optimizer that trained the parameter last, name -> array."""
        self.come_home()
        return self._slots

    @slots.setter
    def slots(self, slots: dict[str, np.ndarray]) -> None:
        self.come_home()
        self._slots = slots

    @property
    def frozen(self) -> bool:
        """Whether it was made to be trained and is no more."""
        return self._made_trainable and not self.trainable

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.array.shape

    @property
    def size(self) -> int:
        """How many numbers the array holds."""
        return self.array.size

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the array."""
        return self.array.dtype

    def assign(self, value: np.ndarray) -> None:
        """Overwrite the array with ``value``, which must have its shape."""
        if np.shape(value) != self.shape:
            raise ValueError(f"{self.name} expects a value of shape {self.shape}, got {np.shape(value)}.")
        self.value[...] = value

    def numpy(self) -> np.ndarray:
        """Return a copy of the array."""
        return self.numbers.copy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numbers, dtype)

    def cast(self, dtype: Any) -> None:
        """Turn the array into ``dtype``; the slots start anew."""
        self.array = self.value.astype(dtype)
        self._slots = {}

    def __getstate__(self) -> dict[str, Any]:
        self.come_home()
        return vars(self) | {"home": None}

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, shape={self.shape}, dtype={self.dtype})"


def assign(parameters: list[Parameter], values: list[np.ndarray]) -> None:
    """Overwrite the arrays of all parameters, or, after an error or an interrupt, of none."""
    before = [parameter.numbers.copy() for parameter in parameters]
    try:
        for parameter, value in zip(parameters, values, strict=True):
            parameter.assign(value)
    except BaseException:
        for parameter, value in zip(parameters, before, strict=True):
            parameter.value[...] = value
        raise
