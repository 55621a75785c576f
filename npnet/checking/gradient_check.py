"""Is every derivative right? Ask the function itself.

A gradient is compared with differences of the loss (see ``differences.py``), in float64, for each parameter
and for the input. The verdict is on the norm-relative error |a - n| / (|a| + |n| + u) of a tensor's analytic
gradient a and numeric one n; a correct engine ends far below 1e-8. u is ten times the rounding error of n
over the tolerance: it keeps rounding alone from making a gradient wrong.

Correct code must never be accused. Where the loss has a kink (a ReLU just changing sides) there is no
derivative to compare with, and the differences do not settle. Unless their own error is within the
tolerance, the check moves on to another point, each time twice as far away. A gradient is called wrong only
if it is with smaller steps, too: two differences beside a bend may agree by accident. Weights and samples
move from the start, because weights of exactly 0 put every unit on its kink.
"""

import copy
import warnings
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from npnet import losses
from npnet.checking import own_layers
from npnet.checking.differences import (
    CAUTION,
    Derivatives,
    compare,
    differentiate,
    differentiate_along,
    relative_error,
    rounding_noise,
)
from npnet.internal import checks
from npnet.internal.mixed_precision import DTypePolicy
from npnet.kernels.reference.losses import PROBABILITY_CLIP
from npnet.layers.layer import Layer
from npnet.losses import Loss
from npnet.models import Sequential
from npnet.optimizers import SGD
from npnet.plotting import markup
from npnet.training.batches import gather
from npnet.training.samples import Samples
from npnet.training.setup import check_features
from npnet.training.step import joined

__all__ = [
    "ATTEMPTS",
    "HEADER",
    "NEAREST",
    "READING",
    "GradientCheck",
    "Point",
    "Row",
    "check_gradients",
    "float64_twin",
    "measured_loss",
]

ATTEMPTS = 10
FOCAL = (losses.BinaryFocalCrossentropy, losses.CategoricalFocalCrossentropy)
CLOSER = 64  # times smaller are the steps of the second look, before a gradient is called wrong
NEAREST = 1e-3  # standard deviation of the first move
READING = (
    "A wrong dx spoils every layer nearer the input; layers nearer the loss stay right. Read from the bottom"
    " up. A wrong dW spoils its own row only."
)
HEADER = ("tensor", "shape", "checked", "relative error", "verdict")


@dataclass(frozen=True)
class Row:
    """One tensor's result: of its gradient, or of what a fused step does to it."""

    tensor: str
    shape: tuple[int, ...]
    checked: int
    error: float
    passed: bool
    fused: bool = False


@dataclass(frozen=True)
class GradientCheck:
    """The table of a check.

    Attributes
    ----------
    rows
        One for the input and each parameter; with ``fused=True`` another for each parameter.
    notes
        Sentences: how to read a table with something wrong in it; else what saving and loading a model with
        layers of one's own needs.
    passed
        Whether every tensor's error is below the tolerance.
    """

    rows: list[Row]
    tolerance: float
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every tensor passed."""
        return all(row.passed for row in self.rows)

    def cells(self) -> list[tuple[str, str, str, str, str]]:
        """Return the table's rows as text."""
        return [
            (
                f"{row.tensor}, fused step" if row.fused else row.tensor,
                str(row.shape),
                f"{row.checked:,}",
                f"{row.error:.1e}",
                "ok" if row.passed else "WRONG",
            )
            for row in self.rows
        ]

    def __str__(self) -> str:
        width = max(len(row[0]) for row in [HEADER, *self.cells()])
        table = [
            f"{tensor:<{width}}  {shape:>14}  {checked:>8}  {error:>14}  {verdict}"
            for tensor, shape, checked, error, verdict in [HEADER, *self.cells()]
        ]
        return "\n".join([*table, *self.notes])

    def _repr_html_(self) -> str:
        """Return the table for notebooks."""
        return markup.table(HEADER, self.cells()) + "".join(f"<p>{escape(note)}</p>" for note in self.notes)


def check_gradients(
    model: Sequential,
    x: Any,
    y: Any,
    sample_weight: Any = None,
    epsilon: float = 1e-3,
    tolerance: float = 1e-8,
    entries: int = 500,
    seed: int = 0,
    verbose: bool = True,
    fused: bool = False,
) -> GradientCheck:
    """Compare the gradient of every parameter and of the input with differences of the loss, in float64.

    Parameters
    ----------
    model
        Compiled; it is copied and stays as it is. The check runs in training mode, with the same random
        numbers (dropout's masks) in every forward pass.
    x, y, sample_weight
        A small batch: each number checked costs six forward passes or more.
    epsilon
        The largest step of a difference; smaller ones follow until they agree.
    tolerance
        The largest norm-relative error that passes.
    entries
        Numbers to check one by one in each tensor. Of a larger tensor so many are drawn at random from
        ``seed``, and one derivative in a random direction checks all its numbers together.
    verbose
        Print the table.
    fused
        Check the way ``fit`` trains by default, too: a step of ``SGD(1.0)`` by the compiled kernels, fused,
        must move each parameter as the same step by NumPy's kernels does in the readable order.

    Returns
    -------
    GradientCheck
        Its ``passed`` says whether all is well; printed, it is the table.

    Raises
    ------
    RuntimeError
        Before ``compile``, or if no point where differences can be trusted is found nearby.
    TypeError
        If a layer of one's own does not do what a layer must: the sentence says what is missing.
    """
    epsilon, tolerance = checks.positive("epsilon", epsilon), checks.positive("tolerance", tolerance)
    entries = checks.integer("entries", entries)
    rng = np.random.default_rng(checks.integer("seed", seed, least=0))
    checks.flag("fused", fused)
    samples, notes = _prepare(model, x, y, sample_weight)
    for attempt in range(ATTEMPTS):
        point = Point(model, samples, NEAREST * 2**attempt, rng)
        rows = _compare(point, epsilon, tolerance, entries, rng)
        if rows is not None:
            break
    else:
        raise RuntimeError(
            f"Differences tell nothing at any of {ATTEMPTS} points tried: the loss"
            f" {point.obstacle or f'has a kink within {epsilon}'}. Give fewer or other samples."
        )
    if fused:
        rows += _compare_steps(point, tolerance)
    right = all(row.passed for row in rows)
    result = GradientCheck(rows, tolerance, notes if right else [READING])
    if verbose:
        print(result)
    return result


def _compare(
    point: "Point", epsilon: float, tolerance: float, entries: int, rng: np.random.Generator
) -> list[Row] | None:
    """Return the rows of all tensors at a point, or None if differences cannot be trusted there."""
    if point.obstacle:
        return None
    noise = rounding_noise(point.loss, point.arrays.values(), rng)
    rows = []
    for (name, values), gradient in zip(point.arrays.items(), point.gradients(), strict=True):
        chosen = np.arange(values.size)
        if values.size > entries:
            chosen = np.sort(rng.choice(values.size, entries, replace=False))
        analytic = gradient.reshape(-1)[chosen]
        direction = None
        if values.size > entries:
            direction = rng.standard_normal(values.shape) / values.size**0.5
            analytic = np.append(analytic, (gradient * direction).sum())
        error: float | None = np.inf
        for step in (epsilon, epsilon / CLOSER):
            if error is not None and error > tolerance:
                numeric = differentiate(point.loss, values, chosen, step, noise)
                if direction is not None:
                    whole = differentiate_along(point.loss, values, direction, step, noise)
                    numeric = Derivatives(*(np.append(*parts) for parts in zip(numeric, whole, strict=True)))
                error = compare(analytic, numeric, tolerance)
        if error is None:
            return None
        rows.append(Row(name, values.shape, len(chosen), error, error <= tolerance))
    return rows


def _compare_steps(point: "Point", tolerance: float) -> list[Row]:
    """Return a row for each parameter: what a fused step does to it against what the readable one does.

    They add up in different orders, so they differ by the rounding of the largest numbers that take part.
    """
    expected, found = point.step("numpy", fused=False), point.step("numba", fused=True)
    numbers = [*expected.values(), *(parameter.value for parameter in point.parameters.values())]
    rounding = np.finfo(np.float64).eps * max(float(np.linalg.norm(array)) for array in numbers)
    rows = []
    for name, change in expected.items():
        error = relative_error(found[name], change, CAUTION * rounding / tolerance)
        rows.append(Row(name, change.shape, change.size, error, error <= tolerance, fused=True))
    return rows


# --- the model, in float64 ----------------------------------------------------------------------------------


def _prepare(model: Sequential, x: Any, y: Any, sample_weight: Any) -> tuple[Samples, list[str]]:
    """Return checked samples, and notes about layers of one's own. The model is built afterwards."""
    setup = model.require_compiled("check_gradients")
    x = check_features(model, x)
    setup.prepare(x)
    notes = own_layers.examine(float64_twin(model), gather(x, np.arange(len(x)), np.float64))
    return setup.samples(x, y, sample_weight), notes


def float64_twin(model: Sequential) -> Sequential:
    """Return a copy of the model that computes in float64 with its own kernels, whatever its policies."""
    twin, policy = copy.deepcopy(model), DTypePolicy("float64")
    # No assignment can do it: its weights change as well.
    vars(twin).update(dtype=np.dtype(np.float64), _dtype_policy=policy)
    for layer in twin.leaves().values():
        vars(layer)["_policy"] = policy
    twin.use(twin.kernels)
    for parameter in twin.parameters:
        parameter.cast(np.float64)
    return twin


class Point:
    """A float64 copy of a model and its samples, both moved a little: all that the check asks of a model.

    Parameters
    ----------
    scale
        Standard deviation of the move.

    Attributes
    ----------
    arrays
        What the loss is differentiated by: "input", and "layer/parameter" for each trained parameter.
    obstacle
        Why differences tell nothing here, if they do not.
    """

    obstacle: str | None = None

    def __init__(self, model: Sequential, samples: Samples, scale: float, rng: np.random.Generator):
        self.model, self.samples = float64_twin(model), samples
        leaves = self.model.leaves()
        self.streams = [layer.rng.bit_generator for layer in leaves.values() if layer.rng]
        self.states = [stream.state for stream in self.streams]
        self.parameters = {f"{path}/{p.name}": p for path, layer in leaves.items() for p in layer.parameters}
        trained = self.model.trainable_parameters
        self.trained = {name: p for name, p in self.parameters.items() if p in trained}
        x = gather(samples.x, np.arange(len(samples)), np.float64)
        self.arrays = {"input": x} | {name: p.value for name, p in self.trained.items()}
        for array in self.arrays.values():
            array += rng.normal(0, scale, array.shape)
        self._see_other_samples()
        self.links, self.criterion = self.model.links, self.model.loss
        if not np.isfinite(self.loss()):
            self.obstacle = f"is {self.loss()}"
        elif (measured := measured_loss(self.model)) is None:
            self.obstacle = "is clipped, because a probability is below 1e-7 or above 1 - 1e-7"
        else:
            self.links, self.criterion = measured

    def _rewind(self) -> None:
        """Let every layer draw the same random numbers again."""
        for stream, state in zip(self.streams, self.states, strict=True):
            stream.state = state

    def loss(self) -> float:
        """Return the loss of the samples, with the same random numbers every time."""
        self._rewind()
        flow = self.arrays["input"]
        for link in self.links:
            flow = link.forward(flow, training=True)
        loss = self.criterion.forward(self.samples.y, flow, self.samples.weight)
        return float(loss) + self.model.penalty()

    def gradients(self) -> list[np.ndarray]:
        """Return the gradient of each of ``arrays`` as backward computes it."""
        self._see_other_samples()
        dx = self._backward(self.arrays["input"])
        return [dx, *(parameter.grad for parameter in self.trained.values())]

    def _see_other_samples(self) -> None:
        """Run forward and backward on other samples: what a layer remembers of them must not show later."""
        self._backward(self.arrays["input"][::-1] / 2)

    def _backward(self, x: np.ndarray) -> np.ndarray:
        """Run forward, loss and backward; return dx."""
        self._rewind()
        y_pred = self.model.forward(x, training=True)
        self.model.loss.forward(self.samples.y, y_pred, self.samples.weight)
        dx = self.model.require_compiled("check_gradients").readable_step().backward()
        self.model.regularize()
        return dx

    def step(self, kernels: str, fused: bool) -> dict[str, np.ndarray]:
        """Return by how much a training step of ``SGD(1.0)`` changes each parameter of a copy."""
        self._rewind()
        twin = copy.deepcopy(self.model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a last activation that does not suit the loss was warned of
            twin.compile(SGD(1.0), twin.loss, kernels=kernels, fused=fused)
        before = twin.get_weights()
        twin.train_on_batch(self.samples.x, self.samples.y, self.samples.weight)
        changes = (new - old for new, old in zip(twin.get_weights(), before, strict=True))
        return dict(zip(self.parameters, changes, strict=True))


def measured_loss(model: Sequential) -> tuple[list[Layer], Loss] | None:
    """Return links and a loss whose values have the derivatives that backward computes.

    Cross-entropies clip probabilities to [1e-7, 1 - 1e-7] where they report the loss, which is flat beyond,
    but not where they learn. If the last ``forward`` clipped one, the loss of logits, which needs no clip,
    stands for the last activation and the loss. None if that activation does not belong to the loss, or if
    it is a focal one, which clips the probabilities of logits, too.
    """
    loss = model.loss
    if not _clipped(loss):
        return model.links, loss
    if isinstance(loss, FOCAL) or not joined(model, loss) or type(loss) not in losses.NAMES.values():
        return None
    of_logits = type(loss)(**(loss.get_config() | {"from_logits": True}))
    of_logits.kernels = loss.kernels
    return model.links[:-1], of_logits


def _clipped(loss: Loss) -> bool:
    """Return whether the last ``forward`` of the loss clipped a probability that counts."""
    p = loss.y_pred
    if isinstance(loss, losses.KLDivergence):
        return bool((p < PROBABILITY_CLIP).any())
    if isinstance(loss, FOCAL):
        p = loss.probabilities(p)
    elif not isinstance(loss, losses.Crossentropy) or loss.from_logits:
        return False
    if isinstance(loss, losses.CategoricalCrossentropy):
        p = (p / p.sum(axis=-1, keepdims=True))[loss.y_true != 0]
    return bool((np.minimum(p, 1 - p) < PROBABILITY_CLIP).any())
