"""``--isa avx2``: every library held to one instruction set, each by its own documented switch.

A processor with wider registers, or a matrix unit, then runs what a smaller one would run. What remains is
its own clock, caches and number of ports. The switches are read when a library is loaded, so the benchmark is
started anew with them.
"""

import os
import subprocess
import sys

HELD = "NPNET_BENCH_ISA"  # set in a benchmark that has been started with the switches

# Numba: numba.readthedocs.io, environment variables; oneDNN: "CPU dispatcher control"; MKL: "Instruction set
# specific dispatching"; XLA: xla.proto, xla_cpu_max_isa; OpenBLAS: USAGE.md; PyTorch: ATen's CPU dispatch.
# None of "avx512" includes the matrix unit: oneDNN's is AVX10_1_512_AMX, and Numba is given no amx feature.
SWITCHES = {
    "avx2": {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+f16c,+lzcnt,+popcnt,+movbe",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "ATEN_CPU_CAPABILITY": "avx2",
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
    },
}


def require(isa, features):
    """Exit with a message that names what this processor, with LLVM's ``features``, lacks of a set."""
    needed = [name.removeprefix("+") for name in SWITCHES[isa]["NUMBA_CPU_FEATURES"].split(",")]
    lacking = [name for name in needed if not features.get(name)]
    if lacking:
        raise SystemExit(f"--isa {isa} cannot be measured here: this processor has no {', '.join(lacking)}.")


def hold(isa, name, argv):
    """Start benchmark ``name`` anew with everyone held to ``isa``, and end with its exit code.

    Return in the benchmark that has been started so.
    """
    if os.environ.get(HELD) == isa:
        print(f"everyone  is held to {isa}: {', '.join(f'{k}={v}' for k, v in SWITCHES[isa].items())}")
        return
    from llvmlite import binding

    require(isa, binding.get_host_cpu_features())
    switches = dict(SWITCHES[isa])
    switches["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {switches['XLA_FLAGS']}".strip()
    command = [sys.executable, "-m", "benchmarks", name, *argv]
    raise SystemExit(subprocess.call(command, env=os.environ | switches | {HELD: isa}))
