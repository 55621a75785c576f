"""One framework in one long-lived process, driven by a line of JSON at a time over its pipes.

The parent holds a ``Worker`` for each peer; all but one wait for their next line, asleep.
``python -m benchmarks.worker NAME`` is the other end.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

# Seconds; threads that slept are woken on their waker's processor and take some hundredths to leave it, and a
# processor at full vector load takes as long to find its clock.
WARM_UP = 0.05


class WorkerError(RuntimeError):
    """What a worker's process reported or left behind when it failed."""


class Worker:
    """The parent's end: ``worker.ask("time", "job", times=20)`` calls ``time`` below over there."""

    def __init__(self, name, threads):
        count = str(threads)
        names = ("OMP", "MKL", "OPENBLAS", "NUMBA")
        environment = os.environ | {f"{name}_NUM_THREADS": count for name in names}
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed by close)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", name, count],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
        )

    def ask(self, request, job, **arguments):
        """Return the result of a request, or raise a WorkerError with what went wrong over there."""
        with suppress(BrokenPipeError):  # the empty answer says more
            print(
                json.dumps({"request": request, "job": job, **arguments}), file=self.process.stdin, flush=True
            )
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise WorkerError(f"ended with code {self.process.wait()}: {self.log.read()[-400:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["result"]

    def stopwatch(self, job):
        """Return a function of a number of repetitions that tells the seconds they took over there."""
        return lambda times: self.ask("time", job, times=times)

    def cpu_time(self):
        """Return the seconds of processor time the process has used."""
        return self.ask("cpu_time", "")

    def close(self):
        """End the process: it leaves when nothing more can be asked."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


class _Session:
    """The worker's end: its public functions are the requests it knows; jobs have names."""

    def __init__(self, name, threads):
        self.name, self.threads, self.jobs = name, threads, {}
        self.rss = 0  # bytes in use before the last network was made

    def train(self, job, **task):
        """Make a job of training a task with the peer this worker is named after."""
        from .peers import PEERS
        from .task import Task

        self.rss = _status("VmRSS")
        self.jobs[job] = peer = PEERS[self.name](Task(**task), self.threads)
        return {"label": peer.label, "formula": peer.formulas[task["optimizer"]]}

    def losses(self, job, steps):
        self.jobs[job].reset()
        return [float(loss) for loss in self.jobs[job].losses(steps)]

    def kernel(self, job, case, sizes):
        """Make a job of a kernel and return its error; the worker is named after a set of kernels."""
        from .cases import Job

        self.jobs[job] = Job(self.name, self.threads, case, sizes)
        return self.jobs[job].error()

    def convolution(self, job, layer, which):
        """Make a job of a pass of a layer and return its error; the worker is named after a library."""
        from .layers import Job

        self.jobs[job] = Job(self.name, self.threads, layer, which)
        return self.jobs[job].error()

    def network(self, job, mode, **task):
        """Make a job of training a network with this worker's peer, or of asking it: "inference"."""
        from .network_peers import NETWORK_PEERS
        from .networks import NetworkTask

        self.rss = _status("VmRSS")
        self.jobs[job] = peer = NETWORK_PEERS[self.name](NetworkTask(**task), self.threads)
        peer.mode = mode
        return {"label": peer.label, "formula": peer.formulas[peer.task.optimizer]}

    def memory(self, job):
        """Bytes the process has grown by at its peak in three repetitions, since before the job was made.

        A run before them compiles what has to be compiled. None where the system does not tell.
        """
        self.jobs[job].reset()
        self.jobs[job].run(1)
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is used now
        except OSError:
            return None
        self.jobs[job].run(3)
        return _status("VmHWM") - self.rss

    def time(self, job, times):
        """Seconds for ``times`` repetitions, from the beginning on and after a warm-up."""
        self.jobs[job].reset()
        start = time.perf_counter()
        while time.perf_counter() - start < WARM_UP:
            self.jobs[job].run(2)
        start = time.perf_counter()
        self.jobs[job].run(times)
        return time.perf_counter() - start

    def parts(self, job, times):
        """Where the time of each fused step goes; see ``parts.measure``."""
        from . import parts

        return parts.measure(self.jobs[job], times)

    def cpu_time(self, job):
        """Seconds of processor time this process has used, whatever the job."""
        return time.process_time()

    def forget(self, job):
        del self.jobs[job]


def _status(name):
    """Return a size of this process in bytes as Linux tells it, 0 elsewhere."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return 1024 * int(dict(line.split(":", 1) for line in text.splitlines())[name].split()[0])


def _serve(name, threads):
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a framework prints goes to the log
    if hasattr(os, "sched_setaffinity"):  # the only number of threads that every framework respects
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    session = _Session(name, threads)
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            answer = {"result": getattr(session, arguments.pop("request"))(**arguments)}
        except Exception:
            answer = {"error": traceback.format_exc(limit=-3)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
