"""Is every derivative right? Ask the function itself.

A gradient is checked against central differences, (L(w + e) - L(w - e)) / 2e, in float64, for each
parameter and for the input. The verdict is on the norm-relative error |a - n| / (|a| + |n| + u) of a
tensor's analytic gradient a and numeric one n; a correct engine ends far below 1e-8. Differences cannot
resolve a gradient much smaller than u, which is small itself: a bias before a batch normalisation, whose
gradient is exactly 0, is not measured by the rounding of its differences.

Where the loss has a kink within e (a ReLU just changing sides) there is no derivative to compare with.
Such a place is recognised by the numeric derivatives alone, those of e and of e/2 disagreeing, and the
check moves on, each time twice as far: kinks are avoided, not excused. Samples and weights both move, and
from the start, because weights of exactly 0 put every unit on its kink.
"""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from npnet.plotting import markup
from npnet.training.batches import gather

if TYPE_CHECKING:
    from npnet.models import Sequential

ATTEMPTS = 10
HEADER = ("tensor", "shape", "checked", "relative error", "verdict")


@dataclass(frozen=True)
class Row:
    """One tensor's result."""

    tensor: str
    shape: tuple[int, ...]
    checked: int
    error: float
    passed: bool


@dataclass(frozen=True)
class GradientCheck:
    """The table of a check.

    Attributes
    ----------
    rows
        One for the input and each parameter.
    passed
        Whether every tensor's error is below the tolerance.
    """

    rows: list[Row]
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether every tensor passed."""
        return all(row.passed for row in self.rows)

    def cells(self) -> list[tuple[str, str, str, str, str]]:
        """Return the table's rows as text."""
        return [
            (
                row.tensor,
                str(row.shape),
                f"{row.checked:,}",
                f"{row.error:.1e}",
                "ok" if row.passed else "WRONG",
            )
            for row in self.rows
        ]

    def __str__(self) -> str:
        width = max(len(row[0]) for row in [HEADER, *self.cells()])
        return "\n".join(
            f"{tensor:<{width}}  {shape:>14}  {checked:>8}  {error:>14}  {verdict}"
            for tensor, shape, checked, error, verdict in [HEADER, *self.cells()]
        )

    def _repr_html_(self) -> str:
        """Return the table for notebooks."""
        return markup.table(HEADER, self.cells())


def check_gradients(
    model: "Sequential",
    x: Any,
    y: Any,
    sample_weight: Any = None,
    epsilon: float = 1e-5,
    tolerance: float = 1e-8,
    entries: int = 500,
    seed: int = 0,
    verbose: bool = True,
) -> GradientCheck:
    """Compare the gradient of every parameter and of the input with central differences in float64.

    Parameters
    ----------
    model
        Compiled; it is copied and stays as it is. The check runs in training mode, dropout with a fixed mask.
    x, y, sample_weight
        A small batch: each number checked costs four forward passes.
    epsilon
        The difference e.
    tolerance
        The largest norm-relative error that passes.
    entries
        Numbers to check in each tensor, drawn at random from ``seed`` in larger ones.
    verbose
        Print the table.

    Returns
    -------
    GradientCheck
        Its ``passed`` says whether all is well; printed, it is the table.

    Raises
    ------
    RuntimeError
        Before ``compile``, or if no point without a kink is found nearby.
    """
    setup = model.require_compiled("check_gradients")
    samples = setup.samples(x, y, sample_weight)
    setup.prepare(samples.x)
    rng = np.random.default_rng(seed)
    for attempt in range(ATTEMPTS):
        twin = float64_twin(model)
        inputs = gather(samples.x, np.arange(len(samples)), np.float64)
        for values in (inputs, *(parameter.value for parameter in twin.trainable_parameters)):
            values += rng.normal(0, 1e-3 * 2**attempt, values.shape)
        result = _check_at(twin, inputs, samples, epsilon, tolerance, entries, rng)
        if result is not None:
            if verbose:
                print(result)
            return result
    raise RuntimeError(
        f"The loss has a kink within {epsilon} of each of {ATTEMPTS} points tried."
        " Give fewer or other samples."
    )


def float64_twin(model: "Sequential") -> "Sequential":
    """Return a copy of the model that computes in float64 with its own kernels."""
    twin = copy.deepcopy(model)
    twin.dtype = np.dtype(np.float64)
    for parameter in twin.parameters:
        parameter.cast(np.float64)
    return twin


def _check_at(
    model: "Sequential",
    x: np.ndarray,
    samples: Any,
    epsilon: float,
    tolerance: float,
    entries: int,
    rng: np.random.Generator,
) -> GradientCheck | None:
    """Return the table at the point x, or None if there is a kink."""
    generators = [layer.rng.bit_generator for layer in model.layers if layer.rng]
    states = [generator.state for generator in generators]

    def loss() -> float:
        for generator, state in zip(generators, states, strict=True):
            generator.state = state
        y_pred = model.forward(x, training=True)
        return float(model.loss.forward(samples.y, y_pred, samples.weight)) + model.penalty()

    noise = 4 * np.finfo(np.float64).eps * max(1.0, abs(loss())) / epsilon  # of one numeric derivative
    dx = model.require_compiled("check_gradients").readable_step().backward()
    model.regularize()
    tensors = {"input": (x, dx)}
    for layer in model.layers:
        for parameter in layer.parameters:
            if parameter in model.trainable_parameters:
                tensors[f"{layer.name}/{parameter.name}"] = (parameter.value, parameter.grad)
    rows = []
    for name, (values, gradient) in tensors.items():
        chosen = np.arange(values.size)
        if values.size > entries:
            chosen = np.sort(rng.choice(values.size, entries, replace=False))
        unresolved = noise / tolerance * len(chosen) ** 0.5
        analytic = gradient.reshape(-1)[chosen]
        numeric = central_differences(loss, values, chosen, epsilon)
        closer = central_differences(loss, values, chosen, epsilon / 2)
        if not relative_error(numeric, closer, 2 * unresolved) <= tolerance:
            return None
        error = relative_error(analytic, numeric, unresolved)
        rows.append(Row(name, values.shape, len(chosen), error, error <= tolerance))
    return GradientCheck(rows, tolerance)


def central_differences(loss: Any, values: np.ndarray, chosen: np.ndarray, epsilon: float) -> np.ndarray:
    """Return (L(v + e) - L(v - e)) / 2e for the ``chosen`` elements v of ``values``."""
    flat = values.reshape(-1)
    result = np.empty(len(chosen))
    for i, position in enumerate(chosen):
        original = flat[position]
        flat[position] = original + epsilon
        above = loss()
        flat[position] = original - epsilon
        below = loss()
        flat[position] = original
        result[i] = (above - below) / (2 * epsilon)
    return result


def relative_error(a: np.ndarray, n: np.ndarray, unresolved: float) -> float:
    """Return |a - n| / (|a| + |n| + unresolved), NaN if one of them is."""
    total = np.linalg.norm(a) + np.linalg.norm(n) + unresolved
    return float(np.linalg.norm(a - n) / total)
