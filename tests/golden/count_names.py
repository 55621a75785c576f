"""Count in how many notebooks each of Keras's names is used that npnet has not.

    python tests/golden/count_names.py FOLDER FOLDER ...

The numbers in ``npnet/internal/missing.py`` are of the 163 notebooks whose code mentions keras in three
repositories on GitHub, as they were in the autumn of 2026: fchollet/deep-learning-with-python-notebooks,
ageron/handson-ml3, and tensorflow/docs (site/en/tutorials and site/en/guide).
"""

import json
import re
import sys
from pathlib import Path

from npnet.internal.missing import MISSING


def code_of(notebook):
    """Return the code of a notebook's cells."""
    cells = json.loads(notebook.read_text(encoding="utf-8")).get("cells", [])
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def pattern(module, name):
    """Return what a use looks like: ``layers.LSTM``, or ``LSTM(`` alone where it is a class."""
    if name == "Model":
        return r"\b(keras|models)\.Model\b|(?<![\w.])Model\("
    alone = rf"|(?<![\w.]){name}\(" if name[0].isupper() else ""
    return rf"\b{module}\.{name}\b{alone}"


codes = [code_of(path) for folder in sys.argv[1:] for path in sorted(Path(folder).rglob("*.ipynb"))]
codes = [code for code in codes if re.search(r"\bkeras\b", code)]
print(len(codes), "notebooks")
for module, reasons in MISSING.items():
    for name in " ".join(reasons.values()).split():
        count = sum(re.search(pattern(module, name), code) is not None for code in codes)
        if count:
            print(f'"{module}.{name}": {count},')
