"""Several processes on MPI: the bits of one, and what happens when one of them fails."""

import copy
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cases
import numpy as np
import pytest
from undrawn import UNDRAWN

import npnet
from npnet import distribution
from npnet.cli import main
from npnet.internal import processes
from npnet.kernels import reference
from npnet.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten
from npnet.losses import SparseCategoricalCrossentropy
from npnet.runs import train
from npnet.runs.recorder import Recorder
from npnet.training.owners import DividedKernels, owners
from npnet.training.shards import add_up, bounds, share, subtrees

HERE = Path(__file__).parent
MPIEXEC = Path(sys.executable).with_name("mpiexec")


@pytest.fixture(scope="module")
def mpi():
    """Return what starts a program in some processes."""
    pytest.importorskip("mpi4py", reason="several processes need mpi4py: pip install 'npnet[mpi]'")
    if not MPIEXEC.exists():
        pytest.skip(f"several processes need {MPIEXEC}: pip install 'npnet[mpi]'")

    def start(n, *arguments, **options):
        path = os.pathsep.join([str(Path(npnet.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": path}
        return subprocess.Popen(
            [str(MPIEXEC), "-n", str(n), sys.executable, *map(str, arguments)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip

    return start


def ended(process, seconds=60):
    """Return exit code and output of a process that ends by itself."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


# --- the same bits ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(mpi, tmp_path_factory):
    """Return what came of the networks of cases.py on each number of processes; on one, in this process."""
    folder = tmp_path_factory.mktemp("cases")
    started = mpi(4, HERE / "cases.py", folder)
    distribution.set_distribution(distribution.DataParallel(cases.SHARDS))
    try:
        alone = cases.results(folder / "1")
    finally:
        distribution.set_distribution(None)
    code, _, err = ended(started, seconds=200)
    assert (code, err) == (0, "")
    several = json.loads((folder / "found.json").read_text())
    return {1: alone} | {int(n): results for n, results in several.items()}


def test_weights_history_and_predictions_have_the_same_bits_on_any_number_of_processes(found):
    assert set(found[1]["numpy"]) == {case.__name__ for case in cases.CASES} | {"restored"}
    assert found[2]["numpy"] == found[3]["numpy"] == found[4]["numpy"] == found[1]["numpy"]


def test_only_the_first_process_writes(found):
    for n in found:
        assert found[n]["files"] == ["1.safetensors", "2.safetensors", "backup", "log.csv"]


def test_fused_steps_have_the_same_bits_on_any_number_of_processes(found):
    pytest.importorskip("numba")
    assert set(found[1]["numba"]) == {case.__name__ for case in cases.FUSED}
    assert found[2]["numba"] == found[3]["numba"] == found[1]["numba"]


def two_layers():
    return [Flatten(), Dense(24, "relu"), Dense(4, "softmax")]


def without_dropout():
    return [layer for layer in cases.normalized() if not isinstance(layer, Dropout)]


@pytest.mark.parametrize(
    ("layers", "optimizer", "ignored"),
    [
        (two_layers, lambda: npnet.optimizers.Adam(0.01, global_clipnorm=0.5), None),
        (without_dropout, lambda: npnet.optimizers.SGD(0.05, momentum=0.9), 2),
    ],
)
def test_fused_steps_of_shards_are_those_of_the_whole_batch(layers, optimizer, ignored):
    pytest.importorskip("numba")
    x, labels, _ = cases.data()
    weights = []
    for shards in (None, 4, 7):
        distribution.set_distribution(None if shards is None else distribution.DataParallel(shards))
        try:
            model = npnet.Sequential(layers(), seed=1)
            loss = SparseCategoricalCrossentropy(ignore_class=ignored)
            model.compile(optimizer(), loss, kernels="numba")
            model.fit(x, labels, 40, epochs=2, verbose=0, class_weight={1: 2.0})
        finally:
            distribution.set_distribution(None)
        step = model.setup.step() if shards is None else model.setup._fused_distributed_step.fused
        assert step.plan.memories, "it is fused"
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    for others in weights[1:]:
        np.testing.assert_allclose(others, weights[0], atol=2e-5)


@pytest.mark.parametrize("optimizer", ["adam", npnet.optimizers.Adam(clipnorm=0.1)], ids=["adam", "clipped"])
def test_a_layer_may_look_at_anothers_weights_and_slots_within_a_step(optimizer):
    pytest.importorskip("numba")

    class Looks(npnet.layers.Layer):
        other = None

        def forward(self, x, training=False):
            if self.other.kernel.slots:
                self.other.kernel.value.sum()
            return x

        def backward(self, dy):
            return dy

    x, _, y = cases.data()
    weights = []
    for shards, looks in ((4, False), (4, True)):
        distribution.set_distribution(distribution.DataParallel(shards))
        try:
            layers = [Flatten(), Dense(7, "tanh"), Looks(), Dense(4, "softmax")]
            layers[2].other = layers[1] if looks else SimpleNamespace(kernel=SimpleNamespace(slots={}))
            model = npnet.Sequential(layers, seed=1)
            model.compile(copy.deepcopy(optimizer), "categorical_crossentropy", kernels="numba")
            model.fit(x, y, 22, epochs=3, verbose=0)
        finally:
            distribution.set_distribution(None)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_array_equal(weights[1], weights[0])


@pytest.mark.parametrize("fused", [False, True])
def test_layers_and_losses_may_write_into_what_they_hold(fused):
    if fused:
        pytest.importorskip("numba")
    x, _, y = cases.data()
    weights = []
    for shards in (None, 4):
        distribution.set_distribution(None if shards is None else distribution.DataParallel(shards))
        try:
            layers = [Flatten(), Dense(7, "tanh"), cases.Keeping(6, noise=0), Dense(4)]
            model = npnet.Sequential(layers, seed=1)
            model.compile("sgd", cases.KeepingLoss(), kernels="numba" if fused else "numpy", fused=fused)
            model.fit(x, y, 22, epochs=3, verbose=0)
        finally:
            distribution.set_distribution(None)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_allclose(weights[1], weights[0], atol=2e-6)


def trained(shards, layers, loss, y, **options):
    """Train in this process alone, batches cut into shards or not, in float64; return weights and history."""
    x = cases.data()[0]
    if shards:
        distribution.set_distribution(distribution.DataParallel(shards))
    try:
        model = npnet.Sequential(layers(), seed=1, dtype="float64")
        model.compile("sgd", loss, metrics=["accuracy"], kernels="numpy")
        history = model.fit(x, y, verbose=0, epochs=2, validation_split=0.2, **options)
    finally:
        distribution.set_distribution(None)
    return model.get_weights(), history.history


@pytest.mark.parametrize("batch_size", [32, 3])
def test_shards_change_nothing_but_the_order_of_sums(batch_size):
    """Loss, gradients and the statistics of batch normalisation are those of the whole batch."""
    _, labels, y = cases.data()

    def convolution():
        return [
            Conv2D(3, 3, kernel_regularizer="l2"), BatchNormalization(), Flatten(), Dense(5),
            BatchNormalization(center=False), Dense(4, "softmax"),
        ]  # fmt: skip

    def dense():
        return [Flatten(), Dense(4, "softmax")]

    ignoring = SparseCategoricalCrossentropy(ignore_class=2)
    weight = np.linspace(0, 1, len(y))
    for layers, loss, target, options in (
        (convolution, "categorical_crossentropy", y, {}),
        (convolution, "mse", y, {"sample_weight": weight}),
        (dense, npnet.losses.MeanAbsoluteError(reduction="sum"), y, {}),
        (dense, ignoring, labels, {"class_weight": {1: 3.0}}),
    ):
        whole = trained(None, layers, loss, target, batch_size=batch_size, **options)
        for shards in (2, 5):
            weights, history = trained(shards, layers, loss, target, batch_size=batch_size, **options)
            for one, other in zip(whole[0], weights, strict=True):
                np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-12)
            for name in history:
                np.testing.assert_allclose(history[name], whole[1][name], rtol=1e-9)


def test_one_shard_is_the_training_that_nobody_distributes():
    _, _, y = cases.data()
    whole, one = (
        trained(shards, lambda: [Flatten(), Dense(4, "softmax")], "categorical_crossentropy", y)
        for shards in (None, 1)
    )
    assert whole[1] == one[1]
    assert all(map(np.array_equal, whole[0], one[0]))


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 8, 12])
def test_a_sum_over_shards_is_the_same_tree_for_every_number_of_processes(shards):
    leaves = {(i, i + 1): np.float32(10.0 ** (i % 7)) / 3 for i in range(shards)}
    whole = add_up(0, shards, leaves)
    for size in range(1, shards + 1):
        parts = {}
        for rank in range(size):
            for tree in subtrees(0, shards, share(shards, rank, size)):
                parts[tree] = add_up(*tree, leaves)
        assert add_up(0, shards, parts) == whole
        if shards % size == 0 and shards in (2, 8):
            assert len(parts) == size  # a process sends one array


def test_shards_differ_by_one_sample_at_most_and_may_be_empty():
    assert bounds(10, 4) == [0, 3, 6, 8, 10]
    assert bounds(2, 4) == [0, 1, 2, 2, 2]


def test_each_process_orthogonalises_its_own_matrices_and_all_get_all():
    rng = np.random.default_rng(0)
    matrices = [rng.standard_normal(shape) for shape in ((9, 4), (3, 5), (20, 8), (2, 2))]
    sent = {}

    class Group:
        size = 2

        def __init__(self, rank):
            self.rank = rank

        def gather_parts(self, part, rows):
            sent[self.rank] = part
            return np.concatenate([sent.get(rank, np.zeros(rows[rank])) for rank in range(self.size)])

    for rank in (0, 1, 0):
        found = DividedKernels(reference, Group(rank)).orthogonalize(matrices, 3)
    assert all(map(np.array_equal, found, reference.orthogonalize(matrices, 3)))
    assert {rank: part.size for rank, part in sent.items()} == {0: 160, 1: 55}
    assert owners([(2304, 256)] * 3 + [(216, 64)], 2) == [0, 1, 0, 1]


# --- each process with its own samples ----------------------------------------------------------------------


def test_processes_may_have_samples_of_their_own(mpi, tmp_path):
    """The batches are those of a training on all samples, dealt out by hand."""
    program = tmp_path / "parts.py"
    program.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import json, numpy as np, cases, npnet\n"
        "from npnet.internal import processes\n"
        "from npnet.distribution import DataParallel, set_distribution\n"
        "from npnet.layers import Dense, Flatten\n"
        "set_distribution(DataParallel(shards=4, auto_shard_dataset=False))\n"
        "rank = processes.group().rank\n"
        "x, _, y = cases.data()\n"
        "own = slice(0, 25) if rank == 0 else slice(25, 60)\n"
        "model = npnet.Sequential([Flatten(), Dense(4, 'softmax')], seed=1, dtype='float64')\n"
        "model.compile('sgd', 'categorical_crossentropy', ['accuracy'], kernels='numpy')\n"
        "validation = x[60 + rank :: 2], y[60 + rank :: 2]\n"
        "h = model.fit(x[own], y[own], 20, epochs=2, shuffle=False, verbose=0, validation_data=validation)\n"
        "try:\n"
        "    model.fit(x[own], y[own], 15, verbose=0)\n"
        "except ValueError as error:\n"
        "    said = str(error)\n"
        "if rank == 0:\n"
        "    print(json.dumps([h.history, [w.tolist() for w in model.get_weights()], said]))\n"
    )
    code, out, err = ended(mpi(2, program, HERE))
    assert (code, err) == (0, "")
    history, weights, said = json.loads(out)
    assert said.startswith("batch_size must be a multiple of the number of processes, 2")
    x, _, y = cases.data()
    model = npnet.Sequential([Flatten(), Dense(4, "softmax")], seed=1, dtype="float64")
    model.compile("sgd", "categorical_crossentropy", ["accuracy"], kernels="numpy")
    first, second = np.arange(25), np.arange(25, 60)
    dealt = [np.concatenate([first[i : i + 10], second[i : i + 10]]) for i in range(0, 40, 10)]
    batches = [(x[rows], y[rows]) for rows in dealt]
    assert [len(rows) for rows in dealt] == [20, 20, 15, 5]
    expected = model.fit(
        iter(2 * batches), steps_per_epoch=4, epochs=2, verbose=0, validation_data=(x[60:], y[60:])
    )
    for name in history:
        np.testing.assert_allclose(history[name], expected.history[name], rtol=1e-9)
    for one, other in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


# --- faults -------------------------------------------------------------------------------------------------


def test_a_fault_in_one_process_ends_all_with_a_message_that_names_it(mpi):
    faults = "exception", "SIGKILL", "exit", "decision", "batch"
    running = {what: mpi(2, HERE / "faults.py", what) for what in faults}
    said = {what: ended(process) for what, process in running.items()}
    assert all(code != 0 and "trained" not in out for code, out, _ in said.values())
    code, _, err = said["exception"]
    assert code == 1
    assert re.search(
        r"npnet: rank 1 of 2 on \S+: OSError: \[Errno 28\] No space left on device. The other processes are"
        r" stopped. Go on with the file.\n",
        err,
    )
    assert re.search(r"do not do the same: rank 1 on \S+ has ended, others wait for it", said["exit"][2])
    assert re.search(r"do not do the same: rank \d on \S+ sends \d+ bytes where rank", said["decision"][2])
    for what in ("exception", "decision", "exit", "batch"):
        assert said[what][2].count("Traceback") == 1, "one process speaks for all"
    assert re.search(r"the same: rank 1 on \S+ has another batch than rank 0 of 2 on \S+\.", said["batch"][2])


def test_processes_that_are_not_alike_all_say_in_what_they_differ(mpi):
    """The last of these faults is caught by nobody and ends both."""
    arguments = (
        "batch_size", "class_weight", "drop_remainder", "epochs", "initial_epoch", "shuffle",
        "validation_batch_size", "validation_data", "validation_freq", "validation_split", "BackupAndRestore",
    )  # fmt: skip
    noticed = "shards", "seed", "rows", "batches", "weights", *arguments
    code, out, err = ended(mpi(2, HERE / "faults.py", *noticed, "data"))
    assert code != 0 and "trained" not in out
    assert "be alike: of training.x.rows (their SHA-256), rank" in err
    messages = json.loads(out)
    assert all(one == other for one, other in messages.values())
    said = {what: one for what, (one, _) in messages.items()}
    assert "must be given the same in all processes: rank 0 of 2 on" in said["shards"]
    assert re.search(r"be alike: of seed, rank \d \(on \S+\) has [01], the other has [01]", said["seed"])
    assert re.search(r"be alike: of training.samples, rank \d \(on \S+\) has 1[23],", said["rows"])
    assert "be alike: of validation.steps an epoch, rank" in said["batches"]
    assert "The processes differ after epoch 2: of weights (their SHA-256), rank" in said["weights"]
    for name in arguments:
        assert f"be alike: of {name}, rank" in said[name]


def test_ctrl_c_in_one_process_ends_all_after_the_same_step(mpi):
    code, out, err = ended(mpi(2, HERE / "faults.py", "SIGINT"))
    assert (code, out, err.count("Traceback")) == (130, "stopped after steps [6, 6]\n", 1)
    assert re.search(r"\nnpnet: rank 0 of 2 on \S+: KeyboardInterrupt. The other processes are stopped", err)


def test_who_waits_long_says_for_whom(mpi, tmp_path):
    code, out, err = ended(mpi(2, HERE / "faults.py", "late", cwd=tmp_path))
    assert (code, out) == (0, "trained\n")
    waiting = r"npnet: rank 0 of 2 on \S+ has been waiting for \d s, for"
    assert re.match(waiting + r" all to join: each must call \S+ Has one of them ended\?\n", err)
    assert re.search("\n" + waiting + r" rank 1 on \S+.\n", err)


def alone(code, **environment):
    """Run Python code that believes to be one of several processes."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    ).stderr  # fmt: skip


def test_mpiexec_without_mpi4py_is_refused():
    code = "import sys; sys.modules['mpi4py'] = None; import npnet; npnet.distribution.initialize()"
    err = alone(code, PMI_SIZE="4", PMI_RANK="0")
    assert "mpiexec started 4 processes, but without mpi4py each would train alone: pip install" in err


def test_processes_that_nobody_joins_are_warned():
    code = (
        "import numpy as np, npnet; m = npnet.Sequential([npnet.layers.Dense(1)]);"
        "m.compile('sgd', 'mse', kernels='numpy');"
        "[m.fit(np.ones((2, 1)), np.ones((2, 1)), verbose=0) for _ in range(2)]"
    )
    err = alone(code, PMI_SIZE="2", PMI_RANK="0")
    assert err.count("mpiexec started 2 processes, and each trains a model of its own") == 1
    assert alone(code, PMI_SIZE="2", PMI_RANK="1") == ""


def test_the_mpiexec_of_another_mpi_is_refused():
    pytest.importorskip("mpi4py.MPI", reason="needs mpi4py with an MPI")
    err = alone("import npnet; npnet.distribution.initialize()", OMPI_COMM_WORLD_SIZE="2")
    assert "mpiexec started 2 processes, but it belongs to another MPI than mpi4py, which uses MPICH" in err
    err = alone("import npnet; npnet.distribution.initialize()", SLURM_STEP_NUM_TASKS="2", SLURM_PROCID="1")
    assert "srun started 2 processes, but it belongs to another MPI than mpi4py" in err
    assert "srun --mpi=list" in err


def test_lines_of_other_processes_begin_with_their_number(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "4")
    monkeypatch.setenv("PMI_RANK", "3")
    stream = io.StringIO()
    prefixed = processes.Prefixed(stream)
    for text in ("one\ntw", "o\n", "three"):
        print(text, end="", file=prefixed, flush=True)
    assert stream.getvalue() == "[3] one\n[3] two\n"


# --- npnet train ------------------------------------------------------------------------------------------


def command(*options):
    return (*UNDRAWN, "train", "spiral", "--kernels", "numpy", "--hidden", "8", *options)


def test_a_run_is_stopped_killed_and_gone_on_with_on_other_numbers_of_processes(mpi, undrawn, tmp_path):
    """By SIGTERM on 2, by kill -9 on 4, to its end on 1: the digest is that of a run without a stop."""
    options = "--epochs", "40"
    first = mpi(2, *command(*options, "--run-dir", "run"), cwd=tmp_path)
    line = next(line for line in first.stdout if line.startswith("Epoch 2/"))
    first.send_signal(signal.SIGTERM)
    code, out, err = ended(first)
    assert (code, err) == (143, "")
    assert "\nStopped.\n" in out, "a second Ctrl-C is mpiexec's own"
    assert out.endswith("Go on      npnet train --resume run\n")
    epochs = json.loads((tmp_path / "run" / "result.json").read_text())["epochs"]
    assert epochs < 40, line
    second = mpi(4, *command("--resume", "run"), cwd=tmp_path)
    next(line for line in second.stdout if line.startswith(f"Epoch {epochs + 3}/"))
    second.kill()
    ended(second)
    last = mpi(1, *command("--resume", "run"), cwd=tmp_path)
    settings = {"dataset": "spiral", "kernels": "numpy", "hidden": [8], "epochs": 40, "shards": 8}
    train(settings, tmp_path / "whole", quiet=True)
    assert ended(last)[0] == 0
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("run", "whole")]
    assert results[0]["digest"] == results[1]["digest"]
    run, whole = (json.loads((tmp_path / name / "history.json").read_text()) for name in ("run", "whole"))
    assert run["loss"] == whole["loss"]


def test_a_failure_says_how_to_go_on_only_where_training_has_begun(undrawn, tmp_path, monkeypatch):
    settings = {"dataset": "spiral", "kernels": "numpy", "hidden": [8], "epochs": 1}
    run = tmp_path / "run"
    said = []

    def fail(self, epoch, logs=None):
        said.append(processes.group().failure("No space"))
        raise OSError

    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "on_epoch_end", fail)
        with pytest.raises(OSError):
            train(settings, run, quiet=True)
    assert said[0].endswith(f"are stopped. Go on from the last whole epoch: npnet train --resume {run}")
    with pytest.raises(FileExistsError, match="holds a run"):
        train(settings, run, quiet=True)
    assert processes.group().failure("It holds a run").endswith("are stopped. ")
    train({}, run, resume=True, quiet=True)
    with pytest.raises(ValueError, match="has done all of its 1 epochs"):
        train({}, run, resume=True, quiet=True)
    assert processes.group().failure("It has done all").endswith("are stopped. ")


def test_fewer_shards_than_processes_are_a_wrong_option(undrawn, tmp_path, monkeypatch, capsys):
    train(
        {"dataset": "spiral", "kernels": "numpy", "hidden": [8], "epochs": 1, "shards": 2}, tmp_path / "run"
    )
    with monkeypatch.context() as patched:
        world = SimpleNamespace(size=3, first=True, broadcast=lambda value: value)
        patched.setattr(processes, "world", lambda: world)
        with pytest.raises(ValueError, match=r"begun with --shards 2: of 3 processes some .* at most 2\."):
            train({"epochs": 2}, tmp_path / "run", resume=True)
    monkeypatch.setenv("PMI_SIZE", "3")
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setattr(processes, "join", processes.world)
    with pytest.raises(SystemExit) as ending:
        main(["train", "spiral", "--shards", "2"])
    assert ending.value.code == 2
    assert "must be at least the number of processes, 3, got 2" in capsys.readouterr().err


def test_only_training_is_for_several_processes(mpi, tmp_path):
    code, out, err = ended(mpi(2, "-m", "npnet", "info"))
    assert (code, out) == (2, "")
    assert err.count("npnet info: of npnet only train is for several processes") == 1


# --- Keras's names ------------------------------------------------------------------------------------------


def test_the_names_of_keras_check_their_arguments():
    assert distribution.list_devices() == ["cpu:0"]
    assert distribution.distribution() is None
    distribution.initialize(num_processes=1, process_id=0)
    with pytest.raises(ValueError, match="num_processes must be left out, or 1, which MPI says, got 2"):
        distribution.initialize(num_processes=2)
    with pytest.raises(TypeError, match="expects DataParallel"):
        distribution.set_distribution("data")
    with pytest.raises(ValueError, match="shards"):
        distribution.DataParallel(shards=0)
    with pytest.raises(ValueError, match='device_type must be "cpu"'):
        distribution.list_devices("gpu")
    assert processes.group().size == 1
