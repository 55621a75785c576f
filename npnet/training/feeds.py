"""What a loop over batches is fed with: arrays, whose rows are all at hand, or an iterable's batches."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np

from npnet.training.batches import Batch, cut
from npnet.training.samples import Samples

__all__ = ["ArrayFeed", "Feed", "Group"]

Group = tuple[np.ndarray, list[Batch]]  # samples, and batches that are rows of them


class Feed(ABC):
    """Where a loop's batches come from, epoch by epoch.

    Attributes
    ----------
    some
        Checked samples that show what all look like: shapes and dtypes. ``open`` sets it.
    rows
        The number of samples of an epoch; None where it is not known.
    steps
        The number of batches of an epoch; None until it is known.
    batch_size
        How many samples a batch has, the last one of an epoch perhaps fewer.
    """

    batch_size: int

    some: Samples
    rows: int | None
    steps: int | None

    @abstractmethod
    def open(self, epoch: int, done: int = 0) -> bool:
        """Begin an epoch after ``done`` of its batches; tell whether there are any batches left for it."""

    @abstractmethod
    def groups(self, at_once: int = 1) -> Iterator[Group]:
        """Go through the epoch's batches, up to ``at_once`` of them together."""

    @abstractmethod
    def close(self) -> None:
        """Give back what reading needs: threads, files."""

    def samples_after(self, steps: int) -> int | None:
        """Return how many samples so many batches of an epoch have; None where that is not known."""
        return None


class ArrayFeed(Feed):
    """The rows of checked arrays in batches, in the order that ``order(epoch)`` gives.

    With ``drop_remainder`` an epoch has whole batches only.
    """

    rows: int

    def __init__(
        self,
        samples: Samples,
        batch_size: int,
        order: Callable[[int], np.ndarray] | None = None,
        drop_remainder: bool = False,
    ):
        self.some, self.batch_size, self.order = samples, batch_size, order
        self.rows = len(samples) - (len(samples) % batch_size if drop_remainder else 0)
        self.steps = -(-self.rows // batch_size)

    def open(self, epoch: int, done: int = 0) -> bool:
        """Draw the epoch's order."""
        order = np.arange(len(self.some)) if self.order is None else self.order(epoch)
        self.batches = cut(order[: self.rows], self.batch_size)[done:]
        return True

    def groups(self, at_once: int = 1) -> Iterator[Group]:
        """Go through the epoch's batches, up to ``at_once`` of them together."""
        for start in range(0, len(self.batches), at_once):
            batches = self.batches[start : start + at_once]
            yield self.some.x, [self.some.batch(rows) for rows in batches]

    def samples_after(self, steps: int) -> int:
        """Return how many samples so many batches have: the last of an epoch may be shorter."""
        return min(steps * self.batch_size, self.rows)

    def close(self) -> None:
        """Do nothing: the arrays are the user's."""
