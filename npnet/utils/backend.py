"""What is left of Keras's backend where every model computes by itself: ``npnet.backend``."""

import gc

from npnet.utils.seeds import forget_seed

__all__ = ["clear_session"]


def clear_session(free_memory: bool = True) -> None:
    """Forget the seed of ``set_random_seed``: there is no other state that models share.

    Parameters
    ----------
    free_memory
        Collect what nobody refers to any more.
    """
    forget_seed()
    if free_memory:
        gc.collect()
