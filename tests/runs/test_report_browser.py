"""The report in a real browser: silent, no requests, nothing cut off, tiny or pale, on screens and paper."""

import shutil

import pytest
from finished import make_run

from npnet.runs.report import write_report

pytestmark = pytest.mark.browser
WRITTEN = """[...document.querySelectorAll("body *")].filter(e => e.getClientRects().length
    && [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()))"""
WIDE = """() => [...document.querySelectorAll("body *")]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest("details, svg"))
    .map(e => `${e.tagName} ${e.textContent}`)"""
SMALLEST = f"""() => Math.min(...{WRITTEN}
    .map(e => parseFloat(getComputedStyle(e).fontSize) * (e.ownerSVGElement?.getScreenCTM().a ?? 1)))"""
CONTRAST = """() => {
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const light = color => {
        canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = e => {
        const color = getComputedStyle(e).backgroundColor;
        return color != "rgba(0, 0, 0, 0)" || !e.parentElement ? color : behind(e.parentElement);
    };
    return WRITTEN.map(e => {
        const style = getComputedStyle(e), ink = light(e.ownerSVGElement ? style.fill : style.color);
        const [less, more] = [ink, light(behind(e))].sort((a, b) => a - b);
        return [(more + 0.05) / (less + 0.05), e.textContent.trim().slice(0, 40)];
    }).sort((a, b) => a[0] - b[0])[0];
}""".replace("WRITTEN", WRITTEN)


@pytest.fixture(scope="module", params=["shapes", "spiral", "convolutions"])
def report(request, tmp_path_factory):
    names = ["automobile", *"bcdefghij"] if request.param == "shapes" else None
    settings = {"dataset": request.param}
    if request.param == "convolutions":
        settings = {"filters": [20, 4], "recipe": "cnn"}
    return write_report(make_run(tmp_path_factory.mktemp("run"), names, **settings))


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("There is no Chromium on this machine.")
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1200])
def test_on_screens(report, chromium, scheme, width):
    page = chromium.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    assert not said
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert page.evaluate("() => [...document.images].every(image => image.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert not page.evaluate(WIDE)
    assert page.evaluate(SMALLEST) > 10
    contrast, words = page.evaluate(CONTRAST)
    assert contrast >= 4.5, words  # WCAG 2, level AA
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert dark == (scheme == "dark")
    page.close()


def test_on_paper_it_is_light_and_nothing_is_cut(report, chromium, tmp_path):
    page = chromium.new_page(color_scheme="dark")
    page.goto(report.as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    inside = page.evaluate(
        "() => [...document.querySelectorAll('figure')].map(e => getComputedStyle(e).breakInside)"
    )
    assert set(inside) <= {"avoid"}
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.close()
