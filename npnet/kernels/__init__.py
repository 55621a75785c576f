"""Two sets of kernels with one interface: ``reference`` to read, ``parallel`` to run.

``mixed`` makes of each of them one whose products multiply bfloat16.
"""

import warnings
from functools import cache
from importlib import import_module
from typing import Any, Protocol

from npnet.kernels import reference

__all__ = ["MODULES", "Kernels", "UsesKernels", "load", "name_of", "restored", "why_no_numba"]

MODULES = {"numpy": "reference", "numba": "parallel"}
_NAMES = {f"{__name__}.{part}": name for name, part in MODULES.items()}


class Kernels(Protocol):
    """The functions a set of kernels has; ``reference`` says what each computes."""

    def dense_forward(self, x: Any, weight: Any, bias: Any) -> Any: ...
    def dense_backward_parameters(self, x: Any, dy: Any) -> Any: ...
    def dense_backward_input(self, dy: Any, weight: Any) -> Any: ...
    def to_bfloat16(self, x: Any) -> Any: ...
    def multiply_bfloat16(self, a: Any, b: Any) -> Any: ...
    def elementwise(self, rule: Any, *operands: Any) -> Any: ...
    def softmax_forward(self, x: Any) -> Any: ...
    def softmax_backward(self, dy: Any, y: Any) -> Any: ...
    def log_softmax_forward(self, x: Any) -> Any: ...
    def log_softmax_backward(self, dy: Any, y: Any) -> Any: ...
    def batch_norm_forward(self, x: Any, gamma: Any, beta: Any, epsilon: Any) -> Any: ...
    def batch_norm_backward_parameters(self, dy: Any, normalized: Any) -> Any: ...
    def batch_norm_backward_input(
        self, dy: Any, normalized: Any, gamma: Any, variance: Any, epsilon: Any, means: Any = None
    ) -> Any: ...
    def normalize_rows_forward(self, x: Any, epsilon: Any) -> Any: ...
    def normalize_rows_backward(self, dz: Any, normalized: Any, deviation: Any) -> Any: ...
    def convolution_forward(self, x: Any, weight: Any, bias: Any, geometry: Any) -> Any: ...
    def convolution_backward_parameters(self, x: Any, dy: Any, geometry: Any) -> Any: ...
    def convolution_backward_input(self, dy: Any, weight: Any, geometry: Any) -> Any: ...
    def max_pool_forward(self, x: Any, geometry: Any) -> Any: ...
    def max_pool_backward(self, dy: Any, taken: Any, geometry: Any) -> Any: ...
    def average_pool_forward(self, x: Any, geometry: Any) -> Any: ...
    def average_pool_backward(self, dy: Any, geometry: Any) -> Any: ...
    def move_pixels(self, x: Any, rows: Any, columns: Any, ways: Any, fill_value: Any) -> Any: ...
    def move_pixels_backward(self, dy: Any, rows: Any, columns: Any, ways: Any) -> Any: ...
    def standardize(self, x: Any, mean: Any, deviation: Any) -> Any: ...
    def cross_entropy_forward(self, y_true: Any, y_pred: Any) -> Any: ...
    def cross_entropy_backward(self, y_true: Any, y_pred: Any) -> Any: ...
    def softmax_cross_entropy_forward(self, y_true: Any, logits: Any) -> Any: ...
    def softmax_cross_entropy_backward(self, y_true: Any, probabilities: Any) -> Any: ...
    def binary_cross_entropy_forward(self, y_true: Any, y_pred: Any) -> Any: ...
    def binary_cross_entropy_backward(self, y_true: Any, y_pred: Any) -> Any: ...
    def sigmoid_cross_entropy_forward(self, y_true: Any, logits: Any) -> Any: ...
    def sigmoid_cross_entropy_backward(self, y_true: Any, probabilities: Any) -> Any: ...
    def mean_squared_error_forward(self, y_true: Any, y_pred: Any) -> Any: ...
    def mean_squared_error_backward(self, y_true: Any, y_pred: Any) -> Any: ...
    def mean_absolute_error_forward(self, y_true: Any, y_pred: Any) -> Any: ...
    def mean_absolute_error_backward(self, y_true: Any, y_pred: Any) -> Any: ...
    def update(self, rule: Any, weight: Any, grad: Any, slots: Any, hyperparameters: Any) -> Any: ...
    def orthogonalize(self, matrices: Any, steps: Any) -> Any: ...


@cache
def why_no_numba() -> str | None:
    """Return why Numba cannot be imported, or None: it is there.

    Numba is imported here and not before, so that ``import npnet`` stays quick.
    """
    try:
        import_module("numba")
    except Exception as error:  # it is not there, or does not fit NumPy, LLVM or the system
        return str(error) or type(error).__name__
    return None


@cache
def _chosen_by_default() -> str:
    if (reason := why_no_numba()) is None:
        return "numba"
    warnings.warn(
        f"Numba cannot be imported ({reason}): NumPy's kernels are used, which are many times slower. Install"
        " it with pip install numba.",
        stacklevel=4,
    )
    return "numpy"


def load(name: str | None = None) -> Kernels:
    """Return the kernel set called ``name``; by default "numba" where Numba can be imported, else "numpy".

    Raises
    ------
    ValueError
        If there is no such set.
    ImportError
        If it is "numba" and Numba cannot be imported.
    """
    if name is None:
        name = _chosen_by_default()
    if name not in MODULES:
        raise ValueError(f'kernels must be "numba" or "numpy", got {name!r}.')
    if name == "numpy":
        return reference
    if reason := why_no_numba():
        raise ImportError(
            f"Numba's kernels need Numba, which cannot be imported ({reason}). Install it with pip install"
            ' numba, or use kernels="numpy".'
        )
    return _compiled()


@cache
def _compiled() -> Kernels:
    from npnet.kernels import parallel

    return parallel


def name_of(kernels: Kernels) -> str | None:
    """Return the name of a kernel set, None for an object that is neither."""
    return _NAMES.get(getattr(kernels, "__name__", ""))


class UsesKernels:
    """An object that computes with one of the sets; it can be copied and pickled, as a module cannot.

    What was pickled where Numba was there computes with NumPy's kernels where it is not.
    """

    kernels: Kernels = reference

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"kernels": name_of(self.kernels) or self.kernels}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, kernels=restored(state["kernels"]))


def restored(kernels: Any) -> Kernels:
    """Return the set that ``name_of`` named, NumPy's where Numba is missing; another object as it is."""
    return load(None if kernels == "numba" else kernels) if isinstance(kernels, str) else kernels
