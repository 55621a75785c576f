"""Where the batches of a call come from: the arguments of fit, evaluate and predict made a feed."""

from typing import Any

import numpy as np

from npnet.internal import checks, processes
from npnet.layers.chain import Chain
from npnet.training import iterables
from npnet.training.batches import Position, check_shuffle, epoch_order, split
from npnet.training.distribution import distribution
from npnet.training.feeds import ArrayFeed, Feed
from npnet.training.samples import Samples
from npnet.training.setup import Setup, check_features

__all__ = ["DEFAULT_BATCH_SIZE", "to_evaluate", "to_predict", "to_train", "to_validate"]

DEFAULT_BATCH_SIZE = 32


def to_train(
    setup: Setup,
    x: Any,
    y: Any,
    sample_weight: Any,
    class_weight: dict[int, float] | None,
    batch_size: int | None,
    validation_split: float,
    shuffle: bool | str,
    steps: int | None,
    start: Position,
    epochs: int,
    drop_remainder: bool,
) -> tuple[Feed, Samples | None]:
    """Return what to train on for so many epochs from ``start`` on, and the samples that are held out."""
    check_shuffle(shuffle)
    seed = setup.chain.seed
    if iterables.gives_batches(x):
        _refuse("x", y=y, batch_size=batch_size, sample_weight=sample_weight)
        if drop_remainder:
            raise ValueError("drop_remainder is for arrays; an x of batches gives those that it wants.")
        if validation_split:
            raise ValueError("validation_split needs arrays; give validation_data beside an x of batches.")
        if shuffle == "blocks":
            raise ValueError('shuffle="blocks" is for arrays; an x of batches has an order of its own.')
        iterables.refuse_to_use_up("x", x, "steps_per_epoch", steps, epochs)
        steps = _steps("steps_per_epoch", steps)
        return _of_all(iterables.to_train(setup, x, steps, class_weight, bool(shuffle))), None
    _refuse_steps("steps_per_epoch", steps)
    batch_size = _batch_size("batch_size", batch_size, of_all=True)
    train, held_out = setup.samples(x, y, sample_weight, class_weight), None
    if validation_split:
        kept = split(len(train), checks.number("validation_split", validation_split))
        train, held_out = train.rows(0, kept), train.rows(kept, len(train))
        if class_weight is not None:
            held_out.weight = None  # as in Keras, classes are weighted in training only
    n = len(train)
    if drop_remainder and n < batch_size:
        raise ValueError(f"drop_remainder leaves none of {n} samples, fewer than batch_size={batch_size}.")
    order = lambda epoch: epoch_order(n, shuffle, seed, epoch)  # noqa: E731
    return _of_all(ArrayFeed(train, batch_size, order, drop_remainder)), held_out


def to_validate(
    setup: Setup, data: Any, batch_size: int | None, default_size: int | None, steps: int | None, times: int
) -> Feed:
    """Return what ``validation_data`` is, to go through so many times; arrays by ``default_size`` samples."""
    return _of_all(_to_validate(setup, data, batch_size, default_size, steps, times))


def _to_validate(
    setup: Setup, data: Any, batch_size: int | None, default_size: int | None, steps: int | None, times: int
) -> Feed:
    size = default_size if batch_size is None else batch_size
    if isinstance(data, Samples):
        _refuse_steps("validation_steps", steps)
        return ArrayFeed(data, _batch_size("validation_batch_size", size, of_all=True))
    if not isinstance(data, (tuple, list)) and iterables.gives_batches(data):
        _refuse("validation_data", validation_batch_size=batch_size)
        iterables.refuse_to_use_up("validation_data", data, "validation_steps", steps, times)
        return iterables.to_evaluate(setup, data, _steps("validation_steps", steps), "validation x")
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise ValueError(
            "validation_data must be (x, y) or (x, y, sample_weight), or give batches of these: of a list of"
            " batches iter(batches)."
        )
    _refuse_steps("validation_steps", steps)
    x, y, weight = (*data, None)[:3]
    samples = setup.samples(x, y, weight, prefix="validation ")
    return ArrayFeed(samples, _batch_size("validation_batch_size", size, of_all=True))


def to_evaluate(
    setup: Setup, x: Any, y: Any, sample_weight: Any, batch_size: int | None, steps: int | None
) -> Feed:
    """Return what to evaluate on."""
    if iterables.gives_batches(x):
        _refuse("x", y=y, batch_size=batch_size, sample_weight=sample_weight)
        return iterables.to_evaluate(setup, x, _steps("steps", steps))
    _refuse_steps("steps", steps)
    return ArrayFeed(setup.samples(x, y, sample_weight), _batch_size("batch_size", batch_size))


def to_predict(chain: Chain, x: Any, batch_size: int | None, steps: int | None) -> Feed:
    """Return what to predict from; without targets."""
    if iterables.gives_batches(x):
        _refuse("x", batch_size=batch_size)
        return iterables.to_predict(chain, x, _steps("steps", steps))
    _refuse_steps("steps", steps)
    x = check_features(chain, x, least=0)
    return ArrayFeed(Samples(x, np.empty((len(x), 0))), _batch_size("batch_size", batch_size))


def _of_all(feed: Feed) -> Feed:
    """Return the feed, joined with those of the other processes where each has its own samples."""
    shared = distribution()
    if shared is None or shared.auto_shard_dataset:
        return feed
    from npnet.training.parts import PartsFeed

    return PartsFeed(feed, processes.group(), shared.shards)


def _batch_size(name: str, size: int | None, of_all: bool = False) -> int:
    """Return how many samples make a batch; ``of_all``: of all processes, each of which may have a part."""
    whole = checks.integer(name, DEFAULT_BATCH_SIZE if size is None else size)
    shared = distribution()
    if not of_all or shared is None or shared.auto_shard_dataset:
        return whole
    part, left = divmod(whole, processes.group().size)
    if left:
        raise ValueError(
            f"{name} must be a multiple of the number of processes, {processes.group().size}, each of which"
            f" takes as many samples of its own; got {whole}."
        )
    return part


def _steps(name: str, steps: int | None) -> int | None:
    return None if steps is None else checks.integer(name, steps)


def _refuse(of: str, **arguments: Any) -> None:
    """Refuse arguments that mean something for arrays only."""
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(f"{name} must be left out: {of} gives its batches itself.")


def _refuse_steps(name: str, steps: int | None) -> None:
    if steps is not None:
        raise ValueError(
            f"{name} must be left out: arrays are gone through whole. It is for generators and other"
            " iterables."
        )
