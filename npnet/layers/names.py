"""Keras's names for the parameters of a layer or of a model."""

from typing import Any

from npnet.internal import checks
from npnet.layers.parameter import Parameter, assign

__all__ = ["WeightNames", "overwrite"]


class WeightNames:
    """Lists of parameters under the names that Keras has for them."""

    @property
    def weights(self) -> list[Parameter]:
        """All parameters."""
        return list(self.parameters)  # type: ignore[attr-defined]

    @property
    def trainable_weights(self) -> list[Parameter]:
        """Those that training changes."""
        return self.trainable_parameters  # type: ignore[attr-defined]

    @property
    def non_trainable_weights(self) -> list[Parameter]:
        """The others: of frozen layers, and statistics."""
        trained = set(map(id, self.trainable_weights))
        return [parameter for parameter in self.weights if id(parameter) not in trained]

    variables = weights
    trainable_variables = trainable_weights
    non_trainable_variables = non_trainable_weights


def overwrite(parameters: list[Parameter], weights: Any) -> None:
    """Overwrite the parameters' arrays by ``weights``, all or none.

    Raises
    ------
    TypeError, ValueError
        If it is no list of arrays, their number or a shape does not fit, or one holds NaN or infinity.
    """
    if not isinstance(weights, (list, tuple)):
        raise TypeError(f"weights must be a list of arrays, got {type(weights).__name__}.")
    if len(weights) != len(parameters):
        raise ValueError(f"weights must hold {len(parameters)} arrays, got {len(weights)}.")
    arrays = []
    for i, (parameter, weight) in enumerate(zip(parameters, weights, strict=True)):
        array = checks.numbers(f"weights[{i}]", weight)
        if array.shape != parameter.shape:
            raise ValueError(
                f"weights[{i}] ({parameter.name}) must have shape {parameter.shape}, got {array.shape}."
            )
        checks.finite(f"weights[{i}] ({parameter.name})", array, parameter.dtype, "Training had diverged?")
        arrays.append(array)
    assign(parameters, arrays)
