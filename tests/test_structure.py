"""The architecture, held by reading the source: who may import whom, and what importing npnet costs."""

import ast
import functools
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import npnet

ROOT = Path(npnet.__file__).parent

# Lowest first. A module imports only from earlier rows; those of one row do not know each other.
ROWS = [
    {"internal", "kernels"},
    {"constraints", "datasets", "initializers", "losses", "plotting", "regularizers"},
    {"callbacks", "layers", "metrics", "utils"},
    {"optimizers"},
    {"training"},
    {"models"},
    {"activations", "checking", "schedules", "sklearn"},
    {"__init__"},
    {"runs"},
    {"cli"},
    {"__main__"},
]  # fmt: skip
RANK = {name: rank for rank, row in enumerate(ROWS) for name in row}


def module_name(path):
    """npnet/datasets/cache.py -> npnet.datasets.cache"""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module):
    """npnet.datasets.cache -> datasets"""
    return ([*module.split("."), "__init__"])[1]


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@functools.cache
def parsed(module):
    """The syntax tree of a module's source."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@functools.cache
def imports(module):
    """Return (module, whether importing runs it) for all imports of one, those for type checkers too."""
    found = []

    def visit(node, top):
        if isinstance(node, ast.Import):
            found.extend((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.append((whole if whole in MODULES else node.module, top))
        runs_later = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        never_runs = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        inner = top and not runs_later and not never_runs
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(parsed(module), True)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards_only(module):
    rank = RANK[part_of(module)]
    for imported, _ in imports(module):
        if imported.split(".")[0] != "npnet" or part_of(imported) == part_of(module):
            continue
        assert RANK[part_of(imported)] < rank, f"{module} imports {imported}"


def test_every_module_has_its_row():
    assert {part_of(module) for module in MODULES} == set(RANK)


def test_no_module_imports_itself_in_a_circle():
    graph = {
        module: {name for name, _ in imports(module) if name in MODULES and name != "npnet"}
        for module in MODULES
    }
    finished, path = set(), []

    def walk(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in finished:
            return
        path.append(module)
        for name in sorted(graph[module]):
            walk(name)
        finished.add(path.pop())

    for module in graph:
        walk(module)


def test_numba_is_known_to_the_kernels_alone_and_not_to_the_readable_ones():
    users = {
        module
        for module in MODULES
        for name, _ in imports(module)
        if name.split(".")[0] in ("numba", "llvmlite")
    }
    assert users
    assert all(module.startswith("npnet.kernels.") for module in users), users
    for readable in ("rules", "reference"):
        known = {name.split(".")[0] for name, _ in imports(f"npnet.kernels.{readable}")}
        assert known <= {"numpy", "math", "npnet"}, "the textbook needs NumPy and nothing else"


def test_matplotlib_is_imported_inside_functions_only():
    for module in MODULES:
        for name, top in imports(module):
            if name.split(".")[0] == "matplotlib":
                assert not top, module
                assert part_of(module) in ("plotting", "canvas"), module


def test_nothing_unsafe_or_unlisted_is_imported():
    allowed = {
        "jinja2",
        "llvmlite",
        "matplotlib",
        "npnet",
        "numba",
        "numpy",
        "PIL",
        "platformdirs",
        "safetensors",
        "threadpoolctl",
    }
    allowed |= {"mpi4py", "onnx", "sklearn", "tensorboard"}  # each behind the extra of its name
    third_party = {
        name.split(".")[0]
        for module in MODULES
        for name, _ in imports(module)
        if name.split(".")[0] not in sys.stdlib_module_names
    }
    assert third_party <= allowed
    for module in MODULES:
        names = {node.id for node in ast.walk(parsed(module)) if isinstance(node, ast.Name)}
        assert not names & {"eval", "exec"}, module


def run(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == ""
    return result.stdout


def test_importing_npnet_loads_nothing_heavy():
    loaded = set(json.loads(run("import npnet, sys, json; print(json.dumps(sorted(sys.modules)))")))
    heavy = {"numba", "llvmlite", "matplotlib", "scipy", "urllib.request", "http.client", "ssl", "tarfile"}
    assert not loaded & heavy


def test_importing_npnet_loads_few_modules():
    """Besides NumPy's: npnet's own, and what of the standard library they need."""
    count = "import {}, sys; print(len(sys.modules))"
    numpy, both = (int(run(count.format(names))) for names in ("numpy", "numpy, npnet"))
    assert both - numpy < 190


def test_importing_npnet_leaves_the_process_as_it_was():
    assert (
        run(
            "import os, signal, threading, warnings, random, numpy as np\n"
            "def look():\n"
            "    return (dict(os.environ), signal.getsignal(signal.SIGINT), threading.active_count(),\n"
            "            list(warnings.filters), random.getstate(), np.random.get_state()[1].tobytes())\n"
            "before = look()\n"
            "import npnet\n"
            "print(before == look())"
        )
        == "True\n"
    )


def test_public_names_exist():
    for name in npnet.__all__:
        assert hasattr(npnet, name)
    for module in (npnet.layers, npnet.callbacks, npnet.models):
        for name in module.__all__:
            assert hasattr(module, name)


@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith("__main__")])
def test_public_modules_say_what_is_public(module):
    """A module that defines something has ``__all__``, and what it lists is there."""
    tree = parsed(module)
    defined = [
        n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name[0] != "_"
    ]
    listed = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert listed or not defined, f"{module} has no __all__"
    for name in listed[0] if listed else []:
        assert hasattr(importlib.import_module(module), name), f"{module} lists {name}"
