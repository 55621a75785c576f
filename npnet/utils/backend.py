"""What is left of Keras's backend where every model computes by itself: ``npnet.backend``."""

import gc

from npnet.internal.mixed_precision import set_dtype_policy
from npnet.utils.seeds import forget_seed

__all__ = ["clear_session"]


def clear_session(free_memory: bool = True) -> None:
    """Forget what models share: the seed of ``set_random_seed`` and the policy of ``set_dtype_policy``.

    Parameters
    ----------
    free_memory
        Collect what nobody refers to any more.
    """
    forget_seed()
    set_dtype_policy("float32")
    if free_memory:
        gc.collect()
