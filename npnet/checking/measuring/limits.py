"""The two limits nothing on a machine can pass: arithmetic and memory traffic, measured."""

from dataclasses import dataclass
from importlib import import_module

__all__ = ["FOOTPRINTS", "MB", "Limits", "measure_limits"]

MB = 2**20
FOOTPRINTS = (1.5 * MB, 3 * MB, 24 * MB, 384 * MB)  # bytes: in one or two second caches, the third, memory


@dataclass(frozen=True)
class Limits:
    """GFLOP/s by dtype on one core and on all threads; GB/s on all threads by the bytes gone through.

    ``matrix_unit`` are GFLOP/s of float32 on one core's matrix unit and on all of them, where there are any:
    six products of bfloat16 count as one. ``peak`` is that of multiply-adds all the same, which every peer
    can reach; what runs on the unit may pass it.
    """

    threads: int
    one_core: dict[str, float]
    all_cores: dict[str, float]
    bandwidths: dict[float, float]
    matrix_unit: tuple[float, float] | None = None

    def peak(self, dtype: str = "float32", threads: int | None = None) -> float:
        """GFLOP/s of ``threads`` threads, by default all."""
        if threads in (None, self.threads):
            return self.all_cores[dtype]
        return self.one_core[dtype] * threads

    def bandwidth(self, footprint: float) -> float:
        """GB/s for data of ``footprint`` bytes: of the next larger measured, which the same caches hold."""
        return max(
            rate for size, rate in self.bandwidths.items() if size >= min(footprint, max(self.bandwidths))
        )

    def least(self, flops: float, traffic: float, footprint: float) -> tuple[float, str]:
        """Return the seconds of ``flops`` operations or of ``traffic`` bytes, whichever is longer, and which.

        ``footprint`` is the size of the data in bytes; it decides which cache can hold it.
        """
        arithmetic = flops / self.peak() / 1e9
        moving = traffic / self.bandwidth(footprint) / 1e9
        return max((arithmetic, "FMA"), (moving, "traffic"))

    def __str__(self) -> str:
        flops = ", ".join(
            f"{dtype} {one:.0f} GFLOP/s on one core, {self.all_cores[dtype]:.0f} on {self.threads}"
            for dtype, one in self.one_core.items()
        )
        traffic = ", ".join(f"{rate:.0f} in {size / MB:g} MiB" for size, rate in self.bandwidths.items())
        lines = [f"limits    multiply-add {flops}"]
        if self.matrix_unit:
            one, all_cores = self.matrix_unit
            lines.append(
                f"matrix unit float32 {one:.0f} GFLOP/s on one core, {all_cores:.0f} on {self.threads}"
            )
        lines.append(f"axpy GB/s on {self.threads}: {traffic}")
        return "\n          ".join(lines)


def measure_limits(threads: int, seconds: float = 1.0) -> Limits:
    """Measure the limits with ``threads`` threads, trying for ``seconds`` at each; it needs Numba."""
    kernels = import_module("npnet.kernels.products.limits")
    rates = {
        count: {
            dtype: kernels.multiply_add_rate(dtype, count, seconds) for dtype in ("float32", "float64")
        }
        for count in {1, threads}
    }  # fmt: skip
    bandwidths = {size: kernels.axpy_rate(int(size), threads, seconds) for size in FOOTPRINTS}
    unit = None
    if import_module("npnet.kernels.vectors.registers").AMX:
        unit = tuple(kernels.matrix_unit_rate(count, seconds) for count in (1, threads))
    return Limits(threads, rates[1], rates[threads], bandwidths, unit)
