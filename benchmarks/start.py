"""``python -m benchmarks start``: the first minute, and the single call.

Every measurement is a process of its own. The first tables have seconds from the start of a process to the
end of what it is there for; "cold" is with an empty cache of kernels. The last one has microseconds of a call
with one sample (two, where they are trained on) through the tutorial's network.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec

from benchmarks import machine
from benchmarks.arguments import parser
from npnet.checking.measuring.timing import median, table

# --- seconds from the start of a process -------------------------------------------------------------------

DATA = """
import numpy as np
rng = np.random.default_rng(0)
x = rng.random((320, 3072), np.float32)
labels = rng.integers(0, 10, 320)
y = np.eye(10, dtype=np.float32)[labels]
"""
KERAS = """
from {package} import Sequential
from {package}.layers import Dense, Input
model = Sequential(
    [
        Input((3072,)),
        Dense(512, activation="relu"),
        Dense(512, activation="relu"),
        Dense(10, activation="softmax"),
    ]
)
model.compile("rmsprop", "categorical_crossentropy", metrics=["accuracy"])
"""
TORCH = """
import torch
from torch import nn
net = nn.Sequential(
    nn.Linear(3072, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
)
optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-3)
def step(x, labels):
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(x), labels).backward()
    optimizer.step()
"""
DIGITS = """
from sklearn.datasets import load_digits
from {package} import MLPClassifier
x, labels = load_digits(return_X_y=True)
MLPClassifier(random_state=0).fit(x / 16, labels)
"""
FIT = DATA + KERAS + "model.fit(x, y, batch_size=32, epochs=1, verbose=0)"
SPIRAL = "from npnet.cli import main; main(['train', 'spiral', '--run-dir', {folder!r}])"
# What is measured: who, the package that must be there, the program, whether with an empty cache.
STARTS = {
    "a first epoch of ten steps, tutorial's network": [
        ("npnet, cold", "npnet", FIT.replace("{package}", "npnet"), True),
        ("npnet", "npnet", FIT.replace("{package}", "npnet"), False),
        ("PyTorch", "torch", DATA + TORCH + """
for i in range(0, 320, 32):
    step(torch.from_numpy(x[i : i + 32]), torch.from_numpy(labels[i : i + 32]))
""", False),
        ("Keras", "keras", FIT.replace("{package}", "keras"), False),
    ],
    "MLPClassifier().fit on scikit-learn's digits": [
        ("npnet, cold", "sklearn", DIGITS.replace("{package}", "npnet.sklearn"), True),
        ("scikit-learn", "sklearn", DIGITS.replace("{package}", "sklearn.neural_network"), False),
    ],
    "npnet train spiral, with its report": [
        ("npnet, cold", "npnet", SPIRAL, True), ("npnet", "npnet", SPIRAL, False),
    ],
}  # fmt: skip

# --- microseconds of a call --------------------------------------------------------------------------------

TIMED = """
import json, time
from itertools import cycle
# Two other samples in each step: gradients of the same two fade until their products are subnormal, which
# x86 takes many times as long for.
pairs = cycle(slice(i, i + 2) for i in range(0, 320, 2))
def timed(call, times=300):
    for _ in range(20):
        call()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))
"""
CALLS = {
    "npnet": ("npnet", DATA + KERAS.replace("{package}", "npnet") + TIMED + """
print(json.dumps({
    "predict": timed(lambda: model.predict(x[:1], verbose=0)),
    "predict_on_batch": timed(lambda: model.predict_on_batch(x[:1])),
    "evaluate": timed(lambda: model.evaluate(x[:1], y[:1], verbose=0)),
    "train_on_batch": timed(lambda: model.train_on_batch(x[two := next(pairs)], y[two])),
}))"""),
    "NumPy by hand": ("numpy", DATA + TIMED + """
shapes = (3072, 512), (512, 512), (512, 10)
weights = [rng.random(shape, np.float32) for shape in shapes]
def predict(x):
    for w in weights[:-1]:
        x = np.maximum(x @ w, 0)
    x = x @ weights[-1]
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
print(json.dumps({"predict": timed(lambda: predict(x[:1]))}))"""),
    "PyTorch": ("torch", DATA + TORCH + TIMED + """
one, all_x, all_labels = torch.from_numpy(x[:1]), torch.from_numpy(x), torch.from_numpy(labels)
with torch.inference_mode():
    found = {"predict": timed(lambda: net(one).softmax(1).numpy())}
found["train_on_batch"] = timed(lambda: step(all_x[two := next(pairs)], all_labels[two]))
print(json.dumps(found))"""),
    "scikit-learn": ("sklearn", DATA + TIMED + """
import warnings
from sklearn.neural_network import MLPClassifier
warnings.simplefilter("ignore")
net = MLPClassifier((512, 512), max_iter=1).fit(x, labels)
print(json.dumps({"predict": timed(lambda: net.predict_proba(x[:1]))}))"""),
    "Keras": ("keras", DATA + KERAS.replace("{package}", "keras") + TIMED + """
print(json.dumps({
    "predict": timed(lambda: model.predict(x[:1], verbose=0), 30),
    "predict_on_batch": timed(lambda: model.predict_on_batch(x[:1]), 100),
    "train_on_batch": timed(lambda: model.train_on_batch(x[two := next(pairs)], y[two]), 100),
}))"""),
}  # fmt: skip


def run(program, threads, cache):
    """Return the seconds that a program takes in a process of its own, and what it prints."""
    count = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
    environment = os.environ | count | {"NPNET_CACHE": cache, "MPLBACKEND": "agg"}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"a program failed: {done.stderr[-500:]}")
    return seconds, done.stdout


def measure_start(program, is_cold, threads, warm):
    with tempfile.TemporaryDirectory() as folder:
        text = program.replace("{folder!r}", repr(f"{folder}/run"))
        return run(text, threads, f"{folder}/cache" if is_cold else warm)[0]


def main(argv):
    options = parser("start", __doc__.partition("\n\n")[2], rounds=5).parse_args(argv)
    print(machine.describe(options.threads))
    found = {}
    with tempfile.TemporaryDirectory() as warm:
        for title, programs in STARTS.items():
            chosen = [(who, program, cold) for who, package, program, cold in programs if find_spec(package)]
            for _, program, cold in chosen:
                if not cold:
                    measure_start(program, cold, options.threads, warm)  # fills the caches
            seconds = {who: [] for who, _, _ in chosen}
            for _ in range(options.rounds):
                for who, program, cold in chosen:
                    seconds[who].append(measure_start(program, cold, options.threads, warm))
            found[title] = seconds
            absent = ", ".join(who for who, package, *_ in programs if not find_spec(package))
            print(f"\n{title}{f' (without {absent})' if absent else ''}")
            rows = [(who, f"{median(s):.2f} s", f"{min(s):.2f} s") for who, s in seconds.items()]
            print(table(("", "median", "best"), rows))
        calls = {who: [] for who, (package, _) in CALLS.items() if find_spec(package)}
        for _ in range(options.rounds):
            for who, results in calls.items():
                results.append(json.loads(run(CALLS[who][1], options.threads, warm)[1]))
    found["calls"] = calls
    names = ("predict", "predict_on_batch", "evaluate", "train_on_batch")
    rows = []
    for who, results in calls.items():
        medians = {name: median([result[name] for result in results]) for name in results[0]}
        rows.append((who, *(f"{1e6 * medians[name]:.0f}" if name in medians else "" for name in names)))
    print("\nmicroseconds of a call: one sample, train_on_batch two")
    print(table(("", *names), rows))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
