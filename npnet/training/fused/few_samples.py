"""The outputs for one to three samples: Dense layers in a row, with their activations, are one compiled call.

What is exactly known is computed so (``exact.py``), all else link by link. What the kernel is given is made
once and kept for as long as weights and settings are the same objects.
"""

import itertools
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from npnet.internal.exact import Known, same
from npnet.kernels import Kernels, rules
from npnet.kernels.fused import few_rows
from npnet.kernels.products.few import FEW_ROWS
from npnet.layers import activations
from npnet.layers.activations import Elementwise, LogSoftmax, RowWise, Softmax
from npnet.layers.chain import Chain
from npnet.layers.core import Dense, Dropout
from npnet.layers.layer import Layer
from npnet.training.setup import blas_threads

__all__ = ["outputs"]

KNOWN = Known([Dense, Dropout, *activations.NAMES.values()])
ROW_WISE: dict[Any, str] = {Softmax: "softmax_forward", LogSoftmax: "log_softmax_forward"}  # their kernels


class Stage(NamedTuple):
    """Links in a row.

    Attributes
    ----------
    links
        How many they are.
    network
        What computes them in one call; None: they are computed one by one.
    """

    links: int
    network: few_rows.Network | None


class Made(NamedTuple):
    """The stages of a chain, and what they were made from.

    They know the links by their places only: what refers to a layer may refer to its chain, which would then
    never be freed.
    """

    made_from: list[Any]
    stages: list[Stage]


_made: WeakKeyDictionary[Chain, Made] = WeakKeyDictionary()


def outputs(chain: Chain, links: list[Layer], x: np.ndarray) -> np.ndarray:
    """Return the output of the chain's links, all or the last ones, which compute with Numba's kernels."""
    if len(x) > FEW_ROWS or not KNOWN.unchanged(links):
        return _one_by_one(chain, links, x)
    settings = [_settings(link, chain.kernels) for link in links]
    made_from = list(itertools.chain.from_iterable(settings))
    made = _made.get(chain)
    if made is None or not same(made.made_from, made_from):
        made = _made[chain] = Made(made_from, _stages(settings))
    first = 0
    for count, network in made.stages:
        if network is not None and few_rows.takes(network, x):
            x = few_rows.forward(network, x)
        else:
            x = _one_by_one(chain, links[first : first + count], x)
        first += count
    return x


def _one_by_one(chain: Chain, links: list[Layer], x: np.ndarray) -> np.ndarray:
    """Return the output of some of the chain's links as they are."""
    with blas_threads(chain):
        for link in links:
            x = link.forward(x, False)
    return x


def _settings(link: Layer, kernels: Kernels) -> tuple[Any, ...]:
    """Return what a link is to the kernel, and all that its output depends on besides x."""
    if link not in KNOWN or link.kernels is not kernels:  # mixed precision has others
        return ("other",)
    if isinstance(link, Dense):
        return "dense", link.weight.numbers, None if link.bias is None else link.bias.numbers
    if isinstance(link, Elementwise):
        return "activation", link.rule, *link.constants
    if isinstance(link, RowWise):
        return "activation", ROW_WISE[type(link)]
    return ("nothing",)  # which Dropout does outside of training


def _stages(settings: list[tuple[Any, ...]]) -> list[Stage]:
    """Return the stages: Dense layers in a row, each with its activation, and any other link by itself."""
    counts: list[int] = []
    rows: list[list[few_rows.Layer]] = []
    for kind, *values in settings:
        row = rows[-1] if rows else []
        if kind == "dense" and row:
            row.append(few_rows.Layer(*values))
        elif kind == "activation" and row and row[-1].activation is rules.linear:
            row[-1] = row[-1]._replace(activation=values[0], constants=tuple(values[1:]))
        elif not (kind == "nothing" and row):
            rows.append([few_rows.Layer(*values)] if kind == "dense" else [])
            counts.append(0)
        counts[-1] += 1
    return [Stage(*pair) for pair in zip(counts, map(_network, rows), strict=True)]


def _network(layers: list[few_rows.Layer]) -> few_rows.Network | None:
    """Return these layers as one call; None where they are one call already, or no kernel reads them."""
    return few_rows.network(layers) if len(layers) > 1 and few_rows.can_read(layers) else None
