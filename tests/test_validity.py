"""The validity framework on simulated seeds with known truth."""

import json

import numpy as np
import pytest
from tiny import toy_sample

import jaxstab
from jaxstab.analysis.ranking import half_samples
from jaxstab.analysis.sample import Sample, as_sample
from jaxstab.analysis.validity import _over_seeds, validity
from jaxstab.cli import main
from jaxstab.measures import check

SEEDS, EXAMPLES, LAYERS, FEATURES = 12, 120, 5, 8


def _write(path, draw=0, failed=0, seeds=SEEDS):
    """Writes seeds whose layers drift apart with depth, and whose noise level is the same in all outputs."""
    rng = np.random.default_rng(draw)
    labels = rng.integers(0, 2, EXAMPLES)
    noise = np.linspace(0.2, 1.5, seeds)[:, None, None]
    logits = (
        1.5 * np.eye(2)[labels] + 0.5 * rng.normal(size=(EXAMPLES, 2)) + noise * rng.normal(size=(seeds, EXAMPLES, 2))
    )
    if failed:
        logits[:failed] = [2.0, 0.0] + 0.01 * rng.normal(size=(failed, 1, 2))
        logits[:failed, :, 0] = 3
    common = rng.normal(size=(EXAMPLES, FEATURES))
    layers = [
        common + 0.3 * (1 + layer) * noise * rng.normal(size=(seeds, EXAMPLES, FEATURES)) for layer in range(LAYERS)
    ]
    np.savez(path, logits=logits, labels=labels, representations=np.stack(layers, axis=1).astype(np.float32))
    return path


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = _write(tmp_path_factory.mktemp("v") / "a.npz")
    return jaxstab.validity(path), as_sample(path)


def test_measures_that_see_the_same_noise_correlate(found):
    validity, sample = found
    over = validity.over_seeds
    masks = half_samples(sample.seeds)
    values = sample.subsets(["jsd", "cka"], masks)
    expected = np.corrcoef(values["jsd"][-1], values["cka"][-1])[0, 1]
    i, j = over.names.index("jsd"), over.names.index("cka")
    assert over.matrix[i, j] == pytest.approx(expected)
    assert over.matrix[i, j] > 0.8
    assert 0 < over.intervals[i, j, 0] < over.matrix[i, j] < over.intervals[i, j, 1] <= 1
    np.testing.assert_allclose(np.diag(over.matrix), 1)


def test_unrelated_measures_do_not_correlate():
    # Scores are independent of the distances: the interval covers 0 in about 95 % of cases.
    rng = np.random.default_rng(3)
    inside, trials = 0, 60
    for _ in range(trials):
        points, scores = rng.normal(size=(10, 6)) * rng.gamma(2, 1, (10, 1)), rng.normal(size=10)
        distances = ((points[:, None] - points) ** 2).sum(-1)
        wrong = np.round(500 + 100 * scores).astype(int)
        inputs = check(predictions=(np.arange(1000) < wrong[:, None]).astype(int), labels=np.zeros(1000, int))
        sample = Sample("a", None, "t", "accuracy", inputs, {"jsd": distances[None]}, None, (None,) * 10)
        low, high = _over_seeds(sample, ["sd", "jsd"], []).intervals[0, 1]
        inside += low <= 0 <= high
    assert inside / trials >= 0.85


def test_depth_is_seen(found):
    validity, _ = found
    assert all(row["tau"] == 1 for row in validity.depth.values())
    assert all(row["interval"][0] > 0 for row in validity.depth.values())
    assert any("Deeper layers are less stable by every measure" in one for one in validity.sentences)
    np.testing.assert_allclose(validity.over_layers.matrix, 1)


def test_fewer_examples(found):
    validity, sample = found
    assert set(validity.examples) == {"10%", "50%"}
    tenth = validity.examples["10%"]
    assert tenth["jsd"]["examples"] == 12
    assert tenth["jsd"]["ratio"] == pytest.approx(1, abs=0.1)
    assert tenth["sd"]["ratio"] > 1.2  # sub-sampling examples adds variance
    whole = sample.rows(["jsd"])["jsd"]["value"]
    low, high = tenth["jsd"]["interval"]
    assert low < whole < high
    assert tenth["cka"]["mean"] is not None


def test_of_many_seeds_some_are_measured_on_fewer_examples():
    many = toy_sample("many", 0.8, seeds=33)
    found, few = (jaxstab.validity(one, only=["sd", "pairwise_disagreement"]) for one in (many, many.take(range(30))))
    assert found.examples == few.examples
    (note,) = [note for note in found.notes if "sub-samples" in note]
    assert note == "on sub-samples of the test examples only the first 30 of 33 seeds are measured"
    assert not any("sub-samples" in note for note in few.notes)


def test_nulls_are_those_of_unrelated_seeds(found):
    validity, sample = found
    predictions = sample.inputs.predictions
    shares = (predictions == 1).mean(axis=1)
    expected = np.mean([p * (1 - q) + q * (1 - p) for i, p in enumerate(shares) for q in shares[i + 1 :]])
    assert validity.nulls["pairwise_disagreement"]["null"] == pytest.approx(expected, abs=0.03)
    assert validity.nulls["cka"]["null"] == pytest.approx(1, abs=0.1)
    assert validity.nulls["sd"]["null"] is None
    assert "Every measure is below that of unrelated seeds" in validity.sentences[-1]


def test_failed_seeds_are_found_and_compared(tmp_path):
    validity = jaxstab.validity(_write(tmp_path / "a.npz", failed=4))
    row = validity.failed["pairwise_disagreement"]
    assert row["failed"]["value"] < 0.05 < row["successful"]["value"]
    assert row["p"] <= 0.05
    assert any(one.startswith("4 of 12 seeds failed; they are ") for one in validity.sentences)
    json.dumps(validity.as_json(), allow_nan=False)


@pytest.mark.slow
def test_everything_equal_and_few_seeds(tmp_path):
    labels = np.random.default_rng(0).integers(0, 2, 40)
    np.savez(tmp_path / "equal.npz", predictions=np.tile(labels, (6, 1)), labels=labels)
    validity = jaxstab.validity(tmp_path / "equal.npz")
    assert "no two measures vary" in validity.sentences[0]
    json.dumps(validity.as_json(), allow_nan=False)
    few = jaxstab.validity(_write(tmp_path / "few.npz", seeds=3))
    assert few.over_seeds is None
    assert "correlations over seeds need at least 5 of them" in few.notes[0]
    json.dumps(few.as_json(), allow_nan=False)


def test_all_failed(tmp_path):
    validity = jaxstab.validity(_write(tmp_path / "a.npz", failed=SEEDS))
    assert validity.failed is None
    assert any("12 of 12 failed" in one for one in validity.notes)
    json.dumps(validity.as_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["two.npz"], "two.npz: 2 seeds; validity needs at least 3"),
        (["a.npz", "--examples", "ten"], "--examples ten: not understood; write percentages, as 10,50"),
        (["a.npz", "--examples", "0"], "--examples 0: out of range"),
        (["a.npz", "--measures", "svcca,cak"], "no measure 'cak'"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "a.npz")
    _write(tmp_path / "two.npz", seeds=2)
    assert main(["validity", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_command_prints_what_was_found(tmp_path, capsys):
    path = str(_write(tmp_path / "a.npz"))
    assert main(["validity", path]) == 0
    out = capsys.readouterr().out
    assert "correlation over seeds" in out
    assert "a: Deeper layers are less stable by every measure" in out
    assert main(["validity", path, "--json", "--examples", "25"]) == 0
    assert list(json.loads(capsys.readouterr().out)[0]["examples"]) == ["25%"]
    assert validity(as_sample(path), only=["jsd"]).over_seeds.names == ["jsd"]
