"""Windows and macOS, faked: npnet is imported, trains, saves and compiles without what only Linux has."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import npnet

# What these systems lack of the standard library. What npnet builds on is imported before it is taken away.
ABSENT = {
    "win32": {
        "modules": ["fcntl", "resource", "termios", "pwd", "grp"],
        "os": [
            "fork", "register_at_fork", "sched_getaffinity", "sched_setaffinity", "sched_yield", "uname",
            "getuid", "geteuid", "sysconf", "killpg", "setsid", "mkfifo",
        ],
        "signal": ["SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGPIPE", "pthread_sigmask", "setitimer"],
    },
    "darwin": {
        "modules": [],
        "os": ["sched_getaffinity", "sched_setaffinity"],
        "signal": [],
    },
}  # fmt: skip

PROGRAM = """
import json, os, signal, sys, types
import matplotlib.pyplot, multiprocessing.shared_memory, numpy, platform, platformdirs, subprocess, tempfile
import numba.np.ufunc.parallel, numba.core.codegen, threadpoolctl
libraries = threadpoolctl.ThreadpoolController()  # found as the system has them
threadpoolctl.ThreadpoolController.__init__ = lambda self: vars(self).update(vars(libraries))
name, absent = sys.argv[1], json.loads(sys.argv[2])
for module in absent["modules"]:
    sys.modules[module] = None
for module in os, signal:
    for function in absent[module.__name__]:
        if hasattr(module, function):
            delattr(module, function)
locks = []
sys.modules["msvcrt"] = types.SimpleNamespace(
    LK_NBLCK=2, locking=lambda descriptor, mode, n: locks.append((mode, n))
)
sys.platform = name

import npnet
from npnet.cli import main
from npnet.kernels.machine import cpus, threads

assert cpus.allowed_cpus() == os.cpu_count()
settings = "--epochs 2 --hidden 4 --kernels numpy --run-dir run --quiet".split()
assert main(["train", "spiral", *settings]) == 0
assert bool(locks) == (name == "win32"), "the folder of the run is locked as the system locks"
x = numpy.ones((4, 3), numpy.float32)
kernels = npnet.kernels.load("numba")
numpy.testing.assert_array_equal(kernels.elementwise(npnet.kernels.rules.relu, x), x)
assert threads.threading_layer().name == "workqueue"
assert main(["info"]) == 0
"""


@pytest.mark.parametrize("system", ABSENT)
def test_npnet_runs_without_what_only_linux_has(system, tmp_path):
    pytest.importorskip("numba")
    # Numba's wheels for macOS have no OpenMP unless libomp is there: loops then run on its workqueue.
    path = os.pathsep.join([str(Path(npnet.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {"NUMBA_THREADING_LAYER": "workqueue", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, system, json.dumps(ABSENT[system])],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").exists()
