"""The outputs for one to three samples: Dense layers in a row, with their activations, are one compiled call.

What is exactly known is computed so (``exact.py``), all else link by link. What the kernel is given is made
once and kept for as long as weights and settings are the same objects.
"""

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from npnet.internal.exact import Known, same
from npnet.kernels import rules
from npnet.kernels.fused import few_rows
from npnet.kernels.products.few import FEW_ROWS
from npnet.layers import activations
from npnet.layers.activations import Elementwise, LogSoftmax, RowWise, Softmax
from npnet.layers.chain import Chain
from npnet.layers.core import Dense, Dropout
from npnet.layers.layer import Layer

__all__ = ["outputs"]

KNOWN = Known([Dense, Dropout, *activations.NAMES.values()])
ROW_WISE: dict[Any, str] = {Softmax: "softmax_forward", LogSoftmax: "log_softmax_forward"}  # their kernels


class Made(NamedTuple):
    """The stages of a chain, and the types of the links they were made for.

    They know the links by their places only: what refers to a layer may refer to its chain, which would then
    never be freed.
    """

    made_for: list[Any]
    stages: "list[Stage]"


_made: WeakKeyDictionary[Chain, Made] = WeakKeyDictionary()


def outputs(chain: Chain, links: list[Layer], x: np.ndarray) -> np.ndarray:
    """Return the output of the chain's links, all or the last ones, which compute with Numba's kernels."""
    if len(x) > FEW_ROWS or not KNOWN.unchanged(links):
        return _one_by_one(links, x)
    first = 0
    for stage in _stages(chain, links):
        x = stage.forward(links[first : first + stage.links], x)
        first += stage.links
    return x


def _one_by_one(links: list[Layer], x: np.ndarray) -> np.ndarray:
    """Return the output of the links as they are."""
    for link in links:
        x = link.forward(x, False)
    return x


def _stages(chain: Chain, links: list[Layer]) -> "list[Stage]":
    """Return what computes the links, in their order."""
    known = [link in KNOWN and link.kernels is chain.kernels for link in links]  # mixed precision has others
    made_for = [*map(type, links), *known]
    made = _made.get(chain)
    if made is not None and same(made.made_for, made_for):
        return made.stages
    stages: list[Stage] = []
    for link, is_known in zip(links, known, strict=True):
        if not (is_known and stages and stages[-1].absorb(link)):
            stages.append(Stage(is_known and isinstance(link, Dense)))
    _made[chain] = Made(made_for, stages)
    return stages


class Stage:
    """Links in a row: Dense layers, each with its activation, or any other link by itself.

    Parameters
    ----------
    is_dense
        Whether its first link is a Dense layer that can be computed with the next ones.

    Attributes
    ----------
    links
        How many links it computes.
    layers
        The places of each Dense layer and of its activation among them.
    network
        The weights and settings of the last call, and what the kernel makes of them; None: it cannot.
    """

    def __init__(self, is_dense: bool):
        self.links = 1
        self.layers: list[tuple[int, int | None]] = [(0, None)] if is_dense else []
        self.network: tuple[list[Any], few_rows.Network | None] = [], None

    def absorb(self, link: Layer) -> bool:
        """Compute the next link as well, if this stage can; return whether it does."""
        if not self.layers:
            return False
        dense, activation = self.layers[-1]
        if isinstance(link, Dense):
            self.layers.append((self.links, None))
        elif isinstance(link, (Elementwise, RowWise)) and activation is None:
            self.layers[-1] = dense, self.links
        elif not isinstance(link, Dropout):  # which does nothing outside of training
            return False
        self.links += 1
        return True

    def forward(self, links: list[Layer], x: np.ndarray) -> np.ndarray:
        """Return the output of these links."""
        if len(self.layers) < 2:  # one call already
            return _one_by_one(links, x)
        settings: list[Any] = []
        for place, active in self.layers:
            dense: Any = links[place]
            settings += dense.weight.numbers, None if dense.bias is None else dense.bias.numbers
            activation = None if active is None else links[active]
            if isinstance(activation, Elementwise):
                settings += activation.rule, activation.constants
            else:
                settings += ROW_WISE.get(type(activation), rules.linear), ()
        before, network = self.network
        if not same(before, settings):
            layers = [few_rows.Layer(*settings[i : i + 4]) for i in range(0, len(settings), 4)]
            network = few_rows.network(layers) if few_rows.can_read(layers) else None
            self.network = settings, network
        if network is None or not few_rows.takes(network, x):
            return _one_by_one(links, x)
        return few_rows.forward(network, x)
