"""The command ``npnet train``, with real signals in real processes."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from undrawn import UNDRAWN

import npnet
from npnet.cli import COMMANDS, main
from npnet.models import load_model
from npnet.plotting.canvas import so_far
from npnet.runs import outcome, train
from npnet.runs.folder import RunFolder
from npnet.runs.settings import complete
from npnet.runs.training import Training

OPTIONS = [
    "spiral", "--kernels", "numpy", "--batch-size", "4", "--hidden", "8", "--dropout", "0.2",
    "--schedule", "constant",
]  # fmt: skip


@pytest.fixture
def plain(undrawn, monkeypatch, tmp_path):
    """No pictures, no report, and a working folder of its own."""
    monkeypatch.setattr(outcome.report, "write_report", lambda folder: None)
    monkeypatch.chdir(tmp_path)


def refused(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", *arguments])
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizr", "adam"], "unrecognized arguments: --optimizr. Did you mean --optimizer?"),
        (["--optimizer", "adm"], "Did you mean adam?"),
        (["spirl"], "Did you mean spiral?"),
        (["--epochs", "two"], "argument --epochs: must be a whole number, got 'two'"),
        (["--lr", "low"], "argument --lr/--learning-rate: must be a number, got 'low'"),
        (["--epochs", "0"], "epochs must be at least 1, got 0"),
        (["--hidden", "a,b"], "expected sizes such as 512,512, got 'a,b'"),
        (["--config", "nowhere.json"], "nowhere.json: No such file"),
        (["--run-dir", "a", "--resume", "b"], "give one of them"),
        (
            ["--dtype", "float16"],
            "npnet has no float16",
        ),
    ],
)
def test_a_wrong_word_is_answered_by_the_right_one_and_nothing_is_made(arguments, message, plain, capsys):
    assert message in refused(arguments, capsys)
    assert not list(Path().iterdir())


def test_help_shows_groups_defaults_and_examples(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    words = capsys.readouterr().out
    assert all(f"\n{group}:\n" in words for group in ("data", "network", "training", "run"))
    assert "passes over the samples [20; best " in " ".join(words.split())
    assert "npnet train --resume runs/cifar10-001" in words


def test_options_come_before_the_config_and_that_before_the_recipe(plain, tmp_path):
    (tmp_path / "mine.json").write_text(
        '{"dataset": "spiral", "epochs": 9, "hidden": [4], "kernels": "numpy"}'
    )
    assert main(["train", "--config", "mine.json", "--epochs", "1", "--run-dir", "run", "--no-flip"]) == 0
    settings = RunFolder("run").read_json("config.json")
    assert (settings["epochs"], settings["hidden"], settings["optimizer"]) == (1, [4], "adam")
    (tmp_path / "mine.json").write_text('{"epoch": 9}')
    with pytest.raises(SystemExit):
        main(["train", "--config", "mine.json"])


@pytest.mark.filterwarnings("ignore:mixed_bfloat16 is no faster")
def test_a_run_of_mixed_precision_says_so_and_goes_on_in_it(plain, capsys):
    options = [*OPTIONS, "--dtype", "mixed_bfloat16"]
    assert main(["train", *options, "--epochs", "2", "--run-dir", "whole"]) == 0
    assert re.search("^Kernels +numpy, mixed_bfloat16$", capsys.readouterr().out, re.M)
    assert main(["train", *options, "--epochs", "1", "--run-dir", "parts"]) == 0
    npnet.config.set_dtype_policy("float64")
    try:
        assert main(["train", "--resume", "parts", "--epochs", "2"]) == 0
        whole, parts = (load_model(f"{run}/last.safetensors") for run in ("whole", "parts"))
    finally:
        npnet.config.set_dtype_policy("float32")
    assert RunFolder("parts").read_json("config.json")["dtype"] == "mixed_bfloat16"
    assert {layer.dtype_policy.name for layer in parts.layers} == {"mixed_bfloat16"}
    assert [a.tobytes() for a in whole.get_weights()] == [a.tobytes() for a in parts.get_weights()]
    assert main(["train", *OPTIONS, "--epochs", "2", "--run-dir", "float32"]) == 0
    assert not np.array_equal(load_model("float32/last.safetensors").get_weights()[0], whole.get_weights()[0])
    with pytest.raises(ValueError, match=r"dtype is 'mixed_bfloat16' in .* and stays so"):
        train({"dtype": "float32"}, "parts", resume=True)


@pytest.mark.parametrize("width", [60, 200])
def test_what_it_says_fits_the_terminal(width, plain, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["train", *OPTIONS, "--epochs", "1", "--validation-split", "0.1"]) == 0
    said = capsys.readouterr().out
    progress = [line for line in said.splitlines() if line.startswith("Epoch ")]
    assert len(progress) == 1, "a line an epoch where nobody watches"
    assert all(len(line) <= min(width, 100) for line in said.splitlines() if line not in progress)
    for label in (
        "Dataset",
        "Network",
        "Kernels",
        "Seed",
        "Folder",
        "Best epoch",
        "Test",
        "Speed",
        "Time",
        "Report",
    ):
        assert re.search(f"^{label} ", said, re.M), label
    assert re.search(r"^ +third arm +\d\.\d{3} ━+$", said, re.M)
    assert "\033" not in said


def test_a_closed_output_is_none_to_write_to(plain, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["train", *OPTIONS, "--epochs", "1", "--run-dir", "run"]) == 0
    assert RunFolder("run").read_json("result.json")["status"] == "finished"


def test_what_the_system_refuses_is_told_without_its_number(monkeypatch, capsys):
    def refuse(arguments):
        raise OSError(28, "No space left on device", "last.safetensors")

    monkeypatch.setattr("npnet.cli.info.run", refuse)
    assert main(["info"]) == 1
    assert capsys.readouterr().err == "npnet info: last.safetensors: No space left on device.\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_begins_with_paragraphs_as_wide_as_the_terminal(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    _, *paragraphs = capsys.readouterr().out.split("options:")[0].split("\n\n")
    lines = "\n".join(paragraphs).splitlines()
    assert all(len(line) <= 60 for line in lines) and max(map(len, lines)) > 40


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"npnet {npnet.__version__}\n"


def test_what_cannot_be_done_ends_in_one_line(plain, capsys, tmp_path):
    assert main(["train", "--resume", "nowhere"]) == 1
    assert main(["train", "--data", "nowhere"]) == 1
    if os.getuid():
        tmp_path.chmod(0o500)
        assert main(["train", *OPTIONS]) == 1
    assert capsys.readouterr().err.count("\n") == (3 if os.getuid() else 2)


# --- signals


def start(folder, program=("-m", "npnet")):
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *program, "train", *OPTIONS, "--epochs", "1000", "--run-dir", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    while process.stdout.readline()[:7] != "Epoch 2":
        assert process.poll() is None, process.stderr.read()
    return process


def finish(folder):
    """Go on for as many epochs as the unbroken run in ``whole`` and compare."""
    done = load_model(f"{folder}/last.safetensors").position.epoch
    settings = RunFolder(folder).read_json("config.json")
    for name in ("whole", folder):
        RunFolder(name).write_json("config.json", {**settings, "epochs": done + 2})
    train({}, "whole", resume=True)
    resumed = train({}, folder, resume=True)
    assert resumed["digest"] == RunFolder("whole").read_json("result.json")["digest"]
    histories = [RunFolder(name).read_json("history.json") for name in ("whole", folder)]
    for history in histories:
        del history["seconds"]
    assert histories[0] == histories[1]


@pytest.mark.parametrize(
    ("how", "code", "status", "program"),
    [(signal.SIGINT, 130, "interrupted", ("-m", "npnet")), (signal.SIGTERM, 143, "terminated", UNDRAWN)],
)
def test_who_is_stopped_saves_reports_and_goes_on_to_the_same_bits(how, code, status, program, plain):
    main(["train", *OPTIONS, "--epochs", "1", "--run-dir", "whole"])
    process = start("run", program)
    time.sleep(0.05)
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")
    assert "Go on      npnet train --resume run" in out
    assert RunFolder("run").read_json("result.json")["status"] == status
    epochs, steps, _ = load_model("run/last.safetensors").position
    weights = f"after {so_far(epochs, steps)}" if steps else f"of epoch {epochs}, the last"
    assert f"weights {weights})" in " ".join(out.split())
    assert "nothing is lost" in Path("run/report.html").read_text(encoding="utf-8")
    finish("run")


@pytest.mark.parametrize("how", ["killed", "ctrl-c twice", "terminated, then ctrl-c"])
def test_who_leaves_at_once_loses_nothing_that_was_saved(how, plain):
    main(["train", *OPTIONS, "--epochs", "1", "--run-dir", "whole"])
    process = start("run")
    if how == "killed":
        process.kill()
    else:
        process.send_signal(signal.SIGINT if how == "ctrl-c twice" else signal.SIGTERM)
        assert any(line.startswith("Stopped") for line in iter(process.stdout.readline, ""))
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == (-9 if how == "killed" else 130)
    assert not Path("run/report.html").exists()
    finish("run")


@pytest.mark.parametrize(
    ("place", "name", "message"),
    [
        (Training, "_compile", "Stopped. Go on: npnet train --resume run"),
        (
            outcome,
            "conclude",
            "Stopped. All epochs are done. Its pictures and its report: npnet train --resume run",
        ),
    ],
)
def test_who_is_stopped_before_the_first_step_or_after_the_last_hears_how_to_go_on(
    place, name, message, plain, monkeypatch, capsys
):
    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(place, name, stop)
        assert main(["train", *OPTIONS, "--epochs", "2", "--run-dir", "run"]) == 130
    assert capsys.readouterr().err == f"\n{message}\n"
    assert main(["train", "--resume", "run"]) == 0
    assert RunFolder("run").read_json("result.json")["status"] == "finished"


def test_a_learning_rate_belongs_to_the_optimizer_it_was_chosen_for():
    assert complete({"dataset": "spiral"})["learning_rate"] == 0.01
    assert complete({"dataset": "spiral", "optimizer": "adam"})["learning_rate"] == 0.01
    assert complete({"dataset": "spiral", "optimizer": "rmsprop"})["learning_rate"] is None
    assert complete({"recipe": "best", "optimizer": "adamw"})["learning_rate"] is None
    assert complete({"recipe": "best", "optimizer": "adamw", "learning_rate": 0.1})["learning_rate"] == 0.1


def test_a_terminal_without_the_letters_of_a_name_ends_nothing(tmp_path, monkeypatch):
    """A pipe on Windows takes the 256 letters of its code page."""
    monkeypatch.chdir(tmp_path)
    stream = io.TextIOWrapper(io.BytesIO(), "cp1252", newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    run = ["train", "spiral", "--epochs", "1", "--kernels", "numpy", "--run-dir", "日本"]
    assert main(run) == 0
    stream.flush()
    assert "Folder     ??" in stream.buffer.getvalue().decode("cp1252")


def test_the_home_of_a_user_is_found_in_the_name_of_a_run():
    assert RunFolder("~/run").path == Path.home() / "run"
