"""One phase of the fused kernels in a parallel loop of its own."""

from functools import cache

from npnet.kernels.machine.jit import get_num_threads, jit
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.machine.tasks import new_counters


@cache
def alone(tasks):
    """The kernel (arguments, numbers) that carries out the tasks of one phase on all threads."""

    @jit
    def work(thread, threads, counters, arguments, numbers):
        tasks((counters, thread, threads), 0, *arguments, numbers)

    @jit(parallel=True)
    def kernel(arguments, numbers):
        team = get_num_threads()
        parallel_for(team, work, (team, new_counters(1, team), arguments, numbers))

    return kernel
