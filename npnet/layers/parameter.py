"""A trained array with its gradient and the optimizer's memory of it."""

from typing import Any, Protocol

import numpy as np

from npnet.regularizers import Regularizer


class Borrower(Protocol):
    """Whoever keeps a parameter's numbers in a layout of its own for a while."""

    def give_back(self) -> None:
        """Write the numbers back into the parameters and return them."""


class Parameter:
    """An array that training changes.

    Parameters
    ----------
    name
        Unique within its layer: "kernel", "bias", "gamma" ...
    value
        The array itself; it belongs to the parameter.
    regularizer
        Adds its penalty to the loss and its derivative to ``grad``.
    trainable
        False for statistics that are kept but not trained.

    Attributes
    ----------
    grad
        d loss / d value, of the same shape; overwritten by each backward pass.
    slots
        The optimizer's memory: name -> array of the same shape.

    Notes
    -----
    A fused plan may borrow a parameter to hold its numbers in another order. Whoever reads ``value`` or
    ``slots`` meanwhile gets them back first, so nobody else needs to know.
    """

    grad: np.ndarray

    def __init__(
        self, name: str, value: np.ndarray, regularizer: Regularizer | None = None, trainable: bool = True
    ):
        self.name = name
        self.regularizer = regularizer
        self.trainable = trainable
        self.borrower: Borrower | None = None
        self._value = value
        self._slots: dict[str, np.ndarray] = {}

    @property
    def value(self) -> np.ndarray:
        """The array itself, not a copy."""
        if self.borrower is not None:
            self.borrower.give_back()
        return self._value

    @property
    def slots(self) -> dict[str, np.ndarray]:
        """The optimizer's memory, name -> array."""
        if self.borrower is not None:
            self.borrower.give_back()
        return self._slots

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self._value.shape

    @property
    def size(self) -> int:
        """How many numbers the array holds."""
        return self._value.size

    def assign(self, value: np.ndarray) -> None:
        """Overwrite the array with ``value``, which must have its shape."""
        if np.shape(value) != self.shape:
            raise ValueError(f"{self.name} expects a value of shape {self.shape}, got {np.shape(value)}.")
        self.value[...] = value

    def cast(self, dtype: Any) -> None:
        """Turn the array into ``dtype``; the slots start anew."""
        self._value = self.value.astype(dtype)
        self._slots = {}

    def __getstate__(self) -> dict[str, Any]:
        if self.borrower is not None:
            self.borrower.give_back()
        return vars(self)

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, shape={self.shape}, dtype={self._value.dtype})"
