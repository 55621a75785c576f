"""Do the processes of a training do the same? Found out before it, at its start and after each epoch."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from npnet import kernels
from npnet.callbacks.callback import Callback, Logs
from npnet.internal import config
from npnet.internal.processes import Processes
from npnet.training.feeds import ArrayFeed, Feed
from npnet.training.parts import PartsFeed

__all__ = ["AT_THE_START", "Alike", "digest", "require_alike"]

AT_THE_START = "The processes of a training must be alike"
MOST_ROWS = 256  # of an array, evenly spaced, are compared: a mapped file may be larger than memory


def require_alike(group: Processes, when: str, values: dict[str, Any]) -> None:
    """Raise a ValueError that names the processes that differ, and in what, if any do.

    Parameters
    ----------
    when
        Begins the message: "The processes of a training must be alike".
    values
        What must be the same, by name, as JSON can hold it.
    """
    everywhere = [dict(_leaves("", value)) for value in group.gather_values(values)]
    for name in dict.fromkeys(name for each in everywhere for name in each):
        texts = [str(each.get(name)) for each in everywhere]
        usual, _ = Counter(texts).most_common(1)[0]
        odd = [rank for rank, text in enumerate(texts) if text != usual]
        if odd:
            named = ", ".join(f"rank {rank} (on {group.hosts[rank]}) has {texts[rank]}" for rank in odd)
            others = "the other has" if group.size == 2 else "the others have"
            raise ValueError(f"{when}: of {name}, {named}, {others} {usual}.")


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Go through what is in dictionaries and lists, so that a message names the one setting that differs."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(f"{name}.{key}" if name else key, part)
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from _leaves(f"{name}[{number}]", part)
    else:
        yield name, value


class Alike(Callback):
    """Compares versions, processors, model and data before a training, weights after each epoch.

    Parameters
    ----------
    group
        The processes.
    setup
        What ``compile`` chose.
    feeds
        What the training and its validation are fed with, by the name of their samples.
    """

    every_batch = False

    def __init__(self, group: Processes, setup: Any, feeds: dict[str, Feed | None]):
        self.group, self.setup, self.feeds = group, setup, feeds

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Compare what the training is made from."""
        setup, chain = self.setup, self.model
        values = {
            **_machine(kernels.name_of(setup.kernels)),
            "layers": [config.serialize(layer) for layer in chain.layers],
            "dtype policy": chain.dtype_policy.name,
            "optimizer": config.serialize(setup.optimizer),
            "loss": config.serialize(setup.loss),
            "metrics": [metric.name for metric in setup.reported],
            "fused": setup.fused,
            "steps_per_execution": setup.steps_per_execution,
            "seed": chain.seed,
            "the steps taken": setup.optimizer.iterations,
            "the place in the training": str(tuple(chain.position[:2])),
            **{name: _samples(feed) for name, feed in self.feeds.items()},
            "weights (their SHA-256)": digest(chain),
        }
        require_alike(self.group, AT_THE_START, values)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare what the epoch came to."""
        values = {"weights (their SHA-256)": digest(self.model), "stop_training": self.model.stop_training}
        require_alike(self.group, f"The processes differ after epoch {epoch + 1}", values)


def digest(chain: Any) -> str:
    """Return the SHA-256 of all weights, as far as it is needed to tell them apart."""
    result = hashlib.sha256()
    for parameter in chain.parameters:
        result.update(np.ascontiguousarray(parameter.numbers).data)
    return result.hexdigest()[:16]


def _samples(feed: Feed | None) -> dict[str, Any] | None:
    """Return what must be the same of the samples that each process was given."""
    if feed is None:
        return None
    some = feed.some
    arrays = {"x": some.x, "y": some.y, "sample_weight": some.weight}
    values: dict[str, Any] = {
        "samples": feed.rows, "batch_size": feed.batch_size, "steps an epoch": feed.steps,
    }  # fmt: skip
    for name, array in arrays.items():
        if array is None:
            values[name] = None
            continue
        values[name] = {"shape": str(array.shape[1:]), "dtype": str(array.dtype)}
        if not isinstance(feed, PartsFeed):
            rows = np.linspace(0, len(array) - 1, min(len(array), MOST_ROWS)).astype(int)
            values[name]["rows (their SHA-256)"] = _sha256(array[rows])
    if isinstance(feed, ArrayFeed) and feed.batches:
        values["order (its SHA-256)"] = _sha256(feed.batches[0])
    return values


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()[:16]


@cache
def _sources() -> str:
    """Return the SHA-256 of npnet's sources: two copies may differ though they call themselves alike."""
    root, result = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        result.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return result.hexdigest()[:16]


def _machine(used: str | None) -> dict[str, Any]:
    """Return versions, and what of the processor decides bits."""
    values = {"npnet (the SHA-256 of its sources)": _sources(), "numpy": np.__version__, "kernels": used}
    if used == "numba":
        from npnet.kernels.machine.description import describe

        known = describe()
        values |= {name: known[name] for name in ("numba", "llvmlite", "cpu", "vector_bits", "matrix_unit")}
    return values
