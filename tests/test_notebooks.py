"""What a notebook shows: histories, models and checks; and the tutorial's chapters as notebooks."""

import base64
import textwrap
from html.parser import HTMLParser
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from offline import offline

import npnet
from npnet import plotting
from npnet.callbacks import History
from npnet.layers import Dense
from npnet.models import Sequential, load_model
from npnet.plotting import markup
from npnet.plotting.curves import Curve, panels

X = np.random.default_rng(0).random((12, 3), dtype=np.float32)
Y = np.eye(2, dtype=np.float32)[np.arange(12) % 2]


def small_model(**options):
    model = Sequential(
        [Dense(4, activation="relu", input_shape=(3,)), Dense(2, activation="softmax")], seed=0
    )
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"], kernels="numpy", **options)
    return model


class Cells(HTMLParser):
    """The rows of text of all tables, and the names of all elements."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.tags = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.tags[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_history_knows_after_which_epochs_validation_ran():
    history = small_model().fit(X, Y, epochs=5, verbose=0, validation_data=(X, Y), validation_freq=[1, 2, 5])
    assert history.validation_epoch == [0, 1, 4]
    loss = panels(history)[0]
    assert loss.curves[0].x == [1, 2, 3, 4, 5] and loss.curves[1].x == [1, 2, 5]
    axes = plotting.history_curves(history).axes[0]
    assert list(axes.lines[1].get_xdata()) == [1, 2, 5]


def test_a_run_s_json_is_a_history_too():
    loss, accuracy = panels(
        {
            "epoch": [3, 4, 5],
            "seconds": [1, 2, 3],
            "learning_rate": [0.1, 0.1, 0.1],
            "loss": [3, 2, 1],
            "accuracy": [0.1, 0.2, 0.3],
            "val_loss": [None, 2.5, None],
            "val_accuracy": None,
        }
    )
    assert loss.curves[1].points == [(4, 2.5)] and loss.best == (4, 2.5)
    assert accuracy.curves[0].points == [(3, 0.1), (4, 0.2), (5, 0.3)]


def test_a_history_shows_first_last_and_best_values_and_curves():
    history = small_model().fit(X, Y, epochs=3, verbose=0, validation_data=(X, Y))
    page = Cells(history._repr_html_())
    assert page.rows[0] == ["", "first", "last", "best", "in epoch"]
    assert [row[0] for row in page.rows[1:]] == [
        "loss, training", "loss, validation", "accuracy, training", "accuracy, validation",
    ]  # fmt: skip
    assert page.rows[1][1:3] == [f"{history.history['loss'][i]:.4f}" for i in (0, -1)]
    assert page.tags.count("svg") == page.tags.count("title") == 2
    assert "0 epochs" in History()._repr_html_()


def test_a_model_shows_its_summary_as_a_table():
    page = Cells(small_model()._repr_html_())
    assert page.rows == [
        ["Layer (type)", "Output Shape", "Param #"],
        ["dense (Dense)", "(None, 4)", "16"],
        ["dense_1 (Dense)", "(None, 2)", "10"],
    ]
    assert "Total params: 26" in small_model()._repr_html_()


def test_a_check_shows_its_verdicts_as_a_table(capsys):
    check = npnet.check_gradients(small_model(), X, Y)
    page = Cells(check._repr_html_())
    assert page.rows[0] == ["tensor", "shape", "checked", "relative error", "verdict"]
    assert [row[-1] for row in page.rows[1:]] == ["ok"] * 5
    assert [" ".join(row) for row in page.rows] == [
        " ".join(line.split()) for line in str(check).splitlines()
    ]


def test_names_are_escaped():
    model = Sequential([Dense(2, input_shape=(3,), name="<b>&")], name="<script>")
    page = Cells(model._repr_html_())
    assert "script" not in page.tags and page.rows[1][0] == "<b>& (Dense)"
    assert "<i>" not in markup.line_chart("<i>", [Curve("<i>", [1], [1])], "<i>")


# --- charts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((0.13, 0.48, 4), [0.2, 0.3, 0.4]),
        ((0, 20, 5), [0, 5, 10, 15, 20]),
        ((1, 2, 6, 1), [1, 2]),
        ((-3e-4, 3e-4, 3), [-2e-4, 0, 2e-4]),
    ],
)
def test_ticks_are_round(limits, expected):
    assert markup.ticks(*limits) == expected


@pytest.mark.parametrize("values", [[0.5], [2.0, 2.0], [3.0, float("nan"), 1.0], [1e-9, 1e9]])
def test_every_curve_stays_inside_its_chart(values):
    chart = markup.line_chart("a curve", [Curve("training", range(len(values)), values)], "epoch")
    numbers = [
        float(n)
        for n in chart.split('<path d="M')[-1].split('"')[0].replace("L", " ").replace("M", " ").split()
    ]
    assert all(markup.LEFT <= x <= markup.WIDTH - markup.RIGHT for x in numbers[::2])
    assert all(markup.TOP <= y <= markup.HEIGHT - markup.BOTTOM for y in numbers[1::2])


def test_names_of_curves_that_end_together_keep_apart():
    heights = markup.apart([100, 101])
    assert heights[1] - heights[0] >= markup.NAME_HEIGHT
    low = markup.apart([190, 199])
    assert low[1] <= markup.HEIGHT - markup.BOTTOM and low[1] - low[0] >= markup.NAME_HEIGHT


def test_a_chart_without_a_value_is_refused():
    with pytest.raises(ValueError, match="at least one finite value"):
        markup.line_chart("nothing", [Curve("training", [1], [float("nan")])], "epoch")


def test_training_in_a_cell_is_seen_while_it_goes_on(tmp_path):
    """Every 50 ms the line is drawn over itself, for an epoch of ten steps of 60 ms."""
    code = """
        import time
        import numpy as np, npnet
        from npnet.layers import Dense
        model = npnet.Sequential([Dense(2, "softmax", input_shape=(3,))], seed=0)
        model.compile(loss="categorical_crossentropy", kernels="numpy")
        wait = npnet.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: time.sleep(0.06))
        history = model.fit(np.ones((10, 3)), np.eye(2)[np.zeros(10, int)], batch_size=1, callbacks=wait)
    """
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(textwrap.dedent(code))])
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = "".join(output.text for output in notebook.cells[0].outputs)
    frames = [line.rstrip() for line in shown.split("\r")]
    assert frames[0] == "Epoch 1/1"
    assert len(frames) >= 9 and frames[5].startswith(" 5/10 ━━━"), frames


# --- the tutorial -----------------------------------------------------------------------------------------

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("chapter", ["cifar10_mlp", "cifar10_cnn"])
def test_a_notebook_is_made_of_its_script(chapter):
    """If this fails: make notebook."""
    script = jupytext.read(EXAMPLES / f"{chapter}.py", fmt="py:percent")
    notebook = nbformat.read(EXAMPLES / f"{chapter}.ipynb", as_version=4)
    assert [(c.cell_type, c.source) for c in notebook.cells] == [
        (c.cell_type, c.source) for c in script.cells
    ]
    assert notebook.metadata.kernelspec.name == "python3"


def test_the_second_chapter_shows_what_it_printed_and_drew():
    notebook = nbformat.read(EXAMPLES / "cifar10_cnn.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    outputs = [output for cell in code for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 8
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "training images (50000, 32, 32, 3)" in printed and "Epoch 10/10" in printed
    assert not any(output.output_type == "error" for output in outputs)
    assert "/home/" not in printed and "/tmp/" not in printed


# Drawing the 24,000 shapes takes longer than all that a chapter does with a hundred of them.
FEW_SHAPES = """
from functools import partial
from npnet.datasets import shapes
shapes.load_data = partial(shapes.load_data, 400, 200)
"""


@pytest.mark.parametrize(
    ("chapter", "limit", "parameters", "drawn"),
    [
        ("mlp", "400", "1,841,162", "samples history confusion mistakes weights"),
        ("cnn", "100", "1,250,858",
         "shuffled edges history confusion filters feature_maps occlusion mistakes"),
    ],
)  # fmt: skip
def test_a_chapter_runs_from_top_to_bottom_without_network_or_data(
    chapter, limit, parameters, drawn, tmp_path, monkeypatch
):
    for name, value in {**offline(tmp_path), "EPOCHS": "2", "LIMIT": limit}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NPNET_DATA", raising=False)
    notebook = nbformat.read(EXAMPLES / f"cifar10_{chapter}.ipynb", as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FEW_SHAPES))
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == len(drawn.split())
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    complaints = "".join(output.text for output in outputs if output.get("name") == "stderr")
    assert "Connection refused" in complaints and "Warning" not in complaints
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "training on drawn shapes instead" in printed and "val_accuracy" in printed
    assert f"Total params: {parameters}" in printed
    folder = tmp_path / "runs" / f"shapes-{chapter}"
    for name in drawn.split():
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG") and f"{name}.png" in printed
    model = load_model(folder / "model.safetensors")
    assert model.predict(np.zeros((1, *model.input_shape)), verbose=0).shape == (1, 10)
