"""The gate every public call passes before anything is changed.

Each function returns the checked value in the form the engine works with, or raises a ValueError or
TypeError that names the argument, what was expected, what came and what to do. Arrays are never copied
unless they arrive as lists: rows are converted batch by batch.
"""

import inspect
import math
import warnings
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np

__all__ = [
    "CHUNK",
    "array",
    "features",
    "finite",
    "flag",
    "flat",
    "function",
    "integer",
    "label_range",
    "labels",
    "like_outputs",
    "number",
    "numbers",
    "optional_seed",
    "positive",
    "predictions",
    "same_length",
    "sample_weight",
    "share",
    "text",
    "validation_epochs",
    "warn",
    "warn_about_pixels",
    "whole",
]

CHUNK = 1 << 22  # elements looked at together, so that checking needs no copy of a large array
A_LIST = (
    " A list is taken for one array. If it holds batches, give an iterator over them, iter(batches); for"
    " several epochs itertools.cycle(batches) with the number of steps."
)


def integer(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Return ``value`` as an int of at least ``least``, and at most ``most``."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r} ({type(value).__name__}).")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most}, got {value}.")
    return int(value)


def number(name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """Return ``value`` as a finite float from ``least`` to ``most``."""
    if not (math.isfinite(_real(name, value)) and least <= value <= most):
        bounds = "" if least == -math.inf else f" and at least {least:g}"
        if most < math.inf:
            bounds = f" and lie between {least:g} and {most:g}"
        raise ValueError(f"{name} must be finite{bounds}, got {value!r}.")
    return float(value)


def positive(name: str, value: Any) -> float:
    """Return ``value`` as a finite float above 0."""
    if not 0 < _real(name, value) < math.inf:
        raise ValueError(f"{name} must be finite and positive, got {value!r}.")
    return float(value)


def share(name: str, value: Any) -> float:
    """Return ``value`` as a float of at least 0 and below 1."""
    if not 0 <= _real(name, value) < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}.")
    return float(value)


def _real(name: str, value: Any) -> Any:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__}).")
    return value


def optional_seed(value: Any) -> int | None:
    """Return a layer's or initializer's own seed, or None where it takes the model's stream."""
    return None if value is None else integer("seed", value, least=0)


def flag(name: str, value: Any) -> bool:
    """Return ``value`` if it is True or False: the text "False" would count as true."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r} ({type(value).__name__}).")
    return bool(value)


def function(name: str, value: Any) -> Callable:
    """Return ``value`` if it can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r} ({type(value).__name__}).")
    return value


def text(name: str, value: Any, without: str = "") -> str:
    """Return ``value`` if it is text without any of some characters."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, got {value!r} ({type(value).__name__}).")
    if any(character in value for character in without):
        raise ValueError(f"{name} must not hold any of {without!r}, got {value!r}.")
    return value


def array(name: str, value: Any) -> np.ndarray:
    """Return ``value`` as an array of bool, integer or floating numbers with one row a sample."""
    if value is None:
        raise ValueError(f"{name} is None: expected an array with one row a sample.")
    result = numbers(name, value)
    if result.ndim == 0:
        raise ValueError(f"{name} must have one row a sample, got the single number {value!r}.")
    return result


def is_sparse(value: Any) -> bool:
    """Tell whether a value is one of SciPy's sparse matrices."""
    return hasattr(value, "toarray") and hasattr(value, "nnz")


def numbers(name: str, value: Any) -> np.ndarray:
    """Return ``value`` as an array of bool, integer or floating numbers."""
    if type(value) is np.ndarray and value.dtype.kind in "buif":
        return value
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise TypeError(f"{name} is a masked array. Leave such samples out, or fill them: {name}.filled(0).")
    if is_sparse(value):
        raise TypeError(f"{name} is a sparse matrix. Give it as an ordinary array: {name}.toarray().")
    try:
        result = _table(name, value) if hasattr(value, "dtypes") else np.asarray(value)
    except ValueError as error:
        hint = A_LIST if _holds_arrays(value) else ""
        raise ValueError(f"{name} cannot be made an array: {error}{hint}") from None
    if result.dtype.kind not in "buif":
        raise TypeError(
            f"{name} must hold numbers (bool, integers or floats), got dtype {result.dtype}."
            " Convert it first, for instance with numpy.asarray(values, dtype=float)."
        )
    return result


def _table(name: str, table: Any) -> np.ndarray:
    """Return a data frame as an array. Columns may be numbers of several kinds; missing ones become NaN."""
    result = np.asarray(table)
    if result.dtype != object or result.ndim != 2 or not hasattr(table, "columns"):
        return result
    kinds = [getattr(kind, "kind", None) for kind in table.dtypes]
    if None in kinds:  # not pandas's
        return result
    others = [column for column, kind in zip(table.columns, kinds, strict=True) if str(kind) not in "buif"]
    if others:
        raise TypeError(
            f"{name} must hold numbers (bool, integers or floats), got {len(others)} of {len(kinds)} columns"
            f" of other dtypes, the first of them {others[0]!r}. Convert them, for instance with"
            " pandas.get_dummies, or with astype(float) if they hold numbers, or leave them out."
        )
    return table.to_numpy(np.float64, na_value=np.nan)


def _holds_arrays(value: Any) -> bool:
    """Whether a list or tuple holds arrays, or batches of some: (x, y)."""
    parts = value if isinstance(value, (list, tuple)) else ()
    return any(getattr(part, "shape", ()) or _holds_arrays(part) for part in parts)


def finite(
    name: str,
    values: np.ndarray,
    dtype: Any = np.float32,
    remedy: str = "Remove or replace such samples first.",
) -> None:
    """Refuse NaN, infinity and what ``dtype`` cannot hold, naming the first place."""
    if values.dtype.kind != "f" or values.size == 0:
        return
    # A finite sum of squares has finite terms: for one sample the quickest check. BLAS shares longer ones.
    if values.size < 10_000 and values.dtype == dtype and math.isfinite(np.vdot(values, values)):
        return
    limit = np.finfo(dtype).max
    if values.size <= CHUNK and values.min() >= -limit and values.max() <= limit:
        return
    values = np.atleast_1d(values)
    rows = max(1, CHUNK // max(1, values[0].size))
    for start in range(0, len(values), rows):
        chunk = values[start : start + rows]
        if not (chunk.min() >= -limit and chunk.max() <= limit):  # False for NaN as well
            first = np.argwhere(~(np.abs(chunk) <= limit))[0]
            index = (start + int(first[0]), *(int(i) for i in first[1:]))
            raise ValueError(f"{name} must be finite, got {chunk[tuple(first)]} at index {index}. {remedy}")


def same_length(name: str, values: np.ndarray, other_name: str, other: np.ndarray) -> None:
    """Refuse two arrays of different numbers of samples."""
    if len(values) != len(other):
        raise ValueError(
            f"{other_name} and {name} must hold the same number of samples,"
            f" got {len(other)} and {len(values)}."
        )


def like_outputs(name: str, values: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Return ``values``, which must have the shape of ``outputs``; (N,) is read as (N, 1) for one output."""
    if values.shape == outputs.shape[:-1] and outputs.shape[-1] == 1:
        values = values[..., None]
    if values.shape != outputs.shape:
        raise ValueError(f"{name} must have the shape of y_pred, {outputs.shape}, got {values.shape}.")
    return values


def flat(name: str, value: Any) -> np.ndarray:
    """Return one number a sample, given as (N,) or (N, 1), as (N,)."""
    values = array(name, value)
    if values.shape not in ((len(values),), (len(values), 1)):
        raise ValueError(
            f"{name} must hold one label a sample, shape ({len(values)},) or ({len(values)}, 1), got"
            f" {values.shape}."
        )
    return values.reshape(-1)


def predictions(value: Any) -> np.ndarray:
    """Return outputs of a model, at least one row, as floats; they may hold NaN."""
    y_pred = array("y_pred", value)
    if y_pred.ndim < 2 or len(y_pred) == 0:
        raise ValueError(
            f"y_pred must be (batch, outputs) with a sample at least, got shape {y_pred.shape}."
            " For one output a sample write y_pred[:, None]."
        )
    return y_pred if y_pred.dtype.kind == "f" else y_pred.astype(np.float64)


def features(
    name: str, value: Any, input_shape: tuple[int, ...] | None, layer: str, dtype: Any, least: int = 1
) -> np.ndarray:
    """Return the samples x, of shape (N, *input_shape) where that is known already, N at least ``least``."""
    x = array(name, value)
    if len(x) < least:
        raise ValueError(f"{name} holds no samples: its shape is {x.shape}.")
    if x.ndim == 1 and input_shape == (1,):
        x = x[:, None]
    if x.ndim < 2:
        raise ValueError(
            f"{name} must be (batch, features), got shape {x.shape}. For one sample write {name}[None]; for"
            f" one feature {name}[:, None]."
        )
    if input_shape is not None and x.shape[1:] != input_shape:
        expected = ", ".join(map(str, ("batch", *input_shape)))
        hint = ""
        if len(input_shape) == 1 and np.prod(x.shape[1:]) == input_shape[0]:
            hint = f" Flatten first: {name}.reshape(len({name}), {input_shape[0]}), or add Flatten()."
        elif x.ndim > 1 + len(input_shape) and _holds_arrays(value):
            hint = A_LIST
        raise ValueError(f"{layer} expects ({expected}), got {x.shape}.{hint}")
    finite(name, x, dtype)
    return x


def warn(message: str) -> None:
    """Warn at the line that called npnet, however many of npnet's own calls lie between."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "npnet":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def warn_about_pixels(x: np.ndarray) -> None:
    """Hint once at pixel values that were not scaled."""
    if x.dtype.kind in "ui" and x.max() > 1:
        warn(
            f"x holds integers up to {x.max()}. Networks learn better from small numbers: divide by 255, or"
            " begin the model with Rescaling(1 / 255), which keeps the array as it is."
        )


def labels(name: str, y: np.ndarray) -> np.ndarray:
    """Return class labels as integers; floats are accepted where they are whole numbers."""
    if y.dtype.kind == "f":
        finite(name, y)
        with np.errstate(invalid="ignore"):  # what int64 cannot hold differs below
            whole = y.astype(np.int64)
        if (whole != y).any():
            raise ValueError(f"{name} must hold whole class labels, got {y[whole != y].flat[0]}.")
        return whole
    if y.dtype.kind not in "bui":
        raise TypeError(f"{name} must hold integer class labels, got dtype {y.dtype}.")
    return y.astype(np.int64)


def whole(name: str, x: np.ndarray, layer: str) -> None:
    """Refuse numbers that are not whole, naming the first."""
    if x.dtype.kind == "f" and (fractions := np.rint(x) != x).any():
        first = tuple(int(i) for i in np.argwhere(fractions)[0])
        raise ValueError(
            f"{layer} takes whole numbers, but {name} holds {x[first]} at index {first}. Give each category"
            f" an integer, or round: numpy.rint({name})."
        )


def label_range(name: str, y: np.ndarray, classes: int, meaning: str) -> None:
    """Refuse labels outside 0..classes-1."""
    if y.size and (y.min() < 0 or y.max() >= classes):
        wrong = y.max() if y.max() >= classes else y.min()
        hint = " Labels count from 0: subtract 1?" if y.min() == 1 and y.max() == classes else ""
        raise ValueError(f"{name} holds the label {wrong}, but {meaning} allows 0..{classes - 1}.{hint}")


def sample_weight(name: str, value: Any, n: int) -> np.ndarray:
    """Return one finite weight of at least 0 for each of n samples."""
    weight = array(name, value)
    if weight.shape == (n, 1):
        weight = weight[:, 0]
    if weight.shape != (n,):
        raise ValueError(f"{name} must hold one number a sample, shape ({n},), got {weight.shape}.")
    finite(name, weight)
    if weight.min(initial=0) < 0:
        raise ValueError(f"{name} must not be negative, got {weight.min()}.")
    return weight


def validation_epochs(validation_freq: int | list[int]) -> Callable[[int], bool]:
    """Return the function that tells whether to validate after an epoch (from 0)."""
    if isinstance(validation_freq, (list, tuple, set, range)):
        epochs = {integer("validation_freq", epoch) for epoch in validation_freq}
        return lambda epoch: epoch + 1 in epochs
    every = integer("validation_freq", validation_freq)
    return lambda epoch: (epoch + 1) % every == 0
