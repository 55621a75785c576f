"""Where weights are trained, subnormal numbers are zero: x86 would take many times as long for a step."""

import numpy as np
import pytest

from npnet import Sequential
from npnet.kernels import rules
from npnet.layers import Dense
from npnet.optimizers import SGD

optimizers = pytest.importorskip("npnet.kernels.parallel.optimizers", exc_type=ImportError)
subnormals = pytest.importorskip("npnet.kernels.machine.subnormals", exc_type=ImportError)
if not subnormals.X86:
    pytest.skip("only x86 is slow with them", allow_module_level=True)

SUBNORMAL = np.float32(1e-39)


def assert_others_compute_as_before():
    assert (np.full(100, SUBNORMAL) * 1 == SUBNORMAL).all()


@pytest.mark.parametrize("size", [100, 1 << 20])
def test_an_update(size):
    weight, grad = np.zeros(size, np.float32), np.full(size, SUBNORMAL)
    optimizers.update_part(rules.sgd, weight, grad, (), 1.0, (1.0,))
    assert not weight.any()
    assert_others_compute_as_before()
    grad[0] = 1e-37
    optimizers.update_part(rules.sgd, weight, grad, (), 1.0, (1.0,))
    assert weight[0] == np.float32(-1e-37)


@pytest.mark.parametrize("samples", [4, 500])
def test_a_fused_step(samples):
    def step(x):
        layers = [Dense(3, "softmax", kernel_initializer="zeros")]
        model = Sequential(layers, seed=0)
        model.compile(SGD(0.1), "categorical_crossentropy", kernels="numba")
        model.train_on_batch(np.full((samples, 300), x, np.float32), np.eye(3)[np.arange(samples) % 2])
        assert layers[0].kernel.home is not None
        return layers[0].kernel.value

    assert not step(SUBNORMAL).any()
    assert_others_compute_as_before()
    assert step(1e-30).any()
