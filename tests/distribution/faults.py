"""Run under mpiexec by the tests: trainings in each of which something, named by an argument, happens to one.

All but the last are of what every process notices: each raises, and the first prints what all of them say.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

import npnet
from npnet import distribution
from npnet.internal import processes
from npnet.layers import Dense
from npnet.utils import PyDataset

# What one process gives to fit beside what all give, by argument.
ARGUMENTS = {
    "batch_size": 3, "class_weight": {1: 2.0}, "drop_remainder": True, "epochs": 2, "initial_epoch": 1,
    "shuffle": False, "validation_batch_size": 2, "validation_freq": 2, "validation_split": 0.25,
}  # fmt: skip


class Batches(PyDataset):
    """So many times the same batch."""

    def __init__(self, batches, batch):
        super().__init__()
        self.batches, self.batch = batches, batch

    def __len__(self):
        return self.batches

    def __getitem__(self, i):
        return self.batch


def happens(what, rank, model):
    """Return what a callback does after the second epoch."""

    def act(epoch, logs):
        if rank != 1 or epoch != 1:
            return
        if what == "exception":
            raise OSError(28, "No space left on device")
        if what in ("SIGKILL", "SIGINT"):
            os.kill(os.getpid(), getattr(signal, what))
        if what == "exit":
            sys.exit(0)
        if what == "late":
            time.sleep(1.5)
        if what == "weights":
            model.layers[0].kernel.value[0, 0] += 1

    def stops(batch, logs):
        """Decide in one process what all should decide."""
        model.stop_training = True

    decides = what == "decision" and rank
    return npnet.callbacks.LambdaCallback(on_epoch_end=act, on_train_batch_end=stops if decides else None)


def train(what):
    rank = processes.world().rank
    own = what == "validation_data"  # parts, whose sizes are exchanged
    shards = 4 + (what == "shards" and rank)
    distribution.set_distribution(distribution.DataParallel(shards, auto_shard_dataset=not own))
    processes.group().resume = "Go on with the file."
    seed = rank if what == "seed" else 0
    model = npnet.Sequential([Dense(3, input_shape=(2,))], seed=seed)
    model.compile("sgd", "mse", kernels="numpy")
    rows = 12 + (what == "rows" and rank)
    x, y = np.ones((rows, 2), np.float32), np.ones((rows, 3), np.float32)
    x[5] += what == "data" and rank
    if what == "batch":
        model.train_on_batch(x + rank, y)
    batch_size = None if what == "batches" else 4
    options = {"batch_size": batch_size, "epochs": 3, "callbacks": [happens(what, rank, model)]}
    if what == "validation_data":
        options |= {"validation_data": (x, y)} if rank else {}
    elif what == "batches":
        options["validation_data"] = Batches(1 + rank, (x, y))
    elif what != "validation_split":
        options["validation_data"] = x, y
    if rank and what == "BackupAndRestore":
        options["callbacks"].append(npnet.callbacks.BackupAndRestore("nowhere"))
    elif rank and what in ARGUMENTS:
        options[what] = ARGUMENTS[what]
    try:
        model.fit(x, y, verbose=0, **options)
    except KeyboardInterrupt:
        steps = processes.group().gather_values(model.optimizer.iterations)
        if rank == 0:
            print(f"stopped after steps {steps}")
        raise
    if rank == 0:
        print("trained")


processes.PATIENCE = 0.5
if "late" in sys.argv:
    first = Path("the first is there")
    if processes.announced_rank() == 0:
        first.touch()
    while not first.exists():
        time.sleep(0.01)
    time.sleep(1.5 * processes.announced_rank())
distribution.initialize()
*noticed, last = sys.argv[1:]
messages = {}
for what in noticed:
    try:
        train(what)
    except ValueError as error:
        messages[what] = processes.world().gather_values(str(error))
if noticed and processes.world().first:
    print(json.dumps(messages), flush=True)
train(last)
