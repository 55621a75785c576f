"""SIGKILL and Ctrl-C at any moment: what was saved is whole, and training goes on as if nothing happened."""

import os
import subprocess
import sys
import textwrap

import pytest
from effort import times

PRELUDE = """
import hashlib, os, random, signal, sys, time
from pathlib import Path
import numpy as np
from npnet import Sequential
from npnet.callbacks import LambdaCallback, ModelCheckpoint
from npnet.layers import Dense, Dropout
from npnet.models import load_model

folder, count, kernels = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
path = folder / "model"
x, y = np.random.default_rng(0).normal(size=(2, 64, 100))

def new():
    model = Sequential([Dense(100, "tanh", input_shape=(100,)), Dropout(0.3), Dense(100)], seed=1)
    model.compile("adam", "mse", kernels=kernels)
    return model

def train(model):
    rows = slice(model.optimizer.iterations % 8, None, 8)
    model.train_on_batch(x[rows], y[rows])

def state(model):
    "A digest of all that the next steps depend on."
    arrays = [a for p in model.parameters for a in (p.value, *p.slots.values())]
    streams = [layer.rng.bit_generator.state for layer in model.layers if layer.rng]
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays) + repr(streams).encode()).hexdigest()

def in_child(work):
    "Fork; return the child's number and the end of a pipe that the child reports to."
    ours, theirs = os.pipe()
    if child := os.fork():
        os.close(theirs)
        return child, ours
    try:
        work(lambda number: os.write(theirs, b"%d " % number))
    finally:
        os._exit(1)

def kill(child, reports):
    "Kill the child and return the last number it reported."
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with open(reports, "rb") as pipe:
        return int((pipe.read().split() or [0])[-1])
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks what it kills")


def lines(program, folder, count, kernels="numpy"):
    arguments = str(folder), str(count), kernels
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def test_killed_while_saving(tmp_path):
    """Every file is whole, holds the last step reported, and continues the unbroken run bit for bit."""
    out = lines(
        """
        def work(report):
            model = load_model(path)
            while True:
                train(model)
                model.save(path)
                report(model.optimizer.iterations)

        unbroken = new()
        unbroken.save(path)
        choose = random.Random(0)
        left = 0
        for _ in range(count):
            child, reports = in_child(work)
            first = int(os.read(reports, 9).split()[-1])
            time.sleep(choose.uniform(0, 0.02))
            reported = max(first, kill(child, reports))
            model = load_model(path)
            assert model.optimizer.iterations >= reported
            while unbroken.optimizer.iterations < model.optimizer.iterations:
                train(unbroken)
            assert state(model) == state(unbroken)
            left = max(left, len(os.listdir(folder)) - 1)
        model.save(path)
        print(left, os.listdir(folder))
        """,
        tmp_path,
        times(50, 500),
    )
    assert out == ["1 ['model']"]


@pytest.mark.parametrize(
    ("how", "count", "kernels"),
    [
        ("SIGINT", times(3, 50), "numpy"),
        ("SIGKILL", times(3, 50), "numpy"),
        pytest.param("SIGKILL", times(3, 20), "numba", marks=pytest.mark.slow),
    ],
)
def test_a_training_stopped_again_and_again_ends_with_the_bits_of_an_unbroken_one(
    how, count, kernels, tmp_path
):
    out = lines(
        f"""
        stop = signal.{how}
        """
        """
        def fit(model, epochs, **options):
            model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, initial_epoch=model.position, **options)

        def work(report):
            model = load_model(path)
            tell = LambdaCallback(on_train_batch_end=lambda batch, logs: report(model.optimizer.iterations))
            try:
                fit(model, 10**6, callbacks=[ModelCheckpoint(path, save_freq=3), tell])
            except KeyboardInterrupt:
                model.save(path)
                report(-model.optimizer.iterations)
                os._exit(0)

        new().save(path)
        choose = random.Random(0)
        steps = []
        for _ in range(count):
            child, reports = in_child(work)
            os.read(reports, 9)
            time.sleep(choose.uniform(0, 0.05))
            os.kill(child, stop)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            with open(reports, "rb") as pipe:
                reported = int((pipe.read().split() or [0])[-1])
            steps.append(load_model(path).optimizer.iterations)
            if stop == signal.SIGKILL:
                assert (status, steps[-1] > reported - 3) == (-signal.SIGKILL, True)
            else:
                assert (status, steps[-1]) == (0, -reported), "no step is lost"

        stopped, unbroken = load_model(path), new()
        end = stopped.position.epoch + 2
        fit(stopped, end)
        fit(unbroken, end)
        assert state(stopped) == state(unbroken)
        print(steps == sorted(steps), len(set(steps)) > 1)
        """,
        tmp_path,
        count,
        kernels,
    )
    assert out == ["True True"]


def test_two_processes_that_save_to_one_file(tmp_path):
    """Each file is one of theirs, whole; neither process fails, nothing is left."""
    out = lines(
        """
        def work(report):
            model = new()
            for number in range(count):
                model.set_weights([np.full_like(w, number) for w in model.get_weights()])
                model.save(path)
            os._exit(0)

        new().save(path)
        children = [in_child(work)[0] for _ in range(2)]
        while children:
            weights = load_model(path).get_weights()
            assert all((w == weights[2][0]).all() for w in weights) or weights[1].any() == 0
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended:
                children.remove(ended)
                assert status == 0
        print(os.listdir(folder))
        """,
        tmp_path,
        times(100, 1000),
    )
    assert out == ["['model']"]
