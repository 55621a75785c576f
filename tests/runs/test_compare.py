"""`npnet report` and `npnet compare`, as a user calls them."""

import re
import shutil

import pytest
from finished import change, make_run
from matplotlib.text import Text

from npnet.cli import main
from npnet.runs import comparison
from npnet.runs.folder import RunFolder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    first = make_run(folder / "spiral-001", dataset="spiral", epochs=2)
    second = make_run(folder / "spiral-002", dataset="spiral", epochs=3, hidden=[8], seed=1)
    started = make_run(folder / "spiral-003", dataset="spiral", epochs=1)
    (started / "result.json").unlink()
    (started / "history.json").unlink()
    return [first, second, started]


@pytest.fixture
def killed(tmp_path):
    """A run that ended two of three epochs and was killed."""
    folder = make_run(tmp_path / "killed", dataset="spiral", epochs=2)
    change(folder, "config.json", epochs=3)
    (folder / "result.json").unlink()
    return folder


def test_report_writes_reports_again_and_says_where(runs, capsys):
    assert main(["report", str(runs[0].path), str(runs[2].path)]) == 0
    paths = [run / "report.html" for run in (runs[0], runs[2])]
    assert capsys.readouterr().out.split() == [str(path) for path in paths]
    assert all("</html>" in path.read_text(encoding="utf-8") for path in paths)


def test_report_of_no_run_says_so_in_a_line(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"npnet report: {tmp_path} holds no config.json: not a run, or one that did not come so far.\n"
    )


def test_compare_shows_figures_the_settings_that_differ_and_the_curves(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    picture = tmp_path / "both.png"
    assert main(["compare", *(str(run.path) for run in runs), "--output", str(picture)]) == 0
    head, _, first, second, started, _, where, without = capsys.readouterr().out.splitlines()
    assert head.split(None, 4)[4].split() == ["seconds", "samples/s", "epochs", "hidden", "seed"]
    test = runs[0].read_json("result.json")["test"]
    assert first.split()[:3] == ["spiral-001", f"{test['accuracy']:.4f}", f"{test['loss']:.4f}"]
    assert first.split()[3:6] == ["2/2", "9.2", "12,345"]
    assert second.split()[4:] == ["9.2", "12,345", "3", "8", "1"]
    assert started.split()[:6] == ["spiral-003", "-", "-", "0/0", "-", "-"]
    assert where == f"curves: {picture}" and picture.read_bytes().startswith(b"\x89PNG")
    assert without == "without spiral-003: no accuracy after any epoch"


def test_a_narrow_terminal_gets_a_column_a_run(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    picture = tmp_path / "both.png"
    assert main(["compare", *(str(run.path) for run in runs), "--output", str(picture)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()[:11]
    assert head.split() == ["run", "spiral-001", "spiral-002", "spiral-003"]
    assert [line.split()[0] for line in lines[1:4]] == ["accuracy", "loss", "epoch"]
    assert all(len(line) <= 60 for line in lines)


def test_curves_lie_over_epochs_and_over_seconds(runs):
    over_epochs, over_seconds = comparison.draw(comparison.read([run.path for run in runs])).axes
    history = runs[1].read_json("history.json")
    longer = over_epochs.lines[2]  # each run has its curve and its best point
    assert list(longer.get_xdata()) == [1, 2, 3] and list(longer.get_ydata()) == history["val_accuracy"]
    assert list(over_seconds.lines[2].get_xdata()) == history["seconds"]
    assert over_epochs.lines[3].get_ydata() == history["val_accuracy"][-1:], "the last, not the best"


def test_a_run_that_chose_its_epoch_is_compared_by_it(runs, tmp_path):
    shutil.copytree(runs[1].path, tmp_path / "chosen")
    chosen = RunFolder(tmp_path / "chosen")
    change(chosen, "config.json", validation_split=0.2)
    change(chosen, "result.json", best_epoch=2, held_out=12)
    change(chosen, "history.json", val_accuracy=[0.25, 0.75, 0.5])
    entries = comparison.read([chosen.path, runs[0].path])
    assert comparison.rows(entries)[1][0][3] == "2/3"
    figure = comparison.draw(entries)
    assert list(figure.axes[0].lines[1].get_ydata()) == [0.75]
    first, second = (text.get_text() for text in figure.legends[0].get_texts())
    assert first.startswith("chosen: 0.7500 of the samples held out after epoch 2, ")
    assert " of the test samples after epoch 2, " in second


def test_a_killed_run_is_compared_by_its_last_figures(runs, killed, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    arguments = ["compare", str(killed.path), str(runs[0].path), "--output", str(tmp_path / "both.png")]
    assert main(arguments) == 0
    _, _, first, _, _, remark, *_ = capsys.readouterr().out.splitlines()
    history = killed.read_json("history.json")
    figures = [f"{history[name][-1]:.4f}*" for name in ("val_accuracy", "val_loss")]
    assert first.split()[:6] == ["killed", *figures, "2/2", "3.0", "-"]
    assert remark == "* from the last validation: this run has not been measured on the test samples"


def test_a_setting_that_was_not_made_is_compared_as_what_it_is(runs, tmp_path):
    other = make_run(tmp_path / "other", dataset="spiral", epochs=2, learning_rate=0.5)
    head, rows = comparison.rows(comparison.read([runs[0].path, other.path]))
    assert head[-1] == "learning rate" and [row[-1] for row in rows] == ["0.001, the optimizer's own", "0.5"]


def test_equal_settings_and_names_are_told_apart(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    again = make_run(tmp_path / "spiral-001", dataset="spiral", epochs=2)
    change(again, "config.json", data="elsewhere")  # decides nothing
    assert main(["compare", str(runs[0].path), "spiral-001"]) == 0
    output = capsys.readouterr().out
    assert "All settings are the same." in output
    assert output.splitlines()[0].split()[1:] == [str(runs[0].path), "spiral-001"]  # a column a run
    assert (tmp_path / "compare.png").exists()


def test_runs_that_have_just_begun_have_no_curves(runs, capsys):
    assert main(["compare", str(runs[2].path), str(runs[2].path)]) == 1
    assert "None of these runs has ended an epoch" in capsys.readouterr().err


def test_compare_wants_two(runs, capsys):
    with pytest.raises(SystemExit):
        main(["compare", str(runs[0].path)])
    assert "RUN" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["curves.xyz", "folder"])
def test_compare_refuses_what_is_no_pictures_name_first(output, runs, capsys):
    with pytest.raises(SystemExit):
        main(["compare", str(runs[0].path), str(runs[1].path), "--output", output])
    said = capsys.readouterr()
    assert f"must end in .png, .svg, .pdf, got '{output}'" in said.err and said.out == ""


def test_a_file_is_no_run(runs, capsys):
    assert main(["report", str(runs[0].path / "config.json")]) == 1
    assert "config.json is a file, not the folder of a run." in capsys.readouterr().err


# --- as a page ----------------------------------------------------------------------------------------------


def page_of(runs, path):
    assert main(["compare", *(str(run.path) for run in runs), "--html", str(path)]) == 0
    return path.read_text(encoding="utf-8")


def test_compare_writes_a_page_that_needs_nothing_else(runs, killed, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = page_of([*runs, killed], tmp_path / "page.html")
    assert f"page: {tmp_path / 'page.html'}" in capsys.readouterr().out
    assert not (tmp_path / "compare.png").exists()
    text = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", page, flags=re.S)
    cells = re.findall(r"<t[hd][^>]*>\s*(.*?)\s*</t[hd]>", text, flags=re.S)
    test = runs[1].read_json("result.json")["test"]
    assert f"{test['accuracy']:.4f}" in cells and "spiral-002" in cells
    assert cells[cells.index("hidden") :][:5] == ["hidden", "32, 16", "8", "32, 16", "32, 16"]
    assert "* from the last validation" in text, "killed"
    titles = re.findall(r"<title>(.*?)</title>", page)[1:]
    assert [title.partition(":")[0] for title in titles] == [
        "Accuracy over the epochs", "Accuracy over the time", "Loss over the epochs", "Loss over the time",
    ]  # fmt: skip
    last = runs[1].read_json("history.json")["val_accuracy"][-1]
    assert f"spiral-002 ends at {last:.1%}" in titles[0] and "spiral-003" not in titles[0]
    assert not re.search(r"https?:|<script|<link|src=", page)


def test_every_run_has_a_line_of_its_own_on_the_page(runs, tmp_path):
    many = [shutil.copytree(runs[0].path, tmp_path / f"<run {i}>") for i in range(8)]
    page = page_of(map(RunFolder, many), tmp_path / "page.html")
    assert "<run 1>" not in page and "&lt;run 1&gt;" in page
    chart = re.findall(r"<svg viewBox=\"0 0 400.*?</svg>", page, flags=re.S)[0]
    lines = re.findall(r'fill="none" (stroke="var.*?)/>', chart)
    assert len(set(lines)) == 8
    assert "run 1" not in re.sub("<title>.*?</title>", "", chart), "more than fit are not named beside it"
    assert "All settings are the same." in page


def test_runs_that_have_just_begun_are_compared_on_a_page_too(runs, tmp_path):
    assert "How they learned" not in page_of([runs[2], runs[2]], tmp_path / "page.html")


def test_the_page_has_a_pages_name(runs, capsys):
    with pytest.raises(SystemExit):
        main(["compare", str(runs[0].path), str(runs[1].path), "--html", "page.png"])
    assert "argument --html: must end in .html, got 'page.png'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["$a_$", r"$\foo{$", "100 $ - 200 $"])
def test_names_are_drawn_as_they_are(runs, tmp_path, monkeypatch, name):
    """A folder's name is no formula, whatever it looks like."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs[0].path, tmp_path / name)
    assert main(["compare", name, str(runs[1].path), "--output", "both.png"]) == 0
    figure = comparison.draw(comparison.read([name, runs[1].path]))
    shown = [text for text in figure.findobj(Text) if name in text.get_text()]
    assert shown and not any(text.get_parse_math() for text in shown)


def test_runs_of_other_data_of_ones_own_differ_by_it(runs, tmp_path):
    folders = [make_run(tmp_path / name, dataset="spiral", epochs=2) for name in "ab"]
    for folder, data in zip(folders, ("one.csv", "other.csv"), strict=True):
        change(folder, "config.json", dataset="table", data=data)
    assert comparison.differing(comparison.read([folder.path for folder in folders])) == ["data"]
