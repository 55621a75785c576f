"""What the cells of a table's column say: nothing, a number, or a number written so that it is none."""

import math
import re
from collections.abc import Sequence

__all__ = ["MISSING", "hold_dates", "is_missing", "number", "oddity"]

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})  # in small letters
CURRENCIES = "$€£¥₹₽₩₺₴₪₫฿₱₦¢"
SIGN = re.compile(rf"^([+-]?)\s*[{CURRENCIES}]\s*|\s*[{CURRENCIES}%]$")  # before a number, or behind it
DATE = re.compile(r"(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{1,2}([-/.])\d{1,2}\3\d{4})([ T]\d.*)?")


def _written(groups: str, mark: str) -> re.Pattern:
    """Numbers whose decimals come after ``mark``, with one of ``groups`` between thousands, or nothing."""
    thousands = rf"[1-9]\d{{0,2}}(?P<gap>[{groups}'’ \u00a0\u202f])\d{{3}}((?P=gap)\d{{3}})*"
    return re.compile(rf"(?=.*\d)[+-]?({thousands}|\d*)([{mark}]\d*)?")


WRITTEN = {".": _written(",", "."), ",": _written(".", ",")}  # by decimal mark


def is_missing(cell: str) -> bool:
    """Whether a cell holds no value: it is empty, or NA, NaN, null, None, ?."""
    return cell.lower() in MISSING


def number(cell: str) -> float | None:
    """What a cell says, infinite where that is too large for float64; None of what is no number."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return None if math.isnan(value) or "_" in cell else value  # Python reads 1_000 as a number


def hold_dates(cells: Sequence[str]) -> bool:
    """Whether all cells that are not missing are dates: 2024-12-31, 31.12.2024, 12/31/2024 23:59."""
    return all(DATE.fullmatch(cell) for cell in cells if not is_missing(cell))


def oddity(cells: Sequence[str]) -> tuple[int, str] | None:
    """The first text of a column whose values are numbers for the most part, and what is odd about it.

    Numbers are also those with the sign of a currency or of percent, with a decimal comma or with groups of
    three digits. Whether the comma of 1,288 is a decimal one, the other cells may tell.
    """
    rows = [row for row, cell in enumerate(cells) if not is_missing(cell)]
    texts = [row for row in rows if number(cells[row]) is None]
    if not texts:
        return None
    read = [meanings for row in rows if (meanings := _read(cells[row]))]
    odd = [row for row in texts if _read(cells[row])]
    if 2 * (len(rows) - len(texts) + len(odd)) <= len(rows):
        return None
    if not odd:
        return texts[0], "is no number, as most of the column are"
    first, meanings = odd[0], _read(cells[odd[0]])
    marks = [mark for mark in WRITTEN if all(mark in others for others in read)]
    return first, _what(cells[first], {mark: meanings[mark] for mark in marks} or meanings)


def _read(cell: str) -> dict[str, str]:
    """A cell as a plain number, without sign and groups, for each decimal mark it may be written with."""
    bare = SIGN.sub(r"\1", cell)
    return {
        mark: "".join("." if letter == mark else letter for letter in bare if letter in f"+-0123456789{mark}")
        for mark, pattern in WRITTEN.items()
        if pattern.fullmatch(bare)
    }


def _what(cell: str, meanings: dict[str, str]) -> str:
    """What is odd about a number, and how to write it: ``meanings`` are plain numbers by decimal mark."""
    plain = list(dict.fromkeys(meanings.values()))
    if len(plain) == 2:
        readings = f"{plain[0]} with grouped thousands, or {plain[1]} with a decimal comma"
        return f"is {readings}; write the one you mean"
    if sign := SIGN.search(cell):
        what = f"a {'percent' if sign[0].strip() == '%' else 'currency'} sign"
    elif "," in cell and "." not in meanings:
        what = "a decimal comma"
    else:
        what = "grouped thousands"
    return f"has {what}; write {plain[0]}, and all of the column so"
