"""The same fine-tuning by jaxstab and its peers in one run on the same machine, compared with the hardware floor.

    python benchmarks/train.py ../shared/data/cola --seeds 8 --epochs 3 --examples 320 --output results/cola-cpu.json

Model, examples, batch size, epochs and recipe are the same. All validate every epoch, copy the best weights and predict
the test split with the best and last weights. The peers in `torch_peers.py` are what a user would write. All seeds cost
them the same, so only --peer-seeds seeds are timed. jaxstab starts with an empty cache of compiled programs. Each is
timed in a process of its own, which has the device to itself.
Prints a table; --output writes JSON and draws a picture next to it. Without PyTorch there are no peers, without
matplotlib there is no picture.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from machine import bandwidth, draw_bars, has_torch, matrix_rate, text_columns, write_result

PEERS = {
    "loop": "PyTorch loop",
    "bf16": "PyTorch loop, bf16 autocast",
    "compile": "PyTorch loop, torch.compile",
    "graphs": "torch.compile, CUDA graphs, bf16",
    "processes": "PyTorch, a process for each core",
    "vmap": "torch.func.vmap",
    "one-by-one": "jaxstab, one seed at a time",
}
# On a GPU a process for each core, vmap and torch.compile with dynamic shapes take minutes and gain nothing.
ON_CPU = ("loop", "bf16", "compile", "processes", "vmap", "one-by-one")
ON_GPU = ("loop", "bf16", "graphs")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", type=Path, help="directory with train.* and validation.*")
    parser.add_argument("--text", nargs="+", default=None, help="its text columns; known for GLUE's names")
    parser.add_argument("--model", default="bundled:minilm")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--group-size", type=int, default=None, help="seeds at once; jaxstab chooses by default")
    parser.add_argument("--peer-seeds", type=int, default=2)
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=None, help="by default those for the device")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--examples", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--precision", choices=["float32", "tensorfloat32", "bfloat16"], default="float32")
    parser.add_argument("--output", type=Path, default=None, help="JSON file")
    arguments = parser.parse_args()
    if not has_torch():
        print("no peers: PyTorch is not installed")
        given = PEERS if arguments.peers is None else arguments.peers
        arguments.peers = [peer for peer in given if peer == "one-by-one"]
    if arguments.peers is None:
        import torch

        arguments.peers = list(ON_GPU if torch.cuda.is_available() else ON_CPU)
    return arguments


def make_settings(arguments: argparse.Namespace, directory: str) -> dict:
    return {
        "model": {"source": arguments.model},
        "task": {
            "source": str(arguments.task),
            "text": text_columns(arguments.task, arguments.text),
            "train_examples": arguments.examples,
        },
        "seeds": {"count": arguments.seeds, "group_size": arguments.group_size},
        "train": {
            "epochs": arguments.epochs,
            "batch_size": arguments.batch_size,
            "learning_rate": arguments.learning_rate,
            "precision": arguments.precision,
        },
        "output": {"dir": f"{directory}/run"},
    }


def alone(call: Callable, *arguments: Any) -> Any:
    """The result of a call in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def time_jaxstab(settings: dict) -> dict:
    import jax

    import jaxstab

    jax.devices()  # starting a device is not counted, neither here nor for the peers
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


def time_plan(settings: dict) -> dict[str, float]:
    """What `jaxstab plan` finds: seeds at once and memory, and seconds of a step for each seed, without evaluation."""
    import jax

    import jaxstab

    plan, estimate = jaxstab.plan(settings)
    at_once = min(settings["seeds"]["count"], plan.group_size * len(jax.local_devices()))
    return {
        "group_size": plan.group_size,
        "fitting": (plan.limit_bytes - plan.fixed_bytes) // plan.seed_bytes,
        "gigabytes": plan.needed_bytes / 1e9,
        "compilation": estimate.compilation,
        "step": estimate.step / at_once,
    }


def time_step(settings: dict) -> float:
    """Seconds of a step for each seed; programs come from the cache."""
    return time_plan(settings)["step"]


def find_floor(settings: dict) -> dict:
    """The least possible seconds per seed, from operations on real tokens and bytes of parameters and moments."""
    from jaxstab.config import make_config
    from jaxstab.experiment.inputs import load_inputs

    config = make_config(settings)
    precision = config.train.precision
    _, encoded, pretrained = load_inputs(config)
    rates = {name: matrix_rate(name) for name in dict.fromkeys(("float32", "bfloat16", precision))}
    sizes, rate, speed = pretrained.config, rates[precision], bandwidth()
    width, inner = sizes.hidden_size, sizes.intermediate_size
    encoder = sizes.num_hidden_layers * (4 * width**2 + 2 * width * inner)
    embeddings = pretrained.params["embeddings"]["word"]["embedding"].size

    def forward(lengths: np.ndarray) -> float:
        attention = 4 * sizes.num_hidden_layers * width * np.sum(np.square(lengths, dtype=np.float64))
        return 2 * encoder * lengths.sum() + attention

    train, validation, test = (np.asarray(s.lengths) for s in (encoded.train, encoded.validation, encoded.test))
    epochs = config.train.epochs
    steps = epochs * -(-len(train) // config.train.batch_size)
    training = epochs * 3 * forward(train) / rate
    evaluation = (epochs * forward(validation) + 2 * forward(test)) / rate
    optimiser = steps * 42 * (encoder + embeddings) / speed
    return {
        "seconds": training + evaluation + optimiser,
        "of_products": training + evaluation,
        "of_optimiser": optimiser,
        "step_seconds": (training + optimiser) / steps,
        "steps": steps,
        "precision": precision,
        "flops_per_second": rates,
        "bytes_per_second": speed,
        "training_tokens": int(epochs * train.sum()),
    }


def time_peer(peer: str, settings: dict, seeds: int) -> dict:
    import torch
    import torch_peers

    torch.zeros(1, device=torch_peers.DEVICE)
    low = settings["train"]["precision"] == "bfloat16"
    if peer == "loop":
        return torch_peers.sequential(settings, seeds, autocast=low)
    if peer == "bf16":
        return torch_peers.sequential(settings, seeds, autocast=True)
    if peer == "processes":
        return torch_peers.by_process(settings, len(os.sched_getaffinity(0)))
    if peer == "vmap":
        return torch_peers.stacked(settings, max(2, seeds))
    return {"compile": torch_peers.compiled, "graphs": torch_peers.graphs}[peer](settings, seeds)


def time_one_by_one(settings: dict, directory: str, shared_compilation: float) -> dict:
    apart = {"seeds": {"count": 2, "group_size": 1}, "output": {"dir": f"{directory}/alone"}}
    one = alone(time_jaxstab, {**settings, **apart})
    # The programs are already compiled and, on a CPU, the same as in the run above: use that run's share.
    one["seconds_per_seed"] = one["seconds_per_seed_without_compilation"] + shared_compilation
    return one | {"step_seconds": alone(time_step, {**settings, **apart})}


def time_all(arguments: argparse.Namespace, settings: dict, directory: str) -> dict[str, dict]:
    """Times jaxstab and the peers; a peer that fails is said to have failed and left out."""
    found = {}
    for peer in arguments.peers:
        if peer == "one-by-one":
            continue
        try:
            found[PEERS[peer]] = alone(time_peer, peer, settings, arguments.peer_seeds)
        except Exception as error:
            print(f"  {PEERS[peer]}: failed: {type(error).__name__}: {str(error).splitlines()[:1]}", flush=True)
            continue
        print(f"  {PEERS[peer]}: {found[PEERS[peer]]['seconds_per_seed']:.2f} s per seed", flush=True)
    found["jaxstab"] = alone(time_jaxstab, settings) | {"step_seconds": alone(time_step, settings)}
    if "one-by-one" in arguments.peers:
        shared = found["jaxstab"]["compile_seconds"] / arguments.seeds
        found[PEERS["one-by-one"]] = time_one_by_one(settings, directory, shared)
    return found


def add_ratios(found: dict[str, dict], floor: dict) -> None:
    """Adds what is computed from the seconds of jaxstab and of the floor."""
    ours = found["jaxstab"]
    for one in found.values():
        total, without = one["seconds_per_seed"], one["seconds_per_seed_without_compilation"]
        one["ratio"] = total / ours["seconds_per_seed"]
        one["step_ratio"] = one["step_seconds"] / ours["step_seconds"]
        one["step_seconds_with_compilation"] = one["step_seconds"] + (total - without) / floor["steps"]
        one["tokens_per_second"] = floor["training_tokens"] / without
        one["share_of_floor"] = floor["seconds"] / without
        one["step_share_of_floor"] = floor["step_seconds"] / one["step_seconds"]


def print_table(found: dict[str, dict], floor: dict) -> None:
    print(f"{'':34}{'whole run, per seed':>47}   {'a step of training, per seed':>52}")
    columns = (
        "s",
        "without comp.",
        "ratio",
        "of floor",
        "ms",
        "with comp.",
        "ratio",
        "of floor",
        "tokens/s",
        "accuracy",
    )
    widths = (10, 15, 10, 12, 13, 12, 10, 12, 12, 12)
    print(f"{'':34}" + "".join(f"{name:>{width}}" for name, width in zip(columns, widths, strict=True)))
    for name, one in found.items():
        print(
            f"{name:34}{one['seconds_per_seed']:10.2f}{one['seconds_per_seed_without_compilation']:15.2f}"
            f"{one['ratio']:10.2f}{one['share_of_floor']:12.0%}{1e3 * one['step_seconds']:13.2f}"
            f"{1e3 * one['step_seconds_with_compilation']:12.2f}{one['step_ratio']:10.2f}"
            f"{one['step_share_of_floor']:12.0%}{one['tokens_per_second']:12.0f}{one['mean_score']:12.3f}"
        )
    print(f"{'floor':34}{floor['seconds']:10.2f}{1e3 * floor['step_seconds']:50.2f}")
    rates = ", ".join(f"{rate / 1e12:.3g} TFLOP/s in {name}" for name, rate in floor["flops_per_second"].items())
    print(f"floor: in {floor['precision']}; {rates}; {floor['bytes_per_second'] / 1e9:.0f} GB/s")
    print("ratio: of the peer's time to jaxstab's, compilation counted for a whole run; tokens: real ones, of training")


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as directory:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{directory}/compiled"
        settings = make_settings(arguments, directory)
        floor = alone(find_floor, settings)
        found = time_all(arguments, settings, directory)
    add_ratios(found, floor)
    print(f"{arguments.task.name}, {arguments.examples} examples, {arguments.epochs} epochs, {arguments.precision}")
    print_table(found, floor)
    write_result(arguments.output, vars(arguments), {"floor": floor, "seconds": found})
    title = f"{arguments.task.name}, {arguments.seeds} seeds, {arguments.epochs} epochs"
    seconds = {name: one["seconds_per_seed"] for name, one in found.items()}
    draw_bars(arguments.output, title, {**seconds, "floor": floor["seconds"]}, "seconds per seed, with compilation")


if __name__ == "__main__":
    main()
