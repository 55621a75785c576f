"""The seeds of models that are given none."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from npnet.internal import checks, processes

__all__ = ["forget_seed", "new_seed", "seeded", "set_random_seed"]

_default_seed: int | None = None
_models = 0  # made since that seed was set


def set_random_seed(seed: int) -> None:
    """Make every model from now on without a seed of its own repeatable: the first gets this one.

    Each later one gets another, made from it: the members of an ensemble differ, and the whole repeats.
    Unlike Keras's function of this name it leaves Python's and NumPy's global generators alone.
    """
    global _default_seed, _models
    _default_seed, _models = checks.integer("seed", seed, least=0), 0


def forget_seed() -> None:
    """Give models without a seed a random one again."""
    global _default_seed, _models
    _default_seed, _models = None, 0


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let ``set_random_seed(seed)`` hold inside this block only."""
    global _default_seed, _models
    before = _default_seed, _models
    set_random_seed(seed)
    try:
        yield
    finally:
        _default_seed, _models = before


def new_seed() -> int:
    """Return the seed of a model that was given none: the next of those that were set, or a random one."""
    global _models
    if _default_seed is None:
        return processes.group().random_seed()
    _models += 1
    if _models == 1:
        return _default_seed
    return int(np.random.SeedSequence([_default_seed, _models]).generate_state(1)[0])
