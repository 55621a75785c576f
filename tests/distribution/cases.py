"""Run under mpiexec by the tests: trains small networks; the first process writes what came of them.

mpiexec -n 4 python cases.py FOLDER

The networks are trained by all processes, then by the first three, then by the first two: a program for each
number would spend most of its time importing.
"""

import hashlib
import json
import signal
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import npnet
from npnet import distribution
from npnet.callbacks import (
    BackupAndRestore,
    CSVLogger,
    EarlyStopping,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from npnet.internal import processes
from npnet.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GaussianNoise,
    Layer,
    MaxPooling2D,
    RandomFlip,
    RandomTranslation,
)
from npnet.losses import Loss, SparseCategoricalCrossentropy
from npnet.optimizers import SGD, Adam, AdamW, Muon
from npnet.optimizers.schedules import CosineDecay
from npnet.utils import PyDataset

N, CLASSES, PICTURE = 75, 4, (6, 6, 3)


def data():
    rng = np.random.default_rng(0)
    x = rng.random((N, *PICTURE), dtype=np.float32)
    labels = rng.integers(0, CLASSES, N)
    return x, labels, np.eye(CLASSES, dtype=np.float32)[labels]


class Batches(PyDataset):
    """Batches of uneven sizes."""

    def __len__(self):
        return 5

    def __getitem__(self, i):
        x, _, y = data()
        return x[i * 15 : i * 15 + 11 + i], y[i * 15 : i * 15 + 11 + i]


def dense(kernels, **options):
    layers = [Flatten(), Dense(12, "relu", kernel_regularizer="l2"), Dense(CLASSES, "softmax")]
    return compiled(layers, kernels, **options)


def compiled(
    layers, kernels, optimizer, loss="categorical_crossentropy", fused=False, dtype=None, **options
):  # fmt: skip
    model = npnet.Sequential(layers, seed=5, dtype=dtype)
    model.compile(optimizer, loss, metrics=["accuracy"], kernels=kernels, fused=fused, **options)
    return model


def clipping(kernels, fit):
    x, _, y = data()
    weight = np.linspace(0.5, 2, N)
    model = dense(kernels, optimizer=Adam(0.01, global_clipnorm=0.5), weighted_metrics=["mse"])
    return fit(model, x, y, batch_size=32, epochs=3, validation_split=0.2, sample_weight=weight)


def convolution(kernels, fit):
    """All that draws random numbers, and batch normalisation; batches of fewer samples than shards."""
    x, _, y = data()
    layers = [
        RandomFlip("horizontal"), RandomTranslation(0.2, 0.2), Conv2D(5, 3, padding="same"),
        BatchNormalization(), Activation("relu"), MaxPooling2D(2), GaussianNoise(0.1), Flatten(),
        Dropout(0.3), Dense(9), BatchNormalization(scale=False), Dropout(0.1, seed=3),
        Dense(CLASSES, "softmax"),
    ]  # fmt: skip
    model = compiled(layers, kernels, SGD(CosineDecay(0.1, 20), momentum=0.9))
    return fit(model, x, y, batch_size=24, epochs=2, validation_data=(x[:21], y[:21]))


def muon(kernels, fit):
    x, _, y = data()
    options = {"class_weight": {0: 2.0, 2: 0.5}, "validation_data": (x, y), "validation_batch_size": 20}
    return fit(dense(kernels, optimizer=Muon(0.01)), x, y, batch_size=30, epochs=2, **options)


def ignored(kernels, fit):
    """Labels that are left out of the mean, moving averages of the weights, an early end."""
    x, labels, _ = data()
    loss = SparseCategoricalCrossentropy(ignore_class=1)
    model = dense(kernels, optimizer=AdamW(0.05, use_ema=True), loss=loss)
    watchers = [EarlyStopping("loss", patience=0, min_delta=0.5), ReduceLROnPlateau("loss"), TerminateOnNaN()]
    return fit(model, x, labels, batch_size=16, epochs=5, callbacks=watchers, shuffle="blocks")


def dataset(kernels, fit):
    return fit(dense(kernels, optimizer="rmsprop"), Batches(), epochs=2, validation_data=Batches())


def restored(kernels, fit, folder):
    """Ended in the middle of an epoch, gone on with from the file, which only the first process sees."""
    x, _, y = data()
    model = dense(kernels, optimizer="adam")
    stop = npnet.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: setattr(
            model, "stop_training", model.optimizer.iterations == 7
        )
    )
    seen = folder / ("backup" if processes.group().first else "elsewhere")
    backup = BackupAndRestore(seen, save_freq=1, delete_checkpoint=False)
    writers = [CSVLogger(folder / "log.csv"), ModelCheckpoint(folder / "{epoch}.safetensors")]
    model.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=[stop, backup, *writers])
    again = dense(kernels, optimizer="adam")
    again.build((None, *PICTURE))
    return fit(again, x, y, batch_size=16, epochs=3, callbacks=[backup])


def single_steps(kernels, fit):
    x, _, y = data()
    model = dense(kernels, optimizer="adam")
    logs = [model.train_on_batch(x[:n], y[:n], return_dict=True) for n in (1, 3, 50)]
    return fit(model, x, y, batch_size=64, epochs=1) | {"logs": str(logs)}


def estimated():
    """Train an estimator without a seed, which is refused where processes draw different ones."""
    from npnet.sklearn import MLPClassifier

    x, labels, _ = data()
    MLPClassifier((5,), max_iter=2, early_stopping=True).fit(x.reshape(N, -1), labels)


def fused(kernels, fit):
    """Shards of 10 samples and of fewer; two fused layers with a plain one between."""
    x, _, y = data()
    layers = [Flatten(), Dense(24, "relu"), Dropout(0.3), Dense(CLASSES, "softmax")]
    model = compiled(layers, kernels, Adam(0.01, global_clipnorm=0.5), fused=True)
    model.train_on_batch(x[:3], y[:3])
    return fit(model, x, y, batch_size=40, epochs=2, class_weight={1: 2.0})


def mixed(kernels, fit):
    """Shards whose products multiply bfloat16, on the matrix unit if there is one."""
    x, _, y = data()
    layers = [Flatten(), Dense(24, "relu"), Dense(CLASSES, "softmax")]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "mixed_bfloat16 is no faster")
        model = compiled(layers, kernels, "adam", fused=True, dtype="mixed_bfloat16")
    return fit(model, x, y, batch_size=40, epochs=2)


def fused_convolution(kernels, fit):
    """Shards that meet in the middle of a fused step: batch normalisation. The last batches are short."""
    x, labels, _ = data()
    loss = SparseCategoricalCrossentropy(ignore_class=1)
    model = compiled(normalized(), kernels, Muon(0.01), loss, fused=True)
    model.train_on_batch(x[:3], labels[:3])
    return fit(model, x, labels, batch_size=36, epochs=2)


def divided(kernels, fit):
    """The optimizer's memory, divided among processes within an epoch, is whole whenever somebody looks."""
    x, _, y = data()
    slots, found = [], []

    def look(*_):
        slots.append([slot.tobytes() for p in model.parameters for slot in p.slots.values()])

    def broken():
        yield x[:40], y[:40]
        raise OSError("the disk is gone")

    def interrupted():
        yield x[:40], y[:40]
        if processes.group().first:
            signal.raise_signal(signal.SIGINT)
        yield x[40:], y[40:]

    for event in ("on_epoch_end", "on_train_batch_end"):  # the second: nothing is divided
        layers = [Flatten(), Dense(24, "relu"), Dense(9, use_bias=False), Dense(CLASSES, "softmax")]
        model = compiled(layers, kernels, AdamW(0.01, weight_decay=0.1), fused=True)
        watcher = npnet.callbacks.LambdaCallback(**{event: look})
        model.fit(x, y, batch_size=40, epochs=2, verbose=0, callbacks=[watcher])
        model.train_on_batch(x[:3], y[:3])
        try:
            model.fit(interrupted(), steps_per_epoch=3, verbose=0)
        except KeyboardInterrupt:
            look()
        try:
            model.fit(broken(), steps_per_epoch=2, verbose=0)
        except OSError:
            _unreadable(model)
        model.optimizer.beta_2 = 0.9  # another plan goes on with the same memory
        digests = fit(model, x, y, batch_size=40, epochs=1)
        look()
        found.append([slots[-3], slots[-2], slots[-1]])
    assert found[0] == found[1]
    return digests | {"slots": hashlib.sha256(b"".join(slots[-1])).hexdigest()}


def _unreadable(model):
    """Check that nobody gets an optimizer's memory of which this process has a part."""
    try:
        model.save(Path("nowhere") / "else.safetensors")
    except RuntimeError as error:
        assert "divide it among them" in str(error)
        assert processes.group().size > 1
    except FileNotFoundError:
        assert processes.group().size == 1


def normalized():
    return [
        Conv2D(6, 3, use_bias=False), BatchNormalization(), Activation("gelu"), Flatten(), Dropout(0.3),
        Dense(9), BatchNormalization(scale=False), Activation("relu"), Dense(CLASSES, "softmax"),
    ]  # fmt: skip


class Keeping(Layer):
    """y = x W with noise, of somebody who writes into what the layer holds, again and again."""

    def __init__(self, units, noise=0.01, **options):
        super().__init__(**options)
        self.units, self.noise, self.remembered = units, noise, {}

    def compute_output_shape(self, input_shape):
        return (self.units,)

    def build(self, input_shape, rng, dtype):
        self.w = self.add_parameter("w", (*input_shape, self.units), "glorot_uniform", rng, dtype)
        self.draws = rng
        self.y, self.dx = np.empty((N, self.units), dtype), np.empty((N, *input_shape), dtype)
        self.w.grad = np.empty_like(self.w.value)

    def forward(self, x, training=False):
        if training:
            x = x + self.noise * self.draws.standard_normal(x.shape).astype(x.dtype)
        self.remembered["x"] = x
        return np.matmul(x, self.w.value, out=self.y[: len(x)])

    def backward(self, dy):
        np.matmul(self.remembered["x"].T, dy, out=self.w.grad)
        return np.matmul(dy, self.w.value.T, out=self.dx[: len(dy)])


class KeepingLoss(Loss):
    """The mean squared error, which keeps a difference in a dict."""

    def __init__(self, **options):
        super().__init__(**options)
        self.remembered = {}

    def values(self, y_true, y_pred):
        self.remembered["difference"] = y_pred - y_true
        return np.square(self.remembered["difference"]).mean(axis=-1)

    def gradient(self, y_true, y_pred):
        return 2 * self.remembered["difference"] / y_pred.shape[-1]


def keeping(kernels, fit, fused=False):
    x, _, y = data()
    layers = [Flatten(), Dense(7, "tanh"), Keeping(6), Dense(CLASSES)]
    model = compiled(layers, kernels, SGD(0.1), KeepingLoss(), fused)
    return fit(model, x, y, batch_size=22, epochs=2)


def fused_keeping(kernels, fit):
    return keeping(kernels, fit, fused=True)


CASES = [clipping, convolution, muon, ignored, dataset, single_steps, keeping]
FUSED = [fused, divided, mixed, fused_convolution, fused_keeping]
SHARDS = 4
MOST_FUSED = 3  # processes that take fused steps


def fit(model, x, y=None, **options):
    """Train and return digests of weights, history and predictions."""
    history = model.fit(x, y, verbose=0, **options)
    everything = data()[0]
    found = {
        "weights": b"".join(weight.tobytes() for weight in model.get_weights()),
        "history": repr(history.history).encode(),
        "predictions": model.predict(everything, verbose=0).tobytes(),
    }
    return {name: hashlib.sha256(value).hexdigest() for name, value in found.items()}


def results(folder):
    """Return what comes of the networks on the processes of this group; files go into the folder."""
    group = processes.group()
    folder.mkdir(exist_ok=True)
    found = {"numpy": {case.__name__: case("numpy", fit) for case in CASES}}
    found["numpy"]["restored"] = restored("numpy", fit, folder)
    seed = npnet.Sequential([Dense(2)]).seed
    assert len(set(group.gather_values(seed))) == 1
    if group.size == 2 and find_spec("sklearn"):
        estimated()
    if find_spec("numba") and group.size <= MOST_FUSED:
        found["numba"] = {case.__name__: case("numba", fit) for case in FUSED}
    if group.first:
        found["files"] = sorted(path.name for path in folder.iterdir())
    return found


def main(folder):
    warnings.simplefilter("ignore")
    everybody = processes.join()
    sizes = range(everybody.size, 1, -1)
    groups = {size: everybody.communicator.Split(everybody.rank < size) for size in sizes}
    found = {}
    for size in sizes:
        if everybody.rank < size:
            processes._world = processes.Processes(groups[size])
            distribution.set_distribution(distribution.DataParallel(SHARDS))
            found[size] = results(Path(folder, str(size)))
    written = Path(folder, "found.json")
    if everybody.first:
        written.write_text(json.dumps(found))
    while not written.exists():  # asking MPI whether the others have ended would take their processors
        time.sleep(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
