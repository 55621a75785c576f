"""Do the processes of a training do the same? Found out at its start and after each epoch."""

import hashlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from npnet import kernels
from npnet.callbacks.callback import Callback, Logs
from npnet.internal import config
from npnet.internal.processes import Processes

__all__ = ["Alike", "digest", "require_alike"]


def require_alike(group: Processes, when: str, values: dict[str, Any]) -> None:
    """Raise a ValueError that names the processes that differ, and in what, if any do.

    Parameters
    ----------
    when
        Begins the message: "The processes of a training must be alike".
    values
        What must be the same, by name, as JSON can hold it.
    """
    everywhere = group.gather_values(values)
    for name in values:
        texts = [str(each.get(name)) for each in everywhere]
        usual, _ = Counter(texts).most_common(1)[0]
        odd = [rank for rank, text in enumerate(texts) if text != usual]
        if odd:
            named = ", ".join(f"rank {rank} (on {group.hosts[rank]}) has {texts[rank]}" for rank in odd)
            others = "the other has" if group.size == 2 else "the others have"
            raise ValueError(f"{when}: of {name}, {named}, {others} {usual}.")


class Alike(Callback):
    """Compares versions, processors, model and arguments before a training, weights after each epoch."""

    every_batch = False

    def __init__(self, group: Processes, setup: Any):
        self.group, self.setup = group, setup

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Compare what the training is made from."""
        setup, chain = self.setup, self.model
        values = {
            **_machine(kernels.name_of(setup.kernels)),
            "layers": str([config.serialize(layer) for layer in chain.layers]),
            "optimizer": str(config.serialize(setup.optimizer)),
            "loss": str(config.serialize(setup.loss)),
            "seed": chain.seed,
            "the steps taken": setup.optimizer.iterations,
            "the place in the training": str(tuple(chain.position[:2])),
            "epochs": self.params["epochs"],
            "steps an epoch": self.params["steps"],
            "weights (their SHA-256)": digest(chain),
        }
        require_alike(self.group, "The processes of a training must be alike", values)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare what the epoch came to."""
        values = {"weights (their SHA-256)": digest(self.model), "stop_training": self.model.stop_training}
        require_alike(self.group, f"The processes differ after epoch {epoch + 1}", values)


def digest(chain: Any) -> str:
    """Return the SHA-256 of all weights, as far as it is needed to tell them apart."""
    result = hashlib.sha256()
    for parameter in chain.parameters:
        result.update(np.ascontiguousarray(parameter.value).data)
    return result.hexdigest()[:16]


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
