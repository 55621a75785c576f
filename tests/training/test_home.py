"""Weights have one home: no interrupt, error or reading thread loses what was learnt or sees half a step."""

import copy
import pickle
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from effort import times

from npnet import Sequential
from npnet.callbacks import LambdaCallback
from npnet.layers import Dense, Dropout, Layer
from npnet.losses import CategoricalCrossentropy
from npnet.models import load_model
from npnet.optimizers import Adam

RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 7)).astype(np.float32)
Y = np.eye(3)[np.arange(24) % 3]


def network(fused=True, dropout=False):
    layers = [Dense(9, "relu"), *([Dropout(0.3)] if dropout else []), Dense(3, "softmax")]
    model = Sequential(layers, seed=1)
    model.compile("adam", "categorical_crossentropy", ["accuracy"], kernels="numba", fused=fused)
    return model


def state(model):
    """Weights and the optimizer's memory, as bytes."""
    slots = [p.slots[name].tobytes() for p in model.parameters for name in sorted(p.slots)]
    return [weight.tobytes() for weight in model.get_weights()] + slots


def trained_alone(steps=2):
    """A model whose numbers are in the plan's layout."""
    model = network()
    for _ in range(steps):
        model.train_on_batch(X, Y)
    assert model.layers[0].weight.home.here
    return model


def trained(steps=2):
    """A model whose numbers are in the plan's layout, and what they are, read from a twin."""
    return trained_alone(steps), state(trained_alone(steps))


class Interrupter:
    """Raises KeyboardInterrupt before one of the instructions of npnet's Python code."""

    def __init__(self, at):
        self.at = at
        self.count = 0

    def _trace(self, frame, event, argument):
        if "npnet" not in frame.f_code.co_filename or "/tests/" in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.count += 1
            if self.count == self.at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._trace

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self._trace)

    def __exit__(self, *exception):
        sys.settrace(self.before)


def interrupted(action, at):
    """Do it with an interrupt before one of its instructions; return how many there were."""
    interrupter = Interrupter(at)
    try:
        with interrupter:
            action()
    except KeyboardInterrupt:
        pass
    return interrupter.count


READS = {
    "get_weights": lambda model, path: model.get_weights(),
    "save": lambda model, path: model.save(path),
    "evaluate": lambda model, path: model.evaluate(X, Y, verbose=0),
    "predict": lambda model, path: model.predict(X, verbose=0),
    "slots": lambda model, path: [dict(p.slots) for p in model.parameters],
    "copy": lambda model, path: copy.deepcopy(model),
    "pickle": lambda model, path: pickle.dumps(model),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a file half written
@pytest.mark.parametrize("read", READS)
def test_an_interrupt_at_any_instruction_of_a_read_loses_nothing(read, tmp_path):
    model, expected = trained()
    _, after_another_step = trained(3)
    instructions = interrupted(lambda: READS[read](model, tmp_path / "m"), at=0)
    choose = random.Random(0)
    for _ in range(times(40, 1500)):
        model = trained_alone()
        interrupted(lambda m=model: READS[read](m, tmp_path / "m"), choose.randint(1, instructions))
        assert state(model) == expected
        model.train_on_batch(X, Y)  # and training goes on as if nothing had happened
        assert state(model) == after_another_step


def test_an_interrupted_write_is_done_or_not_done():
    model, before = trained()
    new = [2 * weight for weight in model.get_weights()]
    again, _ = trained()
    instructions = interrupted(lambda: again.set_weights(new), at=0)
    written = [weight.tobytes() for weight in new]
    choose, outcomes = random.Random(0), set()
    places = [choose.randint(1, instructions) for _ in range(times(80, 3000))]
    for place in (*places, *range(instructions - 10, instructions + 2)):
        model = trained_alone()
        interrupted(lambda m=model: m.set_weights(new), place)
        after = state(model)
        assert after in (before, written + before[len(written) :])
        outcomes.add(after == before)
    assert outcomes == {True, False}


@pytest.mark.parametrize("fused", [True, False])
def test_an_interrupt_in_a_callback_that_reads_and_writes_leaves_whole_steps(fused):
    def run(at):
        model, interrupter = network(fused), Interrupter(at)

        def look(batch, logs):
            if batch == 1:
                with interrupter:
                    model.set_weights(model.get_weights())
                    model.predict(X[:2], verbose=0)

        callbacks = [LambdaCallback(on_train_batch_end=look)]
        try:
            model.fit(X, Y, batch_size=6, verbose=0, callbacks=callbacks)
        except KeyboardInterrupt:
            assert model.optimizer.iterations == 2
        else:  # what is looked up once is not looked up again: there may be fewer instructions
            assert interrupter.count != at
        return model, interrupter.count

    whole, instructions = run(0)
    stopped = network(fused)
    stop = LambdaCallback(
        on_train_batch_end=lambda batch, logs: setattr(stopped, "stop_training", batch == 1)
    )
    stopped.fit(X, Y, batch_size=6, verbose=0, callbacks=[stop])
    choose = random.Random(0)
    for _ in range(times(40, 1500)):
        model, _ = run(choose.randint(1, instructions))
        assert state(model) == state(stopped if model.optimizer.iterations == 2 else whole)
    assert state(whole) != state(stopped)


def test_an_error_while_saving_leaves_what_was_learnt(tmp_path, monkeypatch):
    model, expected = trained()
    from npnet.kernels.products import layouts

    def fails(*arguments):
        raise MemoryError

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(layouts, "from_squares", fails)
        model.save(tmp_path / "m")
    model.save(tmp_path / "m")
    assert state(load_model(tmp_path / "m")) == state(model) == expected


@pytest.mark.parametrize("options", [{}, {"fused": False}, {"dropout": True}], ids=str)
def test_reading_threads_change_nothing_and_see_whole_steps(options, tmp_path):
    """What they read is what the model was between two steps."""
    probe, moments = X[:5], set()

    def train(model, note):
        def end(batch, logs):
            if note:
                moments.add(model.predict(probe, batch_size=2, verbose=0).tobytes())
                moments.add(b"".join(weight.tobytes() for weight in model.get_weights()))

        callback = LambdaCallback(on_train_begin=lambda logs: end(0, logs), on_train_batch_end=end)
        model.fit(X, Y, batch_size=4, epochs=15, verbose=0, callbacks=[callback] if note else None)
        return state(model)

    model = network(**options)
    model.build((None, 7))
    expected = train(model, note=True)

    model, ended, read = network(**options), threading.Event(), []
    model.build((None, 7))

    def reader(action):
        while not ended.is_set():
            read.append(action())

    actions = [
        lambda: model.predict(probe, batch_size=2, verbose=0).tobytes(),
        lambda: b"".join(weight.tobytes() for weight in model.get_weights()),
        lambda: (model.evaluate(X, Y, verbose=0), next(iter(moments)))[1],
        lambda: b"".join(weight.tobytes() for weight in copy.deepcopy(model).get_weights()),
    ]
    threads = [threading.Thread(target=reader, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    try:
        assert train(model, note=False) == expected
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert len(read) > 4
    assert set(read) <= moments


# --- who looks at weights, and when ----------------------------------------------------------------------


class Looks(Layer):
    """A layer that looks at another one's weights in every pass, and may change them."""

    def __init__(self, other, factor):
        super().__init__()
        self.other, self.factor = other, factor
        self.seen = []

    def forward(self, x, training=False):
        value = self.other.kernel.value
        self.seen.append(float(value.sum()))
        if training and self.factor != 1:
            value *= self.factor
        return x

    def backward(self, dy):
        self.seen.append(float(self.other.get_weights()[0].sum()))
        return dy


class LooksToo(CategoricalCrossentropy):
    """A loss that looks at weights."""

    def __init__(self, looks):
        super().__init__()
        self.looks = looks

    def forward(self, y_true, y_pred, sample_weight=None):
        self.looks.forward(y_pred, training=True)
        return super().forward(y_true, y_pred, sample_weight)


@pytest.mark.parametrize("optimizer", ["adam", Adam(clipnorm=0.1)], ids=["adam", "clipped"])
@pytest.mark.parametrize("factor", [1, 0.9])
@pytest.mark.parametrize("place", ["first", "between", "loss"])
def test_code_within_a_step_sees_the_weights_as_they_are_and_may_change_them(place, factor, optimizer):
    def run(fused):
        dense = [Dense(9, "relu"), Dense(8, "relu"), Dense(3, "softmax")]
        looks = [Looks(dense[0], factor), Looks(dense[1], factor)]
        loss = LooksToo(looks[0]) if place == "loss" else "categorical_crossentropy"
        layers = {
            "first": [*looks, *dense],
            "between": [dense[0], looks[0], dense[1], looks[1], dense[2]],
            "loss": dense,
        }[place]
        model = Sequential(layers, seed=1)
        model.compile(copy.deepcopy(optimizer), loss, kernels="numba", fused=fused)
        losses = [model.train_on_batch(X, Y) for _ in range(4)]
        losses += model.fit(X, Y, 6, epochs=2, verbose=0).history["loss"]  # several steps at once, if it can
        slots = [p.slots[name] for p in model.parameters for name in sorted(p.slots)]
        return losses, looks[0].seen, looks[1].seen, *model.get_weights(), *slots

    for ours, theirs in zip(run(True), run(False), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_predictions_leave_the_numbers_in_the_plan():
    """A loop that predicts and trains in turn would copy all weights and slots twice in each turn."""
    model, twin = network(), network(fused=False)
    for _ in range(3):
        for one in (model, twin):
            one.train_on_batch(X, Y)
        home = model.layers[0].weight.home
        for look in (
            lambda m: m.predict(X, verbose=0),
            lambda m: m.evaluate(X, Y, verbose=0),
            lambda m: np.concatenate([weight.ravel() for weight in m.get_weights()]),
            lambda m: np.array(m.layers[0].kernel),
        ):
            np.testing.assert_allclose(look(model), look(twin), rtol=1e-4, atol=1e-6)
        assert home.here
    for one in (model, twin):
        one.layers[0].kernel.value[...] *= 0.5
    assert not home.here
    np.testing.assert_allclose(model.predict(X, verbose=0), twin.predict(X, verbose=0), rtol=1e-4, atol=1e-6)


def test_what_is_assigned_to_a_parameter_s_value_is_copied_into_it():
    models = network(), network(fused=False)
    for model in models:
        model.train_on_batch(X, Y)
        kernel, bias = model.layers[0].parameters
        array = kernel.value
        kernel.value *= 0.5
        bias.value = np.arange(9.0)
        assert kernel.value is array
        with pytest.raises(ValueError, match="shape"):
            bias.value = np.zeros(8)
        model.train_on_batch(X, Y)
    for ours, theirs in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_fused_step_leaves_no_gradient_of_an_earlier_one():
    model = network(fused=False)
    model.train_on_batch(X, Y)
    kernel = model.layers[0].kernel
    assert kernel.grad.shape == kernel.shape
    model.compile("adam", "categorical_crossentropy", kernels="numba")
    model.train_on_batch(X, Y)
    assert not hasattr(kernel, "grad")
    with pytest.raises(AttributeError, match=r"/kernel has no gradient.*fused=False"):
        kernel.grad  # noqa: B018
    assert copy.deepcopy(model).layers[0].kernel.shape == kernel.shape


def test_two_threads_that_predict_after_a_training_agree():
    for _ in range(times(20, 300)):
        model = trained_alone()
        twin = copy.deepcopy(model)
        model.train_on_batch(X, Y)
        twin.train_on_batch(X, Y)
        expected = twin.predict(X, verbose=0).tobytes()
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda m: m.predict(X, verbose=0).tobytes(), [model, model]))
        assert results == [expected, expected]


@pytest.mark.parametrize("fused", [True, False])
def test_copies_and_pickles_are_models_of_their_own(fused):
    model = network(fused)
    model.fit(X, Y, batch_size=5, verbose=0)
    for twin in (copy.deepcopy(model), copy.copy(model), pickle.loads(pickle.dumps(model))):
        assert state(twin) == state(model)
        assert twin.setup.chain is twin
        twin.fit(X, Y, batch_size=5, verbose=0)
        assert state(twin) != state(model)


def test_two_threads_that_train_one_layer_end_or_are_refused():
    shared = Dense(9, "relu")
    models = [Sequential([shared, Dense(3, "softmax")], seed=seed) for seed in (1, 2)]
    for model in models:
        model.compile("sgd", "categorical_crossentropy", kernels="numba")
        model.train_on_batch(X, Y)
    refused = []

    def train(model):
        for _ in range(200):
            try:
                model.train_on_batch(X, Y)
            except RuntimeError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=train, args=(model,), daemon=True) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert all("train one after the other" in text for text in refused)
    assert all(np.isfinite(weight).all() for model in models for weight in model.get_weights())


def test_one_layer_in_two_models_keeps_each_ones_memory():
    """As in Keras: the weights are shared, each optimizer remembers its own steps."""

    def run(fused):
        shared = Dense(9, "relu", input_shape=(7,))
        first, second = Sequential([shared, Dense(3, "softmax")], seed=1), None
        first.compile("adam", "categorical_crossentropy", fused=fused)
        first.train_on_batch(X, Y)
        memory = [p.slots["first_moment"].copy() for p in shared.parameters]
        second = Sequential([shared, Dense(3, "softmax")], seed=2)
        second.compile("rmsprop", "categorical_crossentropy", fused=fused)
        second.train_on_batch(X, Y)
        kept = [first.optimizer.memory[p]["first_moment"] for p in shared.parameters]
        assert all(map(np.array_equal, kept, memory))
        for model in (first, second, first):
            model.train_on_batch(X, Y)
        return [*first.get_weights(), *second.get_weights()]

    for ours, theirs in zip(run(True), run(False), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
