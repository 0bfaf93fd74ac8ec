"""How often verdicts are wrong and intervals right, for simulated methods with known differences.

python benchmarks/verdicts.py --trials 1000
"""

import argparse

import numpy as np

from jaxstab.analysis.permutation import (
    make_exchange,
    mean_ratio_interval,
    mean_sizes,
    p_values,
    pseudo_values,
    spread_ratio_interval,
    spread_sizes,
)

RATIO = 1.5
FAILING = 0.15


def simulate(rng: np.random.Generator, kind: str, seeds: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the seeds, and each seed's contribution to the mean distance between random points."""
    scores = {
        "normal": rng.normal(size=seeds),
        "exponential": -rng.exponential(size=seeds),
        "15 % failed": np.where(rng.random(seeds) < FAILING, -8.0, rng.normal(size=seeds)),
    }[kind]
    points = scale * rng.normal(size=(seeds, 30)) * (1 + 0.5 * rng.gamma(2, 1, (seeds, 1)))
    distances = np.sqrt(((points[:, None] - points) ** 2).sum(-1))
    total = distances.sum()
    left_out = (total - 2 * distances.sum(1)) / ((seeds - 1) * (seeds - 2))
    return scale * scores, pseudo_values(total / (seeds * (seeds - 1)), left_out)


def one_setting(kind: str, seeds: int, paired: bool, trials: int) -> list[float]:
    """Rates of false verdicts and of verdicts at a true ratio of 1.5; coverage for ratios of SD and mean distance."""
    rng, exchange = np.random.default_rng(0), make_exchange(seeds, seeds, paired)
    counts = np.zeros(4)
    covered_trials = max(1, trials // 5)
    for trial in range(trials):
        first, equal, other = (simulate(rng, kind, seeds, scale) for scale in (1, 1, RATIO))
        for place, second in ((0, equal), (1, other)):
            sizes = [mean_sizes(exchange, one, two) for one, two in zip(first, second, strict=True)]
            adjusted = p_values(np.stack([*sizes, spread_sizes(exchange, first[0], second[0])], axis=1))[1]
            counts[place] += (adjusted <= 0.05).any()
        if trial < covered_trials:
            for place, interval in ((2, spread_ratio_interval), (3, mean_ratio_interval)):
                low, high = interval(exchange, first[place - 2], other[place - 2])
                counts[place] += low <= RATIO <= high
    return [*(counts[:2] / trials), *(counts[2:] / covered_trials)]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    print("| scores | seeds | | false verdicts | found | interval of SD | interval of distance |")
    print("|---|---|---|---|---|---|---|")
    for kind in ("normal", "exponential", "15 % failed"):
        for seeds in (8, 12, 20):
            for paired in (True, False):
                cells = " | ".join(f"{value:.3f}" for value in one_setting(kind, seeds, paired, trials))
                print(f"| {kind} | {seeds} | {'paired' if paired else 'unpaired'} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
