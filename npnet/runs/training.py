"""A training run from its settings to its report."""

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from npnet.callbacks import DivergedError, LambdaCallback, TensorBoard, TerminateOnNaN
from npnet.checking.divergence import first_non_finite
from npnet.datasets import DatasetUnavailableError
from npnet.internal import files, interrupts, processes
from npnet.kernels import name_of
from npnet.kernels.machine import threads
from npnet.kernels.machine.announce import announce_compilation
from npnet.layers import Normalization
from npnet.models import Sequential, load_model
from npnet.runs import airbench, datasets, environment, outcome, recipes, shares, terminal
from npnet.runs.clock import Clock
from npnet.runs.datasets import Dataset
from npnet.runs.folder import DATA, RunFolder
from npnet.runs.recorder import LAST, Recorder
from npnet.runs.settings import Settings, complete, learning_rate, recipe_of
from npnet.training import distribution
from npnet.training.batches import cut, epoch_order

__all__ = ["Training", "Watch", "build", "train"]

# Of a run that goes on: no other setting leaves the bits of what comes as they would have been. Whether moved
# data are the same is seen by their SHA-256.
MAY_CHANGE = ("epochs", "threads", "data", "npnet")


def train(
    config: Mapping[str, Any],
    folder: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    tensorboard: bool = False,
) -> dict[str, Any]:
    """Train a network, leave a folder with everything about it, and return what it came to.

    Parameters
    ----------
    config
        Settings by name, as in a config.json; the recipe says what is not given.
    folder
        Where the run is kept; by default the next free of runs/DATASET-001, -002 ...
    resume
        Go on with the run in ``folder``. Only a larger number of epochs may be given then.
    quiet
        Print nothing.
    tensorboard
        Write the run for TensorBoard as well, in the folder ``tensorboard`` of the run.

    Returns
    -------
    dict
        The content of result.json. Its "status" is "finished", "interrupted" (by Ctrl-C), "terminated" (by
        SIGTERM, inside ``interrupts.terminable``) or "failed" (the loss became NaN or infinite).

    Raises
    ------
    ValueError, TypeError
        If a setting does not fit. Nothing has been written then.
    ImportError
        If there is no package ``tensorboard``, and it is asked for.
    OSError
        If the dataset cannot be had, or the folder cannot be made or written.
    """
    distribution.initialize()
    processes.world().resume = ""  # of an earlier run that failed
    silent = quiet or not processes.world().first
    with contextlib.redirect_stdout(io.StringIO()) if silent else contextlib.nullcontext():
        if tensorboard:
            TensorBoard()  # is the package there?
        if not resume:
            return _start(config, folder, tensorboard)
        if folder is None:
            raise ValueError("resume needs the folder of the run to go on with.")
        return _go_on(config, RunFolder(folder), tensorboard)


def _start(config: Mapping[str, Any], folder: str | Path | None, tensorboard: bool) -> dict[str, Any]:
    """Begin a new run."""
    settings = complete(config)
    if settings["shards"] is None and processes.world().size > 1:
        settings["shards"] = max(SHARDS, processes.world().size)
    with _together(settings) as group:
        return _start_together(config, settings, group, folder, tensorboard)


def _start_together(
    config: Mapping[str, Any],
    settings: Settings,
    group: processes.Processes,
    folder: str | Path | None,
    tensorboard: bool,
) -> dict[str, Any]:
    """Begin a new run in all processes, of which the first writes."""
    if folder is not None and group.first:
        RunFolder(folder).require_new()
    clock = Clock()
    try:
        dataset, sha256 = _load(settings, clock)
    except DatasetUnavailableError:
        if "dataset" in config:
            raise
        print("CIFAR-10 is not on this machine and cannot be downloaded: training on drawn shapes instead.")
        settings |= {"dataset": "shapes"}
        dataset, sha256 = _load(settings, clock)
    model = build(settings, dataset)
    made = RunFolder.new(folder, dataset.title or dataset.name) if group.first else None
    run = RunFolder(group.broadcast(str(made.path) if made else None))
    with _held(run, group):
        if group.first:
            if dataset.about:
                run.write_json(DATA, dataset.about)
            run.write_json("config.json", settings)
            about = environment.occasion() | environment.describe(name_of(model.kernels), sha256)
            run.write_json("env.json", about)
            model.save(run / LAST)
        recorder = Recorder(run, clock, chooses=len(dataset.x_held) > 0, metric=dataset.metric)
        return Training(run, settings, dataset, model, recorder).run(tensorboard)


def _go_on(config: Mapping[str, Any], run: RunFolder, tensorboard: bool) -> dict[str, Any]:
    """Go on with a run."""
    world = processes.world()
    # A folder that only the first process sees is enough; one of an earlier version lacks what came later.
    before = complete(world.broadcast(run.read_json("config.json") if world.first else None))
    settings = complete({**before, **config})
    if before["shards"] is None and world.size > 1:
        raise ValueError(
            f"{run.path} was begun by one process without shards; several would come to other bits. Go on"
            " without mpiexec, or begin a new run: --shards makes the bits those of any number of processes."
        )
    if before["shards"] is not None and before["shards"] < world.size:
        raise ValueError(
            f"{run.path} was begun with --shards {before['shards']}: of {world.size} processes some would"
            f" have nothing to do. Go on with at most {before['shards']}."
        )
    with _together(settings) as group, _held(run, group):
        model = _load_together(run / LAST)
        done = model.position.epoch
        seconds = _check_that_it_can_go_on(run, before, settings, done) if group.first else {}
        clock = Clock(seconds)
        dataset, sha256 = _load(settings, clock)
        known = group.broadcast(run.read_json("env.json")["dataset_sha256"] if group.first else None)
        run.require_data(settings["data"] or dataset.name, sha256, known)
        kept = done if group.first else 0
        recorder = Recorder(run, clock, kept, chooses=len(dataset.x_held) > 0, metric=dataset.metric)
        if group.first:
            run.write_json("config.json", settings)
            (run / "result.json").unlink(missing_ok=True)
        return Training(run, settings, dataset, model, recorder).run(tensorboard)


@contextlib.contextmanager
def _together(settings: Settings) -> Iterator[processes.Processes]:
    """Train with all processes in this block, where the settings say into how many shards batches are cut."""
    before = distribution.distribution()
    if settings["shards"] is not None:
        distribution.set_distribution(distribution.DataParallel(settings["shards"]))
    try:
        yield processes.group()
    finally:
        distribution.set_distribution(before)


@contextlib.contextmanager
def _held(run: RunFolder, group: processes.Processes) -> Iterator[None]:
    """Train in the folder alone."""
    with run.held() if group.first else contextlib.nullcontext():
        yield


def _load_together(path: Path) -> Sequential:
    """Return the model in a file that perhaps only the first process has."""
    with files.from_first(path) as file:
        return load_model(file)


def _check_that_it_can_go_on(
    run: RunFolder, before: Settings, settings: Settings, done: int
) -> dict[str, float]:
    """Return the seconds of the run so far, or raise a ValueError that says why there is no going on."""
    anew = f"Start a new run: npnet train --config {run / 'config.json'}"
    for name, value in settings.items():
        if name not in MAY_CHANGE and value != before[name]:
            raise ValueError(
                f"{name} is {before[name]!r} in {run.path} and stays so: of a run that goes on only epochs,"
                f" threads and data may change. {anew} and your {name}."
            )
    wanted, planned = settings["epochs"], before["epochs"]
    if wanted < planned:
        raise ValueError(f"epochs is {planned} in {run.path} and may only grow, got {wanted}.")
    if wanted > planned and settings["schedule"] != "constant":
        raise ValueError(
            f"The learning rate of {run.path} follows a schedule over {planned} epochs that says nothing of"
            f" later ones. {anew} --epochs {wanted}"
        )
    try:
        result = run.read_json("result.json")
    except FileNotFoundError:  # killed
        history = run.read_json("history.json")["seconds"] if done else [0.0]
        return {"training": history[min(done, len(history)) - 1]}
    if result["status"] == "failed":
        raise ValueError(
            f"{run.path} failed and would fail again: {result['reason']} {anew} and what you change."
        )
    if done >= wanted:
        longer = f"To train it longer: npnet train --resume {run.path}"
        if settings["schedule"] != "constant":
            longer = f"Its schedule of the learning rate ends there. {anew}"
        raise ValueError(f"{run.path} has done all of its {done} epochs. {longer} --epochs {2 * done}")
    return {name: seconds for name, seconds in result["seconds"].items() if name != "total"}


def _load(settings: Settings, clock: Clock) -> tuple[Dataset, str]:
    """Return the dataset and its SHA-256; set the number of threads."""
    if settings["threads"] is not None:
        threads.set_threads(settings["threads"])
    clock.start("loading")
    dataset = datasets.of(settings)
    sha256 = dataset.sha256()
    clock.stop()
    return dataset, sha256


def build(settings: Settings, dataset: Dataset) -> Sequential:
    """Return the compiled model of a run before its first step."""
    recipe, measured = recipe_of(settings), Normalization()
    if settings["inputs"] == "standardised":
        measured.adapt(dataset.x_train)
    model = recipes.build(
        recipe,
        dataset.x_train.shape[1:],
        len(dataset.class_names),
        recipes.steps_per_epoch(recipe, len(dataset.x_train)),
        settings["seed"],
        settings["kernels"],
        measured.mean,
        measured.variance,
        dataset.x_train,
    )
    model.class_names = dataset.class_names
    return model


SHARDS = 8  # of a run that several processes begin and that does not say


class Watch(TerminateOnNaN):
    """Looks where several steps taken at once end; which of them failed is found out afterwards."""

    every_batch = False


class Training:
    """A run whose folder, data and model are there."""

    def __init__(
        self, run: RunFolder, settings: Settings, dataset: Dataset, model: Sequential, recorder: Recorder
    ):
        self.folder, self.settings, self.dataset, self.model = run, settings, dataset, model
        self.recipe = recipe_of(settings)
        self.recorder, self.clock = recorder, recorder.clock
        x_val, y_val = dataset.validation
        self.y_train = dataset.targets(dataset.y_train)
        self.validation = x_val, dataset.targets(y_val)

    def run(self, tensorboard: bool = False) -> dict[str, Any]:
        """Train, and leave what it came to."""
        group = processes.group()
        terminal.print_header(self.folder, self.settings, self.dataset, self.model)
        # What is said where this process fails, or is stopped where it does not save.
        resume = f"npnet train --resume {self.folder.path}"
        group.resume = f"Go on: {resume}"
        known: dict[str, Any] = {"status": "finished", "reason": None, "step_share": self._compile()}
        before = self._trained()
        watchers = [Watch(raise_error=True), self.recorder]
        if tensorboard:
            watchers.append(TensorBoard(self.folder / "tensorboard"))
        group.resume = f"Go on from the last whole epoch: {resume}"
        try:
            self._fit(self.model, self.settings["epochs"], watchers)
        except KeyboardInterrupt as stop:
            # A second Ctrl-C at mpiexec is mpiexec's own.
            more = " A second Ctrl-C leaves without pictures and report." if group.size == 1 else ""
            print(f"\nStopped.{more}", flush=True)
            known["status"] = "terminated" if isinstance(stop, interrupts.Terminated) else "interrupted"
            if group.first:
                self.model.save(self.folder / LAST)
            group.resume = f"Go on: {resume}"
        except DivergedError as error:
            known |= {"status": "failed", "reason": f"{self._diagnose(error)} {self._advice()}"}
        else:
            group.resume = f"All epochs are done. Its pictures and its report: {resume}"
        images, seconds = np.subtract(self._trained(), before)
        known["images_per_second"] = round(images / seconds) if seconds else None
        result = group.broadcast(self._conclude(known) if group.first else None)
        group.resume = ""
        return dict(result)

    def _conclude(self, known: dict[str, Any]) -> dict[str, Any]:
        """Examine the model, write the report and print what it came to."""
        result = outcome.conclude(self.folder, self.dataset, self.recorder, known, self.settings["views"])
        terminal.print_result(self.folder, result)
        return result

    def _trained(self) -> tuple[int, float]:
        """Return how many samples have been trained on, repetitions counted, and the seconds it took."""
        epoch, steps, _ = self.model.position
        n, batch_size = len(self.y_train), self.recipe.batch_size
        in_epoch = min(recipes.steps_per_epoch(self.recipe, n) * batch_size, n)
        images = epoch * in_epoch + min(steps * batch_size, in_epoch)
        return images, self.clock.seconds.get("training", 0.0)

    def _fit(self, model: Sequential, epochs: int, callbacks: list[Any], quietly: bool = False) -> None:
        """Train from where the model is; ``quietly`` without a word and without validation."""
        dataset = self.dataset
        with np.errstate(over="ignore", invalid="ignore"):  # TerminateOnNaN says more
            model.fit(
                dataset.x_train,
                self.y_train,
                batch_size=self.settings["batch_size"],
                epochs=epochs,
                verbose=0 if quietly else 1,
                callbacks=[*airbench.freezing(self.recipe), *callbacks],
                validation_data=None if quietly else self.validation,
                initial_epoch=model.position,
                validation_batch_size=outcome.BATCH,
                drop_remainder=self.recipe.drop_remainder,
            )

    def _compile(self) -> dict[str, float]:
        """Train and validate a twin on a few samples, so that all kernels are there.

        Returns where the time of a step goes.
        """
        self.clock.start("compiling")
        twin, batch_size = build(self.settings, self.dataset), self.settings["batch_size"]
        x, y = self.dataset.x_train, self.y_train
        x_val, y_val = (array[: outcome.BATCH] for array in self.validation)
        with interrupts.immediate(), announce_compilation(sys.stdout), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the training itself gives the same
            few = batch_size + 1
            twin.fit(x[:few], y[:few], batch_size, verbose=0, drop_remainder=self.recipe.drop_remainder)
            twin.evaluate(x_val, y_val, outcome.BATCH, verbose=0)
            share = shares.measure(twin, x, y, batch_size)
        self.clock.stop()
        return share

    def _diagnose(self, error: DivergedError) -> str:
        """Take the steps since the last checkpoint again to find the first that failed, and where it did."""
        what, found, epochs = error.what, None, self.model.position.epoch + 1
        model = _load_together(self.folder / LAST)
        try:
            self._fit(model, epochs, [TerminateOnNaN(raise_error=True)], quietly=True)
        except DivergedError as first:
            what = first.what
            epoch, failed, _ = model.position
            model = _load_together(self.folder / LAST)

            def stop(batch: int, logs: Any = None) -> None:
                model.stop_training = batch + 1 == failed - 1

            if model.position[:2] != (epoch, failed - 1):
                self._fit(model, epochs, [LambdaCallback(on_train_batch_end=stop)], quietly=True)
            order = epoch_order(len(self.y_train), True, model.seed, epoch)
            index = cut(order, self.settings["batch_size"])[failed - 1]
            found = first_non_finite(model, self.dataset.x_train[index], self.y_train[index])
        return f"{what} The first value that is not finite is in {found}." if found else what

    def _advice(self) -> str:
        """Return two things to try."""
        highest = learning_rate(self.settings)
        if self.dataset.of_images and self.settings["inputs"] == "raw":
            other = "--inputs unit"
        elif self.settings["optimizer"] == "sgd":
            other = "--optimizer adam"
        else:
            other = "--schedule onecycle, which begins with small steps"
        return f"Try --lr {highest / 10:g}, or {other}."
