"""What is said of few seeds against what is true of many: counted by hand, and where the truth is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t, ttest_ind
from statsmodels.stats.proportion import proportion_confint

import jaxstab
from jaxstab import Sample
from jaxstab.analysis.trials import Share, draw_sets, find_coverage, find_rankings, find_verdicts
from jaxstab.cli import main
from jaxstab.report.audit_tables import audit_tables

SEEDS, EXAMPLES = 60, 80


def _votes(noise, seeds=SEEDS, rng=0):
    rng = np.random.default_rng(rng)
    labels = np.random.default_rng(9).integers(2, size=EXAMPLES)
    right = np.random.default_rng(8).random(EXAMPLES) < 0.8
    return np.where(right ^ (rng.random((seeds, EXAMPLES)) < noise), labels, 1 - labels), labels


def _sample(name, noise=0.1, numbers=None, **how):
    votes, labels = _votes(noise, **how)
    return Sample.from_arrays(name, predictions=votes, labels=labels, task="toy", seeds=numbers)


def test_sets_have_no_seed_twice():
    sets = draw_sets(np.random.default_rng(0), 20, 7, 50)
    assert sets.shape == (50, 7)
    assert all(len(set(one)) == 7 for one in sets.tolist())
    assert set(sets.ravel().tolist()) == set(range(20))


@pytest.mark.parametrize(("holds", "of"), [(38, 40), (0, 10), (10, 10), (7, 20)])
def test_the_interval_of_a_share_is_wilsons(holds, of):
    expected = proportion_confint(holds, of, method="wilson")
    np.testing.assert_allclose(Share(holds / of, of).interval, expected, atol=1e-8)


def test_overlapping_sets_are_worth_less_than_their_number():
    assert Share.of([True, False] * 200, 5, 100).sets == pytest.approx(1 / (1 / 20 + 1 / 400))
    assert Share.pooled([Share(0.9, 20.0), Share(1.0, 20.0)]) == Share(0.95, 40.0)


def test_coverage_is_counted_as_by_hand():
    sample = _sample("mine")
    (found,) = find_coverage(sample, ["mean"], 6, 100, np.random.default_rng(3))
    scores = sample.scores
    held, widths = [], []
    for places in draw_sets(np.random.default_rng(3), SEEDS, 6, 100):
        part = scores[places]
        half = t.ppf(0.975, 5) * part.std(ddof=1) / np.sqrt(6)
        deviation = (scores.mean() - part.mean()) / np.sqrt(1 - 6 / SEEDS)
        held.append(abs(deviation) <= half + 1e-9)
        widths.append(2 * half)
    assert found.share.value == pytest.approx(np.mean(held))
    assert found.truth == pytest.approx(scores.mean())
    assert found.width == pytest.approx(np.median(widths) / scores.mean(), abs=1e-6)
    assert found.shown == 1


def test_intervals_of_normal_scores_hold_their_mean_and_sd():
    scores = np.random.default_rng(1).normal(30, 2, 800)
    sample = Sample.from_arrays("mine", scores=scores, metric="bleu", task="toy")
    for one in find_coverage(sample, ["mean", "sd"], 8, 400, np.random.default_rng(0)):
        assert one.share.value > 0.92, one
        assert one.share.interval[0] < 0.95, one
        assert one.average == pytest.approx(1, abs=0.02)


def test_a_value_that_grows_with_seeds_is_compared_with_its_own_kind():
    (found,) = find_coverage(_sample("mine"), ["stable_fraction"], 5, 50, np.random.default_rng(0))
    assert found.average == 1
    assert found.truth > _sample("mine").rows(["stable_fraction"])["stable_fraction"]["value"] + 0.1


def test_false_alarms_are_counted_as_by_hand():
    sample = _sample("mine", 0.2)
    found = {
        one.test: one.share.value for one in find_verdicts(sample, None, ["mean"], 10, 60, np.random.default_rng(5))
    }
    sets = draw_sets(np.random.default_rng(5), SEEDS, 20, 60)
    pairs = [(sample.scores[one[:10]], sample.scores[one[10:]]) for one in sets]
    welch = [ttest_ind(a, b, equal_var=False).pvalue <= 0.05 for a, b in pairs]
    assert found["t-test"] == pytest.approx(np.mean(welch))
    assert found["best of n"] == pytest.approx(np.mean([abs(a.max() - b.max()) > 0.0099 for a, b in pairs]))
    assert found["compare, mean score"] <= 0.15
    assert found["compare, any measure"] == 0  # none was named


def test_two_methods_are_told_apart_and_more_often_with_more_seeds():
    one, other = _sample("one", 0.1, rng=1), _sample("other", 0.16, rng=2)
    rng = np.random.default_rng(0)
    powers = []
    for size in (4, 12):
        found = find_verdicts(one, other, ["mean", "pairwise_disagreement"], size, 40, rng)
        assert {(row.first, row.second) for row in found} == {("one", "other")}
        powers.append({row.test: row.share.value for row in found})
    for test in ("compare, mean score", "compare, any measure"):
        assert powers[1][test] > powers[0][test] + 0.2


def test_rankings_are_counted_as_by_hand():
    group = {
        name: _sample(name, noise, rng=place)
        for place, (name, noise) in enumerate((("a", 0.1), ("b", 0.12), ("c", 0.2)))
    }
    found = {one.measure: one for one in find_rankings("toy", group, ["mean", "sd"], 5, 80, np.random.default_rng(2))}
    sets = draw_sets(np.random.default_rng(2), SEEDS, 5, 80)
    means = np.stack([one.scores[sets].mean(1) for one in group.values()], 1)
    truth = [one.scores.mean() for one in group.values()]
    assert found["mean"].best.value == pytest.approx(np.mean(means.argmax(1) == np.argmax(truth)))
    right = [np.sign(means[:, i] - means[:, j]) == np.sign(truth[i] - truth[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found["mean"].pairs == pytest.approx(np.mean(right))
    sds = np.stack([one.scores[sets].std(1, ddof=1) for one in group.values()], 1)
    assert found["sd"].best.value == pytest.approx(
        np.mean(sds.argmin(1) == np.argmin([one.scores.std() for one in group.values()]))
    )


def test_an_audit_says_the_same_every_time_and_is_plain():
    samples = [_sample("one", rng=1), _sample("other", 0.13, rng=2)]
    found, again = (jaxstab.audit(samples, sizes=[5], draws=20, only=["sd", "pairwise_disagreement"]) for _ in range(2))
    assert found.to_frame().equals(again.to_frame())
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["seeds"] == {"toy": {"one": SEEDS, "other": SEEDS}}
    assert [table.title for table in audit_tables(found)] == [
        "Intervals",
        "Called different, but of one method",
        "Called different, of two methods",
        "The best method",
    ]
    assert len(found.to_frame()) == 2 * 3 + 3 * 4 + 3


def test_pairs_that_were_not_measured_are_measured_or_left_out():
    rng = np.random.default_rng(0)
    layers = np.float32(2 * rng.normal(size=(EXAMPLES, 5)) + rng.normal(size=(24, 2, EXAMPLES, 5)))
    votes, labels = _votes(0.1, seeds=24)
    whole = Sample.from_arrays("mine", predictions=votes, labels=labels, representations=layers, task="toy")
    holes = {name: one.copy() for name, one in whole.distances.items()}
    holes["op"][:, 2, 7] = holes["op"][:, 7, 2] = np.nan
    how = {"sizes": [5], "draws": 10, "only": ["op", "cka"]}
    some = replace(whole, distances=holes)
    expected = jaxstab.audit(whole, **how)
    assert jaxstab.audit(some, **how).to_frame().equals(expected.to_frame())
    without = jaxstab.audit(replace(some, inputs=replace(some.inputs, representations=None)), **how)
    assert {one.measure for one in without.coverage} == {"mean", "cka"}
    assert "mine: left out, because not all pairs of seeds were measured: op" in without.notes[0]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"sizes": [20]}, "60 seeds; sets of 20 need at least 80 seeds"),
        ({"sizes": [2]}, "sizes of 3 seeds or more"),
        ({"sizes": []}, "sizes of 3 seeds or more"),
        ({"draws": 5}, "at least 10 draws"),
    ],
)
def test_what_cannot_be_audited_is_said_in_one_line(how, said):
    with pytest.raises(jaxstab.InputError, match=said):
        jaxstab.audit(_sample("mine"), **how)


def test_seeds_without_scores_cannot_be_audited():
    with pytest.raises(jaxstab.InputError, match="mine: no labels, so no scores"):
        jaxstab.audit(Sample.from_arrays("mine", predictions=_votes(0.1)[0]))


def test_the_command(tmp_path, capsys):
    votes, labels = _votes(0.1)
    np.savez(tmp_path / "mine.npz", predictions=votes, labels=labels)
    assert main(["audit", str(tmp_path / "mine.npz"), "--sizes", "5,15", "--draws", "10", "--measures", "sd"]) == 0
    printed = capsys.readouterr().out
    assert "Intervals from 5 seeds hold the truth in" in printed
    assert "Two sets of 15 seeds of one method are called different" in printed
    assert main(["audit", str(tmp_path / "mine.npz"), "--sizes", "5,x"]) == 2
    assert "--sizes 5,x: not understood" in capsys.readouterr().err
