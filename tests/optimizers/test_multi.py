"""Several optimizers for one model: who gets which parameter, counting, saving."""

import numpy as np
import pytest
from small import compiled, one_hot, random

from npnet import optimizers
from npnet.layers import BatchNormalization, Dense
from npnet.models import load_model
from npnet.optimizers import SGD, Adam, MultiOptimizer, Muon, OptimizerMap
from npnet.schedules import PolynomialDecay

X, Y = random(0, 24, 5), one_hot(24, 3)


def parts():
    """The optimizers of the test's map: of all else, of a layer's kernel, of the biases."""
    falling = PolynomialDecay(0.2, 10, 0.0)
    return Muon(0.05, weight_decay=0.1), SGD(falling, momentum=0.9, clipnorm=0.1), Adam(0.01)


def several():
    rest, head, biases = parts()
    return MultiOptimizer(OptimizerMap(rest, {"head/kernel": head, ".*/bias": biases}))


def model(optimizer, kernels="numpy"):
    layers = [Dense(6, "tanh", name="first", input_shape=(5,)), BatchNormalization()]
    return compiled(
        [*layers, Dense(3, name="head")], loss="mse", optimizer=optimizer, kernels=kernels, metrics=["mae"]
    )


def fit(net, epochs, **options):
    net.fit(X, Y, epochs=epochs, batch_size=8, verbose=0, **options)
    return net


def test_each_parameter_follows_its_optimizer_alone():
    """A step of each optimizer by itself, with all gradients of one backward pass."""
    net, (rest, head, biases) = model(several()), parts()
    twin = model("sgd")
    step = twin.setup.readable_step()
    for _ in range(3):
        net.train_on_batch(X, Y)
        twin.setup.prepare(X)
        step.loss.forward(Y, twin.forward(X, training=True))
        step.backward()
        kernel, bias, gamma, beta, _, _, head_kernel, head_bias = twin.parameters
        for optimizer, own in (
            (rest, [kernel, gamma, beta]), (head, [head_kernel]), (biases, [bias, head_bias]),
        ):  # fmt: skip
            optimizer.step(own, twin.kernels)
    for mine, expected in zip(net.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-12)


def test_all_count_the_steps_and_a_schedule_follows_them():
    net = fit(model(several()), 2)
    assert net.optimizer.iterations == 6
    assert [optimizer.iterations for optimizer in net.optimizer.optimizers] == [6, 6, 6]
    assert net.optimizer.optimizers[1].learning_rate == pytest.approx(0.2 * 0.4)
    assert net.optimizer.learning_rate == 0.05, "the default's"
    net.get_layer("head").trainable = False
    fit(net, 1)
    assert [optimizer.iterations for optimizer in net.optimizer.optimizers] == [9, 9, 9]


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_a_training_that_was_saved_goes_on_to_the_same_bits(kernels, tmp_path):
    whole = fit(model(several(), kernels), 3)
    fit(model(several(), kernels), 1).save(tmp_path / "m")
    loaded = load_model(tmp_path / "m")
    assert loaded.optimizer.get_config() == several().get_config()
    fit(loaded, 3, initial_epoch=1)
    for mine, expected in zip(loaded.parameters, whole.parameters, strict=True):
        np.testing.assert_array_equal(mine.value, expected.value)
        assert mine.slots.keys() == expected.slots.keys()
        for name, slot in mine.slots.items():
            np.testing.assert_array_equal(slot, expected.slots[name])


def test_a_path_comes_before_patterns_and_patterns_fit_whole_paths():
    one, two, three = SGD(0.1), SGD(0.2), SGD(0.3)
    table = OptimizerMap(one, {"dense/kernel": two, "dense.*": three, "kernel": three, "a": three})
    paths = {p.path: p for p in model("sgd").parameters}
    assert set(paths) >= {"first/kernel", "first/bias", "batch_normalization/gamma", "head/kernel"}
    parameter = paths["first/kernel"]
    for path, expected in {
        "dense/kernel": two, "dense/bias": three, "dense_1/kernel": three, "a/dense/kernel": one,
        "a/kernel": one,
    }.items():  # fmt: skip
        parameter.path = path
        assert table(parameter) is expected
    table = OptimizerMap("sgd", {"dense.*": "adam", ".*/bias": "rmsprop"})
    parameter.path = "dense/bias"
    with pytest.raises(ValueError, match="more than one pattern fits dense/bias"):
        table(parameter)


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(TypeError, match="optimizer_map must be an OptimizerMap, got dict"):
        MultiOptimizer({".*": SGD()})
    with pytest.raises(ValueError, match=r"optimizer_map: '\[' is no regular expression"):
        OptimizerMap("sgd", {"[": "adam"})
    with pytest.raises(ValueError, match="put its patterns in this map instead"):
        OptimizerMap(several())
    with pytest.raises(ValueError, match="use_ema is not known inside"):
        MultiOptimizer(OptimizerMap(SGD(use_ema=True)))
    with pytest.raises(TypeError, match=r"assign to one of \.optimizers"):
        several().learning_rate = 0.1
    with pytest.raises(ValueError, match="Unknown optimizer 'multi_optimizer'"):
        optimizers.get("multi_optimizer")
