"""The settings of a run: every one has a name, a default and a check, whoever gives it.

What is given overrides the recipe, and the recipe says everything else. A run's config.json holds them all.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import npnet
from npnet import activations, optimizers
from npnet.internal import checks, mixed_precision
from npnet.internal.config import lookup, nearest
from npnet.kernels import MODULES
from npnet.runs import recipes, views
from npnet.runs.dataset import ROWS
from npnet.runs.datasets import LOADERS
from npnet.runs.datasets import OWN as OWN_DATA

__all__ = ["CHECKS", "NAMES", "OF_RECIPES", "OF_SPIRAL", "OWN", "Check", "Settings", "complete", "recipe_of"]

Settings = dict[str, Any]
Check = Callable[[str, Any], Any]

OWN: Settings = {  # the settings that are no recipe's, with their defaults
    "dataset": "cifar10",
    "recipe": "tutorial",
    "seed": 0,
    "threads": None,
    "shards": None,
    "kernels": None,
    "limit": None,
    "validation_split": 0.0,
    "views": 1,
    "data": None,
    "image_size": None,
    "test_split": 0.2,
    "target": None,
    "missing": "refuse",
    "ignore": [],
}
OF_RECIPES = tuple(field.name for field in dataclasses.fields(recipes.Recipe))
NAMES = ("dataset", "recipe", *OF_RECIPES, *(name for name in OWN if name not in ("dataset", "recipe")))
OF_SPIRAL: Settings = {  # points of the plane want another network than pictures do
    "epochs": 30,
    "batch_size": 32,
    "drop_remainder": False,
    "network": "blocks",
    "filters": (),
    "hidden": (64, 64),
    "pool_dropout": 0.0,
    "dropout": 0.0,
    "optimizer": "adam",
    "learning_rate": 0.01,
    "weight_decay": 0.0,
    "schedule": "cosine",
    "flip": False,
    "shift": 0,
    "inputs": "raw",
}


def complete(given: Mapping[str, Any]) -> Settings:
    """Return all settings of a run, checked: those given, else the recipe's.

    Parameters
    ----------
    given
        name -> value of any of ``NAMES``, as in a config.json.

    Raises
    ------
    ValueError, TypeError
        If a name is unknown (the nearest is named) or a value does not fit.
    """
    given = {name: value for name, value in given.items() if name != "npnet"}
    for name in given:
        if name not in NAMES:
            raise ValueError(f"Unknown setting {name!r}.{nearest(name, list(NAMES))}")
    own = OWN | given
    recipe = dataclasses.asdict(recipes.RECIPES[CHECKS["recipe"]("recipe", own["recipe"])])
    if (dataset := CHECKS["dataset"]("dataset", own["dataset"])) in ("spiral", *ROWS):
        if own["recipe"] != OWN["recipe"] and not given.keys() >= OF_SPIRAL.keys():  # as in a config.json
            raise ValueError(f"recipe {own['recipe']} is for pictures, not for {dataset}. Leave it out.")
        recipe |= OF_SPIRAL
    if given.get("optimizer", recipe["optimizer"]) != recipe["optimizer"]:
        recipe["learning_rate"] = None  # it was chosen for the recipe's optimizer
    settings = own | recipe | given
    checked = {name: CHECKS[name](name, settings[name]) for name in NAMES}
    _check_together(checked)
    return {"npnet": npnet.__version__, **checked}


def _check_together(settings: Settings) -> None:
    """Refuse settings that do not fit the dataset."""
    dataset = settings["dataset"]
    if dataset in ("spiral", *ROWS) and (settings["flip"] or settings["shift"] or settings["filters"]):
        what = "points of a plane" if dataset == "spiral" else "rows of a table"
        raise ValueError(f"flip, shift and filters are for pictures; the samples of {dataset} are {what}.")
    if dataset in ("spiral", *ROWS) and settings["views"] > 1:
        raise ValueError(f"views are of pictures; the samples of {dataset} have one each.")
    if dataset in ROWS and settings["inputs"] != "raw":
        raise ValueError("inputs is for pictures; numbers of a table are standardised in any case.")
    if dataset in OWN_DATA and settings["data"] is None:
        raise ValueError(f"data must say where the {dataset} lie: a folder, or a .csv file.")
    if dataset == "table" and settings["target"] is None:
        raise ValueError("target must name the column of the table to predict: --target COLUMN.")
    if settings["target"] in settings["ignore"]:
        raise ValueError(
            f"ignore holds the target, {settings['target']!r}. Leave it out there, or name another target."
        )
    for name, of in (
        ("target", "table"),
        ("missing", "table"),
        ("ignore", "table"),
        ("image_size", "pictures"),
    ):
        if dataset != of and settings[name] != OWN[name]:
            raise ValueError(f"{name} is for {of}, not for {dataset}. Leave it out.")
    if dataset not in OWN_DATA and settings["test_split"] != OWN["test_split"]:
        raise ValueError(f"test_split is for data of your own; {dataset} has a test part. Leave it out.")


def learning_rate(settings: Mapping[str, Any]) -> float:
    """Return the highest learning rate of a run: the one that was set, else the optimizer's own."""
    own = optimizers.get(settings["optimizer"]).learning_rate
    return float(own if settings["learning_rate"] is None else settings["learning_rate"])


def recipe_of(settings: Settings) -> recipes.Recipe:
    """Return the part of the settings that decides the model and its training."""
    values = {name: settings[name] for name in OF_RECIPES}
    return recipes.Recipe(**values | {name: tuple(settings[name]) for name in ("filters", "hidden")})


# --- what each may be ---------------------------------------------------------------------------------------


def _one_of(table: Mapping[str, Any]) -> Check:
    def check(name: str, value: Any) -> str:
        lookup(name, checks.text(name, value), table)
        return str(value)

    return check


def _whole(least: int) -> Check:
    return lambda name, value: checks.integer(name, value, least)


def _or_none(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def _sizes(name: str, value: Any) -> list[int]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} must be a list of sizes such as [512, 512], got {value!r}.")
    return [checks.integer(name, units) for units in value]


def _names(name: str, value: Any) -> list[str]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} must be a list of columns, got {value!r}.")
    return [checks.text(name, column) for column in value]


def _yes_or_no(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be true or false, got {value!r}.")
    return value


CHECKS: dict[str, Check] = {
    "dataset": _one_of({**LOADERS, **dict.fromkeys(OWN_DATA)}),
    "recipe": _one_of(recipes.RECIPES),
    "epochs": _whole(1),
    "batch_size": _whole(1),
    "drop_remainder": _yes_or_no,
    "network": _one_of(dict.fromkeys(recipes.NETWORKS)),
    "filters": _sizes,
    "hidden": _sizes,
    "activation": _one_of(activations.NAMES),
    "pool_dropout": checks.share,
    "dropout": checks.share,
    "batch_norm": _yes_or_no,
    "optimizer": _one_of(optimizers.NAMES),
    "learning_rate": _or_none(checks.positive),
    "weight_decay": lambda name, value: checks.number(name, value, least=0),
    "schedule": _one_of(dict.fromkeys(recipes.SCHEDULES)),
    "label_smoothing": checks.share,
    "flip": _yes_or_no,
    "alternate": _yes_or_no,
    "shift": _whole(0),
    "edges": _one_of(dict.fromkeys(recipes.EDGES)),
    "inputs": _one_of(dict.fromkeys(recipes.INPUTS)),
    "dtype": lambda name, value: mixed_precision.DTypePolicy(value).name,
    "seed": _whole(0),
    "threads": _or_none(_whole(1)),
    "shards": _or_none(_whole(1)),
    "kernels": _or_none(_one_of(MODULES)),
    "limit": _or_none(_whole(1)),
    "validation_split": checks.share,
    "views": views.check,
    "data": _or_none(checks.text),
    "image_size": _or_none(_whole(1)),
    "test_split": lambda name, value: checks.share(name, checks.positive(name, value)),
    "target": _or_none(checks.text),
    "missing": _one_of(dict.fromkeys(("refuse", "fill"))),
    "ignore": _names,
}
