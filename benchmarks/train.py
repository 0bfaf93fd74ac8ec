"""The same fine-tuning by jaxstab and its peers in one run on the same machine, compared with the hardware floor.

    python benchmarks/train.py ../shared/data/cola --seeds 8 --epochs 3 --examples 320 --output results/cola-cpu.json

Model, examples, batch size, epochs and recipe are the same. All validate every epoch, copy the best weights and predict
the test split with the best and last weights. The peers in `torch_peers.py` are what a user would write. All seeds cost
them the same, so only --peer-seeds seeds are timed. jaxstab starts with an empty cache of compiled programs.
Prints a table; --output writes JSON and draws a picture next to it.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from machine import bandwidth, draw_bars, matrix_rate, write_result

TEXT = {"rte": ["sentence1", "sentence2"]}
LOOP = "PyTorch loop"
PEERS = ("loop", "bf16", "compile", "processes", "vmap", "one-by-one")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", type=Path, help="directory with train.* and validation.*, named like its GLUE task")
    parser.add_argument("--model", default="bundled:minilm")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--peer-seeds", type=int, default=2)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--examples", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--precision", choices=["float32", "tensorfloat32", "bfloat16"], default="float32")
    parser.add_argument("--output", type=Path, default=None, help="JSON file")
    return parser.parse_args()


def make_settings(arguments: argparse.Namespace, directory: str) -> dict:
    return {
        "model": {"source": arguments.model},
        "task": {
            "source": str(arguments.task),
            "text": TEXT.get(arguments.task.name, ["sentence"]),
            "train_examples": arguments.examples,
        },
        "seeds": {"count": arguments.seeds},
        "train": {
            "epochs": arguments.epochs,
            "batch_size": arguments.batch_size,
            "learning_rate": arguments.learning_rate,
            "precision": arguments.precision,
        },
        "output": {"dir": f"{directory}/run"},
    }


def time_jaxstab(settings: dict) -> dict:
    import jaxstab

    run = jaxstab.run(settings)
    seeds = len(run.seeds)
    seconds, compilation = run.info.wall_seconds - run.info.measure_seconds, run.info.compile_seconds
    return {
        "seconds_per_seed": seconds / seeds,
        "seconds_per_seed_without_compilation": (seconds - compilation) / seeds,
        "compile_seconds": compilation,
        "measure_seconds": run.info.measure_seconds,
        "seeds": seeds,
        "mean_score": float((run.logits.argmax(-1) == run.labels).mean()),
        "group_size": run.info.group_size,
        "memory": run.info.to_json()["memory"],
    }


def find_floor(settings: dict) -> dict:
    """The least possible seconds per seed, from operations on real tokens and bytes of parameters and moments."""
    from jaxstab.config import make_config
    from jaxstab.experiment.inputs import load_inputs

    config = make_config(settings)
    _, encoded, pretrained = load_inputs(config)
    sizes, rates, speed = pretrained.config, matrix_rate(), bandwidth()
    width, inner = sizes.hidden_size, sizes.intermediate_size
    encoder = sizes.num_hidden_layers * (4 * width**2 + 2 * width * inner)
    embeddings = pretrained.params["embeddings"]["word"]["embedding"].size

    def forward(lengths: np.ndarray) -> float:
        attention = 4 * sizes.num_hidden_layers * width * np.sum(np.square(lengths, dtype=np.float64))
        return 2 * encoder * lengths.sum() + attention

    train, validation, test = (np.asarray(s.lengths) for s in (encoded.train, encoded.validation, encoded.test))
    epochs, rate = config.train.epochs, rates["bfloat16" if config.train.precision == "bfloat16" else "float32"]
    steps = epochs * -(-len(train) // config.train.batch_size)
    products = epochs * (3 * forward(train) + forward(validation)) + 2 * forward(test)
    optimiser = steps * 42 * (encoder + embeddings)
    return {
        "seconds": products / rate + optimiser / speed,
        "of_products": products / rate,
        "of_optimiser": optimiser / speed,
        "flops_per_second": rates,
        "bytes_per_second": speed,
        "training_tokens": int(epochs * train.sum()),
    }


def time_peers(arguments: argparse.Namespace, settings: dict) -> dict[str, dict]:
    import torch_peers

    seeds, cores = arguments.peer_seeds, len(os.sched_getaffinity(0))
    low = arguments.precision == "bfloat16"
    ways = {
        "loop": (LOOP, lambda: torch_peers.sequential(settings, seeds, autocast=low)),
        "bf16": ("PyTorch loop, bf16 autocast", lambda: torch_peers.sequential(settings, seeds, autocast=True)),
        "compile": ("PyTorch loop, torch.compile", lambda: torch_peers.compiled(settings, seeds)),
        "processes": (f"PyTorch, {cores} processes at once", lambda: torch_peers.by_process(settings, cores)),
        "vmap": ("torch.func.vmap", lambda: torch_peers.stacked(settings, max(2, seeds))),
    }
    found = {}
    for peer, (name, way) in ways.items():
        if peer in arguments.peers:
            found[name] = way()
            print(f"  {name}: {found[name]['seconds_per_seed']:.2f} s per seed", flush=True)
    return found


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as directory:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{directory}/compiled"
        settings = make_settings(arguments, directory)
        floor = find_floor(settings)
        found = time_peers(arguments, settings)
        found["jaxstab"] = time_jaxstab(settings)
        if "one-by-one" in arguments.peers:
            alone = {"seeds": {"count": 2, "group_size": 1}, "output": {"dir": f"{directory}/alone"}}
            one = time_jaxstab({**settings, **alone})
            # The programs are already compiled and, on a CPU, the same as in the run above: use that run's share.
            shared = found["jaxstab"]["compile_seconds"] / arguments.seeds
            one["seconds_per_seed"] = one["seconds_per_seed_without_compilation"] + shared
            found["jaxstab, one seed at a time"] = one
    print(f"{arguments.task.name}, {arguments.examples} examples, {arguments.epochs} epochs, {arguments.precision}")
    header = ("s per seed", "without comp.", "ratio", "tokens/s", "of the floor", "accuracy")
    print(f"{'':34}" + "".join(f"{name:>15}" for name in header))
    ours = found["jaxstab"]["seconds_per_seed"]
    for name, one in found.items():
        without = one["seconds_per_seed_without_compilation"]
        one["ratio"] = one["seconds_per_seed"] / ours
        one["tokens_per_second"] = floor["training_tokens"] / without
        one["share_of_floor"] = floor["seconds"] / without
        print(
            f"{name:34}{one['seconds_per_seed']:15.2f}{without:15.2f}{one['ratio']:15.2f}"
            f"{one['tokens_per_second']:15.0f}{one['share_of_floor']:15.0%}{one['mean_score']:15.3f}"
        )
    rates = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in floor["flops_per_second"].items())
    print(f"floor {floor['seconds']:.2f} s per seed ({rates}; {floor['bytes_per_second'] / 1e9:.0f} GB/s)")
    print("ratio: seconds of the peer per second of jaxstab, compilation counted; tokens: real ones, of training")
    write_result(arguments.output, vars(arguments), {"floor": floor, "seconds": found})
    title = f"{arguments.task.name}, {arguments.seeds} seeds, {arguments.epochs} epochs"
    seconds = {name: one["seconds_per_seed"] for name, one in found.items()}
    draw_bars(arguments.output, title, {**seconds, "floor": floor["seconds"]}, "seconds per seed, with compilation")


if __name__ == "__main__":
    main()
