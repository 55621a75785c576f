"""npnet explain: a step that is told from what was computed, with the docstrings' formulas."""

import numpy as np
import pytest
from small import compiled, one_hot, random

from npnet import activations, optimizers
from npnet.checking import gradient_cases
from npnet.checking.explain import explain, formula
from npnet.cli import main
from npnet.datasets import shapes
from npnet.kernels import reference, rules
from npnet.layers import (
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePooling2D,
    GroupNormalization,
    LayerNormalization,
    MaxPooling2D,
    SeparableConv2D,
)
from npnet.runs import datasets

X, Y = random(1, 8, 2), one_hot(8, 3)


def network(*layers, **options):
    return compiled([*layers, Dense(3, "softmax")], "categorical_crossentropy", "float32", **options)


def told(capsys, *arguments):
    code = main(["explain", *arguments])
    return code, capsys.readouterr().out


def test_the_story_is_that_of_the_training_step():
    """Losses, gradients and weights are those of train_on_batch."""
    layers = [Dense(4, "tanh", input_shape=(2,)), Dense(4, "relu")]
    model = network(*layers, optimizer="adam")
    story = explain(model, X, Y)
    assert story.loss == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-5)
    before = model.get_weights()
    model.train_on_batch(X, Y)
    assert story.after == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-5)
    steps = {a.name: float(a.note.split()[1].rstrip(",")) for a in story.update.arrays}
    moved = [np.linalg.norm(new - old) for new, old in zip(model.get_weights(), before, strict=True)]
    np.testing.assert_allclose(list(steps.values()), moved, rtol=1e-2)
    assert list(steps)[:2] == ["dense/W", "dense/b"]


def test_every_gradient_is_nudged_and_right():
    model = network(Dense(4, "tanh", input_shape=(2,)), BatchNormalization(), Dropout(0.3), Dense(4, "gelu"))
    story = explain(model, X, Y)
    assert story.right and len(story.errors) >= 14
    names = [array.name for operation in story.backward for array in operation.arrays]
    assert names[:4] == ["dlogits", "dW", "db", "dx"] and {"dgamma", "dbeta"} <= set(names)
    assert story.promised == pytest.approx(story.after - story.loss, rel=0.5)


def test_a_wrong_gradient_is_told():
    model = network(Dense(4, input_shape=(2,)), gradient_cases.MasklessReLU())
    story = explain(model, X, Y)
    assert not story.right and "WRONG" in story.text()
    wrong = [operation.name for operation in story.backward if max(a.error for a in operation.arrays) > 1e-8]
    assert wrong == ["maskless_re_lu", "dense"]


def test_the_model_stays_as_it_is():
    model = network(Dense(4, "relu", input_shape=(2,)), BatchNormalization())
    model.train_on_batch(X, Y)
    before = model.get_weights()
    explain(model, X, Y)
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert model.optimizer.iterations == 1
    model.train_on_batch(X, Y)


def test_formulas_are_the_docstrings():
    assert formula(reference.dense_forward)[0] == ["y = x W + b:  (N, M) = (N, D) (D, M) + (M,)"]
    assert formula(rules.relu_backward)[0][0].startswith("dx = dy where y > 0")
    assert formula(rules.rmsprop_general)[0][0].startswith("v <- rho v")
    heads = [formula(kernel)[0] for kernel in vars(reference).values() if callable(kernel)]
    assert all(heads)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_lines_fit_the_terminal(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    flags = "--hidden 4 --batch-norm --dropout 0.3 --optimizer adamw --weight-decay 0.1"
    code, out = told(capsys, *flags.split())
    assert code == 0
    assert max(map(len, out.splitlines())) <= min(width, 100)
    assert "WRONG" not in out and "kink:" not in out
    assert "y = x W" in out and "m <- m + (1-b1)(g - m)" in out and "before that every" in out


@pytest.fixture
def few_shapes(monkeypatch):
    """Draw as many pictures as are explained, not a data set of them."""
    few = (lambda path, limit: shapes.load_data(40, 10)), shapes.CLASS_NAMES
    monkeypatch.setitem(datasets.LOADERS, "shapes", few)


@pytest.mark.usefixtures("few_shapes")
def test_pictures(capsys):
    code, out = told(capsys, "--dataset", "shapes", "--hidden", "4", "--batch-size", "4")
    assert code == 0 and "3072-4-10" in out


@pytest.fixture
def few_nudges(monkeypatch):
    """Nudge some numbers of each array of a large network: which, does not matter to what is told."""
    monkeypatch.setattr("npnet.checking.explain.ENTRIES", 6)


@pytest.mark.usefixtures("few_nudges", "few_shapes")
def test_convolutions(capsys):
    flags = "--dataset shapes --filters 2 --hidden 4 --batch-size 2 --batch-norm --activation tanh"
    code, out = told(capsys, *flags.split())
    assert code == 0 and "32x32x3-2-2-pool-4-10" in out and "WRONG" not in out
    for words in (
        "x[at] W[tap]", "dW = x[at]' dy for each tap", "laid where x[at] was", "y = gamma z + beta",
        "y = the largest number under the window", "dx = dy for the pixel that was taken",
    ):  # fmt: skip
        assert words in " ".join(out.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--filters 4", "flip, shift and filters are for pictures"),
        ("--dataset shapes --filters 0", "filters must be at least 1, got 0"),
        ("--dataset shapes --filters 1,1,1,1,1,1", "output's size would be zero or negative"),
    ],
)
@pytest.mark.usefixtures("few_shapes")
def test_convolutions_that_cannot_be(capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        main(["explain", *options.split()])
    assert stop.value.code == 2 and message in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("few_nudges")
def test_every_layer_is_told_and_right():
    """Those that call kernels in another role (a transposed convolution) tell it themselves."""
    stack = [
        Conv2D(3, 3, padding="same", activation="tanh", input_shape=(5, 6, 2)), MaxPooling2D(),
        BatchNormalization(), DepthwiseConv2D(2), GroupNormalization(3), SeparableConv2D(2, 1),
        Conv2DTranspose(3, 2, activation="gelu"), LayerNormalization(), AveragePooling2D((1, 2)),
        GlobalAveragePooling2D(),
    ]  # fmt: skip
    story = explain(network(*stack), random(1, 4, 5, 6, 2), one_hot(4, 3))
    assert story.right
    steps = {operation.name: operation for operation in story.backward}
    assert [a.name for a in steps["conv2d"].arrays] == ["dW", "db", "dx"]
    assert [a.name for a in steps["conv2d_transpose"].arrays] == ["of kernel", "of bias", "dx"]
    assert steps["separable_conv2d"].arrays[-1].name == "dx"
    assert steps["global_average_pooling2d"].formulas == ["dx = dy / (H W) for each pixel"]
    forward = {operation.name: operation.formulas for operation in story.forward}
    assert forward["conv2d_transpose"][0].startswith("y = the sum over taps of x W[tap]'")
    assert all(formulas for name, formulas in forward.items() if name != "input")


@pytest.mark.parametrize("optimizer", optimizers.NAMES)
def test_every_optimizer_can_be_told(optimizer):
    update = explain(network(Dense(4, input_shape=(2,)), optimizer=optimizer), X, Y).update
    assert any("<-" in line for line in update.formulas) and any("with " in line for line in update.formulas)


@pytest.mark.parametrize("name", ["tanh", "log_softmax"])
def test_activations_without_a_joint_loss(name):
    assert name in activations.NAMES
    model = compiled([Dense(3, name, input_shape=(2,))], "mse", optimizer="sgd")
    story = explain(model, X, Y)
    assert story.right and story.backward[0].name == "loss"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--optimizer", "adma"], "Did you mean adam"),
        (["--datset", "spiral"], "Did you mean --dataset"),
        (["--hidden", "a"], "16,16"),
        (["--hidden", "0"], "hidden must be at least 1, got 0"),
        (["--dropout", "2"], "dropout must be at least 0 and below 1, got 2.0"),
        (["--lr", "nan"], "learning_rate must be finite"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
    ],
)
def test_wrong_options_exit_with_2_and_say_what_is_right(capsys, wrong, message):
    with pytest.raises(SystemExit) as stop:
        main(["explain", *wrong])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
