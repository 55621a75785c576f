"""Frozen parameters: what is not trained stays, costs no backward work, and stays frozen when it is saved."""

import numpy as np
import pytest
from small import compiled, one_hot, random

from npnet import Sequential
from npnet.callbacks import FreezeLayers, LambdaCallback
from npnet.kernels import load
from npnet.layers import BatchNormalization, Conv2D, Dense, Flatten
from npnet.models import clone_model, load_model
from npnet.regularizers import L2

X, Y = random(0, 12, 6, 6, 2), one_hot(12, 3)


def model(kernels="numpy", **options):
    layers = [
        Conv2D(4, 3, activation="tanh", name="first", input_shape=(6, 6, 2)), Conv2D(3, 2, name="second"),
        Flatten(), Dense(3, name="head"),
    ]  # fmt: skip
    return compiled(layers, kernels=kernels, dtype="float32", **options)


@pytest.fixture
def passes(monkeypatch):
    """The backward passes of convolutions, as they are called."""
    calls, reference = [], load("numpy")

    def record(name):
        original = getattr(reference, f"convolution_backward_{name}")

        def recorded(*arguments):
            calls.append(name)
            return original(*arguments)

        monkeypatch.setattr(reference, f"convolution_backward_{name}", recorded)

    record("parameters")
    record("input")
    return calls


def test_frozen_filters_leave_their_bias_to_learn(kernels):
    net, free = model(kernels), model(kernels)
    net.get_layer("first").kernel.trainable = False
    before = net.get_weights()
    for either in (net, free):
        either.train_on_batch(X, Y)
    np.testing.assert_array_equal(net.get_weights()[0], before[0])
    for mine, expected in zip(net.get_weights()[1:], free.get_weights()[1:], strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-7)
    assert (net.get_weights()[1] != before[1]).all()


def test_what_is_frozen_costs_no_backward_pass(passes):
    net = model()
    net.train_on_batch(X, Y)
    assert passes == ["parameters", "input", "parameters"]
    passes.clear()
    first, second = net.get_layer("first"), net.get_layer("second")
    first.kernel.trainable = False  # its bias needs dy, and no product
    net.train_on_batch(X, Y)
    assert passes == ["parameters", "input"]
    passes.clear()
    second.trainable = False  # in the middle: dx alone
    net.train_on_batch(X, Y)
    assert passes == ["input"]
    passes.clear()
    first.trainable = False
    net.train_on_batch(X, Y)
    assert passes == []


def test_frozen_parameters_are_frozen_in_the_file_and_in_a_clone(tmp_path):
    net = model()
    net.get_layer("first").kernel.trainable = False
    net.fit(X, Y, verbose=0)
    net.save(tmp_path / "m")
    for twin in (load_model(tmp_path / "m"), clone_model(net)):
        assert [p.path for p in twin.parameters if p.frozen] == ["first/kernel"]
    again = load_model(tmp_path / "m")
    for either in (net, again):
        either.fit(X, Y, epochs=2, initial_epoch=1, verbose=0)
    for a, b in zip(net.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not any(p.frozen for p in BatchNormalization(name="bn", input_shape=(3,)).parameters)


def test_layers_are_frozen_from_an_epoch_on_also_by_a_run_that_goes_on(tmp_path):
    def trained(net, epochs, **options):
        net.fit(X, Y, 5, epochs, verbose=0, callbacks=[FreezeLayers(["first"], 2)], **options)
        return net

    whole = trained(model(optimizer="adam"), 4)
    weights = trained(model(optimizer="adam"), 2).get_weights()
    assert all((a == b).all() for a, b in zip(whole.get_weights()[:2], weights[:2], strict=True))
    assert (whole.get_weights()[2] != weights[2]).any() and not whole.get_layer("first").trainable
    for epochs in (1, 3):
        trained(model(optimizer="adam"), epochs).save(tmp_path / "m")
        again = trained(load_model(tmp_path / "m"), 4, initial_epoch=epochs)
        assert all((a == b).all() for a, b in zip(whole.get_weights(), again.get_weights(), strict=True))
    with pytest.raises(ValueError, match="Unknown layer 'frist'"):
        model().fit(X, Y, verbose=0, callbacks=[FreezeLayers(["frist"], 2)])


def test_batch_normalisation_takes_penalties_on_gamma_and_beta():
    layers = [
        BatchNormalization(gamma_regularizer=L2(0.5), beta_regularizer=L2(0.25), input_shape=(3,)),
        Dense(3, kernel_initializer="zeros", trainable=False),
    ]
    net = compiled(layers, optimizer="sgd")
    gamma, beta = net.layers[0].gamma, net.layers[0].beta
    beta.value[...] = 2.0
    assert net.penalty() == 0.5 * 3 + 0.25 * 12
    net.train_on_batch(random(1, 8, 3), np.zeros((8, 3)))  # the loss has no gradient: its kernel is 0
    np.testing.assert_allclose(gamma.value, 1 - 0.01 * 1.0, rtol=1e-12)
    np.testing.assert_allclose(beta.value, 2 - 0.01 * 1.0, rtol=1e-12)


# --- the last batch


def test_a_remainder_that_is_dropped_is_not_trained_on():
    sizes = []

    class Recorded(Dense):
        def forward(self, x, training=False):
            sizes.append(len(x))
            return super().forward(x, training)

    net = compiled([Recorded(3, input_shape=(5,))], optimizer="sgd")
    x, y = random(0, 14, 5), random(1, 14, 3)
    history = net.fit(x, y, 4, epochs=2, verbose=0, drop_remainder=True)
    assert sizes == [4] * 6 and net.optimizer.iterations == 6 and history.params["steps"] == 3
    assert net.position.epoch == 2 and net.epochs_trained == 2
    whole = compiled([Dense(3, input_shape=(5,))], optimizer="sgd")
    whole.fit(x[:12], y[:12], 4, verbose=0, shuffle=False)
    dropped = compiled([Dense(3, input_shape=(5,))], optimizer="sgd")
    dropped.fit(x, y, 4, verbose=0, shuffle=False, drop_remainder=True)
    np.testing.assert_array_equal(dropped.get_weights()[0], whole.get_weights()[0])
    with pytest.raises(ValueError, match="leaves none of 14 samples, fewer than batch_size=15"):
        net.fit(x, y, 15, verbose=0, drop_remainder=True)
    with pytest.raises(ValueError, match="drop_remainder is for arrays"):
        net.fit(iter([(x, y)]), verbose=0, drop_remainder=True)


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_to_freeze_all_in_the_middle_of_training_is_refused(kernels):
    def freeze(epoch, logs):
        net.layers[0].trainable = epoch < 1

    net = Sequential([Dense(2, input_shape=(3,))])
    net.compile("sgd", "mse", kernels=kernels)
    with pytest.raises(RuntimeError, match="nothing to train: no layer with parameters is trainable"):
        net.fit(np.ones((4, 3)), np.ones((4, 2)), epochs=3, verbose=0, callbacks=[LambdaCallback(freeze)])
