"""A fresh Python for what can happen only once in a process, with a kernel that compiles quickly."""

import os
import subprocess
import sys
import textwrap

KERNEL = """
import os, sys, threading, warnings
import numpy as np
from npnet.kernels.machine import cache, threads
from npnet.kernels.machine.jit import get_num_threads, jit
from npnet.kernels.machine.loops import parallel_for

@jit
def square_of(i, x, out):
    out[i] = x[i] * x[i]

@jit(parallel=True)
def square(x, out):
    parallel_for(x.shape[0], square_of, (x, out))
    return get_num_threads()

x = np.arange(1000.0)

def use():
    "Run the kernel, check what it computed, return how many threads it had."
    out = np.empty_like(x)
    count = square(x, out)
    assert (out == x * x).all()
    return count

def in_three_threads():
    done = []

    def work():
        for _ in range(300):
            use()
        done.append(True)

    workers = [threading.Thread(target=work) for _ in range(3)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    assert len(done) == 3

def in_child(work):
    "Fork, run work() in the child, return its exit code (negative: the signal that ended it)."
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            work()
            sys.stdout.flush()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
SETTINGS = ("NUMBA_", "NPNET_", "XDG_CACHE", "OMP_", "GOMP_")


def start(code, kernel=True, **environment):
    """Start a process that runs the code, after KERNEL unless told otherwise, in a clean environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    environment = {**inherited, **{name: str(value) for name, value in environment.items()}}
    command = [sys.executable, "-c", (KERNEL if kernel else "") + textwrap.dedent(code)]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process):
    """Wait for a process, which must end well, and return what it printed and what it complained about."""
    printed, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, f"exit code {process.returncode}\n{printed}\n{complaints}"
    return printed, complaints


def run(code, kernel=True, **environment):
    """Run the code in a process of its own and return what it printed and what it complained about."""
    return finish(start(code, kernel, **environment))
