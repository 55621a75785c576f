"""The trained model of a run, asked about the test part and about pictures of one's own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from npnet.datasets import tables
from npnet.datasets.picture_file import read_picture
from npnet.internal.words import quantity
from npnet.models import Sequential, load_model
from npnet.plotting.canvas import so_far
from npnet.runs import datasets
from npnet.runs.folder import DATA, RunFolder
from npnet.runs.outcome import BATCH, examine
from npnet.runs.recorder import BEST, LAST
from npnet.runs.settings import Settings, complete
from npnet.runs.views import predict

__all__ = ["Trained", "classify", "load"]


@dataclass(frozen=True)
class Trained:
    """A model of a run, with the settings it was trained by."""

    folder: RunFolder
    settings: Settings
    which: str
    model: Sequential

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the outputs stand for; empty where they are a quantity."""
        if self.settings["dataset"] in datasets.DESCRIBED:
            return tuple(self.about["class_names"])
        return datasets.LOADERS[self.settings["dataset"]][1]

    @property
    def about(self) -> dict[str, Any]:
        """What the run kept of the user's own data."""
        return dict(self.folder.read_json(DATA))

    def __str__(self) -> str:
        done, planned = self.model.position, self.settings["epochs"]
        chosen = "the last" if self.which == "last" else "the best on the samples held out of training"
        when = f"epoch {done.epoch} of {planned}"
        if done.batch:
            when = f"{so_far(done.epoch, done.batch)} of {quantity(planned, 'epoch')}"
        return f"{self.folder.path} after {when}, {chosen}"

    def examine(self, data: str | None = None, views: int | None = None) -> dict[str, Any]:
        """Return loss, accuracy, confusion and mistakes on the test part; see ``outcome.examine``.

        Parameters
        ----------
        data
            Where the data set lies, if not where the run found it.
        views
            How often to look at each picture, if not as often as the run says; see ``views.predict``.

        Raises
        ------
        OSError, ValueError
            If the data cannot be had, or are not those that the run was trained on.
        """
        settings = self.settings | {"data": data or self.settings["data"], "validation_split": 0.0}
        if self.settings["dataset"] not in datasets.DESCRIBED:
            settings["limit"] = 1  # only the test part is used
        dataset = datasets.of(settings)
        if self.settings["dataset"] in datasets.DESCRIBED:
            self.folder.require_data(settings["data"] or dataset.name, dataset.sha256())
        views = self.settings["views"] if views is None else views
        if views > 1 and not dataset.of_images:
            raise ValueError(f"views are of pictures, and {self.folder.path} was trained on none.")
        probabilities = predict(self.model, dataset.x_test, views, BATCH)
        return examine(self.model, dataset, probabilities, views)

    def classify(self, paths: Iterable[str | Path], views: int | None = None) -> list[dict[str, Any]]:
        """Return what the model takes pictures for, by default in as many views as the run says."""
        views = self.settings["views"] if views is None else views
        return classify(self.model, self.class_names, paths, str(self.folder.path), views)

    def predict_table(self, path: str | Path) -> tuple[list[str], list[list[str]]]:
        """Return a CSV file with what the model predicts for its rows: names of columns, and rows.

        To the file's own columns come "predicted TARGET" and, of classes, the probability of each, in place
        of columns of these names.

        Raises
        ------
        OSError, ValueError
            If the file cannot be read, or a value does not fit what was trained on; its line and column are
            named.
        """
        about, found = self.about, tables.read(path)
        x = tables.encode(found, about["encoding"], about["fill"])
        answers = self.model.predict(x, batch_size=BATCH, verbose=0).astype(np.float64)
        names = [f"predicted {about['target']}", *(f"probability {name}" for name in self.class_names)]
        if self.class_names:
            added = [[self.class_names[row.argmax()], *(f"{value:.6g}" for value in row)] for row in answers]
        else:
            added = [[f"{row[0] * about['deviation'] + about['mean']:.9g}"] for row in answers]
        own = [at for at, name in enumerate(found.columns) if name not in names]
        return [*(found.columns[at] for at in own), *names], [
            [*(row[at] for at in own), *more] for row, more in zip(found.rows, added, strict=True)
        ]


def classify(
    model: Sequential, names: Sequence[str], paths: Iterable[str | Path], origin: str, views: int = 1
) -> list[dict[str, Any]]:
    """Return what a model takes pictures for, the most probable class first.

    Parameters
    ----------
    names
        Of the classes; without any, they are numbers.
    origin
        Where the model comes from, for messages.
    views
        How often to look at each picture, see ``views.predict``.

    Returns
    -------
    list of dict
        For each path "file", "error" (None or a sentence), "size" (what was done to it) and "classes":
        a list of {"class", "probability"}.

    Raises
    ------
    ValueError
        If the model was not trained on pictures, or has another number of outputs than ``names``.
    """
    shape = model.input_shape or ()
    if len(shape) != 3:
        raise ValueError(
            f"The model of {origin} was trained on samples of shape {shape} and knows no pictures. Name a run"
            " of pictures."
        )
    (outputs,) = model.compute_output_shape(shape)
    names = names or [str(number) for number in range(outputs)]
    if len(names) != outputs:
        raise ValueError(f"{origin} names {len(names)} classes, but its model has {outputs} outputs.")
    return [_classify(model, names, path, shape, views) for path in paths]


def _classify(
    model: Sequential, names: Sequence[str], path: str | Path, shape: tuple[int, ...], views: int
) -> dict[str, Any]:
    answer: dict[str, Any] = {"file": str(path), "error": None, "size": None, "classes": None}
    try:
        picture, answer["size"] = read_picture(path, shape)
    except OSError as error:
        return answer | {"error": f"{path} cannot be read: {error.strerror}."}
    except ValueError as error:
        return answer | {"error": str(error)}
    probabilities = predict(model, picture[None], views)[0]
    if not np.isfinite(probabilities).all():
        return answer | {"error": f"{path}: the network's answers are no numbers. Its training diverged."}
    return answer | {
        "classes": [
            {"class": names[k], "probability": float(probabilities[k])}
            for k in (-probabilities).argsort(kind="stable")
        ]
    }


def load(folder: str | Path, last: bool = False) -> Trained:
    """Return the model of a run's best epoch where samples were held out to choose it by, else the last one.

    Parameters
    ----------
    last
        Return the last one in any case.

    Raises
    ------
    OSError, ValueError
        If the folder holds no run, or a file of it is damaged.
    """
    run = RunFolder(folder)
    settings = complete(run.read_json("config.json"))
    # A run stopped in its first epoch has no best one yet.
    best = not last and settings["validation_split"] > 0 and (run / BEST).exists()
    return Trained(run, settings, "best" if best else "last", load_model(run / (BEST if best else LAST)))
