"""Which kernels compute where nobody has chosen: NumPy's for small networks, by their shapes alone."""

import copy

import numpy as np
import pytest

from npnet import Sequential
from npnet.callbacks import LambdaCallback
from npnet.kernels import name_of
from npnet.kernels.machine import threads
from npnet.layers import Conv1D, Dense, Flatten, Input, Layer
from npnet.models import load_model
from npnet.training.setup import SMALL

DEEP = [Input((99,)), Dense(100)]  # 10,000 weights


def name(model):
    return name_of(model.setup.kernels)


def compiled(layers, **options):
    model = Sequential(copy.deepcopy(layers), seed=1)
    model.compile("sgd", "mse", **options)
    return model


def test_weights_decide():
    assert sum(array.size for array in compiled(DEEP).get_weights()) == SMALL
    assert name(compiled(DEEP)) == "numpy"
    assert name(compiled([*DEEP, Dense(1)])) == "numba"
    assert name(compiled([Input((9, 1)), Conv1D(2, 3), Flatten(), Dense(1)])) == "numba"
    assert name(compiled(DEEP, kernels="numba")) == "numba"
    assert name(compiled([*DEEP, Dense(1)], kernels="numpy")) == "numpy"


@pytest.mark.parametrize("first", ["fit", "predict", "call"])
def test_a_network_is_looked_at_when_it_is_built(first):
    model = compiled([Dense(3)])
    x, y = np.ones((4, 2), np.float32), np.ones((4, 3), np.float32)
    if first == "fit":
        model.fit(x, y, verbose=0)
    elif first == "predict":
        model.predict(x, verbose=0)
    else:
        model(x)
    assert name_of(model.kernels) == name_of(model.layers[0].kernels) == "numpy"


def test_a_network_that_grows_is_looked_at_again():
    model = compiled(DEEP)
    x = np.random.default_rng(0).random((8, 99), np.float32)
    model.fit(x, np.ones((8, 100)), verbose=0)
    model.add(Dense(1))
    assert model.fit(x, np.ones((8, 1)), verbose=0).history["loss"][0] > 0
    assert {name_of(layer.kernels) for layer in model.layers} == {"numba"}


def test_saved_copied_and_compiled_again_a_network_computes_as_before(tmp_path):
    model, x, y = compiled(DEEP), np.ones((4, 99)), np.ones((4, 100))
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.safetensors")
    twins = [load_model(tmp_path / "m.safetensors"), copy.deepcopy(model)]
    expected = model.fit(x, y, verbose=0, initial_epoch=0).history["loss"]
    for twin in twins:
        assert name(twin) == "numpy"
        assert twin.fit(x, y, verbose=0, initial_epoch=0).history["loss"] == expected


# --- threads of NumPy's BLAS ------------------------------------------------------------------------------


def blas_threads():
    return [library["num_threads"] for library in threads._blas_libraries().info()]


@pytest.fixture
def two_threads():
    """BLAS has two threads, as on a machine of two processors."""
    with threads._blas_libraries().limit(limits=2):
        if set(blas_threads()) != {2}:
            pytest.skip("this BLAS has a number of threads of its own")
        yield


def fitted(layers, **options):
    """Return digits of a trained model's weights, and the threads of BLAS while it trained."""
    model, seen = compiled(layers, kernels="numpy", **options), []
    rng = np.random.default_rng(0)
    x, y = rng.random((2000, 99), np.float32), rng.random((2000, model.output_shape[-1]), np.float32)
    model.fit(
        x, y, 400, verbose=0, callbacks=[LambdaCallback(on_epoch_end=lambda *_: seen.append(blas_threads()))]
    )
    model.evaluate(
        x, y, verbose=0, callbacks=[LambdaCallback(on_test_end=lambda *_: seen.append(blas_threads()))]
    )
    return model.get_weights(), seen


def test_a_small_network_has_the_same_bits_however_many_threads_blas_has(two_threads):
    found = []
    for limit in (1, 2):
        with threads._blas_libraries().limit(limits=limit):
            found.append(fitted(DEEP))
    for one, other in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_small_network_takes_one_thread_of_blas_and_gives_the_others_back(two_threads):
    assert set(map(tuple, fitted(DEEP)[1])) == {tuple(1 for _ in blas_threads())}
    assert set(blas_threads()) == {2}
    assert set(map(tuple, fitted([*DEEP, Dense(1)])[1])) == {tuple(2 for _ in blas_threads())}


class Multiplies(Layer):
    """A layer of one's own, which looks how many threads it has."""

    seen: list

    def forward(self, x, training=False):
        self.seen.append(set(blas_threads()))
        return x

    def backward(self, dy):
        self.seen.append(set(blas_threads()))
        return dy


@pytest.mark.parametrize(("kernels", "count"), [("numba", 1), ("numpy", 2)])
def test_a_layer_of_ones_own_has_one_thread_of_blas_beside_compiled_kernels(two_threads, kernels, count):
    """Idle threads of BLAS wait awake, on the cores of the kernels' threads."""
    model = compiled([Dense(200, "relu"), Multiplies(), Dense(3)], kernels=kernels)
    seen = model.layers[1].seen = []
    x, y = np.ones((40, 99), np.float32), np.eye(3)[np.arange(40) % 3]
    for call in (
        lambda: model.fit(x, y, verbose=0, validation_data=(x, y)),
        lambda: model.train_on_batch(x, y),
        lambda: model.evaluate(x, y, verbose=0),
        lambda: model.predict(x, verbose=0),
        lambda: model.predict(x[:1], verbose=0),
        lambda: model(x),
    ):
        seen.clear()
        call()
        assert seen == [{count}] * len(seen) != []
        assert set(blas_threads()) == {2}


def test_blas_gets_its_threads_back_when_the_last_of_several_trainings_ends(two_threads):
    with threads.one_blas_thread():
        with pytest.raises(OSError, match="no"), threads.one_blas_thread():
            raise OSError("no")
        assert set(blas_threads()) == {1}
    assert set(blas_threads()) == {2}
