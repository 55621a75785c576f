"""CIFAR-10: the same pictures from every form of the data, and nothing but an error from hostile ones."""

import contextlib
import gzip
import hashlib
import os
import pickle
import random
import struct
import subprocess
import sys
import tarfile
import textwrap

import loopback
import miniature
import numpy as np
import pytest
from effort import times

from npnet.datasets import CorruptDatasetError, DatasetUnavailableError, cifar10, cifar10_files
from npnet.datasets.cifar10_files import read
from npnet.internal.files import unfinished

DUMPS = {
    "python 2": miniature.python_2,
    "protocol 2": miniature.python_3(2),
    "protocol 3": miniature.python_3(3),
    "protocol 4": miniature.python_3(4),
    "text keys": miniature.python_3(4, key=str, text=str),
}
FORMS = {"binary": miniature.binary(), **{name: miniature.python(dump) for name, dump in DUMPS.items()}}


@pytest.fixture(autouse=True)
def few_records(monkeypatch):
    """A CIFAR-10 with 20 pictures in each of its six files."""
    monkeypatch.setattr(cifar10_files, "RECORDS", miniature.RECORDS)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def same(got, wanted):
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        assert got[name].dtype == np.uint8
        np.testing.assert_array_equal(got[name], array, strict=True)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """No data anywhere: a home and a working folder with nothing in them."""
    for name in ("NPNET_DATA", "NPNET_CACHE", "XDG_CACHE_HOME", "KERAS_HOME", "NPNET_CIFAR10_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


# --- every form -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_forms(tmp_path, form):
    folder = miniature.write(tmp_path / "data", FORMS[form])
    same(read(folder), miniature.arrays())
    same(read(next(folder.iterdir())), miniature.arrays())
    archive = tmp_path / "archive"
    archive.write_bytes(miniature.archive(FORMS[form]))
    same(read(archive), miniature.arrays())


@pytest.mark.parametrize("name", cifar10_files.ARCHIVES)
def test_folder_with_an_archive_in_it(tmp_path, name):
    form = "binary" if "binary" in name else "python 2"
    (tmp_path / name).write_bytes(miniature.archive(FORMS[form]))
    same(read(tmp_path), miniature.arrays())


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_other_makers(tmp_path, form):
    """Each tar format; a leading ./, another order, names too long for a header, files nobody asked for."""
    files = {"./" + name: content for name, content in reversed(FORMS["binary"].items())}
    files |= {"cifar-10-batches-bin/readme.html": b"<html>", "folder/" * 20 + "name": b"x" * 1000}
    path = tmp_path / "archive"
    path.write_bytes(miniature.archive(files, format=form))
    same(read(path), miniature.arrays())


def test_extended_headers_are_skipped(tmp_path):
    path = tmp_path / "archive"
    path.write_bytes(miniature.archive(FORMS["binary"], pax_headers={"comment": "x" * 2000}))
    same(read(path), miniature.arrays())


# --- what is not CIFAR-10 -------------------------------------------------------------------------------

FIRST = "cifar-10-batches-bin/data_batch_1.bin"


def link(kind, name=FIRST, target="/etc/passwd"):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def without(files, name):
    return {key: content for key, content in files.items() if key != name}


def changed(name, content):
    return {**FORMS["binary"], name: content}


def bad_label():
    content = bytearray(FORMS["binary"][FIRST])
    content[3 * 3073] = 10
    return bytes(content)


def endless(size):
    """A header that promises more than there is."""
    member = tarfile.TarInfo(FIRST)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


ARCHIVES = {
    "nothing": (b"", "begins with b''"),
    "web page": (b"<!DOCTYPE html>", "begins with b'<!'"),
    "no tar": (gzip.compress(b"x" * 2000), "no tar archive"),
    "short": (gzip.compress(b"x"), "cut off"),
    "empty tar": (miniature.archive({}), "data_batch_1, .* missing"),
    "bare tar": (miniature.tar(FORMS["binary"]), "not a .tar.gz"),
    "one missing": (miniature.archive(without(FORMS["binary"], FIRST)), "data_batch_1 missing"),
    "one short": (miniature.archive(changed(FIRST, b"x" * 3073)), "3073 bytes, expected 20 records"),
    "one empty": (miniature.archive(changed(FIRST, b"")), "0 bytes, expected 20 records"),
    "one long": (miniature.archive(changed(FIRST, b"x" * 61_461)), "61461 bytes, expected at most 61460"),
    "bad label": (miniature.archive(changed(FIRST, bad_label())), "picture 3 has label 10, expected 0 to 9"),
    "twice": (gzip.compress(miniature.tar(FORMS["binary"])[: 512 + 61_952] * 2), "comes twice"),
    "cut off inside": (gzip.compress(miniature.tar(FORMS["binary"])[:62_000]), "cut off"),
    "both forms": (miniature.archive(FORMS["binary"] | FORMS["python 2"]), "comes twice"),
    "above": (miniature.archive({"../" + FIRST: FORMS["binary"][FIRST]}), "missing"),
    "absolute": (miniature.archive({"/tmp/" + FIRST: FORMS["binary"][FIRST]}), "missing"),
    "trailing data": (miniature.archive(FORMS["binary"]) + b"more", "damaged"),
    "symbolic link": (miniature.archive(changed(FIRST, link(tarfile.SYMTYPE))), "no regular file"),
    "hard link": (miniature.archive(changed(FIRST, link(tarfile.LNKTYPE))), "no regular file"),
    "device": (miniature.archive(changed(FIRST, link(tarfile.CHRTYPE))), "no regular file"),
    "pipe": (miniature.archive(changed(FIRST, link(tarfile.FIFOTYPE))), "no regular file"),
    "folder": (miniature.archive(changed(FIRST, link(tarfile.DIRTYPE))), "data_batch_1 missing"),
    "sparse": (miniature.archive(changed(FIRST, link(tarfile.GNUTYPE_SPARSE))), "no regular file"),
    "8 GB promised": (gzip.compress(endless(8**11 - 1)), "expected at most 61460"),
    "more promised": (gzip.compress(endless(2**62)), "something else than a number"),
    "negative size": (gzip.compress(endless(-512)), "something else than a number"),
    "bomb in another file": (
        gzip.compress(miniature.tar({"x": bytes(20 << 20)}), 9),
        "unpacks to more than it should hold",
    ),
    "bomb after the end": (gzip.compress(bytes(20 << 20), 9), "unpacks to more than it should hold"),
    "two streams": (miniature.archive({}) + gzip.compress(bytes(20 << 20), 9), "unpacks to more"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_bad_archives(tmp_path, name):
    content, reason = ARCHIVES[name]
    path = tmp_path / "archive"
    path.write_bytes(content)
    with pytest.raises(CorruptDatasetError, match=reason) as caught:
        read(path)
    assert str(caught.value).startswith(f"CIFAR-10: {path} cannot be used: ")
    assert names(tmp_path) == ["archive"]


def test_bad_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*nowhere"):
        read(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"neither batches .* nor an archive"):
        read(tmp_path)
    miniature.write(tmp_path, without(FORMS["binary"], FIRST))
    with pytest.raises(CorruptDatasetError, match="data_batch_1 missing"):
        read(tmp_path)
    miniature.write(tmp_path, {FIRST: b"x" * 1_000_000})
    with pytest.raises(CorruptDatasetError, match=r"data_batch_1.bin is larger than the 61460 bytes"):
        read(tmp_path)
    (tmp_path / FIRST).unlink()
    os.mkfifo(tmp_path / FIRST)  # reading it would wait for ever
    with pytest.raises(CorruptDatasetError, match="data_batch_1 missing"):
        read(tmp_path)


def test_cut_off_anywhere(tmp_path):
    content = miniature.archive(FORMS["binary"])
    path = tmp_path / "archive"
    for length in np.linspace(0, len(content) - 1, 120).astype(int):
        path.write_bytes(content[:length])
        with pytest.raises(CorruptDatasetError):
            read(path)


@pytest.mark.parametrize("form", ["binary", "python 2"])
def test_any_flipped_bit(tmp_path, form):
    content = miniature.archive(FORMS[form])
    path = tmp_path / "archive"
    choose = random.Random(0)
    bits = [*range(10 * 8), *(choose.randrange(8 * len(content)) for _ in range(150))]
    bits += range(8 * len(content) - 64, 8 * len(content))
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with contextlib.suppress(CorruptDatasetError):
            same(read(path), miniature.arrays())


@pytest.mark.parametrize("form", FORMS)
def test_edited_files_without_a_checksum(tmp_path, form):
    """Random edits of a batch in a folder: an error of ours, or pictures of the right shape."""
    choose = random.Random(1)
    folder = miniature.write(tmp_path, FORMS[form])
    path, content = next((folder / name, content) for name, content in FORMS[form].items())
    outcomes = set()
    for _ in range(times(100, 2_500)):
        damaged = bytearray(content)
        for _ in range(choose.choice([1, 1, 3, 20])):
            # most of a file is pixels: aim at what is around them
            at = choose.choice([choose.randrange(200), len(damaged) - 1 - choose.randrange(600)])
            edit = choose.randrange(3)
            if edit == 0:
                damaged[at] = choose.randrange(256)
            elif edit == 1:
                del damaged[at : at + choose.randrange(1, 9)]
            else:
                damaged[at:at] = choose.randbytes(choose.randrange(1, 9))
        path.write_bytes(damaged)
        try:
            outcomes.add(read(folder)["x_train"].shape)
        except CorruptDatasetError:
            outcomes.add("refused")
    assert outcomes <= {(100, 32, 32, 3), "refused"}
    assert "refused" in outcomes


def test_edited_archives_with_a_right_checksum(tmp_path):
    """Random edits of the headers of a tar: an error of ours or pictures, and no other file."""
    choose = random.Random(2)
    content = miniature.tar(FORMS["binary"])
    headers = [at for at in range(0, len(content), 512) if content[at : at + 6] == b"cifar-"]
    path = tmp_path / "archive"
    outcomes = set()
    for _ in range(times(60, 2_000)):
        damaged = bytearray(content)
        for _ in range(choose.choice([1, 1, 3])):
            at = choose.choice(headers)
            if choose.randrange(2):
                damaged[at + choose.randrange(512)] = choose.choice([0, 32, 48, 55, 46, 47, 128, 255])
            else:
                damaged[at + 124 : at + 135] = b"%011o" % choose.choice([0, 1, 511, 61_460, 2**30, 8**11 - 1])
            checksum = sum(damaged[at : at + 148]) + 8 * 32 + sum(damaged[at + 156 : at + 512])
            damaged[at + 148 : at + 156] = b"%06o\0 " % checksum
        path.write_bytes(gzip.compress(damaged, 0))
        try:
            outcomes.add(read(path)["x_train"].shape)
        except CorruptDatasetError:
            outcomes.add("refused")
    assert outcomes <= {(100, 32, 32, 3), "refused"}
    assert len(outcomes) == 2
    assert names(tmp_path) == ["archive"]


# --- pickles --------------------------------------------------------------------------------------------


class Call:
    """Pickled, it asks whoever unpickles it to call a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def with_data(data, protocol=2, labels=None):
    labels = [0] * miniature.RECORDS if labels is None else labels
    return pickle.dumps({b"data": data, b"labels": labels}, protocol)


def raw(body):
    """A pickle whose data are whatever the operations of ``body`` leave."""
    return b"\x80\x02}(U\x04data" + body + b"u."


PIXELS = np.zeros((miniature.RECORDS, 3072), np.uint8)
DEEP = b"N" + b"\x85" * 60_000  # a tuple in a tuple in a tuple
PICKLES = {
    "system": (lambda mark: with_data(Call(os.system, f"touch {mark}")), "posix.system"),
    "system, protocol 0": (lambda mark: with_data(Call(os.system, f"touch {mark}"), 0), "do not need"),
    "system, protocol 4": (lambda mark: with_data(Call(os.system, f"touch {mark}"), 4), "posix.system"),
    "eval": (lambda mark: with_data(Call(eval, f"open({str(mark)!r}, 'w')")), "__builtin__.eval"),
    "a label": (lambda mark: with_data(PIXELS, labels=[Call(os.system, f"touch {mark}")]), "posix.system"),
    "instance": (lambda mark: raw(b"(S'touch %s'\nios\nsystem\n" % os.fsencode(mark)), "do not need"),
    "extension": (lambda mark: raw(b"\x82\x01"), "EXT1, which data do not need"),
    "persistent": (lambda mark: raw(b"U\x01xQ"), "BINPERSID, which data do not need"),
    "new object": (lambda mark: raw(b"cnumpy\nndarray\n)\x81"), "NEWOBJ, which data do not need"),
    "call of an array": (lambda mark: raw(b"cnumpy\nndarray\nK\x05\x85R"), "asks for a call"),
    "call of nothing": (lambda mark: raw(b"NK\x05\x85R"), "asks for a call"),
    "codec": (lambda mark: raw(b"c_codecs\nencode\nX\x01\0\0\0xX\x03\0\0\0hex\x86R"), "asks for a call"),
    "attribute of a function": (lambda mark: raw(b"c_codecs\nencode\n}U\x01aNsb"), "state of an object"),
    "huge memo": (lambda mark: raw(b"Nr\xff\xff\xff\xff"), "'data' is no array"),
    "huge text": (lambda mark: raw(b"\x8e" + struct.pack("<Q", 2**60)), "damaged pickle"),
    "huge array": (lambda mark: with_data(Call(np.ndarray, (2**40,), "u1")), "asks for a call"),
    "deep tuple": (lambda mark: raw(DEEP), "operations, too many|'data' is no array"),
    "deep key": (lambda mark: b"\x80\x02}" + b"N" + b"\x85" * 1000 + b"Ns.", "keys are not text"),
    "too many operations": (lambda mark: raw(b"N" * 50_000), "a pickle of more than 1400 operations"),
    "doubling": (
        lambda mark: raw(
            b"(c_codecs\nencode\nq\x01X\xff\x00\x00\x00" + b"x" * 255 + b"X\x06\x00\x00\x00latin1\x86q\x02R"
            + b"h\x01h\x02R" * 200 + b"l"
        ),
        "grows while it is read",
    ),
    "stack underflow": (lambda mark: b"\x80\x02" + b"s.", "damaged pickle"),
    "no end": (lambda mark: b"\x80\x02}", "damaged pickle"),
    "no dict": (lambda mark: pickle.dumps([1, 2], 2), "a pickled list, expected a dict"),
    "no data": (lambda mark: pickle.dumps({}, 2), "'data' is no array of uint8"),
    "list as data": (lambda mark: with_data([[0] * 3072]), "'data' is no array of uint8|operations"),
    "objects": (lambda mark: with_data(np.array([[None]])), "'data' is no array of uint8|state of an object"),
    "signed": (lambda mark: with_data(PIXELS.astype(np.int8)), "'data' is no array of uint8"),
    "columns first": (lambda mark: with_data(np.asfortranarray(PIXELS)), "in C order"),
    "wrong shape": (lambda mark: with_data(PIXELS[:, :-1]), r"not of the shape \(20, 3072\)"),
    "one row more": (lambda mark: with_data(np.vstack([PIXELS, PIXELS[:1]])), "not of the shape"),
    "labels missing": (lambda mark: pickle.dumps({b"data": PIXELS}, 2), "'labels' is no list of 20"),
    "labels too few": (lambda mark: with_data(PIXELS, labels=[0] * 19), "'labels' is no list of 20"),
    "label text": (lambda mark: with_data(PIXELS, labels=["0"] * 20), "the numbers 0 to 9"),
    "label true": (lambda mark: with_data(PIXELS, labels=[True] * 20), "the numbers 0 to 9"),
    "label -1": (lambda mark: with_data(PIXELS, labels=[-1] * 20), "the numbers 0 to 9"),
    "label 10": (lambda mark: with_data(PIXELS, labels=[10] * 20), "label 10, expected 0 to 9"),
    "label 256": (lambda mark: with_data(PIXELS, labels=[256] * 20), "the numbers 0 to 9"),
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_bad_pickles(tmp_path, name):
    make, reason = PICKLES[name]
    mark = tmp_path / "executed"
    files = {**FORMS["python 2"], "cifar-10-batches-py/data_batch_3": make(mark)}
    folder = miniature.write(tmp_path / "data", files)
    with pytest.raises(CorruptDatasetError, match=f"data_batch_3: .*({reason})"):
        read(folder)
    assert not mark.exists()


def test_the_harmful_pickles_would_do_harm(tmp_path):
    """The proof that the test above proves something: pickle.load does execute them."""
    for name in ("system", "system, protocol 0", "system, protocol 4", "instance"):
        mark = tmp_path / name.replace(" ", "_").replace(",", "")
        pickle.loads(PICKLES[name][0](mark))
        assert mark.exists()


def test_hostile_files_take_neither_memory_nor_time(tmp_path):
    """All of them in one process that may have 1 GiB, in a minute."""
    places = []
    for number, (make, _) in enumerate(PICKLES.values()):
        files = {"cifar-10-batches-py/data_batch_1": make(tmp_path / "executed")}
        places.append(str(miniature.write(tmp_path / str(number), files)))
    for number, (content, _) in enumerate(ARCHIVES.values()):
        places.append(str(tmp_path / f"{number}.tar.gz"))
        (tmp_path / f"{number}.tar.gz").write_bytes(content)
    code = f"""
        import resource
        from pathlib import Path
        from npnet.datasets import CorruptDatasetError
        from npnet.datasets import cifar10_files
        cifar10_files.RECORDS = {miniature.RECORDS}
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        for place in {places!r}:
            try:
                cifar10_files.read(Path(place))
            except CorruptDatasetError as error:
                assert "MemoryError" not in str(error), error
            else:
                raise SystemExit(place)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=600)
    assert not (tmp_path / "executed").exists()


# --- load_data ------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    return miniature.write(tmp_path / "folder", FORMS["binary"])


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(miniature.archive(FORMS["binary"]))
    return path


def check(data):
    (x_train, y_train), (x_test, y_test) = data
    same({"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}, miniature.arrays())
    assert {type(array) for array in (x_train, y_train, x_test, y_test)} == {np.ndarray}


def test_load_data_from_a_path(empty, folder, archive, monkeypatch):
    check(cifar10.load_data(folder))
    data = cifar10.load_data(str(folder))
    check(data)
    (x_train, y_train), _ = data  # the user's own to change
    x_train[:] = 0
    y_train += 1
    check(cifar10.load_data(folder))

    monkeypatch.setenv("NPNET_DATA", str(archive))
    check(cifar10.load_data())
    (x_train, y_train), (x_test, y_test) = cifar10.load_data(limit=7)
    assert [len(a) for a in (x_train, y_train, x_test, y_test)] == [7] * 4
    np.testing.assert_array_equal(y_train, miniature.arrays()["y_train"][:7])
    assert names(empty / "home") == [".cache"]
    assert names(empty / "here") == []


def test_the_path_is_the_only_source(empty, folder, archive, monkeypatch):
    """A path that fails raises, whatever else could be had."""
    broken = empty / "broken.tar.gz"
    broken.write_bytes(archive.read_bytes()[:-1000])
    monkeypatch.setenv("NPNET_DATA", str(folder))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        cifar10.load_data("nowhere")
    with pytest.raises(CorruptDatasetError, match=r"broken.tar.gz cannot be used: damaged or cut off"):
        cifar10.load_data(broken)
    monkeypatch.setenv("NPNET_DATA", str(broken))
    with pytest.raises(CorruptDatasetError, match=r"broken.tar.gz"):
        cifar10.load_data()


def test_a_changed_folder_is_read_again(empty, folder):
    cifar10.load_data(folder)
    miniature.write(folder, miniature.binary(seed=1))
    (x_train, _), _ = cifar10.load_data(folder)
    np.testing.assert_array_equal(x_train, miniature.arrays(seed=1)["x_train"])


def test_a_damaged_cache_is_noticed(empty, folder, capsys):
    cifar10.load_data(folder)
    kept = empty / "home/.cache/npnet/cifar10/given"
    files = ["manifest.json", "x_test.npy", "x_train.npy", "y_test.npy", "y_train.npy"]
    assert names(kept) == files
    image = (kept / "x_train.npy").read_bytes()
    for position in (0, 60, 128, len(image) // 2, len(image) - 1):
        damaged = bytearray(image)
        damaged[position] ^= 4
        (kept / "x_train.npy").write_bytes(damaged)
        check(cifar10.load_data(folder))
        assert "x_train.npy is damaged" in capsys.readouterr().err
    os.truncate(kept / "x_train.npy", 1000)
    check(cifar10.load_data(folder))
    (kept / "y_test.npy").unlink()
    check(cifar10.load_data(folder))
    for manifest in ("{", "[]", "{}", '{"origin": 1}', "\xff"):
        (kept / "manifest.json").write_text(manifest, encoding="latin1")
        check(cifar10.load_data(folder))
    (kept / unfinished(kept / "x_train.npy", "abc")).write_bytes(b"left by a run that was killed")
    (kept / "manifest.json").unlink()
    check(cifar10.load_data(folder))
    assert names(kept) == files


def test_without_a_cache(empty, folder, monkeypatch, capsys):
    (empty / "file").write_bytes(b"")
    monkeypatch.setenv("NPNET_CACHE", str(empty / "file"))
    check(cifar10.load_data(folder))
    assert "is not kept, so the next start reads it anew" in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["NPNET_CACHE", "XDG_CACHE_HOME"])
def test_the_cache_can_be_elsewhere(empty, folder, monkeypatch, variable):
    monkeypatch.setenv(variable, str(empty / "elsewhere"))
    cifar10.load_data(folder)
    assert list((empty / "elsewhere").rglob("x_train.npy"))
    assert names(empty / "home") == []


def test_fetched_from_a_mirror(empty, archive, monkeypatch):
    content = archive.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    with loopback.running() as server:
        url = server.add("/my.tar.gz", loopback.file(content, cut=len(content) // 2 + 1))
        monkeypatch.setenv("NPNET_CIFAR10_URL", f"{url}#sha256={digest}&size={len(content)}")
        check(cifar10.load_data())
        assert len(server.requests) == 2
    check(cifar10.load_data())  # with the server gone
    monkeypatch.delenv("NPNET_CIFAR10_URL")
    monkeypatch.setattr(cifar10, "SOURCES", {})
    with pytest.raises(DatasetUnavailableError):  # another archive is not taken for the published one
        cifar10.load_data()


def test_fetched_from_the_published_sources(empty, archive, monkeypatch):
    """The first is gone, the second has it; the archive here stands in for the published one."""
    content = archive.read_bytes()
    name = archive.name
    expected = {name: (hashlib.sha256(content).hexdigest(), len(content))}
    monkeypatch.setattr(cifar10_files, "ARCHIVES", expected)
    with loopback.running() as server:
        urls = server.add("/a", loopback.status(404)), server.add("/b", loopback.file(content))
        monkeypatch.setattr(cifar10, "SOURCES", {name: urls})
        check(cifar10.load_data())
        assert [path for path, _ in server.requests] == ["/a", "/b"]
    check(cifar10.load_data())
    assert names(empty / "home/.cache/npnet") == ["cifar-10-binary.tar.gz", "cifar10"]


def test_found_in_other_caches(empty, monkeypatch):
    """Only the published files are taken from there; these stand in for them."""
    files = FORMS["python 2"]
    keras = miniature.write(empty / "home/.keras/datasets/cifar-10-batches-py-target", files)
    monkeypatch.setattr(cifar10, "SOURCES", {})
    with pytest.raises(DatasetUnavailableError, match=r"data_batch_1 is not the published file \(its MD5"):
        cifar10.load_data()
    md5 = {name.split("/")[1]: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(cifar10_files, "MD5", md5)
    check(cifar10.load_data())
    (keras / "cifar-10-batches-py/test_batch").unlink()
    check(cifar10.load_data())  # from npnet's cache now


def test_archive_in_torchvision_s_folder(empty, archive, monkeypatch):
    (empty / "here/data").mkdir()
    archive = archive.rename(empty / "here/data" / archive.name)
    content = archive.read_bytes()
    monkeypatch.setattr(cifar10, "SOURCES", {})
    with pytest.raises(DatasetUnavailableError, match=r"not a published archive \(its SHA-256"):
        cifar10.load_data()
    published = {archive.name: (hashlib.sha256(content).hexdigest(), len(content))}
    monkeypatch.setattr(cifar10_files, "ARCHIVES", published)
    check(cifar10.load_data())


def test_nothing_to_be_had(empty, monkeypatch):
    url = "https://nowhere.invalid/cifar-10-binary.tar.gz"
    monkeypatch.setenv("NPNET_CIFAR10_URL", url)
    with pytest.raises(DatasetUnavailableError) as caught:
        cifar10.load_data()
    text = str(caught.value)
    assert "\n" not in text
    for part in (
        f"{url}: its name could not be looked up",
        "Keras's cache",
        'load_data("cifar-10-binary.tar.gz")',
        "NPNET_DATA",
        "NPNET_CIFAR10_URL=https://",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        "npnet.datasets.shapes",
    ):
        assert part in text
    assert isinstance(caught.value, OSError)


def test_address_of_an_unknown_file(empty, monkeypatch):
    for url in ("https://example.com/cifar.zip", "https://example.com/cifar-10-binary.tar.gz#sha256=12"):
        monkeypatch.setenv("NPNET_CIFAR10_URL", url)
        with pytest.raises(ValueError, match=r"NPNET_CIFAR10_URL: expected an address that ends in"):
            cifar10.load_data()


@pytest.mark.parametrize("limit", [0, -1, 2.5, True, "10"])
def test_limit(limit):
    with pytest.raises((TypeError, ValueError), match="limit must be"):
        cifar10.load_data(limit=limit)


def run(code, **environment):
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)


def test_parallel_first_starts(empty, folder):
    code = f"""
        from npnet.datasets import cifar10, cifar10_files
        cifar10_files.RECORDS = {miniature.RECORDS}
        assert cifar10.load_data()[0][0].shape == (100, 32, 32, 3)
    """
    processes = [run(code, NPNET_DATA=str(folder)) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    for process in processes:
        process.stdout.close()
    check(cifar10.load_data(folder))


def test_full_size(empty, monkeypatch):
    """An archive of 60,000 pictures: at most 500 MiB to read it; mapped without unpacking from then on."""
    monkeypatch.setattr(cifar10_files, "RECORDS", 10_000)
    labels, pixels = (np.resize(array, (10_000, *array.shape[1:])) for array in miniature.pictures())
    records = np.hstack([labels[:, None], pixels]).tobytes()
    path = empty / "archive.tar.gz"
    files = {f"cifar-10-batches-bin/{name}.bin": records for name in miniature.BATCHES}
    path.write_bytes(miniature.archive(files, compresslevel=0))  # random pixels grow no smaller, only slower
    code = f"""
        import re
        from pathlib import Path
        from npnet.datasets import cifar10, cifar10_files
        unpacked = []
        read = cifar10_files.read
        cifar10_files.read = lambda *a, **o: unpacked.append(a) or read(*a, **o)
        (x_train, y_train), (x_test, y_test) = cifar10.load_data({str(path)!r})
        assert x_train.shape == (50000, 32, 32, 3) and y_train.shape == (50000, 1)
        assert x_test.shape == (10000, 32, 32, 3) and y_test.shape == (10000, 1)
        status = Path("/proc/self/status")
        most = re.search(r"VmHWM:\\s*(\\d+)", status.read_text())[1] if status.exists() else 0
        print(len(unpacked), int(most) // 1024, y_test.sum(), x_train[-1].sum())
    """
    for again in (False, True):
        with run(code, NPNET_CACHE=str(empty / "cache")) as process:
            unpacked, mebibytes, label_sum, pixel_sum = map(float, process.stdout.read().split())
        assert mebibytes < 500
        assert label_sum == labels.sum()
        assert pixel_sum == pixels[-1].sum()
        assert unpacked == (not again)


def test_full_size_pickle(monkeypatch):
    monkeypatch.setattr(cifar10_files, "RECORDS", 10_000)
    labels, pixels = (np.resize(array, (10_000, *array.shape[1:])) for array in miniature.pictures())
    content = miniature.python_3(2)(labels, pixels)
    assert len(content) <= 10_000 * cifar10_files.PYTHON.record_bytes
    got = cifar10_files.PYTHON.decode(content)
    np.testing.assert_array_equal(got[0], labels)
    np.testing.assert_array_equal(got[1], pixels)


def test_import_stays_light():
    code = "import sys, npnet.datasets; print({'urllib.request', 'pickletools', 'gzip'} & set(sys.modules))"
    with run(code) as process:
        assert process.stdout.read() == "set()\n"
