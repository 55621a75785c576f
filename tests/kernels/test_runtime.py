"""What ``@jit`` promises of every kernel: honest numbers, the same bits, a word while compiling."""

import io

import fresh
import numpy as np
import pytest
from numba.core import event

from npnet.kernels.machine import description, threads
from npnet.kernels.machine.announce import announce_compilation
from npnet.kernels.machine.jit import get_num_threads, jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for


@pytest.fixture
def counts(monkeypatch):
    """Let a test choose threads for itself alone."""
    monkeypatch.setattr(threads, "_chosen", None)
    return threads.set_threads


# --- the decorator ---------------------------------------------------------------------------------------


@jit
def positive_part(x):
    return x if x > 0.0 else 0.0 * x


@jit
def is_nan(x):
    return x != x


@jit
def divide(x, y):
    return x / y


@jit
def _positive_part(i, x, out):
    out[i] = positive_part(x[i])


@jit(parallel=True)
def positive_parts(x, out):
    parallel_for(x.size, _positive_part, (x, out))


@jit
def _note_threads(i, used):
    used[i] = get_num_threads()


@jit
def _ask_for_too_much(i, at, out):
    out[i] = np.empty(1 << 60 if i == at else 1).size


@jit(parallel=True)
def ask_for_too_much(at, out):
    parallel_for(out.size, _ask_for_too_much, (at, out))


def test_nan_and_infinity_are_honest():
    assert np.isnan(positive_part(np.nan))
    assert is_nan(np.nan)
    assert not is_nan(1.0)
    assert divide(1.0, 0.0) == np.inf
    assert np.isnan(divide(0.0, 0.0))


def test_kernels_call_kernels_and_take_any_array():
    x = np.linspace(-1, 1, 20)
    for given in (x, x.astype(np.float32), x[::2], x[::-1]):
        given.flags.writeable = False
        out = np.empty(given.shape)
        positive_parts(given, out)
        np.testing.assert_array_equal(out, np.maximum(given, 0))


def test_errors_of_a_kernel_reach_the_caller():
    with pytest.raises(TypeError):
        positive_parts(np.ones(3))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_no_memory_in_a_loop_over_threads_is_an_error(count):
    with pytest.raises(MemoryError):
        ask_for_too_much(count - 1, np.zeros(count))
    ask_for_too_much(count, out := np.zeros(count))
    assert (out == 1).all()


def test_a_kernel_knows_and_changes_its_threads(counts):
    @jit(parallel=True)
    def count(used, alone):
        before = get_num_threads()
        if alone:
            set_num_threads(1)
        parallel_for(used.size, _note_threads, (used,))
        set_num_threads(before)

    most = min(3, threads.start().most)  # OpenMP takes more threads than there are CPUs, the others do not
    counts(most)
    for alone, expected in [(False, most), (True, 1), (False, most)]:
        count(used := np.zeros(1), alone)
        assert used[0] == expected


def test_a_kernel_with_little_to_do_runs_on_one_thread(counts):
    @jit(parallel=True)
    def count(work, used):
        before = serial_below(10, work)
        parallel_for(used.size, _note_threads, (used,))
        set_num_threads(before)

    most = min(3, threads.start().most)
    counts(most)
    for work, expected in [(9, 1), (10, most), (9, 1)]:
        count(work, used := np.zeros(1))
        assert used[0] == expected


def test_what_npnet_runs_on():
    facts = description.describe()
    assert facts["threads"] == threads.get_threads()
    assert facts["threading_layer"] in ("omp", "tbb", "workqueue")
    assert facts["vector_bits"] in (128, 256, 512)
    assert facts["cached_kernels"] > 0
    assert facts["cache_problem"] is None


# --- the line while compiling ----------------------------------------------------------------------------


def test_the_first_compilation_is_announced_and_no_other(tmp_path):
    code = """
        from npnet.kernels.machine.announce import announce_compilation
        for _ in range(2):
            with announce_compilation(sys.stdout):
                use()
    """
    printed, complaints = fresh.run(code, NPNET_CACHE=tmp_path)
    assert printed.startswith("Compiling kernels ... ")
    assert printed.endswith(" s (once)\n")
    assert printed.count("\n") == 1
    assert fresh.run(code, NPNET_CACHE=tmp_path) == ("", "")
    assert complaints == ""


def test_every_line_tells_its_own_time_and_the_seconds_add_up(monkeypatch):
    clock = iter([0.0, 2.0, 10.0, 13.0])
    monkeypatch.setattr("npnet.kernels.machine.announce.time.perf_counter", lambda: next(clock))
    printed = io.StringIO()
    with announce_compilation(printed) as compilations:
        compilations.settle()
        with event.trigger_event("numba:compile"), event.trigger_event("numba:compile"):
            pass  # a kernel and one that it calls
        compilations.settle()
        assert compilations.seconds == 2
        with event.trigger_event("numba:compile"):
            pass
    assert compilations.seconds == 5
    assert printed.getvalue() == "Compiling kernels ... 2.0 s (once)\nCompiling kernels ... 3.0 s (once)\n"


def test_loading_from_the_cache_is_counted_and_not_announced(tmp_path):
    code = """
        from npnet.kernels.machine.announce import announce_compilation
        with announce_compilation() as compilations:
            use()
            assert compilations.seconds > 0
            counted = compilations.seconds
            use()
            assert compilations.seconds == counted
    """
    fresh.run(code, NPNET_CACHE=tmp_path)
    assert fresh.run(code, NPNET_CACHE=tmp_path) == ("", "")


def test_a_progress_line_gives_way_to_the_announcement(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    printed = io.StringIO()
    with announce_compilation(printed, live=True), event.trigger_event("numba:compile"):
        pass
    assert printed.getvalue().startswith("\r" + " " * 29 + "\rCompiling kernels ... ")


def test_an_error_ends_the_announced_line():
    @jit
    def wrong(x):
        return x + "1"

    printed = io.StringIO()
    with pytest.raises(Exception, match="No implementation"), announce_compilation(printed):
        wrong(1)
    assert printed.getvalue().endswith(" s (once)\n")


# --- the same bits ---------------------------------------------------------------------------------------

BITS = """
import hashlib, sys
import numpy as np
from npnet import kernels
from npnet.kernels import rules
from npnet.kernels.machine import threads

def bits():
    "Hash what the main kernels return."
    chosen, rng = kernels.load("numba"), np.random.default_rng(0)
    x, w, b, dy = (rng.standard_normal(s).astype(np.float32) for s in ((67, 301), (301, 130), 130, (67, 130)))
    slot = np.zeros_like(w)
    results = [chosen.dense_forward(x, w, b), chosen.dense_backward_input(dy, w)]
    results += chosen.dense_backward_parameters(x, dy)
    results += [chosen.softmax_forward(dy), chosen.elementwise(rules.silu, dy)]
    chosen.update(rules.rmsprop, w, w.copy(), (slot,), (1e-3, 0.9, 1e-7))
    return hashlib.sha256(b"".join(r.tobytes() for r in [*results, w, slot])).hexdigest()
"""


def test_any_number_of_threads_on_any_layer_gives_the_same_bits():
    """Machine code is shared through the user's own cache, so that it is compiled once."""
    code = BITS + "for count in (1, 2, 4):\n    threads.set_threads(count)\n    print(bits())\n"
    found = set()
    for layer in ("omp", "workqueue"):
        environment = {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": 4}
        found |= set(fresh.run(code, kernel=False, **environment)[0].split())
    assert len(found) == 1
