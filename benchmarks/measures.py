"""Measures of representations: jaxstab against a plain loop over pairs, in one run on the same machine.

    python benchmarks/measures.py --seeds 20 --layers 24 --examples 139 522 --features 1024

The loop calls a function of two matrices for each layer and pair of seeds, in numpy or PyTorch (float32). As in public
implementations, each call centres and decomposes its arguments again. It is timed on --loop-layers layers and
--loop-pairs pairs and extrapolated; PyTorch's is on the GPU if there is one. jaxstab measures everything. Agreement is
with the numpy loop in float64. Prints a table; --output writes JSON and draws pictures next to it.
`--nuclear-norms` compares ways to sum singular values instead. `--many 20 200 1000` measures outputs of so many seeds
instead, each in a process of its own: seconds and memory, with logits of two classes.

    python benchmarks/measures.py --many 20 200 1000 --layers 6 --examples 223 --features 384
"""

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from machine import draw_bars, has_torch, peak_bytes, write_result
from threadpoolctl import threadpool_limits
from train import alone

from jaxstab import measures
from jaxstab.analysis.sample import PAPER
from jaxstab.measures.spectral import polar_nuclear_norm

MEASURES = ("cka", "op", "svcca")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--examples", type=int, nargs="+", default=[139, 522])
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--loop-layers", type=int, default=1)
    parser.add_argument("--loop-pairs", type=int, default=None, help="time the loop on so many pairs of seeds only")
    parser.add_argument("--nuclear-norms", action="store_true")
    parser.add_argument("--many", type=int, nargs="+", default=None, help="numbers of seeds, each measured as a whole")
    parser.add_argument("--output", type=Path, default=None, help="JSON file")
    return parser.parse_args()


def draw_layer(seeds: int, examples: int, features: int, layer: int) -> np.ndarray:
    """[S, N, D] float32 like hidden states: a mean far from 0 and a steep spectrum, mostly shared by all seeds."""
    rng = np.random.default_rng(layer)
    scales = np.exp(-np.arange(features) / 100)
    shared, own = rng.standard_normal((examples, features)), rng.standard_normal((seeds, examples, features))
    return ((shared + 0.5 * own) * scales + 5 * rng.standard_normal(features)).astype(np.float32)


def cka_of_pair(xp: object, X: object, Y: object) -> object:
    n = len(X)
    K, L = X @ X.T, Y @ Y.T
    K, L = K - xp.diag(xp.diag(K)), L - xp.diag(xp.diag(L))

    def hsic(K: object, L: object) -> object:
        trace, sums = (K * L.T).sum(), K.sum() * L.sum() / ((n - 1) * (n - 2))
        return trace + sums - 2 / (n - 2) * (K.sum(0) * L.sum(1)).sum()

    return 1 - hsic(K, L) / (hsic(K, K) * hsic(L, L)) ** 0.5


def op_of_pair(xp: object, X: object, Y: object) -> object:
    # The singular values of the smaller of X^T Y and, after QR, an N x N matrix would be faster; few write it so.
    product = (X / (X**2).sum() ** 0.5).T @ (Y / (Y**2).sum() ** 0.5)
    return 1 - singular_values(xp, product).sum()


def svcca_of_pair(xp: object, X: object, Y: object) -> object:
    kept = []
    for Z in (X, Y):
        U, s, _ = xp.linalg.svd(Z, full_matrices=False)
        k = max(1, int((xp.cumsum(s, 0) / s.sum() <= 0.99).sum()))
        kept.append(U[:, :k])
    return 1 - singular_values(xp, kept[0].T @ kept[1]).mean()


def singular_values(xp: object, M: object) -> object:
    return np.linalg.svd(M, compute_uv=False) if xp is np else xp.linalg.svdvals(M)


PAIR_FUNCTIONS = {"cka": cka_of_pair, "op": op_of_pair, "svcca": svcca_of_pair}


def time_loop(
    xp: object, layer: object, pairs: list[tuple[int, int]]
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Seconds and values of each measure over the given pairs of one layer."""
    seconds, values = {}, {}
    for name, function in PAIR_FUNCTIONS.items():
        started = time.perf_counter()
        found = [float(function(xp, layer[i] - layer[i].mean(0), layer[j] - layer[j].mean(0))) for i, j in pairs]
        seconds[name], values[name] = time.perf_counter() - started, np.array(found)
    return seconds, values


def time_jaxstab(layers: list[np.ndarray]) -> tuple[float, float, list[dict[str, np.ndarray]]]:
    """Seconds for all layers, seconds for compilation, and distances."""
    started = time.perf_counter()
    measures.distances(layers[0], MEASURES)
    first = time.perf_counter() - started
    started = time.perf_counter()
    found = [measures.distances(one, MEASURES) for one in layers]
    seconds = time.perf_counter() - started
    return seconds, max(0.0, first - seconds / len(layers)), found


def time_many(seeds: int, layers: int, examples: int, features: int, names: tuple[str, ...] | None) -> dict[str, float]:
    """Seconds that measuring outputs of many seeds takes, compilation included, and the most memory it took."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=examples)
    margins = 1.5 * rng.standard_normal((examples, 2)) + 1.8 * np.eye(2)[labels]
    logits = (margins + 0.8 * rng.standard_normal((seeds, examples, 2))).astype(np.float32)
    drawn = np.empty((seeds, layers, examples, features), np.float32)
    for layer in range(layers):
        drawn[:, layer] = draw_layer(seeds, examples, features, layer)
    before, started = peak_bytes(), time.perf_counter()
    measures.all(logits=logits, labels=labels, representations=drawn, only=names)
    return {"seconds": time.perf_counter() - started, "peak": peak_bytes(), "inputs": before, "array": drawn.nbytes}


def time_calls(layer: np.ndarray, name: str) -> tuple[float, float | None]:
    """Seconds that one measure of a layer [S, N, D] takes, and of its longest call after the first, which compiles."""
    ends = [time.perf_counter()]
    measures.distances(layer, [name], progress=lambda share: ends.append(time.perf_counter()))
    return ends[-1] - ends[0], float(np.diff(ends)[1:].max()) if len(ends) > 3 else None


def compare_many(arguments: argparse.Namespace) -> list[dict]:
    print("| seeds | examples | the paper's seven, s | all by default, s | peak, GB | representations, GB |")
    print("|---|---|---|---|---|---|")
    results = []
    for examples, seeds in itertools.product(arguments.examples, arguments.many):
        shape = (seeds, arguments.layers, examples, arguments.features)
        paper, everything = (alone(time_many, *shape, names) for names in (PAPER, None))
        cells = [f"{one['seconds']:.1f}" for one in (paper, everything)]
        cells += [f"{everything[name] / 1e9:.2f}" for name in ("peak", "array")]
        print(f"| {seeds} | {examples} | {' | '.join(cells)} |", flush=True)
        results.append({"seeds": seeds, "examples": examples, "paper": paper, "all": everything})
    return results


def in_torch(layer: np.ndarray) -> tuple[object, object]:
    import torch

    return torch, torch.tensor(layer, device="cuda" if torch.cuda.is_available() else "cpu")


def compare(arguments: argparse.Namespace, examples: int) -> dict:
    seeds = arguments.seeds
    layers = [draw_layer(seeds, examples, arguments.features, layer) for layer in range(arguments.layers)]
    pairs = list(zip(*(index.tolist() for index in np.triu_indices(seeds, 1)), strict=True))
    timed = pairs[: arguments.loop_pairs]
    factor = arguments.layers / arguments.loop_layers * len(pairs) / len(timed)
    ours, compilation, found = time_jaxstab(layers)
    loops: dict[str, dict[str, float]] = {"numpy": {}}
    if has_torch():
        loops["torch"] = {}
    difference = dict.fromkeys(MEASURES, 0.0)
    for layer in range(arguments.loop_layers):
        exact = time_loop(np, layers[layer].astype(np.float64), timed)[1]
        for peer, times in loops.items():
            xp, array = (np, layers[layer]) if peer == "numpy" else in_torch(layers[layer])
            for name, seconds in time_loop(xp, array, timed)[0].items():
                times[name] = times.get(name, 0) + seconds * factor
        for name in MEASURES:
            values = np.array([found[layer][name][pair] for pair in timed])
            difference[name] = max(difference[name], float(np.abs(values - exact[name]).max()))
    return {
        "examples": examples,
        "jaxstab_seconds": ours,
        "compile_seconds": compilation,
        "loop_seconds": loops,
        "ratio": {peer: sum(times.values()) / (ours + compilation) for peer, times in loops.items()},
        "largest_difference": difference,
    }


def compare_nuclear_norms(arguments: argparse.Namespace, examples: int) -> dict:
    """Milliseconds and error of ways to sum singular values, on matrices like those of `op`, 16 at once."""
    layer = draw_layer(32, examples, arguments.features, 0).astype(np.float64)
    factors = []
    for X in layer:
        U, s, _ = np.linalg.svd(X - X.mean(0), full_matrices=False)
        factors.append(U * (s / np.linalg.norm(s)))
    M = np.stack([a.T @ b for a, b in zip(factors[::2], factors[1::2], strict=True)])
    exact = np.linalg.svd(M, compute_uv=False).sum(-1)
    ways: dict[str, Callable] = {
        "singular values": lambda M: jnp.linalg.svd(M, compute_uv=False).sum(-1),
        "eigenvalues of the Gram matrix": lambda M: jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(M @ M.mT), 0)).sum(-1),
        "polar factor by products": jax.vmap(polar_nuclear_norm),
    }
    found = {}
    for name, way in ways.items():
        run = jax.jit(way)
        with threadpool_limits(1, user_api="blas"):  # as in `measures.distances`
            values = np.asarray(run(jnp.asarray(M, jnp.float32)))
            started = time.perf_counter()
            jax.block_until_ready(run(jnp.asarray(M, jnp.float32)))
        milliseconds = 1e3 * (time.perf_counter() - started) / len(M)
        found[name] = {"milliseconds": milliseconds, "error": float(np.abs(values - exact).max())}
    return {"examples": examples, "size": M.shape[-1], "ways": found}


def main() -> None:
    arguments = parse_arguments()
    if arguments.many:
        write_result(arguments.output, vars(arguments), compare_many(arguments))
        return
    if not has_torch():
        print("no loop in PyTorch: it is not installed")
    results = []
    for examples in arguments.examples:
        if arguments.nuclear_norms:
            results.append(compare_nuclear_norms(arguments, examples))
            print(f"{examples} examples, matrices of size {results[-1]['size']}")
            for name, one in results[-1]["ways"].items():
                print(f"  {name:32}{one['milliseconds']:10.2f} ms{one['error']:12.1e}")
            continue
        results.append(compare(arguments, examples))
        one = results[-1]
        print(
            f"{arguments.seeds} seeds x {arguments.layers} layers x {examples} examples x {arguments.features} features"
        )
        for peer, times in one["loop_seconds"].items():
            each = ", ".join(f"{name} {seconds:.0f}" for name, seconds in times.items())
            print(f"  {peer + ' loop':14}{sum(times.values()):10.1f} s ({each}); ratio {one['ratio'][peer]:.1f}")
        print(f"  {'jaxstab':14}{one['jaxstab_seconds'] + one['compile_seconds']:10.1f} s", end=" ")
        print(f"({one['compile_seconds']:.1f} s of it compilation)")
        worst = ", ".join(f"{name} {value:.1e}" for name, value in one["largest_difference"].items())
        print(f"  largest difference from the loop in float64: {worst}", flush=True)
    write_result(arguments.output, vars(arguments), results)
    for one in [] if arguments.nuclear_norms else results:
        seconds = {f"{peer} loop": sum(times.values()) for peer, times in one["loop_seconds"].items()}
        seconds["jaxstab"] = one["jaxstab_seconds"] + one["compile_seconds"]
        path = arguments.output and arguments.output.with_stem(f"{arguments.output.stem}-{one['examples']}")
        draw_bars(path, f"{', '.join(MEASURES)} of {one['examples']} examples", seconds, "seconds, with compilation")


if __name__ == "__main__":
    main()
