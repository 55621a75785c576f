"""Settings and fixtures that several test files share."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # idle BLAS threads spin and slow down a busy machine

import effort
import pytest

effort.load_profile()


@pytest.fixture(params=["numpy", "numba"])
def kernels(request):
    """The name of each kernel set in turn."""
    return request.param
