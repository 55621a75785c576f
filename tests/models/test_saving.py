"""Saving: what comes back is what was there; what is damaged is refused; what was there stays whole."""

import json
import os
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from effort import times

from npnet import Sequential, losses, metrics
from npnet.layers import (
    ELU,
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    Input,
    Layer,
    LeakyReLU,
    Normalization,
    ReLU,
    Rescaling,
    Softmax,
)
from npnet.models import load_model, saving
from npnet.optimizers import SGD, Adagrad, Adam, AdamW, Muon, RMSprop
from npnet.schedules import CosineDecay, ExponentialDecay, OneCycle, PiecewiseConstantDecay

X = np.random.default_rng(0).normal(size=(24, 6))
Y = np.eye(3)[np.arange(24) % 3]


def model(optimizer="adam", seed=1, dtype="float32", **options):
    net = Sequential(
        [Dense(5, "relu", input_shape=(6,)), Dropout(0.3), BatchNormalization(), Dense(3, "softmax")],
        name="net",
        seed=seed,
        dtype=dtype,
    )
    settings = {"loss": "categorical_crossentropy", "metrics": ["accuracy"], "kernels": "numpy"}
    net.compile(optimizer, **{**settings, **options})
    return net


def bits(net):
    return {name: p.value.tobytes() for name, p in saving.named_parameters(net).items()}


def slots(net):
    return {name: array.tobytes() for name, array in saving.slots_of(net).items()}


@pytest.fixture
def saved(tmp_path):
    """A trained model and its file."""
    net = model()
    net.fit(X, Y, verbose=0)
    path = tmp_path / "model.safetensors"
    net.save(path)
    return net, path


# --- round trips


ALL_LAYERS = [
    Input((2, 3)),
    Rescaling(0.5, -1.0),
    Flatten(name="flat"),
    Dense(7, LeakyReLU(0.05), kernel_initializer="he_normal", kernel_regularizer="l2", bias_regularizer="l1"),
    BatchNormalization(momentum=0.5, epsilon=1e-2, center=False),
    BatchNormalization(scale=False),
    ReLU(max_value=6.0, negative_slope=0.1, threshold=0.2),
    LeakyReLU(0.1),
    ELU(0.7),
    Dropout(0.25, seed=4),
    Dense(4, use_bias=False, trainable=False),
    *(
        Activation(name)
        for name in (
            "linear", "relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus", "gelu", "silu",
            "log_softmax",
        )
    ),
    Softmax(),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_layer_with_its_options_comes_back(tmp_path, dtype):
    net = Sequential([type(layer)(**layer.get_config()) for layer in ALL_LAYERS[1:]], dtype=dtype, seed=5)
    net.build((None, 2, 3))
    net.set_weights([np.random.default_rng(1).uniform(0.1, 1, w.shape) for w in net.get_weights()])
    net.save(tmp_path / "m")
    loaded = load_model(tmp_path / "m")
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in net.layers]
    assert [layer.get_config() for layer in loaded.layers] == [layer.get_config() for layer in net.layers]
    assert (loaded.name, loaded.seed, loaded.dtype, loaded.input_shape) == ("sequential", 5, dtype, (2, 3))
    assert bits(loaded) == bits(net)
    x = np.random.default_rng(2).normal(size=(5, 2, 3))
    assert loaded.predict(x, verbose=0).tobytes() == net.predict(x, verbose=0).tobytes()
    assert loaded(x, training=True).tobytes() == net(x, training=True).tobytes(), (
        "dropout goes on in its stream"
    )
    assert not loaded.compiled


OPTIMIZERS = {
    "sgd": lambda: SGD(0.1),
    "momentum": lambda: SGD(0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True, clipnorm=0.5),
    "rmsprop": lambda: RMSprop(),
    "rmsprop centered": lambda: RMSprop(0.01, rho=0.8, momentum=0.5, centered=True, epsilon_inside=False),
    "adagrad": lambda: Adagrad(0.05, initial_accumulator_value=0.2),
    "adam": lambda: Adam(0.01, beta_1=0.8, beta_2=0.95, epsilon=1e-6),
    "amsgrad": lambda: Adam(amsgrad=True, clipvalue=0.1),
    "adamw": lambda: AdamW(global_clipnorm=0.7),
    "muon": lambda: Muon(0.01, momentum=0.8, ns_steps=3, weight_decay=0.1, adam_weight_decay=0.0),
    "exponential": lambda: SGD(ExponentialDecay(0.1, 2, 0.5, staircase=True)),
    "steps": lambda: SGD(PiecewiseConstantDecay([2, 5], [0.1, 0.05, 0.01])),
    "cosine": lambda: Adam(CosineDecay(0.0, 10, alpha=0.1, warmup_target=0.1, warmup_steps=3)),
    "one cycle": lambda: SGD(OneCycle(0.1, 12), momentum=0.5),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_that_was_saved_and_loaded_is_the_unbroken_run(name, tmp_path):
    whole, first = model(OPTIMIZERS[name]()), model(OPTIMIZERS[name]())
    history = whole.fit(X, Y, epochs=3, batch_size=7, verbose=0).history
    first.fit(X, Y, epochs=1, batch_size=7, verbose=0)
    first.save(tmp_path / "m")
    loaded = load_model(tmp_path / "m")
    assert loaded.optimizer.get_config() == first.optimizer.get_config()
    rest = loaded.fit(X, Y, epochs=3, initial_epoch=1, batch_size=7, verbose=0).history
    assert bits(loaded) == bits(whole)
    assert slots(loaded) == slots(whole)
    assert loaded.optimizer.iterations == whole.optimizer.iterations == 12
    assert {key: values[1:] for key, values in history.items()} == rest


def test_resuming_goes_on_with_the_same_bits_after_any_step(kernels, tmp_path):
    whole = model(kernels=kernels)
    for step in range(6):
        whole.train_on_batch(X[step::6], Y[step::6])
    for k in range(6):
        net = model(kernels=kernels)
        for step in range(6):
            if step == k:
                net.save(tmp_path / "m")
                net = load_model(tmp_path / "m")
            net.train_on_batch(X[step::6], Y[step::6])
        assert bits(net) == bits(whole)


def test_saving_does_not_disturb_training(tmp_path):
    quiet, saving_each_step = model(), model()
    for step in range(4):
        for net in (quiet, saving_each_step):
            net.train_on_batch(X[step::4], Y[step::4])
        saving_each_step.save(tmp_path / "m")
        saving_each_step.save_weights(tmp_path / "w")
    assert bits(quiet) == bits(saving_each_step)


def test_how_it_was_compiled_comes_back(tmp_path):
    net = model(
        loss=losses.CategoricalCrossentropy(label_smoothing=0.1, reduction="sum"),
        metrics=["acc", metrics.TopKCategoricalAccuracy(2, name="top2")],
        weighted_metrics=["mse"],
        fused=False,
    )
    net.fit(X, Y, verbose=0)
    net.save(tmp_path / "m")
    loaded = load_model(tmp_path / "m")
    assert loaded.loss.get_config() == net.loss.get_config()
    assert loaded.kernels is net.kernels
    assert loaded.fused is False
    weight = np.linspace(0, 1, 24)
    named = [n.evaluate(X, Y, sample_weight=weight, verbose=0, return_dict=True) for n in (net, loaded)]
    assert set(named[0]) == {"loss", "acc", "top2", "mse"}
    assert named[0] == named[1]
    plain = load_model(tmp_path / "m", compile=False)
    assert not plain.compiled
    with pytest.raises(RuntimeError, match="needs a compiled model"):
        plain.evaluate(X, Y)


def test_a_changed_learning_rate_is_saved(tmp_path):
    net = model()
    net.optimizer.learning_rate = 0.125
    net.save(tmp_path / "m")
    assert load_model(tmp_path / "m").optimizer.learning_rate == 0.125


def test_the_file_has_the_permissions_of_new_files(tmp_path):
    net = model()
    (tmp_path / "plain").write_text("")
    net.save(tmp_path / "m")
    assert (tmp_path / "m").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert sorted(f.name for f in tmp_path.iterdir()) == ["m", "plain"]


def test_the_file_is_arrays_and_plain_json(saved):
    with safetensors.safe_open(saved[1], framework="numpy") as file:
        texts = file.metadata()
        assert {"dense/kernel", "dense/kernel/first_moment", "batch_normalization/moving_mean"} <= set(
            file.keys()
        )
    assert texts["format"] == "npnet 1"
    architecture = json.loads(texts["architecture"])
    assert [layer["class_name"] for layer in architecture["layers"]] == [
        "Dense", "Dropout", "BatchNormalization", "Dense",
    ]  # fmt: skip


# --- weights


def test_weights_go_by_name_not_by_place(tmp_path):
    one = Sequential([Dense(4, name="a", input_shape=(6,)), Dense(6, name="b"), Dense(4, name="c")], seed=1)
    other = Sequential([Dense(4, name="c", input_shape=(6,)), Dense(6, name="b"), Dense(4, name="a")], seed=2)
    one.save_weights(tmp_path / "w")
    other.load_weights(tmp_path / "w")
    for a, b in zip(one.layers, reversed(other.layers), strict=True):
        for u, v in zip(a.get_weights(), b.get_weights(), strict=True):
            np.testing.assert_array_equal(u, v)


def test_weights_of_a_whole_model_file_load_too_and_cast(saved):
    net, path = saved
    other = model(seed=9, dtype="float64")
    other.load_weights(path)
    for a, b in zip(net.get_weights(), other.get_weights(), strict=True):
        assert b.dtype == np.float64
        np.testing.assert_array_equal(a, b)
    assert other.optimizer.iterations == 0


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [Dense(4, name="a", input_shape=(6,)), Dense(3, name="b")],
            r"b/kernel of shape \(4, 3\) has shape \(4, 2\)",
        ),
        (
            [Dense(4, name="a", input_shape=(6,)), Dense(2, name="z")],
            r"z/kernel of shape \(4, 2\) is not in it",
        ),
        ([Dense(4, name="a", input_shape=(6,))], "it holds b/bias, which the model has not"),
    ],
)
def test_weights_that_do_not_fit_change_nothing_unless_asked(layers, message, tmp_path):
    source = Sequential([Dense(4, name="a", input_shape=(6,)), Dense(2, name="b")], seed=1)
    source.save_weights(tmp_path / "w")
    net = Sequential(layers, seed=2)
    before = bits(net)
    with pytest.raises(ValueError, match=f"does not fit the model: .*{message}"):
        net.load_weights(tmp_path / "w")
    assert bits(net) == before
    with pytest.warns(UserWarning, match=message) as caught:
        net.load_weights(tmp_path / "w", skip_mismatch=True)
    assert [warning.filename for warning in caught] == [__file__]
    after = bits(net)
    assert {name for name in after if after[name] == bits(source).get(name)} >= {"a/kernel", "a/bias"}


def test_weights_alone_are_no_model(tmp_path):
    net = model()
    net.save_weights(tmp_path / "w")
    with pytest.raises(ValueError, match=r"holds weights only: build the model and call load_weights"):
        load_model(tmp_path / "w")


def test_a_model_that_diverged_does_not_replace_a_good_one(saved):
    net, path = saved
    content = path.read_bytes()
    for value in (np.nan, np.inf):
        net.layers[0].weight.value[2, 3] = value
        for save in (net.save, net.save_weights):
            with pytest.raises(ValueError, match="dense/kernel holds NaN or infinity: training has"):
                save(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_a_file_with_weights_that_are_no_numbers_is_refused(saved, value):
    forge(saved[1], lambda m, t: t.update({"dense/bias": np.full(5, value)}))
    assert "NaN or infinity in dense/bias" in refused(saved[1])


# --- someone's own classes


class Shift(Layer):
    def __init__(self, by, **options):
        super().__init__(**options)
        self.by = by

    def build(self, input_shape, rng, dtype):
        self.scale = self.add_parameter("scale", input_shape, "ones", rng, dtype)

    def forward(self, x, training=False):
        self.x = x
        return x * self.scale.value + x.dtype.type(self.by)

    def backward(self, dy):
        self.scale.grad = (dy * self.x).sum(axis=0)
        return dy * self.scale.value


class Doubled(losses.MeanSquaredError):
    def values(self, y_true, y_pred):
        return 2 * super().values(y_true, y_pred)

    def gradient(self, y_true, y_pred):
        return 2 * super().gradient(y_true, y_pred)


def test_custom_objects(tmp_path):
    net = Sequential([Shift(0.5, input_shape=(6,)), Dense(3)], seed=1)
    net.compile("sgd", Doubled(), kernels="numpy")
    net.fit(X, Y, verbose=0)
    net.save(tmp_path / "m")
    with pytest.raises(ValueError, match=r"Unknown layer 'Shift'"):
        load_model(tmp_path / "m")
    with pytest.raises(ValueError, match=r"Unknown loss 'Doubled'"):
        load_model(tmp_path / "m", custom_objects={"Shift": Shift})
    loaded = load_model(tmp_path / "m", custom_objects={"Shift": Shift, "Doubled": Doubled})
    assert loaded.layers[0].by == 0.5
    assert loaded.evaluate(X, Y, verbose=0) == net.evaluate(X, Y, verbose=0)
    with pytest.raises(ValueError, match="Unknown loss 'Doubled'"):
        losses.get("Doubled")  # nothing was registered for good


# --- files


def test_overwriting(tmp_path):
    net, path = model(), tmp_path / "m"
    net.save(path)
    content = path.read_bytes()
    for save in (net.save, net.save_weights):
        with pytest.raises(FileExistsError, match="give another name or overwrite=True"):
            save(path, overwrite=False)
    assert path.read_bytes() == content
    net.train_on_batch(X, Y)
    net.save(str(path))
    assert path.read_bytes() != content
    net.save(tmp_path / "new", overwrite=False)


def test_folders_and_missing_files(tmp_path):
    net = model()
    with pytest.raises(IsADirectoryError, match="is a folder; give the name of a file"):
        net.save(tmp_path)
    with pytest.raises(OSError, match="missing"):
        net.save(tmp_path / "missing" / "m")
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(FileNotFoundError, match="There is no file"):
            load_model(path)
        with pytest.raises(FileNotFoundError, match="There is no file"):
            net.load_weights(path)
    assert not list(tmp_path.iterdir())


def refused(path):
    """Load the file, which must not work, and return what was said."""
    net = model()
    before = bits(net)
    with pytest.raises(ValueError) as error:
        load_model(path)
    with pytest.raises(ValueError, match=r"."):
        net.load_weights(path)
    assert bits(net) == before
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"\0" * 8, b"\xff" * 64, b"hello world, this is text", b"PK\x03\x04" * 9]
)
def test_what_is_no_model_file(content, tmp_path):
    (tmp_path / "m").write_bytes(content)
    assert "is no safetensors file or is damaged" in refused(tmp_path / "m")


def test_other_peoples_safetensors(tmp_path):
    safetensors.numpy.save_file({"a": np.zeros(3)}, tmp_path / "m")
    assert "is no npnet 1 file (format None)" in refused(tmp_path / "m")
    safetensors.numpy.save_file({"a": np.zeros(3)}, tmp_path / "m", metadata={"format": "npnet 2"})
    assert "(format 'npnet 2')" in refused(tmp_path / "m")
    safetensors.numpy.save_file({"a": np.zeros(3)}, tmp_path / "m", metadata={"format": "npnet 1"})
    assert "digest does not match" in refused(tmp_path / "m")


def test_a_truncated_file_is_refused_wherever_it_is_cut(saved, tmp_path):
    content = saved[1].read_bytes()
    damaged = tmp_path / "damaged"
    places = {*range(0, len(content), 97), 1, 7, 8, 9, len(content) - 1}
    for length in sorted(places):
        damaged.write_bytes(content[:length])
        refused(damaged)
    damaged.write_bytes(content + b"\0")
    refused(damaged)


def test_a_flipped_bit_is_refused_wherever_it_is(saved, tmp_path):
    content = saved[1].read_bytes()
    damaged = tmp_path / "damaged"
    rng = np.random.default_rng(0)
    header = int.from_bytes(content[:8], "little") + 8
    places = [
        *range(8 * 8),
        *rng.integers(64, 8 * header, 150),
        *rng.integers(8 * header, 8 * len(content), 50),
    ]
    for place in places:
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        damaged.write_bytes(changed)
        refused(damaged)


def forge(path, change):
    """Write the file again with its description changed, and with a digest that is right."""
    tensors, metadata = saving.read(path)
    metadata = json.loads(json.dumps(metadata))
    change(metadata, tensors)
    saving.write(path, tensors, metadata, overwrite=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda m, t: m.update(architecture=None),
        lambda m, t: m.update(architecture=[1, 2]),
        lambda m, t: m.update(architecture={}),
        lambda m, t: m["architecture"].update(layers=[]),
        lambda m, t: m["architecture"].update(layers=3),
        lambda m, t: m["architecture"].update(layers=["Dense"]),
        lambda m, t: m["architecture"].update(dtype="object"),
        lambda m, t: m["architecture"].update(seed="1"),
        lambda m, t: m["architecture"].update(input_shape=[7]),
        lambda m, t: m["architecture"].update(input_shape=[-6]),
        lambda m, t: m["architecture"].update(input_shape="6"),
        lambda m, t: m["architecture"]["layers"][0].update(class_name="os.system"),
        lambda m, t: m["architecture"]["layers"][0].update(class_name=["Dense"]),
        lambda m, t: m["architecture"]["layers"][0].update(config=None),
        lambda m, t: m["architecture"]["layers"][0]["config"].update(units=4),
        lambda m, t: m["architecture"]["layers"][0]["config"].update(units=10**12),
        lambda m, t: m["architecture"]["layers"][0]["config"].update(units=-1),
        lambda m, t: m["architecture"]["layers"][0]["config"].update(units="many"),
        lambda m, t: m["architecture"]["layers"][0]["config"].update(nonsense=1),
        lambda m, t: m["architecture"]["layers"][0]["config"].update(activation="system"),
        lambda m, t: m["training"].update(optimizer={"class_name": "Popen", "config": {}}),
        lambda m, t: m["training"].update(loss=None),
        lambda m, t: m["training"].pop("iterations"),
        lambda m, t: m["training"].update(metrics="accuracy"),
        lambda m, t: m.update(training=7),
        lambda m, t: m.update(streams={}),
        lambda m, t: m["streams"]["dropout"].update(bit_generator="MT19937"),
        lambda m, t: t.pop("dense/kernel"),
        lambda m, t: t.update({"dense/kernel/first_moment": np.zeros(3, "f4")}),
        lambda m, t: t.update({"dense/kernel": t["dense/kernel"].T}),
        lambda m, t: t.update({"stranger/kernel": np.zeros(3, "f4")}),
    ],
)
def test_descriptions_of_no_possible_model_are_refused(change, saved):
    forge(saved[1], change)
    with pytest.raises(ValueError, match=r"."):
        load_model(saved[1])


# --- faults while saving


def run(program, *arguments, **options):
    prelude = """
    import os, resource, signal, sys
    import numpy as np
    from npnet import Sequential
    from npnet.layers import Dense
    from npnet.models import load_model
    path = sys.argv[1]
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        **options,
    )


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "m"
    process = run(
        """
        model = Sequential([Dense(40, input_shape=(50,))], seed=1)
        model.save(path)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        model.set_weights([w + 1 for w in model.get_weights()])
        try:
            model.save(path)
        except OSError as error:
            print(type(error).__name__)
        """,
        path,
    )
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "OSError\n", "")
    assert [file.name for file in tmp_path.iterdir()] == ["m"]
    expected = Sequential([Dense(40, input_shape=(50,))], seed=1)
    assert bits(load_model(path)) == bits(expected)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount")
def test_a_disk_of_two_mebibytes_that_is_full(tmp_path):
    """The second file does not fit beside the first, which stays; the message says so in a line."""
    mount = 'mount -t tmpfs -o size=2m none "$0" && exec "$@"'
    mounted = ["unshare", "--mount", "sh", "-c", mount, str(tmp_path)]
    if subprocess.run([*mounted, "true"], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    program = """
        import os, sys
        from npnet import Sequential
        from npnet.layers import Dense
        from npnet.models import load_model
        path = sys.argv[1]
        model = Sequential([Dense(400, input_shape=(800,))], seed=1)
        model.save(path)
        before = load_model(path).get_weights()
        for _ in range(int(sys.argv[2])):
            try:
                model.save(path)
            except OSError as error:
                print(error.strerror)
            assert all((a == b).all() for a, b in zip(load_model(path).get_weights(), before))
            assert os.listdir(os.path.dirname(path)) == ["m"]
    """
    command = [
        *mounted,
        sys.executable,
        "-c",
        textwrap.dedent(program),
        str(tmp_path / "m"),
        str(times(2, 20)),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "No space left on device\n" * times(2, 20)


def test_a_failed_write_removes_what_it_began(tmp_path, monkeypatch):
    net, path = model(), tmp_path / "m"
    net.save(path)
    content = path.read_bytes()

    def fail(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("npnet.internal.files.os.fsync", fail)
    net.train_on_batch(X, Y)
    with pytest.raises(OSError, match="No space left"):
        net.save(path)
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_the_file_reaches_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    order = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        "npnet.internal.files.os.fsync", lambda handle: (order.append("sync"), sync(handle))[1]
    )
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append("rename"), replace(self, to))[1])
    model().save(tmp_path / "m")
    assert order == ["sync", "rename", "sync"], "content, then name, then folder"


def test_no_more_copies_of_the_weights_than_needed(tmp_path):
    """Memory that NumPy and Python ask for: next to nothing to save, to load once what the model keeps."""
    net = Sequential([Input((1000,)), Dense(8000)], seed=1)
    net.compile("rmsprop", "mse", kernels="numpy")
    net.fit(np.zeros((1, 1000)), np.zeros((1, 8000)), verbose=0)
    weights = net.count_params() * 4
    tracemalloc.start()
    try:
        net.save(tmp_path / "m")
        assert tracemalloc.get_traced_memory()[1] < weights / 4
        tracemalloc.reset_peak()
        again = load_model(tmp_path / "m")
        read, drawn = 2 * weights, weights  # with the optimizer's memory; room for what the file replaces
        assert tracemalloc.get_traced_memory()[1] < read + 1.5 * drawn
    finally:
        tracemalloc.stop()
    assert bits(again) == bits(net)


# --- statistics, which are no parameters ------------------------------------------------------------------


def standardising(data, name=None, features=6):
    layer = Normalization(name=name)
    layer.adapt(data)
    net = Sequential([Input((features,)), Sequential([layer, Dense(2)], name="base"), Dense(1)], seed=1)
    net.compile("adam", "mse", kernels="numpy")
    return net


@pytest.mark.parametrize("file", ["weights", "model", "training"])
def test_weights_come_with_the_statistics_they_were_trained_with(tmp_path, file):
    net, other = standardising(5 + 3 * X), standardising(X[:4])
    path = tmp_path / "file.safetensors"
    net.save_weights(path) if file == "weights" else net.save(path)
    other.load_training(path) if file == "training" else other.load_weights(path)
    np.testing.assert_array_equal(other.predict(X, verbose=0), net.predict(X, verbose=0))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            lambda: standardising(X, name="mine"),
            "holds statistics of base/normalization, which is no Normaliz",
        ),
        (lambda: standardising(X[:, :5], features=5), "'normalization' expects 5 means and variances"),
    ],
)
def test_statistics_that_do_not_fit_are_refused_and_nothing_has_changed(tmp_path, net, message):
    path = tmp_path / "file.safetensors"
    standardising(5 + 3 * X).save_weights(path)
    net = net()
    x = X[:, : net.input_shape[0]]
    before = net.predict(x, verbose=0)
    with pytest.raises(ValueError, match=message):
        net.load_weights(path)
    np.testing.assert_array_equal(net.predict(x, verbose=0), before)


def test_statistics_that_do_not_fit_may_be_left_out(tmp_path):
    path, other = tmp_path / "file.safetensors", standardising(5 + 3 * X)
    other.layers[-1].set_weights([np.ones((2, 1)), [3.0]])
    other.save_weights(path)
    net = standardising(X, name="mine")
    mean = net.leaves()["base/mine"].mean
    with pytest.warns(UserWarning, match="holds statistics of base/normalization"):
        net.load_weights(path, skip_mismatch=True)
    assert net.leaves()["base/mine"].mean is mean
    np.testing.assert_array_equal(net.get_weights()[-1], [3.0])


def test_a_weights_file_of_before_statistics_were_kept(tmp_path):
    path = tmp_path / "file.safetensors"
    net, other = standardising(5 + 3 * X), standardising(X)
    saving.write(path, saving.weights_of(net), {}, True)
    other.load_weights(path)
    np.testing.assert_array_equal(other.get_weights()[0], net.get_weights()[0])


def test_custom_objects_that_are_no_table_are_not_the_files_fault(tmp_path):
    standardising(X).save(tmp_path / "model.safetensors")
    with pytest.raises(TypeError, match=r"custom_objects must be a dict \{name: class\}, got list"):
        load_model(tmp_path / "model.safetensors", custom_objects=[Dense])
