"""What flows between the stages of a plan, and the memory it lies in."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from npnet.layers.layer import Layer
from npnet.layers.parameter import Parameter
from npnet.training.batches import Batch
from npnet.training.shards import gradient_of

__all__ = ["ROWS", "AddUp", "Call", "Derivative", "Flow", "Meeting", "Memory", "Precisions", "Todo"]

T = TypeVar("T")

ROWS = -1  # the number of a flow that is an array of rows, handed from one stage of Python code to the next


class Derivative(NamedTuple):
    """What the gradient of a flow is still to be multiplied by, element by element.

    A stage that ends in an activation leaves the activation's derivative to whoever computes the gradient of
    its output: that one applies ``rule(gradient, remembered, *constants)`` while the numbers are at hand, and
    needs to know nothing else about the stage.

    Attributes
    ----------
    rule
        The derivative, a function of ``kernels.rules``.
    remembered
        The number of the panels that the rule reads, or of the rows.
    constants
        The rule's numbers.
    first_constant
        Where they begin among the plan's constants.
    """

    rule: Callable[..., Any]
    remembered: int
    constants: tuple[float, ...]
    first_constant: int


class Flow(NamedTuple):
    """An array between two stages, one row a sample.

    Attributes
    ----------
    number
        Which panels of the plan's memory; ROWS for an ordinary array (N, ...).
    columns
        Numbers a sample, of panels.
    derivative
        What its gradient is still to be multiplied by.
    gathered
        Whether it is the batch itself.
    """

    number: int
    columns: int = 0
    derivative: Derivative | None = None
    gathered: bool = False

    @property
    def in_panels(self) -> bool:
        """Whether this is a flow of the fused kernels."""
        return self.number != ROWS


class Call(NamedTuple):
    """Python code among the phases of a step."""

    do: Callable[["Memory"], None]


# Adds up arrays, one for each of the memories at a meeting, over all shards of the batch.
AddUp = Callable[[list[np.ndarray]], np.ndarray]


class Meeting(NamedTuple):
    """What needs the whole batch: all its shards have come this far, none has gone on.

    A batch that nobody has cut into shards is one memory, whose numbers are the sums already.
    """

    do: Callable[[list["Memory"], AddUp], None]


class Precisions(NamedTuple):
    """In which precision products run on the matrix unit; None: on the vector unit.

    Attributes
    ----------
    of_batch
        Those with the batch itself, whose samples may be on levels (``kernels/fused/levels.py``).
    others
        All others.
    mixed
        Those of layers that multiply bfloat16.
    """

    of_batch: Any
    others: Any
    mixed: Any


class Todo(NamedTuple):
    """A phase of a step before it is a row of a program.

    Attributes
    ----------
    part
        What it is called where parts of a step are timed.
    operation
        Makes the compiled operation, given the precisions of products.
    fields
        The fields of ``kernels.fused.program.Phase`` that it uses.
    work
        Multiplications for each sample.
    needs_nobody
        Whether it may begin before the phases ahead of it have ended: the gathering of the next batch.
    """

    part: str
    operation: Callable[[Precisions], Any]
    fields: dict[str, int]
    work: int = 0
    needs_nobody: bool = False


class Memory:
    """The flows of batches of n samples, or of shards of a batch.

    Attributes
    ----------
    rows
        The array that flows between two stages of Python code, or its gradient in the backward pass.
    batch
        The batch of the step, for the loss.
    batch_size
        How many samples it has, where this is a shard of it: all shards together.
    loss_scale
        What losses and their gradients are multiplied by, besides what the loss itself says.
    twins
        Links and loss as objects of this memory's own (``own``).
    kept
        Arrays of rows that are written anew in each step, by number.
    gradients
        Whole gradients of the fused weights, if the plan computes them.
    grads
        The gradients of other parameters, as far as they are sums over the samples of this memory.
    losses, y_pred
        Of each step: the weighted losses of all samples, or their sum; the predictions.
    penalty
        The sum of the regularizers' penalties.
    parts
        The programs and calls of a plan, by number of steps, whether the first layer takes one pass, the
        dtype of the samples, and whether they are on levels.
    """

    rows: np.ndarray
    batch: Batch
    losses: Iterable[Any]
    y_pred: Iterable[Any]
    penalty = 0.0

    def __init__(self, n: int, panel_counts: list[int], gradients: int, dtype: np.dtype):
        from npnet.kernels.products.layouts import aligned_zeros, panel_rows
        from npnet.kernels.products.tiles import width

        self.n = self.batch_size = n
        self.loss_scale = 1.0
        self.twins: dict[Any, Any] = {}
        self.kept: dict[int, np.ndarray] = {}
        self.grads: dict[Parameter, np.ndarray] = {}
        self.parts: dict[tuple[int, bool, Any, bool], list[Any]] = {}
        self.panel_rows, self.width = panel_rows(n, dtype), width(dtype)
        size = self.panel_rows * self.width
        starts = np.cumsum([0, *panel_counts])[:-1] * size
        self.table = np.array(list(zip(starts, panel_counts, strict=True)), np.int64).reshape(-1, 2)
        self.array = aligned_zeros(sum(panel_counts) * size, dtype)
        self.gradients = aligned_zeros(gradients, dtype)

    def own(self, thing: T) -> T:
        """Return the object that remembers this memory's samples for the way back: a twin, or the thing."""
        return self.twins.get(thing, thing)

    def keep_gradients(self, link: Layer) -> None:
        """Keep the gradients that a link has just set for a shard, before another one replaces them."""
        if self.twins:
            self.grads |= {parameter: gradient_of(parameter, link) for parameter in link.trainable_parameters}

    def panels(self, number: int) -> np.ndarray:
        """Return the panels of a flow."""
        start, count = self.table[number]
        shape = (count, self.panel_rows, self.width)
        return self.array[start : start + count * self.panel_rows * self.width].reshape(shape)

    def array_of_rows(self, number: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return the array of this number, for a stage to write to: memory that is new is slow to touch."""
        if number not in self.kept or self.kept[number].shape != shape:
            self.kept[number] = np.empty(shape, dtype)
        return self.kept[number]
