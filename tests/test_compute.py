"""All measures of arrays: inputs of any framework, nulls, warnings, bad input."""

import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from jaxstab import measures
from jaxstab.measures import nulls, paper

RNG = np.random.default_rng(0)
SEEDS, LAYERS, EXAMPLES, FEATURES, CLASSES = 6, 2, 14, 6, 3
LABELS = RNG.integers(0, CLASSES, EXAMPLES)
LOGITS = (RNG.normal(size=(SEEDS, EXAMPLES, CLASSES)) + np.eye(CLASSES)[LABELS]).astype(np.float32)
REPRESENTATIONS = RNG.normal(size=(SEEDS, LAYERS, EXAMPLES, FEATURES)).astype(np.float32)
PUBLISHED = Path(__file__).parents[2] / "shared" / "reference" / "du_nguyen_2023_predictions.csv"


@pytest.fixture(scope="module")
def results():
    return measures.all(logits=LOGITS, labels=LABELS, representations=REPRESENTATIONS)


def test_every_measure_is_there_with_value_interval_and_layers(results):
    assert list(results.measures) == [one.name for one in measures.select()]
    for name, row in results.measures.items():
        measure = measures.MEASURES[name]
        assert measure.low <= row["interval"][0] <= row["value"] <= row["interval"][1] <= measure.high + 1e-6
        if measure.shape == "pairs":
            layers = LAYERS if measure.granularity == "representation" else 1
            assert results.distances[name].shape == (layers, SEEDS, SEEDS)
        if measure.granularity == "representation":
            assert row["layers"][-1] == row["value"]
            assert row["layer_intervals"][-1] == row["interval"]
            assert len(row["null_shuffled"]) == LAYERS
            assert isinstance(row["null"], float)
    sd = results["sd"]
    assert sd["interval"][0] < sd["value"] < sd["interval"][1]
    assert results.scores["mean"] == pytest.approx((LOGITS.argmax(-1) == LABELS).mean())
    inner, outer = results.scores["interval"], results.scores["joint_interval"]
    assert inner[0] < results.scores["mean"] < inner[1]
    assert outer[0] < results.scores["mean"] < outer[1]


def test_numpy_jax_and_pytorch_arrays_are_the_same(results):
    arrays = {"logits": LOGITS, "labels": LABELS, "representations": REPRESENTATIONS}
    as_jax = {name: jnp.asarray(array) for name, array in arrays.items()}
    as_torch = {name: torch.tensor(array) for name, array in arrays.items()}
    as_torch["logits"].requires_grad_()
    per_seed = {**arrays, "representations": list(REPRESENTATIONS)}
    for given in (as_jax, as_torch, per_seed):
        assert measures.all(**given).as_json() == results.as_json()
    low = as_torch["representations"].bfloat16()
    names = ["cka", "op"]
    rounded = measures.all(representations=low, only=names)
    exact = measures.all(representations=low.float().numpy(), only=names)
    assert rounded.as_json() == exact.as_json()


def test_values_far_from_zero_keep_their_digits_in_float64():
    exact = measures.all(representations=REPRESENTATIONS.astype(np.float64), only=["cka"])
    shifted = measures.all(representations=REPRESENTATIONS.astype(np.float64) + 1e8, only=["cka"])
    assert shifted["cka"]["value"] == pytest.approx(exact["cka"]["value"], abs=1e-5)


def test_measures_on_request_are_not_there_by_default_and_need_representations():
    names = ["rsa_cosine", "rsa_correlation", "knn_jaccard_cosine", "knn_jaccard_correlation"]
    assert [name for name, one in measures.MEASURES.items() if not one.default] == names
    assert measures.select() == [
        one for name, one in measures.MEASURES.items() if name not in names and one.of != "numbers"
    ]
    found = measures.all(representations=REPRESENTATIONS, only=[*names, "rsa"])
    assert list(found.measures) == ["rsa", *names]
    assert all(len(row["layers"]) == len(row["null_shuffled"]) == LAYERS for row in found.measures.values())
    assert measures.all(logits=LOGITS, only=names).left_out == dict.fromkeys(names, "needs representations")
    with pytest.raises(ValueError, match=r"no measure 'rsa_euclidean'; there are sd, .*, rsa_cosine, "):
        measures.all(representations=REPRESENTATIONS, only=["rsa_euclidean"])


def test_directions_are_those_from_zero_in_float64_too():
    names, shifted = ["rsa", "rsa_cosine", "knn_jaccard_correlation"], REPRESENTATIONS + np.float32([3, 0, 0, 1, 0, 0])
    single, double = (
        measures.all(representations=shifted.astype(kind), only=names) for kind in (np.float32, np.float64)
    )
    for name in names:
        assert single[name]["layers"] == pytest.approx(double[name]["layers"], abs=1e-5), name
    unshifted = measures.all(representations=REPRESENTATIONS, only=["rsa_cosine"])["rsa_cosine"]["value"]
    assert abs(unshifted - double["rsa_cosine"]["value"]) > 0.01


def test_two_seeds_have_values_and_few_intervals():
    found = measures.all(logits=LOGITS[:2], labels=LABELS)
    assert all(row["value"] is not None for row in found.measures.values())
    assert {str(row["interval"]) for row in found.measures.values()} == {"None"}
    low, high = found.scores["interval"]
    assert 0 <= low < high <= 1


def test_measures_of_one_shape_are_compiled_once(caplog):
    predictions = LOGITS.argmax(-1)
    measures.cohen_kappa(predictions, CLASSES)
    with caplog.at_level("DEBUG", logger="jax"):
        measures.cohen_kappa(predictions, CLASSES)
    assert "compil" not in caplog.text.lower()


def test_only_some_and_what_is_left_out():
    chosen = measures.all(predictions=LOGITS.argmax(-1), only=["jsd", "stable_fraction", "sd", "op"])
    assert list(chosen.measures) == ["stable_fraction"]
    assert chosen.left_out == {"sd": "needs labels", "jsd": "needs logits", "op": "needs representations"}
    assert chosen.scores is None
    with pytest.raises(ValueError, match="no measure 'ckas'; there are sd, "):
        measures.all(logits=LOGITS, only=["ckas"])


def test_compat_adds_the_numbers_of_the_released_code():
    found = measures.all(logits=LOGITS, labels=LABELS, representations=REPRESENTATIONS, compat="paper")
    predictions = LOGITS.argmax(-1)
    assert found["sd"]["paper"] == pytest.approx(found["sd"]["value"] * np.sqrt((SEEDS - 1) / SEEDS), rel=1e-5)
    disagreement = found["pairwise_disagreement"]["value"]
    assert found["fleiss_kappa"]["paper"] == pytest.approx(disagreement * EXAMPLES / (EXAMPLES - 1), rel=1e-5)
    centred = REPRESENTATIONS[:, -1] - REPRESENTATIONS[:, -1].mean(axis=1, keepdims=True)
    assert paper.svcca(centred) == pytest.approx(found["svcca"]["value"], abs=1e-5)
    assert found["svcca"]["paper"] == pytest.approx(paper.svcca(REPRESENTATIONS[:, -1]), abs=1e-6)
    assert paper.fleiss_kappa(predictions, CLASSES) == pytest.approx(found["fleiss_kappa"]["paper"], abs=1e-6)
    with pytest.raises(ValueError, match="only 'paper'"):
        measures.all(logits=LOGITS, compat="notebook")


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published numbers are not there")
def test_published_kappas_are_disagreements():
    rows = pd.read_csv(PUBLISHED)
    examples = {"rte": 139, "mrpc": 204, "cola": 522, "sst2": 436}
    for row in rows.itertuples():
        n = examples[row.task]
        assert row.kappa_as_printed == pytest.approx(row.pairwise_disagreement * n / (n - 1), rel=1e-6)


def test_the_null_is_simulated_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = ("cka", "svcca")
    first = nulls.gaussian_null(names, 20, 40)
    assert first["cka"] == pytest.approx(1, abs=0.1)
    assert first["svcca"] < 0.1
    file = next(tmp_path.rglob("*-20-40.json"))
    original = nulls.distances
    monkeypatch.setattr(nulls, "distances", lambda *_: pytest.fail("simulated again"))
    assert nulls.gaussian_null(names, 20, 40) == first
    monkeypatch.setattr(nulls, "distances", original)
    file.write_text('{"cka": 0.')
    assert nulls.gaussian_null(names, 20, 40) == first
    (tmp_path / "jaxstab" / "nulls").chmod(0o500)
    assert set(nulls.gaussian_null(("rsa",), 20, 40)) == {"rsa"}


def test_unrelated_and_saturated_representations_are_warned_of():
    independent = np.random.default_rng(1).normal(size=(6, 1, 20, 40)).astype(np.float32)
    found = measures.all(representations=independent, only=["cka", "svcca"])
    assert any(w.startswith("cka: ") and "no more alike than with examples shuffled" in w for w in found.warnings)
    assert any(w.startswith("svcca is saturated") and "20 examples <= 40 features" in w for w in found.warnings)
    shared = independent[:1] + 0.1 * independent
    assert not any(w.startswith("cka") for w in measures.all(representations=shared, only=["cka"]).warnings)


def test_constant_layers_and_features_are_warned_of():
    constant = REPRESENTATIONS.copy()
    constant[2, 0] = 3.0
    constant[1, 1, :, 4] = 0
    found = measures.all(representations=constant, only=["cka", "op"])
    assert "layer 1 of seed 2 is the same for all examples; its distance to others is set to 1" in found.warnings
    assert any("layer 2: constant features, 1 of 6 in seed 1" in warning for warning in found.warnings)
    assert np.isfinite(found["op"]["layers"]).all()


def test_many_examples_are_sampled():
    found = measures.all(representations=REPRESENTATIONS, only=["cka"], max_examples=10)
    rows = measures.represented_examples(EXAMPLES, 10)
    assert len(set(rows.tolist())) == 10
    direct = measures.all(representations=REPRESENTATIONS[:, :, rows], only=["cka"])
    assert found["cka"]["value"] == direct["cka"]["value"]
    assert "compared on 10 of 14 examples" in found.warnings[0]


def _with(array, place, value):
    array = np.array(array)
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "nothing to measure"),
        ({"labels": LABELS}, "nothing to measure"),
        ({"logits": LOGITS, "predictions": LOGITS.argmax(-1)}, "give one of them"),
        ({"logits": LOGITS[0]}, "logits: 2 axes (14, 3); expected [S, N, C]"),
        ({"predictions": LABELS}, "predictions: 1 axes (14,); expected [S, N]"),
        ({"logits": LOGITS[:1]}, "one seed only"),
        ({"logits": LOGITS[:, :, :1], "labels": LABELS, "metric": "f1"}, "f1 does not apply: predictions are numbers"),
        ({"logits": LOGITS[:, :0]}, "logits: shape (6, 0, 3) is empty"),
        ({"logits": LOGITS, "labels": LABELS[1:]}, "numbers of examples differ: logits 14, labels 13"),
        ({"logits": LOGITS, "representations": REPRESENTATIONS[1:]}, "numbers of seeds differ: logits 6, repres"),
        ({"logits": _with(LOGITS, (1, 2, 0), np.nan)}, "logits: nan at seed 1, example 2, class 0"),
        (
            {"representations": _with(REPRESENTATIONS, (3, 1, 2, 5), -np.inf)},
            "representations: -inf at seed 3, layer 2, example 2, feature 5",
        ),
        ({"representations": REPRESENTATIONS[:, 0]}, "add the axis of layers: representations[:, None]"),
        ({"representations": REPRESENTATIONS[:, :, :3]}, "representations: 3 examples; at least 4"),
        ({"representations": [REPRESENTATIONS[0], REPRESENTATIONS[1, :1]]}, "representations: seeds differ in shape"),
        ({"logits": LOGITS, "labels": _with(LABELS, 3, 3)}, "labels: 3 at example 3 is out of range; there are 3 cl"),
        ({"logits": LOGITS, "labels": _with(LABELS, 3, -1)}, "labels: -1 at example 3 is out of range"),
        ({"logits": LOGITS, "labels": LABELS + 0.5}, "labels: of type float64; expected class indices"),
        ({"predictions": _with(LOGITS.argmax(-1), (2, 5), -1)}, "predictions: -1 at seed 2, example 5 is out of range"),
        ({"logits": np.array([[["a", "b"]]] * 2)}, "logits: of type <U1; expected real numbers"),
        ({"logits": np.full((2, 3, 2), None)}, "logits: holds Python objects"),
        ({"predictions": [[0, 1], [0]]}, "predictions: rows differ in length"),
    ],
)
def test_bad_arrays_are_one_line(arrays, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        measures.all(**arrays)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_measures_import_in_two_seconds_without_transformers():
    code = (
        "import time; start = time.process_time(); from jaxstab import measures; "
        "seconds = time.process_time() - start; import sys; "
        "print(seconds, [m for m in ('transformers', 'datasets', 'flax') if m in sys.modules])"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    seconds, modules = zip(*(run.stdout.strip().split(" ", 1) for run in runs), strict=True)
    assert set(modules) == {"[]"}
    assert min(map(float, seconds)) < 2


def test_every_measure_is_explained():
    lines = (Path(__file__).parents[1] / "docs" / "measures.md").read_text().splitlines()
    headings, rows = ("\n".join(line for line in lines if line.startswith(start)) for start in ("### ", "| [`"))
    assert [name for name in measures.MEASURES if f"`{name}`" not in headings] == []
    assert [name for name in measures.MEASURES if f"[`{name}`](#" not in rows] == []


def test_given_scores_are_measured_without_predictions():
    scores = np.array([88.1, 90.2, 87.0, 86.4, 91.3])
    found = measures.all(scores=scores, metric="bleu", only=["sd", "jsd", "pairwise_disagreement"])
    assert found["sd"]["value"] == pytest.approx(scores.std(ddof=1))
    ends = stats.t.interval(0.95, 4, scores.mean(), stats.sem(scores))
    assert found.scores["interval"] == pytest.approx(ends, rel=1e-6)
    assert found.scores["joint_interval"] is None
    assert found.left_out == {"jsd": "needs logits", "pairwise_disagreement": "needs predictions"}
    # With predictions but without labels both are measured.
    votes = np.eye(5, 8, dtype=int)
    both = measures.all(scores=scores, predictions=votes, metric="bleu")
    assert both["sd"]["value"] == found["sd"]["value"]
    assert both["pairwise_disagreement"]["value"] == pytest.approx(2 / 8)
    assert "ambiguity" not in both


def test_the_range_of_given_scores_is_that_of_their_name():
    scores = np.array([0.99, 0.999, 0.9])
    assert measures.all(scores=scores, metric="eval/accuracy").scores["interval"][1] == 1
    assert measures.all(scores=scores, metric="reward").scores["interval"][1] > 1
    assert measures.all(scores=100 * scores, metric="accuracy").scores["interval"][1] > 100


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"scores": [0.5, np.nan, 0.5]}, "scores: nan of seed 1; leave that seed out"),
        ({"scores": ["a", "b"]}, "scores: of type <U1; expected real numbers"),
        ({"scores": [[0.5, 0.6]]}, r"scores: 2 axes (1, 2); expected [S]: seeds"),
        ({"scores": [0.5, 0.6], "labels": [0, 1]}, "labels and scores: give one of them"),
        ({"scores": [0.5, 0.6], "predictions": [[0, 1]] * 3}, "numbers of seeds differ: predictions 3, scores 2"),
        ({"scores": [0.5]}, "one seed only"),
    ],
)
def test_bad_scores_are_named(arrays, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        measures.all(**arrays)
