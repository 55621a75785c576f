"""Programs written like the first pages of Keras's guides run as they are, and learn."""

import contextlib
import io
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    "generator": (r"\naccuracy ([\d.]+)", 0.9),
    "mnist_from_disk": (r"test accuracy ([\d.]+)", 0.9),
    "image_folder": (r"validation accuracy ([\d.]+)\n$", 0.9),
    "table_from_csv": (r"accuracy ([\d.]+)", 0.8),
}


def draw_digits(monkeypatch):
    """Let mnist.load_data return a few noisy patterns instead of digits."""
    rng = np.random.default_rng(0)
    patterns = 255 * (rng.random((10, 28, 28)) > 0.6)
    y = rng.integers(0, 10, 1200).astype(np.uint8)
    x = np.clip(patterns[y] + rng.normal(0, 60, (1200, 28, 28)), 0, 255).astype(np.uint8)
    monkeypatch.setattr(
        npnet.datasets.mnist, "load_data", lambda: ((x[:1000], y[:1000]), (x[1000:], y[1000:]))
    )


def paint_flowers(monkeypatch):
    """Leave a folder with bright daisies and dark roses."""
    rng = np.random.default_rng(0)
    for name, value in (("daisy", 200), ("rose", 60)):
        folder = Path("flowers", name)
        folder.mkdir(parents=True)
        for i in range(40):
            pixels = np.clip(value + rng.normal(0, 30, (30, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")


def write_hearts(monkeypatch):
    """Leave a CSV file with numbers, a category and a target that follows from them."""
    rng = np.random.default_rng(0)
    lines = ["age,pulse,pressure,pain,target"]
    for _ in range(400):
        age, pulse, pain = (
            rng.integers(30, 80),
            rng.integers(90, 190),
            rng.choice(["typical", "none", "other"]),
        )
        ill = int(age - 0.3 * pulse + 15 * (pain == "none") + rng.normal(0, 4) > 15)
        lines.append(f"{age},{pulse},{rng.integers(100, 180)},{pain},{ill}")
    Path("heart.csv").write_text("\n".join(lines))


DATA = {"mnist_from_disk": draw_digits, "image_folder": paint_flowers, "table_from_csv": write_hearts}


def test_every_program_is_run():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(LEARNT)


@pytest.mark.parametrize("name", LEARNT)
def test_a_ported_program_runs_and_learns(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if name in DATA:
        DATA[name](monkeypatch)
    monkeypatch.setattr(kernels, "_chosen_by_default", lambda: "numpy")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), npnet.utils.seeds.seeded(0):
        runpy.run_path(str(FOLDER / f"{name}.py"))
    assert kernels.load() is reference
    pattern, least = LEARNT[name]
    assert float(re.findall(pattern, printed.getvalue())[-1]) >= least, printed.getvalue()
