"""Files that are whole or not there, whatever stands at their place; and names that belong to others."""

import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from npnet import Sequential
from npnet.callbacks import ModelCheckpoint
from npnet.internal.files import FORMATS, write_atomically
from npnet.layers import Dense
from npnet.models import load_model

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes, links and pipes of POSIX")


def model():
    net = Sequential([Dense(3, input_shape=(4,))], seed=0)
    net.compile(loss="mse", kernels="numpy")
    return net


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_longest_names_are_written(tmp_path):
    for name in ("n" * 255, "ä" * 127, "."):
        path = tmp_path / name if name != "." else tmp_path / ".hidden"
        write_atomically(path, b"old")
        write_atomically(path, b"new")
        assert path.read_bytes() == b"new"
    assert len(names(tmp_path)) == 3
    with pytest.raises(OSError, match="too long") as caught:
        write_atomically(tmp_path / ("n" * 256), b"")
    assert caught.value.filename == str(tmp_path / ("n" * 256))
    assert len(names(tmp_path)) == 3


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*missing; make it first: '.*file'$"):
        write_atomically(tmp_path / "missing" / "file", b"")
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path, b"")
    with pytest.raises(OSError, match=r"too long: '[^']*'$"):
        write_atomically(tmp_path / ("n" * 256), b"")


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_a_file_keeps_its_mode(mode, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", mode)


@posix
def test_a_new_file_gets_the_mode_that_umask_gives(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@posix
def test_what_a_link_points_to_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "target").write_bytes(b"old")
    (tmp_path / "first").symlink_to("second")
    (tmp_path / "second").symlink_to(tmp_path / "there" / "target")
    (tmp_path / "dangling").symlink_to(tmp_path / "there" / "new")
    write_atomically(tmp_path / "first", b"new")
    write_atomically(tmp_path / "dangling", b"made")
    assert (tmp_path / "first").is_symlink() and (tmp_path / "dangling").is_symlink()
    assert (tmp_path / "there" / "target").read_bytes() == b"new"
    assert (tmp_path / "there" / "new").read_bytes() == b"made"
    assert names(tmp_path / "there") == ["new", "target"]


@posix
def test_a_model_is_no_thing_for_a_pipe_or_a_device(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    for path in (tmp_path / "pipe", tmp_path / "null", os.devnull):
        with pytest.raises(OSError, match="is a pipe or a device; give the name of a file"):
            model().save(path)
    assert (tmp_path / "pipe").is_fifo() and Path(os.devnull).is_char_device()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        model().save(tmp_path)


def test_an_unfinished_file_that_was_abandoned_goes_and_one_of_another_name_stays(tmp_path):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    write_atomically(tmp_path / "file", b"old")
    with pytest.MonkeyPatch.context() as patch:  # as if the process had ended between writing and renaming
        patch.setattr("pathlib.Path.replace", die)
        patch.setattr("pathlib.Path.unlink", die)
        for name in ("file", "other"):
            with pytest.raises(Killed):
                write_atomically(tmp_path / name, b"unfinished")
    assert len(names(tmp_path)) == 3
    write_atomically(tmp_path / "file", b"new")
    left = [name for name in names(tmp_path) if name.endswith(".part")]
    assert len(left) == 1 and (tmp_path / "file").read_bytes() == b"new"
    write_atomically(tmp_path / "other", b"new")
    assert names(tmp_path) == ["file", "other"]


# --- names of others


@pytest.mark.parametrize("ending", [*sorted(FORMATS.keys() - {".safetensors"}), ".H5", ".weights.h5"])
def test_the_endings_of_other_formats_are_refused_with_what_to_do(ending, tmp_path):
    path = tmp_path / f"best{ending}"
    for save in (model().save, model().save_weights, ModelCheckpoint):
        with pytest.raises(ValueError, match=r"are those of .* files, .* Name it best.*\.safetensors\."):
            save(path)
    if ending == ".onnx":
        with pytest.raises(ValueError, match=r"call model\.export"):
            model().save(path)
    else:
        with pytest.raises(ValueError, match=r"npnet writes a file of ONNX\. Name it best.*\.onnx\."):
            model().export(path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["model", "model.safetensors", "model.npnet", "v1.5", "run.h5.safetensors"])
def test_other_names_are_free(name, tmp_path):
    model().save(tmp_path / name)
    ModelCheckpoint(tmp_path / name)
    np.testing.assert_array_equal(load_model(tmp_path / name).get_weights()[0], model().get_weights()[0])


def test_a_file_of_keras_is_called_that(tmp_path):
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match=r"no safetensors file or is damaged.*that of a file of Keras\."):
        load_model(tmp_path / "m.h5")
