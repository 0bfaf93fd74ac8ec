"""`jaxstab.plot` draws the numbers of a result on axes that can be restyled; notebooks show results as tables."""

import copy
import html
import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbclient
import nbformat
import numpy as np
import pytest
from tiny import toy_sample

import jaxstab

DOCS = Path(__file__).parents[1] / "docs"
matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _figures_are_closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def run():
    """The run that the notebook in the documentation reads."""
    return jaxstab.Run.load(DOCS / "notebook" / "standard")


@pytest.fixture(scope="module")
def comparison():
    return jaxstab.compare([toy_sample("a", 0.6), toy_sample("bb", 0.9), toy_sample("ccc", 0.6)])


def _dots(ax, upright=False):
    """The scores of all dots, sorted."""
    return np.sort(np.concatenate([one.get_offsets()[:, int(upright)] for one in ax.collections]))


def test_a_run_is_drawn_as_scores_curves_or_a_measure(run):
    ax = run.plot()
    np.testing.assert_allclose(_dots(ax, upright=True), np.sort([*run.history["validation_score"], *run.scores]))
    panels = run.plot("curves")
    names = ("train_loss", "validation_loss", "validation_score")
    for panel, name in zip(panels, names, strict=True):
        median = run.history.groupby("epoch")[name].median()
        np.testing.assert_allclose(panel.lines[-1].get_ydata(), median)
    layers = run.plot("cka").lines[0]
    np.testing.assert_allclose(layers.get_ydata(), run.measures["measures"]["cka"]["layers"])
    for what, layer in (("jsd", None), ("cka", 2), ("cka", -1)):
        shown = run.plot(what, layer=layer).images[0].get_array().compressed()
        square = run.distances[what][-1 if layer in (None, -1) else layer - 1]
        np.testing.assert_allclose(np.sort(shown), np.sort(square[~np.eye(len(square), dtype=bool)]), rtol=1e-6)


def test_results_and_samples_are_drawn():
    sample = toy_sample("mine", 0.8)
    found = jaxstab.measure(sample)
    for one in (sample, found):
        np.testing.assert_allclose(_dots(one.plot("scores")), np.sort(sample.scores))
    drawn = found.plot("pairwise_disagreement").images[0].get_array().compressed()
    assert drawn.mean() == pytest.approx(found["pairwise_disagreement"]["value"])


def test_a_comparison_is_drawn_as_differences_with_intervals(comparison):
    for what, ratio in (("mean", False), ("pairwise_disagreement", True)):
        ax = comparison.plot(what)
        rows = [one for one in comparison.differences if one.measure == what]
        points = [line for line in ax.lines if len(line.get_xdata()) == 1]
        assert [label.get_text() for label in ax.get_yticklabels()] == ["bb", "ccc"]
        assert [point.get_xdata()[0] for point in points] == [one.effect if ratio else one.difference for one in rows]
        assert [point.get_fillstyle() == "full" for point in points] == [one.clear for one in rows] == [True, False]
        bars = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2][:2]
        ends = [one.effect_interval if ratio else one.interval for one in rows]
        np.testing.assert_allclose(np.asarray(bars, float), ends)
    scores = np.concatenate(list(comparison.scores["toy"].values()))
    np.testing.assert_allclose(_dots(comparison.plot("scores")), np.sort(scores))


def test_studies_and_correlations_are_drawn(run, comparison):
    study = jaxstab.study_seeds(run)
    assert study.plot().lines[0].get_ydata().tolist() == study.best.tolist()
    trust = jaxstab.validity(toy_sample("mine", 0.8))
    for found, matrix in (
        (trust, trust.over_seeds.matrix),
        (comparison.rankings["toy"], comparison.rankings["toy"].tau),
    ):
        shown = found.plot().images[0].get_array().filled(np.nan)
        np.testing.assert_array_equal(shown, np.where(np.eye(len(matrix)), np.nan, matrix))


def test_given_axes_are_drawn_on_in_their_own_style(run, comparison):
    with plt.rc_context({"axes.labelcolor": "red", "text.color": "red"}):
        _, (left, right) = plt.subplots(1, 2)
        assert run.plot(ax=left) is left
        assert comparison.plot("scores", ax=right) is right
    assert left.xaxis.label.get_color() == "red"
    assert right.xaxis.label.get_color() == "red"
    assert len(plt.get_fignums()) == 1
    assert jaxstab.plot(run, "jsd").figure.number in plt.get_fignums()  # so a notebook shows it


def test_what_is_not_there_is_named(run, comparison):
    for call, message in (
        (lambda: run.plot("jds"), "nothing called 'jds' can be drawn; there is scores, curves, cohen_kappa, jsd"),
        (lambda: run.plot("sd"), "sd is one number for all seeds"),
        (lambda: run.plot("cka", layer=9), "layer = 9: cka has 6; give 1 to 6, or -1 for the last"),
        (lambda: run.plot("curves", ax=plt.figure().subplots()), "curves take three axes"),
        (lambda: comparison.plot("cka"), "nothing called 'cka' was compared; there is scores, mean, "),
        (
            lambda: jaxstab.validity(toy_sample("mine", 0.8)).plot("layers"),
            "no correlations over 'layers'; there is seeds",
        ),
        (lambda: jaxstab.study_seeds(run).joint.plot(), "there is no figure of JointPower"),
    ):
        with pytest.raises(jaxstab.InputError, match=re.escape(message)):
            call()


def test_notebooks_show_sentences_and_a_table():
    found = jaxstab.compare([toy_sample("a", 0.6), toy_sample("<b>", 0.9)])
    shown = found._repr_html_()
    assert f"<p>{html.escape(found.verdicts[0])}</p>" in shown
    assert "<td>pairwise_disagreement</td>" in shown
    assert "<b>" not in shown
    assert f"<td>{found.differences[0].difference:.4f}</td>" in shown
    assert not re.search("nan|none|<NA>|&lt;NA", shown, re.IGNORECASE)
    assert shown.count("<tr") == 1 + len(found.differences)


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_showed(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent))
    written = nbformat.read(DOCS / "notebook.ipynb", as_version=4)
    again = nbclient.NotebookClient(
        copy.deepcopy(written), timeout=300, resources={"metadata": {"path": str(DOCS)}}
    ).execute()
    pictures = 0
    for before, after in zip(written.cells, again.cells, strict=True):
        if before.cell_type == "code":
            kinds = [[sorted(one.get("data", {"text": ""})) for one in cell.outputs] for cell in (before, after)]
            assert kinds[0] == kinds[1], before.source
            assert not any(one.output_type == "stream" and one.name == "stderr" for one in after.outputs), before.source
            pictures += sum("image/png" in kind for kind in kinds[1])
    assert pictures >= 4
