"""Runs side by side: what sets them apart, what they came to, and their curves in one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npnet.internal.files import write_atomically
from npnet.plotting import markup
from npnet.plotting.canvas import COLORS, GREY, HAIRLINE, INK, PathLike, finish, new_figure, tidy
from npnet.plotting.curves import Curve, Panel, panels
from npnet.runs.datasets import OWN
from npnet.runs.folder import RunFolder
from npnet.runs.report import page
from npnet.runs.report.contents import readable

__all__ = [
    "DASHES",
    "HEAD",
    "NO_SETTINGS",
    "STYLES",
    "Entry",
    "differing",
    "draw",
    "drawn_metric",
    "left_out",
    "read",
    "rows",
    "write_page",
]

DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))  # of the runs that come when all colours are used
STYLES = [markup.Style(f"var(--run-{i})", dash) for dash in ("", "6 3", "2 3") for i in range(6)]
HEAD = ("run", "accuracy", "loss", "epoch", "seconds", "samples/s")
NO_SETTINGS = ("npnet",)  # what a config.json holds that decides nothing


@dataclass(frozen=True)
class Entry:
    """A run to be compared.

    Attributes
    ----------
    name
        What tells its folder from the others.
    config, history, result
        The contents of its files; a run that is still going on, or was killed, has no result.
    """

    name: str
    config: dict[str, Any]
    history: dict[str, Any]
    result: dict[str, Any]

    def panel(self, metric: str) -> Panel | None:
        """Return the curves of "accuracy" or "loss", None before the first epoch has ended."""
        found = panels(self.history) if self.history.get("epoch") else []
        return next((panel for panel in found if panel.metric == metric and panel.points), None)

    @property
    def is_open(self) -> bool:
        """Whether it has trained and not been measured on the test samples."""
        return bool(self.history.get("epoch")) and not self.result.get("test")


def read(paths: Sequence[str | Path]) -> list[Entry]:
    """Return the runs in these folders.

    Raises
    ------
    FileNotFoundError
        If one is no run's folder.
    ValueError
        If a file of it is damaged.
    """
    folders = [RunFolder(path) for path in paths]
    own = [folder.path.resolve().name for folder in folders]
    return [
        Entry(
            name if own.count(name) == 1 else str(folder.path),
            folder.read_json("config.json"),
            *(
                folder.read_json(file) if (folder / file).exists() else {}
                for file in ("history.json", "result.json")
            ),
        )
        for name, folder in zip(own, folders, strict=True)
    ]


def differing(runs: Sequence[Entry]) -> list[str]:
    """Return the names of the settings that are not the same in all runs."""
    names = dict.fromkeys(name for run in runs for name in run.config if name not in NO_SETTINGS)
    first = runs[0]
    return [name for name in names if any(_decides(run, name) != _decides(first, name) for run in runs)]


def _decides(run: Entry, name: str) -> Any:
    """Return a setting; not where a published data set lies, which decides nothing."""
    if name == "data" and run.config.get("dataset") not in OWN:
        return None
    return run.config.get(name)


def rows(runs: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of a table, a run a row: its figures, then the settings that differ.

    Figures with a * are those of the last validation of a run that has no result.
    """
    settings = differing(runs)
    return [*HEAD, *(name.replace("_", " ") for name in settings)], [
        [run.name, *_figures(run), *(readable(run.config, name) for name in settings)] for run in runs
    ]


def _figures(run: Entry) -> list[str]:
    done, best = len(run.history.get("epoch") or []), run.result.get("best_epoch")
    accuracy = loss = seconds = "-"
    if test := run.result.get("test"):
        accuracy = f"{test['accuracy']:.4f}" if "accuracy" in test else "-"
        loss = f"{test['loss']:.4f}"
    elif run.is_open:
        last = {panel.metric: panel.points[-1][1] for panel in panels(run.history) if panel.points}
        accuracy, loss = (f"{last[name]:.4f}*" if name in last else "-" for name in ("accuracy", "loss"))
    if run.result.get("seconds"):
        seconds = f"{run.result['seconds']['total']:,.1f}"
    elif run.is_open:
        seconds = f"{run.history['seconds'][-1]:,.1f}"
    speed = run.result.get("images_per_second")
    return [accuracy, loss, f"{best or done}/{done}", seconds, f"{speed:,.0f}" if speed else "-"]


def _marked(run: Entry, panel: Panel) -> tuple[float, float]:
    """Return the best point where samples were held out to choose it by, else the last."""
    return (run.config.get("validation_split") and panel.best) or panel.points[-1]


def drawn_metric(runs: Sequence[Entry]) -> str:
    """Return what is drawn of all runs: the accuracy; the loss if none of them has one."""
    return "accuracy" if any(run.panel("accuracy") for run in runs) else "loss"


def left_out(runs: Sequence[Entry]) -> list[str]:
    """Return the names of the runs that a picture of all has no curve of."""
    metric = drawn_metric(runs)
    return [run.name for run in runs if not run.panel(metric)]


def draw(runs: Sequence[Entry], path: PathLike | None = None) -> Any:
    """Draw the validation accuracy of all runs over the epochs, and over the seconds since their start.

    Of runs that predict a quantity, and have no accuracy, the loss is drawn. Marked is the best epoch of a
    run that chose it on samples held out, else the last.

    Raises
    ------
    ValueError
        If no run has ended an epoch.
    """
    metric = drawn_metric(runs)
    drawn = [(run, run.panel(metric)) for run in runs]
    curves = [(run, panel.curves[-1], _marked(run, panel)) for run, panel in drawn if panel]
    if not curves:
        raise ValueError("None of these runs has ended an epoch: there are no curves to draw yet.")
    names = ", ".join(run.name for run, *_ in curves)
    figure = new_figure(
        9.4, 3.2 + 0.2 * len(curves), f"{metric.capitalize()} after every epoch", f"of {names}"
    )
    over_epochs, over_seconds = figure.subplots(1, 2, sharey=True)
    for i, (run, curve, (epoch, value)) in enumerate(curves):
        color, dash = COLORS[i % len(COLORS)], DASHES[i // len(COLORS) % len(DASHES)]
        seconds = dict(zip(run.history["epoch"], run.history["seconds"], strict=True))
        samples = "samples held out" if run.config.get("validation_split") else "test samples"
        of = "of" if metric == "accuracy" else "on"
        label = f"{run.name}: {value:.4f} {of} the {samples} after epoch {epoch:.0f}, {seconds[epoch]:,.0f} s"
        for axes, places in ((over_epochs, curve.x), (over_seconds, [seconds[epoch] for epoch in curve.x])):
            size = 3 if len(curve.points) < 40 else 0
            axes.plot(places, curve.y, color=color, ls=dash, lw=1.8, marker="o", ms=size, label=label)
        over_epochs.plot(epoch, value, "o", ms=9, mfc="none", mec=color, mew=1.5)
        over_seconds.plot(seconds[epoch], value, "o", ms=9, mfc="none", mec=color, mew=1.5)
    for axes, unit in ((over_epochs, "epoch"), (over_seconds, "seconds since the start")):
        axes.set_title(
            f"over the {unit.split()[0].removesuffix('s')}s", loc="left", size=10.5, weight="bold", color=INK
        )
        axes.set_xlabel(unit)
        axes.grid(axis="y", color=HAIRLINE, lw=0.6)
        tidy(axes)
    over_epochs.locator_params(axis="x", integer=True, min_n_ticks=1)
    handles, labels = over_epochs.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", frameon=False, fontsize=9, labelcolor=GREY)
    return finish(figure, path)


# --- as a page ----------------------------------------------------------------------------------------------


def write_page(runs: Sequence[Entry], path: str | Path) -> None:
    """Write a page with the results, the curves and the settings of all runs, which needs nothing else.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    styles = [STYLES[i % len(STYLES)] for i in range(len(runs))]
    apart = differing(runs)
    content = {
        "title": ", ".join(run.name for run in runs),
        "head": HEAD,
        "rows": [
            {"name": run.name, "style": style, "cells": _figures(run)}
            for run, style in zip(runs, styles, strict=True)
        ],
        "open": any(run.is_open for run in runs),
        "charts": [
            chart
            for metric in ("accuracy", "loss")
            for over in ("epochs", "time")
            for chart in _chart(runs, styles, metric, over)
        ],
        "differing": [
            (name.replace("_", " "), [readable(run.config, name) for run in runs]) for name in apart
        ],
        "same": [
            (name.replace("_", " "), readable(runs[0].config, name))
            for name in runs[0].config
            if name not in (*apart, *NO_SETTINGS)
        ],
    }
    write_atomically(Path(path), page("comparison.html", content).encode())


def _chart(
    runs: Sequence[Entry], styles: Sequence[markup.Style], metric: str, over: str
) -> list[tuple[str, str, str]]:
    """Return heading, remark and picture of a metric of all runs that have it, none if no run has."""
    curves, chosen = [], []
    for run, style in zip(runs, styles, strict=True):
        if panel := run.panel(metric):
            last = panel.curves[-1]
            at = dict(zip(run.history["epoch"], run.history["seconds"], strict=True))
            x = last.x if over == "epochs" else [at[epoch] for epoch in last.x]
            curves.append(Curve(run.name, x, last.y))
            chosen.append(style)
    if not curves:
        return []
    grows = metric == "accuracy"
    write = "{:.1%}".format if grows else "{:.4g}".format
    ends = ", ".join(f"{curve.name} ends at {write(curve.points[-1][1])}" for curve in curves)
    label = "epoch" if over == "epochs" else "seconds since the start"
    picture = markup.line_chart(
        f"{metric.capitalize()} over the {over}: {ends}.", curves, label, percent=grows, styles=chosen
    )
    return [(metric.capitalize(), f"over the {over}", picture)]
