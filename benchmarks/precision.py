"""What the precision of training does to every measure of instability, beside what rounding alone does.

    python benchmarks/precision.py ../shared/data/sst2 --text sentence --examples 500 --precisions bfloat16

Trains the same seeds in float32, again in float32 from parameters that are moved by one unit in their last place
(`[seeds] rounding`), and in each other precision. Rounding is the yardstick for what cannot be avoided; the standard
error of a measure, which comes from its seeds, is the one for what can be seen.

Prints for each measure its value in each way, and the difference from float32 in standard errors (from the 95 %
interval); then how often the same seed predicts otherwise than in float32.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import write_result


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="directory with train.* and validation.*, or bundled:bbc-news")
    parser.add_argument("--text", nargs="+", help="columns; those of bundled:bbc-news are known")
    parser.add_argument("--model", default="bundled:minilm")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--precisions", nargs="+", default=["tensorfloat32", "bfloat16"])
    parser.add_argument("--output", type=Path, default=None, help="JSON file")
    return parser.parse_args(given)


def train(arguments: argparse.Namespace, precision: str, seeds: dict[str, Any], directory: str) -> dict[str, Any]:
    """Logits, labels and representations of one run."""
    import jaxstab

    task = {"source": arguments.task, "max_length": arguments.max_length, "train_examples": arguments.examples}
    settings = {
        "model": {"source": arguments.model},
        "task": task | ({"text": arguments.text} if arguments.text else {}),
        "seeds": {"count": arguments.seeds, **seeds},
        "train": {
            "epochs": arguments.epochs,
            "learning_rate": arguments.learning_rate,
            "precision": precision,
        },
        "output": {"dir": f"{directory}/{precision}", "keep_representations": True},
    }
    run = jaxstab.run(settings)
    return {"logits": run.logits, "labels": run.labels, "representations": np.asarray(run.representations)}


def part(arrays: dict[str, Any], places: slice) -> dict[str, Any]:
    return {name: array if name == "labels" else array[places] for name, array in arrays.items()}


def standard_error(row: dict[str, Any]) -> float | None:
    return None if row["interval"] is None else (row["interval"][1] - row["interval"][0]) / (2 * 1.96)


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains and measures in every way; by measure, and what each seed alone does otherwise."""
    from jaxstab import measures

    with tempfile.TemporaryDirectory() as directory:
        twice = train(arguments, "float32", {"repeats": 2, "rounding": True}, directory)
        ways = {"float32": part(twice, slice(0, None, 2)), "rounding": part(twice, slice(1, None, 2))}
        for precision in arguments.precisions:
            ways[precision] = train(arguments, precision, {}, directory)
    found = {name: measures.all(**arrays) for name, arrays in ways.items()}
    print(f"{arguments.task}, {arguments.seeds} seeds, {arguments.examples} examples, {arguments.epochs} epochs")
    print(f"{'':24}" + "".join(f"{name:>15}" for name in ways) + "   difference in standard errors")
    table: dict[str, Any] = {}
    for name, row in found["float32"].measures.items():
        values = {way: one[name]["value"] for way, one in found.items()}
        error = standard_error(row)
        away = {w: (v - values["float32"]) / error if error else None for w, v in values.items() if w != "float32"}
        table[name] = {"values": values, "standard_error": error, "away": away}
        shown = "".join(f"{value:15.4f}" for value in values.values())
        print(f"{name:24}{shown}   " + ", ".join(f"{w} {a:+.2f}" for w, a in away.items() if a is not None))
    votes = {name: arrays["logits"].argmax(-1) for name, arrays in ways.items()}
    scores = {name: (vote == ways["float32"]["labels"]).mean(1) for name, vote in votes.items()}
    same = {name: float((vote != votes["float32"]).mean()) for name, vote in votes.items()}
    print(f"{'mean accuracy':24}" + "".join(f"{one.mean():15.4f}" for one in scores.values()))
    print(f"{'same seed, other vote':24}" + "".join(f"{one:15.4f}" for one in same.values()))
    return {"measures": table, "mean_accuracy": {n: float(s.mean()) for n, s in scores.items()}, "other_vote": same}


def main() -> None:
    arguments = parse_arguments()
    write_result(arguments.output, vars(arguments), compare(arguments))


if __name__ == "__main__":
    main()
