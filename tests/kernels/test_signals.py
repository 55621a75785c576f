"""Signals while a kernel is compiled: real ones, to this process."""

import signal

import numpy as np
import pytest
from numba.core import event

from npnet.kernels.machine.jit import jit
from npnet.kernels.machine.signals import held_back


class Pressing(event.Listener):
    """Presses Ctrl-C when Numba begins, and ends, a compilation."""

    def on_start(self, what):
        signal.raise_signal(signal.SIGINT)

    on_end = on_start


def test_ctrl_c_comes_after_a_kernel_is_compiled_and_is_not_lost(monkeypatch, tmp_path):
    monkeypatch.setattr("npnet.kernels.machine.cache.folder", lambda: tmp_path)  # never compiled before

    @jit
    def kernel(x):
        return x[0] + 1.0

    with event.install_listener("numba:compile", Pressing()), pytest.raises(KeyboardInterrupt):
        kernel(np.ones(1))
    assert len(kernel.overloads) == 1
    assert kernel(np.ones(1)) == 2.0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_program_s_own_handler_hears_of_every_signal(signum):
    heard = []
    before = signal.signal(signum, lambda number, frame: heard.append(number))
    try:
        with held_back():
            with held_back():
                signal.raise_signal(signum)
            assert heard == []
            signal.raise_signal(signum)
        assert heard == [signum, signum]
    finally:
        signal.signal(signum, before)


def test_a_signal_is_heard_although_the_block_fails():
    with pytest.raises(KeyboardInterrupt), held_back():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("in the block")
    with pytest.raises(ValueError, match="own"), held_back():
        raise ValueError("own")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
