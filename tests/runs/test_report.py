"""The report of a run: whole, readable by machines and people, silent towards the network."""

import random
import re
import shutil
from html.parser import HTMLParser

import pytest
from finished import change, make_run

from npnet.runs.folder import RunFolder
from npnet.runs.report import pictures, write_report

VOID = {"meta", "img", "br", "link", "input", "hr"}
NASTY = '<script>alert("&")</script>'


class Page(HTMLParser):
    """A page's elements, taken apart by a parser that insists on balanced tags."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(page)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs)
        self.elements.append((tag, attributes, tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())

    def all(self, tag):
        return [attributes for name, attributes, _ in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(text for text in self.texts if text)


def report_of(folder):
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("runs") / "shapes-001")
    write_report(folder)
    return folder


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture(scope="module")
def spiral(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "spiral-001", dataset="spiral")


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "shapes-002"
    return make_run(path, recipe="cnn", filters=[20, 4], hidden=[16])


@pytest.fixture(scope="module")
def convolutional_page(convolutional):
    return report_of(convolutional)


def test_the_page_holds_everything_and_asks_for_nothing(made):
    page = (made / "report.html").read_text(encoding="utf-8")
    assert len(page) < 3e6
    assert not re.search(r"https?:|@import|url\(", page)
    parsed = Page(page)
    tags = {tag for tag, _, _ in parsed.elements}
    assert not tags & {"script", "link", "iframe", "object", "form", "base"}
    assert not [name for _, attributes, _ in parsed.elements for name in attributes if name.startswith("on")]
    assert all(image["src"].startswith("data:image/png;base64,") for image in parsed.all("img"))
    (policy,) = [meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv")]
    assert "default-src 'none'" in policy


def test_every_picture_says_what_it_shows(made):
    parsed = Page((made / "report.html").read_text(encoding="utf-8"))
    images = parsed.all("img")
    assert len(images) == 24 + 32 + 32  # mistakes, samples, units of the first layer
    assert all(len(image["alt"]) > 5 for image in images)
    charts = parsed.all("svg")
    assert len(charts) == 4 and all(chart["role"] == "img" for chart in charts)
    titles = [path for tag, _, path in parsed.elements if tag == "title" and path[-1] == "svg"]
    assert len(titles) == len(charts)


def test_it_tells_what_the_run_came_to(made):
    result = made.read_json("result.json")
    text = Page((made / "report.html").read_text(encoding="utf-8")).text
    for words in (
        f"{result['test']['accuracy']:.1%}", "of 100 test images", "Guessing would give 10%", "Finished:",
        "2025-11-30 09:05, on desk, npnet 0.1.0, commit c0ffeec0ff", "command npnet train shapes",
        "shapes-001: shapes, recipe tutorial", "learning rate 0.001, the optimizer's own", "limit 200",
        "threads as many as CPUs are allowed",
        f"{result['parameters']:,}", "12,345", "dense_2 (Dense)", "batch size", "512", result["digest"],
        "backward 45%", "training 55% 5.1 s", "other 2% 0.2 s", "knows which pixels are neighbours",
        f"npnet compare {made.path} OTHER_RUN", f"npnet train --config {made.path}/config.json",
    ):  # fmt: skip
        assert words in text, words


def test_a_convolutional_network_shows_its_filters_its_maps_and_where_it_looks(convolutional_page):
    alts = [image["alt"] for image in convolutional_page.all("img")]
    assert sum(alt.startswith("weights of filter") for alt in alts) == 20
    maps = [alt for alt in alts if alt.startswith("feature map")]
    assert maps == [
        f"feature map {n} of {layer}"
        for layer, count in (("conv2d", 16), ("max_pooling2d", 16), ("conv2d_1", 4), ("max_pooling2d_1", 4))
        for n in range(1, count + 1)
    ]
    assert alts.count("the same, bright where covering it costs most") == 8
    text = convolutional_page.text
    for words in (
        "Each filter of the first layer has 3 x 3 x 3 weights", "conv2d 30 x 30 x 20", "Where it looks",
        "4 convolutions, 1 hidden layer: 16", "filters 20, 4",
    ):  # fmt: skip
        assert words in text, words


def test_the_next_step_is_true_of_the_network(convolutional, convolutional_page, made, tmp_path, monkeypatch):
    dense, convolves = report_of(made).text, convolutional_page.text
    assert "npnet train shapes --recipe cnn" in dense and "--recipe best" in dense
    assert "bag of numbers" in dense and "bag of numbers" not in convolves
    assert "--recipe cnn --flip --shift 3 --batch-norm" in convolves and "--recipe best" not in convolves
    shutil.copytree(convolutional.path, tmp_path / "varied")
    change(RunFolder(tmp_path / "varied"), "config.json", flip=True)
    monkeypatch.setattr(pictures, "LOOKS", 1)  # where it looks takes most of a report's time
    assert "--flip" not in report_of(RunFolder(tmp_path / "varied")).text


def test_classes_stand_with_their_share_and_their_commonest_mistake(run):
    change(
        run, "result.json", class_names=["cat", "dog", "ship"], confusion=[[6, 4, 0], [1, 8, 1], [0, 0, 10]]
    )
    (run / "images.safetensors").unlink()
    text = re.sub(r"\s+", " ", report_of(run).text)
    assert "ship 100% no other dog 80% cat 10% cat 60% dog 40%" in text
    assert "cat 60 40 dog 10 80 10 ship 100" in text


# --- which figure is said, and on what it was chosen -------------------------------------------------------


def test_without_images_held_out_the_figure_is_the_last_epoch_s_and_says_so(made):
    text = report_of(made).text
    assert "after the last epoch, 3. No epoch was chosen by what comes out on the test images;" in text
    assert "the validation curve on the test images, after every epoch" in text and "Best epoch" not in text


def test_with_images_held_out_the_figure_is_that_of_the_epoch_chosen_on_them(run):
    change(run, "config.json", validation_split=0.25)
    change(run, "result.json", best_epoch=2, held_out=50)
    text = report_of(run).text
    assert (
        "after epoch 2, which was chosen on 50 images held out of training. The test images were used" in text
    )
    assert "the validation curve on 50 images held out of training" in text
    assert "Best epoch 2 of 3, on the samples held out" in text


def test_a_stopped_run_s_figure_says_where_it_was_stopped(run):
    change(run, "result.json", status="interrupted", epochs=2)
    assert (
        "classified correctly after 2 epochs, where training was stopped; the network" in report_of(run).text
    )


@pytest.mark.parametrize("split", [0.0, 0.25])
def test_the_figure_of_a_run_that_goes_on_is_its_last_validation(run, split):
    (run / "result.json").unlink()
    change(run, "config.json", validation_split=split)
    where = "images held out of training" if split else "the test images"
    assert f"validation accuracy after epoch 3, the last so far, on {where}." in report_of(run).text


def test_all_and_none_are_said_of_all_and_none_only(run):
    names = ["cat", "dog", "ship"]
    change(run, "result.json", class_names=names, confusion=[[199, 1, 0], [0, 9998, 2], [0, 0, 10]])
    (run / "images.safetensors").unlink()
    text = re.sub(r"\s+", " ", report_of(run).text)
    assert "ship 100% no other dog 99% ship <1% cat 99% dog <1%" in text
    assert text.count("99.9% 10,207 of 10,210 test images") == 1


def test_a_failed_run_leads_with_its_failure(run):
    change(run, "result.json", status="failed", reason="The loss was nan in step 7.")
    page = report_of(run)
    assert page.text.startswith("Failed: run - npnet")
    assert re.search(
        r"Failed after 3 of 3 epochs\. The loss was nan in step 7\. .*The last weights", page.text
    )
    assert "classified correctly" not in page.text.partition("Test loss")[0]


def test_what_users_named_is_text(tmp_path):
    names = [NASTY, "a&b", "'quoted\"", *"cdefghi", "<b>"]
    folder = make_run(tmp_path / "<i> & 'runs'", names=names[:10])
    change(folder, "config.json", data=NASTY)
    change(folder, "result.json", status="failed", reason=NASTY)
    page = write_report(folder).read_text(encoding="utf-8")
    parsed = Page(page)
    assert not parsed.all("script") and not parsed.all("i")
    assert parsed.text.count(NASTY) >= 3
    assert NASTY in {
        image["alt"].removeprefix("a training image of the class ") for image in parsed.all("img")
    }


# --- runs that did not come to an end -----------------------------------------------------------------------


def test_an_interrupted_run_says_how_to_go_on(run):
    change(run, "result.json", status="interrupted")
    change(run, "config.json", epochs=20)
    text = report_of(run).text
    assert "Interrupted after 3 of 20 epochs" in text and f"npnet train --resume {run.path}" in text


def test_a_failed_run_says_why(run):
    change(
        run, "result.json", status="failed", reason="The loss was nan in step 7.", step_share=None, test=None
    )
    text = report_of(run).text
    assert "Failed after 3 of 3 epochs. The loss was nan in step 7." in text
    assert "A training step" not in text and "The last weights saved" not in text


def test_a_run_stopped_before_anything_was_measured(run):
    for name in ("result.json", "history.json", "images.safetensors", "last.safetensors"):
        (run / name).unlink()
    parsed = report_of(run)
    assert "Not finished: 0 of 3 epochs so far" in parsed.text
    assert "batch size" in parsed.text and not parsed.all("img") and not parsed.all("svg")


def test_epochs_without_validation_or_with_nan_leave_gaps(run):
    change(run, "history.json", loss=[2.0, float("nan"), 1.0], val_loss=None, val_accuracy=[None, 0.5, None])
    text = report_of(run).text
    assert "lowest in training: 1.0000, epoch 3" in text and "highest in validation: 50.0%, epoch 2" in text


def test_a_long_run_lists_some_of_its_epochs(run):
    before = run.read_json("history.json")
    change(
        run,
        "history.json",
        **{name: (values * 40)[:100] for name, values in before.items()} | {"epoch": [*range(1, 101)]},
    )
    rows = [path for tag, _, path in report_of(run).elements if tag == "tr" and "details" in path]
    assert len(rows) == 1 + 30


def test_spiral_shows_its_boundary(spiral):
    parsed = report_of(spiral)
    (boundary,) = parsed.all("img")
    assert "Decision boundary" in boundary["alt"]
    assert "test points" in parsed.text and "npnet train cifar10" in parsed.text
    assert "npnet predict" not in parsed.text


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape("holds no config.json: not a run")):
        write_report(RunFolder(tmp_path))


def test_damaged_pictures_are_refused_or_pictures_all_the_same(run):
    """Cut off anywhere, any bit changed: a sentence that names the file, and no more memory than it has."""
    content, choose = (run / "images.safetensors").read_bytes(), random.Random(0)
    header = 8 + int.from_bytes(content[:8], "little")
    for attempt in range(40):
        damaged = bytearray(content)
        if attempt % 2:
            del damaged[choose.randrange(len(content)) :]
        else:
            damaged[choose.randrange(header)] ^= 1 << choose.randrange(8)
        (run / "images.safetensors").write_bytes(damaged)
        try:
            write_report(run)
        except ValueError as error:
            assert "images.safetensors is damaged" in str(error)
        else:
            assert attempt % 2 == 0, "what is cut off is noticed"


def test_the_same_run_gives_the_same_page(run):
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
