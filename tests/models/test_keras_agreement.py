"""npnet repeats runs of the real Keras 3, kept in ``golden/keras.json`` (made by ``golden/make_golden.py``).

Keras ran in float64. npnet's history, weights, predictions and evaluation agree with it to 1e-11 in float64
(5e-7 where Keras itself rounds to float32 on the way) and to 2e-6 in float32, relative to
each number or to 1; networks of pictures to five times that where float32 takes part.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from effort import quick
from small import compiled

from npnet import layers, losses, metrics, optimizers, regularizers, schedules

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "keras.json").read_text())
CASES = GOLDEN["cases"]
DATA = {name: np.array(values) for name, values in GOLDEN["data"].items()}
ROUNDED_BY_KERAS = (
    "tanh", "Normalization", "CosineDecay", "Binary", "Mean", "mae", "mse", "Muon", "GlobalAverage",
)  # fmt: skip
KERNELS_OF_THEIR_OWN = ("activation", "layer_relu", "layer_leakyrelu", "layer_elu")  # slow to compile
DESCRIPTION = ("layers", "optimizer", "loss", "metrics")


def make(description):
    """Return the object of [class name, arguments]; names stay names."""
    if not isinstance(description, list):
        return description
    name, arguments = description
    arguments = {
        key: make(value) if isinstance(value, list) and value and isinstance(value[0], str) else value
        for key, value in arguments.items()
    }
    places = (layers, optimizers, schedules, losses, metrics, regularizers)
    return next(getattr(place, name) for place in places if hasattr(place, name))(**arguments)


def samples(case):
    """Return what a case is trained on."""
    return DATA[case.get("x", "x")]


def built(case, dtype, kernels, fused=False):
    """Return the model of a case with its initial weights."""
    model = compiled(
        [make(layer) for layer in case["layers"]],
        make(case["loss"]),
        dtype,
        kernels=kernels,
        fused=fused,
        optimizer=make(case["optimizer"]),
        metrics=[make(metric) for metric in case["metrics"]],
        weighted_metrics=[make(metric) for metric in case.get("weighted_metrics", [])],
    )
    model.build(samples(case).shape)
    model.set_weights(case["initial"])
    return model


def run(case, model):
    """Train as Keras did."""
    n = GOLDEN["train"]
    x, y, weight = samples(case), DATA[case["y"]], DATA["weight"]
    arguments = dict(GOLDEN["fit"])
    if "sample_weight" in case:
        arguments["sample_weight"] = weight[:n]
    if "class_weight" in case:
        arguments["class_weight"] = {int(key): value for key, value in case["class_weight"].items()}
    if "validation_split" in case:
        arguments["validation_split"] = case["validation_split"]
    else:
        arguments["validation_data"] = (x[n:], y[n:])
        if "sample_weight" in case:
            arguments["validation_data"] += (weight[n:],)
    return model.fit(x[:n], y[:n], shuffle=False, verbose=0, **arguments)


def tolerance_of(case, dtype):
    """Return how closely a run can agree with Keras's."""
    long_sums = 5 if "x" in case else 1  # over many pixels
    if dtype == "float32":
        return 2e-6 * long_sums
    description = json.dumps([case[name] for name in DESCRIPTION])
    return 5e-7 * long_sums if any(word in description for word in ROUNDED_BY_KERAS) else 1e-11


def assert_agree(ours, theirs, tolerance, what):
    assert np.shape(ours) == np.shape(theirs), what
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=what)


def assert_repeats(name, dtype, kernels, fused=False):
    case = CASES[name]
    tolerance = tolerance_of(case, dtype)
    model = built(case, dtype, kernels, fused)
    history = run(case, model)
    assert list(history.history) == sorted(history.history)
    assert set(history.history) == set(case["history"])
    for key, values in case["history"].items():
        assert_agree(history.history[key], values, tolerance, f"history of {key}")
    for i, (ours, theirs) in enumerate(zip(model.get_weights(), case["weights"], strict=True)):
        assert_agree(ours, theirs, tolerance, f"array {i} of the weights")
    n = GOLDEN["train"]
    x, y = samples(case)[n:], DATA[case["y"]][n:]
    assert_agree(model.predict(x, verbose=0), case["predictions"], tolerance, "predictions")
    evaluation = model.evaluate(x, y, batch_size=4, verbose=0, return_dict=True)
    assert set(evaluation) == set(case["evaluation"])
    for key, value in case["evaluation"].items():
        assert_agree(evaluation[key], value, tolerance, f"evaluated {key}")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_repeats_keras(name, dtype):
    assert_repeats(name, dtype, "numpy")


@pytest.mark.parametrize(
    "name",
    quick(
        [name for name in CASES if not name.startswith(KERNELS_OF_THEIR_OWN)],
        "sgd", "rmsprop", "adam", "loss_smoothing",
    ),
)  # fmt: skip
def test_compiled_and_fused_repeats_keras(name):
    assert_repeats(name, "float32", "numba", fused=True)


def test_the_traces_learn_something():
    """A trace in which nothing happens would prove nothing."""
    for name, case in CASES.items():
        assert case["history"]["loss"][-1] < case["history"]["loss"][0], name
