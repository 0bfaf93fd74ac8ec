"""All decisions that depend on the kind of device: layout of seeds, memory, precision, caches."""

import math
import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import jax
import numpy as np
import platformdirs
import psutil
from jax.experimental.compilation_cache import compilation_cache

Precision = Literal["float32", "tensorfloat32", "bfloat16"]
# Shares of free memory; the rest is for memory that compiled programs do not report.
USABLE_SHARE, USABLE_SHARE_OF_POOL = 0.9, 0.95
LARGEST_CPU_GROUP = 8
PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"
MEMORY_FRACTION = "XLA_CLIENT_MEM_FRACTION"  # JAX refuses it together with its older name
GPU_SHARE = "0.95"  # the rest is for the driver and libraries, which do not use JAX's memory
PINNED = "pinned_host"  # JAX's name for memory of the host that devices copy from and to directly
# JAX's names for the precision of float32 matrix products; its default on a GPU is TF32.
MATMUL_PRECISION = {"float32": "highest", "tensorfloat32": "tensorfloat32", "bfloat16": "default"}


def choose_precision(wanted: str) -> Precision:
    """Returns the precision that is wanted, or what `auto` stands for on these devices.

    A GPU multiplies bfloat16 more than ten times as fast as float32, and a TPU multiplies nothing else. It moves
    measures of instability by less than their standard error (`docs/results.md`, Precision).
    """
    if wanted == "auto":
        return "float32" if platform() == "cpu" else "bfloat16"
    return cast(Precision, wanted)


def local_devices() -> list[jax.Device]:
    """Returns the devices of this process that seeds are trained on."""
    return jax.local_devices()


def platform() -> str:
    """Returns JAX's name for the kind of these devices: `cpu`, `gpu` or `tpu`."""
    return local_devices()[0].platform


def host_devices() -> list[jax.Device]:
    """Returns one CPU device of every process, in the order of the processes."""
    return [jax.local_devices(process_index=i, backend="cpu")[0] for i in range(jax.process_count())]


def is_cpu(device: jax.Device) -> bool:
    """Whether a device is a CPU, whose memory and cores all devices of the machine share."""
    return device.platform == "cpu"


def vmaps_seeds(device: jax.Device) -> bool:
    """Whether one program holds all the seeds of a device.

    On a CPU a program holds one seed and several threads call it, because a larger program is no faster per seed there.
    """
    return not is_cpu(device)


def to_host_memory(tree: Any, device: jax.Device) -> Any:
    """Returns arrays of a device in the memory of the host, once they are there.

    On an accelerator they are JAX arrays in pinned memory where it has any, into which copies are several times faster.
    Otherwise they are numpy arrays, on a CPU without a copy: the given arrays must not be donated.
    """
    if is_cpu(device) or PINNED not in {memory.kind for memory in device.addressable_memories()}:
        return jax.device_get(tree)
    pinned = jax.sharding.SingleDeviceSharding(device, memory_kind=PINNED)
    return jax.block_until_ready(jax.device_put(tree, pinned))


def to_device_memory(tree: Any, device: jax.Device) -> Any:
    """Returns arrays from `to_host_memory` on the device."""
    return jax.device_put(tree, jax.sharding.SingleDeviceSharding(device, memory_kind=device.default_memory().kind))


def wanted_group_size(share: int, devices: Sequence[jax.Device]) -> int:
    """Returns how many seeds to train at once: on an accelerator all, on a CPU one for each core and at most 8.

    Args:
        share: number of seeds that each device trains.
        devices: devices of the run.
    """
    if not is_cpu(devices[0]):
        return share
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(share, LARGEST_CPU_GROUP, max(1, cores // len(devices)))


def memory_limit(devices: Sequence[jax.Device]) -> int:
    """Returns how many bytes may be used on each device; CPU devices share the free memory."""
    if is_cpu(devices[0]):
        return int(USABLE_SHARE * psutil.virtual_memory().available) // len(devices)
    jax.block_until_ready(jax.device_put(np.int8(0), devices[0]))  # a GPU's memory is taken at its first use
    preallocated = os.environ.get(PREALLOCATE) not in ("false", "False", "0")
    return free_memory(devices[0].memory_stats(), preallocated)


def free_memory(stats: Mapping[str, int], preallocated: bool) -> int:
    """Returns how many bytes of an accelerator may be used.

    Args:
        stats: the device's `memory_stats()`.
        preallocated: whether JAX took all of its memory at once; less than its limit if others use the device.
    """
    pool = stats.get("pool_bytes") if preallocated else None
    return int(USABLE_SHARE_OF_POOL * (min(stats["bytes_limit"], pool or math.inf) - stats["bytes_in_use"]))


def peak_memory(devices: Sequence[jax.Device]) -> int:
    """Returns the most bytes in use on any device so far; on CPUs, the peak memory of the process."""
    if is_cpu(devices[0]):
        import resource  # Unix only

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    return max(device.memory_stats()["peak_bytes_in_use"] for device in devices)


def claim_memory(environment: MutableMapping[str, str]) -> None:
    """Lets JAX take nearly all memory of a GPU instead of 75 %, unless the user has said how much.

    Args:
        environment: where JAX looks when it first uses a device.
    """
    if not any(name in environment for name in (PREALLOCATE, MEMORY_FRACTION, "XLA_PYTHON_CLIENT_MEM_FRACTION")):
        environment[MEMORY_FRACTION] = GPU_SHARE


def cache_compiled_programs() -> None:
    """Turns on JAX's persistent compilation cache in the user's cache directory, unless one is already set."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(Path(platformdirs.user_cache_dir("jaxstab")) / "compiled"))
        compilation_cache.reset_cache()  # JAX may already have looked for a cache and found none


claim_memory(os.environ)  # on import, because almost any use of JAX initialises its devices
