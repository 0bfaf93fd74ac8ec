"""How often the 95 % intervals cover the truth, by simulating seeds with known truth.

    python benchmarks/coverage.py --seeds 5 10 20 --replicates 400

Populations: `typical` seeds agree in most predictions on 139 examples; in `failures`, 15 % of the seeds predict the
majority class; `five classes`; and representations with mostly shared directions. The truth of a measure is its mean
over many sets of the same number of seeds and with the same test examples. For the joint interval of the mean score,
examples are resampled too. Prints the share of intervals that cover, and their mean width relative to the truth.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxstab import measures
from jaxstab.measures.compute import OnDevice, pair_distances, set_values
from jaxstab.measures.representation import layer_distances

EXAMPLES, TRUTH_REPLICATES = 139, 4
REPRESENTATIONS = ("cka", "op", "svcca", "rsa", "knn_jaccard")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--replicates", type=int, default=400)
    parser.add_argument("--output", type=Path, default=None, help="JSON file")
    return parser.parse_args()


def draw_logits(rng: np.random.Generator, count: int, seeds: int, classes: int, failures: float) -> tuple:
    """Logits [count, S, N, C] of seeds with shared margins and deviations in a few directions; labels [N]."""
    fixed = np.random.default_rng(1)
    labels = fixed.choice(classes, EXAMPLES, p=np.r_[2, np.ones(classes - 1)] / (classes + 1))
    shared = 1.5 * fixed.standard_normal((EXAMPLES, classes)) + 1.8 * np.eye(classes)[labels]
    directions = fixed.standard_normal((3, EXAMPLES, classes))
    own = rng.standard_normal((count, seeds, EXAMPLES, classes), np.float32)
    together = np.tensordot(rng.standard_normal((count, seeds, 3)), directions, 1)
    logits = shared + 0.5 * own + 0.4 * together
    failed = rng.random((count, seeds, 1, 1)) < failures
    return np.where(failed, 0.3 * own + 3 * np.eye(classes)[0], logits).astype(np.float32), labels.astype(np.int32)


def draw_representations(rng: np.random.Generator, count: int, seeds: int) -> np.ndarray:
    """[count, S, N, D]: a shared part, deviations in a few shared directions, and noise."""
    fixed, (n, d) = np.random.default_rng(1), (60, 32)
    scales = np.exp(-np.arange(d) / 10)
    common, directions = fixed.standard_normal((n, d)), fixed.standard_normal((3, n, d))
    weights = rng.standard_normal((count, seeds, 3))
    noise = rng.standard_normal((count, seeds, n, d))
    return ((common + 0.4 * np.tensordot(weights, directions, 1) + 0.3 * noise) * scales).astype(np.float32)


def measure_sets(logits: np.ndarray, labels: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each measure of predictions, values [R] and leave-one-out values [R, S] of R sets of seeds."""
    chosen = [one for one in measures.MEASURES.values() if one.granularity != "representation"]
    pairs = tuple(one.name for one in chosen if one.shape == "pairs")
    sets = tuple(one.name for one in chosen if one.shape == "set")

    @jax.jit
    def measure_one(logits: jax.Array) -> tuple[dict, dict]:
        predictions = jnp.argmax(logits, -1).astype(jnp.int32)
        arrays = OnDevice(logits, predictions, jnp.asarray(labels), "accuracy", logits.shape[-1])
        return pair_distances(arrays, pairs), set_values(arrays, sets)

    of_pairs, of_sets = jax.lax.map(measure_one, jnp.asarray(logits))
    found = {name: from_pairs(matrices) for name, matrices in of_pairs.items()}
    return found | {name: (np.asarray(v[:, 0]), np.asarray(v[:, 1:])) for name, v in of_sets.items()}


def from_pairs(matrices: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    return measures.mean_over_pairs(np.asarray(matrices)), measures.leave_one_out(np.asarray(matrices))


def count_covered(truth: float, intervals: np.ndarray) -> dict[str, float]:
    inside = (intervals[:, 0] <= truth + 1e-9) & (truth - 1e-9 <= intervals[:, 1])
    width = (intervals[:, 1] - intervals[:, 0]).mean() / abs(truth)
    return {"truth": float(truth), "coverage": float(inside.mean()), "width": float(width)}


def simulate_predictions(seeds: int, replicates: int, classes: int, failures: float) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng(seeds)
    draw = partial(draw_logits, seeds=seeds, classes=classes, failures=failures)
    truths = measure_sets(*draw(rng, TRUTH_REPLICATES * replicates))
    logits, labels = draw(rng, replicates)
    found = {}
    for name, (values, without) in measure_sets(logits, labels).items():
        row = measures.MEASURES[name]
        intervals = measures.jackknife_interval(values, without, row.low, row.high)
        found[name] = count_covered(float(truths[name][0].mean()), intervals)
        if name == "sd":
            exact = np.stack([measures.chi_square_interval(value, seeds) for value in values])
            found["sd (chi-square)"] = count_covered(float(truths[name][0].mean()), exact)
    return found


def simulate_joint(seeds: int, replicates: int) -> dict[str, dict[str, float]]:
    """Coverage for the mean score when test examples are sampled too."""
    rng = np.random.default_rng(seeds)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 2, (count, 1, EXAMPLES))
        margins, directions = rng.normal(1, 1.5, (count, 1, EXAMPLES)), rng.standard_normal((count, 3, EXAMPLES))
        own = 0.6 * rng.standard_normal((count, seeds, EXAMPLES))
        right = margins + own + 0.5 * rng.standard_normal((count, seeds, 3)) @ directions > 0
        return np.where(right, labels, 1 - labels).astype(np.int32), labels[:, 0].astype(np.int32)

    predictions, labels = draw(20 * replicates)
    truth = (predictions == labels[:, None]).mean()
    predictions, labels = draw(replicates)
    intervals = [measures.multi_bootstrap("accuracy", p, y, 2) for p, y in zip(predictions, labels, strict=True)]
    return {"mean score (seeds and examples)": count_covered(float(truth), np.stack(intervals))}


def simulate_representations(seeds: int, replicates: int) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng(seeds)
    measured = jax.jit(partial(jax.lax.map, partial(layer_distances, names=REPRESENTATIONS)))
    truths = measured(draw_representations(rng, TRUTH_REPLICATES * replicates, seeds))
    found = measured(draw_representations(rng, replicates, seeds))
    covered = {}
    for name in REPRESENTATIONS:
        values, without = from_pairs(found[name])
        truth = float(measures.mean_over_pairs(np.asarray(truths[name])).mean())
        covered[name] = count_covered(
            truth, measures.jackknife_interval(values, without, 0, measures.MEASURES[name].high)
        )
    return covered


def main() -> None:
    arguments = parse_arguments()
    populations = {
        "typical": partial(simulate_predictions, classes=2, failures=0.0),
        "failures": partial(simulate_predictions, classes=2, failures=0.15),
        "five classes": partial(simulate_predictions, classes=5, failures=0.0),
        "typical, joint": simulate_joint,
        "representations": lambda seeds, replicates: simulate_representations(seeds, replicates // 2),
    }
    results: dict[str, dict[int, dict]] = {}
    for population, simulate in populations.items():
        results[population] = {seeds: simulate(seeds, arguments.replicates) for seeds in arguments.seeds}
        print(f"{population:32}" + "".join(f"{seeds:>10} seeds" for seeds in arguments.seeds))
        for name in results[population][arguments.seeds[0]]:
            cells = (results[population][seeds][name] for seeds in arguments.seeds)
            print(
                f"  {name:30}"
                + "".join(f"{cell['coverage']:9.3f} ({cell['width']:.2f})"[:16].rjust(16) for cell in cells)
            )
        print(flush=True)
    if arguments.output:
        arguments.output.write_text(
            json.dumps({"replicates": arguments.replicates, "results": results}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
