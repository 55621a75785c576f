"""Work on whole matrices, divided among the processes of a training: each has some, all get the results."""

from typing import Any

import numpy as np

from npnet.internal.processes import Processes
from npnet.kernels import Kernels

__all__ = ["DividedKernels", "owners"]


class DividedKernels:
    """Kernels of one of several processes that all compute an update from the same gradients.

    What costs much beside its result, the orthogonalisation of matrices, each process does for some of them.
    All else is as in ``kernels``.
    """

    def __init__(self, kernels: Kernels, group: Processes):
        self.kernels, self.group = kernels, group

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernels, name)

    def orthogonalize(self, matrices: list[np.ndarray], steps: int) -> list[np.ndarray]:
        """Return U V' of each matrix, computed by its owner."""
        rank, size = self.group.rank, self.group.size
        if min(size, len(matrices)) < 2:
            return self.kernels.orthogonalize(matrices, steps)
        owner = owners([matrix.shape for matrix in matrices], size)
        own = [matrix for matrix, its in zip(matrices, owner, strict=True) if its == rank]
        computed = [result.reshape(-1) for result in self.kernels.orthogonalize(own, steps)]
        sizes = [sum(m.size for m, its in zip(matrices, owner, strict=True) if its == q) for q in range(size)]
        numbers = np.concatenate([np.empty(0, matrices[0].dtype), *computed])
        everywhere = np.split(self.group.gather_parts(numbers, sizes), np.cumsum(sizes)[:-1])
        results = []
        for matrix, its in zip(matrices, owner, strict=True):
            result, everywhere[its] = np.split(everywhere[its], [matrix.size])
            results.append(result.reshape(matrix.shape))
        return results


def owners(shapes: list[tuple[int, ...]], size: int) -> list[int]:
    """Return which process orthogonalises each matrix: the costliest first, each by who has least to do."""
    # x'x and x p for the product p of polynomials of x'x, which five Newton-Schulz steps make of squares.
    cost = [min(shape) ** 2 * (2 * max(shape) + 17 * min(shape)) for shape in shapes]
    work, owner = [0] * size, [0] * len(shapes)
    for i in sorted(range(len(shapes)), key=lambda i: -cost[i]):
        owner[i] = work.index(min(work))
        work[owner[i]] += cost[i]
    return owner
