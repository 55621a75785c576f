"""One process of ``python -m benchmarks distributed``: mpiexec starts several, of which the first prints.

    mpiexec -n 2 python -m benchmarks.ranks '{"who": "npnet", "network": "dense", "batch": 256, ...}'

``batch`` counts the samples of all processes together.
"""

import json
import os
import sys
import time

import numpy as np

from npnet.kernels.machine.threads import set_threads

from . import reference
from .task import Task

STEPS_CHECKED, WARM = 3, 3
PICTURES = (32, 32, 3)
FILTERS = (32, 32, 64, 64)  # 3 x 3, a pooling after each two
TOLERANCE = 1e-3  # of the losses of the first steps, relative


class Pictures:
    """Made-up pictures for a small convolutional network."""

    def __init__(self, batch, rows):
        self.batch, self.rows = batch, rows
        rng = np.random.default_rng(0)
        self.x = rng.random((rows, *PICTURES), dtype=np.float32)
        self.labels = rng.integers(0, 10, rows)
        self.one_hot = np.eye(10, dtype=np.float32)[self.labels]

    def batch_of(self, step):
        start = step % (self.rows // self.batch) * self.batch
        return np.arange(start, start + self.batch)


class Vectors(Pictures):
    """The data of the tutorial's network."""

    def __init__(self, batch, rows):
        self.batch, self.rows = batch, rows
        self.task = Task(batch=batch, rows=rows)
        self.x, self.labels = self.task.data
        self.one_hot = self.task.one_hot


def widths(network):
    """Return (inputs, outputs) of the dense layers."""
    if network == "dense":
        return Task().layers
    return ((PICTURES[0] // 4 * PICTURES[1] // 4 * FILTERS[-1], 10),)


def start(network):
    """Return the weights all begin with: convolutions (3, 3, C, F), then dense layers, with zero biases."""
    if network == "dense":
        return [array for pair in Task().weights for array in pair]
    rng, arrays = np.random.default_rng(1), []
    for channels, filters in zip((PICTURES[2], *FILTERS), FILTERS, strict=False):
        limit = (6 / (9 * (channels + filters))) ** 0.5
        arrays += [rng.uniform(-limit, limit, (3, 3, channels, filters)), np.zeros(filters)]
    for inputs, outputs in widths(network):
        limit = (6 / (inputs + outputs)) ** 0.5
        arrays += [rng.uniform(-limit, limit, (inputs, outputs)), np.zeros(outputs)]
    return [array.astype(np.float32) for array in arrays]


class Npnet:
    """npnet's training step, by as many processes as there are."""

    formula = "rmsprop"

    def __init__(self, network, data, threads, shards):
        from npnet import distribution
        from npnet.internal import processes
        from npnet.layers import Conv2D, Dense, Flatten, MaxPooling2D
        from npnet.models import Sequential
        from npnet.optimizers import RMSprop

        if shards > 1:
            distribution.set_distribution(distribution.DataParallel(shards))
        set_threads(threads)
        self.group, self.data = processes.group(), data
        layers = []
        if network == "cnn":
            for number, filters in enumerate(FILTERS):
                layers.append(Conv2D(filters, 3, padding="same", activation="relu"))
                layers += [MaxPooling2D(2)] if number % 2 else []
            layers.append(Flatten())
        *hidden, (_, classes) = widths(network)
        layers += [Dense(units, "relu") for _, units in hidden]
        model = Sequential([*layers, Dense(classes, "softmax")], seed=0)
        model.build((None, *data.x.shape[1:]))
        model.set_weights(start(network))
        model.compile(RMSprop(1e-5), "categorical_crossentropy")
        model.setup.prepare(data.x)
        self.model, self.steps = model, model.setup.step(heard=False)
        self.rank = self.group.rank

    def step(self, number):
        from npnet.training.batches import Batch

        rows = self.data.batch_of(number)
        [(loss, _)] = self.steps(self.data.x, [Batch(rows, self.data.one_hot[rows])])
        return loss

    def agree(self, number):
        return self.group.largest(number)


class TorchDDP:
    """PyTorch's DistributedDataParallel over gloo; each process takes its rows of the batch."""

    formula = "rmsprop, eps outside"

    def __init__(self, network, data, threads, shards):
        import torch
        from torch import nn

        self.torch, self.data = torch, data
        self.rank, self.size = int(os.environ.get("PMI_RANK", 0)), int(os.environ.get("PMI_SIZE", 1))
        torch.set_num_threads(threads)
        layers, channels = [], PICTURES[2]
        if network == "cnn":
            for number, filters in enumerate(FILTERS):
                layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
                layers += [nn.MaxPool2d(2)] if number % 2 else []
                channels = filters
            layers.append(nn.Flatten())
        for place, (inputs, outputs) in enumerate(widths(network)):
            layers += [nn.Linear(inputs, outputs)]
            layers += [nn.ReLU()] if place + 1 < len(widths(network)) else []
        model = nn.Sequential(*layers)
        for parameter, array in zip(model.parameters(), start(network), strict=True):
            parameter.data.copy_(torch.from_numpy(self._as_torch_has_it(array, network)))
        if self.size > 1:
            address = os.environ.get("NPNET_BENCH_ADDRESS", "127.0.0.1")
            os.environ |= {"MASTER_ADDR": address, "MASTER_PORT": os.environ["NPNET_BENCH_PORT"]}
            torch.distributed.init_process_group("gloo", rank=self.rank, world_size=self.size)
            model = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
        self.model = model
        self.optimizer = torch.optim.RMSprop(model.parameters(), 1e-5, 0.9, 1e-7, foreach=True)
        x = data.x.transpose(0, 3, 1, 2) if network == "cnn" else data.x
        self.x = torch.from_numpy(np.ascontiguousarray(x))
        if network == "cnn":
            self.x = self.x.to(memory_format=torch.channels_last)
            self.model.to(memory_format=torch.channels_last)
        self.labels = torch.from_numpy(data.labels)

    @staticmethod
    def _as_torch_has_it(array, network):
        if array.ndim == 4:
            return np.ascontiguousarray(array.transpose(3, 2, 0, 1))
        if array.ndim == 2 and network == "cnn":  # its rows are (H, W, C), PyTorch flattens (C, H, W)
            side, channels = PICTURES[0] // 4, FILTERS[-1]
            array = array.reshape(side, side, channels, -1).transpose(2, 0, 1, 3).reshape(array.shape)
        return np.ascontiguousarray(array.T)

    def step(self, number):
        rows = self.data.batch_of(number)
        mine = self.torch.from_numpy(np.array_split(rows, self.size)[self.rank])
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.torch.nn.functional.cross_entropy(self.model(self.x[mine]), self.labels[mine])
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def agree(self, number):
        if self.size == 1:
            return number
        found = self.torch.tensor(number)
        self.torch.distributed.all_reduce(found, self.torch.distributed.ReduceOp.MAX)
        return int(found)

    def close(self):
        if self.size > 1:
            self.torch.distributed.destroy_process_group()


def expected_losses(network, data, formula):
    """Return the losses of the first steps: in float64 of the dense network, in NumPy of the other."""
    if network == "dense":
        return reference.losses(data.task, formula, STEPS_CHECKED)
    from npnet.kernels.reference import softmax_cross_entropy_forward

    return [convolved(data, softmax_cross_entropy_forward)]


def convolved(data, loss_of):
    """Return the loss before the first step, of the network written out in NumPy."""
    *weights, kernel, bias = start("cnn")
    rows = data.batch_of(0)
    x = data.x[rows]
    for number, (w, b) in enumerate(zip(weights[::2], weights[1::2], strict=True)):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        height, width = x.shape[1:3]
        taps = [padded[:, i : i + height, j : j + width] @ w[i, j] for i in range(3) for j in range(3)]
        x = np.maximum(sum(taps) + b, 0)
        if number % 2:
            x = x.reshape(len(x), height // 2, 2, width // 2, 2, -1).max(axis=(2, 4))
    losses, _ = loss_of(data.one_hot[rows], x.reshape(len(x), -1) @ kernel + bias)
    return float(losses.mean())


def pin(rank, threads):
    """Use as many CPUs as threads, others than the processes before this one."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        places = [(rank * threads + i) % len(allowed) for i in range(threads)]
        os.sched_setaffinity(0, {allowed[place] for place in places})


def main(settings):
    who = {"npnet": Npnet, "torch": TorchDDP}[settings["who"]]
    network, batch, threads = settings["network"], settings["batch"], settings["threads"]
    pin(int(os.environ.get("PMI_RANK", 0)), threads)
    data = {"dense": Vectors, "cnn": Pictures}[network](batch, max(2 * batch, 1024))
    runner = who(network, data, threads, settings["shards"])
    losses = [runner.step(number) for number in range(STEPS_CHECKED)]
    if runner.rank == 0 and (who is Npnet or int(os.environ.get("PMI_SIZE", 1)) == 1):
        for step, (found, right) in enumerate(
            zip(losses, expected_losses(network, data, who.formula), strict=False)
        ):
            if abs(found / right - 1) > TOLERANCE:
                raise ValueError(f"{who.__name__}: loss of step {step} is {found}, {right} was expected.")
    number, times = STEPS_CHECKED, []

    def timed(steps):
        nonlocal number
        for _ in range(steps):
            began = time.perf_counter()
            runner.step(number)
            times.append(1e3 * (time.perf_counter() - began))
            number += 1

    timed(WARM)
    steps = runner.agree(max(3, round(1e3 * settings["seconds"] / np.median(times))))
    times.clear()
    timed(steps)
    if runner.rank == 0:
        print(json.dumps({"median": float(np.median(times)), "least": min(times), "steps": steps}))
    getattr(runner, "close", lambda: None)()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
