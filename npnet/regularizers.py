"""Penalties on weights: a term of the loss and its derivative."""

from typing import Any, ClassVar

import numpy as np

from npnet.internal import checks, config, results

__all__ = ["L1", "L1L2", "L2", "NAMES", "Regularizer", "get", "l1", "l1_l2", "l2"]


class Regularizer(config.Configurable):
    """A penalty on one array. Subclasses give ``penalty`` and ``gradient``."""

    results: ClassVar = {
        "penalty": results.numbers("penalty", "the term added to the loss, a number"),
        "gradient": results.like("gradient", "d penalty / d weight", "weight"),
    }

    def penalty(self, weight: np.ndarray) -> float:
        """Return the term added to the loss."""
        raise NotImplementedError(f"{type(self).__name__} has no penalty(weight).")

    def gradient(self, weight: np.ndarray) -> np.ndarray:
        """Return d penalty / d weight."""
        raise NotImplementedError(f"{type(self).__name__} has no gradient(weight).")

    def __call__(self, weight: np.ndarray) -> float:
        """Return the penalty, as calling Keras's regularizers does."""
        return self.penalty(np.asarray(weight))


class L1L2(Regularizer):
    """penalty = l1 sum |w| + l2 sum w^2;  gradient = l1 sign(w) + 2 l2 w."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0):
        self.l1 = checks.number("l1", l1, least=0)
        self.l2 = checks.number("l2", l2, least=0)

    def penalty(self, weight: np.ndarray) -> float:
        """Return l1 sum |w| + l2 sum w^2, summed in float64."""
        absolute = np.abs(weight).sum(dtype=np.float64)
        return float(self.l1 * absolute + self.l2 * np.square(weight).sum(dtype=np.float64))

    def gradient(self, weight: np.ndarray) -> np.ndarray:
        """Return l1 sign(w) + 2 l2 w."""
        return self.l1 * np.sign(weight) + 2 * self.l2 * weight


class L1(L1L2):
    """penalty = l1 sum |w|."""

    def __init__(self, l1: float = 0.01):
        super().__init__(l1=l1)


class L2(L1L2):
    """penalty = l2 sum w^2 (without the factor 1/2 some authors use)."""

    def __init__(self, l2: float = 0.01):
        super().__init__(l2=l2)


l1, l2, l1_l2 = L1, L2, L1L2  # Keras's names of functions
NAMES: dict[str, type[Regularizer]] = {"l1": L1, "l2": L2, "l1_l2": L1L2}


def get(identifier: Any) -> Regularizer | None:
    """Return the regularizer meant by a name, an instance, a dict, or None."""
    return None if identifier is None else config.get("regularizer", identifier, Regularizer, NAMES)
