import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from npnet import plotting
from npnet.plotting.canvas import percent

NAMES = ["cat", "dog", "frog"]
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 2, 1, 0])
PROBABILITIES = np.array(
    [[0.9, 0.1, 0.0], [0.7, 0.2, 0.1], [0.0, 0.1, 0.9], [0.0, 0.99, 0.01], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]
)
NAN = float("nan")


class Halves:
    """Says class 1 to the right of x = 0."""

    def __init__(self, outputs):
        self.outputs = outputs

    def predict(self, x, batch_size, verbose):
        right = 1 / (1 + np.exp(-9 * x[:, :1]))
        return right if self.outputs == 1 else np.hstack([1 - right, right])


def words(figure):
    """Everything written inside the axes of a figure, in order of drawing."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def pictures(figure):
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


def titles(axes):
    return axes.get_title(loc="left"), axes.get_title(loc="right")


DRAWINGS = {
    "history_curves": lambda path: plotting.history_curves({"loss": [2, 1], "accuracy": [0.1, 0.4]}, path),
    "image_grid": lambda path: plotting.image_grid(IMAGES, LABELS, NAMES, 2, 3, path),
    "confusion_matrix": lambda path: plotting.confusion_matrix(LABELS, PROBABILITIES, NAMES, path),
    "first_layer_weights": lambda path: plotting.first_layer_weights(np.eye(48), (4, 4, 3), 8, path),
    "confident_mistakes": lambda path: plotting.confident_mistakes(
        IMAGES, LABELS, PROBABILITIES, NAMES, path=path
    ),
    "decision_boundary": lambda path: plotting.decision_boundary(Halves(2), [[-1, 0], [1, 1]], [0, 1], path),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_every_picture_is_saved_and_says_what_it_shows(draw, tmp_path):
    path = tmp_path / "made" / "on the way.png"
    figure = draw(path)
    assert isinstance(figure, Figure)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert len(figure.get_label()) > 20
    assert figure.get_label().encode("latin-1") in path.read_bytes()
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize("ending", ["svg", "pdf"])
def test_vector_formats(ending, tmp_path):
    path = tmp_path / f"curves.{ending}"
    plotting.history_curves({"loss": [2, 1]}, path)
    assert path.stat().st_size > 1000


def test_neither_import_nor_drawing_touches_pyplot():
    program = (
        "import sys; from npnet import plotting; assert 'matplotlib' not in sys.modules;"
        "plotting.history_curves({'loss': [1]})._repr_png_(); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("backend", ["nothere", "module://nothere", "tkagg", ""])
def test_pictures_need_no_display_and_leave_the_backend_alone(backend, tmp_path):
    program = f"""
import os, sys
from npnet import plotting
for ending in ("png", "svg", "pdf"):
    plotting.history_curves({{"loss": [2, 1]}}, {str(tmp_path)!r} + "/curves." + ending)
assert os.environ["MPLBACKEND"] == {backend!r}
import matplotlib
assert matplotlib.rcParams._get("backend") == {backend!r} or {backend!r} in ("", "nothere")
assert not [name for name in sys.modules if name.startswith(("matplotlib.pyplot", "tkinter", "nothere"))]
"""
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    subprocess.run(
        [sys.executable, "-W", "error", "-c", program], check=True, env={**environment, "MPLBACKEND": backend}
    )
    assert len(list(tmp_path.iterdir())) == 3


# --- history ----------------------------------------------------------------------------------------------


def test_history_shows_loss_first_and_marks_the_best_validation_epoch():
    history = {
        "accuracy": [0.1, 0.3, 0.5],
        "learning_rate": [1, 1, 1],
        "loss": [3, 2, 1],
        "val_accuracy": [0.1, 0.4, 0.3],
        "val_loss": [3, 1.5, 2],
    }
    loss, accuracy = plotting.history_curves(history).axes
    assert titles(loss) == ("Loss", "lowest in validation: 1.5000, epoch 2")
    assert titles(accuracy) == ("Accuracy", "highest in validation: 0.4000, epoch 2")
    assert [text.get_text() for text in loss.texts] == ["training\n1.0000", "validation\n2.0000"]


def test_history_accepts_what_fit_returns():
    (axes,) = plotting.history_curves(SimpleNamespace(history={"loss": [1.0]}, epoch=[0])).axes
    assert titles(axes) == ("Loss", "lowest in training: 1.0000, epoch 1")


def test_history_of_a_continued_run_counts_on():
    resumed = SimpleNamespace(history={"loss": [3.0, 1.0, 2.0]}, epoch=[10, 11, 12])
    (axes,) = plotting.history_curves(resumed).axes
    assert titles(axes)[1] == "lowest in training: 1.0000, epoch 12"
    assert axes.get_xlim() == (11, 13)


def test_history_leaves_gaps_where_the_loss_is_not_finite():
    (axes,) = plotting.history_curves({"loss": [2, NAN, np.inf, 0.5]}).axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [2, NAN, NAN, 0.5])
    assert axes.get_ylim()[1] < 3
    (axes,) = plotting.history_curves({"loss": [NAN], "val_loss": [NAN]}).axes
    assert titles(axes) == ("Loss", "no finite value")


def test_history_places_rare_validation_at_its_epochs():
    (axes,) = plotting.history_curves({"loss": [5, 4, 3, 2, 1], "val_loss": [4, 2]}).axes
    np.testing.assert_array_equal(axes.lines[1].get_xdata(), [2, 4])
    assert titles(axes)[1] == "lowest in validation: 2.0000, epoch 4"


def test_a_metric_of_unknown_direction_gets_no_best_epoch():
    from npnet.plotting import curves, markup

    history = {"loss": [2, 1], "quality": [0.5, 0.25], "f1_score": [0.5, 0.25]}
    _, quality, f1 = curves.panels(history)
    assert (quality.best, quality.words()) == (None, "at last in training: 0.2500")
    assert (f1.best, f1.words()) == ((1, 0.5), "highest in training: 0.5000, epoch 1")
    assert markup.learning(history).count("<svg") == 3
    assert len(plotting.history_curves(history).axes[1].lines) == 1


def test_names_of_curves_that_end_together_are_pushed_apart():
    (axes,) = plotting.history_curves({"loss": [2, 1], "val_loss": [2, 1.001]}).axes
    low, high = (text.get_position()[1] for text in axes.texts)
    assert high - low == pytest.approx(0.15)


# --- images -----------------------------------------------------------------------------------------------


def test_grid_names_each_image_with_class_and_index():
    figure = plotting.image_grid(IMAGES, LABELS[:, None], NAMES, rows=2, cols=2)
    assert words(figure) == ["cat (0)", "dog (1)", "frog (2)", "frog (2)"]
    for shown, image in zip(pictures(figure), IMAGES, strict=False):
        np.testing.assert_array_equal(shown, image)
    assert "first 4 of 6 images" in figure.get_label()


def test_grid_fills_rows_from_the_left_and_keeps_proportions():
    figure = plotting.image_grid(np.zeros((4, 10, 20)), [0, 1, 2, 0], NAMES, rows=2, cols=3)
    (axes,) = figure.axes
    edges = np.array([image.get_extent() for image in axes.images])  # left, right, bottom, top; y grows down
    lefts, tops = edges[:, 0], edges[:, 3]
    assert lefts[0] < lefts[1] < lefts[2] and lefts[3] == lefts[0]
    assert tops[0] == tops[1] == tops[2] < edges[0, 2] < tops[3]
    np.testing.assert_allclose(edges[:, 1] - edges[:, 0], 2 * (edges[:, 2] - edges[:, 3]))


@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 5, 4, 1), (6, 5, 4, 3)])
def test_grid_takes_grey_and_coloured_floats_and_one_hot_labels(shape):
    figure = plotting.image_grid(np.full(shape, 0.5), np.eye(3)[LABELS], NAMES)
    assert words(figure)[:2] == ["cat (0)", "dog (1)"]
    assert figure.axes[0].images[0].get_clim() == (0, 1)


def test_mistakes_come_surest_first():
    figure = plotting.confident_mistakes(IMAGES, LABELS, PROBABILITIES, NAMES, count=2)
    assert words(figure) == ["dog, 99.0%", "true: frog", "cat, 70.0%", "true: dog"]
    np.testing.assert_array_equal(pictures(figure)[0], IMAGES[3])
    assert "the surest 2 of 3 mistakes" in figure.get_label()


def test_no_mistakes_are_said_in_words(tmp_path):
    figure = plotting.confident_mistakes(IMAGES, LABELS, np.eye(3)[LABELS], NAMES, path=tmp_path / "none.png")
    assert "no mistake" in figure.get_label() and not words(figure)


def test_weights_are_sorted_by_norm_centred_on_grey_and_unflattened_like_images():
    weight = np.zeros((2 * 3 * 3, 4))
    image = np.zeros((2, 3, 3))
    image[1, 2, 0] = -4  # lower right, red
    weight[:, 2] = image.reshape(-1)
    weight[0, 1] = 8
    first, second, third = pictures(plotting.first_layer_weights(weight, (2, 3, 3), count=3))
    assert first[0, 0, 0] == 1 and np.all(first.reshape(-1)[1:] == 0.5)
    assert second[1, 2, 0] == 0 and np.sum(second == 0.5) == 17
    assert np.all(third == 0.5)  # a unit without weights is grey, not an error


def test_weights_of_a_model_are_those_of_its_first_dense_layer():
    class Model:
        def get_weights(self):
            return [np.ones(12), np.eye(12), np.zeros(12)]

    figure = plotting.first_layer_weights(Model(), (2, 2, 3))
    assert len(pictures(figure)) == 12


# --- matrix and plane -------------------------------------------------------------------------------------


def test_confusion_counts_in_cells_and_shares_in_colours():
    figure = plotting.confusion_matrix(LABELS, PROBABILITIES, NAMES)
    assert words(figure) == ["1", "0", "1", "1", "1", "0", "0", "1", "1"]
    np.testing.assert_array_equal(pictures(figure)[0], [[0.5, 0, 0.5], [0.5, 0.5, 0], [0, 0.5, 0.5]])
    assert "50.0% of 6 samples" in figure.get_label()


def test_confusion_of_a_class_that_does_not_occur():
    figure = plotting.confusion_matrix([0, 0], [0, 1], NAMES)
    assert words(figure) == ["1", "1", "0", "0", "0", "0", "0", "0", "0"]


def test_confusion_of_many_classes_is_colours_and_names_alone():
    names = [f"class {k}" for k in range(30)]
    (axes,) = plotting.confusion_matrix(range(30), [*range(29), 0], names).axes
    assert not axes.texts
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    np.testing.assert_array_equal(axes.images[0].get_array()[29], [1] + 29 * [0])


@pytest.mark.parametrize("outputs", [1, 2])
def test_boundary_runs_where_the_answer_changes(outputs):
    points = [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    figure = plotting.decision_boundary(Halves(outputs), points, [0, 0, 1, 0])
    (axes,) = figure.axes
    assert "75.0% of 4 points" in figure.get_label()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["class 0", "class 1"]
    edge = axes.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(edge[:, 0], 0, atol=1e-2)
    left, right = pictures(figure)[0][150, 0], pictures(figure)[0][150, -1]
    assert left[2] > left[0] and right[0] > right[2]  # blue for class 0, orange for class 1


def test_boundary_names_the_classes():
    x = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    model = SimpleNamespace(predict=lambda x, **options: np.tile([0.5, 0.3, 0.2], (len(x), 1)))
    for names, shown in ((None, ["class 0", "class 1", "class 2"]), (NAMES, NAMES)):
        (axes,) = plotting.decision_boundary(model, x, [0, 1, 2], class_names=names).axes
        assert [text.get_text() for text in axes.get_legend().get_texts()] == shown
    with pytest.raises(ValueError, match="class_names must hold 3 names, one a class, got 2"):
        plotting.decision_boundary(model, x, [0, 1, 2], class_names=NAMES[:2])


@pytest.mark.parametrize(
    ("share", "digits", "words"),
    [
        (1, 0, "100%"), (199 / 200, 0, "99%"), (0.994, 0, "99%"), (0, 0, "0%"), (0.001, 0, "<1%"),
        (0.012, 0, "1%"), (0.9996, 1, "99.9%"), (1.0, 1, "100.0%"), (0.0004, 1, "<0.1%"),
        (0.4411, 1, "44.1%"),
    ],
)  # fmt: skip
def test_percent_says_100_of_all_and_0_of_none_only(share, digits, words):
    assert percent(share, digits) == words


def test_boundary_of_a_network_that_knows_one_answer():
    (axes,) = plotting.decision_boundary(Halves(2), [[3, 0]], [1]).axes
    assert not axes.collections  # no line where nothing changes


# --- what is refused --------------------------------------------------------------------------------------

GRID, CONFUSION, MISTAKES = plotting.image_grid, plotting.confusion_matrix, plotting.confident_mistakes
REFUSED = [
    (
        lambda: plotting.history_curves({}),
        "history must hold at least one epoch of 'loss', got none. Call fit",
    ),
    (lambda: plotting.history_curves({"loss": []}), "history must hold at least one epoch"),
    (
        lambda: plotting.history_curves({"loss": [1], "accuracy": [1, 2]}),
        r"history\['accuracy'\] must hold 1 num",
    ),
    (
        lambda: plotting.history_curves({"loss": [1], "val_loss": []}),
        r"history\['val_loss'\] must hold 1 num",
    ),
    (lambda: GRID(IMAGES, LABELS, NAMES, rows=0), "rows must be at least 1, got 0"),
    (
        lambda: GRID(IMAGES.reshape(6, 48), LABELS, NAMES),
        r"images must be \(N, H, W\).*got shape \(6, 48\). Unfl",
    ),
    (lambda: GRID(IMAGES / 127 - 1, LABELS, NAMES), "floats in 0..1, got float64 in -1"),
    (lambda: GRID(IMAGES.astype(int), LABELS, NAMES), "must be uint8 in 0..255"),
    (lambda: GRID(IMAGES[:5], LABELS, NAMES), "images and labels must hold the same number of samples"),
    (
        lambda: GRID(IMAGES, LABELS + 1, NAMES),
        "labels holds the label 3, but a choice of 3 classes allows 0..2",
    ),
    (lambda: GRID(IMAGES, LABELS / 2, NAMES), "labels must hold whole class labels, got 0.5"),
    (lambda: GRID(IMAGES, np.zeros((6, 2)), NAMES), r"labels must be class indices .* got shape \(6, 2\)"),
    (lambda: CONFUSION(LABELS, PROBABILITIES * NAN, NAMES), "y_pred must be finite, got nan or inf in row 0"),
    (lambda: CONFUSION([], [], NAMES), "y_true must be class indices"),
    (lambda: MISTAKES(IMAGES, LABELS, LABELS, NAMES), r"probabilities must be \(N, 3\).*model.predict"),
    (
        lambda: plotting.first_layer_weights(np.eye(4), (3, 3)),
        r"image_shape must hold 4 .* got \(3, 3\) of 9",
    ),
    (lambda: plotting.first_layer_weights(np.eye(4) * NAN, (2, 2)), "model must have finite weights"),
    (lambda: plotting.first_layer_weights(np.ones(4), (2, 2)), "model must have a built Dense layer"),
    (
        lambda: plotting.decision_boundary(Halves(2), np.ones((4, 3)), np.ones(4)),
        r"x must be points of the plane",
    ),
    (lambda: plotting.decision_boundary(Halves(2), np.full((4, 2), NAN), np.ones(4)), "x must be finite"),
]


@pytest.mark.parametrize(("draw", "message"), REFUSED)
def test_refused_with_a_message_that_helps(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


@pytest.mark.parametrize("names", [["$0-$50", "$50-$100"], ["$a_$", r"$\foo{$"]])
def test_names_with_dollars_are_drawn_as_they_are(names, tmp_path):
    y, answers = np.array([0, 1, 1]), np.eye(2, dtype=np.float32)[[0, 1, 0]]
    images = np.zeros((3, 4, 4, 3), np.uint8)
    for figure in (
        plotting.confusion_matrix(y, answers, names, tmp_path / "confusion.png"),
        plotting.image_grid(images, y, names, path=tmp_path / "samples.png"),
        plotting.confident_mistakes(images, y, answers, names, path=tmp_path / "mistakes.png"),
        plotting.predictions(y, y + 0.5, names[1], tmp_path / "predictions.png"),
    ):
        shown = [text for text in figure.findobj(Text) if "$" in text.get_text()]
        assert shown and not any(text.get_parse_math() for text in shown)
