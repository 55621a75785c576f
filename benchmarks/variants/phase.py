"""One phase of the fused kernels in a parallel loop of its own."""

from functools import cache

import numpy as np
from numba import prange

from npnet.kernels.machine.jit import get_num_threads, jit
from npnet.kernels.machine.tasks import new_counters


@cache
def alone(tasks):
    """The kernel (arguments, numbers) that carries out the tasks of one phase on all threads."""

    @jit(parallel=True)
    def kernel(arguments, numbers):
        team = get_num_threads()
        counters = new_counters(1, team)
        for thread in prange(team):
            tasks((counters, np.int64(thread), team), 0, *arguments, numbers)

    return kernel
