"""Model files from strangers: an error that says what is wrong, or a model; no code, no other files."""

import contextlib
import copy
import gzip
import io
import json
import os
import pickle
import random
import subprocess
import sys
import textwrap
import tracemalloc
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from effort import times

from npnet import Sequential
from npnet.layers import BatchNormalization, Dense, Dropout
from npnet.models import load_model, saving
from npnet.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    Muon,
    Nadam,
    RMSprop,
)
from npnet.optimizers.optimizer import SQUARES
from npnet.schedules import ExponentialDecay


def model():
    net = Sequential(
        [
            Dense(5, "relu", kernel_regularizer="l2", input_shape=(6,)),
            Dropout(0.3),
            BatchNormalization(),
            Dense(3),
        ],
        seed=1,
    )
    net.compile(Adam(ExponentialDecay(0.1, 3, 0.5)), "mse", metrics=["mae"], kernels="numpy")
    return net


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The bytes of a trained model's file."""
    net, path = model(), tmp_path_factory.mktemp("model") / "m"
    net.fit(np.ones((8, 6)), np.ones((8, 3)), verbose=0)
    net.save(path)
    return path.read_bytes()


# --- files made by hand ------------------------------------------------------------------------------------


class Trap:
    """Unpickled, it leaves a file."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def file(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {
        "__metadata__": {"format": "npnet 1"},
        "a": {"dtype": dtype, "shape": shape, "data_offsets": offsets},
    }


def zipped(name, data):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return stream.getvalue()


def many(count):
    header = {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(count)}
    return file({"__metadata__": {"format": "npnet 1"}, **header})


def described(architecture, **texts):
    """A file whose digest is right, with an architecture and no weights."""
    texts |= {"format": "npnet 1", "architecture": architecture}
    texts["digest"] = saving.digest({}, texts)
    return safetensors.numpy.save({}, metadata=texts)


def stack(layer, count, input_shape=(2,), **texts):
    name = {"name": "n", "dtype": "float32", "seed": 0, "input_shape": input_shape}
    return described(json.dumps({**name, "layers": [layer] * count}), **texts)


def of(class_name, **config):
    return {"class_name": class_name, "config": config}


FLAT = of("Flatten")
PICTURE, BILLION = [8, 8, 1], 10**9
GROWING = [
    of("UpSampling2D", size=BILLION),
    of("ZeroPadding2D", padding=BILLION),
    of("Conv2D", filters=1, kernel_size=3, dilation_rate=BILLION, padding="same"),
    of("Conv2D", filters=1, kernel_size=BILLION, padding="same"),
    of("Conv2DTranspose", filters=1, kernel_size=3, strides=BILLION),
    of("Conv2DTranspose", filters=1, kernel_size=3, dilation_rate=BILLION, padding="same"),
    of("DepthwiseConv2D", kernel_size=3, depth_multiplier=BILLION),
    of("Resizing", height=10**6, width=10**6),
    of("Resizing", height=2**28, width=1),
    of("CenterCrop", height=10**6, width=10**6),
    of("RandomCrop", height=10**6, width=10**6),
]


def hostile():
    """Contents by what is wrong with them."""
    return {
        "nothing": b"",
        "a pickle": pickle.dumps(Trap()),
        "a pickle in a zip, as torch.save writes it": zipped("archive/data.pkl", pickle.dumps(Trap())),
        "a pickle in an npz": zipped("a", b"\x93NUMPY\x01\0v\0{'descr': '|O', 'shape': (1,)}"),
        "a bomb": gzip.compress(bytes(50 << 20)),
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "a header of 2^64 bytes": b"\xff" * 8 + b"{}",
        "a header of 2^40 bytes": (1 << 40).to_bytes(8, "little") + b"{}",
        "a header longer than the file": (100).to_bytes(8, "little") + b"{}",
        "a header of spaces": file(b" " * 1000),
        "a header that is no text": file(b"\xff\xfe{}"),
        "a list as a header": file([1, 2]),
        "a header nested deep": file(b"[" * 200_000),
        "an object nested deep": file(b'{"a":' * 200_000),
        "a tensor beyond the end": file(tensor(offsets=(0, 8))),
        "a tensor before the beginning": file(tensor(offsets=(-8, 0)), bytes(8)),
        "a tensor that ends before it begins": file(tensor(offsets=(8, 0)), bytes(8)),
        "another size than the shape's": file(tensor(shape=(3,)), bytes(8)),
        "a shape that overflows": file(tensor(shape=(2**62, 2**62, 4)), bytes(8)),
        "a shape of 2^40": file(tensor(shape=(2**40,), offsets=(0, 2**42)), bytes(8)),
        "a negative shape": file(tensor(shape=(-2,)), bytes(8)),
        "objects": file(tensor("O"), bytes(8)),
        "brain floats": file(tensor("BF16", (4,)), bytes(8)),
        "complex numbers": file(tensor("C64", (1,)), bytes(8)),
        "integers": file(tensor("I64", (1,)), bytes(8)),
        "more than the header says": file(tensor(), bytes(16)),
        "two tensors in one place": file({**tensor(), "b": tensor()["a"]}, bytes(8)),
        "metadata that are no text": file({"__metadata__": {"format": 1}}),
        "metadata that are a tensor": file({"__metadata__": tensor()["a"]}, bytes(8)),
        "no metadata": file({"a": tensor()["a"]}, bytes(8)),
        "100,000 tensors": many(100_000),
        "no digest": file(tensor(), bytes(8)),
        "an architecture that is no JSON": described("{"),
        "an architecture nested deep": described("[" * 200_000),
        "an architecture of numbers": described("1e999"),
        "a layer with a layer with a layer": described(
            '{"layers": [' + '{"class_name": "Activation", "config": {"activation": ' * 20_000
        ),
        "100,000 layers": stack(FLAT, 100_000),
        "a layer of 10^15 units": stack(of("Dense", units=10**15), 1),
        "a layer that is a class of Python": stack(of("os.system", command="true"), 1),
        "samples of 10^10 numbers, standardised": stack(of("Normalization", mean=0, variance=1), 1, [10**10]),
        "pictures of 10^10 pixels, mirrored": stack(of("RandomFlip"), 1, [10**5, 10**5, 1]),
        "pictures of 10^10 pixels, moved": stack(
            of("RandomTranslation", height_factor=1, width_factor=1), 1, [10**10, 1, 1]
        ),
        "samples of 10^10 numbers, dropped": stack(of("Dropout", rate=0.5), 1, [10**10]),
        "samples of 10^10 numbers, normalised": stack(of("BatchNormalization"), 1, [10**10]),
        "samples of more numbers than 64 bits count": stack(FLAT, 1, [2**32, 2**32]),
        "an embedding of 10^12 numbers": stack(of("Embedding", input_dim=10**12, output_dim=1), 1),
        "an embedding in 10^12 numbers": stack(of("Embedding", input_dim=2, output_dim=10**12), 1),
        "10^12 categories": stack(of("CategoryEncoding", num_tokens=10**12), 1),
        **{f"a picture that grows, {i}": stack(layer, 1, PICTURE) for i, layer in enumerate(GROWING)},
        "a sequence that grows": stack(
            of("Conv1D", filters=1, kernel_size=3, dilation_rate=BILLION, padding="causal"), 1, [8, 1]
        ),
        "10^12 thresholds": stack(
            FLAT, 1, streams="{}", training=json.dumps(
                {"optimizer": "sgd", "loss": "mse", "metrics": [of("AUC", num_thresholds=10**12)],
                 "weighted_metrics": [], "kernels": "numpy", "fused": False}
            ),
        ),
    }  # fmt: skip


def test_hostile_files_take_neither_memory_nor_time_and_leave_nothing(tmp_path):
    """All of them in one process that may have 3 GiB, in a minute, each with an error of ours."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name, data in hostile().items():
        (folder / name).write_bytes(data)
    code = """
        import pathlib, resource
        from npnet import Sequential
        from npnet.layers import Dense
        from npnet.models import load_model
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        model = Sequential([Dense(3, input_shape=(6,))])
        for path in pathlib.Path("../files").iterdir():
            for load in (load_model, model.load_weights):
                try:
                    load(path)
                except ValueError as error:
                    assert str(path) in str(error), (path, error)
                else:
                    raise SystemExit(f"{path} was taken")
    """
    empty = tmp_path / "empty"
    empty.mkdir()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert not list(empty.iterdir()), "no trap was sprung"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("layer", "input_shape"),
    [
        (of("Normalization", mean=0, variance=1), [2**30]),
        (of("RandomFlip"), [2**15, 2**15, 1]),
        (of("RandomTranslation", height_factor=1, width_factor=1), [2**25, 2**5, 1]),
        (of("Dropout", rate=0.5), [2**30]),
    ],
)
def test_what_a_file_may_describe_takes_memory_only_when_it_is_used(layer, input_shape, tmp_path):
    (tmp_path / "m").write_bytes(stack(layer, 20, input_shape))
    tracemalloc.start()
    try:
        with contextlib.suppress(ValueError):  # the streams of random layers are not in these files
            load_model(tmp_path / "m")
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


SLOT = r"dense/kernel/second_moment"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, SLOT + r" must be finite, got nan at index \(0, 0\)\. Training had diverged"),
        (np.inf, SLOT + " must be finite, got inf"),
        (1e300, SLOT + r" must be finite, got 1e\+300"),
        (-1.0, SLOT + r" sums up squares and cannot hold -1\.0"),
    ],
)
def test_numbers_no_optimizer_remembers_are_refused_by_name(value, message, content, tmp_path):
    path = tmp_path / "m"
    path.write_bytes(content)
    tensors, metadata = saving.read(path)
    tensors["dense/kernel/second_moment"] = tensors["dense/kernel/second_moment"].astype(np.float64)
    tensors["dense/kernel/second_moment"][0, 0] = value
    saving.write(path, tensors, metadata, overwrite=True)
    with pytest.raises(ValueError, match=message):
        load_model(path)
    load_model(path, compile=False)


def test_every_memory_whose_root_is_taken_is_known():
    roots = set()
    for optimizer in (
        Adagrad(),
        Adam(amsgrad=True),
        AdamW(),
        RMSprop(),
        RMSprop(centered=True),
        Muon(),
        Nadam(),
        Adamax(),
        Adadelta(),
        Lion(),
        SGD(momentum=0.5),
    ):
        roots |= {
            name
            for name in optimizer.slot_names
            if name not in ("momentum", "velocity", "first_moment", "mean")
        }
    assert roots == SQUARES


@pytest.mark.parametrize("iterations", [-1, 1.5, 2**60, 10**400, True])
def test_step_counts_that_cannot_be(iterations, content, tmp_path):
    path = tmp_path / "m"
    path.write_bytes(content)
    tensors, metadata = saving.read(path)
    metadata["training"]["iterations"] = iterations
    saving.write(path, tensors, metadata, overwrite=True)
    with pytest.raises(ValueError, match="iterations must be"):
        load_model(path)


def test_the_traps_are_real(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Trap()))
    assert (tmp_path / "executed").exists()


# --- valid files, edited at random -------------------------------------------------------------------------


def test_edited_bytes_are_refused(content, tmp_path):
    choose, path = random.Random(0), tmp_path / "m"
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(times(300, 10_000)):
        damaged = bytearray(content)
        for _ in range(choose.choice([1, 1, 3, 20])):
            at = choose.choice([choose.randrange(header), choose.randrange(len(damaged))])
            edit = choose.randrange(3)
            if edit == 0:
                damaged[at % len(damaged)] ^= choose.randrange(1, 256)
            elif edit == 1:
                del damaged[at : at + choose.randrange(1, 9)]
            else:
                damaged[at:at] = choose.randbytes(choose.randrange(1, 9))
        if damaged == content:
            continue
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"."):
            load_model(path)


ODD = [
    None, True, -1, 0, 3, 2**31, 2**64, 10**40, -(10**400), 0.5, -2.5, 1e308, float("nan"), float("inf"), "",
    "x", "relu", "a/b", "é" * 1000, [], [[]], {}, {"class_name": "Dense"},
    {"class_name": "Adam", "config": {}},
    {"class_name": "Dense", "config": {"units": 3}}, {"class_name": "ReLU", "config": {"max_value": 6}},
]  # fmt: skip


def places(value, path=()):
    """Every place in a description."""
    yield path
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def edit(description, choose):
    """Change, delete, repeat or move something somewhere."""
    *way, key = choose.choice([path for path in places(description) if path])
    parent = description
    for step in way:
        parent = parent[step]
    action = choose.randrange(4)
    if action == 0:
        del parent[key]
    elif action == 1 and isinstance(parent, list):
        parent.insert(choose.randrange(len(parent) + 1), copy.deepcopy(parent[key]))
    elif action == 2 and isinstance(parent, dict):
        parent[choose.choice(["class_name", "config", "x", *parent])] = parent.pop(key)
    else:
        parent[key] = copy.deepcopy(choose.choice(ODD))


@pytest.mark.filterwarnings("ignore")
def test_edited_descriptions_are_refused_or_are_models(content, tmp_path):
    """With a digest that is right: load_model raises ValueError, or the model it returns runs."""
    path = tmp_path / "m"
    path.write_bytes(content)
    tensors, metadata = saving.read(path)
    choose, outcomes = random.Random(0), {"refused": 0, "taken": 0}
    for _ in range(times(400, 10_000)):
        description = json.loads(json.dumps(metadata))
        for _ in range(choose.choice([1, 1, 1, 2, 5])):
            edit(description, choose)
        texts = {key: json.dumps(value) for key, value in description.items()} | {"format": saving.FORMAT}
        texts["digest"] = saving.digest(tensors, texts)
        path.write_bytes(safetensors.numpy.save(tensors, metadata=texts))
        try:
            net = load_model(path)
        except ValueError:
            outcomes["refused"] += 1
        else:
            net.predict(np.zeros((2, *net.input_shape)), verbose=0)
            outcomes["taken"] += 1
    assert min(outcomes.values()) > 10, outcomes


@pytest.mark.parametrize("name", ["MaxPooling2D", "AveragePooling2D"])
def test_a_window_of_a_billion_pixels_is_as_large_as_the_picture(name, tmp_path):
    layer = of(name, pool_size=BILLION, padding="same")
    (tmp_path / "m").write_bytes(stack(layer, 1, PICTURE, streams="{}"))
    x = np.arange(128.0, dtype=np.float32).reshape(2, *PICTURE)
    expected = x.max((1, 2), keepdims=True) if name.startswith("Max") else x.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(load_model(tmp_path / "m").predict(x, verbose=0), expected)
