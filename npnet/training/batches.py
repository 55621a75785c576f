"""From the user's arrays to batches: which rows, in which order, in which dtype."""

from typing import Any, NamedTuple

import numpy as np

from npnet.internal import checks
from npnet.internal.streams import SHUFFLE, stream

__all__ = ["Batch", "Position", "check_shuffle", "cut", "epoch_order", "gather", "split"]

BLOCK, MIXED = 4096, 8  # rows that are read together, and how many such blocks are mixed
CONVERTED = 32  # rows that are converted to another dtype at a time


class Position(NamedTuple):
    """A place in a training: ``batch`` steps of ``epoch`` (from 0) are done.

    ``sums`` is what the epoch's loss and metrics have added up so far: name -> [total, count].
    """

    epoch: int = 0
    batch: int = 0
    sums: dict[str, list[float]] = {}  # noqa: RUF012 (never written to)


class Batch(NamedTuple):
    """Which rows of x make a batch, with their targets and weights.

    ``cuts`` says where the batch's shards begin and end if several processes train and each has its own
    samples: ``rows`` are then those of this process, targets and weights those of all.
    """

    rows: np.ndarray
    y_true: np.ndarray
    sample_weight: np.ndarray | None = None
    cuts: list[int] | None = None


def check_shuffle(shuffle: Any) -> None:
    """Refuse what is neither True nor False nor "blocks"."""
    if isinstance(shuffle, str) and shuffle != "blocks":
        raise ValueError(f'shuffle must be True, False or "blocks", got {shuffle!r}.')
    if not isinstance(shuffle, str):
        checks.flag("shuffle", shuffle)


def epoch_order(n: int, shuffle: bool | str, seed: int, epoch: int) -> np.ndarray:
    """Return the order in which an epoch visits n rows.

    With "blocks" the rows are read in blocks of 4,096 neighbours, which come in random order, and are mixed
    within 8 blocks: a file on a slow disk is read in long runs.
    """
    if not shuffle:
        return np.arange(n)
    rng = stream(seed, SHUFFLE, epoch)
    if shuffle != "blocks":
        return rng.permutation(n)
    blocks = rng.permutation(-(-n // BLOCK))
    order = [np.arange(BLOCK * block, min(n, BLOCK * (block + 1))) for block in blocks]
    return np.concatenate(
        [rng.permutation(np.concatenate(order[at : at + MIXED])) for at in range(0, len(order), MIXED)]
    )


def cut(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut an order into batches; the last one may be shorter."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def gather(x: np.ndarray, rows: np.ndarray, dtype: Any) -> np.ndarray:
    """Return a new C-ordered array of some rows of ``x`` in ``dtype``."""
    if x.dtype == dtype:
        return np.ascontiguousarray(x[rows])
    # A few rows at a time are still in the cache when they are converted.
    out = np.empty((len(rows), *x.shape[1:]), dtype)
    for start in range(0, len(rows), CONVERTED):
        out[start : start + CONVERTED] = x[rows[start : start + CONVERTED]]
    return out


def split(n: int, validation_split: float) -> int:
    """Return how many of n rows are trained on; the tail validates, as in Keras."""
    if not 0 < validation_split < 1:
        raise ValueError(f"validation_split must be above 0 and below 1, got {validation_split!r}.")
    kept = int(n * (1 - validation_split))
    if kept in (0, n):
        raise ValueError(
            f"validation_split={validation_split} of {n} samples leaves none to "
            f"{'train on' if kept == 0 else 'validate on'}. Choose another fraction or give validation_data."
        )
    return kept
