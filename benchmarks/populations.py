"""Simulated seeds of known truth: populations in which intervals and tests are tried.

R sets of S seeds, N examples, C = 2 classes, D features.
"""

from dataclasses import dataclass

import numpy as np

EXAMPLES = 139
REPRESENTED, FEATURES = 60, 32


@dataclass(frozen=True)
class Population:
    """How seeds differ.

    Attributes:
        own: standard deviation of what each seed adds to each logit by itself.
        together: standard deviation of what seeds add in three common directions.
        rare: what is added to the margin of class 0, so that the other class becomes rare.
        unequal: standard deviation of the logarithm of a seed's own noise.
        failing: probability that a seed fails: it predicts class 0 and has learnt nothing.
    """

    own: float = 0.5
    together: float = 0.4
    rare: float = 0.0
    unequal: float = 0.0
    failing: float = 0.0


POPULATIONS = {
    "typical": Population(),
    "near-equal seeds": Population(own=0.04, together=0.02),
    "rare class": Population(rare=7.0),
    "unequal noise": Population(unequal=0.5),
    "15 % failed": Population(failing=0.15),
}


def draw_logits(
    rng: np.random.Generator,
    sets: int,
    seeds: int,
    population: Population,
    examples: int = EXAMPLES,
    test_set: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits [R, S, N, 2] float32 of seeds with shared margins, and labels [N]; `test_set` draws the examples."""
    fixed = np.random.default_rng(test_set)
    labels = fixed.choice(2, examples, p=[2 / 3, 1 / 3])
    shared = 1.5 * fixed.standard_normal((examples, 2)) + 1.8 * np.eye(2)[labels]
    shared[:, 0] += population.rare
    directions = fixed.standard_normal((3, examples, 2))
    own = rng.standard_normal((sets, seeds, examples, 2), np.float32)
    scale = np.exp(population.unequal * rng.standard_normal((sets, seeds, 1, 1)))
    weights = rng.standard_normal((sets, seeds, 3))
    logits = shared + scale * (population.own * own + population.together * np.tensordot(weights, directions, 1))
    failed = rng.random((sets, seeds, 1, 1)) < population.failing
    return np.where(failed, 0.3 * own + 3 * np.eye(2)[0], logits).astype(np.float32), labels.astype(np.int32)


def draw_representations(rng: np.random.Generator, sets: int, seeds: int, population: Population) -> np.ndarray:
    """[R, S, N, D] float32: a shared part, deviations in a few shared directions, and noise."""
    fixed, shape = np.random.default_rng(1), (REPRESENTED, FEATURES)
    scales = np.exp(-np.arange(FEATURES) / 10)
    common, directions = fixed.standard_normal(shape), fixed.standard_normal((3, *shape))
    noise = rng.standard_normal((sets, seeds, *shape), np.float32)
    weights = rng.standard_normal((sets, seeds, 3))
    scale = np.exp(population.unequal * rng.standard_normal((sets, seeds, 1, 1)))
    deviations = population.together * np.tensordot(weights, directions, 1) + 0.6 * population.own * noise
    failed = rng.random((sets, seeds, 1, 1)) < population.failing
    return (np.where(failed, noise, common + scale * deviations) * scales).astype(np.float32)
