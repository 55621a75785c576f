"""Batches from generators, data sets and data loaders: what they mean, and what they cost."""

import itertools
import textwrap
import threading
import time

import fresh
import numpy as np
import pytest

from npnet import Sequential
from npnet.callbacks import LambdaCallback
from npnet.layers import Dense
from npnet.training.batches import Position, epoch_order
from npnet.utils import PyDataset, Sequence

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = np.eye(3)[np.arange(40) % 3]
PARTS = [(X[at : at + 8], Y[at : at + 8]) for at in range(0, 40, 8)]


def model(kernels="numpy"):
    net = Sequential([Dense(5, "relu", input_shape=(6,)), Dense(3, "softmax")], seed=1)
    net.compile("adam", "categorical_crossentropy", metrics=["accuracy"], kernels=kernels)
    return net


class Loader:
    """What PyTorch's DataLoader and tf.data look like: iterables that can be gone through again."""

    def __init__(self, parts=PARTS):
        self.parts, self.passes = parts, 0

    def __iter__(self):
        self.passes += 1
        return iter(self.parts)


class Tensor:
    """An array of another library."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


class Numbered(PyDataset):
    def __init__(self, parts=PARTS, **options):
        super().__init__(**options)
        self.parts, self.asked, self.events = parts, [], []

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, number):
        self.asked.append(number)
        return self.parts[number]

    def on_epoch_begin(self):
        self.events.append("begin")

    def on_epoch_end(self):
        self.events.append("end")


def forever(parts=PARTS):
    while True:
        yield from parts


def weights(net):
    return [w.tobytes() for w in net.get_weights()]


def from_arrays(epochs=2, **options):
    net = model()
    history = net.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, **options)
    return net, history.history


@pytest.mark.parametrize(
    ("batches", "options"),
    [
        (Loader, {}),
        (lambda: Loader([[Tensor(x), Tensor(y)] for x, y in PARTS]), {}),
        (forever, {"steps_per_epoch": 5}),
        (Loader, {"steps_per_epoch": 5}),
        (Numbered, {"shuffle": False}),
        (lambda: Numbered(workers=3, max_queue_size=2), {"shuffle": False}),
    ],
)
def test_every_kind_of_iterable_trains_to_the_bits_of_arrays(batches, options):
    expected, history = from_arrays()
    net = model()
    found = net.fit(batches(), epochs=2, verbose=0, **options).history
    assert found == history
    assert weights(net) == weights(expected)
    assert net.evaluate(batches(), steps=5, verbose=0) == expected.evaluate(X, Y, batch_size=8, verbose=0)
    assert (net.predict(batches(), steps=5, verbose=0) == expected.predict(X, batch_size=8, verbose=0)).all()


def test_fused_steps_take_batches_too():
    expected, net = model("numba"), model("numba")
    expected.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    net.fit(Loader(), verbose=0)
    assert weights(net) == weights(expected)


def test_the_third_part_of_a_batch_is_its_weights_and_classes_are_weighted():
    net, expected = model(), model()
    net.fit(Loader([(x, y, np.arange(8.0)) for x, y in PARTS]), verbose=0)
    expected.fit(X, Y, 8, shuffle=False, sample_weight=np.tile(np.arange(8.0), 5), verbose=0)
    assert weights(net) == weights(expected)
    net, expected = model(), model()
    net.fit(Loader(), class_weight={1: 3.0}, verbose=0)
    expected.fit(X, Y, 8, shuffle=False, class_weight={1: 3.0}, verbose=0)
    assert weights(net) == weights(expected)


def test_an_epoch_of_steps_goes_on_where_the_last_one_ended():
    expected, history = from_arrays(epochs=2)
    net, loader = model(), Loader()
    found = net.fit(loader, epochs=5, steps_per_epoch=2, verbose=0)
    assert weights(net) == weights(expected), "10 batches are two passes"
    assert len(found.history["loss"]) == 5
    assert loader.passes == 2
    assert history["loss"] != found.history["loss"]


def test_validation_data_may_be_an_iterable_of_its_own():
    _, history = from_arrays(validation_data=(X[:16], Y[:16]))
    two = {"validation_steps": 2}
    for validation, options in (
        (Loader(PARTS[:2]), {}),
        (Loader(), two),
        (Numbered(PARTS[:2]), {}),
        (forever(PARTS[:2]), two),
    ):
        found = model().fit(Loader(), epochs=2, validation_data=validation, verbose=0, **options).history
        assert found["val_loss"] == pytest.approx(history["val_loss"])
    found = model().fit(Loader(), epochs=2, validation_data=(X[:16], Y[:16]), verbose=0).history
    assert found["val_loss"] == pytest.approx(history["val_loss"])


def test_a_batch_size_is_of_arrays_where_validation_gives_its_own():
    kept = model().fit(X, Y, epochs=2, verbose=0, batch_size=8, validation_data=(X, Y), shuffle=False)
    loaded = model().fit(X, Y, epochs=2, verbose=0, batch_size=8, validation_data=Loader(), shuffle=False)
    assert loaded.history == kept.history


def test_predictions_need_no_targets():
    net = model()
    expected = net.predict(X, verbose=0)
    for parts in ([x for x, _ in PARTS], [(x,) for x, _ in PARTS], PARTS):
        assert net.predict(Loader(parts), verbose=0) == pytest.approx(expected)


# --- generators that end or raise


def test_a_generator_that_ends_early_ends_training_with_a_warning_and_what_was_learnt_stays():
    net, expected = model(), model()
    expected.fit(X[:32], Y[:32], batch_size=8, shuffle=False, verbose=0)
    generator = iter(PARTS[:4])
    with pytest.warns(UserWarning) as seen:
        history = net.fit(generator, steps_per_epoch=3, epochs=9, verbose=0)
    assert [str(w.message).split(".")[0] for w in seen] == [
        "x ended after 1 of 3 batches",
        "x has ended: nothing is left for epoch 3",
    ]
    assert seen[0].filename == __file__
    assert weights(net) == weights(expected)
    assert len(history.history["loss"]) == 2
    assert net.position == Position(1, 1, net.position.sums)


def test_a_generator_without_steps_is_one_epoch():
    net = model()
    net.fit(iter(PARTS), verbose=0)
    assert net.optimizer.iterations == 5
    assert net.position == Position(1)
    with pytest.raises(
        ValueError, match="x is a list_iterator, which can be gone through once, for 2 epochs"
    ):
        net.fit(iter(PARTS), epochs=2, verbose=0)
    with pytest.raises(ValueError, match=r"validation_data is a list_iterator.*validation_steps"):
        net.fit(Loader(), validation_data=iter(PARTS), epochs=2, verbose=0)


def test_nothing_at_all_is_an_error():
    for call in (model().fit, model().evaluate, model().predict):
        with pytest.raises(ValueError, match="x gives no batch at all"):
            call(iter([]), verbose=0)


def test_an_error_of_a_generator_arrives_with_the_number_of_its_batch():
    def broken():
        yield PARTS[0]
        yield PARTS[1]
        raise OSError("the disk is gone")

    net = model()
    with pytest.raises(OSError, match="the disk is gone") as error:
        net.fit(broken(), verbose=0)
    assert error.value.__notes__ == ["npnet was reading batch 2 of x, counted from 0."]
    assert net.position.batch == 2


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ((X[:8, :5], Y[:8]), r"Batch 1 of x, counted from 0: Dense 'dense' expects \(batch, 6\)"),
        ((X[:8], Y[:7]), "Batch 1 of x, counted from 0: x and y must hold the same number of samples"),
        ((np.full((8, 6), np.nan), Y[:8]), r"Batch 1 of x.*x must be finite, got nan at index \(0, 0\)"),
        (X[:8], r"Batch 1.*x must give \(x, y\) or \(x, y, sample_weight\), got a ndarray of shape"),
        ({"x": X[:8]}, "got a dict"),
    ],
)  # fmt: skip
def test_a_batch_that_does_not_fit_is_named(part, message):
    with pytest.raises(ValueError, match=message):
        model().fit(Loader([PARTS[0], part]), verbose=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y": Y}, "y must be left out: x gives its batches itself"),
        ({"batch_size": 8}, "batch_size must be left out"),
        ({"sample_weight": np.ones(40)}, "sample_weight must be left out"),
        ({"validation_split": 0.1}, "validation_split needs arrays"),
        ({"shuffle": "blocks"}, 'shuffle="blocks" is for arrays'),
        ({"shuffle": "batch"}, 'shuffle must be True, False or "blocks"'),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be at least 1"),
        ({"initial_epoch": Position(1, 3)}, "Begin with a whole epoch"),
        ({"validation_steps": 3}, "validation_steps needs validation_data"),
        ({"validation_data": Loader(), "validation_batch_size": 3}, "validation_batch_size must be left out"),
        ({"validation_data": Loader([(X[:8, :5], Y[:8])])}, "Batch 0 of validation x"),
    ],
)
def test_arguments_that_mean_nothing_for_batches_are_refused(options, message):
    net = model()
    before = weights(net)
    with pytest.raises(ValueError, match=message):
        net.fit(Loader(), epochs=3, verbose=0, **options)
    assert weights(net) == before


def test_steps_of_arrays_are_refused():
    for call in (
        lambda: model().fit(X, Y, steps_per_epoch=3, verbose=0),
        lambda: model().fit(X, Y, validation_data=(X, Y), validation_steps=3, verbose=0),
        lambda: model().evaluate(X, Y, steps=3, verbose=0),
        lambda: model().predict(X, steps=3, verbose=0),
    ):
        with pytest.raises(ValueError, match="must be left out: arrays are gone through whole"):
            call()


def test_a_data_set_that_says_it_never_ends_needs_steps():
    class Repeated:
        """As ``tf.data.Dataset.repeat()``."""

        def __iter__(self):
            while True:
                yield X[:4], Y[:4]

        def cardinality(self):
            return np.int64(-1)

    net = model()
    with pytest.raises(
        ValueError, match="x gives batches for ever: say how many to take, with steps_per_epoch"
    ):
        net.fit(Repeated(), verbose=0)
    assert net.fit(Repeated(), steps_per_epoch=2, verbose=0).params["steps"] == 2
    with pytest.raises(ValueError, match=r"validation x gives batches for ever: .* validation_steps"):
        net.fit(X, Y, validation_data=Repeated(), verbose=0)


def test_a_generator_s_function_that_nobody_called_is_named():
    with pytest.raises(TypeError, match=r"x is forever itself: call it, x=forever\(\.\.\.\)"):
        model().fit(forever, steps_per_epoch=3, verbose=0)
    with pytest.raises(TypeError, match="x is Numbered itself"):
        model().fit(Numbered, verbose=0)


@pytest.mark.parametrize(
    "batches",
    [PARTS, tuple(PARTS), [(X[:4], Y[:4]), (X, Y)], [(X, X), (X, X)], [(X, Y)], [(X, X[:4])] * 2],
)
def test_a_list_of_batches_says_how_to_give_them(batches):
    net = model()
    before = [weights.tobytes() for weights in net.get_weights()]
    for call in (
        lambda: net.fit(batches, verbose=0),
        lambda: net.evaluate(batches, verbose=0),
        lambda: net.predict(batches, verbose=0),
        lambda: net.predict([x for x, _ in batches] + [X[:3]], verbose=0),
        lambda: net.fit(X, Y, validation_data=batches, verbose=0),
    ):
        with pytest.raises(ValueError, match=r"iter\(batches\)"):
            call()
    assert [weights.tobytes() for weights in net.get_weights()] == before


def test_what_is_said_of_a_list_of_batches_works():
    whole, listed = model(), model()
    whole.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    listed.fit(itertools.cycle(PARTS), steps_per_epoch=len(PARTS), epochs=2, verbose=0)
    for one, other in zip(whole.get_weights(), listed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    one_epoch = listed.evaluate(iter(PARTS), verbose=0)
    np.testing.assert_allclose(one_epoch, whole.evaluate(X, Y, verbose=0), rtol=1e-5)


# --- PyDataset


def test_batches_come_in_an_order_of_each_pass():
    net, data = model(), Numbered()
    net.fit(data, epochs=3, verbose=0)
    passes = [data.asked[at : at + 5] for at in (0, 5, 10)]
    assert passes == [epoch_order(5, True, 1, epoch).tolist() for epoch in range(3)]
    assert data.events == ["begin", "end"] * 3
    data = Numbered()
    model().fit(data, epochs=5, steps_per_epoch=3, verbose=0)
    assert [data.asked[at : at + 5] for at in (0, 5, 10)] == passes, "15 batches are three passes"
    assert Sequence is PyDataset


def test_a_stopped_training_goes_on_to_the_same_bits():
    whole, stopped = model(), model()
    history = whole.fit(Numbered(), epochs=3, verbose=0).history
    stop = LambdaCallback(on_train_batch_end=lambda batch, logs: stop_at(7))

    def stop_at(steps):
        stopped.stop_training = stopped.optimizer.iterations == steps

    stopped.fit(Numbered(), epochs=3, verbose=0, callbacks=[stop])
    assert stopped.position.batch == 2
    again = stopped.fit(Numbered(), epochs=3, verbose=0, initial_epoch=stopped.position).history
    assert weights(stopped) == weights(whole)
    assert again["loss"] == history["loss"][1:]


def test_a_training_stopped_after_the_last_batch_of_an_epoch_ends_that_epoch():
    whole, stopped = model(), model()
    whole.fit(Numbered(), epochs=2, verbose=0)
    stopped.fit(Numbered(), epochs=1, verbose=0)
    stopped.epochs_trained, sums = 0, {"loss": [1.0, 40], "accuracy": [10.0, 40]}
    stopped.fit(Numbered(), epochs=2, initial_epoch=Position(0, 5, sums), verbose=0)
    assert weights(stopped) == weights(whole)


def test_workers_work_at_once_and_ahead_and_keep_the_order():
    together = threading.Barrier(3, timeout=10)

    class Slow(Numbered):
        def __getitem__(self, number):
            if number < 3:
                together.wait()  # three threads are here at once, or this raises
            time.sleep(0.02 * (number % 2))
            return super().__getitem__(number)

    data = Slow(workers=3)
    batches = [x for x, _ in data]
    assert all((batch == x).all() for batch, (x, _) in zip(batches, PARTS, strict=True))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("npnet-batches")]


def test_no_more_batches_wait_than_the_queue_holds():
    data = Numbered(PARTS * 8, workers=2, max_queue_size=3)
    batches = iter(data)
    next(batches)
    time.sleep(0.05)
    assert len(data.asked) <= 3
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("npnet-batches")]


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_an_error_of_a_worker_arrives_with_its_batch_after_those_before_it(workers):
    class Broken(Numbered):
        def __getitem__(self, number):
            if number == 3:
                raise KeyError("no such picture")
            return super().__getitem__(number)

    net = model()
    with pytest.raises(KeyError, match="no such picture") as error:
        net.fit(Broken(workers=workers), shuffle=False, verbose=0)
    assert "This was batch 3 of the Broken." in error.value.__notes__
    assert net.optimizer.iterations == 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("npnet-batches")]


def test_what_a_data_set_of_ones_own_is_missing_is_said():
    class Empty(PyDataset):
        pass

    with pytest.raises(NotImplementedError, match="Empty needs __len__"):
        model().fit(Empty(), verbose=0)
    with pytest.raises(ValueError, match=r"len\(\) of the PyDataset x must be at least 1, got 0"):
        model().fit(Numbered([]), verbose=0)
    with pytest.raises(TypeError, match="use_multiprocessing must be False or left out"):
        Numbered(use_multiprocessing=True)


# --- what is shown, and memory


def test_the_number_of_batches_is_shown_once_it_is_known(capsys):
    model().fit(Loader(), epochs=2, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert "5/5 - " in lines[0] and "5/5 - " in lines[1]
    seen = []
    watch = LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(watch.params["steps"]))
    model().fit(Loader(), epochs=2, verbose=0, callbacks=[watch])
    assert seen == [None, 5]


MEMORY = """
import resource, tempfile
from pathlib import Path
import numpy as np
from npnet import Sequential
from npnet.layers import Dense, Rescaling
from npnet.utils import PyDataset

ROWS, COLUMNS, BATCH = 1024, 3072, 256
net = Sequential([Rescaling(1 / 255, input_shape=(COLUMNS,)), Dense(1)])
net.compile("sgd", "mse", kernels="numpy")
net.fit(np.zeros((BATCH, COLUMNS), np.uint8), np.zeros(BATCH), batch_size=BATCH, verbose=0)

allowed = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if "VmData" in line)
LIMIT = allowed + (64 << 20)  # some batches, and the stacks of threads
resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
try:
    np.ones(LIMIT, np.uint8)
    raise SystemExit("the limit does not hold")
except MemoryError:
    pass
STEPS = 5 * LIMIT // (4 * BATCH * COLUMNS) + 1
rows = np.zeros(BATCH)

def draw(number=0):
    return np.full((BATCH, COLUMNS), number, np.float32), rows

def forever():
    while True:
        yield draw()

class Drawn(PyDataset):
    def __len__(self):
        return STEPS

    def __getitem__(self, number):
        return draw(number)
"""


@pytest.mark.parametrize(
    "what",
    [
        "net.fit(forever(), steps_per_epoch=STEPS, verbose=0)",
        "net.fit(Drawn(workers=2, max_queue_size=2), verbose=0)",
        "net.evaluate(forever(), steps=STEPS, verbose=0)",
        "assert net.predict(Drawn(), verbose=0).shape == (STEPS * BATCH, 1)",
        """
        with tempfile.TemporaryDirectory() as folder:
            n = STEPS * BATCH  # as bytes too more than the process may have; on a disk that keeps no zeros
            file = np.lib.format.open_memmap(Path(folder) / "x.npy", "w+", np.uint8, (n, COLUMNS))
            del file
            x = np.load(Path(folder) / "x.npy", mmap_mode="r")
            net.fit(x, np.zeros(n), batch_size=BATCH, shuffle="blocks", verbose=0)
        """,
    ],
    ids=["generator", "PyDataset", "evaluate", "predict", "mapped file"],
)
def test_a_set_five_times_the_memory_of_the_process_trains(what):
    fresh.run(MEMORY + textwrap.dedent(what), kernel=False, OPENBLAS_NUM_THREADS=1)


def test_blocks_are_read_together_and_mixed():
    n = 100_000
    order = epoch_order(n, "blocks", 3, 0)
    assert (np.sort(order) == np.arange(n)).all()
    assert (order == epoch_order(n, "blocks", 3, 0)).all()
    assert (order != epoch_order(n, "blocks", 3, 1)).any()
    for start in range(0, n - 32_768, 32_768):
        mixed = order[start : start + 32_768]
        assert len(np.unique(mixed // 4096)) <= 9, "eight blocks, or nine with the short one"
        assert len(np.unique(mixed[:256] // 4096)) > 4, "a batch has rows of most of them"
    net, again = model(), model()
    for trained in (net, again):
        trained.fit(X, Y, batch_size=8, shuffle="blocks", verbose=0)
    assert weights(net) == weights(again)
