"""A data set of one's own that gives its batches by number, in several threads at once if asked to."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from npnet.internal import checks, config

__all__ = ["PyDataset", "Sequence", "in_order"]


class PyDataset:
    """Base of data sets whose batches are made when they are needed: read from files, drawn, augmented.

    A subclass has ``__len__``, the number of batches, and ``__getitem__``, which returns batch number
    0, 1, ... as (x, y) or (x, y, sample_weight). ``fit(dataset)`` goes through all batches in an epoch, in a
    new order each time unless ``shuffle=False``.

    Parameters
    ----------
    workers
        Threads that call ``__getitem__``. With more than 1 some batches are made at once and ahead of time;
        they are used in the same order as with one. Threads help where a batch waits for a disk or a network,
        or is made by NumPy or Pillow, which let other threads run.
    max_queue_size
        Batches made ahead of time, at most.

    Notes
    -----
    An error that ``__getitem__`` raises ends the training; a note in its traceback names the batch. It must
    depend on nothing but the number where a training is to be resumed to the same bits.

    Examples
    --------
    >>> class Files(npnet.utils.PyDataset):
    ...     def __init__(self, files, **options):
    ...         super().__init__(**options)
    ...         self.files = files
    ...
    ...     def __len__(self):
    ...         return len(self.files)
    ...
    ...     def __getitem__(self, number):
    ...         with np.load(self.files[number]) as file:
    ...             return file["x"], file["y"]
    >>> model.fit(Files(sorted(Path("parts").glob("*.npz")), workers=4), epochs=10)
    """

    # Of the class, for subclasses that do not call super().__init__().
    workers = 1
    max_queue_size = 10

    @config.keras_arguments(use_multiprocessing=False)
    def __init__(self, workers: int = 1, max_queue_size: int = 10):
        self.workers = checks.integer("workers", workers, least=0)
        self.max_queue_size = checks.integer("max_queue_size", max_queue_size)

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} needs __len__(self): return the number of batches.")

    def __getitem__(self, number: int) -> Any:
        raise NotImplementedError(
            f"{type(self).__name__} needs __getitem__(self, number): return (x, y) of that batch, from 0."
        )

    def __iter__(self) -> Iterator[Any]:
        return in_order(self, range(len(self)))

    @property
    def num_batches(self) -> int:
        """The number of batches."""
        return len(self)

    def on_epoch_begin(self) -> None:
        """Called before an epoch of ``fit``, when no batch is being made."""

    def on_epoch_end(self) -> None:
        """Called after an epoch of ``fit``, when no batch is being made."""


Sequence = PyDataset  # its name before Keras 3


def in_order(dataset: PyDataset, numbers: Iterable[int]) -> Iterator[Any]:
    """Go through some batches in the order of ``numbers``, made by the data set's workers.

    At most ``max_queue_size`` of them wait, made or in the making. When the iterator ends or is closed, its
    threads have ended too.
    """
    if dataset.workers <= 1:
        for number in numbers:
            yield _batch(dataset, number)
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    pool = ThreadPoolExecutor(dataset.workers, thread_name_prefix="npnet-batches")
    waiting: deque[Future] = deque()
    try:
        for number in numbers:
            waiting.append(pool.submit(_batch, dataset, number))
            if len(waiting) == dataset.max_queue_size:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _batch(dataset: PyDataset, number: int) -> Any:
    try:
        return dataset[number]
    except Exception as error:
        error.add_note(f"This was batch {number} of the {type(dataset).__name__}.")
        raise
