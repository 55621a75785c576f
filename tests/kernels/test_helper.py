"""A second process compiles kernels at the same time; whatever becomes of it, all of them are compiled."""

import functools
import pickle
import random
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from adding import adding, sleeping
from numba import types
from numba.core import event

from npnet import optimizers
from npnet.kernels.machine import cache, helper
from npnet.kernels.machine.helper import Job, can_help, compile_all
from npnet.layers import Dense, Input, Rescaling
from npnet.models import Sequential
from npnet.training.fused.plan import Writer

KNOWN_TO_KERNELS = ["sgd", "rmsprop", "adagrad", "adam", "adamw", "nadam", "adamax", "adadelta", "lion"]


@pytest.fixture
def jobs(monkeypatch, tmp_path):
    """Three kernels that nobody has compiled before, an empty cache, and two CPUs."""
    monkeypatch.setenv("NPNET_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "folder", functools.cache(cache.folder.__wrapped__))
    monkeypatch.setattr(helper, "usable_cpus", lambda: 2)
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    return [Job(functools.partial(adding, random.random()), (types.float64,)) for _ in range(3)]


@pytest.fixture
def started(monkeypatch):
    """The processes that are started."""
    processes = []

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    return processes


def compiled_here(jobs):
    """Compile all; return how many of them this process compiled."""
    with event.install_recorder("numba:compile") as recorder:
        compile_all(jobs)
    for job in jobs:
        assert job.make()(0.0) == job.make.args[0]
    return sum(what.is_start for _, what in recorder.buffer)


def test_the_helper_compiles_what_this_process_does_not_take(monkeypatch, jobs, started):
    monkeypatch.setattr(helper, "_claim", lambda claims, number: False)
    assert compiled_here(jobs) == 0
    assert [process.poll() for process in started] == [0]


def test_no_kernel_is_compiled_twice(monkeypatch, jobs, started):
    claim = helper._claim

    def claim_last(claims, number):
        taken = claim(claims, number)
        if number == 0:
            started[0].wait()  # until the helper has done the others and found this one taken
        return taken

    monkeypatch.setattr(helper, "_claim", claim_last)
    assert compiled_here(jobs) == 1


def test_what_is_expected_is_compiled_beside_what_is_missing(monkeypatch, jobs, started):
    helper.expect(jobs[2:])
    monkeypatch.setattr(helper, "_claim", lambda claims, number: False)
    assert compiled_here(jobs[:2]) == 0
    assert jobs[2].make().is_cached(jobs[2].arguments)


def test_what_is_expected_alone_starts_nothing(jobs, started):
    helper.expect(jobs[1:])
    assert compiled_here(jobs[:1]) == 1
    assert started == []
    helper.expect([])


def test_the_products_of_a_validation_are_expected(monkeypatch):
    expected = []
    monkeypatch.setattr(helper, "expect", expected.extend)
    x, y = np.ones((40, 300), np.float32), np.eye(3)[np.arange(40) % 3]
    model = Sequential([Dense(200, "relu"), Dense(200, "relu"), Dense(3, "softmax")])
    model.compile("sgd", "categorical_crossentropy", kernels="numba")
    model.fit(x, y, verbose=0)
    assert expected == []
    model.fit(x, y, validation_data=(x, y), verbose=0)
    (job,) = expected  # one kernel for both large layers; the small one is NumPy's
    assert job.arguments in job.make().overloads


@pytest.mark.parametrize(("rank", "order"), [(0, "012"), (1, "120"), (2, "201")])
def test_each_process_of_mpi_begins_with_other_kernels(monkeypatch, jobs, started, rank, order):
    world = SimpleNamespace(rank=rank, size=3)
    mpi = SimpleNamespace(COMM_WORLD=world, Is_initialized=lambda: True, Is_finalized=lambda: False)
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", mpi)
    compiled = []
    monkeypatch.setattr(Job, "compile", lambda job: compiled.append(str(jobs.index(job))))
    compile_all(jobs)
    assert "".join(compiled) == order
    assert started == []


@pytest.mark.parametrize("ending", ["import os; os.abort()", "raise ImportError", "sys.stdin.read()"])
def test_a_helper_that_fails_costs_nothing(monkeypatch, jobs, started, ending):
    monkeypatch.setattr(helper, "PROGRAM", f"import sys; {ending}")
    monkeypatch.setattr(helper, "PATIENCE", 0.1)
    assert compiled_here(jobs) == 3
    assert started[0].poll() is not None


@pytest.mark.parametrize("owner", ["subprocess.Popen", "tempfile.TemporaryDirectory"])
def test_a_helper_that_cannot_be_started_costs_nothing(monkeypatch, jobs, owner):
    def refuse(*arguments, **options):
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(owner, refuse)
    assert compiled_here(jobs) == 3


def test_what_a_helper_claimed_and_did_not_finish_is_compiled_here(monkeypatch, jobs):
    failing = "from npnet.kernels.machine import helper\nhelper.Job.compile = None\nhelper.help_out()"
    monkeypatch.setattr(helper, "PROGRAM", helper.PROGRAM.replace("help_out()", failing))
    monkeypatch.setattr(helper, "_claim", lambda claims, number: False)
    assert compiled_here(jobs) == 3


def test_an_interrupt_ends_the_helper(monkeypatch, jobs, started):
    def press(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "compile", press)
    with pytest.raises(KeyboardInterrupt):
        compile_all(jobs)
    assert started[0].poll() is not None


def test_the_helper_ends_with_the_process_it_helps(jobs):
    with helper._helper([Job(sleeping, ())]) as (_, process):
        process.stdin.close()  # as the system does when a process has ended
        assert process.wait(50) == 1


def test_a_helper_that_has_another_cache_does_nothing(monkeypatch, jobs, tmp_path, started):
    (tmp_path / "other").mkdir()
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "other")
    monkeypatch.setattr(helper, "_claim", lambda claims, number: started[0].wait() == 0)
    assert compiled_here(jobs) == 3


def test_one_kernel_or_none_needs_no_helper(jobs, started):
    assert compiled_here(jobs[:1]) == 1
    assert compiled_here(jobs[:2]) == 1
    assert started == []


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (helper, "usable_cpus", lambda: 1),
        (cache, "folder", lambda: None),
        (helper.os, "access", lambda place, how: False),
        (helper.multiprocessing, "parent_process", object),
        (sys, "executable", "/usr/bin/program-with-python-inside"),
        (sys, "executable", None),
    ],
)
def test_no_helper_where_it_could_not_help(monkeypatch, jobs, owner, name, value):
    assert can_help()
    monkeypatch.setattr(owner, name, value)
    assert not can_help()


def test_no_helper_beside_other_processes_of_mpi(monkeypatch, jobs):
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", object())
    assert not can_help()


@pytest.mark.parametrize("optimizer", optimizers.NAMES)
def test_every_operation_can_be_made_in_another_process(optimizer):
    for clipnorm in (None, 1.0):
        layers = [Rescaling(0.5), Dense(64, "gelu"), Dense(64, "leaky_relu"), Dense(3, "softmax")]
        model = Sequential([Input((8,)), *layers], seed=0)
        model.compile(
            optimizers.NAMES[optimizer](clipnorm=clipnorm), "categorical_crossentropy", kernels="numba"
        )
        plan = model.setup.step().current()
        assert (plan is not None) == (optimizer in KNOWN_TO_KERNELS)
        if plan is not None:
            for operation in Writer(plan, 32, others=plan.todos).operations:
                assert pickle.loads(pickle.dumps(operation.make))() is operation
