"""What a report says: the files of a run turned into the words, figures and pictures of ``page.html``."""

import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from npnet.datasets import tables
from npnet.internal.words import quantity
from npnet.models import Sequential, load_model, summary
from npnet.plotting import markup
from npnet.plotting.canvas import percent, so_far
from npnet.plotting.curves import Curve, Panel, panels
from npnet.runs import dataset
from npnet.runs.datasets import OWN
from npnet.runs.folder import DATA, RunFolder
from npnet.runs.report import pictures
from npnet.runs.settings import OWN as DEFAULTS
from npnet.runs.settings import learning_rate

__all__ = ["LIST_ROWS", "SHOWN_MISTAKES", "Content", "duration", "read", "words"]

Content = dict[str, Any]
SHOWN_MISTAKES = 24  # fills rows of 8, 6, 4 and 3
LIST_ROWS = 30


def read(folder: RunFolder) -> Content:
    """Return everything the page shows.

    A part that the run did not come to is None or empty.
    """
    config = folder.read_json("config.json")
    known = {name: value for name, value in _json(folder, "env.json").items() if value is not None}
    history = dataset.errors_in_own_unit(_json(folder, "history.json"), _json(folder, DATA))
    result = _json(folder, "result.json")
    shown = panels(history) if history.get("epoch") else []
    model = _model(folder)
    names = result.get("class_names") or []
    confusion = np.asarray(result["confusion"]) if result.get("confusion") else None
    run = shlex.quote(str(folder.path))
    things = dataset.things(config["dataset"])
    held_out = things if config.get("validation_split") else None  # where the run has not come so far
    return {
        "title": folder.path.resolve().name,
        "occasion": _occasion(known),
        "command": known.get("command"),
        "held_out": quantity(result["held_out"], things[:-1]) if result.get("held_out") else held_out,
        "things": things,
        "dataset": config["data"] if config["dataset"] in OWN else config["dataset"],
        "again": _again(config),
        "quantity": result.get("quantity"),
        # Without a result they are of an earlier state, from which the run has gone on.
        "predictions": _picture(folder, "predictions.png") if result else None,
        "boundary": _picture(folder, "boundary.png") if result else None,
        "recipe": config.get("recipe"),
        "images": things == "images",
        "varied": bool(config.get("flip") or config.get("shift")),
        "run": run,
        "status": result.get("status"),
        "reason": result.get("reason"),
        "epochs_done": len(history.get("epoch") or []),
        "epochs_planned": config["epochs"],
        "headline": None if result.get("quantity") else _headline(result, shown, confusion),
        "facts": _facts(config, history, result),
        "charts": _charts(history, shown),
        "over_time": [_over_time(history, panel) for panel in shown if panel.grows and panel.best],
        "table": _epochs(history, shown),
        "classes": [] if confusion is None else _classes(names, confusion),
        "confusion": [] if confusion is None else _confusion(names, confusion),
        "names": names,
        **pictures.read(folder, model, names, (result.get("mistakes") or [])[:SHOWN_MISTAKES]),
        "mistakes_in_all": 0 if confusion is None else int(confusion.sum() - np.trace(confusion)),
        "layers": summary.layer_rows(model) if model else [],
        "totals": summary.totals(model) if model else [],
        "seconds": _shares(result.get("seconds"), seconds=True),
        "step_share": _shares(result.get("step_share")),
        "settings": [(name.replace("_", " "), readable(config, name)) for name in config],
        "environment": [
            (name.replace("_", " "), words(value))
            for name, value in (known | {"weights_sha256": result.get("digest")}).items()
            if value is not None
        ],
    }


def _again(config: Content) -> str:
    """Return what npnet train is given to train on the same data."""
    own = config["dataset"] in OWN
    parts = [shlex.quote(config["data"] if own else config["dataset"])]
    if config.get("data") and not own:
        parts.append(f"--data={shlex.quote(config['data'])}")
    if config.get("ignore"):
        parts.append(tables.ignoring(config["ignore"]))
    parts += [
        f"--{name.replace('_', '-')}={shlex.quote(str(config[name]))}"
        for name in ("target", "missing", "image_size", "test_split")
        if config.get(name, DEFAULTS[name]) != DEFAULTS[name]
    ]
    return " ".join(parts)


def _picture(folder: RunFolder, name: str) -> str | None:
    return pictures.address((folder / name).read_bytes()) if (folder / name).exists() else None


def _json(folder: RunFolder, name: str) -> Content:
    """Return what a JSON file holds, nothing where the run has not written it yet."""
    return folder.read_json(name) if (folder / name).exists() else {}


def _model(folder: RunFolder) -> Sequential | None:
    """Return the model that was measured: that of the best epoch, if one was chosen, else the last."""
    for name in ("best.safetensors", "last.safetensors"):
        if (folder / name).exists():
            return load_model(folder / name, compile=False)
    return None


# --- figures ----------------------------------------------------------------------------------------------


def _occasion(known: Content) -> str | None:
    """When, where and from which command the run began, in a line."""
    parts = [
        f"{known['date'].replace('T', ' ')[:16]}" if "date" in known else None,
        f"on {known['host']}" if "host" in known else None,
        f"npnet {known['npnet']}" if "npnet" in known else None,
        f"commit {known['commit'][:10]}" if "commit" in known else None,
    ]
    return ", ".join(part for part in parts if part) or None


def _headline(result: Content, shown: list[Panel], confusion: np.ndarray | None) -> Content | None:
    """The figure that counts: accuracy on the test samples, else the last on what validated every epoch."""
    test = result.get("test")
    chance = percent(1 / len(result["class_names"])) if result.get("class_names") else None
    if test and confusion is not None:
        epoch = result.get("best_epoch") or result.get("epochs")
        right, count = int(np.trace(confusion)), int(confusion.sum())
        return {
            "figure": percent(right / max(count, 1), 1),
            "right": f"{right:,}",
            "count": f"{count:,}",
            "epoch": epoch,
            "done": so_far(result["epochs"], result.get("steps", 0)),
            "chance": chance,
        }
    accuracy = next((panel for panel in shown if panel.metric == "accuracy" and panel.points), None)
    if accuracy:
        epoch, value = accuracy.points[-1]
        name = accuracy.curves[-1].name
        return {"figure": percent(value, 1), "of": name, "epoch": f"{epoch:.0f}", "chance": chance}
    return None


def _facts(config: Content, history: Content, result: Content) -> list[tuple[str, str, str]]:
    """Name, value and a remark of the figures below the headline."""
    best = result.get("best_epoch")
    test, seconds = result.get("test"), result.get("seconds")
    facts = []
    if best:
        facts.append(("Best epoch", f"{best}", f"of {len(history['epoch'])}, on the samples held out"))
    if test:
        quantity = result.get("quantity")
        if quantity:
            error, mean = test["mean_absolute_error"], quantity["of_the_mean"]
            facts.append(("Mean absolute error", f"{error:.4g}", f"{mean:.4g} where the mean is predicted"))
            facts.append(("Root mean square", f"{quantity['root_mean_squared_error']:.4g}", "of the errors"))
            if quantity["r2"] is not None:
                facts.append(("R2", f"{quantity['r2']:.3f}", "1 is perfect, 0 as good as the mean"))
        else:
            facts.append(("Test loss", f"{test['loss']:.4f}", "cross-entropy"))
            if result.get("views", 1) > 1:
                facts.append(("Views", f"{result['views']}", "of each test picture, taken together"))
    if seconds and seconds.get("total"):
        facts.append(("Time", duration(seconds["total"]), "all in all"))
    if result.get("images_per_second"):
        facts.append(("Speed", f"{result['images_per_second']:,.0f}", "samples a second"))
    if result.get("parameters"):
        facts.append(("Parameters", f"{result['parameters']:,}", _network(config)))
    return facts


def _network(config: Content) -> str:
    filters, hidden = config.get("filters") or [], config.get("hidden") or []
    units = f"{quantity(len(hidden), 'hidden layer')}: {', '.join(map(str, hidden))}"
    if not filters:
        return units
    first = 1 if config.get("network") == "airbench" else 0  # the whitening
    return f"{first + 2 * len(filters)} convolutions{f', {units}' if hidden else ''}"


def duration(seconds: float) -> str:
    """Return 0.4 s, 41 s, 3 min 20 s or 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole // 60 % 60} min"


def _shares(parts: Mapping[str, float] | None, seconds: bool = False) -> list[tuple[str, float, str, str]]:
    """Name, share in percent, share and seconds in words, for bars; seconds not named are "other"."""
    parts = {name: value for name, value in (parts or {}).items() if value is not None}
    total = parts.pop("total", None) or sum(parts.values())
    if not total:
        return []
    rest = total - sum(parts.values())
    if seconds and rest > 0.005 * total:
        parts["other"] = rest
    return [
        (name, round(100 * part / total, 1), percent(part / total), duration(part) if seconds else "")
        for name, part in parts.items()
    ]


NOT_SET = {
    "threads": "as many as CPUs are allowed",
    "kernels": "Numba's where it can be imported",
    "limit": "all samples",
    "data": "found on this machine, or fetched",
}


def readable(config: Mapping[str, Any], name: str) -> str:
    """Return a setting as a person writes it; of one that was not set, what it is then."""
    if name == "learning_rate" and config.get(name) is None:
        return f"{learning_rate(config):g}, the optimizer's own"
    return NOT_SET[name] if config.get(name) is None and name in NOT_SET else words(config.get(name))


def words(value: Any) -> str:
    """Return a setting as a person writes it."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {words(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(words, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


# --- curves -----------------------------------------------------------------------------------------------


def _charts(history: Content, shown: list[Panel]) -> list[tuple[str, str, str]]:
    """Heading, remark and picture of each chart over the epochs, accuracy first."""
    charts = [
        (panel.title, panel.words(_writer(panel)), markup.panel_chart(panel, bool(panel.grows)))
        for panel in reversed(shown)
        if panel.points
    ]
    rates = history.get("learning_rate") or []
    if len(set(rates)) > 1:
        curve = Curve("rate", history["epoch"], rates)
        remark = f"from {rates[0]:.3g} to {rates[-1]:.3g}"
        chart = markup.line_chart(f"Learning rate over the epochs, {remark}.", [curve], "epoch")
        charts.append(("Learning rate", remark, chart))
    return charts


def _over_time(history: Content, panel: Panel) -> tuple[str, str, str]:
    """The same of a chart over the time since the start."""
    seconds = history["seconds"]
    unit, size = ("minutes", 60) if seconds[-1] > 600 else ("seconds", 1)
    at = {epoch: second / size for epoch, second in zip(history["epoch"], seconds, strict=True)}
    curves = [Curve(curve.name, [at[epoch] for epoch in curve.x], curve.y) for curve in panel.curves]
    remark = f"over {duration(seconds[-1])} of training"
    chart = markup.line_chart(f"{panel.title} {remark}.", curves, unit, percent=True)
    return f"{panel.title} over time", remark, chart


def _writer(panel: Panel) -> Any:
    return (lambda share: percent(share, 1)) if panel.grows else _decimals


def _decimals(value: float) -> str:
    """Return a number with four decimals, a small one with three digits."""
    return f"{value:.4f}" if value == 0 or not abs(value) < 1e-3 else f"{value:.3g}"


def _epochs(history: Content, shown: list[Panel]) -> Content | None:
    """The table of epochs; of many, about 30 spread evenly, the first and the last among them."""
    if not shown:
        return None
    curves = [(f"{panel.metric}, {curve.name}", curve) for panel in shown for curve in panel.curves]
    values = [dict(zip(curve.x, curve.y, strict=True)) for _, curve in curves]
    epochs = history["epoch"]
    chosen = np.unique(np.linspace(0, len(epochs) - 1, min(LIST_ROWS, len(epochs))).round().astype(int))
    rows = [
        [f"{epochs[i]}", f"{history['seconds'][i]:,.1f}"]
        + [_decimals(column[epochs[i]]) if epochs[i] in column else "" for column in values]
        for i in chosen
    ]
    return {"header": ["epoch", "seconds", *(name for name, _ in curves)], "rows": rows}


# --- answers ----------------------------------------------------------------------------------------------


def _classes(names: list[str], confusion: np.ndarray) -> list[Content]:
    """Each class with its recall and what it is most often taken for; best first."""
    classes = []
    for name, counts, k in zip(names, confusion, range(len(names)), strict=True):
        wrong = np.where(np.arange(len(names)) == k, 0, counts)
        total = max(counts.sum(), 1)
        taken = f"{names[wrong.argmax()]} {percent(wrong.max() / total)}" if wrong.any() else "no other"
        right = counts[k] / total
        shown = percent(right) if counts.any() else "-"
        taken = taken if counts.any() else "not tested"
        classes.append({"name": name, "share": 100 * right, "right": shown, "taken": taken})
    return sorted(classes, key=lambda row: -row["share"])


def _confusion(names: list[str], confusion: np.ndarray) -> list[Content]:
    """A row for each true class: its name and its cells with their share, tint and words."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    rows = []
    for i, name in enumerate(names):
        cells = [
            {
                "percent": percent(share).rstrip("%") if share >= 0.005 else "",
                "tint": round(4 + 56 * share**0.7),  # 5 % is visible, and ink readable on 100 %
                "right": i == j,
                "words": f"{confusion[i, j]:,} of {confusion[i].sum():,} {name} taken for {names[j]}",
            }
            for j, share in enumerate(shares[i])
        ]
        rows.append({"name": name, "cells": cells})
    return rows
