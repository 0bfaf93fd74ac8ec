"""Seconds per seed and memory, measured and planned, for more seeds, larger groups and more simulated devices.

    python benchmarks/scaling.py ../shared/data/cola --output results/scaling-cpu.json

Every point is a separate process that calls `jaxstab.plan` and then runs. Seconds are training time, without loading,
compiling and measuring. Memory is the peak resident memory of the process minus its resident memory before compiling.
Prints a table; --output writes JSON and draws a picture next to it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from machine import draw_lines, text_columns, write_result


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", type=Path, help="directory with train.* and validation.*")
    parser.add_argument("--text", nargs="+", default=None, help="its text columns; known for GLUE's names")
    parser.add_argument("--model", default="bundled:minilm")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--examples", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--output", type=Path, default=None, help="JSON file")
    parser.add_argument("--point", type=json.loads, default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure_point(arguments: argparse.Namespace) -> dict[str, Any]:
    """One run in this process, with the `[seeds]` table in `arguments.point`."""
    import jaxstab
    from jaxstab.cli.display import Display
    from jaxstab.training.devices import peak_memory

    class Timer(Display):
        def compiled(self, *details: Any) -> None:
            super().compiled(*details)
            self.seconds = -time.perf_counter()

        @contextmanager
        def measuring(self, seeds: int, shape: Any) -> Iterator[None]:
            self.seconds += time.perf_counter()
            yield

    with tempfile.TemporaryDirectory() as directory:
        settings = {
            "model": {"source": arguments.model},
            "task": {
                "source": str(arguments.task),
                "text": text_columns(arguments.task, arguments.text),
                "train_examples": arguments.examples,
            },
            "seeds": arguments.point,
            "train": {"epochs": arguments.epochs, "learning_rate": 5e-5},
            "output": {"dir": f"{directory}/run"},
        }
        import jax

        from jaxstab.config import make_config
        from jaxstab.experiment.inputs import load_inputs

        load_inputs(make_config(settings))
        before = peak_memory(jax.devices())
        plan, estimate = jaxstab.plan(settings)
        timer = Timer(quiet=True)
        info = jaxstab.run(settings, display=timer).info
    count, memory = len(info.seeds), info.memory
    return {
        **arguments.point,
        "devices": info.devices,
        "group_size": info.group_size,
        "seconds_per_seed": timer.seconds / count,
        "predicted_seconds_per_seed": estimate.training / count,
        "compile_seconds": estimate.compilation,
        "bytes": memory.peak_bytes - before,
        "predicted_bytes": plan.needed_bytes * info.devices,
    }


def in_process(arguments: argparse.Namespace, seeds: dict[str, int], devices: int, cache: str) -> dict[str, Any]:
    command = [sys.executable, __file__, str(arguments.task), "--model", arguments.model, "--point", json.dumps(seeds)]
    command += ["--examples", str(arguments.examples), "--epochs", str(arguments.epochs)]
    command += ["--text", *arguments.text] if arguments.text else []
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_COMPILATION_CACHE_DIR": cache}
    done = subprocess.run(command, env=os.environ | flags, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    arguments = parse_arguments()
    if arguments.point is not None:
        print(json.dumps(measure_point(arguments)))
        return
    counts, most = arguments.counts, max(arguments.counts)
    sweeps = {
        "seeds": [({"count": n}, 1) for n in counts],
        "seeds at once": [({"count": most, "group_size": n}, 1) for n in counts],
        "simulated devices": [({"count": most, "group_size": 1}, n) for n in counts],
    }
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as cache:
        for sweep, points in sweeps.items():
            print(f"{sweep:20}{'s per seed':>12}{'predicted':>12}{'compile s':>12}{'memory GB':>12}{'predicted':>12}")
            found[sweep] = []
            for number, (seeds, devices) in zip(counts, points, strict=True):
                one = in_process(arguments, seeds, devices, f"{cache}/{sweep}/{number}")
                found[sweep].append(one)
                print(
                    f"{number:20}{one['seconds_per_seed']:12.2f}{one['predicted_seconds_per_seed']:12.2f}"
                    f"{one['compile_seconds']:12.1f}{one['bytes'] / 1e9:12.2f}{one['predicted_bytes'] / 1e9:12.2f}",
                    flush=True,
                )
    write_result(arguments.output, {k: v for k, v in vars(arguments).items() if k != "point"}, found)
    for sweep, points in found.items():
        panels = {
            "seconds per seed": {
                "measured": [one["seconds_per_seed"] for one in points],
                "predicted": [one["predicted_seconds_per_seed"] for one in points],
            },
            "memory, GB": {
                "measured": [one["bytes"] / 1e9 for one in points],
                "predicted": [one["predicted_bytes"] / 1e9 for one in points],
            },
        }
        path = arguments.output and arguments.output.with_stem(f"{arguments.output.stem}-{sweep.replace(' ', '-')}")
        draw_lines(path, f"{arguments.task.name}: more {sweep}", counts, panels, sweep)


if __name__ == "__main__":
    main()
