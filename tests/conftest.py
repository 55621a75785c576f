"""Settings and fixtures that several test files share."""

import os
import signal

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # idle BLAS threads spin and slow down a busy machine

import effort
import pytest

effort.load_profile()
# Shells let what they start in the background ignore Ctrl-C, and so would every process the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["numpy", "numba"])
def kernels(request):
    """The name of each kernel set in turn."""
    return request.param


@pytest.fixture
def undrawn(monkeypatch):
    """Runs draw no pictures and time one step, not 23: most of their time; other tests look at both."""
    monkeypatch.setattr("npnet.runs.outcome.draw", lambda *arguments: None)
    monkeypatch.setattr("npnet.runs.shares.STEPS", 1)
    monkeypatch.setattr("npnet.runs.shares.WARM", 0)
