"""The page in headless Chromium: drawing, searching, sorting and downloading, without any network request."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import jaxstab
from jaxstab.report import figures
from jaxstab.report.formats import Cell, Table
from jaxstab.report.page import Page, Picture, Section, render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium; install it with: make browser"),
    # Playwright does not close its event loop; the garbage collector does.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ROWS = [
    [Cell("1", label="one", meaning="the first"), "9.5 (9.0 to 9.9)", "apple <script>document.title='broken'</script>"],
    ["2", "10.25", "pear"],
    ["3", "-", "fig"],
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def visit(browser):
    """Opens a file; fails at the end if the page wrote to the console or made a request."""
    said, asked, contexts = [], [], []

    def open_page(path, **options):
        context = browser.new_context(accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report that compares three methods with simulated seeds."""
    directory = tmp_path_factory.mktemp("report")
    labels = np.random.default_rng(9).integers(0, 2, 60)
    paths = []
    for number, name in enumerate(["standard", "b", "c"]):
        rng = np.random.default_rng(number)
        logits = 3 * np.eye(2)[labels] + (2 + number) * rng.normal(size=(7, 60, 2))
        hidden = rng.normal(size=(7, 5, 60, 6))
        paths.append(directory / f"{name}.npz")
        np.savez(paths[-1], logits=logits, labels=labels, representations=hidden.astype(np.float32), seeds=np.arange(7))
    page, _ = jaxstab.write_report(paths, directory / "report.html")
    return directory / "report.html", page


@pytest.fixture
def small(tmp_path):
    """A page with one table, one figure and a folded part."""
    drawn = figures.votes_histogram(np.array([0.5, 0.6, 1.0, 1.0]))
    table = Table("t", ["id", "value", "text"], ROWS)
    folded = Section("below", ["a sentence about plums"], folded=True)
    section = Section("s", pictures=[Picture("one", drawn, "caption")], tables=[table], sections=[folded])
    path = tmp_path / "small.html"
    path.write_text(render(Page("title", "headline", [section])), encoding="utf-8")
    return path


def _unfold(page):
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")


def test_every_figure_of_a_report_is_drawn(report, visit):
    path, content = report
    page = visit(path)
    _unfold(page)
    boxes = page.eval_on_selector_all(
        "figure svg",
        "all => all.map(svg => { const box = svg.getBBox(); return [svg.clientWidth, box.width, box.height]; })",
    )
    assert len(boxes) == len(content.pictures) > 20
    assert all(width > 100 and w > 50 and h > 50 for width, w, h in boxes)
    images = page.eval_on_selector_all("figure image", "all => all.map(image => image.getBBox().width)")
    assert images
    assert all(width > 0 for width in images)
    assert page.locator(".headline").inner_text() == content.headline
    assert path.stat().st_size < 600_000


def test_the_first_screen_tells_the_story(report, visit):
    page = visit(report[0], viewport={"width": 1400, "height": 900})
    for what in (".headline", "#60-examples-ratios svg", "#seeds-by-method svg", "text=Cannot tell"):
        box = page.locator(what.replace("#60", "#\\36 0")).first.bounding_box()
        assert box["y"] + box["height"] <= 900, what


def test_dots_are_named_where_one_points(report, visit):
    page = visit(report[0])
    dot = page.locator("#seeds-by-method [data-says*='b, seed 3']")
    assert dot.count() == 1
    dot.hover()
    assert page.locator("#tip").inner_text().startswith("b, seed 3: 0.")
    page.locator(".headline").hover()
    assert not page.locator("#tip").is_visible()


def test_methods_are_chosen(report, visit):
    page = visit(report[0])
    column = page.locator("main .table").first.locator("th, td").filter(has_text="c").first
    assert column.is_visible()
    faded = page.locator("#seeds-by-method .faded")
    assert faded.count() == 0
    page.uncheck("fieldset[data-of=method] input[value=c]")
    heads = page.locator("main .table").first.locator("thead th:visible").all_inner_texts()
    assert heads == ["measure", "standard", "b"]
    assert {one.get_attribute("data-method") for one in faded.all()} == {"c"}
    assert not page.locator("details.part[data-method=c]").first.is_visible()
    assert page.locator("details.part[data-method=b]").first.is_visible()


def test_the_example_in_the_docs(visit):
    page = visit(Path(__file__).parents[1] / "docs" / "example.html")
    assert page.locator("figure svg").count() > 10
    page.fill("input[type=search]", "mixout svcca")
    assert page.locator("tbody tr:visible").count() > 1
    assert "SVCCA" in page.locator("tbody tr:visible th").first.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read(report, visit, scheme):
    page = visit(report[0], viewport={"width": 390, "height": 844}, color_scheme=scheme)
    _unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    table = page.locator(".scroll").first
    before = table.locator("tbody th").first.bounding_box()["x"]
    table.evaluate("one => one.scrollLeft = 150")
    assert table.locator("tbody th").first.bounding_box()["x"] == before
    names = ("color", "backgroundColor")
    colours = [
        page.evaluate(f"() => getComputedStyle(document.body).{name}.match(/\\d+/g).map(Number)") for name in names
    ]
    assert _contrast(*colours) > 7
    soft = page.evaluate(
        "() => getComputedStyle(document.querySelector('figcaption')).color.match(/\\d+/g).map(Number)"
    )
    assert _contrast(soft, colours[1]) > 4.5
    text = page.evaluate(
        "() => getComputedStyle(document.querySelector('figure svg text')).fill.match(/\\d+/g).map(Number)"
    )
    assert _contrast(text, colours[1]) > 4.5
    smallest = page.evaluate(
        """() => Math.min(...[...document.querySelectorAll("figure svg text")].map(text => {
            const svg = text.closest("svg");
            return parseFloat(getComputedStyle(text).fontSize) * svg.clientWidth / svg.viewBox.baseVal.width;
        }))"""
    )
    assert smallest >= 11.9  # pixels


def _contrast(one, other):
    """The contrast ratio of two colours (WCAG 2.1)."""

    def luminance(colour):
        parts = np.array(colour[:3]) / 255
        return np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_everything_is_searched(small, visit):
    page = visit(small)
    rows = page.locator("tbody tr:visible")
    page.fill("input[type=search]", "PEAR")
    assert rows.count() == 1
    assert page.locator("output").inner_text() == "1 row in 1 table, 0 figures and texts"
    page.fill("input[type=search]", "plum")
    assert page.locator("text=a sentence about plums").is_visible()
    assert rows.count() == 0
    page.fill("input[type=search]", "50% of the seeds")  # what a part of the figure says
    assert page.locator("figure").is_visible()
    page.fill("input[type=search]", "nothing")
    assert rows.count() == 0
    page.fill("input[type=search]", "")
    assert rows.count() == 3
    assert not page.locator("text=a sentence about plums").is_visible()


def test_a_name_is_explained_on_demand(small, visit):
    page = visit(small)
    assert not page.locator("text=the first").is_visible()
    page.click("text=one >> visible=true")
    assert page.locator("text=the first").is_visible()
    assert page.locator("tbody code").inner_text() == "1"


def test_rows_are_sorted_as_numbers_and_back(small, visit):
    page = visit(small)
    head = page.locator("th", has_text="value")

    def order():
        return page.eval_on_selector_all("tbody tr", "all => all.map(row => row.cells[0].textContent.trim()[0])")

    head.locator("button").click()
    assert order() == ["o", "2", "3"]  # 9.5 before 10.25; a row without a number comes last
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    assert order() == ["2", "o", "3"]
    assert head.get_attribute("aria-sort") == "descending"
    page.locator("th", has_text="text").locator("button").press("Enter")
    assert order() == ["o", "3", "2"]
    assert head.get_attribute("aria-sort") is None


def test_a_script_in_a_text_does_nothing(small, visit):
    page = visit(small)
    assert page.title() == "title"
    assert "<script>" in page.locator("tbody tr").first.inner_text()


def test_figures_are_downloaded(small, visit):
    page = visit(small)
    for form, start in (("svg", b"<svg"), ("png", b"\x89PNG")):
        with page.expect_download() as waiting:
            page.click(f"figure button[data-form={form}]")
        download = waiting.value
        assert download.suggested_filename == f"one.{form}"
        with open(download.path(), "rb") as file:
            content = file.read()
        assert content.startswith(start)
        assert len(content) > 1000


def test_the_theme_can_be_switched(small, visit):
    page = visit(small, color_scheme="light")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == before


def test_without_javascript_everything_is_there(small, visit):
    page = visit(small, java_script_enabled=False)
    assert page.locator("tbody tr").count() == 3
    assert page.locator("figure svg").count() == 1


def test_it_prints(report, visit):
    page = visit(report[0], color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("figure button").first.is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('thead')).display") == "table-header-group"
    pages = page.pdf(format="A4").count(b"/Type /Page\n")
    assert 1 <= pages <= 4
