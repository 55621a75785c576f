"""The table of layers."""

import sys
from collections.abc import Callable
from html import escape
from typing import Any

from npnet.internal.progress import can_encode, terminal_columns
from npnet.layers.chain import Chain
from npnet.plotting import markup

__all__ = [
    "ASCII",
    "BOX",
    "HEADER",
    "binary_size",
    "html_summary",
    "layer_rows",
    "policies",
    "print_summary",
    "table",
    "totals",
]

BOX = "┏┳┓┡╇┩├┼┤└┴┘━─┃│…"
HEADER = ("Layer (type)", "Output Shape", "Param #")
ASCII = str.maketrans(BOX, "++++++++++++--||.")


def print_summary(model: Chain, line_length: int | None, print_fn: Callable[[str], Any]) -> None:
    """Print a row a layer and the totals.

    Parameters
    ----------
    line_length
        Columns; by default those of the terminal, at most 88.
    print_fn
        Called once with each line.
    """
    width = line_length or min(88, terminal_columns() - 4)
    print_fn(f'Model: "{model.name}"')
    plain = print_fn is print and not can_encode(BOX, sys.stdout)
    for line in table([HEADER, *layer_rows(model)], width):
        print_fn(line.translate(ASCII) if plain else line)
    for line in totals(model):
        print_fn(f" {line}")


def html_summary(model: Chain) -> str:
    """Return the same as an HTML table, for notebooks."""
    lines = "<br>".join(totals(model))
    return f"<p><b>{escape(model.name)}</b></p>{markup.table(HEADER, layer_rows(model))}<p>{lines}</p>"


def layer_rows(model: Chain) -> list[tuple[str, str, str]]:
    """Return (name and type, output shape, number of parameters) of each layer."""
    rows = []
    shape = model.input_shape
    for layer in model.layers:
        output, count = "?", "0 (unbuilt)"
        if model.built and shape is not None:
            shape = layer.compute_output_shape(shape)
            output = f"({', '.join(map(str, (None, *shape)))})"
            count = f"{layer.count_params():,}"
        rows.append((f"{layer.name} ({type(layer).__name__})", output, count))
    return rows


def totals(model: Chain) -> list[str]:
    """Return the lines below the table: how many parameters of which kind, and their size."""
    trainable = sum(parameter.size for parameter in model.trainable_parameters)
    total = sum(layer.count_params() for layer in model.layers)
    lines = [
        f"{kind} params: {size:,} ({binary_size(size * model.dtype.itemsize)})"
        for kind, size in (("Total", total), ("Trainable", trainable), ("Non-trainable", total - trainable))
    ]
    if (said := policies(model)) != "float32":
        lines.append(f"Dtype policy: {said}")
    memory = [slot.size for parameter in model.trainable_parameters for slot in parameter.slots.values()]
    if memory:
        lines.append(f"Optimizer params: {sum(memory):,} ({binary_size(sum(memory) * model.dtype.itemsize)})")
    return lines


def policies(model: Chain) -> str:
    """Return "mixed_bfloat16; float32 of dense_2": the model's dtype policy, and where there is another."""
    others: dict[str, list[str]] = {}
    for path, layer in model.leaves().items():
        if layer.dtype_policy != model.dtype_policy:
            others.setdefault(layer.dtype_policy.name, []).append(path)
    own = [f"{name} of {', '.join(paths)}" for name, paths in others.items()]
    return "; ".join([model.dtype_policy.name, *own])


def table(rows: list[tuple[str, str, str]], width: int) -> list[str]:
    """Return a boxed table of three columns, the last aligned right; long cells end in an ellipsis."""
    inner = max(width - 10, 30)
    last = max(len(row[2]) for row in rows)
    middle = max(len(row[1]) for row in rows)
    first = max(inner - middle - last, 12)
    spare = max(0, first - max(len(row[0]) for row in rows))
    middle += spare // 3
    last += spare // 3
    first -= 2 * (spare // 3)
    widths = (first, middle, last)

    def line(cells: tuple[str, str, str], edge: str) -> str:
        cut = [c if len(c) <= w else c[: w - 1] + "…" for c, w in zip(cells, widths, strict=True)]
        return (
            f"{edge} {cut[0]:<{widths[0]}} {edge} {cut[1]:<{widths[1]}} {edge} {cut[2]:>{widths[2]}} {edge}"
        )

    def rule(left: str, middle: str, right: str, stroke: str) -> str:
        return left + middle.join(stroke * (w + 2) for w in widths) + right

    lines = [rule("┏", "┳", "┓", "━"), line(rows[0], "┃"), rule("┡", "╇", "┩", "━")]
    for i, row in enumerate(rows[1:]):
        if i:
            lines.append(rule("├", "┼", "┤", "─"))
        lines.append(line(row, "│"))
    return [*lines, rule("└", "┴", "┘", "─")]


def binary_size(size: float) -> str:
    """Return bytes as "7.02 MB" (1 MB = 1024 KB, as Keras counts)."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            break
        size /= 1024
    return f"{size:.2f} {unit}"
