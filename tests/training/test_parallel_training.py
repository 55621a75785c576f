"""Whole trainings on every threading layer, from several threads at once and after a fork: the same bits."""

import os

import fresh
import pytest

from npnet.kernels.machine.cpus import usable_cpus

TRAINING = """
import hashlib, sys, threading
import numpy as np
from npnet import Sequential, set_threads
from npnet.callbacks import LambdaCallback
from npnet.kernels.machine import threads
from npnet.layers import BatchNormalization, Dense, Dropout

rng = np.random.default_rng(0)
x, y = rng.normal(size=(150, 37)).astype("float32"), np.eye(5)[rng.integers(0, 5, 150)]

def trained(kernels="numba", fused=True, act=lambda step: None, batch_size=32):
    "Train a model and hash its weights."
    layers = [Dense(40, "relu"), Dense(33, "relu"), Dense(5, "softmax")]
    if not fused:
        layers[1:1] = [BatchNormalization(), Dropout(0.2)]
    model = Sequential(layers, seed=3)
    model.compile("rmsprop", "categorical_crossentropy", kernels=kernels, fused=fused)
    watch = LambdaCallback(on_train_batch_begin=lambda batch, logs: act(model.optimizer.iterations))
    model.fit(x, y, epochs=6, batch_size=batch_size, verbose=0, callbacks=[watch])
    return hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()

def at_once(*args):
    "The same training in three Python threads."
    found = []
    workers = [threading.Thread(target=lambda: found.append(trained(*args))) for _ in range(3)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    assert len(found) == 3
    return set(found)
"""


def run(code, **environment):
    try:
        return fresh.run(TRAINING + code, kernel=False, **environment)
    except AssertionError as error:
        if "ValueError: No threading layer could be loaded" in str(error):
            pytest.skip("this threading layer is not installed here")
        raise


@pytest.mark.parametrize("layer", ["omp", "workqueue", "tbb"])
def test_the_same_bits_however_training_is_run(layer):
    code = """
for fused in (True, False):
    set_threads(1)
    expected = trained("numba", fused)
    for count in (2, 8):
        set_threads(count)
        assert trained("numba", fused) == expected
    assert trained("numba", fused, lambda step: set_threads(1 + step % 4)) == expected, "in the middle"
    assert at_once("numba", fused) == {expected}
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if trained("numba", fused) == expected else 3)
        except BaseException:
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "after a fork"
    set_threads(2)
    assert trained("numba", fused) == expected, "in the parent afterwards"
for count in (1, 2, 3):  # on the matrix unit, if there is one
    set_threads(count)
    found = trained(batch_size=96)
    assert count == 1 or found == expected
    expected = found
print(threads.threading_layer().name)
"""
    printed, _ = run("import os\n" + code, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=8)
    assert printed.splitlines()[-1] == layer  # before it, Numba may say what it thinks of a fork under TBB


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="CPUs cannot be taken away here")
def test_one_cpu_for_all_threads():
    """A container's quota counts like this: fewer CPUs than threads, and nothing waits for ever."""
    code = """
expected = trained()
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
set_threads(4)
assert trained() == expected
assert at_once() == {expected}
"""
    run("import os\n" + code, NUMBA_NUM_THREADS=4)


@pytest.mark.skipif(usable_cpus() < 2, reason="one processor")
def test_blas_from_three_threads_at_once():
    """NumPy's kernels call BLAS, which has threads of its own."""
    code = """
x, y = np.tile(x, (4, 6)), np.tile(y, (4, 1))
expected = trained("numpy", False)
for _ in range(3):
    assert at_once("numpy", False) == {expected}
"""
    run(code, OPENBLAS_NUM_THREADS=2)
