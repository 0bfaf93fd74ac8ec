"""Computes all measures of arrays: values, intervals, nulls and warnings."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxstab import xla
from jaxstab.measures import paper
from jaxstab.measures.inputs import FEWEST_EXAMPLES, Inputs, check
from jaxstab.measures.intervals import Facts, row, rows
from jaxstab.measures.joint import joint_mean
from jaxstab.measures.nulls import gaussian_null, shuffled_null, shuffled_number_null
from jaxstab.measures.programs import OnDevice, pair_distances
from jaxstab.measures.registry import Measure, select
from jaxstab.measures.remaining import remaining_sd
from jaxstab.measures.representation import DIRECTIONS, distances
from jaxstab.measures.resampling import leave_one_out, mean_over_pairs
from jaxstab.measures.results import Interval, Results, plain, plain_or_none
from jaxstab.measures.subsets import MEAN, seed_scores
from jaxstab.measures.subspaces import MAX_PAIRS, SUBSPACES, chosen_pairs

MAX_EXAMPLES = 1000
SATURATED = 0.2


def measure_arrays(
    *,
    logits: Any = None,
    predictions: Any = None,
    labels: Any = None,
    representations: Any = None,
    scores: Any = None,
    metric: str | None = None,
    only: Iterable[str] | None = None,
    compat: str | None = None,
    max_examples: int = MAX_EXAMPLES,
    max_pairs: int | None = MAX_PAIRS,
) -> Results:
    """Measures the instability of S seeds at every level of detail that the given arrays have.

    Args:
        logits: [S, N, C]; like all arrays, from numpy, JAX or PyTorch.
        predictions: [S, N] class indices, instead of logits; or the numbers of a regression, as are logits [S, N, 1].
        labels: [N] class indices, or numbers; without them there are no scores.
        representations: [S, L, N, D], or S arrays [L, N, D].
        scores: [S] any score of which more is better, instead of labels.
        metric: the score, one of `SCORES`, by default accuracy, or of numbers pearson; the name of given scores.
        only: names of measures; by default all but those on request (`Measure.default`).
        compat: `paper` adds `paper`, the number that the released code of Du & Nguyen (2023) gives, where it differs.
        max_examples: if there are more examples, representations are compared on a random subset of this size.
        max_pairs: if there are more pairs of seeds, `svcca`, `pwcca` and `op` are those of a random part of this size;
            None for all pairs.

    Returns:
        A mapping from names to values with intervals, and the reasons for measures that are missing.

    Raises:
        ValueError: an array is wrong or a name unknown; one line says which and where.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(2, size=100)
        >>> votes = np.where(rng.random((8, 100)) < 0.8, labels, 1 - labels)
        >>> found = measure_arrays(predictions=votes, labels=labels, only=["sd", "pairwise_disagreement"])
        >>> found
        Results(2 measures of 8 seeds: sd, pairwise_disagreement)
        >>> print(found["sd"]["interval"])
        0.0326 to 0.1424
        >>> found.to_frame()[["measure", "value", "low", "high"]].round(4)
                         measure   value     low    high
        0                   mean  0.7850  0.7403  0.8297
        1                     sd  0.0535  0.0326  0.1424
        2  pairwise_disagreement  0.3343  0.2876  0.3885
    """
    inputs = check(logits, predictions, labels, representations, scores=scores, metric=metric)
    if inputs.seeds < 2:
        raise ValueError("one seed only; instability needs at least two")
    return measure_inputs(inputs, metric, select(only, inputs.of), compat, max_examples, max_pairs)


def represented_examples(examples: int, at_most: int = MAX_EXAMPLES) -> np.ndarray:
    """Returns the examples on which representations are compared: all, or a random subset that depends on N only."""
    return np.sort(np.random.default_rng(0).permutation(examples)[:at_most])


def measure_inputs(
    inputs: Inputs,
    metric: str | None = None,
    chosen: Sequence[Measure] | None = None,
    compat: str | None = None,
    max_examples: int = MAX_EXAMPLES,
    max_pairs: int | None = MAX_PAIRS,
    progress: Callable[[float], None] = lambda share: None,
) -> Results:
    """Measures checked arrays, see `measure_arrays`. With one seed there are scores, and every measure is None.

    `progress` is called with the share of the work that is done, from time to time.
    """
    metric = metric or inputs.default_metric
    chosen = select(of=inputs.of) if chosen is None else chosen
    results = Results(scores=_scores(inputs, metric))
    for one in chosen:
        missing = one.lacks(inputs.available)
        if missing:
            results.left_out[one.name] = f"needs {' and '.join(missing)}"
        elif one.granularity == "representation" and inputs.examples < FEWEST_EXAMPLES:
            results.left_out[one.name] = f"needs at least {FEWEST_EXAMPLES} examples"
    there = [one for one in chosen if one.name not in results.left_out]
    of_predictions = [one for one in there if one.granularity != "representation"]
    if of_predictions:
        _measure_predictions(results, inputs, metric, of_predictions)
    of_layers = [one for one in there if one.granularity == "representation"]
    if of_layers and inputs.seeds > 1:
        _measure_representations(results, inputs, of_layers, max_examples, max_pairs, progress)
    elif of_layers:
        results.measures.update({one.name: {"value": None, "interval": None} for one in of_layers})
    if compat is not None:
        _add_paper(results, inputs, compat)
    results.measures.update({one.name: results.measures.pop(one.name) for one in there})  # the registry's order
    return results


def prepare(*, seeds: int, examples: int, features: int, classes: int, metric: str) -> None:
    """Compiles all that `measure_inputs` needs for arrays of these shapes, by measuring one layer of random numbers.

    On an accelerator the host has cores to spare while seeds train, and this can run in a thread.

    Args:
        seeds: S.
        examples: N.
        features: D.
        classes: C; 1 for numbers.
        metric: the score.
    """
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((seeds, examples, classes), np.float32)
    representations = rng.standard_normal((seeds, 1, examples, features), np.float32)
    labels = np.arange(examples) % classes if classes > 1 else np.arange(examples)
    measure_inputs(check(logits, labels=labels, representations=representations, metric=metric), metric)


def _scores(inputs: Inputs, metric: str) -> dict[str, Any] | None:
    per_seed = seed_scores(inputs, metric)
    if per_seed is None:
        return None
    if np.isnan(per_seed).any():
        what = "labels that differ" if inputs.of == "numbers" else "examples of two classes"
        raise ValueError(f"{metric} needs {what}; all labels are the same")
    found = {"metric": metric, "mean": plain(per_seed.mean()), "per_seed": [plain(one) for one in per_seed]}
    if inputs.seeds < 2:
        return found | {"interval": None, "joint_interval": None, "remaining_sd": None}
    of_mean = rows([MEAN], inputs, {}, metric)[MEAN]
    of_mean.pop("value")
    return (
        found
        | of_mean
        | {
            "joint_interval": _joint_interval(inputs, metric),
            "remaining_sd": _remaining(inputs, metric),
        }
    )


def _joint_interval(inputs: Inputs, metric: str) -> Interval | None:
    outputs = inputs.outputs_for(metric)
    if outputs is None or inputs.labels is None or inputs.examples < FEWEST_EXAMPLES:
        return None
    low, high = joint_mean(metric, outputs, inputs.labels, inputs.classes)
    return Interval(float(low), float(high)) if low < high else None


def _remaining(inputs: Inputs, metric: str) -> dict[str, Any] | None:
    outputs = inputs.outputs_for(metric)
    if outputs is None or inputs.labels is None or inputs.examples < FEWEST_EXAMPLES:
        return None
    found = remaining_sd(metric, outputs, inputs.labels, inputs.classes)
    return None if found.interval is None else {"value": plain(found.remaining), "interval": found.interval}


def _measure_predictions(results: Results, inputs: Inputs, metric: str, chosen: Sequence[Measure]) -> None:
    of_pairs = tuple(one.name for one in chosen if one.shape == "pairs")
    matrices = xla.fetch(pair_distances, OnDevice.of(inputs, metric), of_pairs) if of_pairs else {}
    results.distances.update({name: matrix[None] for name, matrix in matrices.items()})
    found = rows([one.name for one in chosen], inputs, results.distances, metric)
    if inputs.seeds > 1:
        of_numbers = [one.name for one in chosen if one.of == "numbers"]
        for name, null in shuffled_number_null(of_numbers, inputs).items():
            found[name]["null_shuffled"] = plain_or_none(null)
    results.measures.update(found)


def _measure_representations(
    results: Results,
    inputs: Inputs,
    chosen: Sequence[Measure],
    max_examples: int,
    max_pairs: int | None,
    progress: Callable[[float], None],
) -> None:
    """Measures layer by layer, so that only one layer of all seeds is on the device."""
    per_seed, names = inputs.representations or [], tuple(one.name for one in chosen)
    layers, examples, features = per_seed[0].shape
    subset = represented_examples(examples, max_examples)
    if len(subset) < examples:
        results.warnings.append(f"representations compared on {len(subset)} of {examples} examples, drawn at random")
    _note_pairs(results, [name for name in names if name in SUBSPACES], inputs.seeds, max_pairs)
    by_layer: list[dict[str, np.ndarray]] = []
    shuffled: list[dict[str, float]] = []
    of_directions = [name for name in names if name in DIRECTIONS]
    of_points = [name for name in names if name not in DIRECTIONS]
    for layer in range(layers):

        def in_layer(share: float, done: int = layer) -> None:
            progress((done + share) / layers)

        arrays = [one[layer][subset] for one in per_seed]
        stacked = np.stack([_single(one) for one in arrays])
        _warn_constant(results, stacked, layer, inputs.names)
        by_layer.append({})
        shuffled.append({})
        if of_points:
            by_layer[-1] |= distances(stacked, of_points, max_pairs, in_layer)
            shuffled[-1] |= shuffled_null(of_points, stacked)
        if of_directions:
            stacked = np.stack(arrays).astype(np.float32)  # without its mean, an example has another direction
            by_layer[-1] |= distances(stacked, of_directions)
            shuffled[-1] |= shuffled_null(of_directions, stacked)
    nulls = gaussian_null(names, len(subset), features)
    for name in names:
        add_layers(
            results,
            name,
            np.stack([found[name] for found in by_layer]),
            {"null": plain_or_none(nulls[name]), "null_shuffled": [plain_or_none(found[name]) for found in shuffled]},
            inputs.names,
        )
        _warn_saturated(results, name, len(subset), features)


def add_layers(
    results: Results, name: str, distances: np.ndarray, nulls: Mapping[str, Any], seeds: Sequence[int]
) -> None:
    """Adds a measure of representations to results.

    Args:
        results: to add to.
        name: name of the measure.
        distances: [L, S, S].
        nulls: `null` and `null_shuffled` as in `Results`.
        seeds: [S] names of the seeds.
    """
    results.distances[name] = distances
    facts = Facts(seeds)
    layers = [
        row(name, value, left_out, facts)
        for value, left_out in zip(np.asarray(mean_over_pairs(distances)), leave_one_out(distances), strict=True)
    ]
    results.measures[name] = {
        **layers[-1],
        "layers": [one["value"] for one in layers],
        "layer_intervals": [one["interval"] for one in layers],
        **nulls,
    }
    results.left_out.pop(name, None)


def _note_pairs(results: Results, names: Sequence[str], seeds: int, max_pairs: int | None) -> None:
    measured, everything = len(chosen_pairs(seeds, max_pairs)), seeds * (seeds - 1) // 2
    if names and measured < everything:
        results.warnings.append(
            f"{', '.join(names)}: {measured} of {everything} pairs of seeds, drawn at random, "
            f"{2 * measured // seeds} of each seed"
        )


def _single(array: np.ndarray) -> np.ndarray:
    """Converts to float32. The mean of float64 is removed first, so that values far from 0 lose no digits."""
    array = array - array.mean(axis=0) if array.dtype == np.float64 else array
    return array.astype(np.float32)


def _warn_constant(results: Results, stacked: np.ndarray, layer: int, names: Sequence[int]) -> None:
    same = (stacked == stacked[:, :1]).all(axis=1)
    for seed in np.flatnonzero(same.all(axis=1)).tolist():
        results.warnings.append(
            f"layer {layer + 1} of seed {names[seed]} is the same for all examples; its distance to others is set to 1"
        )
    some = same.any(axis=1) & ~same.all(axis=1)
    if some.any():
        seed = int(np.argmax(some))
        results.warnings.append(
            f"layer {layer + 1}: constant features, {same[seed].sum()} of {same.shape[1]} in seed {names[seed]}; "
            "they have no weight"
        )


def _warn_saturated(results: Results, name: str, examples: int, features: int) -> None:
    row = results.measures[name]
    null, interval = row["null_shuffled"][-1], row["interval"]
    if null is None:
        return
    relation = "<=" if examples <= features else ">"
    if null < SATURATED:
        results.warnings.append(
            f"{name} is saturated: {row['value']:.3f} in the last layer, but {null:.3f} with examples shuffled "
            f"({examples} examples {relation} {features} features)"
        )
    elif row["value"] >= null or (interval and interval[0] <= null <= interval[1]):
        results.warnings.append(
            f"{name}: {row['value']:.3f} in the last layer, no more alike than with examples shuffled ({null:.3f})"
        )


def _add_paper(results: Results, inputs: Inputs, compat: str) -> None:
    if compat != "paper":
        raise ValueError(f"compat = {compat!r}: there is only 'paper'")
    found = results.measures
    if "sd" in found and results.scores is not None:
        found["sd"]["paper"] = plain(paper.sd(np.asarray(results.scores["per_seed"])))
    if "fleiss_kappa" in found and inputs.predictions is not None:
        found["fleiss_kappa"]["paper"] = plain(paper.fleiss_kappa(inputs.predictions, inputs.classes))
    if "svcca" in found and inputs.representations is not None:
        last = np.stack([np.asarray(one[-1]) for one in inputs.representations])
        found["svcca"]["paper"] = plain(paper.svcca(last))
