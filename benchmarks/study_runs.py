"""Trains the runs of docs/study.md, and keeps of each what its figures need.

    python benchmarks/study_runs.py sst2 --data ../shared/data/sst2

Trains 200 seeds of each method on a task (configs/study/TASK.toml), and the runs by which sources of randomness are
told apart; --only names some of them, or `thousand`: 1,000 seeds of `standard`, for a GPU. Finished runs are not
trained again, interrupted ones continue. Arguments that are not named here are the config's, such as --seeds.count 8
for a trial.

Of each run, benchmarks/results/study keeps two files. TASK-RUN.npz: logits [S, N, C] (float16, less those of the first
class, so that softmax is the same), labels and seeds, which jaxstab takes as anyone's saved outputs; and the
distances of all pairs in the last layer. TASK-RUN.json: results that need the whole run.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_machine

import jaxstab
from jaxstab import measures
from jaxstab.cli.display import Display
from jaxstab.runs.files import write_json

KEPT = Path(__file__).parent / "results" / "study"
CONFIGS = Path(__file__).parents[1] / "configs" / "study"
STANDARD, THOUSAND = "standard", "thousand"
METHODS = {
    STANDARD: [],
    "mixout": ["--mitigation.method", "mixout"],
    "llrd": ["--mitigation.method", "llrd"],
    "reinit": ["--mitigation.method", "reinit", "--mitigation.reinit.layers", "1"],
    "lora": ["--mitigation.method", "lora"],
}
LORA_RATES = {"bbc": 5e-3, "sst2": 5e-3}  # the others, which take more steps: 2e-3
SOURCES = {
    "crossed": [
        *("--seeds.crossed", "true"),
        *(word for name in ("init", "order", "dropout") for word in (f"--seeds.{name}", "[0, 1, 2, 3, 4, 5]")),
    ],
    "rounding": ["--seeds.count", "50", "--seeds.repeats", "2", "--seeds.rounding", "true"],
}
EXAMPLES = 150  # of the test split, for the distances of all pairs that need singular values
EVERY_RUN = {**METHODS, **SOURCES, THOUSAND: ["--seeds.count", "1000"]}


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(path.stem for path in CONFIGS.glob("*.toml")))
    parser.add_argument("--data", help="local copy of the task instead of the hub's")
    parser.add_argument("--runs", type=Path, default=Path("runs/study"), help="directory of the runs")
    parser.add_argument("--only", nargs="+", choices=EVERY_RUN, default=[*METHODS, *SOURCES])
    parser.add_argument("--kept", type=Path, default=KEPT, help="directory of what is kept")
    arguments, arguments.overrides = parser.parse_known_args(given)
    return arguments


def train(arguments: argparse.Namespace, name: str) -> jaxstab.Run:
    """Trains one run, or the rest of it, or reads it if it is finished."""
    overrides = ["--output.dir", str(arguments.runs / arguments.task / name), "--name", f"{arguments.task}-{name}"]
    overrides += ["--task.source", arguments.data] if arguments.data else []
    rate = ["--train.learning_rate", str(LORA_RATES.get(arguments.task, 2e-3))] if name == "lora" else []
    overrides += [*EVERY_RUN[name], *rate, *arguments.overrides]
    return jaxstab.run(jaxstab.load_config(CONFIGS / f"{arguments.task}.toml", overrides), display=Display())


def last_layer(run: jaxstab.Run) -> dict[str, np.ndarray]:
    """Distances [S, S] of the last layer, of all pairs of seeds.

    A run of many seeds measures a part of the pairs only of what needs singular values. All of them would take ten
    minutes for `op`, so it is on a part of the test examples here. Of so few, `svcca` says nothing.
    """
    distances = {name: run.distances[name][-1] for name in ("cka", "op")}
    if not np.isfinite(distances["op"]).all():
        if run.representations is None:
            raise jaxstab.InputError(f"{run.path}: train with --output.keep_representations true")
        part = measures.represented_examples(run.representations.shape[2], EXAMPLES)
        distances |= measures.distances(np.array(run.representations[:, -1][:, part], np.float32), ["op"], None)
    return distances


def keep(run: jaxstab.Run, path: Path) -> None:
    """Writes PATH.npz and PATH.json."""
    upper = np.triu_indices(len(run.seeds), 1)
    arrays = {
        "logits": (run.logits - run.logits[..., :1]).astype(np.float16),
        "labels": run.labels.astype(np.int8),
        "seeds": run.seeds.astype(np.int16),
        **{name: one[upper].astype(np.float16) for name, one in last_layer(run).items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]  # a stub without **kwargs of arrays
    results: dict[str, Any] = {
        "metric": run.info.metric,
        "train_examples": run.config.task.train_examples,
        "failures": list(run.info.failures),
        "wall_seconds": run.info.wall_seconds,
        "measured": run.measures,
        "validity": jaxstab.validity(run).as_json(),
        "machine": describe_machine(),
    }
    if run.config.seeds.crossed or run.config.seeds.repeats > 1:
        results["seeds"] = jaxstab.study_seeds(run).as_json()
    write_json(path.with_suffix(".json"), results)


def main() -> None:
    arguments = parse_arguments()
    for name in arguments.only:
        try:
            run = train(arguments, name)
            keep(run, arguments.kept / f"{arguments.task}-{name}")
        except jaxstab.InputError as error:
            raise SystemExit(str(error)) from None
        print(run, flush=True)


if __name__ == "__main__":
    main()
