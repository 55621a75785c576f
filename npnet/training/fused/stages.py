"""What a fused step is made of: stages.

A stage takes a flow and gives one, as rows (ordinary arrays) or as panels, the layout of the fused kernels.
It says what is to be done as a list of phases (``Todo``), which the plan puts together into programs, and of
calls of Python code (``Call``). It knows nothing of its neighbours: what its output's gradient is still to be
multiplied by travels with the flow (``flows.Derivative``).
"""

from functools import partial
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from npnet.internal.exact import Known
from npnet.kernels import rules
from npnet.layers import activations
from npnet.layers.activations import Elementwise
from npnet.layers.chain import Chain
from npnet.layers.convolution import Conv1D, Conv2D
from npnet.layers.core import BatchNormalization, Dense, Flatten, Rescaling
from npnet.layers.layer import Layer
from npnet.layers.parameter import Parameter
from npnet.layers.pooling import MaxPooling2D
from npnet.losses import CategoricalCrossentropy, Loss, SparseCategoricalCrossentropy
from npnet.optimizers import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Lion, Nadam, Optimizer, RMSprop
from npnet.training.batches import Batch, gather
from npnet.training.fused.flows import ROWS, Call, Derivative, Flow, Meeting, Memory, Precisions, Todo
from npnet.training.step import Step, joined

__all__ = [
    "KNOWN",
    "Active",
    "Differentiate",
    "FusedDense",
    "GatherPanels",
    "GatherRows",
    "LossOfRows",
    "Plain",
    "SoftmaxLoss",
    "Space",
    "Stage",
    "ToPanels",
    "ToRows",
    "Todos",
    "multiplies_bfloat16",
]

Todos = list[Todo | Call | Meeting]

JOINS = (Flatten, Rescaling)  # what the gathering of a batch computes as well

# What stages compute in place of the objects: exactly these classes, as they are written.
KNOWN = Known(
    [
        Dense, Conv1D, Conv2D, MaxPooling2D, BatchNormalization, Flatten, Rescaling,
        *activations.NAMES.values(), CategoricalCrossentropy, SparseCategoricalCrossentropy,
        SGD, RMSprop, Adagrad, Adam, AdamW, Nadam, Adamax, Adadelta, Lion,
    ]
)  # fmt: skip


class Space(Protocol):
    """Where stages put their flows, weights and numbers: the plan, while it is made."""

    def new_panels(self, columns: int) -> int:
        """Return the number of new panels for so many columns."""

    def new_rows(self) -> int:
        """Return the number of a new array of rows."""

    def new_layer(self, inputs: int, units: int, has_bias: bool) -> int:
        """Return the number of new weights."""

    def new_constants(self, numbers: tuple[float, ...]) -> int:
        """Return where these numbers begin among the plan's constants."""


class Stage(Protocol):
    """One link of the chain, or several computed as one."""

    in_panels: bool  # whether it takes and gives panels
    differentiates: bool  # whether it takes rows, and multiplies dx by what they say
    parameters: list[Parameter]  # what it trains

    def absorb(self, link: Layer) -> bool:
        """Compute the next link as well, if this stage can; return whether it does."""

    def forward(self, x: Flow) -> tuple[Flow, Todos]:
        """Return the output, and what computes it."""

    def backward(self, x: Flow, dy: Flow) -> tuple[Flow, Todos]:
        """Return the gradient of x, multiplied by ``x.derivative``, and what computes it."""

    def backward_parameters(self, x: Flow, dy: Flow) -> Todos:
        """Return what sets the parameters' gradients and nothing else, for the first stage that learns."""


# --- where a batch begins --------------------------------------------------------------------------------


class GatherRows:
    """The batch as rows in the chain's dtype."""

    prefix: list[Layer] = []  # noqa: RUF012 (never written to)

    def __init__(self, chain: Chain):
        self.dtype = self.samples = chain.dtype

    def on_levels(self, x: np.ndarray, batches: list[Batch]) -> list[bool]:
        """Return whether each batch is on levels: that is of no use here."""
        return [False] * len(batches)

    def scaling(self, x: np.ndarray, on_levels: bool) -> tuple[float, float, float]:
        """Return scale and offset of what is gathered, and the factor that is left."""
        return 1.0, 0.0, 1.0

    def rows(self, memory: Memory, x: np.ndarray, batches: list[Batch]) -> tuple[np.ndarray, np.ndarray]:
        """Gather the batch; return samples (N, D), and which of them are the rows of all batches."""
        (batch,) = batches
        memory.rows = gather(x, batch.rows, self.dtype)
        return np.empty((0, 0), self.dtype), batch.rows

    def forward(self) -> tuple[Flow, Todos]:
        """Return the batch, which ``rows`` has gathered."""
        return Flow(ROWS), []


class GatherPanels:
    """The batch as panels, converted, rescaled and flattened on the way.

    What else comes before the first fused stage has nothing to learn, and runs as it is on the batch's rows.

    Attributes
    ----------
    samples
        The dtype of what is gathered, as the last call of ``rows`` gave it.
    """

    def __init__(self, chain: Chain, head: list[Layer], dense: Dense, space: Space):
        self.dtype = self.samples = chain.dtype
        self.rounds = multiplies_bfloat16(dense)
        plain = [
            i for i, link in enumerate(head) if not (link in KNOWN and isinstance(link, (Flatten, Rescaling)))
        ]
        self.prefix = head[: plain[-1] + 1] if plain else []
        self.scale, self.offset = 1.0, 0.0
        for link in head[len(self.prefix) :]:
            if isinstance(link, Rescaling):
                self.scale, self.offset = link.scale * self.scale, link.scale * self.offset + link.offset
        self.columns = columns = dense.weight.shape[0]
        self.flow = Flow(space.new_panels(columns), columns, gathered=True)

    def on_levels(self, x: np.ndarray, batches: list[Batch]) -> list[bool]:
        """Return whether each batch, all of one size, is on levels and the kernels gain by it."""
        n = len(batches[0].rows)
        on_unit = program().precision_of(self.dtype, n) is not None
        levels = self._levels(x) if on_unit else None
        if levels is None or self.prefix or self.rounds:
            return [False] * len(batches)
        from npnet.kernels.fused.levels import are_on_levels

        samples, index = self._plain(x, np.concatenate([batch.rows for batch in batches]))
        # Most data are no pixels, which their first samples tell.
        firsts = np.asarray(samples[index[::n]], np.float64) * levels.scale + levels.offset
        may_be = (np.abs(firsts - np.rint(firsts)) <= 1e-3).all(axis=1)
        answers = np.zeros((len(batches), n), np.bool_)
        if may_be.any():
            chosen = index.reshape(-1, n)[may_be].reshape(-1)
            answers[may_be] = are_on_levels(samples, chosen, levels).reshape(-1, n)
        return list(map(bool, answers.min(axis=1)))

    def scaling(self, x: np.ndarray, on_levels: bool) -> tuple[float, float, float]:
        """Return scale and offset of what is gathered, and the factor that is left to be multiplied by."""
        levels = self._levels(x) if on_levels else None
        if levels is None:
            return self.scale, self.offset, 1.0
        return levels.scale, levels.offset, levels.factor

    def _levels(self, x: np.ndarray) -> Any:
        """Return the levels that these samples may be on."""
        from npnet.kernels.fused.levels import levels_of

        return levels_of(x.dtype, self.scale, self.offset)

    def rows(self, memory: Memory, x: np.ndarray, batches: list[Batch]) -> tuple[np.ndarray, np.ndarray]:
        """Return samples (N, D), ``x`` itself where that will do, and which are the rows of all batches."""
        index = np.concatenate([batch.rows for batch in batches])
        if self.prefix:
            prepared = [self._prepared(memory, x[batch.rows]) for batch in batches]
            x, index = np.concatenate(prepared), np.arange(len(index))
        samples, index = self._plain(x, index)
        self.samples = samples.dtype
        return samples, index

    def _plain(self, x: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return samples (N, D) as the kernels can read them, ``x`` itself where it is so, and the rows."""
        if not (x.flags.c_contiguous and x.dtype.isnative and x.dtype.char in "?bBhHiIlLqQfd"):
            x, index = np.ascontiguousarray(x[index], self.dtype), np.arange(len(index))
        return x.reshape(len(x), self.columns), index

    def _prepared(self, memory: Memory, batch: np.ndarray) -> np.ndarray:
        """Return the batch after the links of ``prefix``; integers stay integers as long as they can."""
        if batch.dtype.kind not in "bui" or not batch.dtype.isnative:
            batch = batch.astype(self.dtype, copy=False)
        for link in map(memory.own, self.prefix):
            if not link.takes_integers:
                batch = batch.astype(self.dtype, copy=False)
            batch = link.forward(batch, training=True)
        return batch

    def forward(self) -> tuple[Flow, Todos]:
        """Return the batch, and what gathers it."""
        fields = {"y": self.flow.number}
        operation = lambda precisions: program().gather(self.samples)  # noqa: E731
        return self.flow, [Todo("gather", operation, fields, 8 * self.columns, True)]


# --- stages ----------------------------------------------------------------------------------------------


class Plain:
    """A link as it is, on rows."""

    in_panels = False
    differentiates = False

    def __init__(self, link: Layer):
        self.link = link
        self.parameters = link.trainable_parameters

    def absorb(self, link: Layer) -> bool:
        """Compute nothing else."""
        return False

    def forward(self, x: Flow) -> tuple[Flow, Todos]:
        """Return y."""

        def call(memory: Memory) -> None:
            memory.rows = memory.own(self.link).forward(memory.rows, training=True)

        return Flow(ROWS), [Call(call)]

    def backward(self, x: Flow, dy: Flow) -> tuple[Flow, Todos]:
        """Set the parameters' gradients, return dx."""

        def call(memory: Memory) -> None:
            memory.rows = memory.own(self.link).backward(memory.rows)
            memory.keep_gradients(self.link)

        return Flow(ROWS), [Call(call)]

    def backward_parameters(self, x: Flow, dy: Flow) -> Todos:
        """Set the parameters' gradients."""

        def call(memory: Memory) -> None:
            memory.own(self.link).backward_parameters(memory.rows)
            memory.keep_gradients(self.link)

        return [Call(call)]


class ToPanels:
    """From rows to panels."""

    in_panels = True
    differentiates = False
    parameters: list[Parameter] = []  # noqa: RUF012 (never written to)

    def __init__(self, columns: int, space: Space):
        self.flow = Flow(space.new_panels(columns), columns)

    def absorb(self, link: Layer) -> bool:
        """Compute nothing else."""
        return False

    def forward(self, x: Flow) -> tuple[Flow, Todos]:
        """Return x as panels."""
        return self.flow, [Call(partial(_to_panels, self.flow.number))]

    def backward(self, x: Flow, dy: Flow) -> tuple[Flow, Todos]:
        """Return dy as rows."""
        return Flow(ROWS), [Call(partial(_from_panels, dy))]

    def backward_parameters(self, x: Flow, dy: Flow) -> Todos:
        """Do nothing: there are none."""
        return []


class ToRows:
    """From panels to rows."""

    in_panels = False
    differentiates = False
    parameters: list[Parameter] = []  # noqa: RUF012 (never written to)

    def __init__(self, x: Flow, chain: Chain, space: Space):
        self.chain = chain
        self.gradient = Flow(space.new_panels(x.columns), x.columns)

    def absorb(self, link: Layer) -> bool:
        """Compute nothing else."""
        return False

    def forward(self, x: Flow) -> tuple[Flow, Todos]:
        """Return x as rows."""
        return Flow(ROWS), [Call(partial(_from_panels, x))]

    def backward(self, x: Flow, dy: Flow) -> tuple[Flow, Todos]:
        """Return dy as panels, multiplied by what x says."""

        def call(memory: Memory) -> None:
            _to_panels(self.gradient.number, memory)
            if x.derivative is not None:
                rule, remembered, constants, _ = x.derivative
                panels = memory.panels(self.gradient.number)
                elementwise = self.chain.kernels.elementwise
                panels[...] = elementwise(rule, panels, memory.panels(remembered), *constants)

        return self.gradient, [Call(call)]

    def backward_parameters(self, x: Flow, dy: Flow) -> Todos:
        """Do nothing: there are none."""
        return []


class Active:
    """Base of stages that compute an activation of single elements as well.

    Attributes
    ----------
    activation
        What it has absorbed.
    """

    activation: Elementwise | None = None

    def absorb(self, link: Layer) -> bool:
        """Compute the next link as well, if it is such an activation and the first; return whether it is."""
        if self.activation is not None or not (link in KNOWN and isinstance(link, Elementwise)):
            return False
        self.activation = link
        return True

    @property
    def constants(self) -> tuple[float, ...]:
        """The numbers of the activation's rule."""
        return () if self.activation is None else tuple(map(float, self.activation.constants))

    @property
    def remembers_x(self) -> bool:
        """Whether the activation's derivative reads what it was given, and not what it gave."""
        return self.activation is not None and self.activation.remembers == "x"

    def derivative(self, remembered: int, first_constant: int = 0) -> Derivative | None:
        """Return what the gradient of the output is still to be multiplied by."""
        if self.activation is None:
            return None
        return Derivative(self.activation.rule_backward, remembered, self.constants, first_constant)


class FusedDense(Active):
    """y = activation(x W + b) in one pass over W, and gradient with update in another.

    Attributes
    ----------
    layer
        The number of its weights among the plan's.
    rounds
        Whether it multiplies bfloat16.
    """

    in_panels = True
    differentiates = False

    def __init__(self, link: Dense, optimizer: Optimizer, space: Space):
        self.link = link
        self.optimizer = optimizer
        self.space = space
        self.parameters = link.parameters
        self.rounds = multiplies_bfloat16(link)
        self.inputs, self.units = link.weight.shape
        self.layer = space.new_layer(self.inputs, self.units, link.bias is not None)
        self.y = space.new_panels(self.units)

    @property
    def _work(self) -> int:
        return self.inputs * self.units

    def forward(self, x: Flow) -> tuple[Flow, Todos]:
        """Return y."""
        rule = rules.linear if self.activation is None else self.activation.rule
        z = self.space.new_panels(self.units) if self.remembers_x else self.y
        first = self.space.new_constants(self.constants)
        derivative = self.derivative(z, first)
        self.epilogue = rule, z != self.y, len(self.constants)
        self.fields = {"layer": self.layer, "y": self.y, "z": z, "constants": first}

        def operation(precisions: Precisions) -> Any:
            return program().forward(self._precision(precisions, x), *self.epilogue)

        todo = Todo("forward", operation, self.fields | {"x": x.number}, self._work)
        return Flow(self.y, self.units, derivative), [todo]

    def backward(self, x: Flow, dy: Flow) -> tuple[Flow, Todos]:
        """Return dx, multiplied by what x says."""
        dx = self.space.new_panels(self.inputs)
        rule, remembered, constants, first = x.derivative or Derivative(rules.linear_backward, dx, (), 0)
        fields = {"layer": self.layer, "dy": dy.number, "z": remembered, "dx": dx, "constants": first}

        def operation(precisions: Precisions) -> Any:
            precision = precisions.mixed if self.rounds else precisions.others
            return program().backward(precision, rule, len(constants))

        return Flow(dx, self.inputs), [Todo("input gradient", operation, fields, self._work)]

    def learn(self, x: Flow, dy: Flow) -> Todos:
        """Update the parameters: gradient and rule in one, the gradient as a whole never exists."""
        fields = {"layer": self.layer, "x": x.number, "dy": dy.number}

        def operation(precisions: Precisions) -> Any:
            return program().update(self._precision(precisions, x), *self._rule())

        return [Todo("gradient, update", operation, fields, self._work)]

    def learn_and_forward(self, x: Flow, dy: Flow, next_x: int) -> Todo:
        """Do what ``learn`` does, and ``forward`` with the next batch, in one pass over the weights."""
        fields = self.fields | {"x": x.number, "dy": dy.number, "next_x": next_x}

        def operation(precisions: Precisions) -> Any:
            return program().update_forward(self._precision(precisions, x), *self._rule(), *self.epilogue)

        return Todo("gradient, update, forward", operation, fields, 2 * self._work)

    def backward_parameters(self, x: Flow, dy: Flow) -> Todos:
        """Do nothing: ``learn`` or ``gradients`` does it when all gradients have flowed back."""
        return []

    def gradients(self, x: Flow, dy: Flow) -> Todos:
        """Write the gradients as arrays ..."""
        fields = {"layer": self.layer, "x": x.number, "dy": dy.number}

        def operation(precisions: Precisions) -> Any:
            return program().gradient(self._precision(precisions, x))

        return [Todo("gradient", operation, fields, self._work)]

    def apply(self) -> Todos:
        """... and update the parameters with them."""
        fields = {"layer": self.layer}
        return [Todo("update", lambda precisions: program().apply(*self._rule()), fields, 16 * self.units)]

    def _precision(self, precisions: Precisions, x: Flow) -> Any:
        """Return the precision of products with x."""
        if self.rounds:
            return precisions.mixed
        return precisions.of_batch if x.gathered else precisions.others

    def _rule(self) -> tuple[Any, int, int]:
        optimizer = self.optimizer
        return optimizer.rule, len(optimizer.slot_names), len(optimizer.hyperparameters())


class Differentiate:
    """Multiplies a gradient of rows by what its flow still says, before a stage that does not."""

    in_panels = False
    differentiates = True
    parameters: list[Parameter] = []  # noqa: RUF012 (never written to)

    def __init__(self, chain: Chain):
        self.chain = chain

    def absorb(self, link: Layer) -> bool:
        """Compute nothing else."""
        return False

    def forward(self, x: Flow) -> tuple[Flow, Todos]:
        """Return x."""
        return x._replace(derivative=None), []

    def backward(self, x: Flow, dy: Flow) -> tuple[Flow, Todos]:
        """Return dy, multiplied by what x says."""

        def call(memory: Memory) -> None:
            assert x.derivative is not None
            rule, remembered, constants, _ = x.derivative
            beside = memory.kept[remembered].reshape(memory.rows.shape)
            memory.rows = self.chain.kernels.elementwise(rule, memory.rows, beside, *constants)

        return Flow(ROWS), [Call(call)]

    def backward_parameters(self, x: Flow, dy: Flow) -> Todos:
        """Do nothing: there are none."""
        return []


# --- where it ends ---------------------------------------------------------------------------------------


class LossOfRows:
    """The loss as it is, on rows."""

    in_panels = False

    def __init__(self, step: Step):
        self.step = step

    def todos(self, x: Flow) -> tuple[Flow, Todos]:
        """Return the gradient to start from, and what computes loss, predictions and it."""
        return Flow(ROWS), [Call(self._call)]

    def _call(self, memory: Memory) -> None:
        chain, loss, batch = self.step.chain, memory.own(self.step.loss), memory.batch
        join = joined(chain, loss)
        if join:
            y_pred = memory.own(chain.links[-1]).forward(memory.rows, training=True)
        else:  # the next step writes its own into the same array
            y_pred = memory.rows.copy()
        value = loss.forward(batch.y_true, y_pred, batch.sample_weight)
        memory.losses, memory.y_pred = [value * memory.loss_scale], [y_pred]
        dy = loss.backward_through_activation() if join else loss.backward()
        # A loss of one's own may compute in float64.
        memory.rows = np.asarray(dy * memory.loss_scale, chain.dtype)


class SoftmaxLoss:
    """Softmax, cross-entropy and d loss / d logits in one pass over the logits."""

    in_panels = True

    def __init__(self, loss: Loss, classes: int, dtype: np.dtype, space: Space):
        self.loss = loss
        self.classes = classes
        self.dtype = dtype
        self.gradient = Flow(space.new_panels(classes), classes)

    def todos(self, x: Flow) -> tuple[Flow, Todos]:
        """Return the gradient to start from, and what computes losses, probabilities and it."""
        fields = {"x": x.number, "dx": self.gradient.number}
        return self.gradient, [
            Todo(
                "softmax, cross-entropy",
                lambda precisions: program().softmax_cross_entropy(),
                fields,
                16 * self.classes,
            )
        ]

    def targets(self, memory: Memory, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Return targets (N, K) and weights, (N,) or empty for none."""
        y_true, sample_weight, loss = batch.y_true, batch.sample_weight, memory.own(self.loss)
        like = np.empty((len(y_true), self.classes), self.dtype)
        targets = np.ascontiguousarray(loss.targets(y_true, like))
        weight = loss.sample_weight(y_true, sample_weight)
        return targets, np.asarray(() if weight is None else weight, self.dtype)

    def scale(self, memory: Memory) -> float:
        """Return what multiplies every loss."""
        mean = memory.own(self.loss).reduction == "sum_over_batch_size"
        return memory.loss_scale / memory.n if mean else memory.loss_scale


def multiplies_bfloat16(link: Layer) -> bool:
    """Whether a layer's products are those of bfloat16."""
    return link.compute_dtype == "bfloat16"


def _to_panels(number: int, memory: Memory) -> None:
    from npnet.kernels.products.layouts import to_panels

    to_panels(memory.rows, memory.panels(number))


def _from_panels(flow: Flow, memory: Memory) -> None:
    from npnet.kernels.products.layouts import from_panels

    memory.rows = from_panels(memory.panels(flow.number), memory.n, flow.columns)


def program() -> ModuleType:
    """Return the compiled operations; Numba is imported here and not before."""
    from npnet.kernels.fused import program

    return program
