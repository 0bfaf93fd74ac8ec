"""Shared by all benchmarks: the machine's description and measured limits, and writing and drawing results."""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

BLUE, GREY = "#0072B2", "#999999"


def describe_machine() -> dict[str, Any]:
    import jax
    import torch

    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def best_seconds(call: Callable[[], Any], repetitions: int = 10) -> float:
    """The time of the fastest of several calls, in seconds, after one warm-up call."""
    call()
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def matrix_rate() -> dict[str, float]:
    """FLOP/s of a [2048, 1536] x [1536, 1536] matrix product by precision, the larger of JAX's and PyTorch's."""
    import jax
    import jax.numpy as jnp
    import torch

    rows, width = 2048, 1536
    device = "cuda" if torch.cuda.is_available() else "cpu"
    product = jax.jit(lambda a, b: a @ b)
    rates = {}
    for name in ("float32", "bfloat16"):
        a, b = jnp.ones((rows, width), name), jnp.ones((width, width), name)
        c, d = (
            torch.ones(shape, dtype=getattr(torch, name), device=device) for shape in ((rows, width), (width, width))
        )

        def in_torch(c: torch.Tensor = c, d: torch.Tensor = d) -> None:
            torch.mm(c, d)
            if device == "cuda":
                torch.cuda.synchronize()

        with jax.default_matmul_precision("highest" if name == "float32" else "default"):
            ours = best_seconds(lambda a=a, b=b: jax.block_until_ready(product(a, b)))
        rates[name] = 2 * rows * width**2 / min(ours, best_seconds(in_torch))
    return rates


def bandwidth() -> float:
    """Bytes per second read and written when adding 1 to 512 MB on all cores."""
    import jax
    import jax.numpy as jnp

    x = jnp.zeros(2**27, jnp.float32)
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


def draw_bars(path: Path | None, title: str, seconds: Mapping[str, float], label: str) -> None:
    """Draws a bar for each name, next to the JSON file `path`; jaxstab's bars are highlighted."""
    if path is None:
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
    if path is None:
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
