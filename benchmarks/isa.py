"""``--isa avx2``: every library held to one instruction set, each by its own documented switch.

A processor with wider registers, or a matrix unit, then runs what a smaller one would run. What remains is
its own clock, caches and number of ports. The switches are read when a library is loaded, so the benchmark is
started anew with them.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HELD = "NPNET_BENCH_ISA"  # set in a benchmark that has been started with the switches

# Numba: numba.readthedocs.io, environment variables; oneDNN: "CPU dispatcher control"; MKL: "Instruction set
# specific dispatching"; XLA: xla.proto, xla_cpu_max_isa; OpenBLAS: USAGE.md; PyTorch: ATen's CPU dispatch.
# None of "avx512" includes the matrix unit: oneDNN's is AVX10_1_512_AMX, and Numba is given no amx feature.
# Inductor keeps what it compiled under a key without the instruction set, and what it finds there for another
# one computes wrong numbers: each set has a folder of its own.
SWITCHES = {
    "avx2": {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+f16c,+lzcnt,+popcnt,+movbe",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "ATEN_CPU_CAPABILITY": "avx2",
        "TORCHINDUCTOR_CACHE_DIR": str(Path(tempfile.gettempdir(), "npnet-inductor-avx2")),
    },
    "avx512": {
        "NUMBA_CPU_NAME": "skylake-avx512",
        "NUMBA_CPU_FEATURES": (
            "+avx2,+fma,+bmi,+bmi2,+f16c,+lzcnt,+popcnt,+movbe,+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
        ),
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX512",
        "OPENBLAS_CORETYPE": "SkylakeX",
        "ATEN_CPU_CAPABILITY": "avx512",
        "TORCHINDUCTOR_CACHE_DIR": str(Path(tempfile.gettempdir(), "npnet-inductor-avx512")),
    },
}

# XLA's library YNNPACK asks the processor itself which kernels to take and heeds no switch: where AVX-512 is
# at hand a third of JAX's time "with AVX2" went into it. Without YNNPACK XLA multiplies with Eigen instead.
WITHOUT_YNNPACK = "--xla_cpu_experimental_ynn_fusion_type="


def require(isa, features):
    """Exit with a message that names what this processor, with LLVM's ``features``, lacks of a set."""
    needed = [name.removeprefix("+") for name in SWITCHES[isa]["NUMBA_CPU_FEATURES"].split(",")]
    lacking = [name for name in needed if not features.get(name)]
    if lacking:
        raise SystemExit(f"--isa {isa} cannot be measured here: this processor has no {', '.join(lacking)}.")


def switches(isa, features, xla_flags=""):
    """The environment in which everyone is held to ``isa`` on a processor with these ``features``.

    ``xla_flags`` are those that are set already.
    """
    flags = [xla_flags, SWITCHES[isa]["XLA_FLAGS"]]
    if isa == "avx2" and features.get("avx512f"):
        flags.append(WITHOUT_YNNPACK)
    return SWITCHES[isa] | {"XLA_FLAGS": " ".join(flags).strip(), HELD: isa}


def hold(isa, name, argv):
    """Start benchmark ``name`` anew with everyone held to ``isa``, and end with its exit code.

    Return in the benchmark that has been started so.
    """
    if os.environ.get(HELD) == isa:
        print(f"everyone  is held to {isa}: {', '.join(f'{k}={os.environ[k]}' for k in SWITCHES[isa])}")
        return
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    require(isa, features)
    command = [sys.executable, "-m", "benchmarks", name, *argv]
    held = switches(isa, features, os.environ.get("XLA_FLAGS", ""))
    raise SystemExit(subprocess.call(command, env=os.environ | held))
