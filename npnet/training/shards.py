"""Which samples of a batch make which shard, which process has it, and sums over shards.

A batch is cut into a fixed number of shards, and every sum over the batch is a binary tree over them,
((0+1)+(2+3))+((4+5)+(6+7)). A process has some neighbouring shards. It adds up the largest subtrees that lie
within them; what is above is added up where the processes meet. Floating-point addition is commutative but
not associative, so the order of the tree, not the number of processes, decides the bits.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from npnet.internal.processes import Processes
from npnet.internal.strict import is_own
from npnet.layers.layer import Layer
from npnet.layers.parameter import Parameter

__all__ = ["Space", "Sums", "add_up", "bounds", "gradient_of", "share", "subtrees"]

Subtree = tuple[int, int]  # the first of its shards, and the one behind its last
ALIGNED = 16  # pieces of sums are multiples of this, so that each begins on a line of the cache


def gradient_of(parameter: Parameter, link: Layer) -> np.ndarray:
    """Return the gradient that a link has just set for a shard.

    A link that is not npnet's own may write the next shard's into the same array, so of it a copy.
    """
    return parameter.grad if is_own(type(link)) else parameter.grad.copy()


def bounds(n: int, shards: int) -> list[int]:
    """Return where the shards of n samples begin, and n; of few samples the last shards are empty."""
    least, more = divmod(n, shards)
    return [least * shard + min(shard, more) for shard in range(shards + 1)]


def share(shards: int, rank: int, size: int) -> range:
    """Return the shards of a process: all if it is alone, as many neighbours as others have, or one more."""
    return range(shards * rank // size, shards * (rank + 1) // size)


def middle(low: int, high: int) -> int:
    """Return where the tree over some shards divides: its left part is the largest that is complete."""
    return low + (1 << (high - low - 1).bit_length() - 1)


def subtrees(low: int, high: int, within: range) -> list[Subtree]:
    """Return the largest subtrees of the tree over shards low to high - 1 that lie in ``within``."""
    if high <= within.start or low >= within.stop:
        return []
    if within.start <= low and high <= within.stop:
        return [(low, high)]
    between = middle(low, high)
    return subtrees(low, between, within) + subtrees(between, high, within)


def add_up(low: int, high: int, parts: Mapping[Subtree, np.ndarray], overwrites: bool = False) -> np.ndarray:
    """Return the sum over shards low to high - 1, of which ``parts`` has the sums of some subtrees.

    Parameters
    ----------
    overwrites
        Whether parts may be overwritten by sums.
    """
    if (low, high) in parts:
        return parts[low, high]
    between = middle(low, high)
    left, right = (add_up(*half, parts, overwrites) for half in ((low, between), (between, high)))
    is_ours = overwrites or (low, between) not in parts
    return np.add(left, right, out=left if is_ours and np.ndim(left) else None)


class Space:
    """Memory for a sum of so many numbers over all shards, which one step after the other uses.

    Attributes
    ----------
    size
        How many numbers there are.
    pieces
        Which of the numbers each process adds up.
    mine
        Which this one does.
    incoming
        These, of the subtrees of each process.
    """

    def __init__(self, sums: "Sums", n: int, dtype: np.dtype):
        self.size, count = n, sums.group.size
        piece = -(-n // (ALIGNED * count)) * ALIGNED
        cuts = [min(n, piece * k) for k in range(count + 1)]
        self.pieces = [slice(*ends) for ends in pairwise(cuts)]
        self.mine = self.pieces[sums.group.rank]
        own = self.mine.stop - self.mine.start
        self.incoming = [np.empty((len(trees), own), dtype) for trees in sums.subtrees]


class Sums:
    """Sums over the shards of all processes: the same bits for every number of processes.

    Attributes
    ----------
    mine
        The shards of this process.
    counts
        How many shards each process has.
    """

    def __init__(self, group: Processes, shards: int):
        self.group, self.shards = group, shards
        shares = [share(shards, rank, group.size) for rank in range(group.size)]
        self.mine = shares[group.rank]
        self.subtrees = [subtrees(0, shards, within) for within in shares]
        self.own = self.subtrees[group.rank]
        self.counts = [len(within) for within in shares]

    def over_own(
        self, parts: Mapping[int, np.ndarray], n: int, dtype: np.dtype, overwrites: bool = False
    ) -> list[np.ndarray]:
        """Return the sums of n numbers over this process's subtrees; ``parts`` has the numbers by shard.

        What it lacks, empty shards, counts as zeros. (Left out, they would leave a -0 that another number
        of processes makes a 0.)
        """
        nothing = np.zeros((), dtype)
        leaves = {(shard, shard + 1): parts.get(shard, nothing) for shard in self.mine}
        totals = [add_up(*subtree, leaves, overwrites) for subtree in self.own]
        return [total.reshape(-1) if total.ndim else np.zeros(n, dtype) for total in totals]

    def over_processes(self, own: list[np.ndarray], space: Space, total: np.ndarray) -> None:
        """Write the sum over all shards, given the sums of this process's subtrees, which are overwritten.

        Each process adds up one piece and sends it to the others. Where it has one subtree it sends
        2 (P-1)/P of the numbers, as little as can be (Patarasuk & Yuan 2009).
        """
        total[space.mine] = self.piece(own, space)
        self.complete(total, space)

    def piece(self, own: list[np.ndarray], space: Space) -> np.ndarray:
        """Return this process's piece of the sum over all shards ("reduce-scatter")."""
        rank, incoming = self.group.rank, list(space.incoming)
        outgoing = [
            own[0][None, p] if len(own) == 1 else np.stack([row[p] for row in own]) for p in space.pieces
        ]
        incoming[rank] = outgoing[rank]
        self.group.exchange(outgoing, incoming)
        parts = {
            tree: row
            for trees, rows in zip(self.subtrees, incoming, strict=True)
            for tree, row in zip(trees, rows, strict=True)
        }
        return add_up(0, self.shards, parts, overwrites=True)

    def complete(self, array: np.ndarray, space: Space) -> None:
        """Fill in the pieces that the other processes have of an array ("allgather")."""
        pieces = [array[p] for p in space.pieces]
        self.group.exchange([pieces[self.group.rank]] * self.group.size, pieces)

    def of(self, parts: Mapping[int, np.ndarray], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return the sum over all shards of small arrays; ``parts`` has those of this process.

        All send all of their subtrees to all: more bytes than ``over_processes``, but half of the messages.
        """
        n = int(np.prod(shape))
        own = np.concatenate(self.over_own(parts, n, dtype)).reshape(-1, n)
        rows = self.group.gather_parts(own, [len(trees) for trees in self.subtrees])
        trees = [tree for trees in self.subtrees for tree in trees]
        return add_up(0, self.shards, dict(zip(trees, rows, strict=True))).reshape(shape)
