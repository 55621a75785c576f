"""The fused step of several processes: whole gradients, shard after shard, their sum, the update.

A plan with ``whole_gradients`` writes them to memory before anything changes. Each process lets it do so for
its shards, and the plan's update begins with the sum over all of them (``training/shards.py``). The kernels
see one shard at a time, so they are those that its size calls for, on every number of processes.
"""

from typing import Any

import numpy as np

from npnet.internal.processes import Processes
from npnet.training.batches import Batch
from npnet.training.distributed import DistributedStep, normalizes_batches, own_stream
from npnet.training.fused.flows import Memory
from npnet.training.fused.plan import FusedStep, Plan, taking_steps
from npnet.training.shards import Space
from npnet.training.step import Result, Step

__all__ = ["FusedDistributedStep"]

FUSED = "fused"  # the key of the gradients that lie in the plan's memory


class FusedDistributedStep(DistributedStep):
    """Steps of the processes of a group, fused where a shard needs to know nothing of the others.

    That is without batch normalisation, and where no labels are ignored: the loss is then a mean over a
    number of samples that a shard does not know.
    """

    def __init__(self, step: Step, group: Processes, shards: int):
        super().__init__(step, group, shards)
        self.fused = FusedStep(step, self._sum_gradients)
        self.space: Space | None = None

    def take(self, x: np.ndarray, batch: Batch) -> Result:
        """Take one step, fused if it can be."""
        chain, loss = self.step.chain, self.step.loss
        ignores = getattr(loss, "ignore_class", None) is not None
        fits = not ignores and not any(map(normalizes_batches, chain.links))
        plan = self.fused.current() if fits else None
        if plan is None:
            return super().take(x, batch)
        streams = {link: link.rng for link in chain.links if link.rng is not None}
        try:
            with taking_steps():
                return self._take_fused(plan, x, batch)
        finally:
            for link, rng in streams.items():
                link.rng = rng

    def _take_fused(self, plan: Plan, x: np.ndarray, batch: Batch) -> Result:
        for home in plan.homes:
            home.take()
        self.plan = plan
        self.parts: dict[Any, dict[int, np.ndarray]] = {FUSED: {}} | {p: {} for p in plan.plain_parameters}
        totals, y_pred = np.zeros(len(self.sums.mine)), []
        parts = self._own_parts(batch)
        for number, rows, part in parts:
            self.number: int | None = number
            for place, link in enumerate(self.step.chain.links):
                if link.rng is not None:
                    link.rng = own_stream(link, self.step, number, place)
            last = number == parts[-1][0]
            [(loss, its_y_pred)] = plan.take(x, [self._shard(batch, rows, part)], ends_at_gradients=not last)
            if not last:
                self._keep(plan.gradients.copy())
            totals[number - self.sums.mine.start] = loss
            y_pred.append(its_y_pred)
        if not parts:  # of a short batch this process has nothing; its plan computes something all the same
            self.number = None
            some = Batch(np.zeros(1, int), batch.y_true[:1], np.zeros(1))
            plan.take(np.zeros((1, *x.shape[1:]), x.dtype), [some])
        loss, whole = self._results(totals, y_pred, batch)
        return loss + self.penalty, whole

    def _shard(self, batch: Batch, rows: np.ndarray, part: slice) -> Batch:
        """Return a shard whose mean loss is its fraction of the batch's: weighted by its size."""
        weight = None if batch.sample_weight is None else batch.sample_weight[part]
        if self.step.loss.reduction != "sum":
            share = len(rows) / len(batch.y_true)
            weight = np.full(len(rows), share) if weight is None else weight * share
        return Batch(rows, batch.y_true[part], weight)

    def _keep(self, fused: np.ndarray) -> None:
        """Keep the gradients of the present shard."""
        if self.number is not None:
            self.parts[FUSED][self.number] = fused
            for parameter in self.plan.plain_parameters:
                self.parts[parameter][self.number] = parameter.grad

    def _sum_gradients(self, memory: Memory) -> None:
        """Begin the update: put the sums over all shards where the plan has this process's last shard."""
        plan, sums = self.plan, self.sums
        self._keep(plan.gradients)
        if self.space is None or self.space.total is not plan.gradients:
            self.space = Space(sums, plan.gradients.size, plan.gradients.dtype, total=plan.gradients)
        own = sums.over_own(self.parts.pop(FUSED), plan.gradients.size, plan.gradients.dtype, overwrites=True)
        sums.over_processes(own, self.space)
        if plan.plain_parameters:
            gradients = self._gradients_of({p: p.size for p in plan.plain_parameters})
            for parameter, by_shard in self.parts.items():
                gradients.add(parameter, by_shard)
            for parameter, total in gradients.sum().items():
                parameter.grad = total.reshape(parameter.shape)
        self.penalty = self.step.chain.regularize()
