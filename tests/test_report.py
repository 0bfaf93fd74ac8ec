"""The page: its content, safety and figures. For tests in a browser see test_report_browser.py."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

import jaxstab
from jaxstab.cli import main
from jaxstab.report import dots, drawing, figures, forest, matrices
from jaxstab.report.formats import Cell, Table
from jaxstab.report.page import Page, Picture, Point, Section, render
from jaxstab.report.style import DARK, VERMILION, WIDTH, look
from jaxstab.runs.directory import INFO, TEXTS
from jaxstab.runs.files import digest, write_frame
from jaxstab.runs.info import write_info

SCRIPT = "<script>document.title = 'broken'</script> & \"quotes\" $x_1$"
rng = np.random.default_rng(0)


def _seeds(scores, failed, name="test", **which):
    return dots.Seeds(name, np.asarray(scores, float), list(range(len(scores))), np.asarray(failed, bool), **which)


def _every_figure(seeds, fill=None, name="cka", failed=None):
    """One figure of each kind, for a number of seeds; `fill` replaces the random values."""
    values = rng.random((seeds, 3)) if fill is None else np.full((seeds, 3), fill)
    distances = np.zeros((seeds, seeds)) if fill is not None else rng.random((seeds, seeds))
    failed, numbers = np.arange(seeds) == 1 if failed is None else failed, list(range(seeds))
    layers, ends = values[:1].repeat(4, axis=0)[:, 0], np.full((4, 2), np.nan)
    rows = [_seeds(values[:, 0], failed, f"{name}{i}", method=name, place=i) for i in range(9)]
    ratios = {
        ("SD", name): forest.Ratio(1.2, (1, 1.4), True, name),
        ("SD", "other"): forest.Ratio(0.5, None, False, name),
        (name, name): forest.Ratio(None, None, False, name),
        (name, "other"): forest.Ratio(1e5, (0, np.inf), False, name),
    }
    shares = np.stack([values[0, :3]] * 2, 1)
    limits = forest.ratio_limits(list(ratios.values()))
    return [
        dots.seed_dots([(name, rows[:1])], majority=0.5),
        dots.seed_dots([(name, rows)] * 2, height=5),
        figures.seed_curves(values, ylabel=name, names=numbers, failed=failed),
        figures.layer_curves([(name, layers, ends, np.array([1.0, np.nan, 0.9, 0.8]))] * 3),
        matrices.heat_map(distances, name=name, seeds=numbers, failed=failed),
        matrices.correlations(np.array([[1, np.nan, 0.2]] * 3), names=[name] * 3),
        forest.forest(["SD", name], [name, "other"], ratios, baseline=name, limits=limits, title=name),
        figures.votes_histogram(values[:, 0]),
        figures.profiles(np.arange(3.0), [(name, values[0, :3], shares)] * 7),
        figures.curves(np.arange(1, 4), [("a", values[0]), (name, values[0])], xlabel=name, ylabel=name),
    ]


ODD = {
    "one seed": (1, None, None),
    "two seeds": (2, None, None),
    "equal seeds": (8, 0.7915, np.zeros(8, bool)),
    "all failed": (3, 0.5, np.ones(3, bool)),
    "diverged": (3, np.nan, np.ones(3, bool)),
    "200 seeds": (200, None, None),
}


@pytest.mark.parametrize("case", ODD)
def test_every_figure_has_a_sensible_look(case):
    for number, figure in enumerate(_every_figure(*ODD[case][:2], failed=ODD[case][2])):
        assert figure.get_figwidth() == WIDTH
        assert "<svg" in drawing.to_svg(figure, f"f{number}", "title")  # also draws, which places the ticks
        texts = [text for text in figure.findobj(Text) if text.get_text()]
        assert min(text.get_fontsize() for text in texts) >= 12
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                assert axis.get_offset_text().get_text() == ""  # nothing like 1e-9+7.915e-1
            assert axes.get_legend() is None  # legends are outside of the axes
            drawn = axes.lines or axes.collections or axes.images or axes.patches
            assert drawn or axes.texts, "blank without a word"


def test_axes_are_wide_enough_where_seeds_agree():
    equal, good = np.full(8, 0.7915) + 1e-9 * rng.normal(size=8), np.zeros(8, bool)
    for figure in (
        dots.seed_dots([("accuracy", [_seeds(equal, good)])]),
        figures.curves(np.arange(8), [("best", equal)], xlabel="n", ylabel="score"),
        figures.seed_curves(equal[:, None], ylabel="loss", names=range(8), failed=good),
    ):
        low, high = figure.axes[0].dataLim.get_points()[:, 0]
        limits = figure.axes[0].get_xlim() if "accuracy" in figure.axes[0].get_xlabel() else figure.axes[0].get_ylim()
        assert limits[1] - limits[0] >= 0.02
    assert dots.seed_dots([("accuracy", [_seeds(np.ones(3), good[:3])])]).axes[0].get_xlim()[1] < 1.01
    low, high = figures.votes_histogram(np.ones(50)).axes[0].get_xlim()
    assert low < 0.6
    assert high < 1.1


def test_a_map_of_equal_distances_says_so_instead_of_a_colour_bar():
    good = np.zeros(4, bool)
    equal = matrices.heat_map(np.zeros((4, 4)), name="jsd", seeds=range(4), failed=good)
    assert len(equal.axes) == 1
    assert equal.axes[0].get_title(loc="left") == "jsd:\n0 for all pairs"
    blank = matrices.heat_map(np.full((4, 4), np.nan), name="jsd", seeds=range(4), failed=good)
    assert "no pair of seeds" in blank.axes[0].texts[0].get_text()
    assert len(matrices.heat_map(rng.random((4, 4)), name="jsd", seeds=range(4), failed=good).axes) == 2


def test_failed_seeds_look_failed():
    scores = np.linspace(0.5, 0.9, 6)
    failed = scores < 0.6
    figure = dots.seed_dots([("accuracy", [_seeds(scores, failed, method="a", place=1)])])
    marked = [one for one in figure.axes[0].collections if to_hex(one.get_facecolor()[0]) == VERMILION.lower()]
    assert [len(one.get_offsets()) for one in marked] == [failed.sum()]
    svg = drawing.to_svg(figure, "x", "t")
    assert svg.count(", failed: 0.5") == failed.sum()
    assert "<title>test, seed 5: 0.9000</title>" in svg
    assert "failed seed" in svg  # the legend
    curves = figures.seed_curves(np.ones((6, 3)), ylabel="loss", names=range(6), failed=failed)
    assert sum(line.get_color() == VERMILION for line in curves.axes[0].lines) == failed.sum()


def test_ratios_in_a_forest_plot_are_clear_or_not():
    ratios = {
        ("SD", "a"): forest.Ratio(0.5, (0.4, 0.6), True, "a is clear"),
        ("SD", "b"): forest.Ratio(0.9, (0.5, 1.6), False, "b is not"),
        ("CKA", "a"): forest.Ratio(None, None, False, "no ratio: rests on seed 3"),
    }
    limits = forest.ratio_limits(list(ratios.values()))
    assert limits[0] < 0.4
    assert 1.6 < limits[1] < 2
    figure = forest.forest(["SD", "CKA"], ["a", "b"], ratios, baseline="base", limits=limits)
    (axes,) = figure.axes
    dots = {line.get_xdata()[0]: line for line in axes.lines if line.get_marker() != "None"}
    assert set(dots) == {0.5, 0.9}
    assert dots[0.5].get_markerfacecolor() == dots[0.5].get_color()
    assert dots[0.9].get_markerfacecolor() != dots[0.9].get_color()
    assert [text.get_text().strip() for text in axes.texts] == ["no ratio"]
    svg = drawing.to_svg(figure, "x", "t")
    assert "<title>no ratio: rests on seed 3</title>" in svg
    assert svg.count('data-method="b"') == 2  # the interval and the value


@pytest.mark.parametrize("methods", [2, 7, 30])
def test_methods_can_be_told_apart(methods):
    looks = [look(place) for place in range(methods)]
    assert len(set(looks)) == methods
    assert set(zip(*looks, strict=True).__next__()) <= set(DARK)


def test_text_is_text_in_every_place():
    cell = Cell(SCRIPT, label=SCRIPT + "label", meaning=SCRIPT + "meaning")
    table = Table(SCRIPT, [SCRIPT], [[SCRIPT], [cell], [Cell(SCRIPT, best=True)], [SCRIPT * 9]], SCRIPT)
    picture = Picture("one", _every_figure(3, name=SCRIPT)[0], SCRIPT, SCRIPT)
    section = Section(
        SCRIPT,
        [SCRIPT],
        [Point(SCRIPT, SCRIPT, SCRIPT)],
        [picture],
        [table],
        [SCRIPT],
        [SCRIPT],
        summary=SCRIPT,
        task=SCRIPT,
        method=SCRIPT,
    )
    sections = [section, replace(section, folded=True, title="folded", pictures=[], sections=[section])]
    html = render(Page(SCRIPT, SCRIPT, sections, [SCRIPT, "b"], [SCRIPT, "b", "c"]))
    assert html.count("<script>") == 1  # the page's own script
    assert html.count("&lt;script&gt;") > 30
    assert "$x_1$" in html


def test_a_page_is_the_same_each_time_and_asks_for_nothing():
    def page():
        pictures = [Picture(f"p{i}", figure, "caption") for i, figure in enumerate(_every_figure(4, 0.5))]
        return render(Page("t", "h", [Section("s", pictures=pictures)]))

    html = page()
    assert html == page()
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:url\(#|href="#)([^")]+)', html)
    assert set(used) <= set(ids)
    assert not re.search(r'(?:src|href)="(?!#|data:)', html)
    assert "@import" not in html
    assert "default-src 'none'" in html


def test_figures_for_papers(tmp_path):
    files = drawing.save(_every_figure(3)[0], tmp_path / "new", "dots")
    assert [path.suffix for path in files] == [".png", ".svg", ".pdf"]
    for path, start in zip(files, (b"\x89PNG", b"<?xml", b"%PDF"), strict=True):
        assert path.read_bytes().startswith(start)
    pdf = (tmp_path / "new" / "dots.pdf").read_bytes()
    assert b"/FontFile2" in pdf or b"/CIDFontType2" in pdf


@pytest.fixture(scope="module")
def run(tmp_path_factory, checkpoint, task_directory):
    import jax

    with jax.numpy_dtype_promotion("standard"):
        return jaxstab.run(
            {
                "name": "tiny",
                "model": {"source": str(checkpoint)},
                "task": {"source": str(task_directory), "text": ["sentence"], "max_length": 16},
                "seeds": {"count": 5, "group_size": 2},
                "train": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3},
                "output": {"dir": str(tmp_path_factory.mktemp("runs") / "tiny")},
            }
        )


def test_a_run_becomes_a_page(run, tmp_path, capsys):
    page = tmp_path / "new" / "page.html"
    assert main(["report", str(run.path), "-o", str(page), "--figures", str(tmp_path / "f"), "--table", "csv"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("measure,value,95 % interval")
    html = page.read_text()
    assert '<p class="headline">tiny on ' in html
    for title in (
        "Training",
        "Seed by seed",
        "Which measures to trust",
        "How many seeds",
        "Examples that flip",
        "How to reproduce",
    ):
        assert f">{title}</h3>" in html
    assert run.info.versions["jax"] in html
    names = {path.stem for path in (tmp_path / "f").glob("*.png")}
    assert names == {path.stem for path in (tmp_path / "f").glob("*.pdf")}
    for end in ("-seeds", "-layers", "-train-loss", "-validation-score", "-map-cka", "-over-seeds", "-best", "-votes"):
        assert any(name.endswith(end) for name in names), end
    predictions = run.logits.argmax(-1)
    contested = [i for i in range(predictions.shape[1]) if len(set(predictions[:, i])) > 1]
    assert f"{len(contested)} of {predictions.shape[1]} examples are contested" in html
    text = run.texts["text"].iloc[contested[0]]
    assert text in html
    assert main(["report", str(run.path), "-o", str(page), "--no-texts"]) == 0
    assert text not in page.read_text()


def _save(path, seeds, *, wrong=0.2, labels=None, draw=0):
    generator = np.random.default_rng(draw)
    labels = np.random.default_rng(9).integers(0, 2, 60) if labels is None else labels
    logits = 3 * np.eye(2)[labels] + 2 * generator.normal(size=(seeds, len(labels), 2)) * wrong * 5
    np.savez(path, logits=logits.astype(np.float32), labels=labels, seeds=np.arange(seeds))
    return path


@pytest.mark.slow
def test_several_runs_are_compared(tmp_path, run):
    paths = [_save(tmp_path / f"{name}.npz", 6, draw=i) for i, name in enumerate(["standard", "b", "c"])]
    page, tables = jaxstab.write_report(paths, tmp_path / "p.html")
    assert page.headline.startswith("With 6 seeds of each, no difference from standard")
    assert page.sections[0].title == "Methods compared"
    assert [table.title for table in tables][:2] == [
        "60 examples: 6 seeds of each (unpaired)",
        "60 examples: against standard",
    ]
    html = (tmp_path / "p.html").read_text()
    assert ">standard on 60 examples</h2>" in html
    assert html.count('<details class="part"') > 10
    assert [picture.name for picture in page.sections[0].pictures] == ["60-examples-ratios", "seeds-by-method"]
    (cannot,) = [point.text for point in page.sections[0].points if point.term == "Cannot tell"]
    assert cannot.startswith("Whether b or c differ.")
    assert "more seeds of each would see a difference of 0.01" in cannot
    brief, _ = jaxstab.write_report(paths, tmp_path / "p.html", brief=True)
    assert [section.title for section in brief.sections] == ["Methods compared"]
    apart, _ = jaxstab.write_report([paths[0], run.path], tmp_path / "p.html")
    assert "not compared: " in apart.sections[0].notes[-1]


@pytest.mark.parametrize(
    ("seeds", "headline"),
    [
        (1, "cannot be told from one"),
        pytest.param(200, "over 200 seeds", marks=pytest.mark.slow),
    ],
)
def test_one_seed_and_many(seeds, headline, tmp_path):
    page, _ = jaxstab.write_report([_save(tmp_path / "a.npz", seeds)], tmp_path / "p.html")
    assert headline in page.headline


@pytest.mark.slow
def test_all_equal_and_all_failed(tmp_path):
    labels = np.random.default_rng(9).integers(0, 2, 60)
    np.savez(tmp_path / "equal.npz", predictions=np.tile(labels, (5, 1)), labels=labels)
    page, _ = jaxstab.write_report([tmp_path / "equal.npz"], tmp_path / "p.html")
    assert page.headline.endswith("all 5 seeds have accuracy 1.000, and they predict the same.")
    np.savez(tmp_path / "failed.npz", predictions=np.zeros((5, 60), int), labels=labels)
    page, _ = jaxstab.write_report([tmp_path / "failed.npz"], tmp_path / "p.html")
    assert "all 5 seeds failed" in page.headline
    np.savez(tmp_path / "unlabelled.npz", predictions=rng.integers(0, 2, (5, 60)))
    page, _ = jaxstab.write_report([tmp_path / "unlabelled.npz"], tmp_path / "p.html")
    assert "5 seeds, no scores" in page.headline
    hidden = rng.normal(size=(5, 3, 20, 4)).astype(np.float32)
    np.savez(tmp_path / "hidden.npz", representations=hidden)
    page, _ = jaxstab.write_report([tmp_path / "hidden.npz"], tmp_path / "p.html")
    assert any(picture.name.endswith("-layers") for picture in page.pictures)


@pytest.mark.optimiser
@pytest.mark.parametrize(
    ("seeds", "rate", "headline"),
    [
        (1, 1e-3, "with one seed"),
        pytest.param(3, 1e-12, "all 3 seeds failed", marks=pytest.mark.slow),
        pytest.param(2, 1e-3, "2 seeds", marks=pytest.mark.slow),
    ],
)
def test_runs_with_little_to_report(settings, seeds, rate, headline, tmp_path):
    settings["seeds"]["count"], settings["train"]["learning_rate"] = seeds, rate
    run = jaxstab.run(settings)
    page, _ = jaxstab.write_report([run.path], tmp_path / "p.html")
    assert headline in page.headline
    if rate < 1e-3:
        assert set(run.info.failures) == {0, 1, 2}


def test_published_numbers_beside_a_run(tmp_path):
    columns = "model,task,method,seeds,score,sd_population,jsd_nats,pairwise_disagreement,kappa_as_printed"
    (tmp_path / "p.csv").write_text(f"{columns}\nbert,60 examples,original,20,0.9,0.019,0.02,0.04,0.041\n")
    path = _save(tmp_path / "a.npz", 4)
    page, _ = jaxstab.write_report([path], tmp_path / "p.html", reference=tmp_path / "p.csv")
    (table,) = page.sections[0].tables
    assert table.rows[0][:2] == ["bert", "original"]
    assert "wrong axis" in table.caption


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.npz"], "none.npz: no such file"),
        (["a.npz", "-o", "a.npz/page.html"], "cannot be written"),
        (["a.npz", "a.npz"], "a second run called a on the same examples; name it"),
        (["a.npz", "--reference", "a.npz"], "a.npz: cannot be read as a table"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _save(tmp_path / "a.npz", 4)
    assert main(["report", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()
    assert message in error[-1]
    assert error[-1].startswith("jaxstab: error: ")


def test_an_interrupted_write_leaves_the_old_page(tmp_path, monkeypatch):
    target = tmp_path / "p.html"
    target.write_text("old")

    def fail(page):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxstab.report.writing.render", fail)
    with pytest.raises(jaxstab.InputError, match="cannot be written \\(No space left on device\\)"):
        jaxstab.write_report([_save(tmp_path / "a.npz", 4)], target)
    assert target.read_text() == "old"


def test_texts_with_markup_stay_texts(run, tmp_path):
    copy = tmp_path / "copy"
    import shutil

    shutil.copytree(run.path, copy)
    frame = pd.read_parquet(copy / "texts.parquet")
    frame["text"] = SCRIPT
    write_frame(copy / TEXTS, frame)
    changed = {**run.info.sha256, TEXTS: digest(copy / TEXTS)}
    write_info(copy / INFO, replace(run.info, sha256=changed))
    jaxstab.write_report([copy], tmp_path / "p.html")
    html = (tmp_path / "p.html").read_text()
    assert html.count("<script>") == 1
    assert "document.title = &#39;broken&#39;" in html
