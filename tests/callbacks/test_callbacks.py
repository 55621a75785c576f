"""Callbacks: when they are called, with what, and what each of them does."""

import csv
import warnings

import numpy as np
import pytest

from npnet import Sequential, metrics
from npnet.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from npnet.layers import Dense
from npnet.models import load_model
from npnet.optimizers import SGD
from npnet.schedules import ExponentialDecay

X = np.random.default_rng(0).normal(size=(10, 4))
Y = np.random.default_rng(1).normal(size=(10, 2))


def model(optimizer="sgd", **options):
    net = Sequential([Dense(3, "tanh", input_shape=(4,)), Dense(2)], seed=1)
    net.compile(optimizer, "mse", kernels="numpy", **options)
    return net


def fit(net, *callbacks, epochs=1, batch_size=5, **options):
    return net.fit(
        X, Y, epochs=epochs, batch_size=batch_size, callbacks=list(callbacks), verbose=0, **options
    )


def reporting(*values, name="val_loss"):
    """A callback, to be given first, that reports these values one epoch after the other."""

    def report(epoch, logs):
        logs[name] = values[epoch]

    return LambdaCallback(on_epoch_end=report)


def remembering(weights):
    """A callback that appends the weights after each epoch."""
    callback = LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(callback.model.get_weights()))
    return callback


def equal(weights, others):
    return all(np.array_equal(a, b) for a, b in zip(weights, others, strict=True))


# --- hooks


def test_hooks_are_called_in_keras_order_and_always_with_logs():
    calls = []

    def hook(event):
        # no default for logs: Keras always passes them, so callbacks are written this way
        if "batch" in event or "epoch" in event:
            return lambda self, number, logs: calls.append((event, number, sorted(logs)))
        return lambda self, logs: calls.append((event, sorted(logs)))

    events = [name for name in vars(Callback) if name.startswith("on_")]
    assert len(events) == 14
    watcher = type("Watcher", (Callback,), {event: hook(event) for event in events})()
    net = model()
    fit(net, watcher, epochs=2, validation_data=(X[:3], Y[:3]))
    epoch = lambda n: [  # noqa: E731
        ("on_epoch_begin", n, []),
        ("on_train_batch_begin", 0, []),
        ("on_train_batch_end", 0, ["loss"]),
        ("on_train_batch_begin", 1, []),
        ("on_train_batch_end", 1, ["loss"]),
        ("on_test_begin", []),
        ("on_test_batch_begin", 0, []),
        ("on_test_batch_end", 0, ["loss"]),
        ("on_test_end", ["loss"]),
        ("on_epoch_end", n, ["loss", "val_loss"]),
    ]
    assert calls == [
        ("on_train_begin", []), *epoch(0), *epoch(1), ("on_train_end", ["loss", "val_loss"])
    ]  # fmt: skip
    assert watcher.model is net
    assert watcher.params == {"verbose": 0, "epochs": 2, "steps": 2}
    calls.clear()
    net.evaluate(X, Y, batch_size=10, callbacks=[watcher], verbose=0)
    net.predict(X, batch_size=10, callbacks=[watcher], verbose=0)
    assert calls == [
        ("on_test_begin", []), ("on_test_batch_begin", 0, []), ("on_test_batch_end", 0, ["loss"]),
        ("on_test_end", ["loss"]),
        ("on_predict_begin", []), ("on_predict_batch_begin", 0, []), ("on_predict_batch_end", 0, []),
        ("on_predict_end", []),
    ]  # fmt: skip


def test_batch_logs_are_the_means_so_far():
    logged = []
    watch = LambdaCallback(on_train_batch_end=lambda batch, logs: logged.append(logs["loss"]))
    history = fit(model(SGD(0.0)), watch, batch_size=4, shuffle=False)
    losses = ((model().predict(X, verbose=0) - Y) ** 2).mean(axis=1)
    assert logged == [pytest.approx(losses[:n].mean(), rel=1e-5) for n in (4, 8, 10)]
    assert history.history["loss"] == logged[-1:]


def test_keras_older_batch_hooks_are_called():
    seen = []

    class Old(Callback):
        def on_batch_begin(self, batch, logs=None):
            seen.append(("begin", batch))

        def on_batch_end(self, batch, logs=None):
            seen.append(("end", batch, "loss" in logs))

    fit(model(), Old())
    assert seen == [("begin", 0), ("end", 0, True), ("begin", 1), ("end", 1, True)]


def test_users_callbacks_come_before_history_so_that_what_they_log_is_recorded():
    history = fit(model(), reporting(1.5, 2.5, name="mine"), epochs=2).history
    assert history["mine"] == [1.5, 2.5]


def test_hooks_set_on_the_instance_are_called():
    seen = []
    callback = Callback()
    callback.on_epoch_end = lambda epoch, logs: seen.append(epoch)
    fit(model(), callback, epochs=2)
    assert seen == [0, 1]


@pytest.mark.parametrize("wrong", [EarlyStopping, lambda epoch: 1, "history", 3])
def test_what_is_no_callback_is_refused(wrong):
    for given in (wrong, [wrong], [History(), [wrong]]):
        with pytest.raises(TypeError, match="callbacks must be an instance of Callback or a list of them"):
            model().fit(X, Y, callbacks=given, verbose=0)


def test_a_class_is_no_callback_and_the_error_says_so():
    with pytest.raises(TypeError, match=r"That is the class; write EarlyStopping\(\.\.\.\)"):
        fit(model(), EarlyStopping)


def test_callbacks_may_be_one_or_lists_in_lists_as_in_keras():
    first, second, third = History(), History(), History()
    net = model()
    net.fit(X, Y, callbacks=first, verbose=0)
    net.fit(X, Y, callbacks=(second, [third]), verbose=0)
    assert first.epoch == second.epoch == third.epoch == [0]
    seen = []
    net.evaluate(X, Y, callbacks=LambdaCallback(on_test_end=lambda logs: seen.append("test")), verbose=0)
    net.predict(X, callbacks=LambdaCallback(on_predict_end=lambda logs: seen.append("predict")), verbose=0)
    assert seen == ["test", "predict"]


def test_a_hook_nobody_calls_is_refused():
    with pytest.raises(TypeError, match=r"Unknown hook 'on_epoch_ended'\. Known: on_train_begin"):
        LambdaCallback(on_epoch_ended=print)
    with pytest.raises(TypeError, match="on_test_end must be a function, got 3"):
        LambdaCallback(on_test_end=3)


def test_hooks_without_their_names_come_in_keras_order_and_none_is_no_hook():
    seen = []

    def hook(name):
        return lambda *arguments: seen.append(name)

    names = ["epoch begin", "epoch end", "train begin", "train end", "batch begin", "batch end"]
    fit(model(), LambdaCallback(*map(hook, names)), batch_size=10)
    assert seen == [names[i] for i in (2, 0, 4, 5, 1, 3)]
    seen.clear()
    fit(model(), LambdaCallback(None, on_epoch_end=None, on_test_begin=None, on_batch_end=hook("old")))
    assert seen == ["old", "old"]


def test_stop_training_ends_after_the_step_or_the_epoch_and_the_next_fit_starts_again():
    net, batches = model(), []

    def stop(batch, logs):
        batches.append(batch)
        net.stop_training = True

    history = fit(net, LambdaCallback(on_train_batch_end=stop), epochs=5)
    assert (batches, history.epoch, net.optimizer.iterations) == ([0], [0], 1)
    assert fit(net, epochs=2).epoch == [0, 1]
    ends = LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(net, "stop_training", epoch == 1))
    assert fit(net, ends, epochs=5).epoch == [0, 1]


@pytest.mark.parametrize("where", ["on_epoch_begin", "on_train_batch_end", "on_test_end", "on_epoch_end"])
def test_an_error_in_a_callback_reaches_the_user_after_on_train_end(where):
    ended = []

    def fail(*arguments):
        raise OSError("no disk")

    net = model()
    with pytest.raises(OSError, match="no disk"):
        fit(
            net,
            LambdaCallback(on_train_end=lambda logs: ended.append(True)),
            LambdaCallback(**{where: fail}),
            validation_data=(X, Y),
        )
    assert ended == [True]
    assert fit(net).epoch == [0], "and the model can go on"


def test_an_error_in_on_train_begin_is_the_one_that_is_seen(tmp_path):
    with pytest.raises(FileNotFoundError):
        fit(model(), EarlyStopping(), CSVLogger(tmp_path / "missing" / "log.csv"))


# --- History


def test_history_is_per_fit_and_plain():
    net = model(metrics=["mae"])
    first = fit(net, epochs=2, validation_data=(X, Y))
    assert list(first.history) == ["loss", "mae", "val_loss", "val_mae"]
    assert all(type(v) is float for values in first.history.values() for v in values)
    assert first.params == {"verbose": 0, "epochs": 2, "steps": 2}
    assert net.history is first
    fit(net)
    assert net.history is not first
    assert first.epoch == [0, 1]
    assert repr(first) == "<History of 2 epochs: loss, mae, val_loss, val_mae>"
    assert repr(History()) == "<History of 0 epochs: >"


# --- EarlyStopping


@pytest.mark.parametrize(
    ("values", "options", "epochs"),
    [
        ([3, 2, 1, 1, 1, 1], {}, 4),
        ([3, 2, 1, 1, 1, 1], {"patience": 2}, 5),
        ([3, 2, 2.5, 1, 2, 2], {"patience": 2}, 6),
        ([3, 2.75, 2.5, 2.25, 1, 1], {"min_delta": 0.5, "patience": 2}, 3),
        ([3, 2.75, 2.5, 2.25, 1, 1], {"min_delta": -0.5, "patience": 2}, 3),
        ([1, 2, 3, 4, 5, 6], {"mode": "max"}, 6),
        ([1, 2, 3, 4, 5, 6], {"monitor": "val_accuracy"}, 6),
        ([1, 2, 3, 4, 5, 6], {"monitor": "val_mae"}, 2),
        ([1, 2, 3, 4, 5, 6], {"start_from_epoch": 3}, 5),
        ([5, 4, 3, 2.5, 2.4, 3], {"baseline": 2.0}, 6),
        ([5, 6, 3, 2.5, 2.4, 3], {"baseline": 2.0}, 2),
        ([5, 1, 3, 2.5, 2.4, 3], {"baseline": 2.0, "patience": 2}, 4),
        ([1, 5, 5, 5, 5, 5], {"baseline": 2.0, "patience": 3}, 4),
        ([float("nan"), 3, 2, 2, 1, 1], {"patience": 2}, 6),
        ([float("inf"), 3, 2, 2, 1, 1], {"patience": 1}, 4),
        ([-1, float("-inf"), 5, 4, 1, 1], {"patience": 2}, 4),
    ],
)
def test_when_early_stopping_stops(values, options, epochs):
    """The epochs are those of Keras 3's callback, except that a NaN is never the best."""
    net, stopping = model(), EarlyStopping(**options)
    history = fit(net, reporting(*values, name=stopping.monitor), stopping, epochs=6)
    assert len(history.epoch) == epochs
    assert stopping.stopped_epoch == (epochs - 1 if net.stop_training else 0)


def interrupt(*arguments):
    raise KeyboardInterrupt


def break_down(*arguments):
    raise RuntimeError("another callback broke down")


def spoil(net):
    """A callback that makes the loss NaN from epoch 3 on."""

    def act(epoch, logs):
        if epoch == 3:
            for parameter in net.parameters:
                parameter.value[...] = np.nan

    return LambdaCallback(on_epoch_begin=act)


@pytest.mark.parametrize("ending", ["patience", "last epoch", "Ctrl-C", "error", "NaN", "stop_training"])
def test_the_best_weights_come_back_however_training_ends(ending):
    net, weights = model(), []
    stopping = EarlyStopping(patience=2 if ending == "patience" else 99, restore_best_weights=True)
    values = reporting(3, 1, 2, 2, 2, 2)
    before = [values, remembering(weights), stopping]
    at_4 = lambda act: LambdaCallback(on_epoch_end=lambda epoch, logs: act() if epoch == 4 else None)  # noqa: E731
    if ending in ("patience", "last epoch"):
        fit(net, *before, epochs=6)
    elif ending == "Ctrl-C":
        with pytest.raises(KeyboardInterrupt):
            fit(net, *before, at_4(interrupt), epochs=6)
    elif ending == "error":
        with pytest.raises(RuntimeError, match="another callback"):
            fit(net, at_4(break_down), *before, epochs=6)
    elif ending == "NaN":
        fit(net, spoil(net), TerminateOnNaN(), *before, epochs=6)
    else:
        fit(net, *before, at_4(lambda: setattr(net, "stop_training", True)), epochs=6)
    assert (
        len(weights)
        == {"patience": 4, "last epoch": 6, "Ctrl-C": 5, "error": 4, "NaN": 4, "stop_training": 5}[ending]
    )
    assert (stopping.best, stopping.best_epoch) == (1, 1)
    assert equal(net.get_weights(), weights[1])
    assert not equal(weights[1], weights[2])


def test_weights_of_a_training_that_diverged_at_once_do_not_come_back():
    """The first value is the best, NaN too; weights that are NaN are no weights to restore."""
    net, ended = model(), []

    def spoil_all(epoch, logs):
        for parameter in net.parameters:
            parameter.value[...] = np.nan

    stopping = EarlyStopping("loss", patience=1, restore_best_weights=True)
    behind = LambdaCallback(on_train_end=lambda logs: ended.append(True))
    history = fit(net, LambdaCallback(on_epoch_begin=spoil_all), stopping, behind, epochs=5)
    assert len(history.epoch) < 5 and ended
    assert stopping.best_weights is None and np.isnan(net.get_weights()[0]).all()


def test_the_best_weights_are_a_copy_that_later_training_leaves_alone():
    net, weights = model(), []
    stopping = EarlyStopping(restore_best_weights=True)
    fit(net, reporting(1, 2), remembering(weights), stopping, epochs=2)
    fit(net, epochs=3)
    assert equal(stopping.best_weights, weights[0])


def test_without_restoring_the_last_weights_stay():
    net, weights = model(), []
    fit(net, reporting(1, 2), remembering(weights), EarlyStopping(), epochs=2)
    assert equal(net.get_weights(), weights[-1])


def test_an_early_stopping_used_again_starts_anew():
    stopping = EarlyStopping(restore_best_weights=True)
    fit(model(), reporting(0, 1), stopping, epochs=2)
    history = fit(model(), reporting(5, 4, 3, 2), stopping, epochs=4)
    assert len(history.epoch) == 4
    assert (stopping.best, stopping.stopped_epoch) == (2, 0)


def test_early_stopping_says_what_it_does_if_asked(capsys):
    fit(model(), reporting(1, 2), EarlyStopping(restore_best_weights=True, verbose=1), epochs=2)
    out = capsys.readouterr().out
    assert "Epoch 2: early stopping" in out
    assert "epoch 1, the best" in out


@pytest.mark.parametrize("watcher", [EarlyStopping, ReduceLROnPlateau])
def test_a_value_nobody_reports_is_a_warning_that_lists_what_there_is(watcher):
    with pytest.warns(
        UserWarning, match=r"watches 'val_loss'.*it reports loss.*validation data or change monitor"
    ):
        fit(model(), watcher())


@pytest.mark.parametrize("watcher", [EarlyStopping, ReduceLROnPlateau])
def test_a_value_of_several_numbers_is_refused(watcher):
    with pytest.raises(
        TypeError, match=r"watches 'f1', which must be one number, got 2: .*average=\"macro\""
    ):
        fit(model(), reporting([0.5, 1.0], name="f1"), watcher("f1", mode="max"))


# --- ModelCheckpoint


def test_checkpoints_are_named_by_epoch_and_value_and_load(tmp_path):
    net = model()
    path = tmp_path / "deep" / "er" / "{epoch:02d}-{val_loss:.2f}.safetensors"
    fit(net, reporting(0.5, 0.25, 0.125), ModelCheckpoint(path), epochs=3)
    names = sorted(file.name for file in (tmp_path / "deep" / "er").iterdir())
    assert names == ["01-0.50.safetensors", "02-0.25.safetensors", "03-0.12.safetensors"]
    last = load_model(path.with_name(names[-1]))
    assert equal(last.get_weights(), net.get_weights())
    assert last.optimizer.iterations == 6


def test_save_best_only_keeps_the_best(tmp_path):
    net, weights, path = model(), [], tmp_path / "best"
    best = ModelCheckpoint(path, save_best_only=True, save_weights_only=True)
    fit(net, reporting(3, 1, 2, float("nan"), 1), remembering(weights), best, epochs=5)
    net.load_weights(path)
    assert equal(net.get_weights(), weights[1])
    fit(net, reporting(1.5, 2), best, epochs=2)
    net.load_weights(path)
    assert equal(net.get_weights(), weights[1]), "the best of the run before still counts, as in Keras"


def test_a_threshold_must_be_beaten_first(tmp_path):
    path = tmp_path / "m"
    fit(
        model(),
        reporting(3, 2),
        ModelCheckpoint(path, save_best_only=True, initial_value_threshold=1.0),
        epochs=2,
    )
    assert not path.exists()


def test_checkpoints_by_steps(tmp_path):
    path = tmp_path / "{epoch}-{batch}"
    fit(model(), ModelCheckpoint(path, save_freq=3), epochs=3, batch_size=5)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["2-1", "3-2"]


def test_a_weights_only_checkpoint_holds_no_model(tmp_path):
    fit(model(), ModelCheckpoint(tmp_path / "w", save_weights_only=True))
    with pytest.raises(ValueError, match="weights only"):
        load_model(tmp_path / "w")


def test_a_file_name_with_a_value_nobody_reports(tmp_path):
    with pytest.raises(KeyError, match=r"val_acc.*which this run does not report: epoch, batch, loss"):
        fit(model(), ModelCheckpoint(tmp_path / "{val_acc}"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("freq", [0, -1, "epochs", 1.5, None])
def test_wrong_save_freq(freq):
    with pytest.raises(ValueError, match="save_freq"):
        ModelCheckpoint("m", save_freq=freq)


WATCHERS = [
    EarlyStopping,
    ReduceLROnPlateau,
    lambda *monitor, **o: ModelCheckpoint("m", *monitor, save_best_only=True, **o),
]


@pytest.mark.parametrize("kind", WATCHERS)
def test_auto_knows_every_metric_s_direction(kind):
    keys = {cls.key for cls in metrics.NAMES.values() if hasattr(cls, "key")}
    more = {
        name
        for name in keys
        if any(
            word in name for word in ("accuracy", "auc", "precision", "recall", "score", "true", "sensitiv")
        )
    } | {"cosine_similarity", "specificity_at_sensitivity"}
    for name in {*metrics.NAMES, *keys, "loss"} - {"mean", "mean_metric_wrapper"}:
        full = metrics.NAMES[name].key if name in metrics.NAMES else name
        for monitor in (name, f"val_{name}"):
            watcher = kind(monitor)
            watcher.set_model(model())
            assert watcher.sign == (1 if full in more else -1), monitor
    for monitor in ("val_f1_score", "auc", "val_balanced_accuracy"):
        watcher = kind(monitor)
        watcher.set_model(model())
        assert watcher.sign == 1


@pytest.mark.parametrize("kind", WATCHERS)
def test_auto_refuses_a_name_it_does_not_know_before_the_first_epoch(kind):
    net = model()
    with pytest.raises(ValueError, match=r"'val_quality', of which it does not know whether more or less"):
        fit(net, kind("val_quality"), reporting(1, name="val_quality"))
    assert net.optimizer.iterations == 0
    fit(net, reporting(1, name="val_quality"), EarlyStopping("val_quality", mode="max"))
    fit(net, ModelCheckpoint("m-{epoch}", "val_quality", save_freq=100))  # watches nothing


def test_auto_asks_the_model_s_metrics():
    class Spread(metrics.MeanSquaredError):
        key = "spread"
        grows = True

    names = {"spread": 1, "closeness": 1, "error": -1}
    net = model(
        metrics=[Spread(), metrics.CategoricalAccuracy("closeness"), metrics.MeanAbsoluteError("error")]
    )
    watchers = [EarlyStopping(name) for name in names]
    fit(net, *watchers)
    assert [watcher.sign for watcher in watchers] == list(names.values())


@pytest.mark.parametrize("kind", WATCHERS)
def test_the_direction_is_known_without_a_model(kind):
    assert (kind("val_loss").sign, kind("val_f1_score").sign) == (-1, 1)
    with pytest.raises(ValueError, match="Say mode="):
        assert kind("val_quality").sign


@pytest.mark.parametrize("kind", WATCHERS)
def test_wrong_mode(kind):
    with pytest.raises(ValueError, match='"auto", "min" or "max"'):
        kind(mode="maximum")


# --- learning rates


def test_scheduler_sets_and_logs_the_rate(capsys):
    net = model(SGD(0.5))
    history = fit(
        net, LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate, verbose=1), epochs=3
    )
    assert history.history["learning_rate"] == [0.5, 0.25, 0.125]
    assert net.optimizer.learning_rate == 0.125
    assert "Epoch 3: learning rate 0.125" in capsys.readouterr().out


def scaled(epoch, rate=1.0, factor=2):
    return factor * rate


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (lambda epoch: 0.1 * 0.5**epoch, [0.1, 0.05]),
        (lambda *known: known[1] / 2, [0.25, 0.125]),
        (scaled, [1.0, 2.0]),
        (ExponentialDecay(0.1, 1, 0.5), [0.1, 0.05]),
    ],
)
def test_a_schedule_may_take_the_rate_or_not(schedule, rates):
    history = fit(model(SGD(0.5)), LearningRateScheduler(schedule), epochs=2)
    assert history.history["learning_rate"] == rates


def test_a_schedule_of_other_arguments_is_refused_and_its_own_errors_are_seen():
    with pytest.raises(
        TypeError, match=r"schedule must take \(epoch\) or \(epoch, learning_rate\), got .*\(\)"
    ):
        LearningRateScheduler(lambda: 0.1)
    with pytest.raises(TypeError, match="unsupported operand"):
        fit(model(), LearningRateScheduler(lambda epoch, rate: rate + "1"))


@pytest.mark.parametrize("rate", [-1.0, float("nan"), None, "0.1"])
def test_a_schedule_that_gives_no_rate_is_refused(rate):
    with pytest.raises((TypeError, ValueError), match="learning_rate must be"):
        fit(model(), LearningRateScheduler(lambda epoch, present: rate if rate != "0.1" else [0.1]))


def test_a_scheduled_optimizer_cannot_be_set():
    with pytest.raises(TypeError, match="follows a schedule"):
        fit(model(SGD(ExponentialDecay(0.1, 10, 0.5))), LearningRateScheduler(lambda epoch, rate: 0.1))


@pytest.mark.parametrize(
    ("values", "options", "rates"),
    [
        ([3, 2, 1, 1, 1, 1], {"patience": 2}, [1, 1, 1, 1, 1, 0.1]),
        ([1, 1, 1, 1, 1, 1], {"patience": 1, "factor": 0.5}, [1, 1, 0.5, 0.25, 0.125, 0.0625]),
        ([1, 1, 1, 1, 1, 1], {"patience": 1, "factor": 0.5, "min_lr": 0.3}, [1, 1, 0.5, 0.3, 0.3, 0.3]),
        ([1, 1, 1, 1, 1, 1], {"patience": 1, "factor": 0.5, "cooldown": 2}, [1, 1, 0.5, 0.5, 0.25, 0.25]),
        ([1, 1 - 5e-5, 1 - 9e-5, 0.9, 0.8, 0.7], {"patience": 2}, [1, 1, 1, 0.1, 0.1, 0.1]),
        ([1, 2, 3, 3, 3, 3], {"patience": 2, "mode": "max"}, [1, 1, 1, 1, 1, 0.1]),
    ],
)
def test_when_the_plateau_reduces(values, options, rates):
    """The rates are those of Keras 3's callback given the same values."""
    history = fit(model(SGD(1.0)), reporting(*values), ReduceLROnPlateau(**options), epochs=6)
    assert history.history["learning_rate"] == pytest.approx(rates)


@pytest.mark.parametrize("factor", [0, 1, 1.5, -0.1])
def test_wrong_factor(factor):
    with pytest.raises(ValueError, match="factor must lie between 0 and 1"):
        ReduceLROnPlateau(factor=factor)


# --- CSVLogger


def rows(path, delimiter=","):
    with path.open(newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


def test_csv_has_a_header_and_a_row_an_epoch_while_training_runs(tmp_path):
    path, lengths = tmp_path / "log.csv", []
    look = LambdaCallback(on_epoch_end=lambda epoch, logs: lengths.append(len(rows(path))))
    history = fit(
        model(metrics=["mae"]), CSVLogger(path, separator=";"), look, epochs=3, validation_data=(X, Y)
    )
    assert lengths == [2, 3, 4]
    table = rows(path, ";")
    assert table[0] == ["epoch", "loss", "mae", "val_loss", "val_mae"]
    assert [int(row[0]) for row in table[1:]] == [0, 1, 2]
    for i, name in enumerate(table[0][1:], 1):
        assert [float(row[i]) for row in table[1:]] == history.history[name], "every digit is there"


def test_csv_goes_on_or_starts_again(tmp_path):
    path = tmp_path / "log.csv"
    fit(model(), CSVLogger(path), epochs=2, validation_data=(X, Y))
    fit(model(), CSVLogger(path, append=True), epochs=4, initial_epoch=2, validation_data=(X, Y))
    assert [row[0] for row in rows(path)] == ["epoch", "0", "1", "2", "3"]
    fit(model(), CSVLogger(path, append=True))
    assert rows(path)[-1][0] == "0"
    assert rows(path)[-1][2] == "NA", "the columns stay those of the header"
    fit(model(), CSVLogger(path))
    assert len(rows(path)) == 2
    fit(model(), CSVLogger(tmp_path / "new.csv", append=True))
    assert rows(tmp_path / "new.csv")[0][:2] == ["epoch", "loss"]


@pytest.mark.parametrize("text", ["epoch,loss\n0,0.5\n", "epoch\tloss\n0\t0.5", "somebody's notes\n"])
def test_csv_goes_on_with_no_file_that_is_not_of_its_separator(tmp_path, text):
    path, net = tmp_path / "log.csv", model()
    path.write_text(text)
    before = [weights.tobytes() for weights in net.get_weights()]
    with pytest.raises(ValueError, match=r"no column epoch in the first line of .*separator=';'. Give the"):
        fit(net, CSVLogger(path, separator=";", append=True))
    assert path.read_text() == text
    assert [weights.tobytes() for weights in net.get_weights()] == before


def test_csv_goes_on_in_a_line_of_its_own(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n0,0.5")  # edited by hand, or cut off when the disk was full
    fit(model(), CSVLogger(path, append=True), initial_epoch=1, epochs=2)
    assert [row[:1] for row in rows(path)] == [["epoch"], ["0"], ["1"]]
    assert rows(path)[1] == ["0", "0.5"]
    path.write_text("")
    fit(model(), CSVLogger(path, append=True))
    assert rows(path)[0] == ["epoch", "loss"]


def test_csv_has_no_columns_of_what_is_never_reported(tmp_path):
    path = tmp_path / "log.csv"
    fit(model(metrics=["mae"]), CSVLogger(path), epochs=2)
    assert rows(path)[0] == ["epoch", "loss", "mae"]


def test_csv_gets_a_column_when_a_value_is_first_reported(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch;loss;name, of mine\n0;0.5;a\n1;0.25\n")
    late = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update({"late": 7} if epoch == 3 else {}))
    fit(model(), late, CSVLogger(path, separator=";", append=True), initial_epoch=2, epochs=5)
    table = rows(path, ";")
    assert table[0] == ["epoch", "loss", "name, of mine", "late"]
    assert table[1:3] == [["0", "0.5", "a", "NA"], ["1", "0.25", "NA", "NA"]]
    assert [row[0] for row in table[3:]] == ["2", "3", "4"]
    assert [row[2:] for row in table[3:]] == [["NA", "NA"], ["NA", "7"], ["NA", "NA"]]


def test_csv_columns_stay_when_validation_comes_every_other_epoch(tmp_path):
    path = tmp_path / "log.csv"
    history = fit(model(), CSVLogger(path), epochs=4, validation_data=(X, Y), validation_freq=2)
    table = rows(path)
    assert table[0] == ["epoch", "loss", "val_loss"]
    assert [row[2] for row in table[1:]] == [
        "NA",
        *(str(v) for v in history.history["val_loss"][:1]),
        "NA",
        table[4][2],
    ]
    assert float(table[4][2]) == history.history["val_loss"][1]


def test_csv_is_closed_however_training_ends(tmp_path):
    logger = CSVLogger(tmp_path / "log.csv")
    with pytest.raises(RuntimeError):
        fit(model(), logger, LambdaCallback(on_epoch_end=break_down))
    assert logger.file.closed
    assert len(rows(tmp_path / "log.csv")) == 2


# --- TerminateOnNaN


@pytest.mark.parametrize("raise_error", [False, True])
def test_a_loss_that_is_no_number_ends_training_at_once(raise_error, capsys):
    net = model(SGD(1e30))
    batches = []
    watch = LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(batch))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        if raise_error:
            message = r"Step \d, batch \d of epoch 1: the loss is (nan|inf) at .* Try a learning"
            with pytest.raises(RuntimeError, match=message):
                fit(net, watch, TerminateOnNaN(raise_error=True), epochs=5, batch_size=1)
        else:
            history = fit(net, watch, TerminateOnNaN(), epochs=5, batch_size=1)
            assert "the loss is" in capsys.readouterr().out
            assert history.epoch == [0]
    assert 0 < len(batches) < 10


def test_checkpoints_are_numbered_within_their_epoch(tmp_path):
    fit(model(), ModelCheckpoint(tmp_path / "{epoch}-{batch}.safetensors", save_freq=1), epochs=2)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["1-1", "1-2", "2-1", "2-2"]


@pytest.mark.parametrize(
    ("filepath", "message"),
    [
        ("{epoch.safetensors", "filepath '{epoch.safetensors' cannot be filled in"),
        ("{}.safetensors", "must name values in its braces"),
        ("{0}.safetensors", "must name values in its braces"),
        ("{0.x}.safetensors", "must name values in its braces"),
    ],
)
def test_names_of_checkpoints_that_cannot_be_filled_in_are_refused_at_once(filepath, message):
    with pytest.raises(ValueError, match=message):
        ModelCheckpoint(filepath)


def test_a_name_of_a_checkpoint_wants_one_number(tmp_path):
    several = reporting([0.5, 0.7], name="f1_score")
    with pytest.raises(TypeError, match="cannot be filled in: f1_score is a number for each class"):
        fit(model(), several, ModelCheckpoint(tmp_path / "{f1_score:.2f}.safetensors"))
    for name, error in (("{epoch[0]}", TypeError), ("{epoch.x}", AttributeError), ("{loss:q}", ValueError)):
        with pytest.raises(error, match=r"filepath .* cannot be filled in: .*(epoch|int|format)"):
            fit(model(), ModelCheckpoint(tmp_path / f"{name}.safetensors"))


def test_a_log_is_not_lost_by_a_wrong_argument(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"epoch,lo\xff\n")
    for separator in ("ab", "", '"'):
        with pytest.raises(ValueError, match="separator must be one character"):
            CSVLogger(path, separator=separator)
    with pytest.raises(ValueError, match=r"log\.csv, which is no text in UTF-8"):
        fit(model(), CSVLogger(path, append=True))
    assert path.read_bytes() == b"epoch,lo\xff\n"


@pytest.mark.parametrize("first", [np.nan, np.inf])
def test_the_first_value_is_the_best_even_if_it_is_no_number(first):
    """As in Keras: two epochs of patience begin after the first epoch, whose weights are the best known."""
    net, seen = model(), []
    remember = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(net.get_weights()))
    stopping = EarlyStopping(patience=2, restore_best_weights=True)
    reducing = ReduceLROnPlateau(factor=0.5, patience=2)
    fit(net, reporting(first, np.nan, np.nan, 1.0), remember, reducing, stopping, epochs=4)
    assert len(seen) == 3 and net.optimizer.learning_rate == 0.005
    for ours, theirs in zip(net.get_weights(), seen[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_any_number_is_better_than_none():
    stopping = EarlyStopping(patience=3)
    fit(model(), reporting(np.nan, 5.0, 4.0), stopping, epochs=3)
    assert stopping.best == 4
