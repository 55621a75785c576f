"""The folder of one training run: what lies in it under which name.

=====================  =================================================================================
config.json            every setting of the run; ``npnet train --config`` takes it
data.json              of the user's own data: names of classes, how columns are encoded
env.json               when, where and by which command it began; versions, processor, threads, kernels, and
                       the SHA-256 of the dataset
history.csv, .json     loss, metrics, learning rate and seconds of every epoch, rewritten after each
last.safetensors       model, optimizer, streams and the place in the epoch: what ``--resume`` goes on from
best.safetensors       the model after its best epoch on the samples held out, where some were
result.json            what the finished (or stopped) run came to
confusion.csv          how often which class was taken for which
*.png                  samples, history, confusion, mistakes, weights, boundary (of spiral)
images.safetensors     the pixels of those samples and mistakes, for the report
tensorboard/           the run for TensorBoard, where it was asked for
report.html            all of it on one page
lock                   there while a process trains in the folder
=====================  =================================================================================
"""

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from npnet.internal.files import write_atomically
from npnet.internal.locking import locked

__all__ = ["DATA", "RUNS", "RunFolder"]

DATA = "data.json"
RUNS = Path("runs")  # where runs without a name are kept


class RunFolder:
    """Paths and JSON files of a run.

    Parameters
    ----------
    path : str or Path
        The folder; it need not exist yet.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()

    @classmethod
    def new(cls, path: str | Path | None, dataset: str) -> "RunFolder":
        """Make the folder of a new run: ``path``, else the first of runs/DATASET-001, -002 ... that is free.

        Two processes never get the same one.

        Raises
        ------
        FileExistsError
            If ``path`` holds something.
        OSError
            If it cannot be made.
        """
        try:
            if path is not None:
                run = cls(path)
                run.require_new()
                run.path.mkdir(parents=True, exist_ok=True)
                return run
            for number in itertools.count(1):
                run = cls(RUNS / f"{dataset}-{number:03d}")
                with contextlib.suppress(FileExistsError):
                    run.path.mkdir(parents=True)
                    break
        except FileExistsError:
            raise
        except OSError as error:
            raise OSError(f"The folder {run.path} cannot be made: {error.strerror}.") from error
        return run

    def require_new(self) -> None:
        """Raise a FileExistsError that says what to do if the folder holds something, or is none."""
        if self.path.is_dir() and not any(self.path.iterdir()):
            return
        if (self / "config.json").exists():
            raise FileExistsError(
                f"{self.path} holds a run. Go on with it, npnet train --resume {self.path}, or name another"
                " folder."
            )
        if self.path.exists():
            raise FileExistsError(f"{self.path} exists and is no empty folder. Name another.")

    def require_data(self, name: str, sha256: str, known: str | None = None) -> None:
        """Raise a ValueError unless data are those that the run began with.

        Which samples are held out depends on all of them: of other data, the network may have seen what it is
        tested on.

        Parameters
        ----------
        sha256
            Of the data.
        known
            Of those the run began with; by default what its env.json says.
        """
        if sha256 != (known or self.read_json("env.json")["dataset_sha256"]):
            raise ValueError(
                f"{self.path} was trained on other data: the SHA-256 of {name} is not the one in its"
                " env.json. Give it the data it had, or start a new run."
            )

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Train in this folder alone.

        Raises
        ------
        ValueError
            If another process does.
        """

        def refuse() -> None:
            raise ValueError(f"Another process is training in {self.path}. Wait for it, or name another run.")

        with locked(self / "lock", refuse):
            yield

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def write_json(self, name: str, content: Any) -> None:
        """Write ``content`` as a readable JSON file, whole or not at all."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self / name, (json.dumps(content, indent=2) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """Return what a JSON file of the run holds.

        Raises
        ------
        FileNotFoundError
            If this is no run's folder, or the run did not come that far.
        ValueError
            If the file is no JSON.
        """
        try:
            return json.loads((self / name).read_text(encoding="utf-8"))
        except NotADirectoryError:
            raise FileNotFoundError(f"{self.path} is a file, not the folder of a run.") from None
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path} holds no {name}: not a run, or one that did not come so far."
            ) from None
        except ValueError as error:
            raise ValueError(f"{self / name} is no JSON file: {error}.") from error
