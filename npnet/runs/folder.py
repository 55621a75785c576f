"""The folder of one training run: what lies in it under which name.

=====================  =================================================================================
config.json            every setting of the run; ``npnet train --config`` takes it
env.json               versions, processor, threads, kernels, and the SHA-256 of the dataset
history.csv, .json     loss, metrics, learning rate and seconds of every epoch, rewritten after each
last.safetensors       model, optimizer, streams and the place in the epoch: what ``--resume`` goes on from
best.safetensors       the model after its best epoch
result.json            what the finished (or stopped) run came to
confusion.csv          how often which class was taken for which
*.png                  samples, history, confusion, mistakes, weights, boundary (of spiral)
report.html            all of it on one page
=====================  =================================================================================
"""

import json
from pathlib import Path
from typing import Any

from npnet.files import write_atomically


class RunFolder:
    """Paths and JSON files of a run.

    Parameters
    ----------
    path : str or Path
        The folder; it need not exist yet.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

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
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path} holds no {name}: not a run, or one that did not come so far."
            ) from None
        except ValueError as error:
            raise ValueError(f"{self / name} is no JSON file: {error}.") from error
