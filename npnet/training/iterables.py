"""Batches from Python iterables: generators, a PyDataset, PyTorch's DataLoader, tf.data.

One batch at a time is read, checked as arrays are, and forgotten after its step: memory does not grow with
the data. A message about a batch says which one it is.
"""

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import numpy as np

from npnet.internal import checks
from npnet.layers.chain import Chain
from npnet.training.batches import epoch_order
from npnet.training.feeds import Feed, Group
from npnet.training.samples import Samples
from npnet.training.setup import Setup, check_features
from npnet.utils.py_dataset import PyDataset, in_order

__all__ = [
    "IterableFeed",
    "PyDatasetFeed",
    "Stream",
    "gives_batches",
    "refuse_to_use_up",
    "to_evaluate",
    "to_predict",
    "to_train",
]

Check = Callable[[Any, str], Samples]  # what an iterable gave, and the prefix of names in messages


def gives_batches(x: Any) -> bool:
    """Tell whether ``x`` is gone through batch by batch, and is no array or list of samples.

    Raises
    ------
    TypeError
        If it is a generator's function or a class that nobody called.
    """
    if checks.is_sparse(x):
        return False
    if isinstance(x, PyDataset):
        return True
    if isinstance(x, type) or (callable(x) and not hasattr(x, "__iter__") and not hasattr(x, "__array__")):
        name = getattr(x, "__name__", type(x).__name__)
        raise TypeError(f"x is {name} itself: call it, x={name}(...), to get what gives the batches.")
    if isinstance(x, (Collection, memoryview)) and not hasattr(x, "__next__"):
        # Lists, tuples, arrays of any library; a data loader has no __contains__.
        return False
    return hasattr(x, "__iter__") and not hasattr(x, "__array__")


class Stream(Feed):
    """A feed of batches that are read one after the other.

    Parameters
    ----------
    name
        "x" or "validation x", for messages.
    steps
        Batches of an epoch; None for all there are.
    check
        Makes checked samples of what was read.
    """

    def __init__(self, name: str, steps: int | None, check: Check):
        self.rows = None
        self.name, self.steps, self.wanted, self.check = name, steps, steps, check
        self.ahead: list[Samples] = []
        self.source: Iterator[Any] = iter(())
        self.number = 0

    @abstractmethod
    def begin(self, epoch: int, done: int) -> Iterator[Any]:
        """Return what is left of an epoch's batches, as they come."""

    def open(self, epoch: int, done: int = 0) -> bool:
        """Read the first batch of an epoch; return False, with a warning, where nothing is left."""
        if done and done == self.wanted:  # it was stopped after its last batch: only its end is left
            self.source, self.number = self.begin(epoch, 0), 0
            self.some = next(self._read(1))
            self.batch_size = len(self.some)
            self.close()
            self.source, self.number = iter(()), done
        elif not self.ahead:
            self.number = done
            self.source = self.begin(epoch, done)
            self.ahead = list(self._read(1))
            if not self.ahead:
                if not hasattr(self, "some"):
                    raise ValueError(f"{self.name} gives no batch at all.")
                checks.warn(f"{self.name} has ended: nothing is left for epoch {epoch + 1}. {ENDED}")
                return False
            self.some = self.ahead[0]
            self.batch_size = len(self.some)
        return True

    def groups(self, at_once: int = 1) -> Iterator[Group]:
        """Go through the batches of the epoch that was opened, one at a time."""
        first, self.ahead = self.ahead, []
        left = None if self.wanted is None else self.wanted - self.number
        for samples in chain(first, self._read(left)):
            yield samples.x, [samples.batch(np.arange(len(samples)))]
        if self.wanted is None:
            self.steps = self.number
        elif self.number < self.wanted:
            checks.warn(f"{self.name} ended after {self.number} of {self.wanted} batches. {ENDED}")
        self.ended()

    def _read(self, most: int | None) -> Iterator[Samples]:
        """Read and check so many batches, or all."""
        source = islice(self.source, most)
        while True:
            try:
                batch = next(source)
            except StopIteration:
                return
            except Exception as error:
                error.add_note(f"npnet was reading batch {self.number} of {self.name}, counted from 0.")
                raise
            with _named(self.number, self.name):
                samples = self.check(batch, self.name.removesuffix("x"))
            self.number += 1
            yield samples

    def ended(self) -> None:
        """Take note that an epoch has been gone through."""

    def close(self) -> None:
        """End what is read."""
        self.ahead = []
        close = getattr(self.source, "close", None)
        if close is not None:
            close()


INFINITE = -1  # what a tf.data.Dataset says of itself
ENDED = "A generator can be gone through once: let it go on for ever (while True: ...), or ask for less."


class IterableFeed(Stream):
    """The batches of an iterable.

    Parameters
    ----------
    goes_on
        Whether an epoch of ``steps`` batches goes on where the last one ended. An iterable that has ended is
        begun anew, an iterator cannot be.
    """

    def __init__(self, name: str, iterable: Any, steps: int | None, check: Check, goes_on: bool = False):
        super().__init__(name, steps, check)
        self.iterable, self.goes_on = iterable, goes_on and steps is not None
        self.going: Iterator[Any] | None = None
        if steps is None:
            if hasattr(iterable, "cardinality") and int(iterable.cardinality()) == INFINITE:
                raise ValueError(
                    f"{name} gives batches for ever: say how many to take, with steps_per_epoch,"
                    " validation_steps or steps."
                )
            try:
                self.steps = len(iterable)  # for the progress line; what comes is what counts
            except TypeError:
                self.steps = None

    def open(self, epoch: int, done: int = 0) -> bool:
        """Refuse to go on within an epoch; else do what all feeds do."""
        if done:
            raise ValueError(
                f"Training is to go on in the middle of an epoch, after {done} batches, but nobody knows"
                f" which batches a {type(self.iterable).__name__} gave then. Begin with a whole epoch, as"
                " initial_epoch=model.position.epoch does, or train from arrays or a PyDataset."
            )
        return super().open(epoch)

    def begin(self, epoch: int, done: int) -> Iterator[Any]:
        """Return the batches of a pass, or of all passes."""
        if self.going is None or not self.goes_on:
            self.going = self._passes()
        return self.going

    def _passes(self) -> Iterator[Any]:
        while True:
            empty = True
            for batch in self.iterable:
                empty = False
                yield batch
            if empty or self.wanted is None or hasattr(self.iterable, "__next__"):
                return


class PyDatasetFeed(Stream):
    """The batches of a PyDataset, in an order of each pass.

    Parameters
    ----------
    order
        The order of the batches of a pass, from its number; None for 0, 1, 2 ... in each epoch anew.
    """

    def __init__(
        self,
        name: str,
        dataset: PyDataset,
        steps: int | None,
        check: Check,
        order: Callable[[int], np.ndarray] | None = None,
    ):
        batches = checks.integer(f"len() of the PyDataset {name}", len(dataset))
        self.in_epoch = batches if steps is None else steps
        super().__init__(name, self.in_epoch, check)
        self.dataset, self.batches, self.order = dataset, batches, order
        self.opened: tuple[int, int] | None = None

    def open(self, epoch: int, done: int = 0) -> bool:
        """Do what all feeds do, from the first batch of that place on: a callback may have moved it."""
        if self.opened != (epoch, done):
            self.close()
        self.opened = epoch, done
        return super().open(epoch, done)

    def begin(self, epoch: int, done: int) -> Iterator[Any]:
        """Return the batches of an epoch, which may lie in several passes."""
        self.dataset.on_epoch_begin()
        return in_order(self.dataset, self._numbers(epoch, done))

    def _numbers(self, epoch: int, done: int) -> Iterator[int]:
        first = 0 if self.order is None else epoch * self.in_epoch
        present, order = -1, np.arange(self.batches)
        for place in range(first + done, first + self.in_epoch):
            if self.order is not None and place // self.batches != present:
                present = place // self.batches
                order = self.order(present)
            yield int(order[place % self.batches])

    def ended(self) -> None:
        """Tell the data set that an epoch has ended."""
        self.dataset.on_epoch_end()


def to_train(
    setup: Setup,
    x: Any,
    steps: int | None,
    class_weight: dict[int, float] | None,
    shuffle: bool,
) -> Stream:
    """Return a feed of batches with targets to train on.

    A PyDataset gives its batches in a new order in each pass where ``shuffle`` says so; other iterables have
    an order of their own.
    """
    check = _with_targets(setup, "x", class_weight)
    if isinstance(x, PyDataset):
        seed, batches = setup.chain.seed, len(x)
        return PyDatasetFeed("x", x, steps, check, lambda number: epoch_order(batches, shuffle, seed, number))
    return IterableFeed("x", x, steps, check, goes_on=True)


def to_evaluate(setup: Setup, x: Any, steps: int | None, name: str = "x") -> Stream:
    """Return a feed of batches with targets; each evaluation begins anew where that can be done."""
    feed = PyDatasetFeed if isinstance(x, PyDataset) else IterableFeed
    return feed(name, x, steps, _with_targets(setup, name))


def to_predict(chain: Chain, x: Any, steps: int | None) -> Stream:
    """Return a feed of batches without targets; where it gives (x, y), only x is used."""

    def check(batch: Any, prefix: str) -> Samples:
        parts = batch if isinstance(batch, (tuple, list)) else (batch,)
        if len(parts) not in (1, 2, 3):
            raise ValueError(f"x must give x, or (x, y), got {_told(batch)}.")
        features = check_features(chain, parts[0], f"{prefix}x")
        return Samples(features, np.empty((len(features), 0)))

    if isinstance(x, PyDataset):
        return PyDatasetFeed("x", x, steps, check)
    return IterableFeed("x", x, steps, check)


def _with_targets(setup: Setup, name: str, class_weight: dict[int, float] | None = None) -> Check:
    def check(batch: Any, prefix: str) -> Samples:
        parts = batch if isinstance(batch, (tuple, list)) else (batch,)
        if len(parts) not in (2, 3):
            raise ValueError(f"{name} must give (x, y) or (x, y, sample_weight), got {_told(batch)}.")
        x, y, weight = (*parts, None)[:3]
        return setup.samples(x, y, weight, class_weight, prefix)

    return check


def refuse_to_use_up(name: str, iterable: Any, steps_name: str, steps: int | None, times: int) -> None:
    """Refuse a generator that would have ended after the first of several epochs."""
    if hasattr(iterable, "__next__") and steps is None and times > 1:
        raise ValueError(
            f"{name} is a {type(iterable).__name__}, which can be gone through once, for {times} epochs."
            f" Let it go on for ever (while True: ...) and give {steps_name}, or give an object that can be"
            " gone through again: a PyDataset, a data loader."
        )


@contextmanager
def _named(number: int, name: str) -> Iterator[None]:
    """Say in an error about a batch which one it is."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise type(error)(f"Batch {number} of {name}, counted from 0: {error}") from error


def _told(batch: Any) -> str:
    if isinstance(batch, (tuple, list)):
        return f"a {type(batch).__name__} of {len(batch)}"
    shape = f" of shape {tuple(batch.shape)}" if hasattr(batch, "shape") else ""
    return f"a {type(batch).__name__}{shape}"
