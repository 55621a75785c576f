"""MNIST, Fashion-MNIST, CIFAR-100 and California housing: found, fetched and read, in small."""

import dataclasses
import gzip
import hashlib
import io
import pickle
import warnings
import zipfile

import loopback
import miniature
import numpy as np
import pytest

from npnet.datasets import (
    CorruptDatasetError,
    DatasetUnavailableError,
    california_housing,
    cifar10_files,
    cifar100,
    digits,
    fashion_mnist,
    idx,
    mnist,
    npz,
    published,
)

RNG = np.random.default_rng(5)
SMALL = {"x_train": (30, 28, 28), "y_train": (30,), "x_test": (20, 28, 28), "y_test": (20,)}
DIGITS = {
    name: RNG.integers(0, 10 if name[0] == "y" else 256, shape, np.uint8) for name, shape in SMALL.items()
}
HOUSES = {"x": RNG.normal(size=(50, 8)), "y": RNG.uniform(1e4, 5e5, 50)}
RECORDS = {"train": 30, "test": 20}
OBJECTS = {
    part: {
        "data": RNG.integers(0, 256, (n, 3072), np.uint8),
        "fine_labels": RNG.integers(0, 100, n).tolist(),
        "coarse_labels": RNG.integers(0, 20, n).tolist(),
    }
    for part, n in RECORDS.items()
}


def packed(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


def zipped(arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def pickles(protocol=2, key=str.encode):
    return {
        f"cifar-100-python/{part}": pickle.dumps({key(k): v for k, v in batch.items()}, protocol)
        for part, batch in OBJECTS.items()
    }


def records():
    return {
        f"cifar-100-binary/{part}.bin": np.hstack(
            [
                np.array([batch["coarse_labels"], batch["fine_labels"]], np.uint8).T,
                batch["data"],
            ]
        ).tobytes()
        for part, batch in OBJECTS.items()
    }


IDX = {file: gzip.compress(packed(DIGITS[name])) for name, file in digits.FILES.items()}
FILES = {
    "mnist": {"mnist.npz": zipped(DIGITS), **IDX},
    "fashion_mnist": IDX,
    "cifar100": {
        "cifar-100-python.tar.gz": miniature.archive(pickles()),
        **{name.rpartition("/")[2]: content for name, content in pickles().items()},
    },
    "california_housing": {"california_housing.npz": zipped(HOUSES)},
}
MODULES = {
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar100": cifar100,
    "california_housing": california_housing,
}


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """Small data sets, pinned by the checksums of small files, and no data anywhere."""
    for name in ("NPNET_DATA", "NPNET_CACHE", "XDG_CACHE_HOME", "KERAS_HOME", "NPNET_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name, shape in SMALL.items():
        monkeypatch.setitem(digits.SHAPES, name, shape)
    monkeypatch.setitem(california_housing.SHAPES, "x", (50, 8))
    monkeypatch.setitem(california_housing.SHAPES, "y", (50,))
    for part, count in RECORDS.items():
        monkeypatch.setitem(cifar100.RECORDS, part, count)
    shapes = {
        name: (RECORDS[name.rpartition("_")[2]], *shape[1:])
        for name, shape in cifar100.DATASET.shapes.items()
    }
    for name, module in MODULES.items():
        real = module.DATASET

        def pinned(file, contents=FILES[name]):
            content = contents[file.name]
            return dataclasses.replace(
                file,
                size=file.size and len(content),
                sha256=file.sha256 and hashlib.sha256(content).hexdigest(),
                md5=file.md5 and hashlib.md5(content).hexdigest(),
            )

        forms = tuple(
            dataclasses.replace(form, files=tuple(map(pinned, form.files)), servers=form.servers and ("https://nowhere.invalid/",))
            for form in real.forms
        )  # fmt: skip
        changed = {"shapes": shapes} if name == "cifar100" else {}
        monkeypatch.setattr(module, "DATASET", dataclasses.replace(real, forms=forms, **changed))
    return tmp_path


def check(name, got):
    (x_train, y_train), (x_test, y_test) = got
    if name == "california_housing":
        x, y = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
        assert len(x_train) == 40
        order = np.random.RandomState(113).permutation(50)
        assert (x == HOUSES["x"][order]).all() and (y == HOUSES["y"][order]).all()
        return
    if name == "cifar100":
        for x, y, part in ((x_train, y_train, "train"), (x_test, y_test, "test")):
            wanted = OBJECTS[part]["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            np.testing.assert_array_equal(x, wanted, strict=True)
            np.testing.assert_array_equal(
                y, np.array(OBJECTS[part]["fine_labels"], np.uint8)[:, None], strict=True
            )
        return
    for array, key in ((x_train, "x_train"), (y_train, "y_train"), (x_test, "x_test"), (y_test, "y_test")):
        np.testing.assert_array_equal(array, DIGITS[key], strict=True)


def write(folder, files):
    return miniature.write(folder, files)


KERAS = [
    ("mnist", "", ["mnist.npz"]),
    ("fashion_mnist", "fashion-mnist", list(IDX)),
    ("fashion_mnist", "datasets/fashion-mnist", list(IDX)),
    ("cifar100", "cifar-100-python-target/cifar-100-python", ["train", "test"]),
    ("california_housing", "", ["california_housing.npz"]),
]
TORCHVISION = [
    ("mnist", "MNIST/raw", list(IDX)),
    ("fashion_mnist", "FashionMNIST/raw", list(IDX)),
    ("cifar100", "cifar-100-python", ["train", "test"]),
    ("cifar100", "", ["cifar-100-python.tar.gz"]),
]


@pytest.mark.parametrize(("name", "folder", "files"), KERAS)
def test_found_in_the_cache_of_keras(small, name, folder, files):
    write(small / "home/.keras/datasets" / folder, {file: FILES[name][file] for file in files})
    check(name, MODULES[name].load_data())


@pytest.mark.parametrize(("name", "folder", "files"), TORCHVISION)
def test_found_where_torchvision_leaves_it(small, name, folder, files):
    write(small / "here/data" / folder, {file: FILES[name][file] for file in files})
    check(name, MODULES[name].load_data())


@pytest.mark.parametrize("name", MODULES)
def test_fetched_from_a_mirror_and_kept(small, monkeypatch, name):
    first = MODULES[name].DATASET.forms[0].files
    with loopback.running() as server:
        for file in first:
            url = server.add(f"/{name}/{file.name}", loopback.file(FILES[name][file.name]))
        monkeypatch.setenv("NPNET_MIRROR", url.rpartition(f"/{name}/")[0])
        check(name, MODULES[name].load_data())
        assert len(server.requests) == len(first)
    monkeypatch.delenv("NPNET_MIRROR")
    check(name, MODULES[name].load_data())


@pytest.mark.parametrize("name", MODULES)
def test_a_file_that_is_not_the_published_one_is_not_taken_from_others(small, name):
    form = next(form for form in MODULES[name].DATASET.forms if form.keras)
    files = {file.name: FILES[name].get(file.name, b"") + b"\0" for file in form.files}
    write(small / "home/.keras/datasets" / form.keras[0], files)
    with pytest.raises(DatasetUnavailableError) as caught:
        MODULES[name].load_data()
    assert "is not the published file" in str(caught.value)


@pytest.mark.parametrize("name", MODULES)
def test_nothing_to_be_had_is_one_paragraph(name):
    with pytest.raises(DatasetUnavailableError) as caught:
        MODULES[name].load_data()
    text = str(caught.value)
    assert "\n" not in text
    for part in (
        "its name could not be looked up",
        "Keras's cache",
        "NPNET_MIRROR",
        f"npnet train {name} --data",
    ):
        assert part in text


@pytest.mark.parametrize("pack", [True, False])
def test_digits_from_a_path(small, pack):
    files = IDX if pack else {n.removesuffix(".gz"): gzip.decompress(c) for n, c in IDX.items()}
    for module in (mnist, fashion_mnist):
        check("mnist", module.load_data(write(small / "data" / str(pack), files)))
    path = small / "anything.npz"
    path.write_bytes(FILES["mnist"]["mnist.npz"])
    check("mnist", mnist.load_data(path))
    with pytest.raises(FileNotFoundError, match="MNIST: there is no file or folder"):
        mnist.load_data(small / "nothing")
    with pytest.raises(
        FileNotFoundError, match=r"is none of its files and holds none. Expected mnist.npz or"
    ):
        mnist.load_data(small)


@pytest.mark.parametrize(
    "files",
    [pickles(2), pickles(4, str), pickles(5), pickles(5, str), records()],
    ids=["protocol 2", "text keys", "protocol 5", "protocol 5, text", "binary"],
)
def test_cifar100_in_every_form(small, files):
    archive = small / "a.tar.gz"
    archive.write_bytes(miniature.archive(files))
    check("cifar100", cifar100.load_data(path=archive))
    if "cifar-100-python/train" in files:
        check("cifar100", cifar100.load_data(path=write(small / "data", files)))
        check("cifar100", cifar100.load_data(path=small / "data/cifar-100-python"))
    (_, y), _ = cifar100.load_data("coarse", archive)
    assert y[:, 0].tolist() == OBJECTS["train"]["coarse_labels"]
    with pytest.raises(ValueError, match='label_mode must be "fine" or "coarse"'):
        cifar100.load_data("course")


def test_cifar10_pickled_again_with_protocol_5(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10_files, "RECORDS", miniature.RECORDS)
    got = cifar10_files.read(miniature.write(tmp_path, miniature.python(miniature.python_3(5))))
    np.testing.assert_array_equal(got["x_train"], miniature.arrays()["x_train"])


def test_names_and_numbers_of_the_real_ones(monkeypatch):
    monkeypatch.undo()
    assert len(set(cifar100.CLASS_NAMES)) == 100 and list(cifar100.CLASS_NAMES) == sorted(
        cifar100.CLASS_NAMES
    )
    assert len(set(cifar100.COARSE_NAMES)) == 20
    assert len(mnist.CLASS_NAMES) == len(fashion_mnist.CLASS_NAMES) == 10
    assert mnist.DATASET.shapes["x_train"] == (60_000, 28, 28)
    assert cifar100.DATASET.shapes["fine_test"] == (10_000, 1)
    for module in MODULES.values():
        for form in module.DATASET.forms:
            assert form.keras or form.torchvision or form.servers
            for file in form.files:
                assert len(file.sha256 or "") in (0, 64) and len(file.md5 or "") in (0, 32)
                assert file.sha256 or file.md5, "every file is pinned"
                assert file.size or not form.servers, "what is fetched is pinned by its size, too"


def test_housing_is_split_as_asked(small):
    path = small / "california_housing.npz"
    path.write_bytes(FILES["california_housing"]["california_housing.npz"])
    (x, _), (x_test, _) = california_housing.load_data(path=path, test_split=0.5, seed=1)
    assert len(x) == len(x_test) == 25
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    california_housing.load_data(path=path)
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002
    with pytest.raises(ValueError, match='version must be "large" or "small"'):
        california_housing.load_data("tiny", path)


# --- what is something else, or damaged


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (packed(DIGITS["x_train"])[:-1], "shorter than its header says"),
        (packed(DIGITS["x_train"]) + b"\0", "longer than its header says"),
        (b"", "it begins with"),
        (packed(DIGITS["x_test"]), "it begins with"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, "it begins with"),
        (gzip.compress(packed(DIGITS["x_train"]))[:-9], "damaged or cut off"),
        (gzip.compress(packed(DIGITS["x_train"]))[:-8] + bytes(8), "damaged or cut off"),
    ],
)
def test_bad_idx_files(tmp_path, content, message):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(CorruptDatasetError, match=message):
        idx.read(path, SMALL["x_train"])


def member(content, name="x.npy"):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def lying(shape):
    """A header that says more than there is."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return member(stream.getvalue())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or no .npz file"),
        (b"PK\x03\x04" + b"\0" * 90, "damaged or no .npz file"),
        (member(b"x"), "damaged or no .npz file"),
        (member(npy(np.zeros(3)), "z.npy"), "damaged or no .npz file"),
        (member(npy(np.zeros(4))), "is an array"),
        (member(npy(np.zeros(3, np.float32).astype(int))), "of int64"),
        (member(npy(np.array([1, "a", None], object), allow_pickle=True)), "of object"),
        (member(npy(np.asfortranarray(np.zeros((3, 2))))), "in Fortran order"),
        (lying((10**12,)), "is an array"),
        (lying((3,)), "does not have the 24 bytes"),
        (member(npy(np.zeros(3)) + b"\0"), "does not have the 24 bytes"),
        (zipped({"x": np.zeros(3)}).replace(b"x.npy", b"y.npy"), "damaged or no .npz file"),
    ],
)
def test_bad_npz_files(tmp_path, content, message):
    path = tmp_path / "file.npz"
    path.write_bytes(content)
    with pytest.raises(CorruptDatasetError, match=message):
        npz.read(path, {"x": ((3,), "f")})


@pytest.mark.parametrize("name", ["mnist", "cifar100", "california_housing"])
def test_any_flipped_bit_is_an_error_or_the_same_data(small, name):
    """Without a checksum of ours: those of gzip and zip, and sizes. Nothing else may be raised."""
    file = MODULES[name].DATASET.forms[0].files[0].name
    content = FILES[name][file]
    path = small / file
    rng = np.random.default_rng(1)
    for at in rng.integers(0, len(content), 60):
        changed = bytearray(content)
        changed[at] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                got = MODULES[name].load_data(path=path)
        except CorruptDatasetError:
            continue
        check(name, got)


def test_labels_out_of_range_are_refused(small):
    path = small / "mnist.npz"
    path.write_bytes(zipped(DIGITS | {"y_test": np.full(20, 11, np.uint8)}))
    with pytest.raises(CorruptDatasetError, match=r"MNIST: .*mnist.npz cannot be used: y_test holds 11"):
        mnist.load_data(path)


def test_arrays_kept_are_mapped_and_a_damaged_copy_is_made_again(small, capsys):
    write(small / "home/.keras/datasets", {"mnist.npz": FILES["mnist"]["mnist.npz"]})
    check("mnist", mnist.load_data())
    kept = small / "home/.cache/npnet/mnist/published/x_train.npy"
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    check("mnist", mnist.load_data())
    assert "making it again" in capsys.readouterr().err
    assert published.KERAS.startswith("https://")
