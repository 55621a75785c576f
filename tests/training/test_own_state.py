"""State of one training is nobody else's: step counts, metric sums, orders, outputs."""

import copy

import numpy as np
import pytest

from npnet import Sequential, optimizers, schedules
from npnet.callbacks import LambdaCallback
from npnet.layers import Dense

RNG = np.random.default_rng(0)
X = RNG.standard_normal((30, 4)).astype(np.float32)
Y = np.eye(3)[np.arange(30) % 3]


def network(optimizer="sgd", kernels="numpy", loss="categorical_crossentropy", **options):
    last = "softmax" if loss == "categorical_crossentropy" else None
    model = Sequential([Dense(5, "relu", input_shape=(4,)), Dense(3, last)], seed=1)
    model.compile(optimizer, loss, kernels=kernels, **options)
    return model


def test_an_optimizer_counts_the_steps_of_one_model():
    shared = optimizers.Adam(schedules.CosineDecay(0.05, 100))
    first, second = network(shared), network(shared)
    first.fit(X, Y, verbose=0)
    before = second.get_weights()
    with pytest.raises(RuntimeError, match=r"This Adam has taken 1 steps for another model.*Adam\(\.\.\.\)"):
        second.fit(X, Y, verbose=0)
    assert all(map(np.array_equal, second.get_weights(), before))
    first.compile(shared, "categorical_crossentropy", kernels="numpy")  # its own model goes on with it
    first.fit(X, Y, verbose=0)
    assert shared.iterations == 2
    second.compile(optimizers.Adam(), "categorical_crossentropy", kernels="numpy")
    second.fit(X, Y, verbose=0)


def test_a_fresh_optimizer_goes_to_the_model_that_trains_first():
    shared = optimizers.Adam()
    _, second = network(shared), network(shared)
    second.fit(X, Y, verbose=0)
    assert shared.iterations == 1


def test_evaluating_in_a_callback_leaves_the_epoch_as_it_was(kernels):
    def run(look):
        model = network(kernels=kernels, metrics=["accuracy", "mse"])
        evaluate = LambdaCallback(
            on_train_batch_end=lambda batch, logs: model.evaluate(X[:3], Y[:3], verbose=0)
        )
        history = model.fit(X, Y, 4, 2, verbose=0, callbacks=[evaluate] if look else []).history
        return history, [weight.tobytes() for weight in model.get_weights()]

    assert run(look=True) == run(look=False)


def test_every_fit_has_an_order_of_its_own_and_goes_on_where_the_last_ended(kernels):
    whole, parts = network(kernels=kernels), network(kernels=kernels)
    whole.fit(X, Y, 4, epochs=3, verbose=0)
    for _ in range(3):
        parts.fit(X, Y, 4, epochs=1, verbose=0)
    assert all(map(np.array_equal, whole.get_weights(), parts.get_weights()))

    same_order = network(kernels=kernels)
    for _ in range(3):
        same_order.epochs_trained = 0
        same_order.fit(X, Y, 4, epochs=1, verbose=0)
    assert not np.array_equal(same_order.get_weights()[0], parts.get_weights()[0])


def test_the_order_is_saved_with_the_model(tmp_path, kernels):
    from npnet.models import load_model

    whole = network(kernels=kernels)
    for _ in range(2):
        whole.fit(X, Y, 4, verbose=0)
    first = network(kernels=kernels)
    first.fit(X, Y, 4, verbose=0)
    first.save(tmp_path / "m")
    rest = load_model(tmp_path / "m")
    rest.fit(X, Y, 4, verbose=0)
    assert all(map(np.array_equal, whole.get_weights(), rest.get_weights()))


@pytest.mark.parametrize("loss", ["mse", "categorical_crossentropy"])
def test_metrics_do_not_depend_on_how_many_steps_one_call_takes(loss):
    """Of single samples too: each step's predictions are its own."""
    figures = []
    for kernels, steps in (("numpy", 1), ("numba", 1), ("numba", 3), ("numba", "auto")):
        model = network(kernels=kernels, loss=loss, metrics=["mae"], steps_per_execution=steps)
        figures.append(model.fit(X, Y, batch_size=1, verbose=0).history["mae"][0])
    np.testing.assert_allclose(figures, figures[0], rtol=1e-5)


def test_predictions_of_one_call_need_little_memory():
    model = Sequential([Dense(200_000, "softmax", input_shape=(1,))])
    model.compile("sgd", "sparse_categorical_crossentropy", kernels="numba")
    step = model.setup.step()
    assert step.at_once(32) == 1
    assert network(kernels="numba").setup.step().at_once(32) > 1


def test_an_array_held_from_before_training_is_stale_and_value_is_not():
    model = network(kernels="numba")
    held = model.layers[0].weight.value
    before = held.copy()
    model.fit(X, Y, verbose=0)
    assert np.array_equal(held, before)
    assert not np.array_equal(model.layers[0].weight.value, before)


def test_an_optimizer_can_be_copied_with_its_model():
    model = network("adam")
    model.fit(X, Y, verbose=0)
    twin = copy.deepcopy(model)
    twin.fit(X, Y, verbose=0)
    model.fit(X, Y, verbose=0)
    assert all(map(np.array_equal, twin.get_weights(), model.get_weights()))
