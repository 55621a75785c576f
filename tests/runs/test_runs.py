"""Runs from Python: their settings, their folders, and going on with them."""

import json
import re
import threading
import warnings
from datetime import datetime

import numpy as np
import pytest

import npnet
from npnet.datasets import DatasetUnavailableError, shapes, spiral
from npnet.internal.files import write_atomically
from npnet.models import load_model
from npnet.runs import datasets, environment, outcome, train
from npnet.runs.folder import RunFolder
from npnet.runs.recipes import RECIPES
from npnet.runs.recorder import Recorder
from npnet.runs.report import pictures
from npnet.runs.settings import complete

SMALL = {"dataset": "spiral", "kernels": "numpy", "epochs": 3, "hidden": [8], "schedule": "constant"}
RANDOM = {**SMALL, "dropout": 0.2, "batch_norm": True, "validation_split": 0.2}
PICTURES = {
    "dataset": "shapes", "kernels": "numba", "epochs": 2, "hidden": [8, 8], "limit": 100, "flip": True,
    "shift": 2, "dropout": 0.1, "recipe": "best", "batch_size": 8,
}  # fmt: skip

CNN = {
    "dataset": "shapes", "kernels": "numpy", "epochs": 2, "recipe": "cnn", "filters": [2, 3], "hidden": [8],
    "limit": 40, "batch_size": 8,
}  # fmt: skip
FAST = {
    "dataset": "shapes", "kernels": "numpy", "epochs": 4, "recipe": "fast", "filters": [2, 3, 4],
    "activation": "relu", "limit": 40, "batch_size": 16, "views": 6,
}  # fmt: skip
AT_ONCE = {**PICTURES, "recipe": "tutorial", "flip": False, "shift": 0, "dropout": 0.0}  # many steps a call


@pytest.fixture
def plain(undrawn, monkeypatch, tmp_path):
    """No pictures, no report, few drawn shapes, and a working folder of its own."""
    monkeypatch.setattr(outcome.report, "write_report", lambda folder: None)
    few = (lambda path, limit: shapes.load_data(limit or 50, 50)), shapes.CLASS_NAMES
    monkeypatch.setitem(datasets.LOADERS, "shapes", few)
    monkeypatch.chdir(tmp_path)


def history(folder):
    content = RunFolder(folder).read_json("history.json")
    del content["seconds"]
    return content


@pytest.fixture
def interrupt(monkeypatch):
    """Let the next training be stopped by Ctrl-C after so many steps of the optimizer."""

    def after(steps):
        def press(self, batch, logs=None):
            if self.model.optimizer.iterations == steps:
                monkeypatch.delattr(Recorder, "on_train_batch_end")
                raise KeyboardInterrupt

        monkeypatch.setattr(Recorder, "on_train_batch_end", press, raising=False)

    return after


# --- settings


def test_what_is_given_comes_before_the_recipe():
    settings = complete({"recipe": "best", "epochs": 3})
    best = RECIPES["best"]
    assert (settings["epochs"], settings["batch_size"], settings["flip"]) == (3, best.batch_size, best.flip)
    assert complete(settings) == settings, "every config.json is one"
    assert complete({"dataset": "spiral"})["hidden"] == [64, 64]
    assert complete({"recipe": "cnn"})["filters"] == [32, 64]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epoch": 3}, "Unknown setting 'epoch'. Did you mean \"epochs\"?"),
        ({"dataset": "cifar"}, 'Did you mean "cifar10"?'),
        ({"recipe": "bst"}, 'Did you mean "best"?'),
        ({"optimizer": "adm"}, 'Did you mean "adam"?'),
        ({"kernels": "nunba"}, 'Did you mean "numba"?'),
        ({"schedule": "cosin"}, 'Did you mean "cosine"?'),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"learning_rate": -1}, "learning_rate must be finite"),
        ({"hidden": 512}, "hidden must be a list of sizes"),
        ({"flip": 1}, "flip must be true or false, got 1"),
        ({"dataset": "spiral", "shift": 2}, "flip, shift and filters are for pictures"),
        ({"dataset": "spiral", "filters": [8]}, "flip, shift and filters are for pictures"),
        ({"filters": 32}, "filters must be a list of sizes"),
        ({"dataset": "shapes", "limit": 50, "filters": [1, 1, 1, 1, 1]}, "size would be zero or negative"),
        ({"dataset": "shapes", "limit": 50, "shift": 33}, "shift must be at most 32"),
        (
            {"dataset": "spiral", "data": "there"},
            "data says where a published data set lies, but spiral is drawn",
        ),
        ({"dataset": None}, "dataset must be text, got None"),
        ({"dataset": ["spiral"]}, "dataset must be text, got ['spiral']"),
        ({"recipe": {}}, "recipe must be text, got {}"),
    ],
)
def test_settings_that_do_not_fit_are_named_and_nothing_is_made(given, message, plain, tmp_path):
    with pytest.raises((ValueError, TypeError)) as error:
        train(given, tmp_path / "run")
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


# --- the folder


def test_a_run_leaves_everything_that_is_promised(tmp_path, monkeypatch, capsys):
    result = train(SMALL, tmp_path / "run", quiet=True)
    assert capsys.readouterr().out == ""
    folder = RunFolder(tmp_path / "run")
    assert {path.name for path in folder.path.iterdir()} == {
        "config.json", "env.json", "history.csv", "history.json", "last.safetensors",
        "result.json", "confusion.csv", "confusion.png", "history.png", "boundary.png", "report.html",
    }  # fmt: skip
    assert result == folder.read_json("result.json")
    assert (result["status"], result["reason"], result["epochs"]) == ("finished", None, 3)
    history = folder.read_json("history.json")
    assert history["epoch"] == [1, 2, 3]
    assert (result["best_epoch"], result["held_out"]) == (None, 0), "nothing is chosen on the test samples"
    assert result["test"]["accuracy"] == pytest.approx(history["val_accuracy"][-1])
    header, *rows = (folder / "history.csv").read_text().splitlines()
    assert header.split(",") == list(history)
    assert [float(value) for value in rows[1].split(",")] == [values[1] for values in history.values()]
    confusion = np.array(result["confusion"])
    assert confusion.sum() == 600
    assert np.trace(confusion) / 600 == pytest.approx(result["test"]["accuracy"])
    assert all(m["true"] != m["predicted"] for m in result["mistakes"])
    assert sum(result["step_share"].values()) == pytest.approx(1)
    assert all(share > 0 for share in result["step_share"].values())
    seconds = dict(result["seconds"])
    assert sum(seconds.values()) - seconds.pop("total") == pytest.approx(sum(seconds.values()))
    environment = folder.read_json("env.json")
    assert environment["kernels"] == "numpy"
    assert len(environment["dataset_sha256"]) == 64


def test_a_convolutional_run_draws_what_it_looks_for_and_where(tmp_path, monkeypatch, capsys):
    few = (lambda path, limit: shapes.load_data(limit, 50)), shapes.CLASS_NAMES
    monkeypatch.setitem(datasets.LOADERS, "shapes", few)
    monkeypatch.setattr(pictures, "LOOKS", 2)  # of eight: the picture and the report look alike
    monkeypatch.setenv("COLUMNS", "200")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # of a picture that was not drawn
        train(CNN, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").glob("*.png")} == {
        "samples.png", "history.png", "confusion.png", "mistakes.png", "weights.png", "feature_maps.png",
        "occlusion.png",
    }  # fmt: skip
    said = capsys.readouterr().out
    assert "32x32x3-2-2-pool-3-3-pool-8-10, relu, dropout 0.25 and 0.5, unit inputs:" in said
    assert "Where it looks" in (tmp_path / "run/report.html").read_text()


def test_an_epoch_is_chosen_on_samples_held_out_and_measured_on_the_test_samples(
    tmp_path, monkeypatch, capsys
):
    config = {**SMALL, "validation_split": 0.25, "epochs": 8, "learning_rate": 0.1, "inputs": "standardised"}
    monkeypatch.setenv("COLUMNS", "200")
    result = train(config, tmp_path / "run")
    said = " ".join(capsys.readouterr().out.split())
    folder = RunFolder(tmp_path / "run")
    history = folder.read_json("history.json")
    best = history["val_accuracy"].index(max(history["val_accuracy"])) + 1
    assert best < 8, "or this test shows nothing"
    assert (result["best_epoch"], result["held_out"]) == (best, 150)
    model = load_model(folder / "best.safetensors")
    (x, y), (x_test, y_test) = spiral.load_data()
    held, test = (model.evaluate(a, np.eye(3)[b.reshape(-1)], 1000, 0, return_dict=True)
                  for a, b in ((x[450:], y[450:]), (x_test, y_test)))  # fmt: skip
    assert held["accuracy"] == pytest.approx(max(history["val_accuracy"]))
    assert test["accuracy"] == pytest.approx(result["test"]["accuracy"])
    np.testing.assert_allclose(model.layers[0].mean, x[:450].mean(axis=0, dtype=float))
    assert "450 points to train on, 150 held out of them to choose the epoch by, 600 to test on" in said
    assert f"Best epoch {best} of 8, chosen on 150 samples held out" in said
    assert f"(600 samples; weights of epoch {best})" in said


def test_what_is_held_out_does_not_change_the_fingerprint_of_the_data():
    whole, split = (datasets.load("spiral", validation_split=share) for share in (0.0, 0.3))
    assert whole.sha256() == split.sha256() and len(split.x_train) == 420
    assert np.array_equal(np.concatenate([split.x_train, split.x_held]), whole.x_train)
    assert whole.validation[0] is whole.x_test and split.validation[0] is split.x_held
    with pytest.raises(ValueError, match="leaves none to train on"):
        datasets.load("spiral", limit=1, validation_split=0.5)


def test_a_run_says_when_where_and_how_it_was_started(plain, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/npnet", "train", "spiral", "--run-dir", "my run"])
    git = tmp_path / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs/heads/main").write_text("1234abcd\n")
    train({**SMALL, "epochs": 1}, tmp_path / "run")
    found = RunFolder(tmp_path / "run").read_json("env.json")
    assert found["command"] == "npnet train spiral --run-dir 'my run'"
    assert found["host"] and datetime.fromisoformat(found["date"]).tzinfo is not None
    assert found["commit"] == "1234abcd"


def test_the_commit_is_read_as_git_writes_it(tmp_path):
    git, inside = tmp_path / ".git", tmp_path / "a" / "b"
    git.mkdir()
    inside.mkdir(parents=True)
    assert environment.commit(inside) is None
    (git / "HEAD").write_text("feedbeef\n")  # no branch
    assert environment.commit(inside) == "feedbeef"
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text("# pack-refs\n11 refs/heads/other\n22 refs/heads/main\n")
    assert environment.commit(inside) == "22"
    (git / "packed-refs").write_bytes(b"\xff")
    assert environment.commit(inside) is None


def test_the_same_config_gives_the_same_bits(plain, tmp_path):
    first = train(RANDOM, tmp_path / "a")
    second = train(json.loads((tmp_path / "a/config.json").read_text()), tmp_path / "b")
    other = train({**RANDOM, "seed": 1}, tmp_path / "c")
    assert first["digest"] == second["digest"] != other["digest"]
    assert history(tmp_path / "a") == history(tmp_path / "b")


def test_runs_without_a_name_are_numbered_and_never_shared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = []
    makers = [
        threading.Thread(target=lambda: made.append(str(RunFolder.new(None, "spiral").path)))
        for _ in range(8)
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert sorted(made) == [f"runs/spiral-{number:03d}" for number in range(1, 9)]


def test_what_is_there_is_never_overwritten(plain, tmp_path):
    train(SMALL, tmp_path / "run")
    with pytest.raises(FileExistsError, match=r"holds a run. Go on with it, npnet train --resume"):
        train(SMALL, tmp_path / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.doc").touch()
    with pytest.raises(FileExistsError, match="no empty folder"):
        train(SMALL, tmp_path / "full")
    (tmp_path / "empty").mkdir()
    train(SMALL, tmp_path / "empty")


def test_a_file_that_cannot_be_written_is_named_as_it_is_known(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        write_atomically(tmp_path / "gone/config.json", b"")
    assert error.value.filename == str(tmp_path / "gone/config.json")


def test_one_process_at_a_time_trains_in_a_folder(plain, tmp_path):
    train(SMALL, tmp_path / "run")
    with RunFolder(tmp_path / "run").held(), pytest.raises(ValueError, match="Another process is training"):
        train({"epochs": 5}, tmp_path / "run", resume=True)


def test_without_cifar10_and_a_network_it_trains_on_shapes(plain, tmp_path, monkeypatch, capsys):
    def unavailable(path, limit):
        raise DatasetUnavailableError("not to be had")

    monkeypatch.setitem(datasets.LOADERS, "cifar10", (unavailable, shapes.CLASS_NAMES))
    given = {"epochs": 1, "hidden": [8], "kernels": "numpy"}
    train(given)
    assert capsys.readouterr().out.startswith("CIFAR-10 is not on this machine and cannot be downloaded")
    assert RunFolder("runs/shapes-001").read_json("config.json")["dataset"] == "shapes"
    with pytest.raises(DatasetUnavailableError):
        train({**given, "dataset": "cifar10"})


# --- going on


@pytest.mark.parametrize(
    ("config", "steps"),
    [(RANDOM, 1), (RANDOM, 22), (PICTURES, 5), (PICTURES, 13), (AT_ONCE, 20), (CNN, 7), (FAST, 5)],
)
def test_an_interrupted_run_goes_on_to_the_same_bits(config, steps, plain, interrupt, tmp_path):
    whole = train(config, tmp_path / "whole")
    interrupt(steps)
    stopped = train(config, tmp_path / "run")
    assert stopped["status"] == "interrupted"
    interrupt(steps + 2)
    assert train({}, tmp_path / "run", resume=True)["status"] == "interrupted"
    resumed = train({}, tmp_path / "run", resume=True)
    assert resumed["digest"] == whole["digest"] != stopped["digest"]
    assert (resumed["status"], resumed["epochs"]) == ("finished", config["epochs"])
    assert history(tmp_path / "run") == history(tmp_path / "whole")
    slots = [
        [
            slot
            for p in load_model(tmp_path / name / "last.safetensors").parameters
            for slot in p.slots.values()
        ]
        for name in ("run", "whole")
    ]
    assert all(np.array_equal(a, b) for a, b in zip(*slots, strict=True))
    for key in ("best_epoch", "test", "confusion", "mistakes"):
        assert resumed[key] == whole[key]


def test_what_was_written_after_the_last_checkpoint_is_made_again(plain, tmp_path):
    """A kill between two of an epoch's files leaves history and best one epoch ahead of last."""
    config = {**SMALL, "validation_split": 0.2}
    whole = train(config, tmp_path / "whole")
    train({**config, "epochs": 1}, tmp_path / "run")
    for name in ("history.json", "best.safetensors", "config.json"):
        (tmp_path / "run" / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    (tmp_path / "run/result.json").unlink()
    assert train({}, tmp_path / "run", resume=True)["digest"] == whole["digest"]
    assert history(tmp_path / "run") == history(tmp_path / "whole")


def test_a_run_that_was_killed_after_its_last_epoch_makes_its_pictures_when_it_goes_on(plain, tmp_path):
    whole = train(SMALL, tmp_path / "run")
    (tmp_path / "run/result.json").unlink()
    (tmp_path / "run/confusion.csv").unlink()
    result = train({}, tmp_path / "run", resume=True)
    assert (result["digest"], result["status"], result["test"]) == (
        whole["digest"],
        "finished",
        whole["test"],
    )
    assert (tmp_path / "run/confusion.csv").exists()


def test_a_finished_run_can_be_trained_longer(plain, tmp_path):
    whole = train({**RANDOM, "epochs": 4}, tmp_path / "whole")
    train({**RANDOM, "epochs": 2}, tmp_path / "run")
    with pytest.raises(ValueError, match=r"has done all of its 2 epochs.*--epochs 4"):
        train({}, tmp_path / "run", resume=True)
    scheduled = train({**SMALL, "schedule": "cosine", "epochs": 1}, tmp_path / "scheduled")
    assert scheduled["status"] == "finished"
    with pytest.raises(ValueError, match=r"ends there. Start a new run: .*config.json --epochs 2"):
        train({}, tmp_path / "scheduled", resume=True)
    longer = train({"epochs": 4, "threads": 1}, tmp_path / "run", resume=True)
    assert longer["digest"] == whole["digest"]
    assert RunFolder(tmp_path / "run").read_json("config.json")["epochs"] == 4


def test_a_run_from_before_a_setting_came_goes_on(plain, tmp_path):
    train(SMALL, tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    del config["filters"]
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    assert train({"epochs": 4}, tmp_path / "run", resume=True)["epochs"] == 4


def test_what_may_not_change_is_refused_by_name(plain, interrupt, tmp_path):
    interrupt(30)
    train({**SMALL, "schedule": "cosine"}, tmp_path / "run")
    for change, message in [
        ({"learning_rate": 0.5}, r"learning_rate is 0.01 in .* and stays so"),
        ({"seed": 7}, "seed is 0"),
        ({"epochs": 2}, "epochs is 3 in .* and may only grow, got 2"),
        ({"epochs": 9}, "follows a schedule over 3 epochs"),
    ]:
        with pytest.raises(ValueError, match=message):
            train(change, tmp_path / "run", resume=True)
    environment = RunFolder(tmp_path / "run").read_json("env.json")
    RunFolder(tmp_path / "run").write_json("env.json", {**environment, "dataset_sha256": "0" * 64})
    with pytest.raises(ValueError, match="was trained on other data"):
        train({}, tmp_path / "run", resume=True)
    with pytest.raises(FileNotFoundError, match="not a run"):
        train({}, tmp_path / "elsewhere", resume=True)
    assert RunFolder(tmp_path / "run").read_json("result.json")["status"] == "interrupted"


# --- failing


def test_a_picture_that_cannot_be_drawn_costs_no_report(tmp_path, monkeypatch):
    def fail(*arguments):
        raise ZeroDivisionError("no colours")

    monkeypatch.setattr(outcome.plotting, "history_curves", fail)
    message = r"history\.png was not drawn \(ZeroDivisionError: no colours\)\."
    with pytest.warns(RuntimeWarning, match=message):
        result = train({**SMALL, "epochs": 1}, tmp_path / "run")
    assert result["status"] == "finished" and result["test"]
    made = {file.name for file in (tmp_path / "run").iterdir()}
    assert {"report.html", "result.json", "boundary.png", "confusion.png"} <= made
    assert "history.png" not in made


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_a_loss_that_is_no_number_is_traced_to_its_layer_and_step(kernels, plain, tmp_path, capsys):
    config = {**SMALL, "kernels": kernels, "hidden": [16, 16], "optimizer": "rmsprop", "learning_rate": 1e14}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = train(config, tmp_path / "run")
    assert result["status"] == "failed"
    what, where, what_to_try = re.fullmatch(r"(.*?e\+14\.) (.*) (Try .*)", result["reason"]).groups()
    assert what == "Step 2, batch 2 of epoch 1: the loss is nan at a learning rate of 1e+14."
    assert where.startswith(
        "The first value that is not finite is in the output of layer 'dense_2', whose largest weight is"
    )
    assert what_to_try == "Try --lr 1e+13, or --schedule onecycle, which begins with small steps."
    assert "Failed" in capsys.readouterr().out
    assert load_model(tmp_path / "run/last.safetensors").position == (0, 0, {})
    with pytest.raises(ValueError, match="failed and would fail again"):
        train({}, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("name", "shape", "labels"), [("mnist", (28, 28), ()), ("cifar100", (32, 32, 3), (1,))]
)
def test_published_pictures_are_trained_on_by_name_and_reported(tmp_path, monkeypatch, name, shape, labels):
    """With numbers in the shapes that load_data gives."""
    module = getattr(npnet.datasets, name)
    classes, rng = len(module.CLASS_NAMES), np.random.default_rng(0)
    parts = [
        (
            rng.integers(0, 256, (n, *shape), np.uint8),
            np.resize(np.arange(classes, dtype=np.uint8), (n, *labels)),
        )
        for n in (120, 110)
    ]
    arrays = {"x_train": parts[0][0], "x_test": parts[1][0]}
    for label in ("y", "fine", "coarse"):
        arrays |= {f"{label}_train": parts[0][1], f"{label}_test": parts[1][1]}
    monkeypatch.setattr(npnet.datasets.published, "load", lambda dataset, path: arrays)
    result = train(
        {"dataset": name, "kernels": "numpy", "epochs": 1, "hidden": [4]}, tmp_path / "run", quiet=True
    )
    assert result["class_names"] == list(module.CLASS_NAMES)
    assert np.sum(result["confusion"]) == 110
    page = (tmp_path / "run/report.html").read_text()
    assert "110 test images are classified correctly" in page
    for picture in ("confusion", "samples", "mistakes", "weights"):
        assert (tmp_path / f"run/{picture}.png").exists()
