"""The fused step of several processes: the shards of each side by side through a plan, and one update.

A plan runs once for each shard of this process, each in a memory of its own. What needs the whole batch is a
meeting (``flows.Meeting``): all of them run up to it, sums over all shards of all processes are taken
(``training/shards.py``), and all go on. At the last meeting the gradients, which such a plan writes to memory
before anything changes, are summed; then one run goes on to the update. The kernels see one shard at a time,
so they are those that its size calls for, on every number of processes.

Each process adds up one piece of the gradients. Where nobody looks at the optimizer's memory between two
steps, and it does not clip, each updates that piece of the weights as well, keeps the slots of no other, and
sends the others weights instead of gradients: as many bytes, a part of the update (Rajbhandari et al. 2020,
"ZeRO", its first stage).
"""

from collections import deque
from collections.abc import Iterable

import numpy as np

from npnet.internal.processes import Processes
from npnet.training.batches import Batch
from npnet.training.distributed import DistributedStep, normalizes_batches, twins
from npnet.training.fused.flows import AddUp, Meeting, Memory
from npnet.training.fused.normalization import can_normalize
from npnet.training.fused.plan import FusedStep, Plan
from npnet.training.fused.weights import copy_back, lay_out, slots_of, taking_steps
from npnet.training.shards import Space, Sums
from npnet.training.step import Result, Step

__all__ = ["FusedDistributedStep"]


class Slots:
    """The optimizer's memory of a plan's fused weights, laid out as these, while steps are taken.

    Parameters
    ----------
    divides
        Whether processes divide it among them: each has the piece of which it adds up the gradients.

    Attributes
    ----------
    here
        Whether the numbers here are the truth.
    part
        Which of all numbers this process has and updates.
    """

    here = False

    def __init__(self, plan: Plan, sums: Sums, divides: bool):
        self.plan, self.sums, self.divides = plan, sums, divides
        self.dtype = plan.step.chain.dtype
        self.space = Space(sums, plan.gradient_size, self.dtype)
        self.part = self.space.mine if divides else slice(self.space.size)
        plan.slots = self

    def take(self) -> None:
        """Copy the slots here, unless this is where they are."""
        if self.here:
            return
        from npnet.kernels.products.layouts import aligned_zeros

        fused = self.plan.fused
        self.arrays = list(zip(*map(slots_of, fused), strict=True))  # by slot, then by layer
        self.own = []
        for arrays in self.arrays:
            whole = aligned_zeros(self.space.size, self.dtype)
            for stage, pair in zip(fused, arrays, strict=True):
                lay_out(pair, *self.plan.part_of(stage.layer, whole))
            self.own.append(whole[self.part].copy() if self.divides else whole)
        self.here = True

    def update(self, gradients: list[np.ndarray], total: np.ndarray) -> None:
        """Update the weights and their slots by gradients, the sums of this process's subtrees.

        ``total`` may be overwritten.
        """
        from npnet.kernels.parallel.optimizers import update_part

        plan, sums = self.plan, self.sums
        self.take()  # a layer or a loss of one's own may have read them in this step
        plan.take_weights()
        if self.divides:
            total = sums.piece(gradients, self.space)
        else:
            sums.over_processes(gradients, self.space, total)
        rule, (decay, numbers) = plan.step.optimizer.rule, plan.hyperparameters(1)
        update_part(rule, plan.weights[self.part], total, self.own, decay[0], numbers[0])
        if self.divides:
            sums.complete(plan.weights, self.space)

    def give_back(self) -> None:
        """Copy the slots to where others read them, if this process has them all.

        Raises
        ------
        RuntimeError
            If it has not.
        """
        if self.here and self.divides:
            raise RuntimeError(
                "The optimizer's memory cannot be read: until the end of the epoch the processes of this"
                " training divide it among them. Read or save it in a callback's on_epoch_end or"
                " on_train_batch_end, or after fit. If an error has ended fit, load the last checkpoint, or"
                " call fit once more."
            )
        self.collect()

    def collect(self) -> None:
        """Copy the slots to where others read them; all processes do it at the same time."""
        if not self.here:
            return
        from npnet.kernels.products.layouts import aligned_zeros

        for own, arrays in zip(self.own, self.arrays, strict=True):
            whole = own
            if self.divides:
                whole = aligned_zeros(self.space.size, self.dtype)
                whole[self.part] = own
                self.sums.complete(whole, self.space)
            for stage, pair in zip(self.plan.fused, arrays, strict=True):
                copy_back(pair, *self.plan.part_of(stage.layer, whole))
        self.here = False


class FusedDistributedStep(DistributedStep):
    """Steps that the processes of a group take together, fused where a plan knows how.

    Attributes
    ----------
    divides
        Whether they divide the optimizer's memory among them until ``collect``.
    """

    divides = False

    def __init__(self, step: Step, group: Processes, shards: int):
        super().__init__(step, group, shards)
        self.fused = FusedStep(self.step, Meeting(self._begin_update))
        self.slots: Slots | None = None
        self.space: Space | None = None

    def take(self, x: np.ndarray, batch: Batch) -> Result:
        """Take one step, fused if it can be."""
        fits = all(map(can_normalize, filter(normalizes_batches, self.step.chain.links)))
        plan = self.fused.current() if fits else None
        slots = self.slots
        if slots is not None and (slots.plan, slots.divides) != (plan, self.divides):
            self.collect()
            self.slots = None
        if plan is None:
            return super().take(x, batch)
        if plan.slots_apart:
            self.slots = self.slots or Slots(plan, self.sums, self.divides)
        with taking_steps():
            return self._take_fused(plan, x, batch)

    def collect(self) -> None:
        """Bring together the optimizer's memory, of which each process may have a part."""
        if self.slots is not None:
            with self.step.chain.lock:
                self.slots.collect()

    def _take_fused(self, plan: Plan, x: np.ndarray, batch: Batch) -> Result:
        self.n, samples = len(batch.y_true), x
        shards = self._own_batches(batch)
        self.numbers = [number for number, _ in shards]
        if not shards:  # of a short batch this process has nothing; its plan computes something all the same
            samples = np.zeros((1, *x.shape[1:]), x.dtype)
            shards = [(self.sums.mine.start, Batch(np.zeros(1, int), batch.y_true[:1], np.zeros(1)))]
        memories = [self._memory(plan, number, len(own.rows)) for number, own in shards]
        runs = [
            plan.run(memory, samples, [own], *plan.start.on_levels(samples, [own]))
            for memory, (_, own) in zip(memories, shards, strict=True)
        ]
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

    def _begin_update(self, memories: list[Memory], add_up: AddUp) -> None:
        """Put the sums over all shards where the run that goes on will look for them, or update by them."""
        sums, total = self.sums, memories[-1].gradients
        whole = {number: memory.gradients for number, memory in zip(self.numbers, memories, strict=False)}
        own = sums.over_own(whole, total.size, total.dtype, overwrites=True)
        if self.slots is not None:
            self.slots.update(own, total)
        else:
            if self.space is None or self.space.size != total.size:
                self.space = Space(sums, total.size, total.dtype)
            sums.over_processes(own, self.space, total)
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
