"""Comparison of methods, from saved arrays to verdicts."""

import json

import numpy as np
import pytest
from scipy.stats import fisher_exact, kendalltau, mannwhitneyu, t, trim_mean, ttest_1samp, ttest_ind, ttest_rel

import jaxstab
from jaxstab.analysis.aggregates import aggregate
from jaxstab.analysis.comparison import ALL_TASKS
from jaxstab.analysis.ranking import half_samples
from jaxstab.analysis.reference import load_reference
from jaxstab.cli import main
from jaxstab.report.formats import to_text
from jaxstab.report.tables import comparison_tables

EXAMPLES = 150


def _logits(seeds, skill, noise, draw, labels):
    """Logits of seeds that see the labels through independent noise."""
    rng = np.random.default_rng(draw)
    signal = skill * (2 * np.eye(2)[labels] - 1)
    common = np.random.default_rng(99).normal(size=(len(labels), 2))
    return (signal + common + noise * rng.normal(size=(seeds, len(labels), 2))).astype(np.float32)


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(1).integers(0, 2, EXAMPLES)


@pytest.fixture
def save(tmp_path, labels):
    def write(name, seeds=12, skill=0.5, noise=0.5, draw=0, numbers=None, truth=labels):
        arrays = {"logits": _logits(seeds, skill, noise, draw, truth), "labels": truth}
        numbers = range(seeds) if numbers is None else numbers
        path = tmp_path / f"{name}.npz"
        path.parent.mkdir(exist_ok=True, parents=True)
        np.savez(path, seeds=np.asarray(list(numbers)), **arrays)
        return path

    return write


def test_a_clear_difference_is_found_and_none_is_made_up(save):
    paths = [save("standard"), save("same", draw=1), save("noisy", noise=1.5, draw=2)]
    found = jaxstab.compare(paths, only=["pairwise_disagreement", "jsd", "sd"])
    task = f"{EXAMPLES} examples"
    assert found.baseline == "standard"
    assert found.paired == {task: True}
    same = {one.measure: one for one in found.of(task, "same")}
    noisy = {one.measure: one for one in found.of(task, "noisy")}
    assert not any(one.clear for one in same.values())
    assert noisy["pairwise_disagreement"].better is False
    assert noisy["jsd"].effect > 1.5
    assert noisy["jsd"].effect_interval[0] > 1
    assert "cannot tell" in found.verdict(task, "same")
    assert "less stable by pairwise_disagreement, jsd" in found.verdict(task, "noisy")
    values = found.values[task]
    ratio = values["noisy"]["jsd"]["value"] / values["standard"]["jsd"]["value"]
    assert noisy["jsd"].effect == pytest.approx(ratio, rel=1e-5)
    assert noisy["mean"].difference == pytest.approx(
        np.mean(found.scores[task]["noisy"]) - np.mean(found.scores[task]["standard"]), abs=1e-6
    )


def test_values_are_those_of_measuring(save):
    paths = [save("a"), save("b", draw=1)]
    found = jaxstab.compare(paths)
    for path in paths:
        measured = jaxstab.measure(path)
        of_scores = {
            "mean": {"value": measured.scores["mean"], "interval": measured.scores["interval"]},
            "remaining_sd": measured.scores["remaining_sd"],
            "interquartile_mean": aggregate([measured.scores["per_seed"]])["interquartile_mean"]._asdict(),
        }
        for name, row in found.values[f"{EXAMPLES} examples"][path.stem].items():
            expected, interval = ((of_scores | measured.measures)[name][key] for key in ("value", "interval"))
            assert row["value"] == pytest.approx(expected, abs=1e-6)
            assert row["interval"] == pytest.approx(interval, abs=1e-5)


def test_seeds_that_match_are_paired_whatever_their_order(save):
    numbers = [5, 3, 1, 0, 2, 4, 7, 6]
    a, b = save("a", 8, numbers=numbers), save("b", 8, draw=1, numbers=numbers)
    shuffled = save("c", 8, numbers=numbers)
    with np.load(shuffled) as arrays:
        order = [2, 0, 1, 5, 4, 3, 7, 6]
        np.savez(shuffled, logits=arrays["logits"][order], labels=arrays["labels"], seeds=arrays["seeds"][order])
    one, other = jaxstab.compare([a, b]), jaxstab.compare([shuffled, b])
    assert one.paired == other.paired == {f"{EXAMPLES} examples": True}
    for name in ("difference", "p"):
        assert [getattr(d, name) for d in one.differences] == pytest.approx(
            [getattr(d, name) for d in other.differences]
        )


def test_all_seeds_are_used_and_only_the_same_seeds_are_paired(save):
    task = f"{EXAMPLES} examples"
    found = jaxstab.compare([save("a", 12), save("b", 8, draw=1)])
    assert found.seeds == {task: {"a": 12, "b": 8}}
    assert not found.paired[task]
    assert "compared unpaired" in found.notes[-1]
    assert f"{task}: 8 to 12 seeds (unpaired)" in [one.title for one in comparison_tables(found)]
    mean = found.differences[0]
    scores = found.scores[task]
    welch = ttest_ind(scores["b"], scores["a"], equal_var=False).confidence_interval()
    assert mean.interval == pytest.approx((welch.low, welch.high), abs=1e-6)
    few = jaxstab.compare([save("a", 6), save("b", 6, draw=1)])
    assert not few.paired[task]
    assert "6 pairs of seeds can be exchanged in too few ways" in few.notes[-1]


def test_tasks_are_grouped_by_name_and_averaged(save, labels):
    others = np.random.default_rng(2).integers(0, 2, 90)
    paths = [save("one/a"), save("one/b", noise=1.0, draw=1)]
    paths += [save("two/a", truth=others, draw=2), save("two/b", truth=others, noise=1.0, draw=3)]
    found = jaxstab.compare(paths, only=["jsd"])
    assert list(found.values) == [f"{EXAMPLES} examples", "90 examples"]
    by_task = {task: {one.measure: one for one in found.of(task, "b")} for task in [*found.values, ALL_TASKS]}
    ratios = [by_task[task]["jsd"].effect for task in found.values]
    assert by_task[ALL_TASKS]["jsd"].effect == pytest.approx(np.sqrt(np.prod(ratios)), rel=1e-4)
    differences = [by_task[task]["mean"].difference for task in found.values]
    assert by_task[ALL_TASKS]["mean"].difference == pytest.approx(np.mean(differences), abs=1e-6)
    assert found.verdicts[0].startswith("b against a on all tasks: ")
    assert "less stable by jsd" in found.verdicts[0]


def test_all_equal_and_too_few_seeds_say_so(save, labels, tmp_path):
    np.savez(tmp_path / "equal.npz", predictions=np.tile(labels, (6, 1)), labels=labels)
    np.savez(tmp_path / "other.npz", predictions=np.tile(1 - labels, (6, 1)), labels=labels)
    found = jaxstab.compare([tmp_path / "equal.npz", tmp_path / "other.npz"])
    assert {one.measure for one in found.differences if one.clear} == {"mean", "failed"}
    json.dumps(found.as_json(), allow_nan=False)
    few = jaxstab.compare([save("a", 2), save("b", 2, draw=1)])
    assert few.differences == []
    assert few.verdicts == []
    assert "differences need at least 3" in few.notes[-1]
    single = jaxstab.compare([save("a", 1), save("b", 1, draw=1)])
    assert single.values[f"{EXAMPLES} examples"]["a"]["jsd"]["value"] is None
    json.dumps(single.as_json(), allow_nan=False)


def test_intervals_and_effects_by_their_definitions(save):
    found = jaxstab.compare([save("a", 10), save("b", 10, noise=1.0, draw=1)], only=["jsd", "sd"])
    task = f"{EXAMPLES} examples"
    first, second = (np.array(found.scores[task][name]) for name in "ab")
    mean, sd, jsd = (next(one for one in found.differences if one.measure == name) for name in ("mean", "sd", "jsd"))
    paired = ttest_rel(second, first).confidence_interval()
    assert mean.interval == pytest.approx((paired.low, paired.high), abs=1e-6)
    of_scores = found.scores_of(task, "b")
    ruled_out = np.abs(ttest_rel(second, first).confidence_interval(0.9)).max()
    assert of_scores.largest == pytest.approx(ruled_out, abs=1e-6)
    assert of_scores.delta == pytest.approx(0.1 * np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2), rel=1e-5)
    assert not of_scores.equivalent
    assert of_scores.probability == pytest.approx(mannwhitneyu(second, first).statistic / 100)
    row = found.values[task]["a"]["interquartile_mean"]
    assert row["value"] == pytest.approx(trim_mean(first, 0.25), abs=1e-6)
    # The jackknife of the log ratio of standard deviations (Miller 1968), by its definition.
    logs = np.array([np.log(np.delete(second, i).std(ddof=1) / np.delete(first, i).std(ddof=1)) for i in range(10)])
    width = t.ppf(0.975, 9) * np.sqrt(9 / 10 * ((logs - logs.mean()) ** 2).sum())
    ratio = second.std(ddof=1) / first.std(ddof=1)
    assert sd.effect == pytest.approx(ratio, rel=1e-5)
    assert sd.effect_interval == pytest.approx((ratio * np.exp(-width), ratio * np.exp(width)), rel=1e-4)
    assert jsd.interval[0] < jsd.difference < jsd.interval[1]


def test_no_difference_larger_than_delta(save, capsys):
    paths = [save("a", 10), save("b", 10, draw=1), save("c", 10, draw=2)]
    found = jaxstab.compare(paths, only=["jsd"], delta=0.05)
    task = f"{EXAMPLES} examples"
    first, second = (np.array(found.scores[task][name]) for name in "ab")
    # Two one-sided tests, each at 5 % for both methods.
    one_sided = [
        ttest_1samp(second - first, sign * 0.05, alternative=side).pvalue
        for sign, side in ((-1, "greater"), (1, "less"))
    ]
    assert found.scores_of(task, "b").equivalent == (max(one_sided) <= 0.025)
    assert found.scores_of(task, "b").equivalent
    assert "no difference in accuracy larger than 0.05" in found.verdict(task, "b")
    assert main(["compare", *map(str, paths), "--delta", "0"]) != 0
    assert "delta = 0: give a difference in mean score" in capsys.readouterr().err


def test_tasks_together(save, labels):
    paths = [
        f"{method}={save(f'{method}{task}', 8, skill, draw=10 * task + place, truth=truth)}"
        for task, truth in enumerate((labels, 1 - labels))
        for place, (method, skill) in enumerate({"a": 0.3, "b": 0.6}.items())
    ]
    found = jaxstab.compare(paths, only=["jsd"])
    scores = {name: [of_task[name] for of_task in found.scores.values()] for name in "ab"}
    assert found.aggregates["b"]["mean"].value == pytest.approx(np.mean(scores["b"]))
    assert found.aggregates["a"] == aggregate(scores["a"])
    together = found.scores_of(ALL_TASKS, "b")
    each = [found.scores_of(task, "b").probability for task in found.values]
    assert together.probability == pytest.approx(np.mean(each))
    assert together.joint_interval is None
    text = to_text(comparison_tables(found), "csv")
    assert f"{ALL_TASKS},b,-,{together.largest:.4f}" in text
    assert "median of tasks" in text
    json.dumps(found.as_json(), allow_nan=False)


def test_one_vote_of_one_seed_is_no_difference(tmp_path, labels):
    votes = np.tile(np.where(np.arange(EXAMPLES) % 5, labels, 1 - labels), (8, 1))
    np.savez(tmp_path / "equal.npz", predictions=votes, labels=labels)
    votes[3, 7] = 1 - votes[3, 7]
    np.savez(tmp_path / "one.npz", predictions=votes, labels=labels)
    found = jaxstab.compare([tmp_path / "equal.npz", tmp_path / "one.npz"])
    assert {one.p for one in found.differences} == {1}
    # No absurd ratio to a value that rests on one seed, or to none at all.
    assert {one.effect_interval for one in found.differences} == {None}
    assert "cannot tell" in found.verdicts[0]


def test_failed_seeds_are_a_question_of_their_own(save, labels, tmp_path):
    path = save("a", 12)
    with np.load(path) as arrays:
        logits = arrays["logits"].copy()
        logits[:8] = [3, 0] if (labels == 0).mean() > 0.5 else [0, 3]
        np.savez(tmp_path / "b.npz", logits=logits, labels=labels)
    found = jaxstab.compare([path, tmp_path / "b.npz"], only=["jsd"])
    failed = next(one for one in found.differences if one.measure == "failed")
    assert failed.p == pytest.approx(fisher_exact([[0, 12], [8, 4]]).pvalue)
    assert failed.difference == pytest.approx(8 / 12)
    assert failed.better is False
    assert "more seeds fail (+67%)" in found.verdicts[0]
    assert found.values[f"{EXAMPLES} examples"]["b"]["failed"]["value"] == pytest.approx(8 / 12)


def test_one_real_effect_does_not_help_the_others(save):
    # Bonferroni over methods for measures: a clear method leaves the factor of the others as it is.
    same = [save("standard"), save("same", draw=1)]
    alone = jaxstab.compare(same, only=["jsd", "sd"])
    beside = jaxstab.compare([*same, save("noisy", noise=3.0, draw=2)], only=["jsd", "sd"])
    for one in alone.differences:
        other = next(two for two in beside.differences if (two.method, two.measure) == (one.method, one.measure))
        if one.measure != "mean":
            assert other.adjusted == pytest.approx(min(1, 2 * one.adjusted))


@pytest.mark.slow
def test_many_seeds(save):
    found = jaxstab.compare([save("a", 200), save("b", 200, draw=1)], only=["jsd"])
    assert all(one.interval is not None for one in found.differences)


def test_failed_seeds_can_be_left_out(save, labels):
    path = save("a", 8)
    with np.load(path) as arrays:
        logits = arrays["logits"].copy()
    logits[:2] = [1.0, 0.0]
    np.savez(path, logits=logits, labels=labels, seeds=np.arange(8))
    found = jaxstab.compare([path, save("b", 8, draw=1)], without_failed=True)
    assert found.seeds == {f"{EXAMPLES} examples": {"a": 6, "b": 8}}
    measured = jaxstab.measure(path)
    assert measured.without_failed["seeds"] == 6
    rest = jaxstab.measure(path, subset="seeds=2-7")
    assert measured.without_failed["measures"]["jsd"]["value"] == pytest.approx(rest["jsd"]["value"], abs=1e-6)
    assert measured.without_failed["measures"]["sd"]["value"] == pytest.approx(rest["sd"]["value"], abs=1e-6)
    assert measured.without_failed["scores"]["mean"] == pytest.approx(rest.scores["mean"], abs=1e-6)


def test_rankings_agree_with_scipy(save):
    paths = [
        save(name, noise=noise, draw=i)
        for i, (name, noise) in enumerate(zip("abcd", (0.5, 0.7, 1.0, 1.5), strict=True))
    ]
    found = jaxstab.compare(paths, only=["pairwise_disagreement", "jsd"])
    ranking = found.rankings[f"{EXAMPLES} examples"]
    values = found.values[f"{EXAMPLES} examples"]
    expected = kendalltau(
        *([values[name][measure]["value"] for name in "abcd"] for measure in ("pairwise_disagreement", "jsd"))
    )
    assert ranking.tau[1, 2] == pytest.approx(expected.statistic)
    assert ranking.ranks[2].tolist() == [1, 2, 3, 4]
    assert ranking.best[2, 0] > 0.95
    np.testing.assert_allclose(ranking.best.sum(axis=1), 1)
    low, high = ranking.intervals[1, 2]
    assert low <= ranking.tau[1, 2] <= high
    assert ranking.smallest_p == pytest.approx(2 / 24)
    assert "with 4 methods none can differ from 0" in ranking.sentence


def test_half_samples_have_half_of_the_seeds():
    masks = half_samples(9, 500)
    assert (masks.sum(axis=1) == 4).all()
    assert abs(masks.mean(axis=0) - 4 / 9).max() < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.npz"], "one method only (a); give at least two runs, as NAME=RUN"),
        (["a.npz", "none.npz"], "none.npz: no such file"),
        (["a.npz", "b.npz", "--baseline", "c"], "baseline 'c': there is no such method; there are a, b"),
        (["a.npz", "b.npz", "--measures", "jds"], "no measure 'jds'"),
        (["a.npz", "sub/a.npz", "b.npz"], "a second run called a on the same examples; name it: NAME="),
        (["a.npz", "other.npz"], "no two of these are on the same test examples"),
        (["a.npz", "b.npz", "--reference", "nowhere"], "nowhere: no csv file there"),
    ],
)
def test_bad_input_is_one_line(arguments, message, save, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "sub/a"):
        save(name, 4)
    save("other", 4, truth=np.zeros(20, int))
    assert main(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_tables_in_every_form(save, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("a", 6), save("b", 6, draw=1)
    assert main(["compare", "x|y=a.npz", "b.npz", "--table", "markdown"]) == 0
    assert "x\\|y" in capsys.readouterr().out
    assert main(["compare", "a.npz", "b.npz", "--table", "latex"]) == 0
    latex = capsys.readouterr().out
    assert "\\toprule" in latex
    assert "prediction disagreement &" in latex
    assert main(["compare", "a.npz", "b.npz", "--table", "csv"]) == 0
    assert capsys.readouterr().out.startswith("measure,a,b\nmean accuracy,")
    assert main(["compare", "a.npz", "b.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["baseline"] == "a"
    assert main(["compare", "a.npz", "b.npz"]) == 0
    assert "b against a on 150 examples: " in capsys.readouterr().out
    tables = comparison_tables(jaxstab.compare(["a.npz", "b.npz"]))
    assert "\\n" not in to_text(tables, "csv")


def test_published_numbers_are_corrected(tmp_path, capsys):
    predictions = tmp_path / "p.csv"
    columns = "model,task,method,seeds,score,sd_population,jsd_nats,pairwise_disagreement,kappa_as_printed"
    predictions.write_text(f"{columns}\nbert,SST-2,original,20,0.9,0.019,0.02,0.04,0.041\n")
    (tmp_path / "l.csv").write_text("model,task,method,measure,distance\nbert,SST-2,original,cka,0.3\n")
    rows = load_reference(tmp_path).of("sst2")
    assert rows["sd"].tolist() == pytest.approx([0.019 * (20 / 19) ** 0.5])
    assert rows["cka"].tolist() == [0.3]
    assert "kappa_as_printed" not in rows
    predictions.write_text(f"{columns}\nbert,SST-2,original,20,high,0.019,0.02,0.04,0.041\n")
    with pytest.raises(jaxstab.InputError, match=r"p.csv: score in row 1 is no number"):
        load_reference(predictions)
    predictions.write_text("model,task\nbert,rte\n")
    with pytest.raises(jaxstab.InputError, match=r"p.csv: columns model, task; expected model, task, method and seeds"):
        load_reference(predictions)
