"""A table of a CSV file as numbers for a network: what each column is, and how its values are encoded.

A column whose values are all numbers is standardised: (value - mean) / deviation. Any other holds categories,
and becomes one column of 0 and 1 for each of them. The encoding is plain data, which is kept with the model.
"""

import csv
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from npnet.internal import checks

__all__ = [
    "MISSING",
    "MOST_CATEGORIES",
    "Encoding",
    "Table",
    "describe",
    "encode",
    "measure",
    "no_number",
    "numbers_of",
    "read",
]

Encoding = list[dict[str, Any]]  # of each column: its "name", and "mean" and "deviation" or its "categories"

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})  # in small letters
MOST_CATEGORIES = 100  # of one column: a column of names or numbers of rows says nothing of other rows


@dataclass(frozen=True)
class Table:
    """The cells of a CSV file, as text.

    Parameters
    ----------
    path : Path
    columns : list of str
        Their names, from the first line.
    rows : list of list of str
        Cells without spaces around them.
    lines : list of int
        Of each row, the line of the file that it ends in.
    """

    path: Path
    columns: list[str]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        if name not in self.columns:
            raise ValueError(f"{self.path} has no column {name!r}. It has {', '.join(self.columns)}.")
        at = self.columns.index(name)
        return [row[at] for row in self.rows]

    def place(self, row: int, name: str) -> str:
        """Where a cell is, in words."""
        return f"{self.path}, line {self.lines[row]} (row {row + 1}), column {name!r}"


def read(path: str | os.PathLike[str]) -> Table:
    """The table of a CSV file: names of columns in its first line, separated by comma, semicolon or tab.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is no text in UTF-8, has no rows, two columns of one name, or a row of another length.
    """
    place = Path(path).expanduser()
    try:
        with place.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            separator = max(",;\t", key=first.count)
            reader = csv.reader(file, delimiter=separator, strict=True)
            columns = [name.strip() for name in next(reader, [])]
            rows, lines = [], []
            for cells in reader:
                if not cells:  # an empty line
                    continue
                if len(cells) != len(columns):
                    raise ValueError(
                        f"{place}, line {reader.line_num}, has {len(cells)} cells where the first line names"
                        f" {len(columns)} columns."
                    )
                rows.append([cell.strip() for cell in cells])
                lines.append(reader.line_num)
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is no text in UTF-8: {error}. Save it as CSV UTF-8.") from error
    except csv.Error as error:
        raise ValueError(f"{place} is no CSV file: {error}.") from error
    twice = {name for name in columns if columns.count(name) > 1}
    if twice or "" in columns:
        raise ValueError(f"{place} must name each column once in its first line, got {', '.join(columns)}.")
    if not rows:
        raise ValueError(f"{place} has no rows below its first line.")
    return Table(place, columns, rows, lines)


def is_missing(cell: str) -> bool:
    """Whether a cell holds no value: it is empty, or NA, NaN, null, None, ?."""
    return cell.lower() in MISSING


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def numbers_of(cells: Sequence[str]) -> np.ndarray | None:
    """The cells as float64, NaN where one is missing; None where one is no number."""
    values = [math.nan if is_missing(cell) else _number(cell) for cell in cells]
    if None in values or all(is_missing(cell) for cell in cells):
        return None
    return np.array(values, np.float64)


def no_number(table: Table, name: str) -> str | None:
    """A sentence about the first text of a column whose values are numbers for the most part; or None."""
    cells = table.column(name)
    rows = [row for row, cell in enumerate(cells) if not is_missing(cell)]
    texts = [row for row in rows if _number(cells[row]) is None]
    if texts and 2 * len(texts) < len(rows):
        return f"{table.place(texts[0], name)}: {cells[texts[0]]!r} is no number, as most of the column are"
    commas = [row for row in texts if re.fullmatch(r"[+-]?\d+,\d+", cells[row])]
    if 2 * len(commas) > len(rows):
        return f"{table.place(commas[0], name)}: {cells[commas[0]]!r} has a decimal comma; write a point"
    return None


def measure(values: np.ndarray) -> dict[str, float]:
    """Mean and deviation to standardise by; 0 and 1 of no values, deviation 1 of equal ones."""
    if not values.size:
        return {"mean": 0.0, "deviation": 1.0}
    return {"mean": float(values.mean()), "deviation": float(values.std()) or 1.0}


def describe(table: Table, names: Sequence[str], rows: np.ndarray, fill: bool) -> Encoding:
    """How the columns ``names`` are to be encoded: means and deviations of some rows, categories of all.

    Raises
    ------
    ValueError
        A value is missing and ``fill`` is False, or a column has more than ``MOST_CATEGORIES`` categories.
    """
    encoding: Encoding = []
    for name in names:
        cells = table.column(name)
        missing = next((row for row, cell in enumerate(cells) if is_missing(cell)), None)
        if missing is not None and not fill:
            raise ValueError(
                f"{table.place(missing, name)}: the value is missing. Give --missing fill to take the mean"
                " of a column of numbers, and no category, for such values; or remove the row, or --ignore"
                " the column."
            )
        values = numbers_of(cells)
        if values is not None:
            some = values[rows][~np.isnan(values[rows])]
            encoding.append({"name": name, **measure(some)})
            continue
        categories = sorted({cell for cell in cells if not is_missing(cell)})
        text = no_number(table, name)
        if text and len(categories) > MOST_CATEGORIES:
            raise ValueError(f"{text}. Correct it, or leave the column out: --ignore {name!r}.")
        if len(categories) > MOST_CATEGORIES:
            raise ValueError(
                f"{table.path}: column {name!r} holds {len(categories)} different texts, more than"
                f" {MOST_CATEGORIES} categories. If they are names, leave the column out: --ignore {name!r}."
            )
        if text:
            checks.warn(f"{text}. The column is taken for categories.")
        encoding.append({"name": name, "categories": categories})
    return encoding


def encode(table: Table, encoding: Sequence[Mapping[str, Any]], fill: bool) -> np.ndarray:
    """The table as float32 (rows, features); the order of its columns does not matter.

    Raises
    ------
    ValueError
        A column is missing, a value is no number or a category that was not there in training, or it is
        missing and ``fill`` is False.
    """
    parts = []
    for column in encoding:
        name, cells = column["name"], table.column(column["name"])
        known = column.get("categories")
        part = np.zeros((len(cells), 1 if known is None else len(known)), np.float32)
        for row, cell in enumerate(cells):
            if is_missing(cell):
                if not fill:
                    raise ValueError(
                        f"{table.place(row, name)}: the value is missing, and the network was trained without"
                        " missing values. Fill it in, or train with --missing fill."
                    )
            elif known is None:
                value = _number(cell)
                if value is None:
                    raise ValueError(f"{table.place(row, name)}: expected a number, got {cell!r}.")
                part[row] = (value - column["mean"]) / column["deviation"]
            elif cell not in known:
                raise ValueError(
                    f"{table.place(row, name)}: the category {cell!r} was not there in training. Known:"
                    f" {', '.join(known)}."
                )
            else:
                part[row, known.index(cell)] = 1
        parts.append(part)
    return np.concatenate(parts, axis=1)
