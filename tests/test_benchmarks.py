"""The benchmarks run on tiny sizes, and do not time what is wrong."""

import json
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    __main__,
    convolution,
    fit,
    isa,
    kernels,
    links,
    machine,
    networks,
    parts,
    pictures,
    ranks,
    reference,
    scaling,
    training,
)
from benchmarks.cases import Job
from benchmarks.layers import Layer
from benchmarks.network_peers import NETWORK_PEERS
from benchmarks.networks import NetworkTask
from benchmarks.peers import PEERS
from benchmarks.task import DTYPES, OPTIMIZERS, Task
from benchmarks.worker import Worker, WorkerError
from npnet.checking.measuring import cases, timing
from npnet.checking.measuring.limits import Limits, measure_limits
from npnet.kernels import rules
from npnet.kernels.machine.threads import get_threads, set_threads

LIMITS = Limits(2, {"float32": 100.0}, {"float32": 200.0}, {1e3: 40.0, 1e6: 10.0})
UNIT = Limits(1, {"float32": 100.0}, {"float32": 200.0}, {1e3: 40.0}, (330.0, 655.0))
TINY = {"widths": (24, 16, 10), "rows": 64, "batch": 8}


@pytest.fixture(scope="module")
def numpy_worker():
    worker = Worker("npnet-numpy", threads=1)
    yield worker
    worker.close()


@pytest.fixture
def known_limits(monkeypatch):
    """Limits of this machine that need not be measured; test_limits_are_measured measures them."""
    for benchmark in (training, convolution):
        monkeypatch.setattr(benchmark, "measure_limits", lambda threads, seconds=1: LIMITS)


def test_the_page_about_several_processes_has_the_table_of_the_model():
    page = (Path(__file__).parents[1] / "docs" / "distributed.md").read_text()
    assert links.scaling_table() in page
    assert links.milliseconds_to_sum(7.36, 1, 2) == pytest.approx(63, abs=1), "measured: 61"
    assert links.efficiency(10.6, 7.36, 10, 8) < links.efficiency(10.6, 7.36, 10, 2) < 1


def test_processes_take_the_steps_that_are_timed(capsys):
    """The losses of both networks are compared with those of NumPy before the clock starts."""
    for network, batch in (("dense", 8), ("cnn", 2)):
        settings = {"who": "npnet", "network": network, "batch": batch, "threads": 1, "seconds": 0}
        threads = get_threads()
        before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        try:
            ranks.main(settings | {"shards": 1})
        finally:
            set_threads(threads)
            if before:
                os.sched_setaffinity(0, before)
        found = json.loads(capsys.readouterr().out)
        assert found["steps"] == 3
        assert 0 < found["least"] <= found["median"]
        data = {"dense": ranks.Vectors, "cnn": ranks.Pictures}[network](batch, 16)
        assert ranks.expected_losses(network, data, "rmsprop")[0] == pytest.approx(2.4, abs=0.5)


def test_flops_of_the_tutorials_step_and_epoch():
    assert Task(batch=32).flops == pytest.approx(252.6e6, rel=1e-3)
    assert Task(batch=50_000).flops == pytest.approx(395e9, rel=1e-3)
    assert Task().parameters == 1_841_162


def test_batches_start_again_at_the_end_of_the_data():
    assert [Task(batch=8, rows=20).start(step) for step in range(4)] == [0, 8, 0, 8]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_reference_learns(optimizer):
    task = Task(optimizer=optimizer, **TINY)
    losses = reference.losses(task, optimizer, 200)
    assert np.mean(losses[-8:]) < np.mean(losses[:8])


def test_forms_of_an_optimizer_differ_by_more_than_the_tolerance():
    task = Task(batch=32)
    inside, outside = (reference.losses(task, formula, 3) for formula in ("rmsprop", "rmsprop, eps outside"))
    assert np.abs(np.divide(inside, outside) - 1).max() > training.TOLERANCE["float32"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_worker_is_validated_and_timed(numpy_worker, optimizer, dtype):
    said = []
    task = Task(optimizer=optimizer, dtype=dtype, **TINY)
    workers = {"npnet-numpy": numpy_worker}
    labels = training.validated(workers, task, said.append)
    assert labels == {"npnet-numpy": "npnet numpy"} and "agrees" in said[0]
    times = training.timed(workers, labels, task, rounds=2, seconds=0.001)
    assert len(times["npnet-numpy"]) == 2 and min(times["npnet-numpy"]) > 0


def test_a_peer_that_disagrees_is_not_timed(numpy_worker, monkeypatch):
    said = []
    monkeypatch.setitem(reference.FORMULAS, "rmsprop", lambda t, **numbers: (rules.sgd, 0, (0.1,)))
    assert training.validated({"npnet-numpy": numpy_worker}, Task(**TINY), said.append) == {}
    assert "DISAGREES" in said[0]


def test_a_peer_that_fails_is_left_out_and_says_why(numpy_worker):
    said = []
    assert (
        training.validated({"npnet-numpy": numpy_worker}, Task(seed=None, **TINY | {"rows": 4}), said.append)
        == {}
    )
    assert "npnet numpy is left out, it failed" in said[0]
    with pytest.raises(WorkerError, match="KeyError"):
        numpy_worker.ask("time", "no such job", times=1)


def test_a_peer_that_is_not_installed_is_left_out_by_name(monkeypatch):
    said = []
    monkeypatch.setattr(PEERS["jax"], "packages", ("no_such_package",))
    assert training.start_workers(["jax"], 1, said.append) == {}
    assert said == ["JAX jit, scan is left out; not installed: no_such_package."]


def test_a_peer_without_mixed_precision_is_left_out_by_name(monkeypatch):
    said = []
    monkeypatch.setattr(PEERS["sklearn"], "packages", ())
    assert training.start_workers(["sklearn"], 1, said.append, "mixed_bfloat16") == {}
    assert said == ["scikit-learn is left out: it has no mixed_bfloat16."]


def test_pixels_are_bytes_over_255_and_floats_are_not():
    for samples, share in (("pixels", 1), ("floats", 0)):
        levels = Task(samples=samples, **TINY).data[0].astype(np.float64) * 255
        assert (np.abs(levels - np.rint(levels)) < 1e-4).mean() == pytest.approx(share, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_installed_peers_agree_with_the_reference(optimizer, dtype):
    workers = training.start_workers(training.installed(list(PEERS))[0], 1, lambda text: None, dtype)
    try:
        said, task = [], Task(optimizer=optimizer, dtype=dtype, **TINY)
        assert list(training.validated(workers, task, said.append)) == list(workers), said
    finally:
        for worker in workers.values():
            worker.close()


@pytest.mark.parametrize("case", cases.CASES)
@pytest.mark.parametrize("kernel_set", ["numpy", "npnet", *(["torch"] if find_spec("torch") else [])])
def test_cases_are_right_and_can_be_repeated(case, kernel_set):
    if kernel_set == "torch" and case not in cases.PRODUCTS:
        pytest.skip("PyTorch takes part with its matrix products")
    job = Job(kernel_set, 1, case, (5, 33, 17))
    assert job.error() <= 1
    job.run(2)


def test_a_wrong_kernel_is_noticed():
    job = Job("numpy", 1, "dense_forward", (5, 33, 17))
    right = job.call
    job.call = lambda operands: right(operands) * np.float32(1 + 1e-5)
    assert job.error() > 1


def test_costs_of_a_product():
    case = cases.CASES["dense_forward"]
    assert case.flops(2, 3, 5) == 60
    assert case.bytes(2, 3, 5) == case.footprint(2, 3, 5) == 4 * (6 + 15 + 5 + 10)


def test_an_update_moves_more_than_it_occupies():
    case = cases.CASES["rmsprop"]  # reads weight, gradient, mean square; writes the first and the last
    assert case.bytes(2, 3, 5) == 5 * 4 * 15 and case.footprint(2, 3, 5) == 3 * 4 * 15


def test_the_limit_that_is_reached_first():
    assert (LIMITS.peak(), LIMITS.peak(threads=1)) == (200.0, 100.0)
    assert LIMITS.least(1e9, 1e3, 1e3) == (pytest.approx(1 / 200), "FMA")
    assert LIMITS.least(1, 1e3, 1e3) == (pytest.approx(1e3 / 40e9), "traffic")
    assert LIMITS.least(1, 1e3, 1e9) == (pytest.approx(1e3 / 10e9), "traffic")
    assert "matrix unit float32 330 GFLOP/s on one core, 655 on 1" in str(UNIT)
    assert "matrix unit" not in str(LIMITS)


def test_parts_of_a_fused_step_add_up():
    worker = Worker("npnet-fused", threads=1)
    try:
        worker.ask("train", "step", **Task(**TINY).settings)
        *found, (name, _, whole) = worker.ask("parts", "step", times=20)
    finally:
        worker.close()
    assert name == "whole step"
    names = [(part, layer) for part, layer, _ in found]
    assert names == [
        ("gather", 0),
        ("forward", 0),
        ("forward", 1),
        ("softmax, cross-entropy", 1),
        ("input gradient", 1),
        ("gradient, update", 0),
        ("gradient, update", 1),
    ]
    seconds = [value for *_, value in found]
    assert min(seconds) > 0 and sum(seconds) < whole
    assert sum(parts.cost(*name, Task(**TINY))[0] for name in names) >= Task(**TINY).flops


def test_limits_are_measured():
    limits = measure_limits(threads=1, seconds=0.02)
    assert limits.peak("float32") > limits.peak("float64") > 0.1
    assert min(limits.bandwidths.values()) > 0.1
    assert "GFLOP/s" in str(limits) and "versions" in machine.describe(1)


def test_rounds_are_interleaved(monkeypatch):
    monkeypatch.setattr(timing, "PAUSE", 0)
    order = []
    found = timing.interleave({name: lambda name=name: order.append(name) or len(order) for name in "ab"}, 3)
    assert order == list("ababab") and found == {"a": [1, 3, 5], "b": [2, 4, 6]}


def test_a_run_is_as_long_as_asked_for():
    lengths = []

    def time_of(times):
        lengths.append(times)
        return 0.01 * times

    assert timing.calibrated(time_of, seconds=0.3)() == pytest.approx(0.01)
    assert lengths[-1] == 30
    assert timing.calibrated(time_of, seconds=0.3, most=7)() and lengths[-1] == 7


def test_a_table_is_aligned():
    text = timing.table(["", "ms"], [["npnet", "1.5"], ["b", "10"]])
    assert text.splitlines() == ["        ms", "----------", "npnet  1.5", "b       10"]


def test_the_list_of_benchmarks(capsys):
    assert __main__.main([]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("training", "kernels", "convolution", "scaling"))
    assert __main__.main(["unknown"]) == 2


def test_everyone_is_held_to_an_instruction_set_by_a_switch_of_its_own(monkeypatch):
    """The benchmark starts anew with the switches, and refuses by name what the processor lacks."""
    started = []
    features = dict.fromkeys(["avx2", "fma", "bmi", "bmi2", "f16c", "lzcnt", "popcnt", "movbe"], True)
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: features)
    monkeypatch.setattr(isa.subprocess, "call", lambda command, env: started.append((command, env)))
    monkeypatch.setenv("XLA_FLAGS", "--xla_of_mine")
    with pytest.raises(SystemExit):
        training.main(["--isa", "avx2", "--batch", "32"])
    [(command, environment)] = started
    assert command[1:] == ["-m", "benchmarks", "training", "--isa", "avx2", "--batch", "32"]
    assert environment["XLA_FLAGS"] == "--xla_of_mine --xla_cpu_max_isa=AVX2"
    assert environment["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert isa.SWITCHES["avx2"].keys() == isa.SWITCHES["avx512"].keys()
    folder = "TORCHINDUCTOR_CACHE_DIR"  # code compiled for one set computes wrong numbers with the other
    assert isa.SWITCHES["avx2"][folder] != isa.SWITCHES["avx512"][folder]
    with pytest.raises(SystemExit, match=r"--isa avx512 cannot be measured here: .* no avx512f, avx512bw"):
        training.main(["--isa", "avx512"])


def test_a_library_that_heeds_no_switch_is_left_out_where_the_processor_has_more():
    """YNNPACK takes AVX-512 wherever it is at hand."""
    wide = isa.switches("avx2", {"avx2": True, "avx512f": True})
    assert wide["XLA_FLAGS"] == f"--xla_cpu_max_isa=AVX2 {isa.WITHOUT_YNNPACK}"
    assert isa.switches("avx2", {"avx2": True})["XLA_FLAGS"] == "--xla_cpu_max_isa=AVX2"
    assert isa.switches("avx512", {"avx512f": True})["XLA_FLAGS"] == "--xla_cpu_max_isa=AVX512"


def test_training_from_the_command_line(known_limits, tmp_path, capsys):
    file = tmp_path / "result.json"
    tiny = "--widths 24,16,10 --rows 64 --batch 8 --rounds 2 --seconds 0.001 --threads 1 --skip-fit"
    training.main([*tiny.split(), "--peers", "npnet-fused,npnet-numpy", "--json", str(file)])
    out = capsys.readouterr().out
    assert "npnet numba fused" in out and "GFLOP/s" in out and "machine" in out
    assert len(json.loads(file.read_text())["steps"][0]["ms"]["npnet-numpy"]) == 2


def test_passes_of_a_convolution_are_validated_and_timed(known_limits, monkeypatch, tmp_path, capsys):
    file = tmp_path / "result.json"
    monkeypatch.setattr(convolution, "LAYERS", ((3, 5, 4),))
    monkeypatch.setattr(convolution, "LIBRARIES", {"npnet": "npnet"})
    convolution.main(["--quick", "--threads", "1", "--batch", "2", "--json", str(file), "--networks", ""])
    assert "3->5 @4, batch 2: filter gradient" in capsys.readouterr().out
    assert len(json.loads(file.read_text())["passes"]) == 3


@pytest.mark.parametrize("error", [2 * convolution.TOLERANCE, float("nan")])
def test_a_pass_of_a_convolution_that_errs_is_not_timed(error):
    class Errs:
        def ask(self, request, job, **arguments):
            return error

    with pytest.raises(SystemExit, match="errs by"):
        convolution.measure({"npnet": Errs()}, Layer(3, 5, 4, 2), "filter gradient", rounds=1, seconds=0.01)


# --- whole networks


@pytest.mark.parametrize(
    ("network", "parameters", "forward", "training"),
    [
        ("cifar10_cnn", 1_250_858, 41.5e6, 122.7e6),
        ("airbench94", 1_973_944 - 2 * 2 * (64 + 256 + 256), 236.3e6, 681.1e6),  # without statistics
    ],
)
def test_work_of_the_networks(network, parameters, forward, training):
    task = NetworkTask(network, batch=1)
    assert task.flops == pytest.approx((training, forward), rel=1e-3)
    assert sum(array.size for own in task.weights for array in own) == parameters
    assert task.shapes[-1] == (10,) and task.layers == networks.NETWORKS[network]
    still = NetworkTask(network, dropout=False).layers
    assert [one for one in task.layers if one[0] != "dropout"] == list(still)


def test_networks_are_validated_timed_and_drawn(known_limits, monkeypatch, tmp_path, capsys):
    options = [
        "--quick",
        "--skip-layers",
        "--networks",
        "tiny",
        "--batch",
        "4",
        "--threads",
        "1",
        "--peers",
        "npnet-unfused",
    ]
    file = tmp_path / "result.json"
    convolution.main([*options, "--out", str(tmp_path), "--json", str(file)])
    out = capsys.readouterr().out
    assert "npnet numba unfused" in out and "agrees  [nesterov]" in out and "memory MiB" in out
    found = json.loads(file.read_text())["networks"]
    assert [(one["mode"], one["batch"]) for one in found] == [("training", 4), ("inference", 4)]
    assert len(found[0]["ms"]["npnet-unfused"]) == 3
    assert (tmp_path / "networks.png").exists()
    monkeypatch.setattr(networks, "TOLERANCE", 0)
    said = []
    with networks.running(["npnet-unfused"], 1) as workers:
        assert networks.validated(workers, NetworkTask("tiny"), said.append) == {}
    assert "DISAGREES" in said[0]


def test_a_framework_that_is_not_installed_is_left_out_of_networks_by_name(monkeypatch):
    said = []
    monkeypatch.setattr(NETWORK_PEERS["jax"], "packages", ("no_such_package",))
    assert networks.start_workers(["jax"], 1, said.append) == {}
    assert said == ["JAX jit is left out; not installed: no_such_package."]


def test_forms_of_rmsprop_differ_in_networks_too():
    task = NetworkTask("cifar10_cnn", batch=2, rows=8, dropout=False)
    inside, outside = (
        networks.reference_losses(task, formula, 3) for formula in ("rmsprop", "rmsprop, eps outside")
    )
    assert np.abs(np.divide(inside, outside) - 1).max() > networks.TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("network", networks.NETWORKS)
def test_installed_frameworks_agree_on_networks(network):
    said = []
    with networks.running(list(NETWORK_PEERS), 1, lambda text: None) as workers:
        labels = networks.validated(workers, NetworkTask(network), said.append)
        assert list(labels) == list(workers), said


def test_pictures_are_drawn(tmp_path):
    points = [("npnet", "relu 2x4", 0.1, 1.0), ("numpy", "relu 2x4", 0.1, 0.5)]
    pictures.roofline(tmp_path / "new" / "roofline.png", points, kernels.SETS, LIMITS, 2)
    sweeps = [("forward, batch", [1, 2, 3], {"npnet": [1, 2, 3]}, [4, 4, 4])]
    pictures.curves(tmp_path / "curves.png", sweeps, kernels.SETS)
    pictures.costs(tmp_path / "costs.png", [("batch", [1, 2], [0.1, 0.2], [0.05, 0.1])])
    pictures.bars(tmp_path / "bars.png", [("a step", {"npnet": [1, 2, 3], "other": [2, 3, 4]}, 0.5)])
    assert len(list(tmp_path.rglob("*.png"))) == 4


def test_numbers_of_points_cover_neither_each_other_nor_points():
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    rng = np.random.default_rng(0)
    points = [(n, *place) for n, place in enumerate(np.exp([3, 1] * rng.standard_normal((25, 2))))]
    figure = Figure((11, 6))
    axis = figure.add_subplot(xscale="log", yscale="log", xlim=(1e-5, 1e5), ylim=(1e-6, 1e3))
    pictures.number_points(axis, points, [point[1:] for point in points])
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(number) for number in axis.texts]  # without the lines
    assert len(boxes) == len(points)
    for box in boxes:
        assert box.count_overlaps(boxes) == 1
        assert not any(box.contains(*axis.transData.transform(point[1:])) for point in points)


def test_values_of_a_sweep():
    assert kernels.powers(1, 8) == [1, 2, 4, 8]
    assert kernels.powers(64, 256, between=True) == [64, 96, 128, 192, 256]


def test_the_network_that_a_gigabyte_trains():
    m = scaling.widest_of_a_gigabyte(16)
    weights = Task(widths=(3072, m, m, 10)).parameters
    assert 16 * weights <= 1e9 < 16 * Task(widths=(3072, m + 1, m + 1, 10)).parameters


@pytest.mark.slow
def test_sweeps_of_kernels_and_of_steps(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(kernels, "powers", lambda first, last, between=False: [first])
    monkeypatch.setattr(scaling, "powers", lambda first, last: [first])
    monkeypatch.setattr(timing, "PAUSE", 0)
    kernels.main(["--quick", "--threads", "1", "--batch", "2", "--out", str(tmp_path)])
    scaling.main(["--quick", "--threads", "1", "--out", str(tmp_path)])
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert drawn == ["kernels.png", "roofline-2.png", "scaling.png"]
    assert "share of limit" in capsys.readouterr().out


def test_fit_is_timed_beside_its_bare_steps(monkeypatch):
    monkeypatch.setattr("npnet.kernels.machine.threads._chosen", None)
    monkeypatch.delenv("NPNET_DATA", raising=False)
    found = fit.measure("float32", get_threads(), rows=150)
    assert len(found["epochs"]) == fit.EPOCHS
    assert len(found["fit"]) == len(found["steps"]) == fit.ROUNDS
    assert min(found["epochs"] + found["fit"] + found["steps"] + [found["checks"]]) > 0
