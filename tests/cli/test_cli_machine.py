"""npnet check, info, warmup and bench."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from npnet.checking import gradient_cases
from npnet.checking.measuring import benchmark, timing
from npnet.checking.measuring.limits import Limits
from npnet.cli import bench, check, info, main
from npnet.kernels.machine import cache
from npnet.runs import installation

LIMITS = Limits(1, {"float32": 100.0, "float64": 50.0}, {"float32": 100.0, "float64": 50.0}, {1e6: 40.0})


@pytest.fixture
def few_cases(monkeypatch):
    cases = gradient_cases.everything()
    few = [next(case for case in cases if case.group == group) for group in check.TITLES if group != "models"]
    monkeypatch.setattr(check, "everything", lambda: few)
    return few


def test_check_prints_a_row_for_each_case(few_cases, capsys):
    assert main(["check", "--kernels", "numpy"]) == 0
    out = capsys.readouterr().out
    for case in few_cases:
        assert sum(line.startswith(case.name.split(",")[0]) for line in out.splitlines()) == 1
    assert "all right" in out and "WRONG" not in out


def test_check_fails_with_the_whole_table_of_what_is_wrong(few_cases, capsys):
    few_cases.append(gradient_cases.wrong_case())
    assert main(["check", "--kernels", "numpy"]) == 1
    out = capsys.readouterr().out
    assert "1 of them WRONG" in out and "dense/kernel" in out


def test_check_shows_what_a_wrong_gradient_looks_like(capsys):
    assert main(["check", "--wrong"]) == 0
    out = capsys.readouterr().out
    assert out.count("WRONG") == 3 and "MasklessReLU" in out


def test_check_explains_how_to_read_what_is_wrong(few_cases, capsys):
    assert "which fit takes by default" in check.__doc__
    few_cases.append(gradient_cases.wrong_case())
    main(["check", "--kernels", "numpy"])
    reading = "layers nearer the loss stay right. Read from the bottom up. A wrong dW"
    assert reading in capsys.readouterr().out
    main(["check", "--wrong"])
    assert reading in capsys.readouterr().out


def test_check_shows_a_fused_step_of_whole_networks(monkeypatch, capsys):
    case = next(case for case in gradient_cases.everything() if case.name.startswith("a deep network"))
    monkeypatch.setattr(check, "everything", lambda: [case])
    assert main(["check", "--kernels", "numba"]) == 0
    header, row = [
        line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("Wh", "a "))
    ]
    assert header[-2:] == ["numba", "fused"]
    assert row[-1] == "ok" and float(row[-2]) < 1e-12


@pytest.mark.parametrize("width", [60, 80, 200])
def test_check_fits_the_terminal(few_cases, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    main(["check", "--kernels", "numpy"])
    lines = capsys.readouterr().out.splitlines()[1:-1]
    assert max(map(len, lines)) <= min(width, 100)


def test_info(capsys):
    assert main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["threads"] >= 1 and found["threading_layer"] in ("omp", "tbb", "workqueue")
    assert found["packages"]["numpy"] == np.__version__ and found["cache_folder"]
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("processor", "threads", "kernels", "BLAS", "data"))


@pytest.mark.parametrize("unit", [True, False])
def test_info_says_what_bfloat16_runs_on(unit, capsys):
    found = {**installation.describe(), "matrix_unit": unit}
    rounded = "rounded operands, no faster than float32"
    expected = "on the matrix unit" if unit else f"{rounded}: no matrix unit"
    assert dict(info.lines(found))["bfloat16"] == expected
    numpy = {**found, "kernels": "numpy"}
    assert dict(info.lines(numpy))["bfloat16"] == f"{rounded}: NumPy's kernels"


def test_info_says_what_is_missing_and_how_to_get_it(monkeypatch, capsys):
    wanted = ["numpy>=2.0", "npnet[x]; extra == 'all'", 'no-such-package>=1; extra == "x"']
    monkeypatch.setattr(installation.metadata, "requires", lambda name: wanted)
    main(["info"])
    assert "x, without no-such-package: pip install 'npnet[x]'" in capsys.readouterr().out


def test_hints():
    found = {"kernels": "numba", "cached_kernels": 0, "cache_folder": "/c", "vector_bits": 128,
             "cpu_quota": 1.5, "cpus_allowed": 4}  # fmt: skip
    assert [hint.split()[0] for hint in installation.hints(found)] == ["No", "Kernels", "This"]
    assert "pip install numba" in installation.hints({"kernels": "numpy"})[0]


TRAIN = """
import numpy as np, npnet
from npnet.layers import Dense
x, y = np.random.default_rng(0).random((300, 784), np.float32), np.eye(10)[np.arange(300) % 10]
for optimizer, fused in ("adam", True), ("lion", True), ("sgd", False):
    layers = [Dense(300, "relu", input_shape=(784,)), Dense(100, "tanh"), Dense(10, "softmax")]
    model = npnet.Sequential(layers)
    model.compile(optimizer, "categorical_crossentropy", ["accuracy"], fused=fused)
    for n in (1, 2, 32, 150):
        model.train_on_batch(x[:n], y[:n])
        model.predict(x[:n], verbose=0)
        model.evaluate(x[:n], y[:n], verbose=0)
    model.fit(x, y, validation_split=0.2, verbose=0)
"""


@pytest.mark.slow
def test_after_warmup_nothing_is_compiled(tmp_path):
    """By the recipes, by the tutorial's network with any optimizer, and by single calls."""
    environment = os.environ | {"NPNET_CACHE": str(tmp_path)}
    subprocess.run([sys.executable, "-m", "npnet", "warmup"], env=environment, check=True)
    before = sorted(tmp_path.rglob("*.kernel"))
    subprocess.run([sys.executable, "-c", TRAIN], env=environment, check=True)
    run = [sys.executable, "-m", "npnet", "train", "shapes", "--limit", "256", "--epochs", "1"]
    for options in (["--optimizer", "nadam"], ["--recipe", "cnn"]):
        command = [*run, *options, "--run-dir", str(tmp_path / options[1])]
        subprocess.run(command, env=environment, check=True)
    assert sorted(tmp_path.rglob("*.kernel")) == before


def test_warmup_says_what_it_did(monkeypatch, capsys):
    kept = [3]
    about = {"cache_folder": "/c", "cached_bytes": 2048, "cache_problem": None}
    monkeypatch.setattr(cache, "describe", lambda: {**about, "cached_kernels": kept[0]})
    asked = []
    monkeypatch.setattr("npnet.runs.warmup.compile_kernels", lambda dtype: asked.append(dtype))
    assert main(["warmup"]) == 0
    assert "Nothing to do" in capsys.readouterr().out and asked == ["float32"]
    monkeypatch.setattr("npnet.runs.warmup.compile_kernels", lambda dtype: kept.append(kept.pop() + 5))
    assert main(["warmup", "--float64"]) == 0
    assert "Compiled 10 kernels" in capsys.readouterr().out
    about |= {"cache_folder": None, "cache_problem": "it belongs to another user"}
    assert main(["warmup"]) == 1
    assert "another user" in capsys.readouterr().err


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(timing, "PAUSE", 0)
    tiny = {"dense_forward 12x8": ("dense_forward", (2, 12, 8)), "rmsprop 12x8": ("rmsprop", (2, 12, 8))}
    monkeypatch.setattr(benchmark, "network_cases", lambda batch: tiny)
    constants = {"ROUNDS": 1, "SECONDS": 1e-4, "ROWS": 8, "LAYERS": [(12, 8), (8, 10)]}
    for name, value in constants.items():
        monkeypatch.setattr(benchmark, name, value)
    monkeypatch.setattr(bench, "measure_limits", lambda threads, seconds: LIMITS)


def test_bench(quick, capsys):
    assert main(["bench", "--batch", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["batch"]["2"]
    assert [row["kernel"] for row in found["kernels"]] == ["dense_forward 12x8", "rmsprop 12x8"]
    assert [row["step"] for row in found["steps"]] == ["fused", "unfused", "numpy"]
    assert all(row["seconds"] > 0 and row["share"] > 0 for row in found["steps"])


def test_a_wrong_kernel_is_not_timed(quick, monkeypatch, capsys):
    from npnet.kernels import parallel

    right = parallel.dense_forward
    monkeypatch.setattr(parallel, "dense_forward", lambda x, w, b: right(x, w, b) * np.float32(1 + 1e-4))
    assert main(["bench", "--batch", "2"]) == 1
    assert "as wrong as rounding may be" in capsys.readouterr().err
