"""What the terminal shows, and what a file gets instead."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import textwrap

import numpy as np
import pytest

from npnet import Sequential
from npnet.internal.progress import Progress, clock, is_watched, listed, per_step
from npnet.layers import Dense

PROGRAM = """
import numpy as np, npnet
from npnet.layers import Dense
model = npnet.Sequential([Dense(3, "softmax", input_shape=(4,))], seed=1)
model.compile(loss="categorical_crossentropy", metrics=["accuracy"], kernels="numpy")
x, y = np.random.default_rng(0).normal(size=(70, 4)), np.eye(3)[np.arange(70) % 3]
"""


def run_on_terminal(columns, program, **environment):
    """Run the program on a pseudo-terminal of so many columns and return what it wrote."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(program)],
        stdout=follower,
        stderr=subprocess.STDOUT,
        env={**inherited, "OPENBLAS_NUM_THREADS": "1", **environment},
    )
    os.close(follower)
    written = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        written += part
    os.close(leader)
    assert process.wait() == 0, written.decode()
    return written.decode().replace("\r\n", "\n")


def run_piped(program, **environment):
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(program)],
        capture_output=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment},
        check=True,
    )
    assert process.stderr == b""
    return process.stdout


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def drawn(text):
    """Return the frames drawn over each other in the last line."""
    return [frame.rstrip() for frame in text.split("\n")[-2 if text.endswith("\n") else -1].split("\r")[1:]]


@pytest.fixture
def clocked(monkeypatch):
    """A clock to set."""
    time = [0.0]
    monkeypatch.setattr("npnet.internal.progress.time.monotonic", lambda: time[0])
    return time


@pytest.fixture
def columns(monkeypatch):
    """A width to set."""
    return lambda number: monkeypatch.setenv("COLUMNS", str(number))


# --- the line itself


def test_the_line_is_keras_line(clocked, columns):
    columns(120)
    screen = Screen()
    progress = Progress(391, stream=screen)
    clocked[0] = 2.0
    progress.update(100, {"accuracy": 0.41234, "loss": 1.65321})
    clocked[0] = 5.083
    progress.update(391, {"accuracy": 0.4123, "loss": 1.6532})
    progress.finish({"accuracy": 0.4123, "loss": 1.6532, "val_accuracy": 0.4311, "val_loss": 1.601})
    assert drawn(screen.getvalue()) == [
        "100/391 ━━━━━─────────────── 5s 20ms/step - accuracy: 0.4123 - loss: 1.6532",
        "391/391 ━━━━━━━━━━━━━━━━━━━━ 0s 13ms/step - accuracy: 0.4123 - loss: 1.6532",
        "391/391 ━━━━━━━━━━━━━━━━━━━━ 5s 13ms/step - accuracy: 0.4123 - loss: 1.6532"
        " - val_accuracy: 0.4311 - val_loss: 1.6010",
    ]
    assert screen.getvalue().endswith("\n")


def test_times_of_an_epoch_that_goes_on_are_of_the_steps_taken_now(clocked, columns):
    columns(120)
    screen, file = Screen(), io.StringIO()
    bar, line = (Progress(391, stream=stream, before=291) for stream in (screen, file))
    clocked[0] = 1.0
    bar.update(341, {"loss": 1.65321})
    clocked[0] = 2.0
    for progress in (bar, line):
        progress.update(391, {"loss": 1.6532})
        progress.finish({"loss": 1.6532})
    assert drawn(screen.getvalue()) == [
        "341/391 ━━━━━━━━━━━━━━━━━─── 1s 20ms/step - loss: 1.6532",
        "391/391 ━━━━━━━━━━━━━━━━━━━━ 0s 20ms/step - loss: 1.6532",
        "391/391 ━━━━━━━━━━━━━━━━━━━━ 2s 20ms/step - loss: 1.6532",
    ]
    assert file.getvalue() == "391/391 - 2s - 20ms/step - loss: 1.6532\n"


def test_a_loop_that_ended_early_shows_the_steps_it_took(clocked, columns):
    columns(120)
    screen, file = Screen(), io.StringIO()
    for stream in (screen, file):
        progress = Progress(400, stream=stream)
        clocked[0] += 2.0
        progress.update(100, {"loss": 1.65321})
        progress.finish({"loss": 1.6532})
    assert drawn(screen.getvalue())[-1] == "100/400 ━━━━━─────────────── 2s 20ms/step - loss: 1.6532"
    assert file.getvalue() == "100/400 - 2s - 20ms/step - loss: 1.6532\n"


def test_an_epoch_without_a_step_has_no_time_a_step(clocked):
    file = io.StringIO()
    progress = Progress(19, stream=file, before=19)
    clocked[0] = 3.0
    progress.finish({"val_loss": 1.5})
    assert file.getvalue() == "19/19 - 3s - val_loss: 1.5000\n"


def test_counts_keep_their_width_and_a_shorter_line_wipes_the_longer(clocked, columns):
    columns(100)
    screen = Screen()
    progress = Progress(1000, stream=screen)
    clocked[0] = 1
    progress.update(7, {"loss": 1.0, "something": 2.0})
    clocked[0] = 2
    progress.update(8, {"loss": 1.0})
    first, second = screen.getvalue().split("\r")[1:]
    assert first.startswith("   7/1000 ")
    assert len(second) == len(first), "padded with blanks over what stood there"


def test_redrawn_at_most_every_50_ms_but_first_and_last_always(clocked, columns):
    columns(80)
    screen = Screen()
    progress = Progress(1000, stream=screen)
    for step in range(1000):
        clocked[0] += 0.001
        progress.update(step + 1, {"loss": 1.0})
    progress.finish({"loss": 1.0})
    frames = drawn(screen.getvalue())
    assert 19 <= len(frames) <= 22
    assert frames[0].startswith("   1/1000")
    assert frames[-1].startswith("1000/1000")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_a_line_that_is_redrawn_never_wraps(width, clocked, columns):
    columns(width)
    screen = Screen()
    progress = Progress(1563, stream=screen)
    for step in (1, 500, 1563):
        clocked[0] += 10
        progress.update(step, {"accuracy": 0.5, "loss": 1.5, "val_loss": 2.5})
    assert all(len(frame) < width for frame in drawn(screen.getvalue()))
    bars = [sum(frame.count(cell) for cell in "━─") for frame in drawn(screen.getvalue())]
    assert all((bar == 20) == (width >= 110) for bar in bars)


def test_a_finished_line_that_is_too_long_goes_on_below_at_a_value(clocked, columns):
    columns(60)
    screen = Screen()
    progress = Progress(157, stream=screen)
    clocked[0] = 5
    progress.update(157, {})
    before = len(screen.getvalue())
    progress.finish({"accuracy": 0.185, "loss": 2.4155, "val_accuracy": 0.1863, "val_loss": 2.2763})
    assert screen.getvalue()[before:] == (
        "\r157/157 5s 32ms/step - accuracy: 0.1850 - loss: 2.4155\n"
        " - val_accuracy: 0.1863 - val_loss: 2.2763\n"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.41236, "0.4124"), (1.0, "1.0000"), (123456.789, "123456.7890"), (0.0, "0.0000"),
        (0.0010001, "0.0010"), (0.001, "1.0000e-03"), (1.234e-9, "1.2340e-09"), (-2.5, "-2.5000"),
        (-1e-4, "-1.0000e-04"), (float("nan"), "nan"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_values_are_shown_as_keras_shows_them(value, shown):
    assert listed({"loss": value}) == f" - loss: {shown}"


def test_times():
    assert [clock(s) for s in (0, 5.9, 59.9, 60, 3599, 3600, 7325)] == [
        "0s", "5s", "59s", "1:00", "59:59", "1:00:00", "2:02:05",
    ]  # fmt: skip
    assert [per_step(s, 10) for s in (0.0001, 0.13, 25)] == ["10us/step", "13ms/step", "2s/step"]
    assert per_step(0, 0) == "0us/step"


def test_streams_that_know_little_of_themselves():
    class Bare:
        text = ""

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    bare = Bare()
    progress = Progress(3, "Epoch 1/1 - ", stream=bare)
    progress.update(3, {})
    progress.finish({"loss": 0.5})
    assert re.fullmatch(r"Epoch 1/1 - 3/3 - 0s - \d+us/step - loss: 0\.5000\n", bare.text)


# --- where it is drawn


def stream_of(module, terminal=False, base=io.StringIO):
    """Return a stream whose class says it comes from a module."""
    return type("Stream", (base,), {"__module__": module, "isatty": lambda self: terminal})()


@pytest.mark.parametrize(
    ("module", "terminal", "watched"),
    [
        ("ipykernel.iostream", False, True),  # Jupyter, VS Code, Colab
        ("spyder_kernels.console.outstream", True, True),
        ("idlelib.run", True, False),
        ("io", False, False),
    ],
)
def test_who_is_watched(module, terminal, watched):
    assert is_watched(stream_of(module, terminal)) is watched


def test_in_idle_the_bar_grows(clocked):
    shell = stream_of("idlelib.run", terminal=True)
    progress = Progress(40, "Epoch 1/2 - ", stream=shell)
    progress.update(10, {"loss": 2.0})
    assert shell.getvalue() == "━" * 5
    progress.update(11, {"loss": 2.0})
    progress.update(20, {"loss": 2.0})
    assert shell.getvalue() == "━" * 10
    progress.update(40, {"loss": 1.0})
    progress.finish({"loss": 1.0})
    assert shell.getvalue() == "━" * 20 + "\nEpoch 1/2 - 40/40 - 0s - 0us/step - loss: 1.0000\n"


def test_pycharm_s_console_is_a_pipe_that_is_watched():
    fit = 'model.fit(x, y); print("done")'
    assert b"\r" in run_piped(fit, PYCHARM_HOSTED="1", PYTHONIOENCODING="utf-8")
    assert b"\r" not in run_piped(fit, PYTHONIOENCODING="utf-8")


def test_a_file_is_never_watched(tmp_path):
    program = PROGRAM + "model.fit(x, y)"
    with (tmp_path / "log").open("wb") as log:
        subprocess.run(
            [sys.executable, "-c", program], stdout=log, env={**os.environ, "PYCHARM_HOSTED": "1"}, check=True
        )
    assert re.fullmatch(rb"Epoch 1/1 - 3/3 - .*\n", (tmp_path / "log").read_bytes())


def test_without_a_console_nothing_is_printed_and_everything_works(tmp_path):
    """As with pythonw, and in the windowed builds of packagers: both streams are None."""
    program = """
        import sys
        from npnet import callbacks, check_gradients
        from npnet.runs import train
        sys.stdout = sys.stderr = None
        model.summary()
        watchers = [
            callbacks.EarlyStopping("loss", min_delta=9, verbose=1, restore_best_weights=True),
            callbacks.LearningRateScheduler(lambda epoch: 0.1, verbose=1),
            callbacks.ReduceLROnPlateau("loss", patience=0, min_delta=9, verbose=1),
            callbacks.ModelCheckpoint(PATH + "/model", verbose=1),
            callbacks.TerminateOnNaN(), callbacks.ProgbarLogger(),
        ]
        model.fit(x, y, epochs=3, validation_data=(x, y), callbacks=watchers)
        model.fit(x, y, verbose=2)
        model.evaluate(x, y)
        model.predict(x)
        model.compile(loss="categorical_crossentropy", kernels="numba")
        model.fit(x, y)
        train({"dataset": "spiral", "epochs": 1, "kernels": "numpy"}, PATH + "/run")
        open(PATH + "/done", "w").close()
    """
    assert run_piped(f"PATH = {str(tmp_path)!r}\n" + textwrap.dedent(program)) == b""
    assert (tmp_path / "done").exists()


# --- what is not counted


def test_pauses_are_not_counted_and_their_line_is_ended_first(clocked):
    class Compiling:
        seconds = 7.0  # of an epoch before

        def settle(self):
            out.write("settled ")

    out, pauses = io.StringIO(), Compiling()
    progress = Progress(4, stream=out, pauses=pauses)
    clocked[0], pauses.seconds = 10.0, 15.0
    progress.update(4, {})
    progress.finish({})
    assert out.getvalue() == "settled settled 4/4 - 2s - 500ms/step\n"


def test_the_kernels_of_training_validation_and_prediction_are_announced(tmp_path):
    program = """
        model = npnet.Sequential([Dense(3, input_shape=(4,))])
        model.compile("sgd", "mse", kernels="numba")  # few kernels
        many = np.random.default_rng(0).normal(size=(9000, 4))
        model.fit(x, y, epochs=1, validation_data=(many, np.zeros((9000, 3))),
                  validation_batch_size=9000, verbose=2)
        model.predict(many, batch_size=9000)
    """
    lines = run_piped(program, NPNET_CACHE=str(tmp_path)).decode().splitlines()
    announced = [i for i, line in enumerate(lines) if line.startswith("Compiling kernels ... ")]
    assert announced and all(re.search(r" \d+\.\d s \(once\)$", lines[i]) for i in announced)
    assert len(lines) == len(announced) + 2, lines
    assert sum(line.startswith("Epoch 1/1 - 3/3 - ") for line in lines) == 1


# --- whole programs


WIDTHS = [40, 60, 80, 200]


@pytest.fixture(scope="module")
def on_terminals():
    """What one process wrote on terminals of each width, and on one whose line is not redrawn."""
    program = f"""
        import fcntl, struct, termios
        for columns in {WIDTHS}:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            model.fit(x, y, epochs=2, validation_data=(x, y))
            print("the end", end="")
        model.fit(x, y, verbose=2)
        model.evaluate(x, y, verbose=2)
    """
    *written, plain = run_on_terminal(100, program).split("the end")
    return {**dict(zip(WIDTHS, written, strict=True)), "plain": plain}


@pytest.mark.parametrize("width", WIDTHS)
def test_training_on_a_terminal(width, on_terminals):
    text = on_terminals[width]
    assert text.count("Epoch 1/2\n") == text.count("Epoch 2/2\n") == 1
    finished = text.rsplit("\r", 1)[1].splitlines()
    assert all(len(line.rstrip()) < width for line in finished)
    last = "".join(line.rstrip() for line in finished)
    expected = (
        r"3/3 (━+ )?\d+s \d+[mu]s/step - accuracy: 0\.\d{4} - loss: \d\.\d{4} - val_accuracy: 0\.\d{4}"
        r" - val_loss: \d\.\d{4}"
    )
    assert re.fullmatch(expected, last), last
    assert ("━" * 20 in last) == (width == 200), "the bar gives way first"


def test_training_on_an_ascii_terminal():
    text = run_on_terminal(
        100,
        "model.summary(); model.fit(x, y); model.evaluate(x, y); model.predict(x)",
        PYTHONIOENCODING="ascii",
    )
    assert text.isascii()
    assert re.search(r"3/3 =+ 0s \d+[mu]s/step - accuracy", text)
    assert "| dense (Dense) " in text


@pytest.mark.parametrize("environment", [{}, {"PYTHONIOENCODING": "ascii"}, {"LANG": "C", "LC_ALL": "C"}])
def test_training_into_a_pipe(environment):
    written = run_piped(
        'model.fit(x, y, epochs=2, validation_data=(x, y)); model.fit(x, y, verbose="auto")'
        "; model.fit(x, y, verbose=2); model.evaluate(x, y); model.predict(x); model.fit(x, y, verbose=0)",
        **environment,
    ).decode()
    lines = written.splitlines()
    timed = r"3/3 - 0s - \d+[mu]s/step"
    trained = timed + r" - accuracy: 0\.\d{4} - loss: \d\.\d{4}"
    validated = trained + r" - val_accuracy: 0\.\d{4} - val_loss: \d\.\d{4}"
    for pattern, line in zip(
        [
            f"Epoch 1/2 - {validated}",
            f"Epoch 2/2 - {validated}",
            f"Epoch 1/1 - {trained}",
            f"Epoch 1/1 - {trained}",
            trained,
            timed,
        ],
        lines,
        strict=True,
    ):
        assert re.fullmatch(pattern, line), line
    assert "\r" not in written
    assert written.isascii()


def test_verbose_2_on_a_terminal_is_the_plain_line(on_terminals):
    text = on_terminals["plain"]
    assert re.fullmatch(r"Epoch 1/1 - 3/3 - 0s - .*\n3/3 - 0s - .*\n", text)
    assert "\r" not in text


def test_verbose_0_shows_nothing(capsys):
    net = Sequential([Dense(3, input_shape=(4,))])
    net.compile(loss="mse", kernels="numpy")
    x = np.zeros((5, 4))
    net.fit(x, x[:, :3], verbose=0, validation_data=(x, x[:, :3]))
    net.evaluate(x, x[:, :3], verbose=0)
    net.predict(x, verbose=0)
    net.train_on_batch(x, x[:, :3])
    net.test_on_batch(x, x[:, :3])
    net.predict_on_batch(x)
    assert capsys.readouterr() == ("", "")
