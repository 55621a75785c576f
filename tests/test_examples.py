"""The examples do what they say, run as a reader would run them: in a new process, in a new folder.

The tutorial runs in test_notebooks.py.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from offline import offline

from npnet.layers import Conv2D, Dense, Flatten, MaxPooling2D
from npnet.models import Sequential
from npnet.optimizers import RMSprop

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name):
    """Import an example as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, folder, **environment):
    """Run an example in a folder of its own, without network or data; return what it printed."""
    inherited = {key: value for key, value in os.environ.items() if key != "NPNET_DATA"}
    result = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py"],
        cwd=folder,
        env={**inherited, **offline(folder), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout


# --- backprop_by_hand -------------------------------------------------------------------------------------


def test_by_hand_and_npnet_are_the_same_training(kernels):
    """The same initial weights, the same batches: the same losses and in the end the same weights."""
    by_hand = load("backprop_by_hand")
    rng = np.random.default_rng(1)
    x, t = by_hand.spiral(rng)
    weights = by_hand.initial_weights(rng)
    mean_squares = [np.zeros_like(w) for w in weights]

    model = Sequential(
        [
            Dense(by_hand.HIDDEN, activation="relu", input_shape=(2,)),
            Dense(by_hand.HIDDEN, activation="relu"),
            Dense(3, activation="softmax"),
        ],
        dtype="float64",
    )
    optimizer = RMSprop(by_hand.LEARNING_RATE, rho=by_hand.RHO, epsilon=by_hand.EPSILON)
    model.compile(optimizer, loss="categorical_crossentropy", kernels=kernels)
    model.set_weights(weights)

    for _ in range(60):
        rows = rng.permutation(len(x))[: by_hand.BATCH]
        expected = by_hand.train_step(weights, mean_squares, x[rows], t[rows])
        assert model.train_on_batch(x[rows], t[rows]) == pytest.approx(expected, rel=1e-10)
    assert expected < 0.9  # it has learned something, so these were no trivial numbers
    for ours, theirs in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)


def test_by_hand_uses_numpy_alone_and_learns(tmp_path):
    imports = [
        line for line in (EXAMPLES / "backprop_by_hand.py").read_text().splitlines() if "import " in line
    ]
    assert imports == ["import numpy as np"]
    output = run("backprop_by_hand", tmp_path)
    assert output.count("right") >= 6 and "WRONG" not in output
    last = next(line for line in output.splitlines() if line.startswith("   40"))
    assert float(last.split()[-1].rstrip("%")) > 95


def test_by_hand_notices_a_wrong_gradient():
    by_hand = load("backprop_by_hand")
    rng = np.random.default_rng(0)
    x, t = by_hand.spiral(rng, 12)
    weights = by_hand.initial_weights(rng)
    right = by_hand.backward(weights, x, t, *by_hand.forward(weights, x))[0]
    numerical = by_hand.numerical_gradient(weights, weights[0], x, t)
    assert np.linalg.norm(right - numerical) < 1e-7 * np.linalg.norm(numerical)
    assert np.linalg.norm(1.01 * right - numerical) > 1e-3 * np.linalg.norm(numerical)


# --- convolution_by_hand ----------------------------------------------------------------------------------


def test_convolution_by_hand_and_npnet_are_the_same_training(kernels):
    by_hand = load("convolution_by_hand")
    rng = np.random.default_rng(1)
    x, t = by_hand.strokes(rng)
    weights = by_hand.initial_weights(rng)
    mean_squares = [np.zeros_like(w) for w in weights]

    model = Sequential(
        [
            Conv2D(by_hand.FILTERS[0], 3, activation="relu", input_shape=(10, 10, 1)),
            MaxPooling2D(),
            Conv2D(by_hand.FILTERS[1], 3, activation="relu"),
            Flatten(),
            Dense(4, activation="softmax"),
        ],
        dtype="float64",
    )
    optimizer = RMSprop(by_hand.LEARNING_RATE, rho=by_hand.RHO, epsilon=by_hand.EPSILON)
    model.compile(optimizer, loss="categorical_crossentropy", kernels=kernels)
    model.set_weights(weights)

    for _ in range(60):
        rows = rng.permutation(len(x))[: by_hand.BATCH]
        expected = by_hand.train_step(weights, mean_squares, x[rows], t[rows])
        assert model.train_on_batch(x[rows], t[rows]) == pytest.approx(expected, rel=1e-9)
    assert expected < 1.2  # it has learned something, so these were no trivial numbers
    for ours, theirs in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def test_convolution_by_hand_uses_numpy_alone_and_learns(tmp_path):
    source = (EXAMPLES / "convolution_by_hand.py").read_text()
    assert [line for line in source.splitlines() if "import " in line] == ["import numpy as np"]
    output = run("convolution_by_hand", tmp_path)
    assert output.count("right") >= 6 and "WRONG" not in output
    last = next(line for line in output.splitlines() if line.startswith("   20"))
    assert float(last.split()[-1].rstrip("%")) > 95


@pytest.mark.parametrize("wrong", range(6))
def test_convolution_by_hand_notices_a_wrong_gradient(wrong):
    by_hand = load("convolution_by_hand")
    rng = np.random.default_rng(0)
    x, t = by_hand.strokes(rng, 8)
    weights = by_hand.initial_weights(rng)
    right = by_hand.backward(weights, x, t, *by_hand.forward(weights, x))[wrong]
    numerical = by_hand.numerical_gradient(weights, weights[wrong], x, t)
    assert np.linalg.norm(right - numerical) < 1e-7 * np.linalg.norm(numerical)
    assert np.linalg.norm(1.01 * right - numerical) > 1e-3 * np.linalg.norm(numerical)


# --- the others -------------------------------------------------------------------------------------------


def test_spiral_draws_a_boundary(tmp_path):
    output = run("spiral", tmp_path)
    assert (tmp_path / "runs" / "spiral.png").read_bytes().startswith(b"\x89PNG")
    assert float(output.split("accuracy")[-1].split()[0]) > 0.95


def test_custom_layer_is_checked_and_learns(tmp_path):
    output = run("custom_layer", tmp_path)
    careful, careless = output.split("Careless")
    assert "WRONG" not in careful and "WRONG" in careless
    assert float(output.split("accuracy")[-1].split()[0]) > 0.95
