"""Mixed precision: a set of kernels whose matrix products multiply bfloat16 and sum float32.

What is multiplied is rounded to bfloat16 before, whatever is summed, added or computed element by element is
float32, as it comes and as it goes. A product of two bfloat16 is exact in float32, so a processor that
multiplies bfloat16 and sums float32 computes the same, to the order of its sums.

Source: Kalamkar et al., "A Study of BFLOAT16 for Deep Learning Training", 2019.
"""

from functools import cache
from typing import Any

from npnet.kernels import Kernels, name_of, restored

__all__ = ["Mixed", "computing_in", "why_no_faster"]


def computing_in(dtype: str, kernels: Kernels) -> Kernels:
    """Return the set of kernels whose products multiply numbers of a dtype, and which is as given otherwise.

    Parameters
    ----------
    dtype
        "bfloat16", or "float32" or "float64" for a set that rounds nothing.
    kernels
        A set, one that rounds or one that does not.
    """
    exact = kernels.exact if isinstance(kernels, Mixed) else kernels
    if dtype != "bfloat16":
        return exact
    name = name_of(exact)
    return Mixed(exact) if name is None else _of_set(name)


@cache  # so that each set has one
def _of_set(name: str) -> "Mixed":
    return Mixed(restored(name))


def why_no_faster(kernels: Kernels) -> str | None:
    """Return why a set multiplies bfloat16 no faster than float32, or None: it does it on a matrix unit."""
    if name_of(kernels) == "numpy":
        return "NumPy's kernels round numbers to bfloat16 and multiply them in float32"
    from npnet.kernels.vectors.registers import AMX

    if AMX:
        return None
    return "there is no matrix unit (Intel AMX), so numbers are rounded to bfloat16 and multiplied in float32"


class Mixed:
    """Kernels of a set, but that operands of matrix products and convolutions are rounded to bfloat16.

    It can be copied and pickled, as the module of a set cannot.

    Attributes
    ----------
    exact
        The set that does not round.
    """

    def __init__(self, exact: Kernels):
        self.exact = exact

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # a module's own name, or what copy and pickle look for
            raise AttributeError(name)
        return getattr(self.exact, name)

    def __reduce__(self) -> tuple[Any, ...]:
        name = name_of(self.exact)
        return (Mixed, (self.exact,)) if name is None else (_of_set, (name,))

    # --- products -------------------------------------------------------------------------------------------

    def dense_forward(self, x: Any, weight: Any, bias: Any) -> Any:
        """y = x W + b."""
        y = self.exact.multiply_bfloat16(x, weight)
        return y if bias is None else y + bias

    def dense_backward_parameters(self, x: Any, dy: Any) -> Any:
        """dW = x' dy,  db = column sums of dy, which nothing multiplies: it is not rounded for them."""
        return self.exact.multiply_bfloat16(x.T, dy), dy.sum(axis=0)

    def dense_backward_input(self, dy: Any, weight: Any) -> Any:
        """dx = dy W'."""
        return self.exact.multiply_bfloat16(dy, weight.T)

    # --- convolutions ---------------------------------------------------------------------------------------

    def convolution_forward(self, x: Any, weight: Any, bias: Any, geometry: Any) -> Any:
        """y = sum over taps of x[at] W[tap], plus b."""
        rounded = self.exact.to_bfloat16
        return self.exact.convolution_forward(rounded(x), rounded(weight), bias, geometry)

    def convolution_backward_parameters(self, x: Any, dy: Any, geometry: Any) -> Any:
        """dW = x[at]' dy for each tap,  db = sum of dy, which is not rounded for it."""
        rounded = self.exact.to_bfloat16
        dweight, _ = self.exact.convolution_backward_parameters(rounded(x), rounded(dy), geometry)
        return dweight, dy.sum(axis=(0, 1, 2))

    def convolution_backward_input(self, dy: Any, weight: Any, geometry: Any) -> Any:
        """dx = the sum over taps of dy W[tap]', laid where x[at] was."""
        rounded = self.exact.to_bfloat16
        return self.exact.convolution_backward_input(rounded(dy), rounded(weight), geometry)
