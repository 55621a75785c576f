"""What npnet finds on this machine, and what could be better.

Versions, processor, threads and the layer that runs them, container limits,
folders of kernels and data, and optional packages with how to get them.
"""

import argparse
from typing import Any

from npnet.cli.values import print_json
from npnet.models.summary import binary_size
from npnet.runs import installation
from npnet.runs.terminal import say

__all__ = ["EXAMPLES", "HELP", "ROUNDED", "add_arguments", "lines", "run"]

HELP = "versions, processor, threads, caches, and what could be better"
EXAMPLES = """\
examples:
  npnet info
  npnet info --json

exit codes: 0 done, 2 wrong options
"""
ROUNDED = "rounded operands, no faster than float32"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = EXAMPLES
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Look and print."""
    found = installation.describe()
    if arguments.json:
        print_json(found)
    else:
        for label, text in lines(found):
            say(label, text)
    return 0


def lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what was found as labels and sentences."""
    result = [
        ("npnet", f"{found['npnet']}, Python {found['python']}"),
        ("system", found["platform"]),
        ("processor", f"{found['cpu']}, {found['cpus']} CPUs"),
    ]
    if found["kernels"] == "numba":
        quota = f", a quota of {found['cpu_quota']:g}" if found["cpu_quota"] else ", no quota"
        layer = f"{found['threading_layer']}: {found['threading_layer_reason']}"
        kept = f"{found['cached_kernels']} in {found['cache_folder']}, {binary_size(found['cached_bytes'])}"
        result += [
            (
                "vectors",
                f"{found['vector_bits']} bits{', a matrix unit (AMX)' if found['matrix_unit'] else ''}",
            ),
            ("bfloat16", "on the matrix unit" if found["matrix_unit"] else f"{ROUNDED}: no matrix unit"),
            ("threads", f"{found['threads']}; {found['cpus_allowed']} CPUs allowed{quota}"),
            ("layer", layer),
            ("kernels", f"numba; {kept}" if found["cache_folder"] else "numba; not kept between runs"),
        ]
    else:
        result += [("bfloat16", f"{ROUNDED}: NumPy's kernels"), ("kernels", "numpy")]
    packages = ", ".join(f"{name} {version or 'missing'}" for name, version in found["packages"].items())
    result += [
        ("BLAS", f"{found['blas']}, of NumPy's kernels"),
        ("data", found["data_folder"]),
        ("packages", packages),
    ]
    for extra, missing in found["extras"].items():
        state = f"without {', '.join(missing)}: pip install 'npnet[{extra}]'" if missing else "installed"
        result.append(("extra", f"{extra}, {state}"))
    return result + [("hint", hint) for hint in found["hints"]]
