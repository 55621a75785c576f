"""Batches of which each process has a part: its own samples, ``DataParallel(auto_shard_dataset=False)``."""

from collections.abc import Iterator

import numpy as np

from npnet.internal.processes import Processes
from npnet.training.batches import Batch
from npnet.training.feeds import Feed, Group
from npnet.training.shards import bounds, share

__all__ = ["PartsFeed"]

NOTHING = -1  # what a process whose part has ended says it has


class PartsFeed(Feed):
    """Joins the processes' batches to batches of all: targets and weights of all, rows of one's own samples.

    An epoch lasts until the longest part has been gone through; who has nothing left takes part with empty
    batches.

    Parameters
    ----------
    part
        The batches of this process's part.
    group
        The processes.
    shards
        How many shards a batch is cut into: as many of each part as the process computes.
    """

    def __init__(self, part: Feed, group: Processes, shards: int):
        self.part, self.group = part, group
        self.counts = [len(share(shards, rank, group.size)) for rank in range(group.size)]
        rows, steps = group.gather_values(part.rows), group.gather_values(part.steps)
        self.rows = None if None in rows else sum(rows)
        self.steps = None if None in steps else max(steps)

    def open(self, epoch: int, done: int = 0) -> bool:
        """Begin an epoch in all processes; tell whether any has batches left."""
        self.goes_on = self.part.open(epoch, done)
        self.some, self.batch_size = self.part.some, self.part.batch_size * self.group.size
        return bool(self.group.largest(self.goes_on))

    def groups(self, at_once: int = 1) -> Iterator[Group]:
        """Go through the epoch's batches, one at a time."""
        own = self.part.groups() if self.goes_on else iter(())
        some = self.some
        nothing = Batch(np.arange(0), some.y[:0], None if some.weight is None else some.weight[:0])
        while True:
            x, batches = next(own, (some.x, None))
            sizes = self.group.gather(np.array(NOTHING if batches is None else len(batches[0].rows)))
            if (sizes == NOTHING).all():
                self.steps = self.part.steps if self.steps is None else self.steps
                return
            yield x, [self._joined(nothing if batches is None else batches[0], np.maximum(sizes, 0))]

    def _joined(self, own: Batch, sizes: np.ndarray) -> Batch:
        """Return the batch of all processes, each of which has so many samples of it."""
        y_true, weight = self.group.gather_parts(own.y_true, sizes.tolist()), own.sample_weight
        if weight is not None:
            weight = self.group.gather_parts(weight, sizes.tolist())
        cuts = [0]
        for size, count in zip(sizes.tolist(), self.counts, strict=True):
            cuts += [cuts[-1] + end for end in bounds(size, count)[1:]]
        return Batch(own.rows, y_true, weight, cuts)

    def close(self) -> None:
        """End what is read."""
        self.part.close()
