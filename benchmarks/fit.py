"""What ``model.fit`` adds to the bare steps, in time and in memory, and the tutorial's epoch with validation.

Each form of the data is measured in a process of its own, ``python -m benchmarks.fit FORM``.
"""

import io
import json
import os
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from npnet.checking.measuring.neighbours import Neighbours
from npnet.checking.measuring.timing import interleave, median, table

FORMS = {
    "float64": "float64, x / 255 as the tutorial has it",
    "float32": "float32",
    "uint8": "uint8, Rescaling(1 / 255) as the first layer",
}
ROUNDS, EPOCHS, BATCH = 5, 3, 32


class Terminal(io.StringIO):
    """A terminal that nobody watches: the live progress bar is drawn and costs what it costs."""

    encoding = "utf-8"

    def isatty(self):
        """Claim that it is one."""
        return True


def pictures(rows):
    """Return (x, one-hot y) for training and validation: CIFAR-10 if NPNET_DATA leads there, else noise."""
    if "NPNET_DATA" in os.environ:
        from npnet.datasets import cifar10

        parts = cifar10.load_data(limit=rows)
    else:
        rng = np.random.default_rng(0)
        parts = [
            (rng.integers(0, 256, (n, 3072), dtype=np.uint8), rng.integers(0, 10, (n, 1)))
            for n in (rows, -(-rows // 5))
        ]
    return [(x.reshape(len(x), 3072), np.eye(10, dtype=np.float32)[y[:, 0]]) for x, y in parts]


def tutorial_model(form):
    from npnet.layers import Dense, Input, Rescaling
    from npnet.models import Sequential

    scale = [Rescaling(1 / 255)] if form == "uint8" else []
    layers = [Dense(512, activation="relu"), Dense(512, activation="relu"), Dense(10, activation="softmax")]
    model = Sequential([Input((3072,)), *scale, *layers], seed=0)
    model.compile("rmsprop", "categorical_crossentropy", metrics=["accuracy"])
    return model


def make_clock():
    """Return a callback that keeps the seconds of each epoch, validation included."""
    from npnet.callbacks import Callback

    class Clock(Callback):
        def on_train_begin(self, logs=None):
            self.seconds = []

        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds.append(time.perf_counter() - self.start)

    return Clock()


def status(name):
    """Return a size from /proc/self/status in MB, None where there is no such thing."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name + ":"))


def measure(form, threads, rows):
    """Return the seconds of fit, of its bare steps and of epochs with validation, and the megabytes added."""
    from npnet.kernels.machine.threads import set_threads
    from npnet.training.batches import Batch, cut

    set_threads(threads)
    convert = {"float64": lambda x: x / 255, "float32": lambda x: x / np.float32(255), "uint8": lambda x: x}
    (x, y), (x_test, y_test) = [(convert[form](x), y) for x, y in pictures(rows)]
    with redirect_stdout(Terminal()):
        tutorial_model(form).fit(x[:70], y[:70], validation_data=(x[:70], y[:70]), batch_size=BATCH)

        model, added = tutorial_model(form), None
        before = status("VmRSS")
        if before is not None:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        clock, start = make_clock(), time.perf_counter()
        model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, validation_data=(x_test, y_test), callbacks=[clock])
        epochs = clock.seconds
        checks = time.perf_counter() - start - sum(epochs)
        if before is not None:
            added = status("VmHWM") - before

        order = np.random.default_rng(1).permutation(len(x))
        x, y = x[: len(x) // 3], y[: len(x) // 3]  # enough to compare, on a quiet or a busy machine
        order = order[order < len(x)]
        setup = model.require_compiled("a benchmark")
        setup.prepare(x)
        step = setup.step()
        at_once = setup.at_once(step, BATCH, heard=False)

        def fit():
            clock = make_clock()
            model.fit(x, y, batch_size=BATCH, callbacks=[clock])
            return clock.seconds[0]

        def steps():
            start = time.perf_counter()
            all_batches = [Batch(index, y[index]) for index in cut(order, BATCH)]
            for first in range(0, len(all_batches), at_once):
                step(x, all_batches[first : first + at_once])
            return time.perf_counter() - start

        compared = interleave({"fit": fit, "steps": steps}, ROUNDS)
    return {"epochs": epochs, "checks": checks, "added": added, **compared}


def report(threads, rows=50_000):
    """Measure every form of the data, print the table, return the measurements."""
    print(f"\nmodel.fit: {rows} samples, {-(-rows // 5)} to validate, batch {BATCH}, RMSprop, live bar")
    results, lines = {}, []
    with Neighbours() as neighbours:
        for form, text in FORMS.items():
            command = [sys.executable, "-m", "benchmarks.fit", form, str(threads), str(rows)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results[form] = found = json.loads(done.stdout)
            ratio = median(found["fit"]) / median(found["steps"])
            added = "-" if found["added"] is None else f"{found['added']:.0f} MB"
            lines.append(
                [
                    text,
                    f"{median(found['epochs']):.2f} s",
                    f"{min(found['epochs']):.2f} s",
                    f"{found['checks']:.2f} s",
                    f"{ratio - 1:+.1%}",
                    added,
                ]
            )
    print(
        table(["", "epoch, validated", "fastest", "checks before", "fit over steps", "memory added"], lines)
    )
    print(f"asked for: 2.5 s on two cores, +10 %, 100 MB; {neighbours}", flush=True)
    return results


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
