"""The phases of `gpu.sh`: figures that only a GPU can tell, each printed as soon as it is known.

    python benchmarks/gpu.py step-base ../shared/data --out gpu-results
    python benchmarks/gpu.py table ../shared/data --out gpu-results

Every figure is also a line of OUT/rows.jsonl, from which `table` prints all of them beside their targets. BERT-base and
BERT-large are random weights of the right shape with MiniLM's tokenizer: times do not depend on the values.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from random_bert import make_model

QUICKSTART = {
    "model": {"source": "bundled:minilm"},
    "task": {"source": "bundled:bbc-news", "max_length": 32, "train_examples": 256},
    "train": {"epochs": 3, "learning_rate": 1e-4},
}


class Workload(NamedTuple):
    """What is trained, and the targets: times the peers' time for a step, share of the floor, seconds to compile."""

    model: str
    task: str
    seeds: int
    graphs: float
    loop: float
    floor: float | None
    compilation: float | None


WORKLOADS = {
    "minilm": Workload("minilm", "cola", 32, graphs=15, loop=30, floor=None, compilation=12),
    "base": Workload("base", "rte", 20, graphs=2.5, loop=10, floor=0.6, compilation=25),
    "large": Workload("large", "rte", 12, graphs=2, loop=6, floor=None, compilation=None),
}


class Measuring(NamedTuple):
    """One call of this program."""

    data: Path
    out: Path
    quick: bool

    def row(self, what: str, value: float | str, unit: str = "", target: str = "") -> None:
        """Prints a figure and keeps it for the table."""
        value = f"{value:.4g}" if isinstance(value, float) else str(value)
        row = {"what": what, "value": value, "unit": unit, "target": "" if self.quick else target}
        print(format_row(row), flush=True)
        with (self.out / "rows.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def model(self, name: str) -> str:
        """What `model.source` is for a workload's model."""
        name = "tiny" if self.quick else name
        return "bundled:minilm" if name == "minilm" else str(make_model(self.out / f"model-{name}", name))

    def settings(self, workload: Workload, precision: str = "bfloat16", examples: int = 8000) -> dict[str, Any]:
        """The config of a workload as plain values, with at most so many training examples."""
        task = self.task(workload.task)
        there = len((task / "train.jsonl").read_text(encoding="utf-8").splitlines())
        return {
            "model": {"source": self.model(workload.model)},
            "task": {
                "source": str(task),
                "text": ["sentence"] if workload.task == "cola" else ["sentence1", "sentence2"],
                "train_examples": min(examples, there),
            },
            "seeds": {"count": 3 if self.quick else workload.seeds},
            "train": {"epochs": 1, "learning_rate": 2e-5, "precision": precision},
        }

    def task(self, name: str) -> Path:
        """The directory of a task, for --quick with few examples."""
        if not self.quick:
            return self.data / name
        small = self.out / "data" / name
        small.mkdir(parents=True, exist_ok=True)
        for split, count in (("train", 64), ("validation", 32)):
            lines = (self.data / name / f"{split}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
            (small / f"{split}.jsonl").write_text("".join(lines[:count]), encoding="utf-8")
        return small


def quickstart(on: Measuring) -> None:
    """The command as a user calls it, with an empty cache and with a full one."""
    shutil.rmtree(on.out / "quickstart", ignore_errors=True)
    for name, seconds in (("cold", "25"), ("warm", "12")):
        run = on.out / "quickstart" / name
        started = time.perf_counter()
        arguments = ["run", "bundled:quickstart", "--output.dir", str(run)]
        if on.quick:
            arguments += ["--model.source", on.model("tiny"), "--task.train_examples", "64", "--seeds.count", "3"]
        programs = counted(on, arguments)
        taken = time.perf_counter() - started
        info = json.loads((run / "run.json").read_text())
        on.row(f"quickstart {name}: in all", taken, "s", f"<= {seconds}")
        on.row(f"quickstart {name}: compiling", info["compile_seconds"], "s", "<= 12" if name == "cold" else "")
        on.row(f"quickstart {name}: measuring", info["measure_seconds"], "s")
        on.row(f"quickstart {name}: programs compiled", programs, "", "<= 15")


def counted(on: Measuring, arguments: list[str]) -> int:
    """Calls the command in a process of its own; returns how many programs it compiled or took from its cache."""
    count = on.out / "programs.txt"
    command = [sys.executable, __file__, "cli", str(count), *arguments]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(on.out / "quickstart" / "cache")}
    subprocess.run(command, env=environment, check=True)
    return int(count.read_text())


def counting_cli(file: Path, arguments: list[str]) -> None:
    """`jaxstab ARGUMENTS`, which leaves the number of programs that XLA was asked for in a file."""
    import jax

    from jaxstab.cli import main

    programs = 0

    def count(event: str, seconds: float, **_: Any) -> None:
        nonlocal programs
        programs += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        main(arguments)
    finally:
        file.write_text(str(programs))


def step(on: Measuring, name: str) -> None:
    """Milliseconds of a step for each seed, beside the floor and the peers, in a process each."""
    from machine import has_torch
    from train import alone, find_floor, time_peer, time_plan

    workload = WORKLOADS[name]
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(dir=on.out)
    settings = on.settings(workload)
    ours = alone(time_plan, settings)
    on.row(f"{name}: seeds at once", ours["group_size"])
    on.row(f"{name}: seeds that would fit", ours["fitting"], "", ">= 12" if name == "large" else "")
    on.row(f"{name}: memory", ours["gigabytes"], "GB")
    target = f"<= {workload.compilation}" if workload.compilation else ""
    on.row(f"{name}: compiling", ours["compilation"], "s", target)
    on.row(f"{name}: step for each seed", 1e3 * ours["step"], "ms")
    floor = alone(find_floor, settings)
    on.row(f"{name}: floor", 1e3 * floor["step_seconds"], "ms")
    share = floor["step_seconds"] / ours["step"]
    on.row(f"{name}: share of the floor", share, "", f">= {workload.floor}" if workload.floor else "")
    # 20 batches tell a peer's time for a step.
    few = on.settings(workload, examples=320)
    for peer, factor in (("graphs", workload.graphs), ("loop", workload.loop)) if has_torch() else ():
        found = alone(time_peer, peer, few, 1)
        on.row(f"{name}: {peer}, step", 1e3 * found["step_seconds"], "ms")
        on.row(f"{name}: {peer}, times ours", found["step_seconds"] / ours["step"], "", f">= {factor}")
    if not has_torch():
        print("no peers: PyTorch is not installed")


def variant(on: Measuring, name: str, settings: dict[str, Any], unroll: bool | None = None, flags: str = "") -> None:
    """Rows for one way to compile a program, in a process of its own."""
    from train import alone, time_plan

    before = os.environ.get("XLA_FLAGS", "")
    os.environ |= {"XLA_FLAGS": f"{before} {flags}".strip(), "JAX_ENABLE_COMPILATION_CACHE": "false"}
    found = alone(time_plan, {**settings, "train": {**settings["train"], "unroll": unroll}})
    os.environ["XLA_FLAGS"] = before
    on.row(f"{name}: compiling", found["compilation"], "s")
    on.row(f"{name}: step for each seed", 1e3 * found["step"], "ms")


def unroll(on: Measuring) -> None:
    """With a loop over layers, and without."""
    for name in ("minilm", "base"):
        for without, way in ((False, "a loop over layers"), (True, "layers unrolled")):
            variant(on, f"{name}, {way}", on.settings(WORKLOADS[name]), unroll=without)


def unroll_large(on: Measuring) -> None:
    """BERT-large without a loop over layers, which is not chosen for so few steps: it compiles for long."""
    variant(on, "large, layers unrolled", on.settings(WORKLOADS["large"]), unroll=True)


def options(on: Measuring) -> None:
    """Options of XLA in place of our own (`jaxstab/xla.py`), or beside them."""
    settings = on.settings(WORKLOADS["minilm"])
    for name, flags in (
        ("our options", ""),
        ("cuBLAS autotuned", "--xla_gpu_autotune_level=4"),
        ("parallel code generation", "--xla_gpu_enable_llvm_module_compilation_parallelism=true"),
        ("Triton on", "--xla_gpu_enable_triton_gemm=true"),
    ):
        variant(on, f"minilm, {name}", settings, flags=flags)


def precision(on: Measuring) -> None:
    """A step in every precision."""
    for name in ("minilm", "base"):
        for one in ("bfloat16", "tensorfloat32", "float32"):
            variant(on, f"{name}, {one}", on.settings(WORKLOADS[name], precision=one))


def instability(on: Measuring) -> None:
    """What precision does to the measures of instability, beside what rounding does (`precision.py`)."""
    import precision as study

    seeds, examples = ("3", "64") if on.quick else ("16", "500")
    arguments = [str(on.task("sst2")), "--text", "sentence", "--seeds", seeds, "--examples", examples]
    found = study.compare(study.parse_arguments([*arguments, "--model", on.model("minilm")]))
    for way, share in found["other_vote"].items():
        if way != "float32":
            away = [abs(row["away"][way]) for row in found["measures"].values() if row["away"][way] is not None]
            on.row(f"{way}: other votes of the same seed", share)
            on.row(f"{way}: largest change of a measure", max(away, default=0.0), "s.e.")


def bits(on: Measuring) -> None:
    """The largest difference of logits between runs that should be the same, each compiled anew."""
    from train import alone

    from jaxstab.runs.directory import Run

    shutil.rmtree(on.out / "bits", ignore_errors=True)
    count = 2 if on.quick else 8

    def logits(name: str, seeds: dict[str, Any], cache: str) -> Any:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(on.out / "bits" / f"cache-{cache}")
        settings = {**QUICKSTART, "seeds": seeds, "output": {"dir": str(on.out / "bits" / name)}}
        if on.quick:
            settings["model"] = {"source": on.model("tiny")}
        return alone(train_logits, settings)

    group = {"count": count, "group_size": count}
    before = Run(on.out / "quickstart" / "cold")  # of the phase `quickstart`, if it has ended with the same G
    known = (before.path / "measures.json").exists() and not on.quick and before.info.group_size == count
    first = before.logits if known else logits("first", group, cache="first")
    on.row("same run twice: largest difference", largest(first, logits("second", group, cache="second")), "", "0")
    alone_in_group = logits("alone", {"list": [1], "group_size": count}, cache="second")
    on.row("seed alone or among others: largest difference", largest(first[1:2], alone_in_group), "", "0")
    other = logits("one", {"list": [1], "group_size": 1}, cache="one")
    on.row("another G: largest difference", largest(first[1:2], other))


def train_logits(settings: dict[str, Any]) -> Any:
    import jaxstab

    return jaxstab.run(settings).logits


def largest(a: Any, b: Any) -> float:
    return float(abs(a - b).max())


def measures(on: Measuring) -> None:
    """20 seeds, 24 layers, 522 examples, 1,024 features: seconds, and the largest error against float64."""
    import measures as pairs
    import numpy as np

    seeds, count, examples, features = (4, 2, 40, 32) if on.quick else (20, 24, 522, 1024)
    layers = [pairs.draw_layer(seeds, examples, features, layer) for layer in range(count)]
    seconds, compilation, found = pairs.time_jaxstab(layers)
    on.row(f"measures: {seeds} x {count} x {examples} x {features}", seconds + compilation, "s", "<= 8")
    on.row("measures: compilation of it", compilation, "s")
    some = [(0, 1), (0, 2), (1, 3)]
    exact = pairs.time_loop(np, layers[0].astype(np.float64), some)[1]
    for name, values in exact.items():
        ours = np.array([found[0][name][pair] for pair in some])
        on.row(f"measures: error of {name}", float(np.abs(ours - values).max()), "", "<= 1e-4")


def calls(on: Measuring) -> None:
    """Seconds of the longest call while a layer of 1,000 seeds is measured: calls are to take a second or two."""
    import measures as pairs

    shape = (40, 30, 16) if on.quick else (1000, 436, 384)
    layer = pairs.draw_layer(*shape, 0)
    for name in ("op", "svcca", "pwcca", "cka", "rsa", "knn_jaccard", "distance_correlation"):
        seconds, longest = pairs.time_calls(layer, name)
        on.row(f"calls: {name} of {' x '.join(map(str, shape))}", seconds, "s")
        if longest is not None:
            on.row(f"calls: {name}, the longest", longest, "s")


def interruption(on: Measuring) -> None:
    """Seconds from SIGTERM in the midst of training 256 seeds until the process has ended, and whether it resumes."""
    run = on.out / "interrupted"
    shutil.rmtree(run, ignore_errors=True)
    settings = on.settings(WORKLOADS["minilm"])
    overrides = {
        "model.source": settings["model"]["source"],
        "task.source": settings["task"]["source"],
        "task.text": '["sentence"]',
        "seeds.count": 4 if on.quick else 256,
        "train.epochs": 500 if on.quick else 3,
        "train.precision": "bfloat16",
        "output.dir": run,
    }
    config = on.out / "interrupted.toml"
    config.write_text('[model]\nsource = ""\n[task]\nsource = ""\ntext = []\n')
    arguments = [str(part) for key, value in overrides.items() for part in (f"--{key}", value)]
    for name, command in (("started", ["run", str(config), *arguments]), ("resumed", ["resume", str(run)])):
        began = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "jaxstab", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                wait_for(process, "compiled in")
                on.row(f"interruption: {name}, compiled after", time.perf_counter() - began, "s")
                time.sleep(5)
                process.send_signal(signal.SIGTERM)
                sent = time.perf_counter()
                last = [line for line in process.stdout or () if line.strip()][-1:]
                status = process.wait()
            finally:
                process.kill()
        on.row(f"interruption: {name}, ended after SIGTERM", time.perf_counter() - sent, "s", "<= 90")
        on.row(f"interruption: {name}, exit code", status, "", "130")
        print(*last, sep="", end="")


def wait_for(process: subprocess.Popen, beginning: str) -> None:
    for line in process.stdout or ():
        print(" ", line, end="", flush=True)
        if line.startswith(beginning):
            return
    raise RuntimeError(f"ended with {process.wait()} before it said {beginning!r}")


def format_row(row: dict[str, str]) -> str:
    return f"{row['what']:52}{row['value']:>12} {row['unit']:4}{row['target']:>10}{verdict(row):>8}"


def verdict(row: dict[str, str]) -> str:
    """Whether a figure meets its target."""
    if not row["target"]:
        return ""
    relation, _, bound = row["target"].rpartition(" ")
    value, limit = float(row["value"]), float(bound)
    met = {"<=": value <= limit, ">=": value >= limit, "": value == limit}[relation]
    return "met" if met else "missed"


def table(on: Measuring) -> None:
    """All figures so far, and the machine that they are of."""
    from machine import describe_machine

    print("\n" + ", ".join(f"{name} {value}" for name, value in describe_machine().items()))
    if on.quick:
        print("tiny models and few examples: the figures say nothing of the machine")
    print(f"{'':52}{'measured':>12}{'target':>15}")
    rows = on.out / "rows.jsonl"
    for line in rows.read_text(encoding="utf-8").splitlines() if rows.exists() else ():
        print(format_row(json.loads(line)))


PHASES: dict[str, Callable[[Measuring], None]] = {
    "quickstart": quickstart,
    **{f"step-{name}": lambda on, name=name: step(on, name) for name in WORKLOADS},
    "bits": bits,
    "measures": measures,
    "interruption": interruption,
    "unroll": unroll,
    "unroll-large": unroll_large,
    "calls": calls,
    "precision": precision,
    "instability": instability,
    "options": options,
    "table": table,
}


def main() -> None:
    if sys.argv[1:2] == ["cli"]:
        counting_cli(Path(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=list(PHASES))
    parser.add_argument("data", type=Path, help="holds cola/ and rte/")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"))
    parser.add_argument("--quick", action="store_true", help="everything tiny")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    PHASES[arguments.phase](Measuring(arguments.data.resolve(), arguments.out.resolve(), arguments.quick))


if __name__ == "__main__":
    main()
