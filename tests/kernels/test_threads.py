"""Threads: how many, on which threading layer, from several Python threads and after a fork."""

import math
import os
import sys
import threading
import time

import fresh
import numpy as np
import pytest
from numba import njit

from npnet.kernels.machine import threads
from npnet.kernels.machine.cpus import cpu_quota, usable_cpus
from npnet.kernels.machine.tasks import (
    LINE,
    done,
    even_parts,
    shrinking_part,
    shrinking_parts,
    stretch,
    wait,
)
from npnet.kernels.products.blocked import _grid, _part


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache with the kernel in it, so that the processes below start quickly."""
    place = tmp_path_factory.mktemp("cache")
    fresh.run("use()", NPNET_CACHE=place)
    return place


@pytest.fixture
def chosen(monkeypatch):
    """Let a test choose threads for itself alone, as before the first kernel of a process."""
    monkeypatch.setattr(threads, "_chosen", None)
    monkeypatch.setattr(threads, "_team", None)


# --- how many --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, math.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, math.inf),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}, 3),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n3:cpu,cpuacct:/docker/1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            math.inf,
        ),
        ({"proc/self/cgroup": "2:cpuset:/\n", "sys/fs/cgroup/cpuset/cpu.max": "1 1\n"}, math.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense\n"}, math.inf),
    ],
)
def test_the_quota_of_a_container(files, cpus, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_quota(tmp_path) == cpus


@pytest.mark.parametrize(
    ("allowed", "quota", "asked", "count"),
    [
        (8, math.inf, "", 8),
        (8, 2.5, "", 3),
        (2, 4.0, "", 2),
        (8, 0.2, "", 1),
        (8, 4.0, "2", 2),
        (4, 8.0, "16", 4),
    ],
)
def test_the_default(allowed, quota, asked, count, monkeypatch, chosen):
    monkeypatch.setattr("npnet.kernels.machine.cpus.allowed_cpus", lambda: allowed)
    monkeypatch.setattr("npnet.kernels.machine.cpus.cpu_quota", lambda: quota)
    monkeypatch.setenv("NUMBA_NUM_THREADS", asked)
    monkeypatch.setattr(threads, "_default", threads._default.__wrapped__)
    assert threads.get_threads() == count


def test_a_number_that_was_set_is_used(chosen):
    for count in (1, np.int64(2), 3):
        threads.set_threads(count)
        assert threads.get_threads() == count


@pytest.mark.parametrize("count", [0, -1, 10**6])
def test_a_number_out_of_range_is_refused(count, chosen):
    with pytest.raises(
        ValueError, match=rf"threads must be from 1 to \d+, got {count}\. .*NUMBA_NUM_THREADS"
    ):
        threads.set_threads(count)


@pytest.mark.parametrize("count", [2.0, "2", None, True])
def test_what_is_no_integer_is_refused(count, chosen):
    with pytest.raises(TypeError, match="threads must be an integer, got"):
        threads.set_threads(count)


def test_counting_threads_starts_nothing():
    code = """
        import os, sys
        from npnet.kernels.machine import threads
        threads.set_threads(1)
        assert threads.get_threads() == 1
        assert "numba" not in sys.modules
        print(len(os.listdir("/proc/self/task")) if os.path.exists("/proc") else 1)
    """
    assert fresh.run(code, kernel=False, OPENBLAS_NUM_THREADS=1)[0] == "1\n"


# --- OpenMP ----------------------------------------------------------------------------------------------


def test_openmp(filled):
    """Changes in the middle, more threads than cores, three Python threads, Numba's own number untouched."""
    code = """
        import numba
        environment = dict(os.environ)
        print(use(), threads.threading_layer().name, threads.threading_layer().reason)
        numba.set_num_threads(1)
        for count in (1, 2, 4, 2):
            threads.set_threads(count)
            assert use() == count
            assert numba.get_num_threads() == 1
        in_three_threads()
        assert os.environ == environment
    """
    printed, complaints = fresh.run(code, NPNET_CACHE=filled, NUMBA_THREADING_LAYER="omp")
    assert printed == f"{usable_cpus()} omp NUMBA_THREADING_LAYER is omp\n"
    assert complaints == ""


def test_a_fork_after_openmp_has_started(filled):
    """Child and grandchild go on with one thread and say so once; the parent keeps all of its own."""
    code = """
        threads.set_threads(2)
        assert use() == 2

        def child():
            assert use() == use() == threads.get_threads() == 1
            new = jit(parallel=True)(square.py_func)(x, out := np.empty_like(x))
            assert new == 1 and (out == x * x).all()
            assert in_child(use) == 0

        assert in_child(child) == 0
        assert use() == 2
    """
    _, complaints = fresh.run(code, NPNET_CACHE=filled, NUMBA_THREADING_LAYER="omp")
    assert complaints.count("forked") == complaints.count("spawn") == 1


def test_a_fork_before_the_threads_have_started(filled):
    code = "threads.set_threads(2)\nassert in_child(lambda: print(use())) == 0\nprint(use())"
    assert fresh.run(code, NPNET_CACHE=filled, NUMBA_THREADING_LAYER="omp") == ("2\n2\n", "")


def test_a_fork_after_numba_started_openmp_for_someone_else(filled):
    code = """
        import numba
        numba.set_num_threads(1)
        assert in_child(use) == 0
    """
    assert "forked" in fresh.run(code, NPNET_CACHE=filled, NUMBA_THREADING_LAYER="omp")[1]


# --- workqueue -------------------------------------------------------------------------------------------


def test_workqueue(filled):
    """Numba would end the process when two Python threads run kernels at once; ours take turns."""
    code = """
        print(use(), threads.threading_layer().name)
        for count in (1, 4, 3):
            threads.set_threads(count)
            assert use() == count
        in_three_threads()
        assert in_child(in_three_threads) == 0
        try:
            threads.set_threads(5)
        except ValueError as error:
            print(error)
    """
    environment = {"NPNET_CACHE": filled, "NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": 4}
    printed, complaints = fresh.run(code, **environment)
    assert printed.splitlines()[0] == f"{min(4, usable_cpus())} workqueue"
    assert "from 1 to 4, got 5" in printed
    assert complaints.count("RuntimeWarning") == 1
    assert "workqueue" in complaints


def test_more_threads_than_a_layer_has_are_refused_aloud(filled):
    code = "threads.set_threads(3); assert use() == threads.get_threads() == 2"
    environment = {"NPNET_CACHE": filled, "NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": 2}
    assert (
        "3 threads were asked for; the workqueue threading layer has 2" in fresh.run(code, **environment)[1]
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_another_thread_runs_a_kernel(filled):
    """The child must not wait for a lock whose owner exists in the parent alone."""
    code = "use()\nwith threads._turn:\n    assert in_child(use) == 0"
    fresh.run(code, NPNET_CACHE=filled, NUMBA_THREADING_LAYER="workqueue")


@pytest.mark.skipif(sys.platform != "linux", reason="the switches of one thread are counted on Linux")
def test_who_waits_long_leaves_the_core_to_others():
    """Threads that wait for one which has no core, beside other programs, would keep it from theirs."""
    import resource

    @njit(nogil=True)
    def waits(counters):
        wait((counters, 0, 1), 0, 1)

    @njit
    def ends(counters):
        done((counters, 0, 1), 0)

    def switches():
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        waits(counters)
        left.append(resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before)

    left, counters = [], np.zeros(2 * LINE, np.int64)
    ends(counters)
    switches()  # compiles, and has nothing to wait for
    counters[:] = 0
    thread = threading.Thread(target=switches)
    thread.start()
    time.sleep(0.1)
    ends(counters)
    thread.join()
    assert left[1] > 10


# --- what each has to do ---------------------------------------------------------------------------------


@pytest.mark.parametrize("team", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("panels", "most"), [(1, 8), (6, 8), (16, 8), (22, 1), (22, 8), (128, 5), (171, 4)])
def test_tasks_are_as_many_panels_for_each_thread(panels, most, team):
    """Each thread begins with a stretch of its own (``take``): these differ by one panel at most."""
    parts = even_parts(panels, most, team)
    cuts = [part * panels // parts for part in range(parts + 1)]
    assert max(np.diff(cuts)) <= most
    owned = np.diff([cuts[owner * parts // team] for owner in range(team + 1)])
    assert owned.max() - owned.min() <= 1


@pytest.mark.parametrize("team", [1, 2, 3, 8])
@pytest.mark.parametrize(("panels", "most"), [(1, 8), (7, 8), (16, 8), (17, 8), (22, 1), (171, 4)])
def test_tasks_shrink_so_that_no_thread_waits_long(panels, most, team):
    parts = shrinking_parts(panels, most, team)
    cuts = [shrinking_part(part, parts, panels, most, team) for part in range(parts)]
    own = parts // team
    for owner in range(team):  # each thread's parts follow each other, through all of its panels
        ends = cuts[owner * own : owner * own + own]
        begin, end = stretch(owner, team, panels)
        assert [first for first, _ in ends] == [begin, *(last for _, last in ends[:-1])]
        assert ends[-1][1] == end
        sizes = [last - first for first, last in ends]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] <= most and sizes[-1] <= 1


@pytest.mark.parametrize("team", [2, 4])
@pytest.mark.parametrize("shape", [(128, 512, 3072), (512, 512, 512), (3072, 512, 128), (1000, 300, 784)])
@pytest.mark.parametrize(("tile", "narrowest"), [((4, 24), 24), ((8, 16), 48)])
def test_tasks_of_a_product_are_as_large_for_each_thread(shape, team, tile, narrowest):
    rows, columns, depth = shape
    (down, across), _ = _grid(rows, columns, depth, tile, narrowest, team)
    row_parts = [_part(i, down, rows, tile[0]) for i in range(down)]
    column_parts = [_part(i, across, columns, tile[1]) for i in range(across)]
    areas = [tall * wide for _, tall in row_parts for _, wide in column_parts]
    assert sum(areas) == rows * columns
    owned = [sum(areas[k * len(areas) // team : (k + 1) * len(areas) // team]) for k in range(team)]
    assert max(owned) <= 1.13 * rows * columns / team


@pytest.mark.parametrize("tile", [(4, 24), (8, 16), (32, 32)])
@pytest.mark.parametrize("rows", [33, 65, 129, 1000])
def test_no_task_of_a_product_is_empty(rows, tile):
    (down, across), _ = _grid(rows, 40, 16, tile, tile[1], 8)
    assert all(_part(i, down, rows, tile[0])[1] for i in range(down))
    assert all(_part(i, across, 40, tile[1])[1] for i in range(across))
