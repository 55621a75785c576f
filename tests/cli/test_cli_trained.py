"""npnet evaluate and npnet predict: a run's model on its test part, and on files of every kind."""

import io
import json
import os
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from npnet.cli import main
from npnet.datasets import shapes
from npnet.datasets.picture_file import read_picture
from npnet.layers import Conv2D, Dense, GlobalAveragePooling2D, MaxPooling2D, Rescaling
from npnet.models import Sequential, load_model
from npnet.runs import datasets, recipes, trained
from npnet.runs.folder import RunFolder
from npnet.runs.settings import complete, recipe_of

SHAPE = (32, 32, 3)


def make_run(path, dataset, input_shape, validation_split=0.25, kernels="numpy", filters=()):
    """A folder with the files that evaluate and predict read; its models are as they began."""
    settings = complete(
        {
            "dataset": dataset, "hidden": [8], "kernels": "numpy", "epochs": 2,
            "validation_split": validation_split, "filters": filters,
        }
    )  # fmt: skip
    classes = len(datasets.LOADERS[dataset][1])
    run = RunFolder(path)
    run.write_json("config.json", settings)
    for name, seed in (("best", 1), ("last", 2)):
        model = recipes.build(recipe_of(settings), input_shape, classes, 1, seed, kernels=kernels)
        model.save(run / f"{name}.safetensors")
    return path


@pytest.fixture(scope="module", params=[(), (2, 3)], ids=["dense", "convolutions"])
def run(request, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), "shapes", SHAPE, filters=request.param)


@pytest.fixture(scope="module")
def pixels():
    return shapes.load_data(1, 10)[1][0][0]


@pytest.fixture
def big(pixels):
    """The picture in the middle of a wide one, four times as large."""
    wide = Image.new("RGB", (200, 128), "red")
    wide.paste(Image.fromarray(pixels).resize((128, 128), Image.Resampling.NEAREST), (36, 0))
    return wide


def predicted(capsys, run, *arguments):
    code = main(["predict", str(run), *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)["images"]


def test_a_picture_of_the_networks_size_is_taken_as_it_is(run, pixels, tmp_path, capsys):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png", SHAPE)[0], pixels)
    expected = load_model(run / "best.safetensors").predict(pixels[None], verbose=0)[0]
    code, (answer,) = predicted(capsys, run, tmp_path / "a.png", "--top", 10)
    assert code == 0 and answer["size"] == "32x32" and answer["error"] is None
    assert {c["class"]: c["probability"] for c in answer["classes"]} == pytest.approx(
        dict(zip(shapes.CLASS_NAMES, expected.tolist(), strict=True))
    )
    probabilities = [c["probability"] for c in answer["classes"]]
    assert probabilities == sorted(probabilities, reverse=True)


def test_a_convolutional_network_takes_pictures_of_its_own_size(pixels, tmp_path, capsys):
    run = make_run(tmp_path / "run", "shapes", SHAPE)
    model = Sequential(
        [
            Rescaling(1 / 255, input_shape=(16, 24, 3)), Conv2D(4, 3, activation="relu"), MaxPooling2D(),
            GlobalAveragePooling2D(), Dense(len(shapes.CLASS_NAMES), "softmax"),
        ],
        seed=0,
    )  # fmt: skip
    model.compile(loss="categorical_crossentropy", kernels="numpy")
    model.save(run / "best.safetensors")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    taken, words = read_picture(tmp_path / "a.png", (16, 24, 3))
    code, (answer,) = predicted(capsys, run, tmp_path / "a.png", "--top", 10)
    assert code == 0 and answer["size"] == words and "32x32" in words
    expected = model.predict(taken[None], verbose=0)[0]
    assert {c["class"]: c["probability"] for c in answer["classes"]} == pytest.approx(
        dict(zip(shapes.CLASS_NAMES, expected.tolist(), strict=True))
    )


def test_the_middle_of_a_large_picture_is_shrunk(big, pixels, tmp_path):
    big.save(tmp_path / "big.png")
    picture, story = read_picture(tmp_path / "big.png", SHAPE)
    assert story == "200x128, middle 128x128 taken, shrunk to 32x32"
    assert np.abs(picture.astype(int) - pixels).mean() < 12


def test_a_small_picture_is_enlarged(tmp_path):
    Image.new("RGB", (5, 3), "blue").save(tmp_path / "small.png")
    picture, story = read_picture(tmp_path / "small.png", SHAPE)
    assert story == "5x3, middle 3x3 taken, enlarged to 32x32"
    assert (picture == [0, 0, 255]).all()


def sixteen_bits(picture):
    return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("name", "change", "tolerance"),
    [
        ("jpeg.jpg", lambda p: p, 8),
        ("palette.png", lambda p: p.quantize(256), 8),
        ("cmyk.jpg", lambda p: p.convert("CMYK"), 8),
        ("rgba.png", lambda p: p.convert("RGBA"), 0),
    ],
)
def test_every_mode_of_colour(big, tmp_path, name, change, tolerance):
    big.save(tmp_path / "plain.png")
    change(big).save(tmp_path / name)
    expected, _ = read_picture(tmp_path / "plain.png", SHAPE)
    found, _ = read_picture(tmp_path / name, SHAPE)
    assert np.abs(found.astype(int) - expected).mean() <= tolerance


@pytest.mark.parametrize("change", [lambda p: p.convert("L"), lambda p: p.convert("LA"), sixteen_bits])
def test_every_mode_of_grey(big, tmp_path, change):
    change(big).save(tmp_path / "grey.png")
    found, _ = read_picture(tmp_path / "grey.png", SHAPE)
    expected = np.asarray(big.convert("L").crop((36, 0, 164, 128)).resize((32, 32), Image.Resampling.BICUBIC))
    for channel in range(3):
        assert np.abs(found[..., channel].astype(int) - expected).mean() <= 1  # but for the edges, the same
    alone, _ = read_picture(tmp_path / "grey.png", (32, 32, 1))
    assert alone.shape == (32, 32, 1)


def test_transparency_is_put_on_white(tmp_path):
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_picture(tmp_path / "clear.png", SHAPE)[0] == 255).all()


def test_photographs_are_turned_upright(big, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by a quarter to the right
    big.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    big.rotate(-90, expand=True).save(tmp_path / "upright.jpg", quality=95)
    turned, story = read_picture(tmp_path / "turned.jpg", SHAPE)
    upright, same = read_picture(tmp_path / "upright.jpg", SHAPE)
    assert story == same == "128x200, middle 128x128 taken, shrunk to 32x32"
    assert np.abs(turned.astype(int) - upright).mean() < 6


def bomb():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def cut_off(picture, kind):
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()[: len(file.getvalue()) // 2]


def test_a_file_is_not_blamed_for_what_goes_wrong_afterwards(big, tmp_path, monkeypatch):
    def outdated(*arguments):
        raise AttributeError("'Image' object has no attribute 'has_transparency_data'")

    big.save(tmp_path / "good.png")
    monkeypatch.setattr("npnet.datasets.picture_file.in_colours", outdated)
    with pytest.raises(AttributeError, match="has_transparency_data"):
        read_picture(tmp_path / "good.png", SHAPE)


def test_what_cannot_be_read_is_named_and_the_rest_is_answered(run, big, tmp_path, capsys):
    files = {
        "good.png": None,
        "bomb.png": bomb(),
        "half.png": cut_off(big, "PNG"),
        "half.jpg": cut_off(big, "JPEG"),
        "text.png": b"no picture",
        "empty.jpg": b"",
    }
    for name, content in files.items():
        if content is None:
            big.save(tmp_path / name)
        else:
            (tmp_path / name).write_bytes(content)
    names = [*(tmp_path / name for name in files), tmp_path / "missing.png", tmp_path]
    code, answers = predicted(capsys, run, *names)
    assert code == 1
    assert [bool(answer["error"]) for answer in answers] == [False, *[True] * 7]
    said = [answer["error"] for answer in answers[1:]]
    reasons = (
        "pixels",
        "damaged",
        "damaged",
        "no PNG, JPEG",
        "no PNG, JPEG",
        "No such file",
        "directory",
    )
    assert all(reason in sentence for reason, sentence in zip(reasons, said, strict=True))
    assert main(["predict", str(run), str(tmp_path / "text.png"), str(tmp_path / "good.png")]) == 1
    out, err = capsys.readouterr()
    assert "good.png  (200x128" in out and "text.png is no PNG" in err and "Traceback" not in err


def test_best_and_last_are_two_models(run, big, tmp_path, capsys):
    big.save(tmp_path / "a.png")
    answers = [predicted(capsys, run, tmp_path / "a.png", *flag)[1] for flag in ([], ["--last"])]
    assert answers[0] != answers[1]


def test_a_network_for_points_knows_no_pictures(tmp_path, capsys):
    make_run(tmp_path, "spiral", (2,))
    assert main(["predict", str(tmp_path), "a.png"]) == 1
    assert "knows no pictures" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["evaluate"], ["predict", "a.png"]])
def test_no_run(tmp_path, capsys, command):
    assert main([command[0], str(tmp_path / "none"), *command[1:]]) == 1
    assert "config.json" in capsys.readouterr().err


def test_evaluate(tmp_path, capsys):
    make_run(tmp_path, "spiral", (2,))
    assert main(["evaluate", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "best" and np.sum(found["confusion"]) == 600
    assert found["test"]["accuracy"] == pytest.approx(np.trace(found["confusion"]) / 600)
    assert found["test"] == trained.load(tmp_path).examine()["test"]
    assert main(["evaluate", str(tmp_path), "--last"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"{tmp_path} after epoch 0 of 2, the last" in out and "second arm" in out
    assert "recall precision most often taken for" in out


def test_without_samples_held_out_the_model_is_the_last_and_the_words_say_so(tmp_path, capsys):
    make_run(tmp_path, "spiral", (2,), validation_split=0.0)
    assert main(["evaluate", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["validation_split"]) == ("last", 0.0)
    make_run(tmp_path, "spiral", (2,))
    assert main(["evaluate", str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "after epoch 0 of 2, the best on the samples held out of training" in out


def test_compiling_is_announced_on_standard_error(tmp_path):
    """So what --json prints stays JSON."""
    run = make_run(tmp_path / "run", "spiral", (2,), kernels="numba")
    program = f"import sys; from npnet.cli import main; sys.exit(main({['evaluate', str(run), '--json']!r}))"
    environment = {**os.environ, "NPNET_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["test"]
    assert re.fullmatch(r"Compiling kernels \.\.\. \d+\.\d s \(once\)\n", done.stderr)
