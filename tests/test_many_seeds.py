"""Many seeds: pairs in blocks, a random part of all pairs, and intervals from it."""

import io

import numpy as np
import pytest
from rich.console import Console

from jaxstab import measures
from jaxstab.cli.analysis_commands import measure_command
from jaxstab.cli.display import share_bar
from jaxstab.measures import forecast, representation
from jaxstab.measures.representation import distances
from jaxstab.measures.resampling import jackknife_interval, leave_one_out, mean_over_pairs
from jaxstab.measures.subspaces import SUBSPACES, chosen_pairs


def _layer(seeds, examples=20, features=6):
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=(examples, features)), rng.normal(size=(seeds, examples, features))
    return np.float32(shared + 0.5 * own)


@pytest.mark.parametrize(("seeds", "at_most"), [(9, 20), (10, 20), (10, 44), (11, 54), (50, 7), (200, 2000)])
def test_some_pairs_are_different_ones_and_each_seed_is_in_as_many(seeds, at_most):
    pairs = chosen_pairs(seeds, at_most)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert len(pairs) == max(at_most // seeds, 1) * seeds
    np.testing.assert_array_equal(np.bincount(pairs.ravel(), minlength=seeds), 2 * len(pairs) // seeds)


def test_few_pairs_are_all_pairs():
    for at_most in (None, 45, 100):
        np.testing.assert_array_equal(chosen_pairs(10, at_most).T, np.triu_indices(10, 1))


@pytest.mark.parametrize(
    ("work", "calls"),
    [
        (6**3, 2 + 7 + 21),  # a measure of all pairs, the factors of a seed, or a pair in each call
        (6**3 * 8, 2 + 7 + 3),
        (6**3 * 400, 1 + 1),  # everything in two calls
    ],
)
def test_pairs_in_blocks_are_those_of_one_program(monkeypatch, work, calls):
    X = _layer(7)
    X[2], X[5] = 1, 2  # constant seeds
    names = ("cka", *SUBSPACES, "rsa")
    expected = distances(X, names)
    shares: list[float] = []
    monkeypatch.setattr("jaxstab.measures.subspaces.WORK", work)
    found = distances(X, names, progress=shares.append)
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-6, err_msg=name)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) == calls


def test_other_pairs_are_not_measured():
    X = _layer(12)
    every, some = distances(X, ("op", "cka")), distances(X, ("op", "cka"), max_pairs=30)
    chosen = np.zeros((12, 12), bool)
    chosen[tuple(chosen_pairs(12, 30).T)] = True
    chosen |= chosen.T | np.eye(12, dtype=bool)
    np.testing.assert_array_equal(np.isfinite(some["op"]), chosen)
    np.testing.assert_allclose(some["op"][chosen], every["op"][chosen], atol=2e-6)
    np.testing.assert_array_equal(some["cka"], every["cka"])  # of products only, so all pairs are cheap


def test_a_decomposition_in_a_block_that_does_not_converge_is_tried_again_alone(monkeypatch):
    X = _layer(8)
    expected = distances(X, ("op",), max_pairs=16)["op"]

    def failing(factors, block, names, compute=representation.compiled_pairs):
        return {
            name: np.where(np.arange(len(block)) == 3, np.nan, one)
            for name, one in compute(factors, block, names).items()
        }

    monkeypatch.setattr(representation, "compiled_pairs", failing)
    np.testing.assert_allclose(distances(X, ("op",), max_pairs=16)["op"], expected, atol=2e-6)


def test_averages_are_those_of_the_pairs_that_were_measured():
    rng, pairs = np.random.default_rng(0), chosen_pairs(9, 20)
    matrix = np.full((9, 9), np.nan)
    values = rng.random(len(pairs))
    matrix[tuple(pairs.T)] = matrix[tuple(pairs.T[::-1])] = values
    np.fill_diagonal(matrix, 0)
    assert mean_over_pairs(matrix) == pytest.approx(values.mean())
    without = [values[(pairs != seed).all(axis=1)].mean() for seed in range(9)]
    np.testing.assert_allclose(leave_one_out(matrix), without)
    masks = rng.random((30, 9)) < 0.6
    inputs = measures.check(None, representations=_layer(9)[:, None])
    found = measures.subset_values(["op"], masks, inputs=inputs, distances={"op": matrix[None]})["op"][0]
    inside = [mask[pairs].all(axis=1) for mask in masks]
    expected = [values[one].mean() if one.any() else np.nan for one in inside]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("own", [1.0, 0.05])  # how much of a pair's distance is due to its two seeds
def test_intervals_from_some_pairs_hold_the_truth(own):
    seeds, replicates, rng = 40, 2000, np.random.default_rng(1)
    chosen = np.zeros((seeds, seeds), bool)
    chosen[tuple(chosen_pairs(seeds, 120).T)] = True
    chosen |= chosen.T
    part = own * rng.normal(size=(replicates, seeds))
    noise = np.triu(rng.normal(size=(replicates, seeds, seeds)), 1)
    drawn = part[:, :, None] + part[:, None] + noise + noise.transpose(0, 2, 1)
    drawn = np.where(chosen, drawn, np.nan)
    ends = jackknife_interval(mean_over_pairs(drawn), leave_one_out(drawn))
    covered = ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean()
    assert 0.94 < covered < 0.999


def test_results_say_that_some_pairs_only_were_measured():
    found = measures.all(representations=_layer(12)[:, None], only=["cka", "op", "svcca"], max_pairs=36)
    assert "op, svcca: 36 of 66 pairs of seeds, drawn at random, 6 of each seed" in found.warnings[0].replace(
        "svcca, op", "op, svcca"
    )
    low, high = found["op"]["interval"]
    assert low < found["op"]["value"] < high
    assert not any("pairs" in line for line in measures.all(representations=_layer(12)[:, None], only=["op"]).warnings)


@pytest.mark.parametrize("name", ["ambiguity", "discrepancy", "stable_fraction"])
def test_leaving_out_one_of_many_seeds(name):
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=30)
    predictions = np.where(rng.random((41, 30)) < 0.9, labels, 1 - labels)
    inputs = measures.check(predictions=predictions, labels=labels)
    _, left_out = measures.values_and_left_out([name], inputs, {}, "accuracy")[name]
    for seed in (0, 17, 40):
        rest = measures.check(predictions=np.delete(predictions, seed, axis=0), labels=labels)
        value = measures.measure_inputs(rest, "accuracy", measures.select([name]))[name]["value"]
        assert left_out[0, seed] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("seeds", [2, 30, 63, 1000])
def test_the_time_of_measuring_is_predicted_from_few_seeds(monkeypatch, seeds):
    def cost(count, names):
        pairs = count * (count - 1) / 2
        if set(names) <= set(SUBSPACES):
            return 0.3 * (len(chosen_pairs(count, 2000)) + count)
        return 2.0 * count + 0.01 * pairs

    monkeypatch.setattr(forecast, "_seconds", lambda tried, names: (0.7, cost(len(tried), names)))
    expected = 2 * 0.7 + 3 * (cost(seeds, ["svcca"]) + cost(seeds, ["cka"]))
    assert measures.measuring_seconds(seeds, 3, 20, 6) == pytest.approx(expected)


def test_nothing_is_predicted_where_nothing_is_measured():
    assert measures.measuring_seconds(1, 3, 20, 6) == 0
    assert measures.measuring_seconds(5, 3, 2, 6) == 0


def test_a_bar_shows_the_share_on_a_terminal_only():
    for terminal in (True, False):
        written = io.StringIO()
        with share_bar(Console(file=written, force_terminal=terminal, width=80), "measuring") as progress:
            progress(0.5)
        assert ("measuring" in written.getvalue()) == terminal
        assert ("50%" in written.getvalue()) == terminal


def test_the_command_and_python_measure_as_many_pairs():
    (option,) = [one for one in measure_command.params if one.name == "max_pairs"]
    assert option.default == measures.MAX_PAIRS
