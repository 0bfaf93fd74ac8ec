"""Shared by all benchmarks: the machine's description and measured limits, and writing and drawing results."""

import json
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

BLUE, GREY = "#0072B2", "#999999"


def has_torch() -> bool:
    """Whether PyTorch and transformers' models, which the peers need, are installed."""
    return find_spec("torch") is not None and find_spec("transformers") is not None


def text_columns(task: Path, given: Sequence[str] | None = None) -> list[str]:
    """The text columns of a task's directory: those given, or those of the GLUE task that it is named like."""
    pairs = ("rte", "stsb", "mrpc", "mrpc-like")
    return list(given) if given else ["sentence1", "sentence2"] if task.name in pairs else ["sentence"]


def describe_machine() -> dict[str, Any]:
    import jax

    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "torch": version("torch") if has_torch() else None,
        "python": platform.python_version(),
    }


def peak_bytes() -> int:
    """The most memory that this process had so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def best_seconds(call: Callable[[], Any], repetitions: int = 10) -> float:
    """The time of the fastest of several calls, in seconds, after one warm-up call."""
    call()
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def matrix_rate(precision: str) -> float:
    """FLOP/s of a matrix product in a precision of `[train]`, the larger of JAX's and PyTorch's.

    On a CPU [2048, 1536] x [1536, 1536]; on an accelerator, which is far from its rate there, eight products of
    [8192, 8192] x [8192, 8192], so that starting them does not count.
    """
    import jax
    import jax.numpy as jnp

    from jaxstab.training.devices import MATMUL_PRECISION
    from jaxstab.xla import jit

    on_cpu = jax.devices()[0].platform == "cpu"
    rows, width, times = (2048, 1536, 1) if on_cpu else (8192, 8192, 8)
    dtype = "bfloat16" if precision == "bfloat16" else "float32"
    # Random, because a GPU multiplies equal numbers faster.
    a, b = (jax.random.normal(jax.random.key(i), (n, width), dtype) for i, n in enumerate((rows, width)))
    with jax.default_matmul_precision(MATMUL_PRECISION[precision]):
        product = jit(jnp.matmul).lower(a, b).compile()
    seconds = best_seconds(lambda: jax.block_until_ready([product(a, b) for _ in range(times)]))
    if has_torch():
        del a, b
        seconds = min(seconds, _seconds_in_torch(rows, width, times, precision))
    return 2 * times * rows * width**2 / seconds


def _seconds_in_torch(rows: int, width: int, times: int, precision: str) -> float:
    import torch

    on_gpu = torch.cuda.is_available()
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    options = {
        "dtype": torch.bfloat16 if precision == "bfloat16" else torch.float32,
        "device": "cuda" if on_gpu else "cpu",
    }
    a, b = torch.randn((rows, width), **options), torch.randn((width, width), **options)

    def multiply() -> None:
        for _ in range(times):
            torch.mm(a, b)
        if on_gpu:
            torch.cuda.synchronize()

    seconds = best_seconds(multiply)
    torch.set_float32_matmul_precision("highest")
    return seconds


def bandwidth() -> float:
    """Bytes per second read and written when adding 1 to an array: 512 MB on all cores, 4 GB on an accelerator."""
    import jax
    import jax.numpy as jnp

    x = jnp.zeros(2**27 if jax.devices()[0].platform == "cpu" else 2**30, jnp.float32)
    add = jax.jit(lambda x: x + 1, donate_argnums=0)

    def once() -> None:
        nonlocal x
        x = jax.block_until_ready(add(x))

    return 2 * x.nbytes / best_seconds(once)


def write_result(path: Path | None, settings: Mapping[str, Any], results: Any) -> None:
    """Writes results as JSON with the machine's description; without a path, nothing."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
    content = {**plain, "machine": describe_machine(), "results": results}
    path.write_text(json.dumps(content, indent=2) + "\n")


def _can_draw() -> bool:
    if find_spec("matplotlib") is None:
        print("no picture: matplotlib is not installed")
        return False
    return True


def draw_bars(path: Path | None, title: str, seconds: Mapping[str, float], label: str) -> None:
    """Draws a bar for each name, next to the JSON file `path`; jaxstab's bars are highlighted."""
    if path is None or not _can_draw():
        return
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.4 * len(seconds) + 1), layout="constrained")
    names = list(seconds)[::-1]
    colours = [BLUE if name.startswith("jaxstab") else GREY for name in names]
    bars = axes.barh(names, [seconds[name] for name in names], color=colours)
    axes.bar_label(bars, fmt="%.3g", padding=3)
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(label)
    axes.set_title(title, loc="left", fontsize=10)
    figure.savefig(path.with_suffix(".svg"))
    plt.close(figure)


def draw_lines(
    path: Path | None, title: str, x: Sequence[float], panels: Mapping[str, Mapping[str, Sequence[float]]], label: str
) -> None:
    """Draws a panel for each quantity with a line for each series, from zero, next to the JSON file `path`."""
    if path is None or not _can_draw():
        return
    import matplotlib.pyplot as plt

    figure, all_axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 2.8), layout="constrained", squeeze=False)
    for axes, (name, series) in zip(all_axes[0], panels.items(), strict=True):
        for colour, (line, values) in zip((BLUE, GREY, "#D55E00"), series.items(), strict=False):
            axes.plot(x, values, "o-", color=colour, label=line)
        axes.set_ylim(0)
        axes.set_xticks(x)
        axes.set_xlabel(label)
        axes.set_title(name, loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path.with_suffix(".svg"))
    plt.close(figure)
