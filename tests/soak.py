"""A long run on small data: does memory grow, do threads or files stay open, does an epoch get slower?

    python tests/soak.py [EPOCHS]      2,000 by default

Half of the first layer's units die after a few epochs: their momentum then decays for ever, and would, as
subnormal numbers, make every step slower. Epochs are timed in CPU seconds, which other programs hardly touch.
"""

import resource
import statistics
import sys
import threading
import time
from pathlib import Path

import numpy as np

import npnet
from npnet.layers import Dense
from npnet.optimizers import SGD

WARM_UP = 100  # epochs until caches, buffers and allocators have what they need
GROWTH = 1.0  # MiB of memory per 1,000 epochs
SLOWER = 1.10  # the last tenth of the epochs to the first
MEMBERS = {"numba fused": ("numba", True), "numba": ("numba", False), "numpy": ("numpy", False)}


def digits(rng):
    """1,797 pictures of 8 x 8 in ten classes, as many as scikit-learn's digits."""
    labels = rng.integers(0, 10, 1797)
    x = rng.normal(size=(10, 64))[labels] + rng.normal(scale=2.0, size=(1797, 64))
    return x.astype(np.float32), npnet.utils.to_categorical(labels, 10)


def network(kernels, fused):
    """64-128-10."""
    model = npnet.Sequential([Dense(128, "relu", input_shape=(64,)), Dense(10, "softmax")], seed=1)
    model.compile(
        SGD(0.01, momentum=0.9), "categorical_crossentropy", ["accuracy"], kernels=kernels, fused=fused
    )
    return model


def let_half_die(model):
    """Make the biases of every other hidden unit so low that it is never active again."""
    weights = model.get_weights()
    weights[1][::2] = -1000
    model.set_weights(weights)


def count(folder):
    """How many entries a folder of /proc has."""
    return sum(1 for _ in Path(folder).iterdir())


def resident():
    """MiB of memory in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def soak(name, kernels, fused, epochs):
    """Train, print what was seen, return whether it is as it should be."""
    x, y = digits(np.random.default_rng(0))
    model = network(kernels, fused)
    seconds, memory, counts, losses = [], [], set(), []

    def look(epoch, logs):
        seconds.append(time.process_time())
        losses.append(logs["loss"])
        if epoch == 5:
            let_half_die(model)
        if epoch >= WARM_UP:
            memory.append(resident())
            counts.add((count("/proc/self/task"), threading.active_count(), count("/proc/self/fd")))

    watch = npnet.callbacks.LambdaCallback(on_epoch_end=look)
    model.fit(
        x, y, epochs=epochs, batch_size=32, validation_data=(x[:200], y[:200]), verbose=0, callbacks=[watch]
    )
    times = np.diff(seconds)[WARM_UP:]
    tenth = len(times) // 10
    first, last = (statistics.median(part) for part in (times[:tenth], times[-tenth:]))
    part = len(memory) // 10
    growth = (
        (statistics.median(memory[-part:]) - statistics.median(memory[:part])) / (0.9 * len(memory)) * 1000
    )
    slots = np.concatenate([s.ravel() for p in model.parameters for s in p.slots.values()])
    subnormal = int(((slots != 0) & (np.abs(slots) < np.finfo(np.float32).tiny)).sum())
    dead = model.get_weights()[1][::2].max() < -900
    good = {
        f"memory {growth:+.2f} MiB per 1,000 epochs": growth < GROWTH,
        f"threads and files {sorted(counts)}": len(counts) == 1,
        f"CPU of an epoch {1e3 * first:.2f} -> {1e3 * last:.2f} ms": last < SLOWER * first,
        f"loss {losses[0]:.3f} -> {losses[-1]:.3g}": np.isfinite(losses).all(),
        f"{subnormal} subnormal numbers in the momentum": subnormal == 0,
        "half of the units dead": dead,
    }
    for what, fine in good.items():
        print(f"{name:12} {'ok ' if fine else 'BAD'} {what}", flush=True)
    return all(good.values())


if __name__ == "__main__":
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    results = [soak(name, *settings, epochs) for name, settings in MEMBERS.items()]
    sys.exit(0 if all(results) else 1)
