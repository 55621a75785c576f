"""A fresh Python for what can happen only once in a process, with a kernel that compiles quickly."""

import atexit
import functools
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
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
        for _ in range(100):
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

# Importing Numba, and what Numba does before the first kernel of a process, take longer than most tests.
# One process has done both and forks a copy of itself for each piece of code. A copy has run no kernel and
# started no thread; it goes on as the main program and ends as every Python ends.
COPIED = (
    KERNEL
    + """
import json, signal, socket, struct
from numba.core import config
from numba.core.registry import cpu_target

cpu_target.target_context.refresh()
asked = socket.socket(fileno=int(sys.argv[1]))
while True:
    request, descriptors, *_ = socket.recv_fds(asked, 8, 3)
    if not request:
        sys.exit()  # the tests have ended
    (number,) = struct.unpack("q", request)
    if number:
        status = os.waitpid(number, 0)[1]
        asked.send(struct.pack("q", os.waitstatus_to_exitcode(status)))
    elif child := os.fork():
        for descriptor in descriptors:
            os.close(descriptor)
        asked.send(struct.pack("q", child))
    else:
        break
asked.close()
for standard, descriptor in enumerate(descriptors):
    os.dup2(descriptor, standard)
    os.close(descriptor)
signal.alarm(120)
code, environment = json.load(sys.stdin)
os.environ.clear()
os.environ.update(environment)
config.reload_config()
exec(code)
"""
)


@functools.cache
def _original():
    """Start the process that forks; return the socket on which it is asked to."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-c", COPIED, str(theirs.fileno())]
        process = subprocess.Popen(command, env=_environment({}), pass_fds=[theirs.fileno()])

    def stop():
        ours.close()
        process.wait()

    atexit.register(stop)
    return ours


def _ask(number, descriptors=()):
    """Ask for a copy (0) or for the exit code of the copy of this number; return the answer."""
    socket.send_fds(_original(), [struct.pack("q", number)], descriptors)
    return struct.unpack("q", _original().recv(8))[0]


class Copy:
    """A copy of the process that has imported what KERNEL imports; it runs the code."""

    def __init__(self, code, environment):
        self._files = [tempfile.TemporaryFile("w+") for _ in range(3)]  # noqa: SIM115  (closed when read)
        asked, _, _ = self._files
        json.dump([code, environment], asked)
        asked.seek(0)
        self._number = _ask(0, [file.fileno() for file in self._files])

    def communicate(self, timeout):
        """Wait; return what it printed and what it complained about. Its own alarm ends it in time."""
        self.returncode = _ask(self._number)
        texts = []
        for file in self._files:
            with file:
                file.seek(0)
                texts.append(file.read())
        return texts[1:]


def _environment(chosen):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    return inherited | {name: str(value) for name, value in chosen.items()}


def start(code, kernel=True, **environment):
    """Start a process that runs the code in a clean environment.

    With the kernel it is a copy of one that has run KERNEL, else a new Python; so is one with a number of
    threads of its own, which Numba reads when it is imported.
    """
    code, environment = textwrap.dedent(code), _environment(environment)
    if kernel and hasattr(os, "fork") and "NUMBA_NUM_THREADS" not in environment:
        return Copy(code, environment)
    command = [sys.executable, "-c", (KERNEL if kernel else "") + code]
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
