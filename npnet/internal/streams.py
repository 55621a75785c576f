"""Streams of random numbers, each with a key of its own.

A stream is made from (seed, purpose, index). It does not depend on how many numbers another stream has given,
so any of them can be made again, in any order: a run that is resumed draws what it would have drawn.
"""

import numpy as np

__all__ = ["SHUFFLE", "WEIGHTS", "stream"]

WEIGHTS, SHUFFLE = range(2)  # purposes: a layer's weights and masks, the order of an epoch


def stream(seed: int, purpose: int, index: int) -> np.random.Generator:
    """Return the generator of (seed, purpose, index).

    The index is the layer's place in the model for WEIGHTS, the number of the epoch for SHUFFLE. A layer that
    draws random numbers while it runs (Dropout) keeps its stream; where the stream stands is saved with the
    model.
    """
    return np.random.default_rng([seed, purpose, index])
