"""Programs written like the first pages of Keras's guides run as they are, and learn."""

import contextlib
import io
import re
import runpy
from pathlib import Path

import pytest

import npnet
from npnet import kernels
from npnet.kernels import reference

FOLDER = Path(__file__).parents[1] / "examples" / "ported"
LEARNT = {  # what the last line says, and from where on the program has learnt something
    "mnist_mlp": (r"test accuracy ([\d.]+)", 0.9),
    "mnist_cnn": (r"test accuracy ([\d.]+)", 0.9),
    "regression": (r"r2_score ([\d.]+)", 0.9),
    "imbalanced_classification": (r"auc ([\d.]+)", 0.9),
    "transfer_by_freezing": (r"fine-tuned: accuracy ([\d.]+)", 0.6),
    "custom_callback": (r"epoch (\d+): loss", 3),
    "custom_training_loop": (r"validation accuracy ([\d.]+)\n$", 0.8),
    "generator": (r"accuracy ([\d.]+)", 0.9),
}


def test_every_program_is_run():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(LEARNT)


@pytest.mark.parametrize("name", LEARNT)
def test_a_ported_program_runs_and_learns(name, monkeypatch):
    monkeypatch.setattr(kernels, "_chosen_by_default", lambda: "numpy")
    monkeypatch.setattr(npnet.utils.seeds, "_default_seed", 0)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(FOLDER / f"{name}.py"))
    assert kernels.load() is reference
    pattern, least = LEARNT[name]
    assert float(re.findall(pattern, printed.getvalue())[-1]) >= least, printed.getvalue()
