"""A short look at everything that leans on another package: ``.ci/lowest`` runs it with the lowest ones."""

import json

import numpy as np
import pytest
from PIL import Image

from npnet import Sequential
from npnet.callbacks import TensorBoard
from npnet.cli import main
from npnet.datasets.picture_file import read_picture
from npnet.layers import Dense, Flatten, Normalization
from npnet.models import load_model
from npnet.runs import train

X = np.random.default_rng(0).random((40, 6), dtype=np.float32)
LABELS = np.arange(40) % 3
Y = np.eye(3, dtype=np.float32)[LABELS]


def model(kernels="numpy"):
    net = Sequential([Dense(5, "relu", input_shape=(6,)), Dense(3, "softmax")], seed=0)
    net.compile("adam", "categorical_crossentropy", ["accuracy"], kernels=kernels)
    return net


def test_a_fit_of_each_set_of_kernels_and_a_saved_model(tmp_path, kernels):
    net = model(kernels)
    losses = net.fit(X, Y, epochs=20, verbose=0, validation_data=(X, Y)).history["loss"]
    assert losses[-1] < losses[0]
    net.save(tmp_path / "model")
    np.testing.assert_array_equal(
        load_model(tmp_path / "model").predict(X, verbose=0), net.predict(X, verbose=0)
    )


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "LA", "1"])
def test_a_picture_is_read(mode, tmp_path):
    Image.new("RGB", (50, 40), "white").convert("L").convert(mode).save(tmp_path / "picture.png")
    picture, _ = read_picture(tmp_path / "picture.png", (32, 32, 3))
    assert picture.shape == (32, 32, 3) and (picture == 255).all()


def test_a_run_with_pictures_and_report(tmp_path, capsys):
    for dataset in ("spiral", "shapes"):
        folder = tmp_path / dataset
        options = {"dataset": dataset, "epochs": 1, "kernels": "numpy", "hidden": [8], "limit": 60}
        assert train(options, folder, quiet=True)["status"] == "finished"
        assert "<svg" in (folder / "report.html").read_text(encoding="utf-8")
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.glob("*.png"))
        assert len([*folder.glob("*.png")]) >= 3
    runs = [str(tmp_path / "spiral"), str(tmp_path / "shapes")]
    assert main(["compare", *runs, "--output", str(tmp_path / "compare.svg")]) == 0


def test_what_is_installed_is_told(capsys):
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kernels"] == "numba"


def test_the_extras(tmp_path):
    import onnx

    from npnet.sklearn import MLPClassifier

    net = Sequential([Normalization(mean=0, variance=1), Flatten(), Dense(4, "gelu"), Dense(3)], seed=0)
    net.build((None, 2, 3))
    net.export(tmp_path / "model.onnx")
    assert onnx.load(tmp_path / "model.onnx").graph.node
    estimator = MLPClassifier(hidden_layer_sizes=(4,), max_iter=50, tol=1.0, random_state=0).fit(X, LABELS)
    assert set(estimator.predict(X)) <= set(LABELS)
    model().fit(X, Y, verbose=0, callbacks=TensorBoard(tmp_path / "logs", histogram_freq=1))
    assert [*(tmp_path / "logs" / "train").iterdir()]
