"""Checks whether this machine is ready: devices, versions, memory, caches, and problems."""

import importlib.metadata
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

PACKAGES = ("jaxstab", "jax", "jaxlib", "flax", "optax", "transformers", "datasets", "numpy", "scipy", "matplotlib")
LITTLE_DISK, LITTLE_MEMORY = 2e9, 4e9  # bytes


@dataclass(frozen=True)
class Diagnosis:
    """The result of the checks.

    Attributes:
        facts: facts about the machine as text, by name.
        problems: what is wrong and how to fix it, one line each.
    """

    facts: dict[str, str]
    problems: list[str]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


def diagnose(directory: str | Path = ".") -> Diagnosis:
    """Checks everything that a run needs; changes nothing.

    Args:
        directory: where runs will be written.
    """
    facts, problems = {"python": platform.python_version(), "system": platform.platform()}, list[str]()
    for look in (_versions, _devices, _memory):
        look(facts, problems)
    _disk("disk for runs", Path(directory), facts, problems)
    _disk("cache", user_cache_path("jaxstab"), facts, problems)
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    facts["model hub"] = "offline (HF_HUB_OFFLINE)" if offline else "used when a source begins with hub:"
    return Diagnosis(facts, problems)


def _versions(facts: dict[str, str], problems: list[str]) -> None:
    for name in PACKAGES:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "missing"
            problems.append(f"{name} is not installed; install it with: pip install {name}")


def _devices(facts: dict[str, str], problems: list[str]) -> None:
    import jax

    from jaxstab.training.devices import is_cpu

    try:
        devices = jax.devices()
    except RuntimeError as error:
        facts["devices"] = "none"
        problems.append(f"JAX finds no device ({str(error).splitlines()[0]}); see JAX_PLATFORMS and the driver")
        return
    facts["devices"] = f"{len(devices)} x {devices[0].device_kind}"
    facts["cores"] = f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}"
    if is_cpu(devices[0]) and shutil.which("nvidia-smi"):
        problems.append('there is an NVIDIA GPU, but JAX does not use it; install it with: pip install "jax[cuda12]"')


def _memory(facts: dict[str, str], problems: list[str]) -> None:
    import psutil

    free = psutil.virtual_memory().available
    facts["memory"] = f"{free / 1e9:.1f} GB free"
    if free < LITTLE_MEMORY:
        problems.append(f"only {free / 1e9:.1f} GB of memory are free; a base-size model needs about 4 GB a seed")


def _disk(name: str, directory: Path, facts: dict[str, str], problems: list[str]) -> None:
    there = next(one for one in (directory.absolute(), *directory.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free
    facts[name] = f"{directory}, {free / 1e9:.1f} GB free"
    if not os.access(there, os.W_OK):
        problems.append(f"{there} cannot be written to; choose another directory, or change its rights")
    elif free < LITTLE_DISK:
        problems.append(f"only {free / 1e9:.1f} GB are free at {there}; make room")
