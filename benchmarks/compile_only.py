"""What XLA makes of our programs for a GPU or a TPU, on a machine that has neither.

    python benchmarks/compile_only.py ../shared/data/cola --targets h100 v5e v6e --output results/compile-only.json
    python benchmarks/compile_only.py ../shared/data/rte --targets h100 --model base --seeds 20 --unroll

`h100` needs jax[cuda12] or jax[cuda13] of the installed version, the TPUs libtpu of the version that jax asks for (`pip
install "jax[tpu]"`), which one process at a time can load. Neither needs the device, nor weights: only shapes count.
Compiles training, evaluation, prediction and initialisation of a group of seeds as `jaxstab run` does on an
accelerator, and the kernels of the measures. Nothing is autotuned for a GPU this way; a real one compiles for longer.

A row for each program: seconds of compilation, bytes of arguments and temporaries, and how often an operation stands in
the compiled program, within fusions too. Prints tables; --output writes JSON.
"""

import argparse
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

# The programs are compiled by the host for a device that is not there.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from machine import text_columns, write_result
from random_bert import SIZES

from jaxstab.config import SeedTriple, hyperparameters, make_config
from jaxstab.data.tokens import EncodedTask
from jaxstab.experiment.inputs import load_inputs, recipe_for
from jaxstab.measures import represented_examples
from jaxstab.measures.programs import SETS, OnDevice, pair_distances, set_values
from jaxstab.measures.registry import MEASURES
from jaxstab.measures.representation import compiled_layer_distances
from jaxstab.models.families import make_classifier
from jaxstab.models.pretrained import Pretrained
from jaxstab.training import recipe as recipes
from jaxstab.training.devices import MATMUL_PRECISION
from jaxstab.training.lowering import Job, lower, shapes_on, share, start_of
from jaxstab.training.recipe import Recipe

TPUS = {"v5e": "v5e:2x2", "v6e": "v6e:2x2", "v5p": "v5p:2x2x1"}
# A description of an H100 SXM as XLA's CUDA plugin reads it (`GpuTargetConfigProto`).
H100 = """gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
COUNTED = {
    "fusions": ("fusion",),
    "library calls": ("custom-call",),
    "copies": ("copy", "copy-start"),
    "slice updates": ("dynamic-update-slice",),
    "loops": ("while",),
    "scatters": ("scatter",),
    "sorts": ("sort",),
}
OPERATION = re.compile(r"^\s*(?:ROOT )?%?\S+ = .*? ([a-z][a-z0-9-]*)\(", re.MULTILINE)
LIBRARY = re.compile(r'custom_call_target="([^"]+)"')


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", type=Path, help="directory with train.* and validation.*")
    parser.add_argument("--text", nargs="+", default=None, help="its text columns; known for GLUE's names")
    parser.add_argument("--targets", nargs="+", choices=["h100", *TPUS], default=["h100", "v5e", "v6e"])
    parser.add_argument("--model", default="bundled:minilm", help="as in a config, or base or large: shapes of BERT")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--precision", choices=list(MATMUL_PRECISION), default="bfloat16")
    parser.add_argument("--unroll", action="store_true", help="train without a loop over layers")
    parser.add_argument("--only", nargs="+", default=None, help="names of programs, or their beginnings")
    parser.add_argument("--output", type=Path, default=None, help="JSON file")
    return parser.parse_args()


def device(target: str) -> Any:
    """A device that programs can be compiled for, not run on."""
    if target == "h100":
        return topologies.get_topology_desc("h100", "cuda", target_config=H100, topology="1x1x1").devices[0]
    return topologies.get_topology_desc(platform="tpu", topology_name=TPUS[target]).devices[0]


def load_recipe(arguments: argparse.Namespace, kind: str) -> tuple[Recipe, EncodedTask, dict[str, float]]:
    """The recipe of a run on such a kind of device, the task, and hyper-parameters."""
    sizes = SIZES.get(arguments.model)
    config = make_config(
        {
            "model": {"source": "bundled:minilm" if sizes else arguments.model},
            "task": {"source": str(arguments.task), "text": text_columns(arguments.task, arguments.text)},
            "train": {"precision": arguments.precision},
        }
    )
    recipes.platform = lambda: kind  # what is compiled depends on it
    task, encoded, pretrained = load_inputs(config)
    if sizes:
        larger = replace(pretrained.config, **sizes)
        shapes = make_classifier(larger)[1]
        params = {name: shapes[name] for name in pretrained.params}
        pretrained = Pretrained(larger, params, pretrained.missing)
    recipe = recipe_for(config, task, encoded, pretrained)
    definition = recipes.define(pretrained, recipe.config, recipe.methods, unroll=arguments.unroll)
    grid = replace(recipe.grid, rows=recipe.grid.rows[-1:])
    return replace(recipe, definition=definition, grid=grid), encoded, hyperparameters(config)


def lower_training(recipe: Recipe, task: EncodedTask, hyper: dict[str, float], seeds: int, on: Any) -> dict[str, Any]:
    """The lowered programs of training a group of seeds."""
    here = jax.sharding.SingleDeviceSharding(on)
    shared, grids = share(recipe, task)
    one = start_of(recipe, task, grids, [Job(SeedTriple(0, 0, 0, 0), hyper)], 1)
    starts = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((seeds, *leaf.shape[1:]), leaf.dtype, sharding=here), one)
    return lower(recipe, shapes_on(here, shared), grids, starts).programs


def lower_measures(recipe: Recipe, task: EncodedTask, seeds: int, on: Any) -> dict[str, Any]:
    """The lowered kernels of the measures, of predictions and of one layer, for the test split of the task."""
    here = jax.sharding.SingleDeviceSharding(on)
    examples, width = len(task.test.labels), recipe.pretrained.config.hidden_size
    represented = len(represented_examples(examples))
    shape = partial(jax.ShapeDtypeStruct, sharding=here)
    arrays = OnDevice(
        shape((seeds, examples, recipe.classes), jnp.float32),
        shape((seeds, examples), jnp.int32),
        shape((examples,), jnp.int32),
        recipe.metric,
        recipe.classes,
    )
    of_predictions = {name: one.shape for name, one in MEASURES.items() if one.compute and one.of != "numbers"}
    pairs, sets = (tuple(name for name, its in of_predictions.items() if its == kind) for kind in ("pairs", "set"))
    layers = tuple(name for name, one in MEASURES.items() if one.default and one.granularity == "representation")
    layer = shape((seeds, represented, width), jnp.float32)
    return {
        "measures: pairs": pair_distances.lower(arrays, pairs),
        "measures: sets": set_values.lower(arrays, sets, shape((SETS, seeds), jnp.float32)),
        "measures: layers": compiled_layer_distances.lower(layer, layers),
    }


def compile_program(lowered: Any) -> dict[str, Any]:
    """Compiles a program; seconds, bytes and counts of operations."""
    started = time.perf_counter()
    compiled = lowered.compile()
    seconds, text, memory = time.perf_counter() - started, compiled.as_text(), compiled.memory_analysis()
    found = Counter(OPERATION.findall(text))
    return {
        "compile_seconds": seconds,
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "counts": {name: sum(found[one] for one in operations) for name, operations in COUNTED.items()},
        "libraries": dict(Counter(LIBRARY.findall(text))),
        "operations": dict(found.most_common()),
    }


def compile_all(arguments: argparse.Namespace, target: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every program for a target; an error of the compiler is a result too."""
    on = device(target)
    recipe, task, hyper = load_recipe(arguments, "gpu" if target == "h100" else "tpu")
    lowered = lower_training(recipe, task, hyper, arguments.seeds, on)
    lowered |= lower_measures(recipe, task, arguments.seeds, on)
    for name, program in lowered.items():
        if arguments.only and not any(name.startswith(one) for one in arguments.only):
            continue
        try:
            yield name, compile_program(program)
        except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
            yield name, {"error": str(error).strip().splitlines()[0]}


def print_row(name: str, one: dict[str, Any]) -> None:
    if "error" in one:
        print(f"{name:32}{one['error'][:120]}", flush=True)
        return
    seconds = f"{one['compile_seconds']:10.1f}"
    memory = f"{one['argument_bytes'] / 1e9:10.3f}{one['temporary_bytes'] / 1e9:10.3f}"
    print(f"{name:32}{seconds}{memory}" + "".join(f"{count:14}" for count in one["counts"].values()), flush=True)


def main() -> None:
    arguments = parse_arguments()
    results: dict[str, dict[str, Any]] = {}
    for target in arguments.targets:
        print(f"{target}: {arguments.model}, {arguments.task.name}, {arguments.seeds} seeds, {arguments.precision}")
        print(f"{'':32}{'compile s':>10}{'args GB':>10}{'temp GB':>10}" + "".join(f"{count:>14}" for count in COUNTED))
        results[target] = {}
        try:
            for name, one in compile_all(arguments, target):
                results[target][name] = one
                print_row(name, one)
                write_result(arguments.output, vars(arguments), results)  # some take minutes: keep those before
        except (RuntimeError, ValueError) as error:  # what JAX raises where the plugin of the target is missing
            print(f"  skipped: {str(error).strip().splitlines()[0]}", flush=True)


if __name__ == "__main__":
    main()
