"""Seed studies against statsmodels, brute force and simulations with known truth."""

import itertools
import json
import re

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.formula.api import ols
from statsmodels.stats.power import TTestIndPower

import jaxstab
from jaxstab.analysis.failures import DIVERGED, FLAT, MAJORITY, failures
from jaxstab.analysis.how_many import best_of, difference_power, ranking_probability, sd_factor, seeds_needed
from jaxstab.analysis.joint_power import joint_power
from jaxstab.analysis.sample import Identity, Sample
from jaxstab.analysis.variance import noise_floor, variance_shares
from jaxstab.cli import main
from jaxstab.measures import check
from jaxstab.report.seed_tables import shares_table

rng = np.random.default_rng(0)


@pytest.mark.parametrize(("seeds", "delta"), [(5, 1.0), (20, 0.5), (64, 0.5), (400, 0.2), (10, 20.0)])
def test_power_is_that_of_statsmodels(seeds, delta):
    expected = TTestIndPower().power(delta, seeds, 0.05) if delta < 10 else 1
    assert difference_power(seeds, 1.0, delta) == pytest.approx(expected, abs=1e-6)


def test_needed_seeds_are_the_fewest():
    scores = rng.normal(0.8, 0.02, 20)
    sd = scores.std(ddof=1)
    difference, of_three, spread, ranking = seeds_needed(scores, delta=0.02, factor=1.25, methods=4, power=0.8)
    bonferroni = TTestIndPower().solve_power(0.02 / sd, power=0.8, alpha=0.05 / 3)
    assert of_three.formula == int(np.ceil(bonferroni))
    exact = TTestIndPower().solve_power(0.02 / sd, power=0.8, alpha=0.05)
    assert difference.formula == int(np.ceil(exact))
    assert abs(difference.simulation - difference.formula) <= max(3, 0.2 * difference.formula)
    assert difference.range[0] < difference.formula < difference.range[1]
    assert sd_factor(spread.formula) <= 1.25 < sd_factor(spread.formula - 1)
    assert spread.range is None
    n = ranking.formula
    assert ranking_probability(n, sd, 0.02, 4) >= 0.8 > ranking_probability(n - 1, sd, 0.02, 4)
    assert ranking.simulation <= n + 2


def test_planned_power_is_what_an_experiment_has():
    scores = rng.normal(0.8, 0.02, 30)
    n = seeds_needed(scores, delta=0.02)[0].formula
    draws = np.random.default_rng(5).normal(0, scores.std(ddof=1), (2, 4000, n))
    from scipy.stats import ttest_ind

    found = (ttest_ind(draws[0], draws[1] + 0.02, axis=1).pvalue <= 0.05).mean()
    assert found == pytest.approx(0.8, abs=0.03)


def test_more_than_can_be_asked_for_is_none():
    needed = seeds_needed(np.array([0.1, 0.5, 0.9, 0.3]), delta=1e-4)
    assert needed[0].formula is None
    assert needed[0].simulation is None


@pytest.mark.parametrize("scores", [[0.5, 0.5], [0.7] * 5])
def test_a_pilot_with_too_few_or_equal_scores_is_refused(scores):
    with pytest.raises(ValueError, match=r"at least 3|same score"):
        seeds_needed(np.array(scores))


def test_best_of_n_is_the_mean_over_all_choices():
    scores, validation = rng.random(6), np.array([0.1, 0.5, 0.5, 0.9, 0.2, 0.9])
    for n in range(1, 7):
        chosen = [list(one) for one in itertools.combinations(range(6), n)]
        assert best_of(scores)[n - 1] == pytest.approx(np.mean([scores[one].max() for one in chosen]))
    # Ties are broken at random: the mean over tied seeds of all choices of two.
    pairs = itertools.combinations(range(6), 2)
    by_pair = []
    for i, j in pairs:
        winners = [k for k in (i, j) if validation[k] == max(validation[i], validation[j])]
        by_pair.append(np.mean(scores[winners]))
    assert best_of(scores, validation)[1] == pytest.approx(np.mean(by_pair))


def _crossed(values, factors, repeats=1):
    """A sample whose only measure is half the squared distance between points [S, D]."""
    points = np.asarray(values, float)
    distances = ((points[:, None] - points) ** 2).sum(-1) / 2
    identities = tuple(Identity(*one, repeat=r) for one in factors for r in range(repeats))
    inputs = check(predictions=np.zeros((len(points), 4), int), seeds=range(len(points)))
    return Sample("a", None, "t", "accuracy", inputs, {"jsd": distances[None]}, identities, (None,) * len(points))


def _components(values, factors):
    """Variance components from statsmodels' table by expected mean squares, for two factors without repeats."""
    frame = pd.DataFrame(factors, columns=["init", "order", "dropout"]).assign(y=values)
    table = sm.stats.anova_lm(ols("y ~ C(init) + C(order)", frame).fit())
    squares = table["mean_sq"]
    a, b = frame["init"].nunique(), frame["order"].nunique()
    left = squares["Residual"]
    parts = np.array([(squares["C(init)"] - left) / b, (squares["C(order)"] - left) / a, left])
    return np.maximum(parts, 0)


def test_shares_are_those_of_statsmodels_analysis_of_variance():
    factors = list(itertools.product(range(5), range(4), [0]))
    first = rng.normal(size=5)[[f[0] for f in factors]] + 0.5 * rng.normal(size=len(factors))
    second = rng.normal(size=4)[[f[1] for f in factors]] + 0.5 * rng.normal(size=len(factors))
    found = variance_shares(_crossed(first[:, None], factors), ["jsd"])[0]
    parts = _components(first, factors)
    assert list(found.shares) == ["init", "order", "together"]
    np.testing.assert_allclose(list(found.shares.values()), parts / parts.sum(), atol=1e-9)
    assert found.total == pytest.approx(parts.sum())
    # For points, the sums of squares of all dimensions add up.
    both = variance_shares(_crossed(np.stack([first, second], axis=1), factors), ["jsd"])[0]
    frame = [_raw(first, factors), _raw(second, factors)]
    total = np.maximum(np.sum(frame, axis=0), 0)
    np.testing.assert_allclose(list(both.shares.values()), total / total.sum(), atol=1e-9)


def _raw(values, factors):
    frame = pd.DataFrame(factors, columns=["init", "order", "dropout"]).assign(y=values)
    squares = sm.stats.anova_lm(ols("y ~ C(init) + C(order)", frame).fit())["mean_sq"]
    left = squares["Residual"]
    a, b = frame["init"].nunique(), frame["order"].nunique()
    return np.array([(squares["C(init)"] - left) / b, (squares["C(order)"] - left) / a, left])


def test_known_shares_are_recovered_with_three_factors_and_repeats():
    levels, repeats = (6, 6, 5), 2
    factors = list(itertools.product(*map(range, levels)))
    truth = {"init": 4.0, "order": 1.0, "dropout": 0.25, "together": 1.0, "repeat": 0.5}
    totals = dict.fromkeys(truth, 0.0)
    covered = 0
    for _ in range(40):
        effects = [rng.normal(size=n) * truth[name] ** 0.5 for n, name in zip(levels, truth, strict=False)]
        both = rng.normal(size=levels[:2]) * truth["together"] ** 0.5
        y = [
            sum(effect[one] for effect, one in zip(effects, f, strict=True))
            + both[f[0], f[1]]
            + truth["repeat"] ** 0.5 * rng.normal()
            for f in factors
            for _ in range(repeats)
        ]
        found = variance_shares(_crossed(np.array(y)[:, None], factors, repeats), ["jsd"])[0]
        for name, share in found.shares.items():
            totals[name] += share * found.total / 40
        low, high = found.intervals["init"]
        covered += low <= truth["init"] / sum(truth.values()) <= high
    for name, value in truth.items():
        assert totals[name] == pytest.approx(value, rel=0.35, abs=0.1), name
    assert covered >= 34


def _simulated_shares(scores):
    """Shares [R, 3] of scores [R, A, B]: two-way analysis of variance without repeats, components cut at 0."""
    a, b = scores.shape[1:]
    rows, columns, mean = scores.mean(2), scores.mean(1), scores.mean((1, 2))
    left = scores - rows[:, :, None] - columns[:, None] + mean[:, None, None]
    residual = (left**2).sum((1, 2)) / ((a - 1) * (b - 1))
    parts = np.maximum([rows.var(1, ddof=1) - residual / b, columns.var(1, ddof=1) - residual / a, residual], 0)
    return (parts / parts.sum(0)).T


def test_shares_without_effect_are_those_of_normal_scores():
    scores = np.random.default_rng(1).normal(size=(50_000, 3, 3))
    simulated = _simulated_shares(scores)
    np.testing.assert_allclose(simulated.mean(0), [0.12, 0.12, 0.76], atol=0.01)
    factors = [(*one, 0) for one in itertools.product(range(3), range(3))]
    found = [variance_shares(_crossed(one.reshape(9, 1), factors), ["jsd"])[0] for one in scores[:200]]
    np.testing.assert_allclose([list(one.shares.values()) for one in found], simulated[:200], atol=1e-9)
    assert found[0].no_effect["together"] is None
    for place, name in enumerate(("init", "order")):
        expected = (simulated[:, place].mean(), np.quantile(simulated[:, place], 0.95))
        assert found[0].no_effect[name] == pytest.approx(expected, abs=0.015)
        told = np.mean([name not in one.untold() for one in found])
        assert told <= 0.06


def test_sources_with_a_large_effect_are_told_from_none():
    factors = [(*one, 0) for one in itertools.product(range(5), range(5))]
    draw = np.random.default_rng(2)
    init, noise = draw.normal(size=5)[[one[0] for one in factors]], draw.normal(size=25)
    assert variance_shares(_crossed((3 * init + noise)[:, None], factors), ["jsd"])[0].untold() == ["order"]
    # Where repeats are equal, sources do something together, however little.
    found = variance_shares(_crossed(np.repeat(10 * init + noise, 2)[:, None], factors, 2), ["jsd"])[0]
    assert found.shares["repeat"] == pytest.approx(0, abs=1e-9)
    assert found.no_effect["together"] == (0, 0)
    assert found.untold() == ["order"]
    assert found.no_effect["init"] == pytest.approx((0.057, 0.27), abs=0.015)


def test_a_study_says_what_no_effect_would_give():
    factors = [(*one, 0) for one in itertools.product(range(3), range(3))]
    labels = np.arange(40) % 2
    draw = np.random.default_rng(3)
    wrong = draw.random((9, 40)) < np.array([0.1, 0.3, 0.5])[[one[0] for one in factors], None]
    inputs = check(predictions=np.where(wrong, 1 - labels, labels), labels=labels)
    identities = tuple(Identity(*one) for one in factors)
    study = jaxstab.study_seeds(Sample("a", None, "t", "accuracy", inputs, {}, identities, (None,) * 9))
    assert study.shares[0].untold() == ["order"]
    assert re.search(r"accuracy: init \d+%, order \d+% \(cannot be told from none\), together", study.sentences[1])
    assert study.sentences[2].startswith(
        "Sources without any effect would get, in this design: init 12% on average and"
    )
    assert shares_table(study).rows[-1] == ["without effect", "12% (up to 56%)", "12% (up to 56%)", "-"]
    frame = study.to_frame().set_index(["part", "item"])
    assert frame.loc[("share without effect", "order"), "value"] == pytest.approx(0.12, abs=0.01)
    assert json.loads(json.dumps(study.as_json()))["shares"][0]["no_effect"]["together"] is None
    # Of pairs that were not measured, nothing can be said.
    holes = np.ones((1, 9, 9))
    holes[0, 2, 5] = holes[0, 5, 2] = np.nan
    sample = Sample("a", None, "t", "accuracy", inputs, {"op": holes}, identities, (None,) * 9)
    study = jaxstab.study_seeds(sample)
    assert [one.quantity for one in study.shares] == ["mean"]
    assert "no shares and no floor, because not all pairs of seeds were measured: op" in study.notes


def test_a_study_says_how_many_test_examples_it_takes(tmp_path, capsys):
    draw = np.random.default_rng(4)
    labels = draw.integers(0, 2, 80)
    votes = np.where(draw.random((6, 80)) < 0.8, labels, 1 - labels)
    np.savez(tmp_path / "a.npz", predictions=votes, labels=labels)
    study = jaxstab.study_seeds(tmp_path / "a.npz", delta=0.05)
    expected = joint_power("accuracy", votes, labels, 2, delta=0.05)
    assert study.joint.as_json() == expected.as_json()
    frame = study.to_frame()
    rows = frame[frame["part"] == "examples needed"]
    assert rows["item"].tolist() == [3, 5, 10, 20, 50, np.inf]
    assert rows["low"].iloc[-1] == expected.rows[-1].low
    assert json.loads(json.dumps(study.as_json(), allow_nan=False))["joint"]["examples"] == 80
    assert main(["seeds", str(tmp_path / "a.npz"), "--delta", "0.05"]) == 0
    printed = capsys.readouterr().out
    assert "a difference of 0.05 holds for others too" in printed
    assert f"{expected.rows[3].low:,}" in printed
    # A failed pilot says nothing.
    assert jaxstab.study_seeds(Sample.from_arrays("x", predictions=0 * votes, labels=labels)).joint is None


def test_an_incomplete_design_is_refused():
    factors = list(itertools.product(range(3), range(2), [0]))[:-1]
    with pytest.raises(ValueError, match=r"seeds do not cross init, order and dropout.*--seeds.crossed true"):
        variance_shares(_crossed(np.ones((5, 1)), factors), ["jsd"])


def test_the_noise_floor_is_the_distance_of_repeats():
    points = np.array([[0.0], [1.0], [10.0], [12.0]])
    sample = _crossed(points, [(0, 0, 0), (1, 1, 1)], repeats=2)
    found = noise_floor(sample, ["jsd"])["jsd"]
    assert found["floor"] == pytest.approx((0.5 + 2) / 2)
    assert found["value"] == pytest.approx(np.mean([100, 144, 81, 121]) / 2)
    assert found["share"] == pytest.approx(found["floor"] / found["value"])


def test_why_seeds_failed():
    labels = np.array([0, 0, 0, 1, 1])
    good = np.eye(2)[labels]
    logits = np.stack([good, np.eye(2)[[0] * 5], good, good])
    logits[3, 0, 0] = np.nan
    losses = np.array([[0.6, 0.2], [0.6, 0.5], [0.7, 0.67], [0.5, np.nan]])
    # The loss of guessing is the entropy of class shares 3/5 and 2/5: .673 nats.
    assert failures(logits, labels, "accuracy", losses) == [None, MAJORITY, FLAT, DIVERGED]
    assert failures(logits, labels, "accuracy") == [None, MAJORITY, None, DIVERGED]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--delta", "0"], "delta = 0: give a number larger than 0"),
        (["--factor", "1"], "factor = 1: give a number larger than 1"),
        (["--methods", "1"], "methods = 1: give a number at least 2"),
        (["--power", "1"], "power = 1: give a number between 0 and 1"),
    ],
)
def test_bad_options_are_one_line(option, message, tmp_path, capsys):
    labels = rng.integers(0, 2, 30)
    np.savez(tmp_path / "a.npz", predictions=rng.integers(0, 2, (4, 30)), labels=labels)
    assert main(["seeds", str(tmp_path / "a.npz"), *option]) == 2
    assert message in capsys.readouterr().err


def test_arrays_of_any_framework_are_a_pilot(tmp_path, capsys):
    labels = rng.integers(0, 2, 60)
    np.savez(tmp_path / "a.npz", predictions=np.where(rng.random((8, 60)) < 0.2, 1 - labels, labels), labels=labels)
    assert main(["seeds", str(tmp_path / "a.npz"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["best"][0] == pytest.approx(jaxstab.measure(tmp_path / "a.npz").scores["mean"], abs=1e-6)
    assert found["best_by_validation"] is None
    assert found["shares"] is None
    assert "variance shares need a run" in found["notes"][0]
    np.savez(tmp_path / "b.npz", predictions=rng.integers(0, 2, (4, 30)))
    assert main(["seeds", str(tmp_path / "b.npz")]) == 2
    assert "no labels, so no scores" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.optimiser
def test_repeats_are_equal_bit_for_bit_and_rounding_moves_them(settings, tmp_path):
    settings["seeds"] = {"init": [0, 1], "order": [0, 1], "dropout": [0, 1], "repeats": 2, "group_size": 2}
    run = jaxstab.run(settings)
    np.testing.assert_array_equal(run.logits[0], run.logits[1])
    assert run.history["repeat"].unique().tolist() == [0, 1]
    study = jaxstab.study_seeds(run.path)
    assert study.floor["mean"]["floor"] == 0
    assert study.floor["pairwise_disagreement"]["value"] > 0
    assert len(study.best) == 2
    settings["seeds"]["rounding"] = True
    settings["output"] = {"dir": str(tmp_path / "rounding")}
    moved = jaxstab.run(settings)
    np.testing.assert_array_equal(moved.logits[::2], run.logits[::2])
    difference = np.abs(moved.logits[1::2] - moved.logits[::2]).max()
    assert 0 < difference < 1e-2
