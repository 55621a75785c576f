"""Would the tests notice? Change one operator, number or statement of a module, run its tests, and again.

    python tests/mutation.py SHARE [MODULE ...]

Prints the mutants that survive. SHARE of all mutants, drawn with a fixed seed, are tried, in a copy of the
sources: the originals are not touched.
"""

import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

# what compiles nothing: a mutant of the kernels' sources would compile everything anew
NUMPY = "not numba and not compiled and not tutorials_program and not kernel_sets and not never_fused"
TESTS = {  # of each module: those that are about it, the likeliest to notice first
    "npnet/kernels/rules.py": (["activations", "optimizers", "gradients", "keras_agreement"], NUMPY),
    "npnet/kernels/reference/layers.py": (["activations", "layers", "gradients", "keras_agreement"], NUMPY),
    "npnet/kernels/reference/losses.py": (["losses", "gradients", "keras_agreement"], NUMPY),
    "npnet/kernels/geometry.py": (["convolution", "pictures"], NUMPY),
    "npnet/kernels/reference/convolution.py": (["convolution", "pictures"], NUMPY),
    "npnet/kernels/reference/pooling.py": (["convolution", "pictures"], NUMPY),
    "npnet/layers/convolution.py": (["pictures", "keras_agreement", "gradients"], NUMPY),
    "npnet/layers/pooling.py": (["pictures", "keras_agreement"], NUMPY),
    "npnet/layers/reshaping.py": (["pictures", "keras_agreement"], NUMPY),
    "npnet/layers/normalization.py": (["pictures", "keras_agreement", "gradients"], NUMPY),
    "npnet/layers/windows.py": (["pictures"], NUMPY),
    "npnet/kernels/reference/pictures.py": (["preprocessing", "gradients"], NUMPY),
    "npnet/kernels/reference/optimizers.py": (["optimizers", "keras_agreement"], NUMPY),
    "npnet/kernels/parallel/layers.py": (["kernels", "activations"], "not lesser and not numpy"),
    "npnet/losses.py": (["losses", "gradients", "keras_agreement", "arguments", "inputs", "training"], NUMPY),
    "npnet/optimizers/optimizer.py": (
        ["optimizers", "keras_agreement", "arguments", "saving", "training"], NUMPY
    ),
    "npnet/training/loops.py": (
        ["training", "inputs", "callbacks", "resume", "models", "arguments", "interrupts"], NUMPY
    ),
    "npnet/training/step.py": (["training", "gradients", "keras_agreement", "layers", "inputs"], NUMPY),
}  # fmt: skip
SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or,
    ast.Or: ast.And,
}  # fmt: skip
TIMEOUT = 300


def mutants_of(node):
    """Yield functions that change a node in place, each with a word that says how."""
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in SWAPS:
        yield "operator", lambda n: setattr(n, "op", SWAPS[type(n.op)]())
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield "comparison", lambda n: n.ops.__setitem__(0, SWAPS[type(n.ops[0])]())
    elif isinstance(node, ast.UnaryOp):
        yield (
            "sign",
            lambda n: setattr(n, "op", ast.UAdd()) if isinstance(n.op, ast.USub) else negate(n, "operand"),
        )
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "constant", lambda n: setattr(n, "value", not n.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield (
            "constant",
            lambda n: setattr(n, "value", n.value + 1 if isinstance(n.value, int) else n.value * 1.5 or 0.5),
        )
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        yield "condition", lambda n: negate(n, "test")
    elif isinstance(node, ast.Call) and node.keywords:
        yield "keyword", lambda n: n.keywords.pop()
    if hasattr(node, "body") and isinstance(node.body, list):
        for i, statement in enumerate(node.body):
            if isinstance(statement, (ast.Assign, ast.AugAssign, ast.Raise)) or (
                isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            ):
                yield "statement", lambda n, i=i: n.body.__setitem__(i, ast.Pass())


def negate(node, field):
    setattr(node, field, ast.UnaryOp(ast.Not(), getattr(node, field)))


def inside(tree):
    """The nodes that run: no annotations, no text."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "simple"):
                continue
            todo += [
                item for item in (value if isinstance(value, list) else [value]) if isinstance(item, ast.AST)
            ]


def mutate(source):
    """Yield (line, how, changed source)."""
    tree = ast.parse(source)
    for place, node in enumerate(inside(tree)):
        for number, (how, _) in enumerate(mutants_of(node)):
            other = copy.deepcopy(tree)
            twin = list(inside(other))[place]
            [change for _, change in mutants_of(twin)][number](twin)
            yield getattr(node, "lineno", 0), how, ast.unparse(ast.fix_missing_locations(other))


def noticed(sources, tests, deselect):
    """Whether the tests fail in the copy of the sources."""
    files = [path for name in tests for path in sources.glob(f"tests/**/test_{name}.py")]
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *files]
    if deselect:
        command += ["-k", deselect]
    with TemporaryDirectory() as cache:  # the user's own keeps the kernels of a few versions only
        environment = {"PYTHONPATH": str(sources), "PYTHONDONTWRITEBYTECODE": "1", "NPNET_CACHE": cache}
        try:
            done = subprocess.run(
                command, cwd=sources, capture_output=True, timeout=TIMEOUT, env={**os.environ, **environment}
            )
        except subprocess.TimeoutExpired:
            return True
    return done.returncode != 0


def tried(sources, module, share):
    """Try mutants of a module, print those that survive, return how many were killed and how many tried."""
    path = sources / module
    source = path.read_text()
    plain = ast.unparse(ast.parse(source))
    every = [mutant for mutant in mutate(source) if mutant[2] != plain]
    chosen = random.Random(0).sample(every, max(1, round(share * len(every))))
    began = time.monotonic()
    if noticed(sources, *TESTS[module]):
        sys.exit(f"{module}: its tests fail as it is")
    print(f"{module}: {len(chosen)} of {len(every)} mutants, {time.monotonic() - began:.0f} s", flush=True)
    killed = 0
    for line, how, changed in sorted(chosen, key=lambda mutant: mutant[0]):
        path.write_text(changed)
        if noticed(sources, *TESTS[module]):
            killed += 1
            continue
        before, after = plain.splitlines(), changed.splitlines()
        was, became = next((a, b) for a, b in zip(before, after, strict=False) if a != b)
        print(f"{module}:{line} {how}: {was.strip()}  ->  {became.strip()}", flush=True)
    path.write_text(source)
    print(f"{module}: {killed} of {len(chosen)} killed", flush=True)
    return killed, len(chosen)


def main(share, *modules):
    with TemporaryDirectory() as folder:
        sources = Path(folder) / "npnet"
        hidden = shutil.ignore_patterns(".*", "__pycache__", "runs")
        shutil.copytree(Path(__file__).parents[1], sources, ignore=hidden)
        counts = [tried(sources, module, float(share)) for module in modules or TESTS]
    killed, every = map(sum, zip(*counts, strict=True))
    print(f"{killed} of {every} killed: {killed / every:.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
