"""Without Numba, or with one that does not fit: everything works on NumPy's kernels, and one line says so."""

import json
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from npnet import Sequential
from npnet.kernels import UsesKernels, load, name_of, why_no_numba
from npnet.layers import Dense, Dropout

X, Y = np.random.default_rng(0).normal(size=(40, 4)), np.eye(3)[np.arange(40) % 3]
REASONS = {
    "missing": "No module named 'numba'",
    "broken": "Numba needs NumPy 2.3 or less. Got NumPy 9.9.",
}


def model():
    net = Sequential([Dense(5, "relu", input_shape=(4,)), Dropout(0.1), Dense(3, "softmax")], seed=0)
    net.compile("adam", "categorical_crossentropy", ["accuracy"], kernels="numba")
    return net


@pytest.fixture(params=REASONS)
def without(request, tmp_path):
    """A function that runs code in a Python without Numba; returns output and complaints, and the reason."""
    if request.param == "missing":
        prelude = """
            import sys
            class NoNumba:
                def find_spec(self, name, path=None, target=None):
                    if name.partition(".")[0] in ("numba", "llvmlite"):
                        raise ModuleNotFoundError(f"No module named {name!r}")
            sys.meta_path.insert(0, NoNumba())
        """
    else:
        (tmp_path / "numba").mkdir()
        reason = REASONS["broken"]
        (tmp_path / "numba" / "__init__.py").write_text(f"raise ImportError({reason!r})")
        prelude = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"

    def run(code):
        program = textwrap.dedent(prelude) + "\n" + textwrap.dedent(code)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    return run, REASONS[request.param]


def test_models_train_load_and_unpickle(without, tmp_path):
    run, reason = without
    trained = model()
    trained.fit(X, Y, verbose=0)
    trained.save(tmp_path / "model")
    (tmp_path / "pickle").write_bytes(pickle.dumps(trained))
    printed, complaints = run("""
        import pickle
        import numpy as np, npnet
        from npnet.layers import Dense
        x, y = np.random.default_rng(0).normal(size=(40, 4)), np.eye(3)[np.arange(40) % 3]
        for make in (
            lambda: npnet.Sequential([Dense(5, "relu"), Dense(3, "softmax")], seed=0),
            lambda: npnet.models.load_model("model"),
            lambda: pickle.load(open("pickle", "rb")),
        ):
            net = make()
            if not net.built:
                net.compile("adam", "categorical_crossentropy", ["accuracy"])
            print(net.predict(x, verbose=0)[0].tolist())
            net.fit(x, y, epochs=2, verbose=2, validation_data=(x, y))
            net.evaluate(x, y, verbose=0)
    """)
    lines = printed.splitlines()
    assert len(lines) == 9 and all(line.startswith(("[", "Epoch")) for line in lines)
    for line in (lines[3], lines[6]):
        np.testing.assert_allclose(json.loads(line), trained.predict(X, verbose=0)[0], rtol=1e-5)
    said = [line for line in complaints.splitlines() if "UserWarning" in line]
    assert len(said) == 1 and f"Numba cannot be imported ({reason}): NumPy's kernels are used" in said[0]


@pytest.mark.filterwarnings("ignore:mixed_bfloat16 is no faster")
def test_a_model_of_mixed_precision_goes_on_with_numpy_s_kernels(without, tmp_path):
    run, _ = without
    trained = Sequential([Dense(300, "relu", input_shape=(4,)), Dense(3)], dtype="mixed_bfloat16", seed=0)
    trained.compile("adam", "mse", kernels="numba")
    trained.fit(X, Y, verbose=0)
    (tmp_path / "pickle").write_bytes(pickle.dumps(trained))
    printed, complaints = run("""
        import pickle
        import numpy as np, npnet
        net = pickle.load(open("pickle", "rb"))
        x = np.random.default_rng(0).normal(size=(40, 4))
        print(net.layers[0].compute_dtype, net.layers[0].kernels.exact.__name__)
        print(net.predict(x, verbose=0)[0].tolist())
        net.compile("adam", "mse")
    """)
    first, second = printed.splitlines()
    assert first == "bfloat16 npnet.kernels.reference"
    np.testing.assert_allclose(json.loads(second), trained.predict(X, verbose=0)[0], rtol=0, atol=1e-3)
    assert "mixed_bfloat16 is no faster than float32 here: NumPy's kernels round" in complaints


def test_the_commands_work_or_say_why_not(without):
    run, reason = without
    printed, complaints = run("""
        import contextlib, io, json
        from npnet.cli import main
        found = []
        for command in (
            ["info", "--json"],
            ["train", "spiral", "--epochs", "1", "--run-dir", "run", "--threads", "2"],
            ["bench"], ["warmup"], ["check", "--kernels", "numba"],
        ):
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                found.append([main(command), out.getvalue(), err.getvalue()])
        print(json.dumps(found))
    """)
    assert complaints == ""
    info, train, *others = json.loads(printed)
    about = json.loads(info[1])
    assert about["kernels"] == "numpy" and (info[0], info[2]) == (0, "")
    assert f"Numba cannot be imported ({reason})" in about["hints"][0]
    assert "Kernels    numpy" in train[1] and "Report" in train[1]
    assert (train[0], train[2]) == (0, "")  # a network this small uses NumPy's kernels anyway
    for name, (code, said, why) in zip(("bench", "warmup", "check"), others, strict=True):
        assert (code, said) == (1, "")
        assert why.startswith(f"npnet {name}: Numba's kernels need Numba, which cannot be imported")
        assert len(why.splitlines()) == 1


def test_here_numba_is_there():
    assert why_no_numba() is None
    assert [name_of(load(name)) for name in ("numpy", "numba", None)] == ["numpy", "numba", "numba"]
    user = UsesKernels()
    user.kernels = load("numba")
    assert pickle.loads(pickle.dumps(user)).kernels is load("numba")
