"""What this machine is, and the two limits nothing on it can pass: arithmetic and memory traffic.

The limits are measured with kernels that do nothing else: independent fused multiply-adds in registers, and
the triad a = b + s c over arrays far larger than the caches (McCalpin's STREAM).
"""

import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle
from pathlib import Path

import numpy as np

from npnet.kernels.cpus import usable_cpus

PACKAGES = ("numpy", "numba", "llvmlite", "jax", "torch", "keras", "tensorflow-cpu", "scikit-learn")


def versions():
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _caches():
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        found.append(f"L{level}{kind[0].lower() if kind != 'Unified' else ''} {size}")
    return ", ".join(found) or "unknown"


def describe(threads):
    """Return the lines every benchmark begins with."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    width = "AVX-512" if features.get("avx512f") else "AVX2" if features.get("avx2") else "no AVX2"
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    return "\n".join(
        [
            f"machine   {_processor()}, {platform.machine()}, {width}; {platform.system()}",
            f"cores     {usable_cpus()} of {os.cpu_count()}; {threads} threads for everyone",
            f"caches    {_caches()} (of core 0)",
            f"versions  Python {platform.python_version()}, {packages}",
        ]
    )


# --- kernels that do nothing but reach the limit --------------------------------------------------------


def _fma_loop(dtype, chains=12):
    """Return an intrinsic ``loop(times, a, b)``: ``times`` rounds of ``chains`` independent v <- v a + b.

    A multiply-add takes four or five cycles and two can start in each, so ten chains keep both units busy;
    twelve vectors and the two operands still fit the sixteen registers of AVX2.
    """
    from llvmlite import binding, ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    width = 64 if binding.get_host_cpu_features().get("avx512f") else 32  # bytes in a register
    scalar, number = {
        np.float32: (ir.FloatType(), types.float32),
        np.float64: (ir.DoubleType(), types.float64),
    }[dtype]
    lanes = width // np.dtype(dtype).itemsize
    vector = ir.VectorType(scalar, lanes)

    @intrinsic
    def loop(typing_context, times, a, b):
        def codegen(context, builder, signature, arguments):
            times, a, b = arguments
            suffix = f"v{lanes}f{8 * np.dtype(dtype).itemsize}"
            kind = ir.FunctionType(vector, [vector] * 3)
            fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.{suffix}")
            everywhere = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
            undefined = ir.Constant(vector, ir.Undefined)

            def spread(value):
                first = builder.insert_element(undefined, value, ir.IntType(32)(0))
                return builder.shuffle_vector(first, undefined, everywhere)

            factor, term = spread(a), spread(b)
            entry = builder.block
            body, end = builder.append_basic_block("body"), builder.append_basic_block("end")
            builder.branch(body)
            builder.position_at_end(body)
            count = builder.phi(times.type)
            count.add_incoming(times.type(0), entry)
            sums = [builder.phi(vector) for _ in range(chains)]
            for i, total in enumerate(sums):
                total.add_incoming(ir.Constant(vector, [float(i)] * lanes), entry)
                total.add_incoming(builder.call(fma, [total, factor, term]), body)
            following = builder.add(count, times.type(1))
            count.add_incoming(following, body)
            builder.cbranch(builder.icmp_signed("<", following, times), body, end)
            builder.position_at_end(end)
            result = sums[0].incomings[1][0]
            for total in sums[1:]:
                result = builder.fadd(result, total.incomings[1][0])
            return builder.extract_element(result, ir.IntType(32)(0))

        return number(types.intp, number, number), codegen

    return loop, 2 * chains * lanes


def _rate(work, amount, threads, seconds):
    """Return how much of ``amount`` a second ``threads`` threads get done at once, each at its best.

    Each thread repeats ``work(number of the thread)`` for ``seconds`` and counts its shortest time: a limit
    is what goes undisturbed. They never wait for each other, so another process costs a try, not a result.
    """

    def best(number):
        shortest, start = float("inf"), time.perf_counter()
        while (now := time.perf_counter()) - start < seconds:
            work(number)
            shortest = min(shortest, time.perf_counter() - now)
        return amount / shortest

    work(0)  # compiles
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(best, range(threads)))


def _fma_rate(dtype, threads, seconds):
    """Return GFLOP/s of multiply-adds in registers."""
    from numba import njit

    loop, operations = _fma_loop(dtype)
    times = 150_000
    work = njit(nogil=True)(lambda a, b: loop(times, a, b))
    return _rate(lambda _: work(dtype(0.5), dtype(1)), operations * times / 1e9, threads, seconds)


def _triad_rate(total, threads, seconds):
    """Return GB/s read and written by a = b + s c, all arrays of all threads together ``total`` bytes."""
    from numba import njit

    @njit(nogil=True)
    def triad(a, b, c, s):
        for i in range(a.size):
            a[i] = b[i] + s * c[i]

    size = total // threads // 3 // 4
    piece = min(size, 2**18)  # short enough to be done undisturbed
    arrays = [[np.ones(size, np.float32) for _ in "abc"] for _ in range(threads)]
    starts = [cycle(range(0, size - piece + 1, piece)) for _ in range(threads)]

    def work(number):
        start = next(starts[number])
        triad(*(a[start : start + piece] for a in arrays[number]), np.float32(3))

    return _rate(work, 3 * 4 * piece / 1e9, threads, seconds)


MB = 2**20
FOOTPRINTS = (1.5 * MB, 24 * MB, 384 * MB)  # bytes: in most second caches, in large third ones, in memory


@dataclass(frozen=True)
class Limits:
    """GFLOP/s by dtype on one core and on all threads; GB/s on all threads by the bytes gone through."""

    threads: int
    one_core: dict
    all_cores: dict
    bandwidths: dict

    def peak(self, dtype="float32", threads=None):
        """GFLOP/s of ``threads`` threads, by default all."""
        if threads in (None, self.threads):
            return self.all_cores[dtype]
        return self.one_core[dtype] * threads

    def bandwidth(self, footprint):
        """GB/s for data of ``footprint`` bytes."""
        return max(
            rate for size, rate in self.bandwidths.items() if size >= min(footprint, max(self.bandwidths))
        )

    def least(self, flops, traffic, footprint):
        """Return the seconds of ``flops`` operations or of ``traffic`` bytes, whichever is longer, and which.

        ``footprint`` is the size of the data in bytes; it decides which cache can hold it.
        """
        arithmetic = flops / self.peak() / 1e9
        moving = traffic / self.bandwidth(footprint) / 1e9
        return max((arithmetic, "FMA"), (moving, "traffic"))

    def __str__(self):
        flops = ", ".join(
            f"{dtype} {one:.0f} GFLOP/s on one core, {self.all_cores[dtype]:.0f} on {self.threads}"
            for dtype, one in self.one_core.items()
        )
        traffic = ", ".join(f"{rate:.0f} in {size / MB:g} MiB" for size, rate in self.bandwidths.items())
        return f"limits    multiply-add {flops}\n          triad GB/s on {self.threads}: {traffic}"


def measure(threads, seconds=1.0):
    """Measure the limits, trying for ``seconds`` at each."""
    rates = {
        count: {np.dtype(dtype).name: _fma_rate(dtype, count, seconds) for dtype in (np.float32, np.float64)}
        for count in {1, threads}
    }
    bandwidths = {size: _triad_rate(int(size), threads, seconds) for size in FOOTPRINTS}
    return Limits(threads, rates[1], rates[threads], bandwidths)


# --- who else is at work -----------------------------------------------------------------------------------


def _busy_seconds():
    """Return the seconds all processors together have worked (or were withheld) since the start."""
    user, nice, system, _, _, *interrupts_and_steal = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + sum(interrupts_and_steal)) / os.sysconf("SC_CLK_TCK")


def _ended_children():
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Neighbours:
    """Measures what other programs take of the processors while a block runs, on Linux.

    Ours are this process, its children that have ended, and those whose processor time the functions
    ``cpu_times`` tell.
    """

    def __init__(self, cpu_times=()):
        self.cpu_times = [time.process_time, _ended_children, *cpu_times]
        self.known = Path("/proc/stat").exists()

    def _others(self):
        return _busy_seconds() - sum(cpu_time() for cpu_time in self.cpu_times) if self.known else 0.0

    def __enter__(self):
        self.start, self.before = time.perf_counter(), self._others()
        return self

    def __exit__(self, *_):
        self.cores = max(0.0, self._others() - self.before) / (time.perf_counter() - self.start)

    def __str__(self):
        if not self.known:
            return "what other programs took meanwhile is unknown on this system"
        return f"other programs took {self.cores:.2f} of {os.cpu_count()} processors meanwhile"
