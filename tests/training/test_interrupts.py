"""Ctrl-C, with real signals in real processes."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from effort import times

from npnet import Sequential
from npnet.callbacks import LambdaCallback
from npnet.internal.interrupts import deferred
from npnet.layers import Dense

PRELUDE = """
import os, signal, sys, time
import numpy as np
from npnet import Sequential
from npnet.callbacks import Callback, EarlyStopping, LambdaCallback
from npnet.layers import Dense
model = Sequential([Dense(8, "tanh", input_shape=(4,)), Dense(3)], seed=1)
model.compile("adam", "mse", kernels="numpy", fused=False)
x, y = np.random.default_rng(0).normal(size=(50, 4)), np.zeros((50, 3))
say = lambda *words: print(*words, flush=True)
press = lambda: os.kill(os.getpid(), signal.SIGINT)
handler = signal.getsignal(signal.SIGINT)
"""


def start(program):
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )


def lines(program):
    process = start(program)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.splitlines()


@pytest.mark.parametrize("attempt", range(times(1, 50)))
def test_ctrl_c_from_outside_ends_training_between_steps(attempt):
    """Weights and slots are those of whole steps: a run of that many steps has the same bits."""
    process = start(
        """
        started = LambdaCallback(
            on_epoch_end=lambda epoch, logs: say("epoch", epoch) if epoch == 2 else None,
            on_train_end=lambda logs: say("ended"),
        )
        try:
            model.fit(x, y, epochs=10**6, batch_size=8, callbacks=[started], verbose=0)
        except KeyboardInterrupt:
            steps = model.optimizer.iterations
            say("history", (steps - 1) // 7 <= len(model.history.epoch) <= steps // 7)
            say("handler", signal.getsignal(signal.SIGINT) is handler)
        twin = Sequential([Dense(8, "tanh", input_shape=(4,)), Dense(3)], seed=1)
        twin.compile("adam", "mse", kernels="numpy")
        count = LambdaCallback(on_train_batch_end=lambda batch, logs: setattr(
            twin, "stop_training", twin.optimizer.iterations == steps))
        twin.fit(x, y, epochs=10**6, batch_size=8, callbacks=[count], verbose=0)
        say("same", all((a == b).all() for a, b in zip(model.get_weights(), twin.get_weights())))
        slots = lambda net: [v for p in net.parameters for v in p.slots.values()]
        say("slots", all((a == b).all() for a, b in zip(slots(model), slots(twin), strict=True)))
        model.fit(x, y, verbose=0)
        say("goes on", model.history.epoch)
        """
    )
    assert process.stdout.readline() == "epoch 2\n"
    time.sleep(random.Random(attempt).uniform(0, 0.2))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines() == [
        "ended",
        "history True",
        "handler True",
        "same True",
        "slots True",
        "goes on [0]",
    ]


def test_ctrl_c_inside_a_step_waits_for_its_end():
    out = lines(
        """
        forward = model.loss.forward
        def slow(*arguments):
            if model.optimizer.iterations == 2:
                press()
                time.sleep(0.05)
                say("still in step")
            return forward(*arguments)
        model.loss.forward = slow
        try:
            model.fit(x, y, epochs=3, batch_size=10, verbose=0,
                      callbacks=[LambdaCallback(on_train_end=lambda logs: say("ended"))])
        except KeyboardInterrupt:
            say("steps", model.optimizer.iterations)
        """
    )
    assert out == ["still in step", "ended", "steps 3"]


def test_the_best_weights_come_back_after_a_real_ctrl_c():
    out = lines(
        """
        best = []
        class Report(Callback):
            def on_epoch_end(self, epoch, logs=None):
                logs["val_loss"] = [3, 1, 2, 2][epoch]
                if epoch == 1:
                    best.extend(self.model.get_weights())
                if epoch == 3:
                    press()
        try:
            model.fit(x, y, epochs=9, verbose=0,
                      callbacks=[Report(), EarlyStopping(patience=9, restore_best_weights=True)])
        except KeyboardInterrupt:
            say(all((a == b).all() for a, b in zip(model.get_weights(), best, strict=True)))
            say(model.history.epoch)
        """
    )
    assert out == ["True", "[0, 1, 2, 3]"]


def test_a_second_ctrl_c_ends_at_once():
    out = lines(
        """
        def hang(batch, logs):
            press()
            say("held back")
            press()
            say("never reached")
        try:
            model.fit(x, y, verbose=0, callbacks=[LambdaCallback(
                on_train_batch_end=hang, on_train_end=lambda logs: say("ended"))])
        except KeyboardInterrupt:
            say("handler", signal.getsignal(signal.SIGINT) is handler)
        """
    )
    assert out == ["held back", "ended", "handler True"]


@pytest.mark.parametrize(
    ("hook", "steps"),
    [("on_train_begin", 1), ("on_test_batch_end", 5), ("on_epoch_end", 5), ("on_train_end", 10)],
)
def test_no_ctrl_c_is_lost(hook, steps):
    out = lines(
        f"""
        calls = []
        def once(*arguments):
            calls.append(1)
            if len(calls) == 1:
                press()
        watch = LambdaCallback({hook}=once)
        try:
            model.fit(x, y, batch_size=10, epochs=2, verbose=0, callbacks=[watch], validation_data=(x, y))
            say("swallowed")
        except KeyboardInterrupt:
            say("raised", len(calls), model.optimizer.iterations)
        """
    )
    assert out == [f"raised 1 {steps}"], "after the step or the batch of a validation it came in"


def test_a_checkpoint_being_written_is_finished():
    out = lines(
        """
        import tempfile, pathlib
        from npnet.internal import files
        from npnet.callbacks import ModelCheckpoint
        from npnet.models import load_model
        path = pathlib.Path(tempfile.mkdtemp()) / "m"
        sync = os.fsync
        def slow_sync(handle):
            if not path.exists():
                press()
            sync(handle)
        files.os.fsync = slow_sync
        try:
            model.fit(x, y, epochs=5, verbose=0, callbacks=[ModelCheckpoint(path)])
        except KeyboardInterrupt:
            loaded = load_model(path)
            say(loaded.optimizer.iterations, sorted(f.name for f in path.parent.iterdir()))
        """
    )
    assert out == ["2 ['m']"]


def test_evaluate_and_predict_stop_like_any_python_loop():
    out = lines(
        """
        stop = lambda batch, logs: press()
        watch = LambdaCallback(on_test_batch_end=stop, on_predict_batch_end=stop)
        for call in (lambda: model.evaluate(x, y, verbose=0, callbacks=[watch]),
                     lambda: model.predict(x, verbose=0, callbacks=[watch])):
            try:
                call()
            except KeyboardInterrupt:
                say("stopped")
        """
    )
    assert out == ["stopped", "stopped"]


def test_a_handler_of_the_programs_own_is_left_alone():
    out = lines(
        """
        mine = lambda *arguments: say("mine")
        signal.signal(signal.SIGINT, mine)
        pressed = LambdaCallback(on_epoch_end=lambda epoch, logs: press())
        say(model.fit(x, y, epochs=2, verbose=0, callbacks=[pressed]).epoch)
        say(signal.getsignal(signal.SIGINT) is mine)
        """
    )
    assert out == ["mine", "mine", "[0, 1]", "True"]


def small():
    net = Sequential([Dense(3, input_shape=(4,))], seed=1)
    net.compile("sgd", "mse", kernels="numpy")
    return net


def test_training_works_in_other_threads_and_gives_the_same_bits():
    x, y = np.random.default_rng(0).normal(size=(2, 40, 4))
    expected = small()
    expected.fit(x, y[:, :3], epochs=5, verbose=0)
    nets = [small() for _ in range(3)]
    threads = [
        threading.Thread(target=net.fit, args=(x, y[:, :3]), kwargs={"epochs": 5, "verbose": 0})
        for net in nets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for net in nets:
        for ours, theirs in zip(net.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_the_handler_is_pythons_again_after_training_and_after_an_error():
    before = signal.getsignal(signal.SIGINT)
    x = np.zeros((4, 4))
    inside = []
    look = LambdaCallback(on_epoch_end=lambda epoch, logs: inside.append(signal.getsignal(signal.SIGINT)))
    small().fit(x, x[:, :3], verbose=0, callbacks=[look])
    assert inside[0] is not before
    assert signal.getsignal(signal.SIGINT) is before
    fail = LambdaCallback(on_epoch_end=lambda epoch, logs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        small().fit(x, x[:, :3], verbose=0, callbacks=[fail])
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_is_not_hidden_by_a_ctrl_c_held_back():
    with pytest.raises(ZeroDivisionError), deferred() as interrupt:
        interrupt.pending = True
        _ = 1 / 0
