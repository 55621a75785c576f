"""A folder of pictures and a table of one's own: trained, evaluated and predicted from the command line."""

import csv
import html
import io
import itertools
import json
import math
import os
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npnet.cli import COMMANDS, main
from npnet.datasets import california_housing, tables
from npnet.models import load_model
from npnet.runs import trained
from npnet.runs.folder import RunFolder

FEW = ["--kernels", "numpy", "--epochs", "12", "--hidden", "8"]

MORE = ["--validation-split", "0.2", "--epochs", "40", "--lr", "0.01"]


def npnet(capsys, *words):
    """Run a command; return its exit code, what it printed, and what it complained about."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def flat(text):
    """Return text without the ends of its lines."""
    return " ".join(text.split())


UNDRAWN = pytest.mark.usefixtures("undrawn")
WARNS = pytest.mark.filterwarnings("default")  # warnings are printed, as outside of tests


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


# --- pictures


def paint(path, value, size=(40, 30), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name) + value)
    pixels = np.clip(value + rng.integers(-20, 20, (size[1], size[0], 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def flowers(tmp_path):
    """Twenty daisies, bright, and ten roses, dark: of several formats, sizes and modes."""
    folder = tmp_path / "flowers"
    for name, count, value in (("daisy", 20, 200), ("rose", 10, 40)):
        for i in range(count):
            ending = ("png", "jpg", "webp", "gif")[i % 4]
            paint(folder / name / f"{i}.{ending}", value, (40 + i, 30), "L" if i % 5 == 0 else "RGB")
    return folder


def test_a_folder_of_pictures(flowers, tmp_path, capsys):
    run = "runs/flowers-001"
    code, out, err = npnet(capsys, "train", flowers, "--image-size", 12, *FEW, *MORE)
    assert (code, err) == (0, "")
    assert "flowers: 19 images to train on, 5 held out" in flat(out)
    assert "6 to test on, 12 x 12 x 3, 2 classes" in flat(out)
    result = RunFolder(run).read_json("result.json")
    assert result["test"]["accuracy"] == 1 and result["class_names"] == ["daisy", "rose"]
    assert np.array(result["confusion"]).tolist() == [[4, 0], [0, 2]]
    page = (tmp_path / run / "report.html").read_text()
    assert (
        "6 of 6 test images are classified correctly" in page and "a training image of the class rose" in page
    )
    assert f"npnet train {flowers} --image-size=12 --recipe best" in page

    code, out, _ = npnet(capsys, "evaluate", run, "--json")
    assert code == 0 and json.loads(out)["confusion"] == result["confusion"], (
        "the same pictures are tested on"
    )
    paint(tmp_path / "new.webp", 40)
    code, out, _ = npnet(capsys, "predict", run, "new.webp", "--json")
    answer = json.loads(out)["images"][0]
    assert code == 0 and answer["classes"][0]["class"] == "rose"
    assert answer["size"] == "40x30, middle 30x30 taken, shrunk to 12x12"
    assert npnet(capsys, "report", run)[0] == npnet(capsys, "compare", run, run)[0] == 0


@pytest.fixture
def parts(flowers, tmp_path):
    """The folder "set" with the pictures in train/, and one of a rose in test/."""
    (tmp_path / "set").mkdir()
    flowers.rename(tmp_path / "set/train")
    paint(tmp_path / "set/test/rose/a.png", 40)
    return tmp_path / "set"


@UNDRAWN
def test_train_and_test_above_the_classes(parts, capsys):
    paint(parts / "test/daisy/a.png", 200)
    code, out, _ = npnet(capsys, "train", "set", *FEW, "--run-dir", "run")
    assert code == 0 and "30 images to train on, 2 to test on, 32 x 32 x 3" in out
    paint(parts / "test/tulip/a.png", 40)
    code, _, err = npnet(capsys, "train", "set", *FEW)
    assert code == 1 and "set/test has the class 'tulip', which nothing was trained on" in err


@UNDRAWN
@WARNS
def test_what_lies_beside_train_and_test_is_said(parts, capsys):
    paint(parts / "valid/rose/a.png", 40)
    code, out, err = npnet(capsys, "train", "set", *FEW, "--run-dir", "run")
    assert code == 0 and "set is read in train and test; left out: valid." in err
    assert "the test part has no sample of 'daisy': nothing tests it." in err
    assert re.search("daisy +not tested", out) and re.search("rose +[01].000", out)
    assert ">not tested<" in Path("run/report.html").read_text()


@UNDRAWN
def test_a_run_of_pictures_goes_on(flowers, capsys):
    assert npnet(capsys, "train", flowers, *FEW, "--image-size", 8, "--run-dir", "run")[0] == 0
    code, _, err = npnet(capsys, "train", "--resume", "run", "--epochs", 13)
    assert (code, err) == (0, "")
    paint(flowers / "rose/more.png", 40)
    code, _, err = npnet(capsys, "train", "--resume", "run", "--epochs", 14)
    assert code == 1 and "was trained on other data" in err


@UNDRAWN
def test_a_network_is_measured_on_the_samples_that_were_held_out_of_its_training(flowers, capsys):
    assert npnet(capsys, "train", flowers, *FEW, "--image-size", 8, "--run-dir", "run")[0] == 0
    flowers.rename(flowers.with_name("moved"))
    code, out, err = npnet(capsys, "evaluate", "run", "--data", "moved")
    assert (code, err) == (0, "") and "samples of moved" in out
    paint(Path("moved/rose/more.png"), 40)  # now others are held out
    code, out, err = npnet(capsys, "evaluate", "run", "--data", "moved")
    assert (code, out) == (1, "") and "run was trained on other data: the SHA-256 of moved is not" in err


def test_unreadable_pictures_are_named_and_nothing_is_made(flowers, tmp_path, capsys):
    for i in range(7):
        (flowers / f"rose/bad{i}.png").write_bytes(b"\x89PNG")
    code, _, err = npnet(capsys, "train", flowers, *FEW)
    assert code == 1 and "7 of 37 pictures cannot be read. Replace or remove them:" in err
    assert err.count("is no PNG, JPEG") == 5 and "And 2 more." in err
    assert not (tmp_path / "runs").exists()


@UNDRAWN
@WARNS
def test_a_class_with_one_picture_is_trained_on_and_said(flowers, capsys):
    paint(flowers / "tulip/only.png", 120)
    code, out, err = npnet(capsys, "train", flowers, *FEW, "--run-dir", "run")
    assert code == 0 and "the test part has no sample of 'tulip': nothing tests it." in err
    assert "25 images to train on, 6 to test on" in out


def test_folders_that_cannot_be_read_are_named(flowers, capsys, monkeypatch):
    closed, scandir = str(flowers / "rose" / "closed"), os.scandir

    def refusing(path="."):
        if str(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return scandir(path)

    Path(closed).mkdir()
    monkeypatch.setattr(os, "scandir", refusing)
    code, _, err = npnet(capsys, "train", flowers, *FEW)
    assert code == 1 and f"{closed}: Permission denied" in err


@UNDRAWN
def test_train_and_test_in_capitals(parts, capsys):
    paint(parts / "test/daisy/a.png", 200)
    (parts / "train").rename(parts / "Train")
    (parts / "test").rename(parts / "TEST")
    code, out, err = npnet(capsys, "train", parts, "--image-size", 12, *FEW)
    assert (code, err) == (0, "") and "2 classes" in out


@UNDRAWN
def test_answers_that_are_no_numbers_are_said(flowers, capsys, monkeypatch):
    assert npnet(capsys, "train", flowers, "--image-size", 12, *FEW, "--run-dir", "run")[0] == 0
    picture = next((flowers / "rose").glob("*.*"))
    monkeypatch.setattr(trained, "predict", lambda model, x, views, batch=1: np.full((len(x), 2), np.nan))
    code, _, err = npnet(capsys, "predict", "run", picture)
    assert code == 1 and "the network's answers are no numbers. Its training diverged." in err


@UNDRAWN
def test_json_has_no_nan(flowers, capsys, monkeypatch):
    assert npnet(capsys, "train", flowers, "--image-size", 12, *FEW, "--run-dir", "run")[0] == 0
    examine = trained.examine
    monkeypatch.setattr(
        trained, "examine", lambda *arguments: examine(*arguments) | {"test": {"loss": math.nan}}
    )
    code, out, _ = npnet(capsys, "evaluate", "run", "--json")
    assert code == 0 and json.loads(out, parse_constant=pytest.fail)["test"] == {"loss": None}


@WARNS
def test_folders_that_are_none_of_pictures(flowers, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "has no sub-folders" in npnet(capsys, "train", "empty")[2]
    paint(tmp_path / "one/class/a.png", 1)
    paint(tmp_path / "one/class/b.png", 1)
    assert "has the one class 'class'" in npnet(capsys, "train", "one")[2]
    paint(tmp_path / "few/a/a.png", 1)
    paint(tmp_path / "few/b/a.png", 1)
    assert "Each class has one picture" in npnet(capsys, "train", "few")[2]


# --- tables

HEADER = ["id", "size", "rooms", "town", "price", "kind"]


def rows(n=120, seed=0):
    rng = np.random.default_rng(seed)
    for i in range(n):
        size, rooms, town = rng.uniform(20, 200), rng.integers(1, 6), rng.choice(["Aarau", "Bern", "Chur"])
        price = 1000 * size + 20_000 * (town == "Bern") + rng.normal(0, 500)
        yield [f"house {i}", f"{size:.1f}", rooms, town, f"{price:.2f}", "flat" if size < 90 else "house"]


def write(path, table, header=HEADER, delimiter=","):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([header, *table])
    path.write_text(text.getvalue())
    return path


@pytest.fixture
def houses(tmp_path):
    return write(tmp_path / "houses.csv", rows())


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_table_with_a_quantity_to_predict(houses, tmp_path, capsys):
    run = "runs/houses-001"
    few = [*FEW, "--epochs", 60, "--ignore", "id,kind", "--validation-split", 0.1]
    code, out, err = npnet(capsys, "train", houses, "--target", "price", *few)
    assert (code, err) == (0, "")
    assert "houses: 86 rows to train on, 10 held out" in flat(out)
    assert "24 to test on, 5 features, one quantity" in flat(out)
    folder = RunFolder(run)
    result, history = folder.read_json("result.json"), folder.read_json("history.json")
    known = result["quantity"]
    assert f"price: mean absolute error {result['test']['mean_absolute_error']:.4g}" in flat(out)
    assert known["samples"] == 24 and known["r2"] > 0.9
    assert result["test"]["mean_absolute_error"] < 0.3 * known["of_the_mean"]
    assert result["best_epoch"] == 1 + np.argmin(history["val_mean_absolute_error"])

    table = read((tmp_path / run / "predictions.csv").read_text())
    true, predicted = (np.array([float(row[name]) for row in table]) for name in ("true", "predicted"))
    assert np.abs(true - predicted).mean() == pytest.approx(result["test"]["mean_absolute_error"])
    page = (tmp_path / run / "report.html").read_text()
    for part in (
        "Mean absolute error",
        "R2",
        "What it predicts",
        "24 test rows",
        f"npnet predict {run} NEW.csv",
    ):
        assert part in page
    assert (tmp_path / run / "predictions.png").exists()
    # Errors stand in the unit of the table, those of epochs, too.
    unit = folder.read_json("data.json")["deviation"]
    assert f"lowest in validation: {unit * min(history['val_mean_absolute_error']):.4f}" in page
    assert f"errors of an epoch are in standard deviations of price, {unit:.4g} each" in flat(out)

    assert known["target"] in npnet(capsys, "evaluate", run)[1]
    assert json.loads(npnet(capsys, "evaluate", run, "--json")[1])["test"] == pytest.approx(result["test"])
    assert npnet(capsys, "report", run)[0] == npnet(capsys, "compare", run, run)[0] == 0

    new = [[town, size] for town, size in (("Chur", "100"), ("Bern", "100"))]
    write(tmp_path / "new.csv", [[*row, 3] for row in new], ["town", "size", "rooms"])
    code, out, err = npnet(capsys, "predict", run, "new.csv")
    answers = read(out)
    assert (code, err) == (0, "") and list(answers[0]) == ["town", "size", "rooms", "predicted price"]
    chur, bern = (float(row["predicted price"]) for row in answers)
    assert chur == pytest.approx(100_000, rel=0.15) and 8_000 < bern - chur < 32_000
    code, out, _ = npnet(capsys, "predict", run, "new.csv", "--output", "out.csv")
    assert code == 0 and "out.csv: 2 rows with 'predicted price'" in out
    assert read((tmp_path / "out.csv").read_text()) == answers


@UNDRAWN
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_with_classes_to_predict(tmp_path, capsys, delimiter):
    write(tmp_path / "houses.csv", rows(), delimiter=delimiter)
    few = [*FEW, "--epochs", 30, "--ignore", "id", "--run-dir", "run"]
    code, out, err = npnet(capsys, "train", "houses.csv", "--target", "kind", *few)
    assert (code, err) == (0, "") and "2 classes" in out
    result = RunFolder("run").read_json("result.json")
    assert result["class_names"] == ["flat", "house"] and result["test"]["accuracy"] > 0.85
    write(tmp_path / "new.csv", [["30", 1, "Bern", 30_000], ["180", 5, "Chur", 180_000]], HEADER[1:5])
    code, out, _ = npnet(capsys, "predict", "run", "new.csv")
    answers = read(out)
    assert [row["predicted kind"] for row in answers] == ["flat", "house"]
    assert sum(float(answers[0][f"probability {name}"]) for name in ("flat", "house")) == pytest.approx(
        1, abs=1e-5
    )


@UNDRAWN
@pytest.mark.filterwarnings("ignore:the test part has no sample")
def test_a_number_written_in_several_ways_is_one_class(tmp_path, capsys):
    cells = ["0", "1", "1.0", "01", "-0", "1e0"] * 10
    write(tmp_path / "t.csv", [[i % 7, cell] for i, cell in enumerate(cells)], "xy")
    assert npnet(capsys, "train", "t.csv", "--target", "y", *FEW, "--run-dir", "run")[0] == 0
    result = RunFolder("run").read_json("result.json")
    assert result["class_names"] == ["0", "1"] and np.sum(result["confusion"]) == 12


@pytest.mark.parametrize(
    "text",
    [
        "\n  \na,b\n1,2\n3,4\n", "a,b\n1,2\n\n   \n3,4\n  ", '"a","b"\r\n1,2\r\n3,4\r\n',
        'a;b\n1;2\n3;4\n', ' \n\na;b\n1;2\n3;4\n', '\ufeffa,b\n1,2\n3,4',
    ],
)  # fmt: skip
def test_forms_of_a_table(tmp_path, text):
    (tmp_path / "t.csv").write_bytes(text.encode())
    found = tables.read("t.csv")
    assert (found.columns, found.rows) == (["a", "b"], [["1", "2"], ["3", "4"]])
    ends = [number for number, line in enumerate(text.splitlines(), 1) if line[:1] in ("1", "3")]
    assert found.lines == ends


def test_a_blank_line_of_one_column_is_a_missing_value(tmp_path):
    (tmp_path / "t.csv").write_text('a\n1\n""\n\n3\n')
    assert tables.read("t.csv").rows == [["1"], [""], ["3"]]


def test_a_separator_in_quotes_separates_nothing(tmp_path):
    (tmp_path / "t.csv").write_text('"size, m2, net";y\n1.5;a\n')
    assert tables.read("t.csv").columns == ["size, m2, net", "y"]


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no /dev/fd")
def test_a_table_from_a_pipe(houses):
    out, into = os.pipe()
    with os.fdopen(into, "w") as stream:
        stream.write("".join(houses.read_text().splitlines(keepends=True)[:20]))
    try:
        assert len(tables.read(f"/dev/fd/{out}").rows) == 19
    finally:
        os.close(out)


@UNDRAWN
@WARNS
def test_what_is_said_of_a_column_can_be_done(tmp_path, capsys):
    """The advice to leave a column out names it as a shell and --ignore read it."""
    name = '-it\'s "names",\nof all'
    write(tmp_path / "t.csv", [[f"n{i}", i, i % 2] for i in range(120)], [name, "x", "y"])
    code, _, err = npnet(capsys, "train", "t.csv", "--target", "y", *FEW)
    _, advice = err.split("leave the column out: ")
    assert code == 1
    words = shlex.split(advice.strip().rstrip("."))
    assert npnet(capsys, "train", "t.csv", "--target", "y", *FEW, *words)[0] == 0
    code, _, err = npnet(capsys, "train", "t.csv", "--target", "y", "--ignore", '"a,b')
    assert code == 2 and "in double quotes where a name holds a comma" in err


@UNDRAWN
@WARNS
def test_a_column_without_values_is_said(tmp_path, capsys):
    write(tmp_path / "t.csv", [["", i, i + 0.5] for i in range(30)], "axy")
    code, _, err = npnet(capsys, "train", "t.csv", "--target", "y", "--missing", "fill", *FEW)
    assert code == 0 and "column 'a' holds no value, and says nothing to the network" in err
    write(tmp_path / "t.csv", [["", i + 0.5] for i in range(30)], "ay")
    code, _, err = npnet(capsys, "train", "t.csv", "--target", "y", "--missing", "fill", *FEW)
    assert code == 1 and "t.csv has no value but those of the target 'y'." in err


@UNDRAWN
def test_predictions_are_predicted_again_in_their_place(houses, capsys):
    few = [*FEW, "--ignore", "id", "--run-dir", "run"]
    assert npnet(capsys, "train", houses, "--target", "kind", *few)[0] == 0
    assert npnet(capsys, "predict", "run", houses, "--output", "first.csv")[0] == 0
    assert npnet(capsys, "predict", "run", "first.csv", "--output", "second.csv")[0] == 0
    assert Path("first.csv").read_bytes() == Path("second.csv").read_bytes()
    for option in ("--top", "--views"):
        assert "are for pictures" in npnet(capsys, "predict", "run", houses, option, "6")[2]


def test_a_run_that_goes_on_takes_its_own_settings_and_is_reported_meanwhile(houses, capsys):
    few = [*FEW, "--target", "price", "--ignore", "id,kind"]
    assert npnet(capsys, "train", houses, *few, "--run-dir", "run")[0] == 0
    code, _, err = npnet(capsys, "train", "--resume", "run", "--target", "price", "--ignore", "id,kind")
    assert code == 1 and "has done all of its 12 epochs" in err
    code, _, err = npnet(capsys, "train", "--resume", "run", "--target", "rooms")
    assert code == 1 and "target is 'price' in run and stays so" in err
    assert "What it predicts" in Path("run/report.html").read_text()
    Path("run/result.json").unlink()  # as a run does that goes on, and has not been measured again
    assert npnet(capsys, "report", "run")[0] == 0
    assert "What it predicts" not in Path("run/report.html").read_text()


def test_the_next_step_reads_the_data_in_the_same_way(tmp_path, capsys):
    table = [["" if i == 3 else i, f"c{i % 3}", i + 0.5] for i in range(40)]
    (tmp_path / "a folder").mkdir()
    write(tmp_path / "a folder" / "t.csv", table, ["x", "no, name", "y"])
    options = ["--target", "y", "--missing", "fill", "--ignore", '"no, name"', "--test-split", "0.3"]
    assert npnet(capsys, "train", "a folder/t.csv", *options, *FEW, "--run-dir", "run")[0] == 0
    page = html.unescape(Path("run/report.html").read_text())
    (line,) = re.findall(r"npnet train ([^<]*) --hidden 128,128 --dropout 0.1", page)
    assert npnet(capsys, "train", *shlex.split(line), *FEW, "--run-dir", "again")[0] == 0
    settings, again = (RunFolder(run).read_json("config.json") for run in ("run", "again"))
    assert settings == again and settings["ignore"] == ["no, name"]


@UNDRAWN
def test_predictions_lose_no_letters_on_an_output_without_them(tmp_path, capsys, monkeypatch):
    write(tmp_path / "t.csv", [[i, "日" if i % 2 else "b"] for i in range(20)], "xy")
    assert npnet(capsys, "train", "t.csv", "--target", "y", *FEW, "--run-dir", "run")[0] == 0
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "cp1252"))
    assert main(["predict", "run", "t.csv"]) == 1
    assert main(["predict", "run", "t.csv", "--output", "out.csv"]) == 0
    assert "日" in Path("out.csv").read_text(encoding="utf-8")


@UNDRAWN
def test_ignored_columns_add_up(houses, capsys):
    few = [*FEW, "--target", "price", "--run-dir", "run"]
    assert npnet(capsys, "train", houses, *few, "--ignore", "id, kind", "--ignore", "town")[0] == 0
    assert [column["name"] for column in RunFolder("run").read_json("data.json")["encoding"]] == [
        "size", "rooms",
    ]  # fmt: skip


@pytest.mark.parametrize("command", [("train", "spiral"), ("explain",)])
@pytest.mark.parametrize("option", ["--hidden", "--filters"])
def test_sizes_are_given_once(capsys, command, option):
    code, _, err = npnet(capsys, *command, option, "8", option, "4")
    assert code == 2 and f"argument {option}: given twice. Give all sizes at once: {option} 64,32" in err


def test_help_shows_no_default_where_there_is_none(capsys):
    for command in COMMANDS:
        assert not re.search(r"\[(None|\[\]|\(\))\]", npnet(capsys, command, "--help")[1])


@UNDRAWN
def test_one_of_a_thing_is_no_plural(tmp_path, capsys):
    write(tmp_path / "t.csv", [[i, i + 0.5] for i in range(5)], "xy")
    few = [*FEW, "--validation-split", 0.25, "--threads", 1]
    code, out, err = npnet(capsys, "train", "t.csv", "--target", "y", *few, "--run-dir", "run")
    out += npnet(capsys, "evaluate", "run")[1]
    write(tmp_path / "new.csv", [[1]], "x")
    out += npnet(capsys, "predict", "run", "new.csv", "--output", "out.csv")[1]
    assert (code, err) == (0, "") and "1 row of t.csv" in out and "1 row with" in out
    assert "1 to test on, 1 feature, one quantity" in flat(out) and "1 sample held out" in out
    assert not re.findall(r"(?<![\d.,])1 \w+s\b", out)


@UNDRAWN
def test_whole_numbers_are_classes_where_they_are_few(houses, capsys):
    few = ["--ignore", "id", "--epochs", 1, "--kernels", "numpy", "--run-dir", "run"]
    assert npnet(capsys, "train", houses, "--target", "rooms", *few)[0] == 0
    assert RunFolder("run").read_json("result.json")["class_names"] == ["1", "2", "3", "4", "5"]


@UNDRAWN
def test_missing_values_are_refused_by_line_and_column_or_filled(tmp_path, capsys):
    table = list(rows())
    table[6][1], table[8][3] = "", "NA"
    write(tmp_path / "holes.csv", table)
    few = [*FEW, "--ignore", "id,kind", "--run-dir", "run", "--target", "price"]
    code, _, err = npnet(capsys, "train", "holes.csv", *few)
    assert (
        code == 1
        and "holes.csv, line 8 (row 7), column 'size': the value is missing. Give --missing fill" in err
    )
    assert npnet(capsys, "train", "holes.csv", *few, "--missing", "fill")[0] == 0
    write(tmp_path / "new.csv", [["?", 3, ""]], HEADER[1:4])
    code, out, _ = npnet(capsys, "predict", "run", "new.csv")
    assert code == 0 and np.isfinite(float(read(out)[0]["predicted price"]))


@UNDRAWN
@WARNS
def test_a_text_among_numbers_is_named(tmp_path, capsys):
    table = [[i % 50, 3 * i, f"{i}.5"] for i in range(150)]
    table[4][:2] = "12O", "-"
    write(tmp_path / "typo.csv", table, ["age", "size", "price"])
    few = [*FEW, "--target", "price", "--run-dir", "run"]
    number = "is no number, as most of the column are."
    code, _, err = npnet(capsys, "train", "typo.csv", *few)
    assert code == 1 and f"column 'size': '-' {number} Correct it, or leave the column out: --ignore" in err
    code, _, err = npnet(capsys, "train", "typo.csv", *few, "--ignore", "size")
    place = "typo.csv, line 6 (row 5), column 'age': '12O'"
    assert code == 0 and f"{place} {number} The column is taken for categories." in err
    code, _, err = npnet(capsys, "train", "typo.csv", "--target", "age", *FEW)
    assert code == 1 and f"{place} {number} Correct it, or remove the row." in err
    write(tmp_path / "commas.csv", [[f"{i},5", i % 3] for i in range(40)], ["size", "rooms"])
    code, _, err = npnet(capsys, "train", "commas.csv", "--target", "size", *FEW)
    assert (
        code == 1 and "column 'size': '0,5' has a decimal comma; write 0.5, and all of the column so." in err
    )


@UNDRAWN
@pytest.mark.parametrize("column", ["a", "b"])
@pytest.mark.parametrize("cell", ["1e39", "-1e200", "1e400", "inf"])
def test_numbers_that_float32_cannot_hold_are_refused(tmp_path, capsys, cell, column):
    table = [[i, i * 7 % 13 + 0.5] for i in range(60)]
    write(tmp_path / "t.csv", table, "ab")
    few = ["--target", "b", *FEW, "--run-dir"]
    assert npnet(capsys, "train", "t.csv", *few, "run")[0] == 0
    table[3]["ab".index(column)] = cell
    write(tmp_path / "t.csv", table, "ab")
    message = f"t.csv, line 5 (row 4), column {column!r}: {cell!r} is too large for float32"
    for options in ([], ["--missing", "fill"]):
        code, _, err = npnet(capsys, "train", "t.csv", *few, "new", *options)
        assert code == 1 and message in err and not Path("new").exists()
    if column == "a":
        code, _, err = npnet(capsys, "predict", "run", "t.csv")
        assert code == 1 and message in err


@UNDRAWN
@WARNS
def test_numbers_far_from_all_others_are_refused_or_said(tmp_path, capsys):
    few = ["--target", "b", *FEW]
    for column, row in itertools.product("ab", range(10)):  # of ten rows some are trained on, others test
        table = [[i, i * 7 % 13 + 0.5] for i in range(10)]
        table[row]["ab".index(column)] = "1e30"
        write(tmp_path / "t.csv", table, "ab")
        code, _, err = npnet(capsys, "train", "t.csv", *few)
        place = f"t.csv, line {row + 2} (row {row + 1}), column {column!r}: "
        beside = f"{place}beside '1e30' all other values of the column are one number in float32."
        assert beside in err if code == 0 else f"{place}'1e30' is more than 4.3e+09 deviations from" in err
        for file in Path("runs").rglob("*.json"):
            assert not re.search("NaN|Infinity", file.read_text()), file


def test_equal_numbers_have_the_deviation_1():
    assert tables.measure(np.full(60, 0.1))["deviation"] == 1


THOUSANDS = "has grouped thousands; write"


@WARNS
@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ["1,288", "900"],
            "'1,288' is 1288 with grouped thousands, or 1.288 with a decimal comma; write the",
        ),
        (["1,288", "12,500", "1,234,567", "900", "1,100"], f"'1,288' {THOUSANDS} 1288,"),
        (["1,288", "3.5"], f"'1,288' {THOUSANDS} 1288,"),
        (["1,288", "0,5"], "'1,288' has a decimal comma; write 1.288,"),
        (["0,500", "0,250"], "'0,500' has a decimal comma; write 0.500,"),
        (["-1,288.50", "1,5"], f"'-1,288.50' {THOUSANDS} -1288.50,"),
        (["1.288,50", "2,5"], "'1.288,50' has a decimal comma; write 1288.50,"),
        (["1.234.567", "1.288"], f"'1.234.567' {THOUSANDS} 1234567,"),
        (["1'288", "900"], f"{chr(34)}1'288{chr(34)} {THOUSANDS} 1288,"),
        (["1\u202f288", "900"], f"'1\\u202f288' {THOUSANDS} 1288,"),
        (["$3.5", "$4"], "'$3.5' has a currency sign; write 3.5,"),
        (["3.50 €", "4"], "'3.50 €' has a currency sign; write 3.50,"),
        (["-$1,288", "$0.5"], "'-$1,288' has a currency sign; write -1288,"),
        (
            ["£1,288", "£5"],
            "'£1,288' is 1288 with grouped thousands, or 1.288 with a decimal comma; write the",
        ),
        (["35%", "20 %"], "'35%' has a percent sign; write 35,"),
        (["1 288", "1 300,5"], f"'1 288' {THOUSANDS} 1288,"),
    ],
)
def test_numbers_written_otherwise_are_named_with_what_they_mean(tmp_path, capsys, cells, message):
    write(tmp_path / "t.csv", [[cell, i] for i, cell in enumerate(cells * 3)], "ab")
    place = f"t.csv, line 2 (row 1), column 'a': {message}"
    code, _, err = npnet(capsys, "train", "t.csv", "--target", "a", *FEW)
    assert code == 1 and place in err
    with pytest.warns(UserWarning, match=f"{re.escape(place)}.*The column is taken for categories"):
        encoding = tables.describe(tables.read("t.csv"), ["a"], np.arange(4), fill=False)
    assert encoding == [{"name": "a", "categories": sorted(cells)}]


@pytest.mark.parametrize(
    "cells", [["1,2,3", "1,2"], ["12,34,567", "a"], ["x", "1,5", "y"], ["-", "+"], ["$", "%"]]
)
def test_texts_that_are_no_numbers_are_categories(tmp_path, cells):
    write(tmp_path / "t.csv", [[cell, 1] for cell in cells], "ab")
    encoding = tables.describe(tables.read("t.csv"), ["a"], np.arange(2), fill=False)
    assert encoding == [{"name": "a", "categories": sorted(cells)}]


@UNDRAWN
@WARNS
@pytest.mark.parametrize(
    "form", ["2024-03-{:02}", "{}.3.2024", "3/{:02}/2024 12:30", "2024-03-{:02}T12:30:00Z"]
)
def test_dates_are_taken_for_categories_and_said(tmp_path, capsys, form):
    write(
        tmp_path / "t.csv",
        [[form.format(1 + i % 28), f"1{i % 9}.5", i] for i in range(60)],
        ["date", "x", "y"],
    )
    few = ["--target", "y", *FEW, "--run-dir"]
    code, _, err = npnet(capsys, "train", "t.csv", *few, "run")
    assert code == 0 and "npnet: t.csv: the dates of column 'date' are taken for 28 categories, which" in err
    assert npnet(capsys, "train", "t.csv", *few, "other", "--ignore", "date")[2] == ""


@UNDRAWN
@WARNS
def test_values_that_mostly_occur_once_are_no_classes(tmp_path, capsys):
    few = ["--target", "y", *FEW, "--run-dir", "run"]
    write(tmp_path / "t.csv", [[i, f"{i // 2 if i < 20 else i} kg"] for i in range(60)], "xy")
    code, _, err = npnet(capsys, "train", "t.csv", *few)
    assert (
        code == 1 and "t.csv, line 22 (row 21), column 'y': '20 kg' is no number, and no class: most" in err
    )
    write(tmp_path / "t.csv", [[i, 100 * i] for i in range(12)], "xy")
    code, out, err = npnet(capsys, "train", "t.csv", *few)
    assert (code, err) == (0, "") and "one quantity" in out


@UNDRAWN
@WARNS  # of classes that nothing trains or tests
@pytest.mark.parametrize("names", [["no", "yes"], [f"town {i}" for i in range(30)]])
def test_texts_that_mostly_occur_more_often_are_classes(tmp_path, capsys, names):
    table = [[i, names[i % len(names)]] for i in range(60)] + [[i, f"rare {i}"] for i in range(5)]
    write(tmp_path / "t.csv", table, "xy")
    code, out, _ = npnet(capsys, "train", "t.csv", "--target", "y", *FEW, "--run-dir", "run")
    assert code == 0 and f"{len(names) + 5} classes" in out


@UNDRAWN
@WARNS
def test_a_class_of_a_table_that_nothing_tests_or_trains_is_said(tmp_path, capsys):
    write(tmp_path / "t.csv", [[i, "ab"[i % 2]] for i in range(30)] + [[31, "rare"]], ["x", "kind"])
    code, _, err = npnet(capsys, "train", "t.csv", "--target", "kind", *FEW)
    assert code == 0 and re.search("the (training|test) part has no sample of 'rare': .* it\\.$", err, re.M)
    write(tmp_path / "t.csv", [[i, "abcdef"[i % 6]] for i in range(24)], ["x", "kind"])
    code, _, err = npnet(capsys, "train", "t.csv", "--target", "kind", *FEW, "--test-split", 0.1)
    assert code == 0 and re.search("the test part has no sample of .*, .*: nothing tests them\\.$", err, re.M)


@UNDRAWN
def test_what_predict_cannot_know_is_named(houses, tmp_path, capsys):
    few = [*FEW, "--ignore", "id,kind", "--run-dir", "run", "--target", "price"]
    assert npnet(capsys, "train", houses, *few)[0] == 0
    for cells, message in (
        (
            ["30", 1, "Basel"],
            "line 2 (row 1), column 'town': the category 'Basel' was not there",
        ),
        (["big", 1, "Bern"], "line 2 (row 1), column 'size': expected a number, got 'big'"),
        (["", 1, "Bern"], "line 2 (row 1), column 'size': the value is missing, and the network was trained"),
    ):
        code, out, err = npnet(capsys, "predict", "run", write(tmp_path / "new.csv", [cells], HEADER[1:4]))
        assert code == 1 and out == "" and message in err
    code, _, err = npnet(capsys, "predict", "run", write(tmp_path / "new.csv", [["1"]], ["size"]))
    assert code == 1 and "has no column 'rooms'. It has size." in err


@UNDRAWN
def test_a_table_that_has_changed_is_not_evaluated(houses, capsys):
    few = [*FEW, "--ignore", "id,price", "--run-dir", "run", "--target", "kind"]
    assert npnet(capsys, "train", houses, *few)[0] == 0
    other = {"flat": "house", "house": "flat"}
    for table in (rows(seed=1), ([*row[:-1], other[row[-1]]] for row in rows()), rows(n=119)):
        write(houses, table)
        code, _, err = npnet(capsys, "evaluate", "run")
        assert code == 1 and "run was trained on other data" in err
    write(houses, rows())
    assert npnet(capsys, "evaluate", "run")[0] == 0


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ("a,b\n1,2\n", [], "target must name the column of the table"),
        ("a,b\n1,2\n", ["--target", "c"], "has no column 'c'. It has a, b."),
        ("a,b\n1,2\n", ["--target", "b"], "has 1 row: none is left to train on"),
        ("a,b\n1,2\n1\n", ["--target", "b"], "line 3, has 1 cell where the first line names 2 columns"),
        ("a,a\n1,2\n", ["--target", "a"], "must name each column once"),
        ("a,b\n", ["--target", "b"], "has no rows below its first line"),
        ("", ["--target", "b"], "has no rows below its first line"),
        ("b\n1\n2\n", ["--target", "b"], "has no column but the target"),
        ("a,b\n1,x\n2,x\n3,x\n", ["--target", "b"], "the target 'b' is 'x' everywhere"),
        ("a,b\n1,7.5\n2,7.5\n3,7.5\n", ["--target", "b"], "the target 'b' is '7.5' everywhere"),
        ("a,b\n1,1.5\n2,2.5\n", ["--target", "b", "--label-smoothing", ".1"], "label_smoothing is for"),
        ("a,b\n1_0,x\n1,y\n2,y\n3,x\n", ["--target", "a"], "'1_0' is no number"),
        ("a,b\n1,x\n2,\n", ["--target", "b"], "line 3 (row 2), column 'b': the target is missing"),
        ("a,b\n1,x\n2,y\n", ["--target", "b", "--ignore", "c"], "has no column 'c' to ignore"),
        ("a,b\n1,x\n2,y\n", ["--target", "b", "--ignore", "a,b"], "ignore holds the target, 'b'."),
        ("a,b\n1,x\n2,y\n", ["--target", "b", "--flip"], "flip, shift and filters are for pictures"),
        ("a,b\n1,x\n2,y\n", ["--target", "b", "--image-size", "3"], "image_size is for pictures"),
        ("a,b\n" + "".join(f"n{i},{i % 2}\n" for i in range(101)), ["--target", "b"], "leave the column out"),
        ("a\n1,2\n", ["--target", "a"], "line 2, has 2 cells where the first line names 1 column."),
        ('a,b\n"1\n2",3\n\n4,5\n"6,7\n8,9\n', ["--target", "b"],
         'no CSV file: in the row that begins in line 6 a quote (") is opened and not closed up to the end'),
        ('"a,b\n1,2\n', ["--target", "b"], 'in the row that begins in line 1 a quote (") is opened'),
        ('a,b\n1,2\n"3"4,5\n', ["--target", "b"], "in the row that begins in line 3 ',' expected after"),
        ("\xff\xfe", ["--target", "b"], "is no text in UTF-8"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit(tmp_path, capsys, table, options, message):
    (tmp_path / "table.csv").write_bytes(table.encode("latin1"))
    code, _, err = npnet(capsys, "train", "table.csv", *options)
    assert code in (1, 2) and message in err
    assert not (tmp_path / "runs").exists()


@UNDRAWN
def test_export_keeps_names_and_encoding(houses, tmp_path, capsys):
    import onnxruntime

    few = ["--ignore", "id", "--epochs", 1, "--kernels", "numpy", "--run-dir", "run", "--tensorboard"]
    assert npnet(capsys, "train", houses, "--target", "kind", *few)[0] == 0
    assert list((tmp_path / "run/tensorboard").rglob("events*"))
    code, out, _ = npnet(capsys, "export", "run", "model.onnx")
    assert code == 0 and "class_names" in out
    session = onnxruntime.InferenceSession("model.onnx")
    kept = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    assert kept["class_names"] == ["flat", "house"] and kept["target"] == "kind"
    assert [column["name"] for column in kept["encoding"]] == ["size", "rooms", "town", "price"]
    x = np.zeros((1, 6), np.float32)
    expected = load_model("run/last.safetensors").predict(x, verbose=0)
    assert session.run(None, {"x": x})[0] == pytest.approx(expected, abs=1e-6)


def test_npnet_alone_prints_help(capsys):
    code, out, err = npnet(capsys)
    assert code == 0 and err == "" and "usage: npnet" in out and "export" in out


def test_a_wrong_value_is_answered_by_a_value_of_the_same_option(capsys):
    err = npnet(capsys, "train", "--schedule", "cosin")[2]
    assert "Did you mean cosine?" in err
    err = npnet(capsys, "train", "--schedule", "adam")[2]
    assert "Did you mean" not in err, "adam is an optimizer"
    assert "Did you mean evaluate?" in npnet(capsys, "evalute")[2]


def test_names_that_are_no_data(capsys, houses):
    code, _, err = npnet(capsys, "train", "minst")
    assert code == 2 and "'minst' is no data set" in err and "Did you mean mnist?" in err
    code, _, err = npnet(capsys, "train", "nothing.csv", "--target", "a")
    assert code == 1 and "nothing.csv" in err and "No such file" in err
    code, _, err = npnet(capsys, "train", houses, "--data", "x", "--target", "a")
    assert code == 2 and "--data is for published data sets" in err
    code, _, err = npnet(capsys, "train", "shapes", "--target", "a")
    assert code == 2 and "target is for table, not for shapes" in err


def test_a_published_table(tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1000, (300, 8))
    y = 50.0 * x[:, 7] + 1000
    monkeypatch.setattr(california_housing, "load_data", lambda: ((x[:240], y[:240]), (x[240:], y[240:])))
    code, out, err = npnet(capsys, "train", "california_housing", *FEW, *MORE, "--limit", 200)
    assert (code, err) == (0, "")
    assert "160 rows to train on, 40 held out" in flat(out)
    assert "60 to test on, 8 features, one quantity" in flat(out)
    run = "runs/california_housing-001"
    result = RunFolder(run).read_json("result.json")
    assert result["quantity"]["r2"] > 0.9 and result["quantity"]["target"] == "median_house_value"
    page = (tmp_path / run / "report.html").read_text()
    assert "60 test rows" in page and "npnet train california_housing --hidden" in page
    code, out, _ = npnet(capsys, "evaluate", run)
    assert code == 0 and "60 rows of california_housing" in out
    write(tmp_path / "new.csv", x[240:243], california_housing.FEATURE_NAMES)
    code, out, _ = npnet(capsys, "predict", run, "new.csv")
    predicted = [float(row["predicted median_house_value"]) for row in read(out)]
    assert code == 0 and np.abs(predicted - y[240:243]).max() < 10_000
    code, _, err = npnet(capsys, "train", "california_housing", "--test-split", 0.3)
    assert code == 2 and "test_split is for data of your own" in err
    code, _, err = npnet(capsys, "train", "california_housing", "--flip")
    assert code == 2 and "the samples of california_housing are rows of a table" in err


@UNDRAWN
def test_a_model_file_away_from_its_run_knows_its_classes(flowers, tmp_path, capsys):
    assert npnet(capsys, "train", flowers, "--image-size", 12, *FEW, *MORE, "--run-dir", "run")[0] == 0
    (tmp_path / "run/best.safetensors").rename(tmp_path / "flowers.safetensors")
    paint(tmp_path / "new.webp", 40)
    code, out, err = npnet(capsys, "predict", "flowers.safetensors", "new.webp")
    assert (code, err) == (0, "") and out.split()[:2] == ["model", "flowers.safetensors"]
    assert "\n  rose " in out
    code, out, _ = npnet(capsys, "predict", "flowers.safetensors", "new.webp", "--json")
    assert code == 0 and json.loads(out)["images"][0]["classes"][0]["class"] == "rose"
    code, _, err = npnet(capsys, "predict", "flowers.safetensors", "new.webp", "--last")
    assert code == 2 and "flowers.safetensors is a file" in err

    model = load_model("flowers.safetensors")
    assert model.class_names == ("daisy", "rose")
    model.class_names = ()
    model.save("old.safetensors")
    code, out, _ = npnet(capsys, "predict", "old.safetensors", "new.webp")
    assert code == 0 and "\n  1 " in out
    model.class_names = ["one"]
    model.save("wrong.safetensors")
    code, _, err = npnet(capsys, "predict", "wrong.safetensors", "new.webp")
    assert code == 1 and "names 1 classes, but its model has 2 outputs" in err
    with pytest.raises(TypeError, match="class_names must be a list of names"):
        model.class_names = "one"


@UNDRAWN
def test_a_model_file_of_a_table_is_no_model_of_pictures(houses, tmp_path, capsys):
    few = [*FEW, "--ignore", "id,kind", "--run-dir", "run", "--target", "price"]
    assert npnet(capsys, "train", houses, *few)[0] == 0
    code, _, err = npnet(capsys, "predict", "run/last.safetensors", "new.webp")
    assert code == 1 and "knows no pictures" in err
