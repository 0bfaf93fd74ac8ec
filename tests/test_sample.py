"""Samples in memory give the same numbers as from a file in every analysis; results as tables."""

import json

import numpy as np
import pandas as pd
import pytest

import jaxstab
from jaxstab import measures
from jaxstab.measures import Interval, Results

SEEDS, EXAMPLES, CLASSES = 8, 60, 3
RNG = np.random.default_rng(0)
LABELS = RNG.integers(CLASSES, size=EXAMPLES)
LOGITS = (RNG.normal(size=(SEEDS, EXAMPLES, CLASSES)) + 2 * np.eye(CLASSES)[LABELS]).astype(np.float32)
BETTER = (RNG.normal(size=(SEEDS, EXAMPLES, CLASSES)) + 4 * np.eye(CLASSES)[LABELS]).astype(np.float32)
REPRESENTATIONS = RNG.normal(size=(SEEDS, 5, EXAMPLES, 6)).astype(np.float32)
NUMBERS = tuple(range(10, 10 + SEEDS))


@pytest.fixture(scope="module")
def sample():
    return jaxstab.Sample.from_arrays(
        "plain", logits=LOGITS, labels=LABELS, representations=REPRESENTATIONS, seeds=NUMBERS, task="toy"
    )


@pytest.fixture(scope="module")
def better():
    return jaxstab.Sample.from_arrays("better", logits=BETTER, labels=LABELS, seeds=NUMBERS, task="toy")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The same arrays as a file."""
    path = tmp_path_factory.mktemp("saved") / "plain.npz"
    np.savez(path, logits=LOGITS, labels=LABELS, representations=REPRESENTATIONS, seeds=NUMBERS)
    return path


def _text(result):
    return json.dumps(result.as_json(), allow_nan=False)


def test_arrays_and_a_file_give_the_same(sample, path, better):
    pair = ["jsd", "sd"]
    by_name = jaxstab.compare({"plain": path, "better": better}, only=pair)
    from_path = jaxstab.compare([path, better], only=pair, baseline="plain")
    in_memory = jaxstab.compare([sample, better], only=pair)
    assert in_memory.paired["toy"]
    differences = [one.as_json()["differences"] for one in (by_name, from_path, in_memory)]
    without_task = [[{**row, "task": None} for row in rows] for rows in differences]
    assert without_task[0] == without_task[1] == without_task[2]
    validities = [jaxstab.validity(one, only=pair) for one in (sample, path)]
    assert validities[0].nulls == validities[1].nulls
    assert _text(jaxstab.study_seeds(sample)) == _text(jaxstab.study_seeds(path))
    assert jaxstab.measure(sample).as_json() == jaxstab.measure(path).as_json()
    assert jaxstab.measure(sample, only=["jsd"], subset="seeds=10-12").keys() == {"jsd"}


def test_a_name_renames_a_sample(sample, better):
    found = jaxstab.compare({"standard": better, "other": sample}, only=["sd"])
    assert found.methods == ["standard", "other"]
    assert (sample.name, better.name) == ("plain", "better")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"logits": LOGITS[0]}, r"mine: logits: 2 axes \(60, 3\); expected \[S, N, C\]"),
        ({"logits": LOGITS, "labels": LABELS[:5]}, "mine: numbers of examples differ: logits 60, labels 5"),
        ({"logits": LOGITS, "seeds": (1, 2)}, "mine: seeds: 2 numbers for 8 seeds"),
        ({}, "mine: nothing to measure"),
        ({"logits": LOGITS, "labels": LABELS, "metric": "bleu"}, "mine: unknown metric 'bleu'"),
        ({"logits": LOGITS, "metric": "bleu"}, "mine: unknown metric 'bleu'"),
        ({"logits": LOGITS, "seeds": (1, 1, 2, 3, 4, 5, 6, 7)}, "mine: seeds: a number occurs twice"),
        ({"logits": LOGITS, "only": ["nope"]}, "mine: no measure 'nope'"),
    ],
)
def test_bad_arrays_are_one_line(arrays, message):
    with pytest.raises(jaxstab.InputError, match=message) as caught:
        jaxstab.Sample.from_arrays("mine", **arrays)
    assert "\n" not in str(caught.value)


def test_options_of_paths_are_refused_for_samples(sample, better):
    for call in (
        lambda: jaxstab.compare([sample, better], metric="macro_f1"),
        lambda: jaxstab.measure(sample, labels="labels.csv"),
        lambda: jaxstab.validity(sample, metric="f1"),
    ):
        with pytest.raises(jaxstab.InputError, match="plain: a sample has its metric, labels and task"):
            call()
    with pytest.raises(jaxstab.InputError, match="nothing to compare"):
        jaxstab.compare([])


def test_one_source_need_not_be_in_a_list(sample, tmp_path):
    assert jaxstab.write_report(sample, tmp_path / "page.html", brief=True)[0].title == "jaxstab: plain"
    with pytest.raises(jaxstab.InputError, match="plain: one method only"):
        jaxstab.compare(sample)
    with pytest.raises(jaxstab.InputError, match=r"missing\.npz: no such file"):
        jaxstab.compare("missing.npz")


def test_results_are_a_mapping_and_a_table(sample):
    assert measures.measure_inputs(sample.inputs, "accuracy", ()), "scores alone are results"
    found = jaxstab.measure(sample, only=["sd", "jsd", "cka"])
    assert isinstance(found, Results)
    assert list(found) == list(found.keys()) == ["sd", "jsd", "cka"]
    assert len(found) == 3
    assert "cka" in found
    assert "op" not in found
    frame = found.to_frame()
    assert frame["measure"].tolist() == ["mean", "sd", "jsd"] + 5 * ["cka"]
    assert frame["layer"].isna().tolist() == 3 * [True] + 5 * [False]
    last = frame.iloc[-1]
    assert (last["layer"], last["value"]) == (5, found["cka"]["value"])
    assert Interval(last["low"], last["high"]) == found["cka"]["interval"]
    assert last["null_shuffled"] == found["cka"]["null_shuffled"][-1]


def test_every_result_is_a_short_text_and_a_table(sample, better):
    third = jaxstab.Sample.from_arrays("third", logits=LOGITS[:, ::-1], labels=LABELS)
    comparison = jaxstab.compare([sample, better, third])
    validity, study = jaxstab.validity(sample, shares=[0.5]), jaxstab.study_seeds(sample)
    results = jaxstab.measure(sample)
    shown = [results, comparison, validity, validity.over_seeds, validity.over_layers, study]
    shown += list(comparison.rankings.values())
    for one in shown:
        frame = one.to_frame()
        assert isinstance(frame, pd.DataFrame)
        assert len(frame) > 0
        assert frame.columns.is_unique
        assert one._repr_html_().count("<tr") == 1 + len(frame)
        assert 0 < len(repr(one)) < 2000
        assert "array(" not in repr(one)
    assert len(comparison.to_frame()) == len(comparison.differences)
    row = comparison.to_frame().set_index(["method", "measure"]).loc[("better", "mean")]
    one = next(one for one in comparison.of("toy", "better") if one.measure == "mean")
    assert (row["difference"], row["low"], row["high"]) == (one.difference, *one.interval)
    depth = validity.to_frame().query("part == 'depth' and measure == 'cka'")["value"].item()
    assert depth == validity.depth["cka"]["tau"]
    best = study.to_frame().query("part == 'best of n'")
    np.testing.assert_array_equal(best["value"], study.best)
    assert repr(sample) == f"Sample('plain' on toy: 8 seeds, 60 examples, mean accuracy {sample.scores.mean():.4f})"


def test_intervals_are_plain_and_lists_in_json():
    assert Interval.of(np.float32([0.1, 0.4])) == (0.1, 0.4)
    assert Interval.of([0.1, np.inf]) is None
    assert str(Interval(0.1, 0.25)) == "0.1000 to 0.2500"
    assert measures.as_plain({"a": (Interval(0.0, 1.0), np.array([np.nan, 0.5]))}) == {"a": [[0.0, 1.0], [None, 0.5]]}


@pytest.mark.optimiser
def test_a_run_is_a_row_for_each_seed(settings):
    run = jaxstab.run(settings)
    frame = run.to_frame()
    np.testing.assert_array_equal(frame["seed"], run.seeds)
    np.testing.assert_array_equal(frame["score"], run.scores)
    best = run.history.groupby("seed")["validation_score"].max()
    np.testing.assert_array_equal(frame["validation_score"], best.loc[run.seeds])
    assert frame["failed"].sum() == len(run.info.failed_seeds)
    mean, sd = run.scores.mean(), run.scores.std(ddof=1)
    assert repr(run) == f"Run({run.path}: 4 seeds, mean accuracy {mean:.4f}, SD {sd:.4f})"
    assert run._repr_html_().count("<tr") == 5
    compared = jaxstab.compare({"run": run, "again": run.path}, only=["sd"])
    assert compared.differences[0].difference == 0
    assert {one.p for one in compared.differences} == {1}
