"""Streams of random numbers, each with a key of its own.

A stream is made from (seed, purpose, index). It does not depend on how many numbers another stream has given,
so any of them can be made again, in any order: a run that is resumed draws what it would have drawn.
"""

import numpy as np

__all__ = ["SHARDS", "SHUFFLE", "WEIGHTS", "stream"]

# purposes: a layer's weights and masks, the order of an epoch, the masks of a shard of a batch
WEIGHTS, SHUFFLE, SHARDS = range(3)


def stream(seed: int, purpose: int, *index: int) -> np.random.Generator:
    """Return the generator of (seed, purpose, index).

    The index is the layer's place in the model for WEIGHTS, the number of the epoch for SHUFFLE. A layer that
    draws random numbers while it runs (Dropout) keeps its stream; where the stream stands is saved with the
    model. Where several processes train, nobody's stream goes on: every shard of every step has streams of
    its own, and the index for SHARDS is the step, the shard, and the link's place in the chain; for a link's
    second generator also a 1, and so on.
    """
    return np.random.default_rng([seed, purpose, *index])
