"""Fusion: neighbouring operations of a training step computed as one. The results agree to rounding.

A plan is a list of stages that replaces ``train_step``. A Dense with its activation is one stage: bias and
activation are applied while a tile of the product is at hand; on the way back a tile of the weight gradient
goes straight into the optimizer's rule, and the gradient as a whole never exists. Links that cannot be fused
run as they are, between two changes of layout. Nothing outside this module knows of it; without it models
train in the readable order.

A plan keeps the weights in a layout of its own; whoever reads them gets them back first.
"""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from npnet import data
from npnet.activations import Elementwise, Softmax
from npnet.kernels import load, rules
from npnet.layer import Layer
from npnet.layers import Dense, Flatten, Rescaling
from npnet.losses import CategoricalCrossentropy
from npnet.network import Network
from npnet.optimizers import Optimizer


def plan(model: Network) -> "FusedStep | None":
    """Return a fused step for ``model``, with the arguments and results of ``train_step``.

    None where there is nothing to fuse: with NumPy's kernels, without a trained Dense, or where the
    optimizer clips gradients, which it must see whole, or follows a rule that is not in ``kernels.rules``.
    """
    optimizer = model.optimizer
    clips = optimizer.clipnorm or optimizer.clipvalue or optimizer.global_clipnorm
    if model.kernels is not load("numba") or clips or not _is_rule(optimizer.rule):
        return None
    return FusedStep(model) if any(_can_fuse(link) for link in model.chain) else None


def _is_rule(function: Callable) -> bool:
    return getattr(rules, function.__name__, None) is function


def _can_fuse(link: Layer) -> TypeGuard[Dense]:
    """Whether a link is a Dense that is trained, with nothing to add to its gradient."""
    if type(link) is not Dense or not link.trainable:
        return False
    return all(p.trainable and p.regularizer is None for p in link.parameters)


def _is_elementwise(link: Layer) -> TypeGuard[Elementwise]:
    return isinstance(link, Elementwise) and _is_rule(link.rule) and _is_rule(link.rule_backward)


class Update(NamedTuple):
    """What the optimizer does with each gradient in this step."""

    decay: float
    hyperparameters: tuple[float, ...]


class FusedStep:
    """The replacement of ``model.train_step``: the same arguments, the same results."""

    def __init__(self, model: Network):
        self.model = model
        kernels = import_module("npnet.kernels.steps")
        links = model.chain[:-1] if model.joined else model.chain
        ends_in_softmax = model.joined and type(model.chain[-1]) is Softmax and _can_fuse(links[-1])
        first_fused = next((i for i, link in enumerate(links) if _can_fuse(link)), 0)
        head = links[:first_fused]
        gathers = not any(link.trainable and link.parameters for link in head)
        self.start = (
            GatherPanels(kernels, model, head) if gathers and first_fused < len(links) else GatherRows(model)
        )
        self.stages: list[Any] = []
        in_panels = isinstance(self.start, GatherPanels)
        for link in links[first_fused if in_panels else 0 :]:
            before: Any = self.stages[-1] if self.stages else None
            if _can_fuse(link):
                if not in_panels:
                    self.stages.append(before := ToPanels(kernels, model, link))
                self.stages.append(FusedDense(kernels, link, model.optimizer, before))
                in_panels = True
            elif isinstance(before, FusedDense) and before.activation is None and _is_elementwise(link):
                before.activation = link
            else:
                if in_panels:
                    self.stages.append(ToRows(kernels, before))
                self.stages.append(Plain(link))
                in_panels = False
        if ends_in_softmax and isinstance(model.loss, CategoricalCrossentropy) and in_panels:
            classes = self.stages[-1].link.units
            self.end: Any = SoftmaxCrossEntropy(kernels, model, classes)
        else:
            if in_panels:
                self.stages.append(ToRows(kernels, self.stages[-1]))
            self.end = PlainLoss(model)
        self.whole = WholeStep.of(self)
        trained = [bool(stage.parameters) for stage in self.stages]
        self.first = trained.index(True)
        self.planned_for = model.trainable_parameters
        self.plain_parameters = [
            p for p in self.planned_for
            if not any(p in stage.parameters for stage in self.stages if isinstance(stage, FusedDense))
        ]  # fmt: skip

    def __call__(
        self, x: np.ndarray, index: np.ndarray, y_true: np.ndarray, sample_weight: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        """Take one step; see ``Network.train_step``."""
        model, n = self.model, len(index)
        if model.trainable_parameters != self.planned_for:  # a callback has frozen a layer
            return model.train_step(x, index, y_true, sample_weight)
        flow = self.start(x, index)
        for stage in self.stages:
            flow = stage.forward(flow, n)
        loss, y_pred, flow = self.end(flow, y_true, sample_weight)

        update = _update_of(model.optimizer)
        for stage in reversed(self.stages[self.first + 1 :]):
            flow = stage.backward(flow, n, update)
        self.stages[self.first].learn(flow, n, update)
        loss += model.regularize()
        model.optimizer.step(self.plain_parameters, model.kernels)
        return loss, y_pred


def _update_of(optimizer: Optimizer) -> Update:
    decay = 1 - optimizer.learning_rate * optimizer.weight_decay if optimizer.weight_decay else 1.0
    return Update(decay, tuple(float(number) for number in optimizer.hyperparameters()))


# --- where a batch begins --------------------------------------------------------------------------------


class GatherRows:
    """The batch as rows in the model's dtype, for a plain first link."""

    def __init__(self, model: Network):
        self.dtype = model.dtype

    def __call__(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Return the rows ``index`` of ``x``."""
        return data.gather(x, index, self.dtype)


class GatherPanels:
    """The batch as panels, converted, rescaled and flattened on the way.

    What else comes before the first fused stage has nothing to learn, and runs as it is on the batch's rows.
    """

    def __init__(self, kernels: ModuleType, model: Network, head: list[Layer]):
        self.kernels = kernels
        self.dtype = model.dtype
        self.buffers = Buffers(kernels, model.dtype)
        plain = [i for i, link in enumerate(head) if not isinstance(link, (Flatten, Rescaling))]
        self.prefix = head[: plain[-1] + 1] if plain else []
        self.scale, self.offset = 1.0, 0.0
        for link in head[len(self.prefix) :]:
            if isinstance(link, Rescaling):
                self.scale, self.offset = link.scale * self.scale, link.scale * self.offset + link.offset

    def rows(self, x: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return an array (rows, D), ``x`` itself where that will do, and which of its rows are the batch."""
        if self.prefix:
            x, index = self._prepared(x[index]), np.arange(len(index))
        columns = int(np.prod(x.shape[1:]))
        if not (x.flags.c_contiguous and x.dtype.isnative and x.dtype.char in "?bBhHiIlLqQfd"):
            x, index = np.ascontiguousarray(x[index], self.dtype), np.arange(len(index))
        return x.reshape(len(x), columns), index

    def _prepared(self, batch: np.ndarray) -> np.ndarray:
        """Return the batch after the links of ``prefix``; integers stay integers as long as they can."""
        if batch.dtype.kind not in "bui" or not batch.dtype.isnative:
            batch = batch.astype(self.dtype, copy=False)
        for link in self.prefix:
            if not link.takes_integers:
                batch = batch.astype(self.dtype, copy=False)
            batch = link.forward(batch, training=True)
        return batch

    def __call__(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Return scale x[index] + offset."""
        x, index = self.rows(x, index)
        out = self.buffers("x", len(index), x.shape[1])
        self.kernels.gather(x, index, self.scale, self.offset, out)
        return out


class Buffers:
    """Panels kept from step to step, for two batch sizes: the usual one and that of an epoch's last batch."""

    def __init__(self, kernels: ModuleType, dtype: np.dtype):
        self.kernels = kernels
        self.dtype = dtype
        self.kept: dict[int, dict[str, np.ndarray]] = {}

    def __call__(self, name: str, n: int, columns: int) -> np.ndarray:
        """Return the panels called ``name`` for n samples."""
        if n not in self.kept:
            while len(self.kept) > 1:
                del self.kept[next(iter(self.kept))]
            self.kept[n] = {}
        arrays = self.kept[n]
        if name not in arrays:
            arrays[name] = self.kernels.panels(n, columns, self.dtype)
        return arrays[name]


# --- stages ----------------------------------------------------------------------------------------------


class Plain:
    """A link as it is, on rows."""

    def __init__(self, link: Layer):
        self.link = link
        self.parameters = link.parameters if link.trainable else []

    def forward(self, x: np.ndarray, n: int) -> np.ndarray:
        """Return y."""
        return self.link.forward(x, training=True)

    def backward(self, dy: np.ndarray, n: int, update: Update) -> np.ndarray:
        """Set the gradients, return dx."""
        return self.link.backward(dy)

    def learn(self, dy: np.ndarray, n: int, update: Update) -> None:
        """Set the gradients only."""
        self.link.backward_parameters(dy)


class ToPanels:
    """From rows to panels, before a fused stage."""

    parameters = ()

    def __init__(self, kernels: ModuleType, model: Network, following: Dense):
        self.kernels = kernels
        self.buffers = Buffers(kernels, model.dtype)
        self.columns = following.weight.shape[0]

    def forward(self, x: np.ndarray, n: int) -> np.ndarray:
        """Return x as panels."""
        out = self.buffers("x", n, self.columns)
        self.kernels.to_panels(x, out)
        return out

    def backward(self, dy: np.ndarray, n: int, update: Update) -> np.ndarray:
        """Return dy as rows."""
        return self.kernels.from_panels(dy, n, self.columns)


class ToRows:
    """From panels to rows, after a fused stage."""

    parameters = ()

    def __init__(self, kernels: ModuleType, before: "FusedDense"):
        self.kernels = kernels
        self.before = before

    def forward(self, x: np.ndarray, n: int) -> np.ndarray:
        """Return x as rows."""
        return self.kernels.from_panels(x, n, self.before.link.units)

    def backward(self, dy: np.ndarray, n: int, update: Update) -> np.ndarray:
        """Return the gradient before the fused stage's activation, as panels."""
        before = self.before
        out = before.buffers("dy", n, before.link.units)
        self.kernels.to_panels(dy, out)
        if before.activation is None:
            return out
        rule, constants = before.activation.rule_backward, before.constants
        return before.link.kernels.elementwise(rule, out, before.remembered, *constants)


class FusedDense:
    """y = activation(x W + b) in one pass, and gradient with update in another.

    ``backward`` takes the gradient before its own activation and returns the one before the activation of
    the fused stage ahead of it, if there is one.
    """

    activation: Elementwise | None = None

    def __init__(self, kernels: ModuleType, link: Dense, optimizer: Optimizer, before: Any):
        self.kernels = kernels
        self.link = link
        self.optimizer = optimizer
        self.before = before if isinstance(before, FusedDense) else None
        self.parameters = link.parameters
        dtype = link.weight.value.dtype
        self.buffers = Buffers(kernels, dtype)
        rows = 1 + len(optimizer.slot_names)
        self.squares = kernels.squares(*link.weight.shape, rows - 1, dtype)
        units = self.squares.shape[0] * self.squares.shape[3]
        self.bias = np.zeros((rows, 0 if link.bias is None else units), dtype)  # b, then its slots

    @property
    def constants(self) -> tuple[float, ...]:
        """The numbers of the activation."""
        return () if self.activation is None else tuple(float(c) for c in self.activation.constants)

    def borrow(self) -> None:
        """Take the parameters and their slots, unless they are here."""
        if all(parameter.borrower is self for parameter in self.parameters):
            return
        for layer, (weight, bias) in enumerate(zip(*self._arrays(), strict=True)):
            self.kernels.to_squares(weight, self.squares, layer)
            self.bias[layer, : len(bias)] = bias
        for parameter in self.parameters:
            parameter.borrower = self

    def give_back(self) -> None:
        """Write the parameters and their slots back."""
        for parameter in self.parameters:
            parameter.borrower = None
        for layer, (weight, bias) in enumerate(zip(*self._arrays(), strict=True)):
            self.kernels.from_squares(self.squares, layer, weight)
            bias[...] = self.bias[layer, : len(bias)]

    def _arrays(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return W with its slots, and b with its slots, or empty arrays where there is none."""
        weight, bias = self.link.weight, self.link.bias
        weights = [weight.value, *self.optimizer.slots_of(weight)]
        if bias is None:
            return weights, [np.empty(0) for _ in weights]
        return weights, [bias.value, *self.optimizer.slots_of(bias)]

    def buffers_of(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the panels of y, and of x W + b if the activation's derivative wants that, else y again."""
        y = self.buffers("y", n, self.link.units)
        return y, self.buffers("z", n, self.link.units) if self.wants_x else y

    @property
    def wants_x(self) -> bool:
        """Whether the activation's derivative needs its input."""
        return self.activation is not None and self.activation.remembers == "x"

    def forward(self, x: np.ndarray, n: int) -> np.ndarray:
        """Return y."""
        self.borrow()
        rule = rules.linear if self.activation is None else self.activation.rule
        y, z = self.buffers_of(n)
        self.x, self.remembered = x, z
        self.kernels.forward(rule, self.wants_x, x, self.squares, self.bias, n, z, y, self.constants)
        return y

    def backward(self, dz: np.ndarray, n: int, update: Update) -> np.ndarray:
        """Update the parameters, return dx computed with the weights before."""
        before = self.before
        dx = self.buffers("dx", n, self.link.weight.shape[0])
        rule, remembered = rules.linear_backward, dx
        constants: tuple[float, ...] = ()
        if before is not None and before.activation is not None:
            rule, remembered, constants = (
                before.activation.rule_backward, before.remembered, before.constants
            )  # fmt: skip
        self.kernels.backward(rule, dz, self.squares, n, remembered, dx, constants)
        self.learn(dz, n, update)
        return dx

    def learn(self, dz: np.ndarray, n: int, update: Update) -> None:
        """Update the parameters."""
        inputs, slots = self.link.weight.shape[0], len(self.optimizer.slot_names)
        self.kernels.update(
            self.optimizer.rule, slots, self.x, dz, n, inputs, self.squares, self.bias, *update
        )


# --- where it ends ---------------------------------------------------------------------------------------


class PlainLoss:
    """The model's loss on rows."""

    def __init__(self, model: Network):
        self.model = model

    def __call__(
        self, flow: np.ndarray, y_true: np.ndarray, sample_weight: np.ndarray | None
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return loss, y_pred and the gradient to start from."""
        model = self.model
        y_pred = model.chain[-1].forward(flow, training=True) if model.joined else flow
        loss = model.loss.forward(y_true, y_pred, sample_weight)
        return (
            loss,
            y_pred,
            model.loss.backward_through_activation() if model.joined else model.loss.backward(),
        )


class SoftmaxCrossEntropy:
    """Softmax, cross-entropy and d loss / d logits in one pass over the logits."""

    def __init__(self, kernels: ModuleType, model: Network, classes: int):
        self.kernels = kernels
        self.loss = model.loss
        self.classes = classes
        self.dtype = model.dtype
        self.buffers = Buffers(kernels, model.dtype)

    def arguments(
        self, y_true: np.ndarray, sample_weight: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, float, np.ndarray, np.ndarray]:
        """Return targets, weights (empty for none), the loss's scale, and where y_pred and dlogits go."""
        n = len(y_true)
        y_pred = np.empty((n, self.classes), self.dtype)
        targets = np.ascontiguousarray(self.loss.targets(y_true, y_pred))
        weight = self.loss.sample_weight(y_true, sample_weight)
        weight = np.zeros(0, self.dtype) if weight is None else np.ascontiguousarray(weight, self.dtype)
        scale = 1 / n if self.loss.reduction == "sum_over_batch_size" else 1.0
        return targets, weight, scale, y_pred, self.buffers("dlogits", n, self.classes)

    def __call__(
        self, logits: np.ndarray, y_true: np.ndarray, sample_weight: np.ndarray | None
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return loss, probabilities and d loss / d logits as panels."""
        targets, weight, scale, y_pred, dlogits = self.arguments(y_true, sample_weight)
        loss = self.kernels.softmax_cross_entropy(logits, targets, weight, scale, y_pred, dlogits)
        return loss, y_pred, dlogits


# --- all stages in one parallel loop ---------------------------------------------------------------------


class WholeStep:
    """The step of a chain of fused stages with one activation between all, and softmax with cross-entropy.

    The usual network. It computes what its stages compute, without stopping between them.
    """

    def __init__(self, step: FusedStep, hidden: Elementwise | None):
        self.kernels = import_module("npnet.kernels.steps")
        self.start: Any = step.start
        self.stages, self.end = step.stages, step.end
        self.optimizer = step.model.optimizer
        self.rules = rules.linear, rules.linear_backward
        if hidden is not None:
            self.rules = hidden.rule, hidden.rule_backward
        self.inputs = tuple(stage.link.weight.shape[0] for stage in self.stages)

    @classmethod
    def of(cls, step: FusedStep) -> "WholeStep | None":
        """Return the whole step where the stages allow it."""
        if not isinstance(step.start, GatherPanels) or not isinstance(step.end, SoftmaxCrossEntropy):
            return None
        if not all(isinstance(stage, FusedDense) for stage in step.stages):
            return None
        hidden = [stage.activation for stage in step.stages[:-1]]
        if len({(type(a), () if a is None else a.constants) for a in hidden}) > 1:
            return None
        return cls(step, hidden[0] if hidden else None)

    def __call__(
        self, x: np.ndarray, index: np.ndarray, y_true: np.ndarray, sample_weight: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        """Take one step; see ``Network.train_step``."""
        stages, n = self.stages, len(index)
        for stage in stages:
            stage.borrow()
        x, index = self.start.rows(x, index)
        flows = [self.start.buffers("x", n, x.shape[1])]
        remembered = []
        for stage in stages:
            y, z = stage.buffers_of(n)
            flows.append(y)
            remembered.append(z)
        targets, weight, scale, y_pred, dlogits = self.end.arguments(y_true, sample_weight)
        flows_back = [stage.buffers("dz", n, stage.link.units) for stage in stages[:-1]] + [dlogits]
        losses = np.empty(n)
        optimizer = self.optimizer
        slots = len(optimizer.slot_names)
        kernel = self.kernels.train_step(*self.rules, stages[0].wants_x, optimizer.rule, slots)
        kernel(
            x, index, (self.start.scale, self.start.offset),
            tuple(flows), tuple(remembered), tuple(flows_back),
            tuple(stage.squares for stage in stages), tuple(stage.bias for stage in stages), self.inputs,
            stages[0].constants, targets, weight, (scale,), losses, y_pred, *_update_of(optimizer),
        )  # fmt: skip
        optimizer.iterations += 1
        return float(losses.sum()), y_pred
