"""Jobs that another process can do, too."""

import time
from functools import cache

from npnet.kernels.machine.jit import jit


@cache
def adding(number):
    """Return the kernel x -> x + number, one for each number."""

    @jit
    def add(x):
        return x + number

    return add


def sleeping():
    """Return nothing for a minute."""
    time.sleep(60)
