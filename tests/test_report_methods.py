"""What the page says of several methods: the headline, what is clear, and what it would take to tell the rest."""

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestIndPower
from tiny import toy_sample

import jaxstab
from jaxstab.measures import SCORES
from jaxstab.report import methods
from jaxstab.report.tables import metric_label


@pytest.fixture(scope="module")
def samples():
    return [toy_sample("a", 0.6), toy_sample("bb", 0.9), toy_sample("ccc", 0.9), toy_sample("dddd", 0.6)]


@pytest.fixture(scope="module")
def comparison(samples):
    return jaxstab.compare(samples)


def _point(section, term):
    return next((point.text for point in section.points if point.term == term), None)


def test_methods_of_which_the_same_is_clear_share_a_clause(comparison):
    found = {one.method: one.difference for one in comparison.differences if one.measure == "mean"}
    assert methods.headline(comparison) == (
        f"Against a on toy, bb ({found['bb']:+.3f}) and ccc ({found['ccc']:+.3f}) have higher accuracy and are more "
        "stable by prediction disagreement and 1 - Fleiss' kappa. Of dddd nothing can be told."
    )


def test_cannot_tell_says_how_many_seeds_would(comparison, samples):
    section = methods.comparison_section(comparison, {"toy": {one.name: one for one in samples}}, None)
    assert [point.term for point in section.points] == ["bb", "ccc", "Cannot tell"]
    sd = samples[0].scores.std(ddof=1)
    needed = math.ceil(TTestIndPower().solve_power(0.01 / sd, power=0.8, alpha=0.05 / 3))
    assert _point(section, "Cannot tell") == (
        "Whether dddd differs. "
        f"The mean accuracy of dddd: {needed - 8:,} more seeds of each would see a difference of 0.01. "
        "(80 % power, judged by the SD of a.)"
    )
    wide = methods.comparison_section(comparison, {"toy": {one.name: one for one in samples}}, 0.5)
    assert "mean accuracy of dddd: 1 more seed of each would see a difference of 0.5" in _point(wide, "Cannot tell")


def test_what_would_be_clear_alone_is_said_where_many_methods_make_it_unclear():
    """Four seeds of each can be exchanged in 70 ways, so the smallest p is 2 / 70, and 5 times that of 5 methods."""
    noise = np.random.default_rng(2).normal(size=(6, 4))
    scores = {name: 0.8 + 0.01 * one for name, one in zip("abcdef", noise, strict=True)}
    scores["f"] = scores["a"] + 0.1
    samples = [jaxstab.Sample.from_arrays(name, scores=one, task="t") for name, one in scores.items()]
    section = methods.comparison_section(jaxstab.compare(samples), {"t": {one.name: one for one in samples}}, None)
    assert "f would differ if it were compared alone (by mean accuracy, p = 0.029 instead of 0.14)." in _point(
        section, "Cannot tell"
    )
    two = [samples[0], samples[-1]]
    section = methods.comparison_section(jaxstab.compare(two), {"t": {one.name: one for one in two}}, None)
    assert "compared alone" not in (_point(section, "Cannot tell") or "")


def test_a_point_of_bleu_is_one():
    draw = np.random.default_rng(0)
    samples = [
        jaxstab.Sample.from_arrays(name, scores=27 + draw.normal(size=12)[4:], metric="BLEU", task="wmt")
        for name in "ab"
    ]
    found = jaxstab.compare(samples)
    section = methods.comparison_section(found, {"wmt": {one.name: one for one in samples}}, None)
    assert methods.headline(found) == "With 8 seeds of each, no difference from a can be told on wmt."
    assert "see a difference of 1." in _point(section, "Cannot tell")
    assert [picture.name for picture in section.pictures] == ["wmt-ratios", "seeds-by-method"]


def test_two_seeds_are_too_few_to_tell():
    found = jaxstab.compare([toy_sample("a", 0.6, 2), toy_sample("bb", 0.9, 2)])
    assert methods.headline(found) == (
        "With 2 seeds of each on toy, nothing can be told; differences need at least 3 seeds of each."
    )


def test_seeds_that_agree_have_no_ratio_and_the_page_says_so():
    labels = np.random.default_rng(0).integers(2, size=100)
    votes = np.tile(np.where(np.arange(100) < 20, 1 - labels, labels), (8, 1))
    samples = [jaxstab.Sample.from_arrays(one, predictions=votes, labels=labels, task="toy") for one in "ab"]
    section = methods.comparison_section(jaxstab.compare(samples), {"toy": {one.name: one for one in samples}}, None)
    assert [picture.name for picture in section.pictures] == ["seeds-by-method"]
    assert section.notes[-1] == "no measure can be shown as a ratio (a: no difference seen, b: no difference seen)"
    assert _point(section, "Cannot tell") == "Whether b differs."


def test_every_score_has_a_name_for_people():
    named = {name: metric_label(name) for name in SCORES}
    assert len(set(named.values())) == len(named)
    assert not [name for name in named.values() if "_" in name]
