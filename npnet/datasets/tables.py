"""A table of a CSV file as numbers for a network: what each column is, and how its values are encoded.

A column whose values are all numbers is standardised: (value - mean) / deviation. Any other holds categories,
and becomes one column of 0 and 1 for each of them. The encoding is plain data, which is kept with the model.
"""

import csv
import io
import itertools
import math
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from npnet.datasets.cells import hold_dates, is_missing, number, oddity
from npnet.internal import checks
from npnet.internal.words import quantity

__all__ = [
    "MOST_CATEGORIES",
    "Encoding",
    "Table",
    "describe",
    "encode",
    "ignoring",
    "measure",
    "no_number",
    "numbers_of",
    "read",
    "scale",
    "standardise",
]

Encoding = list[dict[str, Any]]  # of each column: its "name", and "mean" and "deviation" or its "categories"

MOST_CATEGORIES = 100  # of one column: a column of names or numbers of rows says nothing of other rows
LARGEST = float(np.finfo(np.float32).max)  # number in a cell; its square is a float64, for the deviation
FARTHEST = LARGEST**0.25  # number of deviations: times a weight as large, and squared in a loss, a float32


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
            lines = list(_records(place, file))
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is no text in UTF-8: {error}. Save it as CSV UTF-8.") from error
    (_, columns), *records = lines or [(1, [])]
    if len(columns) > 1:  # in a table of one column a blank line is a missing value
        records = [(line, cells) for line, cells in records if cells != [""]]
    for line, cells in records:
        if len(cells) != len(columns):
            raise ValueError(
                f"{place}, line {line}, has {quantity(len(cells), 'cell')} where the first line names"
                f" {quantity(len(columns), 'column')}."
            )
    twice = {name for name in columns if columns.count(name) > 1}
    if twice or "" in columns:
        raise ValueError(f"{place} must name each column once in its first line, got {', '.join(columns)}.")
    if not records:
        raise ValueError(f"{place} has no rows below its first line.")
    return Table(place, columns, [cells for _, cells in records], [line for line, _ in records])


def _records(place: Path, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each record, the names of columns too, with the line that it ends in."""
    skipped, first = 0, file.readline()
    while first and not first.strip():
        skipped, first = skipped + 1, file.readline()
    unquoted = re.sub('"[^"]*"?', "", first)  # a name may hold a separator in quotes
    separator = max(",;\t", key=unquoted.count)
    reader = csv.reader(itertools.chain([first], file), delimiter=separator, strict=True)
    begins = 1 + skipped
    try:
        for cells in reader:
            if cells:  # no empty line
                yield skipped + reader.line_num, [cell.strip() for cell in cells]
            begins = 1 + skipped + reader.line_num
    except csv.Error as error:
        what = str(error)
        if what == "unexpected end of data":
            what = 'a quote (") is opened and not closed up to the end of the file'
        raise ValueError(
            f"{place} is no CSV file: in the row that begins in line {begins} {what}."
        ) from error


def numbers_of(table: Table, name: str) -> np.ndarray | None:
    """The cells of a column as float64, NaN where one is missing; None where one is no number.

    Raises
    ------
    ValueError
        All are numbers, and one is too large for float32.
    """
    cells = table.column(name)
    values = [math.nan if is_missing(cell) else number(cell) for cell in cells]
    if None in values:
        return None
    result = np.array(values, np.float64)
    _refuse_any(
        table,
        name,
        np.abs(result) > LARGEST,
        f"too large for float32, which holds numbers up to {LARGEST:.2g}",
    )
    return result


def _refuse_any(table: Table, name: str, wrong: np.ndarray, what: str) -> None:
    """Raise a ValueError that names the first wrong cell of a column, if there is one."""
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{table.place(row, name)}: {table.column(name)[row]!r} is {what}. Correct it, or remove the row."
        )


def ignoring(names: Sequence[str]) -> str:
    """The option of ``npnet train`` that leaves columns out, as a shell reads it."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(names)
    return f"--ignore={shlex.quote(line.getvalue()[:-1])}"


def no_number(table: Table, name: str) -> str | None:
    """A sentence about the first text of a column whose values are numbers for the most part; or None."""
    cells = table.column(name)
    found = oddity(cells)
    return found and f"{table.place(found[0], name)}: {cells[found[0]]!r} {found[1]}"


def measure(values: np.ndarray) -> dict[str, float]:
    """Mean and deviation to standardise by; 0 and 1 of no values, deviation 1 of equal ones."""
    if not values.size:
        return {"mean": 0.0, "deviation": 1.0}
    differ = values.min() < values.max()  # of equal values the rounding of their mean could be left
    return {"mean": float(values.mean()), "deviation": (float(values.std()) if differ else 0.0) or 1.0}


def scale(table: Table, name: str, values: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    """Mean and deviation of some rows of a column; warns where one value makes all others equal."""
    rows = rows[~np.isnan(values[rows])]
    found = measure(values[rows])
    told_apart = standardise(table, name, values, found)[rows]
    if len(np.unique(told_apart)) <= 2 < len(np.unique(values[rows])):
        far = rows[np.abs(told_apart).argmax()]
        checks.warn(
            f"{table.place(far, name)}: beside {table.column(name)[far]!r} all other values of the column are"
            " one number in float32. If it is wrong, correct it, or remove the row."
        )
    return found


def standardise(table: Table, name: str, values: np.ndarray, by: Mapping[str, Any]) -> np.ndarray:
    """The values of a column as float32, in deviations from the mean; NaN stays.

    Raises
    ------
    ValueError
        One is too far from the mean to be computed with.
    """
    with np.errstate(over="ignore"):  # is refused below
        result = (values - by["mean"]) / by["deviation"]
    _refuse_any(
        table,
        name,
        np.abs(result) > FARTHEST,
        f"more than {FARTHEST:.2g} deviations from the mean of the values trained on (mean {by['mean']:.4g},"
        f" deviation {by['deviation']:.4g})",
    )
    return result.astype(np.float32)


def describe(table: Table, names: Sequence[str], rows: np.ndarray, fill: bool) -> Encoding:
    """How the columns ``names`` are to be encoded: means and deviations of some rows, categories of all.

    Raises
    ------
    ValueError
        A value is missing and ``fill`` is False, a number is too large, or a column has more than
        ``MOST_CATEGORIES`` categories.
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
        values = numbers_of(table, name)
        if values is not None and not np.isnan(values).all():
            encoding.append({"name": name, **scale(table, name, values, rows)})
            continue
        categories = sorted({cell for cell in cells if not is_missing(cell)})
        if not categories:
            checks.warn(f"{table.path}: column {name!r} holds no value, and says nothing to the network.")
        text = no_number(table, name)
        if text and len(categories) > MOST_CATEGORIES:
            raise ValueError(f"{text}. Correct it, or leave the column out: {ignoring([name])}.")
        if len(categories) > MOST_CATEGORIES:
            raise ValueError(
                f"{table.path}: column {name!r} holds {len(categories)} different texts, more than"
                f" {MOST_CATEGORIES} categories. If they are names or dates, leave the column out:"
                f" {ignoring([name])}."
            )
        if text:
            checks.warn(f"{text}. The column is taken for categories.")
        elif categories and hold_dates(categories):
            checks.warn(
                f"{table.path}: the dates of column {name!r} are taken for {len(categories)} categories,"
                f" which no other date belongs to. Leave the column out: {ignoring([name])}."
            )
        encoding.append({"name": name, "categories": categories})
    return encoding


def encode(table: Table, encoding: Sequence[Mapping[str, Any]], fill: bool) -> np.ndarray:
    """The table as float32 (rows, features); the order of its columns does not matter.

    Raises
    ------
    ValueError
        A column is missing, a value is no number, too large or a category that was not there in training, or
        it is missing and ``fill`` is False.
    """
    parts = []
    for column in encoding:
        name, cells = column["name"], table.column(column["name"])
        missing = next((row for row, cell in enumerate(cells) if is_missing(cell)), None)
        if missing is not None and not fill:
            raise ValueError(
                f"{table.place(missing, name)}: the value is missing, and the network was trained without"
                " missing values. Fill it in, or train with --missing fill."
            )
        if "categories" in column:
            parts.append(_one_hot(table, name, column["categories"]))
            continue
        values = numbers_of(table, name)
        if values is None:
            text = next(
                row for row, cell in enumerate(cells) if not is_missing(cell) and number(cell) is None
            )
            raise ValueError(f"{table.place(text, name)}: expected a number, got {cells[text]!r}.")
        parts.append(np.nan_to_num(standardise(table, name, values, column))[:, None])
    return np.concatenate(parts, axis=1)


def _one_hot(table: Table, name: str, known: Sequence[str]) -> np.ndarray:
    cells = table.column(name)
    result = np.zeros((len(cells), len(known)), np.float32)
    for row, cell in enumerate(cells):
        if is_missing(cell):
            continue
        if cell not in known:
            raise ValueError(
                f"{table.place(row, name)}: the category {cell!r} was not there in training. Known:"
                f" {', '.join(known)}."
            )
        result[row, known.index(cell)] = 1
    return result
