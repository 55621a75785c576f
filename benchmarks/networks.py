"""Whole convolutional networks: what every framework gets alike, and the measurements of ``convolution``."""

from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from npnet.checking.measuring.neighbours import Neighbours
from npnet.checking.measuring.timing import calibrated, interleave, median, table

from . import pictures
from .network_peers import NETWORK_PEERS
from .worker import Worker, WorkerError

# What follows what: (kind, numbers of its own). "frozen" is a convolution whose weights are not trained.
KERAS_CNN = (
    ("conv", 32, 3, "same", True), ("relu",), ("conv", 32, 3, "valid", True), ("relu",), ("pool", 2),
    ("dropout", 0.25),
    ("conv", 64, 3, "same", True), ("relu",), ("conv", 64, 3, "valid", True), ("relu",), ("pool", 2),
    ("dropout", 0.25),
    ("flatten",), ("dense", 512, True), ("relu",), ("dropout", 0.5), ("dense", 10, True),
)  # fmt: skip


def _group(filters):
    normalised = ("norm",), ("gelu",)
    convolution = "conv", filters, 3, "same", False
    return (convolution, ("pool", 2), *normalised, convolution, *normalised)


AIRBENCH94 = (
    ("frozen", 24, 2, "valid", True), ("gelu",), *_group(64), *_group(256), *_group(256),
    ("maximum",), ("scale", 1 / 256), ("dense", 10, False),
)  # fmt: skip
TINY = (
    ("frozen", 4, 2, "valid", True), ("gelu",), ("conv", 6, 3, "same", False), ("pool", 2), ("norm",),
    ("relu",), ("dropout", 0.25), ("flatten",), ("scale", 0.5), ("dense", 10, True),
)  # fmt: skip
NETWORKS = {"cifar10_cnn": KERAS_CNN, "airbench94": AIRBENCH94, "tiny": TINY}
OPTIMIZERS = {"cifar10_cnn": "rmsprop", "airbench94": "nesterov", "tiny": "nesterov"}
# Keras's names. Small, as in ``task``: large steps would magnify differences of rounding.
HYPERPARAMETERS = {
    "rmsprop": {"learning_rate": 1e-5, "rho": 0.9, "epsilon": 1e-7},
    "nesterov": {"learning_rate": 1e-3, "momentum": 0.85},
}
SIDE, CHANNELS = 32, 3
CHECKED_STEPS, CHECKED_BATCH = 10, 32
TOLERANCE = 1e-4  # of the loss; rounding comes to 1e-6 or less, two forms of RMSprop differ by 4e-4
MODES = "training", "inference"


@dataclass(frozen=True)
class NetworkTask:
    """Train a network by cross-entropy on ``rows`` made-up pictures, or predict with it.

    Batch number s is the rows ``s * batch`` to ``(s + 1) * batch`` of the data, starting again at its end.
    """

    network: str
    batch: int = 32
    rows: int = 1024
    dropout: bool = True
    seed: int = 0

    @property
    def settings(self):
        """The arguments that make this task, as JSON can carry them to another process."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def layers(self):
        """The description, without dropout if it is off: then all frameworks compute the same."""
        return tuple(one for one in NETWORKS[self.network] if self.dropout or one[0] != "dropout")

    @property
    def optimizer(self):
        return OPTIMIZERS[self.network]

    @property
    def hyperparameters(self):
        return HYPERPARAMETERS[self.optimizer]

    @property
    def batches(self):
        """Batches in one pass over the data."""
        return max(1, self.rows // self.batch)

    def start(self, step):
        """Return the first row of batch number ``step``."""
        return step % self.batches * self.batch

    @cached_property
    def data(self):
        """x (rows, H, W, C), standard normal; labels (rows,) that a random linear map can tell apart."""
        rng = np.random.default_rng(self.seed)
        rows = self.batches * self.batch
        x = rng.standard_normal((rows, SIDE, SIDE, CHANNELS), dtype=np.float32)
        directions = rng.standard_normal((SIDE * SIDE * CHANNELS, 10), dtype=np.float32)
        return x, (x.reshape(rows, -1) @ directions).argmax(axis=1)

    @cached_property
    def one_hot(self):
        return np.eye(10, dtype=np.float32)[self.data[1]]

    @property
    def shapes(self):
        """The shape (H, W, C) or (D,) that goes into each layer, and the one that comes out of the last."""
        shape, found = (SIDE, SIDE, CHANNELS), []
        for kind, *numbers in self.layers:
            found.append(shape)
            if kind in ("conv", "frozen"):
                filters, window, padding, _ = numbers
                lost = window - 1 if padding == "valid" else 0
                shape = (shape[0] - lost, shape[1] - lost, filters)
            elif kind == "pool":
                shape = (shape[0] // numbers[0], shape[1] // numbers[0], shape[2])
            elif kind in ("flatten", "maximum"):
                shape = (int(np.prod(shape)),) if kind == "flatten" else shape[-1:]
            elif kind == "dense":
                shape = (numbers[0],)
        return [*found, shape]

    @cached_property
    def weights(self):
        """Of each layer kernel and bias, or beta: Glorot-uniform kernels, zeros else; () of the others."""
        rng, result = np.random.default_rng(self.seed + 1), []
        for (kind, *numbers), shape in zip(self.layers, self.shapes, strict=False):
            if kind in ("conv", "frozen", "dense"):
                window = () if kind == "dense" else (numbers[1], numbers[1])
                places = int(np.prod(window))
                limit = (6 / (places * (shape[-1] + numbers[0]))) ** 0.5
                kernel = rng.uniform(-limit, limit, (*window, shape[-1], numbers[0])).astype(np.float32)
                result.append((kernel, np.zeros(numbers[0], np.float32)) if numbers[-1] else (kernel,))
            else:
                result.append((np.zeros(shape[-1], np.float32),) if kind == "norm" else ())
        return result

    @property
    def flops(self):
        """Additions and multiplications of the products: (of a training step, of predicting a batch).

        A layer costs as much forward as for its weights' gradient and for its input's; what lies before the
        first weights that are trained has no use for gradients.
        """
        forward, training, trained = 0, 0, False
        outputs = self.shapes[1:]
        for (kind, *numbers), shape, after in zip(self.layers, self.shapes, outputs, strict=False):
            if kind not in ("conv", "frozen", "dense"):
                trained |= kind == "norm"
                continue
            taps = 1 if kind == "dense" else numbers[1] ** 2
            product = 2 * self.batch * taps * shape[-1] * int(np.prod(after))
            forward += product
            training += product * (1 + (kind != "frozen") + trained)
            trained |= kind != "frozen"
        return training, forward


def reference_losses(task, formula, steps):
    """Return the losses of the first steps in float64, by the textbook's kernels in the readable order."""
    from .network_peers import NetworkNpnet

    truth = NetworkNpnet(task, 1, kernels="numpy", fused=False, dtype="float64", formula=formula)
    truth.reset()
    return truth.losses(steps)


def start_workers(names, threads, say=print):
    """Start a process for every peer that is installed; say which are left out."""
    from importlib.util import find_spec

    workers = {}
    for name in names:
        missing = [package for package in NETWORK_PEERS[name].packages if not find_spec(package)]
        if missing:
            say(f"{NETWORK_PEERS[name].label} is left out; not installed: {', '.join(missing)}.")
        else:
            workers[name] = Worker(name, threads)
    return workers


def validated(workers, task, say=print):
    """Return {name: label} of the workers whose losses of some steps are the textbook's in float64."""
    checked = replace(task, batch=min(task.batch, CHECKED_BATCH), rows=4 * CHECKED_BATCH, dropout=False)
    truths, labels = {}, {}
    for name, worker in workers.items():
        try:
            about = worker.ask("network", "checked", mode="training", **checked.settings)
            losses = np.array(worker.ask("losses", "checked", steps=CHECKED_STEPS))
            worker.ask("forget", "checked")
        except WorkerError as error:
            say(f"{NETWORK_PEERS[name].label} is left out, it failed: {error}")
            continue
        formula = about["formula"]
        if formula not in truths:
            truths[formula] = np.array(reference_losses(checked, formula, CHECKED_STEPS))
        worst = np.abs(losses / truths[formula] - 1).max()
        verdict = "agrees" if worst <= TOLERANCE else "DISAGREES and is not timed"
        say(f"  {about['label']:22} {worst:8.1e}  {verdict}  [{formula}]")
        if worst <= TOLERANCE:
            labels[name] = about["label"]
    return labels


def prepared(workers, task, mode, say=print):
    """Make the job in each worker; return {name: bytes it grew by at its peak} of those that can do it.

    The first job of a worker is preceded by a tiny network, so that imports and compilers do not count.
    """
    memory = {}
    for name, worker in workers.items():
        try:
            if mode == "training":
                worker.ask("network", "tiny", mode=mode, **NetworkTask("tiny", rows=64).settings)
                worker.ask("losses", "tiny", steps=1)
                worker.ask("forget", "tiny")
            worker.ask("network", mode, mode=mode, **task.settings)
            memory[name] = worker.ask("memory", mode)
        except WorkerError as error:
            say(f"{NETWORK_PEERS[name].label} is left out of {mode} at {task.batch}, it failed: {error}")
    return memory


def timed(workers, names, task, mode, rounds, seconds):
    """Return {name: milliseconds of a step or a prediction in each round}, rounds interleaved."""
    calls = {
        name: calibrated(workers[name].stopwatch(mode), seconds, most=4 * task.batches) for name in names
    }
    return {name: [1e3 * t for t in times] for name, times in interleave(calls, rounds).items()}


def layout(times, memory, labels, flops, limits):
    """Lay out medians, quartiles, the ratio to the best peer, the share of the limit, and memory."""
    medians = {name: median(values) for name, values in times.items()}
    peers = [value for name, value in medians.items() if not name.startswith("npnet")]
    rows = []
    for name, value in medians.items():
        low, high = np.percentile(times[name], (25, 75))
        speed, grown = flops / value / 1e6, memory[name]
        rows.append(
            [
                labels[name], f"{value:.1f}", f"{low:.1f}", f"{high:.1f}",
                f"{min(peers) / value:.2f}x" if peers else "-",
                f"{speed:.0f}", f"{speed / limits.peak():.0%}", f"{grown / 2**20:.0f}" if grown else "-",
            ]
        )  # fmt: skip
    limit = f"of {limits.peak():.0f} GFLOP/s"
    head = ["", "ms", "quartile", "quartile", "best peer / it", "GFLOP/s", limit, "memory MiB"]
    return table(head, rows)


@contextmanager
def running(names, threads, say=print):
    """Give the workers of the frameworks that are installed, and end them."""
    workers = start_workers(names, threads, say)
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def run(options, limits):
    """Validate, time and draw all networks; return what was measured."""
    rounds, seconds = (3, 0.01) if options.quick else (options.rounds, 0.5)
    results, panels = [], []
    for network in options.networks:
        print(
            f"\n{network}, {OPTIMIZERS[network]}: losses of {CHECKED_STEPS} steps of {CHECKED_BATCH} without"
            f" dropout against the textbook in float64 ({TOLERANCE:.0e} allowed)"
        )
        with running(options.peers, options.threads) as workers:
            labels = validated(workers, NetworkTask(network))
        for batch in options.batch:
            task = NetworkTask(network, batch, rows=max(1024, 2 * batch))
            with running(labels, options.threads) as workers:
                for mode, flops in zip(MODES, task.flops, strict=True):
                    memory = prepared(workers, task, mode)
                    with Neighbours([worker.cpu_time for worker in workers.values()]) as neighbours:
                        times = timed(workers, memory, task, mode, rounds, seconds)
                    if mode == "inference":
                        memory = dict.fromkeys(memory)  # the process has grown in training
                    title, ms = f"{network}, {mode}, batch {batch}", flops / limits.peak() / 1e6
                    print(f"\n{title}: {flops / 1e9:.2f} GFLOP, {ms:.1f} ms at the limit of multiply-adds")
                    print(f"median of {rounds} interleaved rounds; {neighbours}")
                    print(layout(times, memory, labels, flops, limits), flush=True)
                    panels.append((title, {labels[name]: found for name, found in times.items()}, ms))
                    about = {"network": network, "mode": mode, "batch": batch, "flops": flops}
                    results.append(about | {"ms": times, "memory": memory})
    if panels:
        pictures.bars(options.out / "networks.png", panels)
        print(f"The picture is {options.out / 'networks.png'}.")
    return results
