"""What a run came to: figures and pictures of a trained model."""

import csv
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from npnet import plotting
from npnet.internal.files import write_atomically
from npnet.models import Sequential, load_model, saving
from npnet.runs import report
from npnet.runs.dataset import errors_in_own_unit
from npnet.runs.datasets import Dataset
from npnet.runs.folder import RunFolder
from npnet.runs.recorder import BEST, LAST, Recorder
from npnet.runs.views import predict
from npnet.utils import to_categorical

__all__ = [
    "BATCH",
    "MISTAKES",
    "conclude",
    "draw",
    "examine",
    "in_own_unit",
    "write_confusion",
    "write_predictions",
]

BATCH = 1000  # samples at a time where nothing is learned
MISTAKES = 25


def conclude(
    folder: RunFolder, dataset: Dataset, recorder: Recorder, known: dict[str, Any], views: int = 1
) -> dict[str, Any]:
    """Examine the model, draw the pictures, write result.json and the report; return the result.

    The model is that of the best epoch where samples were held out to choose it by, else the last: it is
    measured on the test samples once, and nothing is chosen by what comes out.

    A run that is killed before result.json is there does all of this when it goes on.

    Parameters
    ----------
    known
        What of the result is known already.
    views
        How often the model looks at each test picture, see ``views.predict``.
    """
    clock = recorder.clock
    clock.start("pictures")
    last = load_model(folder / LAST)
    best = load_model(folder / BEST) if recorder.best_epoch else None
    model = best or last
    answers = predict(model, dataset.x_test, views, BATCH)
    summary: list[str] = []
    last.summary(line_length=80, print_fn=summary.append)
    result = {
        **known,
        "epochs": last.position.epoch,
        "steps": last.position.batch,  # of the epoch after the last whole one
        "best_epoch": best.position.epoch if best else None,
        "held_out": len(dataset.x_held),
        **examine(model, dataset, answers, views),
        "parameters": last.count_params(),
        "summary": "\n".join(summary),
        "digest": saving.digest(saving.weights_of(last), {}),
    }
    if dataset.class_names:
        write_confusion(folder, result["class_names"], result["confusion"])
    else:
        write_predictions(folder, dataset, answers)
    draw(folder, model, dataset, answers, recorder.history)
    if dataset.of_images:
        surest = [mistake["index"] for mistake in result["mistakes"]]
        report.keep_images(folder, dataset.x_train, dataset.y_train, dataset.x_test[surest])
    clock.stop()
    result["seconds"] = clock.rounded()
    folder.write_json("result.json", result)
    report.write_report(folder)
    return result


def examine(model: Sequential, dataset: Dataset, probabilities: np.ndarray, views: int = 1) -> dict[str, Any]:
    """Return what the model knows of the test part.

    Parameters
    ----------
    probabilities
        What the model predicts, (N, K); of a quantity (N, 1).
    views
        How many views of each picture they come from; of one, loss and accuracy are what ``evaluate`` says.
    """
    if not dataset.class_names:
        return _examine_quantity(model, dataset, probabilities)
    true, names = dataset.y_test, dataset.class_names
    answer = probabilities.argmax(axis=1)
    confusion = np.zeros((len(names), len(names)), int)
    np.add.at(confusion, (true, answer), 1)
    wrong = np.flatnonzero(answer != true)
    surest = wrong[np.argsort(-probabilities[wrong, answer[wrong]], kind="stable")][:MISTAKES]
    targets = to_categorical(true, len(names))
    test: Any
    if views == 1:
        test = model.evaluate(dataset.x_test, targets, batch_size=BATCH, verbose=0, return_dict=True)
    else:
        loss = model.require_compiled("examine").loss(targets, probabilities)
        test = {"loss": float(loss), "accuracy": float((answer == true).mean())}
    return {
        "test": {name: test[name] for name in ("loss", "accuracy")},
        "views": views,
        "class_names": list(names),
        "confusion": confusion.tolist(),
        "mistakes": [
            {
                "index": int(i),
                "true": int(true[i]),
                "predicted": int(answer[i]),
                "probability": float(probabilities[i, answer[i]]),
            }
            for i in surest
        ],
    }


def _examine_quantity(model: Sequential, dataset: Dataset, answers: np.ndarray) -> dict[str, Any]:
    """Return how far the model is from the quantity of the test part, in its own unit."""
    true, predicted = in_own_unit(dataset, dataset.y_test), in_own_unit(dataset, answers[:, 0])
    error, spread = predicted - true, float(np.square(true - true.mean()).sum())
    targets = dataset.targets(dataset.y_test)
    test = model.evaluate(dataset.x_test, targets, batch_size=BATCH, verbose=0, return_dict=True)
    return {
        "test": {"loss": test["loss"], "mean_absolute_error": float(np.abs(error).mean())},  # type: ignore[index,call-overload]
        "class_names": [],
        "confusion": [],
        "mistakes": [],
        "quantity": {
            "target": dataset.about["target"],
            "samples": len(true),
            "root_mean_squared_error": float(np.sqrt(np.square(error).mean())),
            "of_the_mean": float(np.abs(true - dataset.about["mean"]).mean()),
            "r2": 1 - float(np.square(error).sum()) / spread if spread else None,
        },
    }


def in_own_unit(dataset: Dataset, values: np.ndarray) -> np.ndarray:
    """Return standardised values (N,) of a quantity in the unit of the user's table."""
    return values.astype(np.float64) * dataset.about["deviation"] + dataset.about["mean"]


def write_predictions(folder: RunFolder, dataset: Dataset, answers: np.ndarray) -> None:
    """Write predictions.csv: true and predicted value of each row of the test part."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["true", "predicted"])
    true, predicted = in_own_unit(dataset, dataset.y_test), in_own_unit(dataset, answers[:, 0])
    # Eight digits: standardised values are float32.
    writer.writerows((f"{of:.8g}", f"{to:.8g}") for of, to in zip(true, predicted, strict=True))
    write_atomically(folder / "predictions.csv", table.getvalue().encode())


def write_confusion(folder: RunFolder, names: list[str], confusion: list[list[int]]) -> None:
    """Write confusion.csv: a row for each true class, a column for each answer."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["true class", *names])
    writer.writerows([name, *row] for name, row in zip(names, confusion, strict=True))
    write_atomically(folder / "confusion.csv", table.getvalue().encode())


def draw(
    folder: RunFolder,
    model: Sequential,
    dataset: Dataset,
    probabilities: np.ndarray,
    history: dict[str, list[float]],
) -> None:
    """Draw every picture of the run; one that cannot be drawn is named in a warning and left out."""
    x, y, names = dataset.x_test, dataset.y_test, dataset.class_names
    pictures: dict[str, Callable[[Path], object]] = {}
    if names:
        pictures["confusion.png"] = lambda path: plotting.confusion_matrix(y, probabilities, names, path)
    else:
        true, predicted = in_own_unit(dataset, y), in_own_unit(dataset, probabilities[:, 0])
        target = dataset.about["target"]
        pictures["predictions.png"] = lambda path: plotting.predictions(true, predicted, target, path)
    if history["epoch"]:
        shown = ("loss", "val_loss", dataset.metric, f"val_{dataset.metric}")
        curves = errors_in_own_unit({name: history[name] for name in shown}, dataset.about)
        pictures["history.png"] = lambda path: plotting.history_curves(curves, path)
    if dataset.of_images:
        pictures |= {
            "samples.png": lambda path: plotting.image_grid(
                dataset.x_train, dataset.y_train, names, path=path
            ),
            "mistakes.png": lambda path: plotting.confident_mistakes(
                x, y, probabilities, names, MISTAKES, path=path
            ),
            "weights.png": lambda path: plotting.first_layer_weights(model, x.shape[1:], path=path),
        }
        if plotting.convolves(model):
            some = report.one_a_class(y)
            pictures |= {
                "feature_maps.png": lambda path: plotting.feature_maps(model, x[0], path=path),
                "occlusion.png": lambda path: plotting.occlusion(model, x[some], y[some], names, path),
            }
    elif names and x.shape[1:] == (2,):
        pictures["boundary.png"] = lambda path: plotting.decision_boundary(model, x, y, path, names)
    for name, draw_to in pictures.items():
        try:
            draw_to(folder / name)
        except Exception as error:  # whatever a library of pictures runs into: the figures are worth more
            reason = f"{type(error).__name__}: {error}"
            warnings.warn(f"{folder / name} was not drawn ({reason}).", RuntimeWarning, stacklevel=2)
