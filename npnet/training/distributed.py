"""The training step of several processes: each computes its shards of the batch, all make the same update.

The step is that of ``step.py``, link by link, for all shards of a process before the next link: batch
normalisation needs the whole batch at its place in the chain. What a link remembers for the way back belongs
to a shard, so each shard has links of its own, which share their parameters.

Gradients, loss and the statistics of batches are sums over shards (``shards.py``), so that weights, history
and predictions have the same bits on every number of processes.
"""

import copy
import math
from itertools import accumulate, pairwise
from typing import Any, TypeGuard, TypeVar
from zlib import crc32

import numpy as np

from npnet.internal.processes import OutOfStepError, Processes
from npnet.internal.streams import SHARDS, stream
from npnet.internal.strict import is_own
from npnet.layers import BatchNormalization
from npnet.layers.layer import Layer
from npnet.layers.parameter import Parameter
from npnet.losses import Loss
from npnet.training.batches import Batch, gather
from npnet.training.owners import DividedKernels
from npnet.training.shards import Space, Sums, add_up, bounds, gradient_of
from npnet.training.step import Result, Step, joined

__all__ = ["DistributedStep", "Gradients", "Shard", "normalizes_batches", "twins"]

T = TypeVar("T")


class Shard:
    """One shard of a batch on its way through the chain.

    Attributes
    ----------
    number
        Which of the batch's shards it is.
    links
        The chain's links with memories of this shard.
    loss
        The loss as the sum over the shard's samples.
    flow
        What goes through the links: samples, activations, then gradients.
    """

    def __init__(self, number: int, step: Step, x: np.ndarray, batch: Batch):
        self.number = number
        self.batch = batch
        self.links, self.loss = twins(step, number)
        self.flow = gather(x, batch.rows, step.chain.dtype)

    def end_forward(self) -> None:
        """Keep the predictions and the sum of the losses."""
        self.y_pred = self.flow
        self.total = self.loss.forward(self.batch.y_true, self.y_pred, self.batch.sample_weight)

    def begin_backward(self, through_activation: bool, count: float) -> None:
        """Go on with the gradient of what remains of the chain: of the sum of losses over ``count``."""
        loss = self.loss
        dy = loss.backward_through_activation() if through_activation else loss.backward()
        self.flow = np.asarray(dy / count, self.y_pred.dtype)


def twins(step: Step, shard: int) -> tuple[list[Layer], Loss]:
    """Return links for a shard of this step, with random numbers of its own, and a loss that is a sum."""
    chain = step.chain
    shared = [chain, step.optimizer, step.kernels, *chain.parameters]
    links = [
        twin(link, shared, **own_streams(link, step, shard, place)) for place, link in enumerate(chain.links)
    ]
    return links, twin(step.loss, shared, reduction="sum")


def twin(thing: T, shared: list[Any], **others: Any) -> T:
    """Return another object with the same attributes but for these others.

    npnet's own layers and losses remember samples in attributes that they assign. Those of somebody else may
    write into arrays, dicts or layers that they hold, so they get copies of all but what is ``shared``.
    """
    other = object.__new__(type(thing))
    attributes = vars(thing) | others
    if not is_own(type(thing)):
        memo = {id(thing): other} | {id(one): one for one in shared}
        attributes = {name: _copy(value, memo) for name, value in attributes.items()}
    vars(other).update(attributes)
    return other


def _copy(value: T, memo: dict[int, Any]) -> T:
    """Return a copy; what cannot be copied, a module, a lock or an open file, holds no samples."""
    try:
        return copy.deepcopy(value, memo)
    except TypeError:
        return value


def own_streams(link: Any, step: Step, shard: int, place: int) -> dict[str, np.random.Generator]:
    """Return a link's generators of random numbers by attribute, for a shard of this step.

    Whoever computes the shard draws the same.
    """
    own = getattr(link, "seed", None)
    seed = step.chain.seed if own is None else own
    index = step.optimizer.iterations, shard, place
    names = [name for name, value in vars(link).items() if isinstance(value, np.random.Generator)]
    return {name: stream(seed, SHARDS, *index, *([i] if i else [])) for i, name in enumerate(names)}


class DistributedStep:
    """Steps that the processes of a group take together.

    Parameters
    ----------
    step
        Chain, loss, optimizer and kernels.
    group
        The processes.
    shards
        How many shards a batch is cut into.
    """

    def __init__(self, step: Step, group: Processes, shards: int):
        kernels: Any = DividedKernels(step.kernels, group)
        self.step, self.group = Step(step.chain, step.loss, step.optimizer, kernels), group
        self.sums = Sums(group, shards)
        self.gradients: Gradients | None = None

    def __call__(self, x: np.ndarray, batches: list[Batch]) -> list[Result]:
        """Take one step after the other; between two of them other threads may read the weights."""
        results = []
        for batch in batches:
            with self.step.chain.lock:
                results.append(self.take(x, batch))
        return results

    def at_once(self, batch_size: int) -> int:
        """Return 1: the processes meet in every step."""
        return 1

    def take(self, x: np.ndarray, batch: Batch) -> Result:
        """Take one step: forward, loss, backward, sum over shards, update."""
        chain, optimizer = self.step.chain, self.step.optimizer
        self.n = len(batch.y_true)
        shards = self._shards(x, batch)
        for place in range(len(chain.links)):
            self._forward(place, shards)
        for shard in shards:
            shard.end_forward()
        through_activation = joined(chain, self.step.loss)
        count = self._count()
        for shard in shards:
            shard.begin_backward(through_activation, count)
        self._backward(shards, len(chain.links) - through_activation)
        results = {shard.number: (shard.total, shard.y_pred) for shard in shards}
        total, y_pred = self._results(results, x, batch)
        loss = total / count + chain.regularize()
        optimizer.step(chain.trainable_parameters, self.step.kernels)
        return loss, y_pred

    def outputs(self, x: np.ndarray, batch: Batch) -> np.ndarray:
        """Return the predictions for a batch, of which each process computes its shards."""
        chain, own = self.step.chain, self._own_parts(batch)
        y_pred = [chain.outputs(gather(x, rows, chain.dtype)).copy() for _, rows, _ in own]
        return self.group.gather_parts(self._as_rows(y_pred), self._rows_of_each(batch))

    def collect(self) -> None:
        """Do nothing: every process has all of the optimizer's memory."""

    # --- a step's parts -------------------------------------------------------------------------------------

    def _shards(self, x: np.ndarray, batch: Batch) -> list[Shard]:
        """Return the shards of the batch that this process computes; empty ones are left out."""
        return [Shard(number, self.step, x, own) for number, own in self._own_batches(batch)]

    def _own_batches(self, batch: Batch) -> list[tuple[int, Batch]]:
        """Return number, rows and targets of this process's shards that are not empty."""
        y_true = batch.y_true
        # Of the whole batch: labels that are ignored make the mean one over fewer samples.
        weight = self.step.loss.sample_weight(y_true, batch.sample_weight)
        return [
            (number, Batch(rows, y_true[part], None if weight is None else weight[part]))
            for number, rows, part in self._own_parts(batch)
        ]

    def _cuts(self, batch: Batch) -> list[int]:
        """Return where the shards of a batch begin, and where the last one ends."""
        return batch.cuts or bounds(len(batch.y_true), self.sums.shards)

    def _own_parts(self, batch: Batch) -> list[tuple[int, np.ndarray, slice]]:
        """Return number, rows of x, and place in the batch of this process's shards that are not empty."""
        cuts, mine = self._cuts(batch), self.sums.mine
        before = 0 if batch.cuts is None else cuts[mine.start]  # samples that are not in this process's x
        parts = [(number, slice(cuts[number], cuts[number + 1])) for number in mine]
        return [
            (number, batch.rows[part.start - before : part.stop - before], part)
            for number, part in parts
            if part.start < part.stop
        ]

    def _count(self) -> float:
        """Return what the sum of all losses is divided by."""
        if self.step.loss.reduction == "sum":
            return 1.0
        return self.n * math.prod(self.step.chain.output_shape[:-1])

    def _forward(self, place: int, shards: list[Shard]) -> None:
        """Go through one link."""
        link = self.step.chain.links[place]
        if normalizes_batches(link):
            self._normalize(link, place, shards)
            return
        for shard in shards:
            shard.flow = shard.links[place].forward(shard.flow, training=True)

    def _backward(self, shards: list[Shard], behind: int) -> None:
        """Go back from before the link at ``behind`` to the first that learns; set the gradients."""
        chain = self.step.chain
        summed = [p for link in chain.links if normalizes_batches(link) for p in link.parameters]
        sizes = {p: p.size for p in chain.trainable_parameters if p not in summed}
        gradients = self._gradients_of(sizes)
        first = next(i for i, link in enumerate(chain.links) if link.trainable_parameters)
        for place in range(behind - 1, first - 1, -1):
            link = chain.links[place]
            if normalizes_batches(link):
                self._normalize_backward(link, place, shards)
                continue
            parts: dict[Parameter, dict[int, np.ndarray]] = {p: {} for p in link.parameters if p in sizes}
            for shard in shards:
                own = shard.links[place]
                if place > first:
                    shard.flow = own.backward(shard.flow)
                else:
                    own.backward_parameters(shard.flow)  # nobody asks for the gradient of the data
                for parameter in parts:
                    parts[parameter][shard.number] = gradient_of(parameter, link)
            for parameter, by_shard in parts.items():
                gradients.add(parameter, by_shard)
        for parameter, total in gradients.sum().items():
            parameter.grad = total.reshape(parameter.shape)

    def _gradients_of(self, sizes: dict[Any, int]) -> "Gradients":
        """Return where gradients of these sizes are summed, the same memory in each step."""
        if self.gradients is None or self.gradients.sizes != sizes:
            self.gradients = Gradients(self.sums, sizes, self.step.chain.dtype)
        return self.gradients

    def _results(self, by_shard: dict[int, Result], x: np.ndarray, batch: Batch) -> Result:
        """Return the sum of the losses of all shards and the predictions, given those of this process.

        Raises
        ------
        OutOfStepError
            If a process has computed another batch.
        """
        totals, y_pred = np.zeros(len(self.sums.mine)), [y_pred for _, y_pred in by_shard.values()]
        for number, (total, _) in by_shard.items():
            totals[number - self.sums.mine.start] = total
        numbers = np.array([checksum(x, batch), *totals])
        own = np.concatenate([numbers.view(np.uint8), self._as_rows(y_pred).reshape(-1).view(np.uint8)])
        row = math.prod(self.step.chain.output_shape) * self.step.chain.dtype.itemsize
        before = [numbers.itemsize * (1 + count) for count in self.sums.counts]  # the predictions
        sizes = [start + row * rows for start, rows in zip(before, self._rows_of_each(batch), strict=True)]
        everywhere = np.split(self.group.gather_parts(own, sizes), np.cumsum(sizes)[:-1])
        losses, rows = [], []
        for rank, (start, message) in enumerate(zip(before, everywhere, strict=True)):
            its_checksum, *its_losses = message[:start].copy().view(numbers.dtype)
            if its_checksum != numbers[0]:
                other = f"rank {rank} on {self.group.hosts[rank]}"
                raise OutOfStepError(f"{other} has another batch than {self.group.name}")
            losses.append(its_losses)
            rows.append(message[start:].copy().view(self.step.chain.dtype))
        leaves = {(i, i + 1): loss for i, loss in enumerate(np.concatenate(losses))}
        whole = np.concatenate(rows).reshape(-1, *self.step.chain.output_shape)
        return float(add_up(0, self.sums.shards, leaves)), whole

    def _as_rows(self, y_pred: list[np.ndarray]) -> np.ndarray:
        """Return the outputs of this process's shards together; there may be none."""
        chain = self.step.chain
        return np.concatenate([np.empty((0, *chain.output_shape), chain.dtype), *y_pred], dtype=chain.dtype)

    def _rows_of_each(self, batch: Batch) -> list[int]:
        """Return how many samples of the batch each process computes."""
        cuts, ends = self._cuts(batch), accumulate(self.sums.counts, initial=0)
        return [cuts[high] - cuts[low] for low, high in pairwise(ends)]

    # --- batch normalisation --------------------------------------------------------------------------------

    def _normalize(self, link: BatchNormalization, place: int, shards: list[Shard]) -> None:
        """Normalise with the statistics of the whole batch; the moving averages follow them."""
        columns = {shard.number: shard.flow.reshape(-1, shard.flow.shape[-1]) for shard in shards}
        count = self._positions(link)
        mean = self._sum(link, {k: x.sum(axis=0) for k, x in columns.items()})[0] / count
        squares = {k: np.square(x - mean).sum(axis=0) for k, x in columns.items()}
        variance = self._sum(link, squares)[0] / count
        link.follow(mean, variance)
        for shard in shards:
            own, shape = shard.links[place], shard.flow.shape
            shard.flow = own.normalize(columns[shard.number], mean, variance).reshape(shape)  # type: ignore[attr-defined]

    def _normalize_backward(self, link: BatchNormalization, place: int, shards: list[Shard]) -> None:
        """Set dgamma and dbeta; go back through the statistics of the whole batch."""
        columns = {shard.number: shard.flow.reshape(-1, shard.flow.shape[-1]) for shard in shards}
        own: dict[int, Any] = {shard.number: shard.links[place] for shard in shards}
        normalized = {number: its.normalized for number, its in own.items()}
        kernels = self.step.kernels
        sums = {k: kernels.batch_norm_backward_parameters(dy, normalized[k]) for k, dy in columns.items()}
        dgamma, dbeta = self._sum(link, {k: np.stack(pair) for k, pair in sums.items()}, 2)
        for parameter, gradient in ((link.gamma, dgamma), (link.beta, dbeta)):
            if parameter is not None:
                parameter.grad = gradient
        count = self._positions(link)
        gamma = np.ones_like(dgamma) if link.gamma is None else link.gamma.value
        for shard in shards:
            k, variance = shard.number, own[shard.number].variance
            means = dbeta / count, dgamma / count
            dx = kernels.batch_norm_backward_input(
                columns[k], normalized[k], gamma, variance, link.epsilon, means
            )
            shard.flow = dx.reshape(shard.flow.shape)

    def _positions(self, link: BatchNormalization) -> int:
        """Return how many numbers a statistic of the whole batch is made of."""
        return self.n * math.prod(link.input_shape[:-1])  # type: ignore[index]

    def _sum(self, link: BatchNormalization, parts: dict[int, np.ndarray], rows: int = 1) -> np.ndarray:
        """Return sums over all shards of numbers for each feature."""
        return self.sums.of(parts, (rows, link.moving_mean.size), self.step.chain.dtype)


def checksum(x: np.ndarray, batch: Batch) -> float:
    """Return a number by which batches differ: of their targets and weights, and of one sample."""
    parts = [batch.y_true, batch.sample_weight]
    if batch.cuts is None:  # else each process has samples of its own
        parts.append(x[batch.rows[:1]])
    found = 0
    for part in parts:
        found = found if part is None else crc32(np.ascontiguousarray(part).tobytes(), found)
    return float(found)


def normalizes_batches(link: Layer) -> TypeGuard[BatchNormalization]:
    """Whether a link takes the statistics of a batch, as it does while it trains."""
    return isinstance(link, BatchNormalization) and link.trainable


class Gradients:
    """The gradients of a step, side by side in one array, so that they are summed together.

    Parameters
    ----------
    sums
        Who adds up.
    sizes
        How many numbers there are of each parameter, or of whatever else has a gradient.
    """

    def __init__(self, sums: Sums, sizes: dict[Any, int], dtype: np.dtype):
        self.sums, self.sizes = sums, sizes
        self.starts = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
        self.total = np.empty(sum(sizes.values()), dtype)
        self.space = Space(sums, self.total.size, dtype)
        self.own = [np.empty_like(self.total) for _ in sums.own]

    def add(self, key: Any, by_shard: dict[int, np.ndarray]) -> None:
        """Take in the gradients of one parameter by shard."""
        start, n = self.starts[key], self.sizes[key]
        for row, own in zip(self.own, self.sums.over_own(by_shard, n, self.total.dtype), strict=True):
            row[start : start + n] = own

    def sum(self) -> dict[Any, np.ndarray]:
        """Return the sums over all shards, each as one row of numbers, valid until the next step."""
        self.sums.over_processes(self.own, self.space, self.total)
        return {key: self.total[start : start + self.sizes[key]] for key, start in self.starts.items()}
