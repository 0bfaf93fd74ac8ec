"""How often the 95 % intervals cover the truth, by simulating seeds with known truth.

    python benchmarks/coverage.py --docs docs/measures.md

The populations are those of `populations.py`. The truth of a measure is its mean over many sets of the same number of
seeds and with the same test examples; that of a standard deviation is the root of the mean variance. For the joint
interval of the mean score, examples are drawn anew too. Prints the share of intervals that cover, and the share of sets
that have one; the others have a reason instead. `--docs` writes both into the page, between the markers.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from pages import replace_tables
from populations import POPULATIONS, Population, draw_logits, draw_representations
from scipy.stats import trim_mean
from threadpoolctl import threadpool_limits

from jaxstab import measures
from jaxstab.analysis.aggregates import aggregate, probability_of_improvement
from jaxstab.measures import MEAN, MEASURES, STANDARD_DEVIATIONS
from jaxstab.measures.intervals import Facts, row
from jaxstab.measures.programs import OnDevice, pair_distances, set_values
from jaxstab.measures.representation import layer_distances

TRUTH_REPLICATES = 4
REPRESENTATIONS = ("cka", "op", "svcca", "cka_biased", "pwcca", "rsa", "distance_correlation", "knn_jaccard")
FEWEST_SHOWN = 0.05
Values = dict[str, tuple[np.ndarray, np.ndarray]]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--replicates", type=int, default=400)
    parser.add_argument("--numbers", action="store_true", help="only the measures of a regression")
    parser.add_argument("--docs", type=Path, default=None, help="page whose tables are replaced")
    parser.add_argument("--output", type=Path, default=None, help="JSON file")
    return parser.parse_args()


@partial(jax.jit, static_argnums=2)
def measure_on_device(logits: jax.Array, labels: jax.Array, sets: int) -> tuple[dict, dict]:
    """Distances of pairs, and measures of the first so many sets of `all_then_without_each`, for R sets of seeds."""
    masks = jnp.asarray(measures.all_then_without_each(logits.shape[1])[:sets], jnp.float32)
    compiled = [one for one in MEASURES.values() if one.compute is not None and one.of != "numbers"]
    of_pairs, of_sets = (tuple(one.name for one in compiled if one.shape == shape) for shape in ("pairs", "set"))

    def measure_one(logits: jax.Array) -> tuple[dict, dict]:
        arrays = OnDevice(logits, jnp.argmax(logits, -1).astype(jnp.int32), labels, "accuracy", 2)
        return pair_distances.__wrapped__(arrays, of_pairs), set_values.__wrapped__(arrays, of_sets, masks)

    return jax.lax.map(measure_one, logits)


def measure_sets(logits: np.ndarray, labels: np.ndarray, left_out: bool = True) -> Values:
    """For each quantity of scores and predictions, values [R] and leave-one-out values [R, S] of R sets of seeds."""
    seeds = logits.shape[1]
    masks = measures.all_then_without_each(seeds)[: None if left_out else 1]
    matrices, of_sets = measure_on_device(logits, labels, len(masks))
    found = {name: np.asarray(one, np.float64) for name, one in of_sets.items()}
    in_numpy = [one.name for one in MEASURES.values() if one.shape == "set" and not one.compute and one.of != "numbers"]
    for one in logits:
        inputs = measures.check(one, labels=labels)
        of_set = measures.subset_values([MEAN, *in_numpy], masks, inputs=inputs)
        for name, values in of_set.items():
            found.setdefault(name, []).append(values[0])  # type: ignore[union-attr]
    together = {name: np.asarray(one) for name, one in found.items()}
    values = {name: (one[:, 0], one[:, 1:]) for name, one in together.items()}
    return values | {name: from_pairs(matrix) for name, matrix in matrices.items()}


def from_pairs(matrices: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    return measures.mean_over_pairs(np.asarray(matrices)), measures.leave_one_out(np.asarray(matrices))


def true_values(values: Values) -> dict[str, float]:
    return {
        name: float(np.sqrt((one**2).mean()) if name in STANDARD_DEVIATIONS else one.mean())
        for name, (one, _) in values.items()
    }


def count_covered(truth: float, intervals: list[measures.Interval | None]) -> dict[str, float | None]:
    """Share of intervals that cover, their median width divided by the truth, and share of sets that have one."""
    ends = np.array([one for one in intervals if one is not None]).reshape(-1, 2)
    inside = (ends[:, 0] <= truth + 1e-9) & (truth - 1e-9 <= ends[:, 1])
    return {
        "truth": truth,
        "coverage": float(inside.mean()) if len(ends) else None,
        "width": float(np.median(ends[:, 1] - ends[:, 0]) / max(abs(truth), 1e-12)) if len(ends) else None,
        "shown": len(ends) / len(intervals),
    }


def simulate_predictions(seeds: int, replicates: int, population: Population) -> dict[str, dict]:
    rng = np.random.default_rng(seeds)
    truths = true_values(measure_sets(*draw_logits(rng, TRUTH_REPLICATES * replicates, seeds, population), False))
    logits, labels = draw_logits(rng, replicates, seeds, population)
    values = measure_sets(logits, labels)
    facts = [Facts.of(measures.check(one, labels=labels), "accuracy", list(values)) for one in logits]
    found = {}
    for name, (each, without) in values.items():
        rows = [row(name, *one) for one in zip(each, without, facts, strict=True)]
        found[name] = count_covered(truths[name], [one["interval"] for one in rows])
    return {name: found[name] for name in (MEAN, *MEASURES) if name in found}


def simulate_numbers(seeds: int, replicates: int, population: Population) -> dict[str, dict]:
    """Coverage of the measures of a regression, whose predictions are the margins of `draw_logits`."""
    logits, classes = draw_logits(np.random.default_rng(seeds), (1 + TRUTH_REPLICATES) * replicates, seeds, population)
    numbers, labels = logits[..., 1:] - logits[..., :1], 3.0 * classes
    names = [one.name for one in MEASURES.values() if one.of == "numbers"]
    of_pairs = tuple(name for name in names if MEASURES[name].shape == "pairs")
    rows: dict[str, list[dict]] = {name: [] for name in names}
    for one in numbers:
        inputs = measures.check(one, labels=labels, metric="pearson")
        matrices = pair_distances(OnDevice.of(inputs, "pearson"), of_pairs)
        distances = {name: np.asarray(matrix)[None] for name, matrix in matrices.items()}
        for name, found in measures.rows(names, inputs, distances, "pearson").items():
            rows[name].append(found)
    return {
        name: count_covered(
            float(np.mean([one["value"] for one in of_name[replicates:]])),
            [one["interval"] for one in of_name[:replicates]],
        )
        for name, of_name in rows.items()
    }


def simulate_scores(seeds: int, replicates: int, population: Population) -> dict[str, dict]:
    """Coverage of the interquartile mean, and of the probability of a higher score than where scores are 1 SD lower."""
    rng = np.random.default_rng(seeds)

    def draw() -> np.ndarray:
        logits, labels = draw_logits(rng, (1 + TRUTH_REPLICATES) * replicates, seeds, population)
        return (logits.argmax(-1) == labels).mean(-1)

    ours, lower = draw(), draw()
    lower -= lower.std()
    found = [
        (aggregate([one])["interquartile_mean"], probability_of_improvement([other], [one]))
        for one, other in zip(ours[:replicates], lower[:replicates], strict=True)
    ]
    better = (np.sign(ours.ravel()[:, None] - np.sort(lower.ravel())[::7]) + 1) / 2
    truths = {"interquartile mean": trim_mean(ours, 0.25, axis=1).mean(), "better than 1 SD lower": better.mean()}
    return {
        name: count_covered(float(truth), [one.interval for one in each])
        for (name, truth), each in zip(truths.items(), zip(*found, strict=True), strict=True)
    }


def simulate_representations(seeds: int, replicates: int, population: Population) -> dict[str, dict]:
    rng = np.random.default_rng(seeds)
    measured = jax.jit(partial(jax.lax.map, partial(layer_distances, names=REPRESENTATIONS)))
    # LAPACK is called from several threads at once; threads of its own would slow each other down.
    with threadpool_limits(1, user_api="blas"):
        drawn = draw_representations(rng, (1 + TRUTH_REPLICATES) * replicates, seeds, population)
        both = {name: np.asarray(one) for name, one in measured(drawn).items()}
    found, truths = (
        {name: one[part] for name, one in both.items()} for part in (slice(replicates), slice(replicates, None))
    )
    covered = {}
    for name in REPRESENTATIONS:
        rows = [row(name, *one, Facts(range(seeds))) for one in zip(*from_pairs(found[name]), strict=True)]
        covered[name] = count_covered(float(from_pairs(truths[name])[0].mean()), [one["interval"] for one in rows])
    return covered


def simulate_joint(seeds: int, replicates: int, population: Population) -> dict[str, dict]:
    """Coverage for the mean score when test examples are drawn anew too."""
    rng = np.random.default_rng(seeds)
    draws = [draw_logits(rng, 1, seeds, population, test_set=1 + place) for place in range(20 * replicates)]
    truth = np.mean([(logits[0].argmax(-1) == labels).mean() for logits, labels in draws])
    intervals = [
        measures.Interval.of(measures.joint_mean("accuracy", logits[0].argmax(-1), labels, 2))
        for logits, labels in draws[:replicates]
    ]
    return {"mean, for other examples too": count_covered(float(truth), intervals)}


def to_tables(results: dict[str, dict[int, dict]], seeds: list[int]) -> str:
    """Two Markdown tables: coverage, and the share of sets with an interval, at each number of seeds."""
    names = list(dict.fromkeys(name for of_population in results.values() for name in of_population[seeds[0]]))
    parts = []
    for what, title in (("coverage", "coverage"), ("width", "median width / truth"), ("shown", "has an interval")):
        lines = [
            f"| {title} at {', '.join(map(str, seeds))} seeds | {' | '.join(results)} |",
            "|---" * (1 + len(results)) + "|",
        ]
        for name in names:
            cells = [
                " ".join(_cell_of(of_population[count].get(name), what) for count in seeds)
                for of_population in results.values()
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell_of(found: dict | None, what: str) -> str:
    """A cell; `-` where so few sets have an interval that their coverage says nothing."""
    return "-" if found is None or (what != "shown" and found["shown"] < FEWEST_SHOWN) else _cell(found[what])


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}".removeprefix("0") if value < 10 else f"{value:.0f}"


def main() -> None:
    arguments = parse_arguments()
    results: dict[str, dict[int, dict]] = {}
    for name, population in POPULATIONS.items():
        results[name] = {}
        for seeds in arguments.seeds:
            parts = [simulate_numbers] if arguments.numbers else [simulate_predictions, simulate_scores, simulate_joint]
            if not arguments.numbers and not population.rare:
                parts.append(simulate_representations)
            found = {}
            for part in parts:
                found |= part(seeds, arguments.replicates, population)
            results[name][seeds] = found
            print(name, seeds, "seeds", {key: _cell(one["coverage"]) for key, one in found.items()}, flush=True)
    text = to_tables(results, arguments.seeds)
    print(text)
    if arguments.docs:
        replace_tables(arguments.docs, f"coverage.py{' --numbers' * arguments.numbers}", text)
    if arguments.output:
        arguments.output.write_text(
            json.dumps({"replicates": arguments.replicates, "results": results}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
