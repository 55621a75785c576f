"""Fusion: neighbouring operations of a training step computed as one. The results agree to rounding.

A plan is a list of stages that replaces ``train_steps``. A Dense with its activation is one stage: bias and
activation are applied while a tile of the product is at hand; on the way back a tile of the weight gradient
goes straight into the optimizer's rule, and the gradient as a whole never exists. Links that cannot be fused
run as they are, between two changes of layout. Without a plan models train in the readable order.

A plan keeps the weights in a layout of its own; whoever reads them gets them back first.
"""

from collections.abc import Callable
from importlib import import_module
from itertools import groupby
from typing import Any, TypeGuard

import numpy as np

from npnet.kernels import name_of, rules
from npnet.layers import Dense
from npnet.layers.activations import Elementwise, Softmax
from npnet.layers.layer import Layer
from npnet.losses import CategoricalCrossentropy
from npnet.training.batches import Batch
from npnet.training.fused.stages import (
    FusedDense,
    GatherPanels,
    GatherRows,
    Plain,
    PlainLoss,
    SoftmaxCrossEntropy,
    ToPanels,
    ToRows,
    update_of,
)
from npnet.training.step import Network, Result

MOST_STEPS = 32  # in one call
WORK_AT_ONCE = 1 << 33  # multiplications of their forward passes: 0.15 s on two cores of a server


def plan(model: Network) -> "FusedSteps | None":
    """Return fused steps for ``model``, with the arguments and results of ``train_steps``.

    None where there is nothing to fuse: with NumPy's kernels, without a trained Dense, or where the
    optimizer clips gradients, which it must see whole, or follows a rule that is not in ``kernels.rules``.
    """
    optimizer = model.optimizer
    clips = optimizer.clipnorm or optimizer.clipvalue or optimizer.global_clipnorm
    if name_of(model.kernels) != "numba" or clips or not _is_rule(optimizer.rule):
        return None
    return FusedSteps(model) if any(_can_fuse(link) for link in model.chain) else None


def _is_rule(function: Callable) -> bool:
    return getattr(rules, function.__name__, None) is function


def _can_fuse(link: Layer) -> TypeGuard[Dense]:
    """Whether a link is a Dense that is trained, with nothing to add to its gradient."""
    if type(link) is not Dense or not link.trainable:
        return False
    return all(p.trainable and p.regularizer is None for p in link.parameters)


def _is_elementwise(link: Layer) -> TypeGuard[Elementwise]:
    return isinstance(link, Elementwise) and _is_rule(link.rule) and _is_rule(link.rule_backward)


class FusedSteps:
    """The replacement of ``model.train_steps``: the same arguments, the same results."""

    def __init__(self, model: Network):
        self.model = model
        kernels = import_module("npnet.kernels.fused.steps")
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
        self.whole = WholeSteps.of(self)
        trained = [bool(stage.parameters) for stage in self.stages]
        self.first = trained.index(True)
        self.planned_for = model.trainable_parameters
        self.plain_parameters = [
            p for p in self.planned_for
            if not any(p in stage.parameters for stage in self.stages if isinstance(stage, FusedDense))
        ]  # fmt: skip

    def __call__(self, x: np.ndarray, batches: list[Batch]) -> list[Result]:
        """Take a step for each batch; see ``Network.train_steps``."""
        if self.model.trainable_parameters != self.planned_for:  # a callback has frozen a layer
            return self.model.train_steps(x, batches)
        if self.whole is not None:
            return self.whole(x, batches)
        return [self._stage_by_stage(x, *batch) for batch in batches]

    def steps_at_once(self, n: int) -> int:
        """Return how many steps of n samples to take in one call: more than one where that saves time.

        So many that starting threads no longer matters, so few that progress bars move and Ctrl-C works.
        """
        if self.whole is None:
            return 1
        work = n * sum(parameter.size for parameter in self.planned_for)
        return max(1, min(MOST_STEPS, WORK_AT_ONCE // work))

    def _stage_by_stage(
        self, x: np.ndarray, index: np.ndarray, y_true: np.ndarray, sample_weight: np.ndarray | None
    ) -> Result:
        model, n = self.model, len(index)
        flow = self.start(x, index)
        for stage in self.stages:
            flow = stage.forward(flow, n)
        loss, y_pred, flow = self.end(flow, y_true, sample_weight)

        update = update_of(model.optimizer)
        for stage in reversed(self.stages[self.first + 1 :]):
            flow = stage.backward(flow, n, update)
        self.stages[self.first].learn(flow, n, update)
        loss += model.regularize()
        model.optimizer.step(self.plain_parameters, model.kernels)
        return loss, y_pred


# --- all stages in one parallel loop ---------------------------------------------------------------------


class WholeSteps:
    """Steps of a chain of fused stages with one activation between all, and softmax with cross-entropy.

    The usual network. It computes what its stages compute, without stopping between them or between steps.
    """

    def __init__(self, plan: FusedSteps, hidden: Elementwise | None):
        self.kernels = import_module("npnet.kernels.fused.steps")
        self.start: Any = plan.start
        self.stages, self.end = plan.stages, plan.end
        self.optimizer = plan.model.optimizer
        self.rules = rules.linear, rules.linear_backward
        if hidden is not None:
            self.rules = hidden.rule, hidden.rule_backward
        self.inputs = tuple(stage.link.weight.shape[0] for stage in self.stages)

    @classmethod
    def of(cls, plan: FusedSteps) -> "WholeSteps | None":
        """Return the whole steps where the stages allow them."""
        if not isinstance(plan.start, GatherPanels) or not isinstance(plan.end, SoftmaxCrossEntropy):
            return None
        if not all(isinstance(stage, FusedDense) for stage in plan.stages):
            return None
        hidden = [stage.activation for stage in plan.stages[:-1]]
        if len({(type(a), () if a is None else a.constants) for a in hidden}) > 1:
            return None
        return cls(plan, hidden[0] if hidden else None)

    def __call__(self, x: np.ndarray, batches: list[Batch]) -> list[Result]:
        """Take a step for each batch; see ``Network.train_steps``."""
        results = []
        for _, alike in groupby(batches, lambda batch: len(batch.rows)):
            results += self._steps(x, list(alike))
        return results

    def _steps(self, x: np.ndarray, batches: list[Batch]) -> list[Result]:
        """Take a step for each of some batches of one size."""
        stages, steps, n = self.stages, len(batches), len(batches[0].rows)
        for stage in stages:
            stage.borrow()
        x, index = self.start.rows(x, [batch.rows for batch in batches])
        flows, remembered = zip(*(stage.buffers_of(n) for stage in stages), strict=True)
        dlogits = self.end.buffers("dlogits", n, self.end.classes)
        flows_back = [stage.buffers("dz", n, stage.link.units) for stage in stages[:-1]] + [dlogits]
        panels = [self.start.buffers(f"x {i % min(steps, 2)}", n, x.shape[1]) for i in range(2)]

        ends = [self.end.targets(batch.y_true, batch.sample_weight) for batch in batches]
        targets, weights = (np.stack(arrays) for arrays in zip(*ends, strict=True))
        y_pred, losses = np.empty((steps, n, self.end.classes), targets.dtype), np.empty((steps, n))
        optimizer, updates = self.optimizer, []
        for _ in batches:
            updates.append(update_of(optimizer))
            optimizer.iterations += 1
        decay = np.array([update.decay for update in updates])
        hyperparameters = np.array([update.hyperparameters for update in updates]).T.copy()
        matrix_unit, slots = self.kernels.on_matrix_unit(self.end.dtype, n), len(optimizer.slot_names)
        kernel = self.kernels.train_steps(matrix_unit, *self.rules, stages[0].wants_x, optimizer.rule, slots)
        kernel(
            x, index.reshape(steps, n), (self.start.scale, self.start.offset), tuple(panels),
            flows, remembered, tuple(flows_back),
            tuple(stage.squares for stage in stages), tuple(stage.bias for stage in stages), self.inputs,
            stages[0].constants, targets, weights, (self.end.scale(n),), losses, y_pred,
            decay, tuple(hyperparameters),
        )  # fmt: skip
        return [
            (float(loss.sum()), probabilities) for loss, probabilities in zip(losses, y_pred, strict=True)
        ]
