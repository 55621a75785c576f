"""The kernels' tests on ARM, in QEMU's emulation of a processor: ``make test-arm``.

The emulation is slow where kernels are compiled: the first tests take minutes, all of them perhaps an hour.
Debian's Python for arm64 and wheels of the package index are put into a folder once; nothing is installed. It
needs the programs of Debian's packages qemu-user-static and debootstrap.

    python tests/arm.py -x               # the core, FILES; pytest is given the options
    python tests/arm.py tests/layers     # or these tests
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".venv-arm"
SUITE, VERSION = "bookworm", "3.11"  # a release of Debian, and its Python
PACKAGES = [
    "numpy", "numba", "matplotlib", "jinja2", "pillow", "platformdirs", "safetensors", "threadpoolctl",
    "pytest", "hypothesis", "mpmath",
]  # fmt: skip
PLATFORMS = ["manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64"]
FILES = [f"tests/kernels/test_{name}.py" for name in ("functions", "kernels", "fused_phases")]
# The emulation cannot start another Python, and there is no unit of Intel's to be emulated on ARM.
LEFT_OUT = ["--deselect=tests/kernels/test_kernels.py::test_an_emulated_matrix_unit"]
# OpenBLAS for ARM raises flags of the processor in products that are right; NumPy warns of them.
FLAGS = [f"-Wignore:{what} encountered in matmul" for what in ("divide by zero", "overflow", "invalid value")]
CHECK = """
import platform
from npnet.kernels.vectors import registers
found = platform.machine(), registers.REGISTER_BYTES, registers.REGISTERS
assert found == ("aarch64", 16, 32), f"NEON has 32 registers of 16 bytes, kernels are compiled for {found}"
print("aarch64: 32 registers of 16 bytes")
"""


def program(name):
    """Return where a program is, or exit with what to do."""
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    if path is None:
        raise SystemExit(f"make test-arm needs {name}: apt-get install qemu-user-static debootstrap")
    return path


def prepare():
    """Unpack Debian's Python for arm64, and the wheels, unless they are there."""
    debootstrap = [program("debootstrap"), "--arch=arm64", "--foreign", "--variant=minbase"]
    subprocess.run(
        [*debootstrap, "--include=python3,libgomp1", SUITE, FOLDER / "root"], check=True, stdout=sys.stderr
    )
    for package in sorted((FOLDER / "root/var/cache/apt/archives").glob("*.deb")):
        subprocess.run(["dpkg", "-x", package, FOLDER / "root"], check=True)
    platforms = [option for name in PLATFORMS for option in ("--platform", name)]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", FOLDER / "site"]
    only = ["--python-version", VERSION, "--only-binary=:all:"]
    subprocess.run([*pip, *platforms, *only, *PACKAGES], check=True)
    (FOLDER / "made").touch()


def run(*arguments):
    """Run Python of the folder in the emulation and return its exit code."""
    environment = {
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, FOLDER / "site"))),
        "NPNET_CACHE": str(FOLDER / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    python = FOLDER / "root/usr/bin" / f"python{VERSION}"
    command = [program("qemu-aarch64-static"), "-L", FOLDER / "root", python, *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=False).returncode


def main(arguments):
    program("qemu-aarch64-static")
    if not (FOLDER / "made").exists():
        shutil.rmtree(FOLDER, ignore_errors=True)
        prepare()
    chosen = any((ROOT / argument.split("::")[0]).exists() for argument in arguments)
    tests = arguments if chosen else [*FILES, *arguments]
    return run("-c", CHECK) or run("-m", "pytest", "-q", "-p", "no:cacheprovider", *FLAGS, *LEFT_OUT, *tests)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
