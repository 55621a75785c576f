"""The fused step of several processes: the shards of each side by side through a plan, and one update.

A plan runs once for each shard of this process, each in a memory of its own. What needs the whole batch is a
meeting (``flows.Meeting``): all of them run up to it, sums over all shards of all processes are taken
(``training/shards.py``), and all go on. At the last meeting the gradients, which such a plan writes to memory
before anything changes, are summed; then one run goes on to the update. The kernels see one shard at a time,
so they are those that its size calls for, on every number of processes.
"""

from collections import deque
from collections.abc import Iterable

import numpy as np

from npnet.internal.processes import Processes
from npnet.training.batches import Batch
from npnet.training.distributed import DistributedStep, normalizes_batches, twins
from npnet.training.fused.flows import AddUp, Meeting, Memory
from npnet.training.fused.normalization import can_normalize
from npnet.training.fused.plan import FusedStep, Plan, taking_steps
from npnet.training.shards import Space
from npnet.training.step import Result, Step

__all__ = ["FusedDistributedStep"]


class FusedDistributedStep(DistributedStep):
    """Steps that the processes of a group take together, fused where a plan knows how."""

    def __init__(self, step: Step, group: Processes, shards: int):
        super().__init__(step, group, shards)
        self.fused = FusedStep(self.step, Meeting(self._sum_gradients))
        self.space: Space | None = None

    def take(self, x: np.ndarray, batch: Batch) -> Result:
        """Take one step, fused if it can be."""
        fits = all(map(can_normalize, filter(normalizes_batches, self.step.chain.links)))
        plan = self.fused.current() if fits else None
        if plan is None:
            return super().take(x, batch)
        with taking_steps():
            return self._take_fused(plan, x, batch)

    def _take_fused(self, plan: Plan, x: np.ndarray, batch: Batch) -> Result:
        for home in plan.homes:
            home.take()
        self.n, samples = len(batch.y_true), x
        shards = self._own_batches(batch)
        self.numbers = [number for number, _ in shards]
        if not shards:  # of a short batch this process has nothing; its plan computes something all the same
            samples = np.zeros((1, *x.shape[1:]), x.dtype)
            shards = [(self.sums.mine.start, Batch(np.zeros(1, int), batch.y_true[:1], np.zeros(1)))]
        memories = [self._memory(plan, number, len(own.rows)) for number, own in shards]
        runs = [plan.run(memory, samples, [own]) for memory, (_, own) in zip(memories, shards, strict=True)]
        for meetings in zip(*runs, strict=True):  # each run has come as far
            meetings[0].do(memories, self._add_up)
            if meetings[0] is plan.begin_update:
                break
        _go_on(runs[-1])
        results = [plan.results(memory)[0] for memory in memories]
        loss, y_pred = self._results(dict(zip(self.numbers, results, strict=False)), x, batch)
        return loss + self.penalty, y_pred

    def _memory(self, plan: Plan, number: int, n: int) -> Memory:
        """Return memory for a shard of n samples: loss and gradient are its part of the whole batch's."""
        chain, memory = self.step.chain, plan.memory(n, number)
        links, loss = twins(self.step, number)
        memory.twins = dict(zip((*chain.links, self.step.loss), (*links, loss), strict=True))
        memory.batch_size, memory.loss_scale = self.n, 1 / self._count()
        return memory

    def _add_up(self, arrays: list[np.ndarray]) -> np.ndarray:
        """Return the sum over all shards of small arrays, of which these are this process's."""
        by_shard = dict(zip(self.numbers, arrays, strict=False))
        return self.sums.of(by_shard, arrays[0].shape, arrays[0].dtype)

    def _sum_gradients(self, memories: list[Memory], add_up: AddUp) -> None:
        """Begin the update: put the sums over all shards where the run that goes on will look for them."""
        sums, total = self.sums, memories[-1].gradients
        if self.space is None or self.space.total is not total:
            self.space = Space(sums, total.size, total.dtype, total=total)
        whole = {number: memory.gradients for number, memory in zip(self.numbers, memories, strict=False)}
        sums.over_processes(sums.over_own(whole, total.size, total.dtype, overwrites=True), self.space)
        others = memories[0].grads
        if others:
            gradients = self._gradients_of({parameter: parameter.size for parameter in others})
            for parameter in others:
                grads = [memory.grads[parameter] for memory in memories]
                gradients.add(parameter, dict(zip(self.numbers, grads, strict=False)))
            for parameter, summed in gradients.sum().items():
                parameter.grad = summed.reshape(parameter.shape)
        self.penalty = self.step.chain.regularize()


def _go_on(run: Iterable[Meeting]) -> None:
    """Let a run come to its end, without more meetings."""
    deque(run, maxlen=0)
