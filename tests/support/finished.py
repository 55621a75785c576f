"""Folders of runs as `npnet train` leaves them, made in a second by the library itself."""

import numpy as np

from npnet import plotting
from npnet.datasets import shapes, spiral
from npnet.layers import Conv2D, Dense, Flatten, MaxPooling2D, Normalization
from npnet.models import Sequential
from npnet.runs.folder import RunFolder
from npnet.runs.report import keep_images
from npnet.utils import to_categorical

CONFIG = {
    "npnet": "0.1.0", "dataset": "shapes", "recipe": "tutorial", "epochs": 3, "batch_size": 32,
    "filters": [], "hidden": [32, 16],
    "activation": "relu", "pool_dropout": 0.0, "dropout": 0.0, "batch_norm": False,
    "optimizer": "rmsprop", "learning_rate": None,
    "weight_decay": 0.0, "schedule": "constant", "label_smoothing": 0.0, "flip": False, "shift": 0,
    "inputs": "unit", "seed": 0, "threads": None, "kernels": "numpy", "limit": 200,
    "validation_split": 0.0, "data": None,
}  # fmt: skip
ENVIRONMENT = {
    "date": "2025-11-30T09:05:00+01:00", "host": "desk", "command": "npnet train shapes",
    "commit": "c0ffee" * 6 + "beef",
    "npnet": "0.1.0", "python": "3.11.2", "platform": "Linux", "numpy": "2.4.6", "numba": "0.68.1",
    "cpu": "A processor @ 2.70GHz", "vector_bits": 512, "threads": 2, "threading_layer": "omp",
    "kernels": "numpy", "blas": "scipy-openblas 0.3.31", "dataset_sha256": "0123456789abcdef" * 4,
}  # fmt: skip


def make_run(path, names=None, **settings):
    """Train a small network and leave its folder; `names` replace those of the classes."""
    config = CONFIG | settings
    data = spiral if config["dataset"] == "spiral" else shapes
    if data is spiral:
        (x, y), (x_test, y_test) = spiral.load_data(60)
        names, layers = names or ["first arm", "second arm", "third arm"], []
    else:
        (x, y), (x_test, y_test) = shapes.load_data(config["limit"], 100)
        names, layers = names or shapes.CLASS_NAMES, [Normalization(mean=0.0, variance=255.0**2), Flatten()]
    for filters in config["filters"]:
        layers[-1:-1] = [Conv2D(filters, 3, activation="relu"), MaxPooling2D()]  # before Flatten
    layers += [Dense(units, activation="relu") for units in config["hidden"]]
    model = Sequential([*layers, Dense(len(names), activation="softmax")], seed=config["seed"])
    model.compile("adam", "categorical_crossentropy", ["accuracy"], kernels="numpy")
    validation = (x_test, to_categorical(y_test, len(names)))
    history = model.fit(
        x, to_categorical(y, len(names)), epochs=config["epochs"], verbose=0, validation_data=validation
    )
    probabilities = model.predict(x_test, verbose=0)
    true, answer = y_test.reshape(-1), probabilities.argmax(axis=1)
    confusion = np.zeros((len(names), len(names)), int)
    np.add.at(confusion, (true, answer), 1)
    wrong = np.flatnonzero(true != answer)
    surest = wrong[np.argsort(-probabilities[wrong, answer[wrong]])][:25]

    folder = RunFolder(path)
    folder.write_json("config.json", config)
    folder.write_json("env.json", ENVIRONMENT)
    epochs = range(1, config["epochs"] + 1)
    folder.write_json(
        "history.json",
        {
            "epoch": [*epochs],
            "seconds": [1.5 * n for n in epochs],
            "learning_rate": [1e-3 / n for n in epochs],
            **history.history,
        },
    )
    accuracies = history.history["val_accuracy"]
    folder.write_json(
        "result.json",
        {
            "status": "finished",
            "reason": None,
            "epochs": config["epochs"],
            "steps": 0,
            "best_epoch": None,
            "held_out": 0,
            "test": {"loss": history.history["val_loss"][-1], "accuracy": accuracies[-1]},
            "class_names": list(names),
            "confusion": confusion.tolist(),
            "mistakes": [
                {"index": int(i), "true": int(true[i]), "predicted": int(answer[i]),
                 "probability": float(probabilities[i, answer[i]])}
                for i in surest
            ],
            "seconds": {
                "loading": 0.7, "compiling": 1.1, "training": 5.1, "validating": 0.9, "pictures": 1.2,
                "total": 9.2,
            },
            "step_share": {"data": 0.08, "forward": 0.26, "backward": 0.45, "update": 0.21},
            "images_per_second": 12345,
            "parameters": model.count_params(),
            "summary": "",
            "digest": "fedcba9876543210" * 4,
        },
    )  # fmt: skip
    model.save(folder / "last.safetensors")
    if data is spiral:
        plotting.decision_boundary(model, x_test, y_test, path=folder / "boundary.png")
    else:
        keep_images(folder, x, y.reshape(-1), x_test[surest])
    return folder


def change(folder, name, **values):
    """Replace values of a JSON file of a run."""
    folder.write_json(name, folder.read_json(name) | values)
