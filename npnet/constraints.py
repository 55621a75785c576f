"""Constraints on weights: what each training step ends with.

A constraint is a function of the array; the optimizer applies it after its update.
"""

from typing import Any, ClassVar

import numpy as np

from npnet.internal import checks, config, results

__all__ = ["NAMES", "Constraint", "MaxNorm", "NonNeg", "get", "max_norm", "non_neg"]

EPSILON = 1e-7  # Keras's


class Constraint(config.Configurable):
    """Base of all constraints: give ``__call__(weight)``."""

    results: ClassVar = {"__call__": results.like("__call__", "the weight as it may be", "weight")}

    def __call__(self, weight: np.ndarray) -> np.ndarray:
        """Return the weight as it may be."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__(weight).")


class MaxNorm(Constraint):
    """w <- w min(1, max_value / |w|), for each column: the weights that come into one unit.

    Parameters
    ----------
    max_value
        The largest norm.
    axis
        What the norm is taken over: 0 for a Dense's kernel (inputs, units), (0, 1, 2) for a convolution's.
    """

    def __init__(self, max_value: float = 2, axis: Any = 0):
        self.max_value = checks.number("max_value", max_value, least=0)
        self.axis = axis

    def __call__(self, weight: np.ndarray) -> np.ndarray:
        """Return the weight with no norm above ``max_value``."""
        axis = tuple(self.axis) if isinstance(self.axis, list) else self.axis
        norm = np.sqrt(np.square(weight).sum(axis=axis, keepdims=True))
        return weight * (np.minimum(norm, self.max_value) / (EPSILON + norm)).astype(weight.dtype)


class NonNeg(Constraint):
    """w <- max(w, 0)."""

    def __call__(self, weight: np.ndarray) -> np.ndarray:
        """Return the weight without what is negative."""
        return np.maximum(weight, 0)


max_norm, non_neg = MaxNorm, NonNeg  # Keras's names of functions
NAMES: dict[str, type[Constraint]] = {"max_norm": MaxNorm, "non_neg": NonNeg}


def get(identifier: Any) -> Constraint | None:
    """Return the constraint meant by a name, an instance, a dict, or None."""
    return None if identifier is None else config.get("constraint", identifier, Constraint, NAMES)
