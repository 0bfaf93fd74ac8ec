"""Several processes in one run: the first decides and writes; the others get its decisions and send it results.

JAX's distributed runtime connects them. Each process trains its own seeds on its own devices; during a wave they do
not communicate.
"""

import contextlib
import inspect
import json
import operator
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src.distributed import global_state
from jax.experimental import multihost_utils

from jaxstab.errors import InputError
from jaxstab.training.lowering import Job
from jaxstab.training.waves import SeedResult

Value = TypeVar("Value")
Groups = Sequence[Sequence[Job]]
A_DAY = 86400  # seconds; timeout of the others while the first process measures
SAVING = 60  # seconds that an interrupted process gives the others to save what they have


def join(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Connects this process with the others. Must be called before any other use of JAX.

    Args:
        coordinator: host:port of the first process. JAX finds all three arguments itself under SLURM, GKE and on TPU
            pods.
        processes: the number of processes.
        process: index of this process, from 0.

    Raises:
        InputError: the other processes cannot be reached.
    """
    given = [coordinator, processes, process]
    if any(one is None for one in given) and not all(one is None for one in given):
        raise InputError("--coordinator, --processes and --process belong together; give all three, or --distributed")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise InputError(f"--process {process}: there are {processes}; they count from 0")
    connect = jax.distributed.initialize
    if "shutdown_timeout_seconds" in inspect.signature(connect).parameters:  # missing in older versions
        connect = partial(connect, shutdown_timeout_seconds=A_DAY)
    try:
        connect(coordinator, processes, process)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the other processes cannot be found ({reason}); see docs/scale.md") from None
    counts = _gather(np.int32(jax.local_device_count())).ravel()
    if len(set(counts.tolist())) > 1:
        raise InputError(f"processes have {', '.join(map(str, counts))} devices; give each of them as many")


def leave(code: int) -> None:
    """Ends this process after an interrupt if it is one of several, as soon as all have come here or time is up.

    JAX's own end waits five minutes for a process that is gone, and Python's aborts if a thread still waits in XLA.

    Args:
        code: exit code.
    """
    client = global_state.client
    if client is None:
        return
    with contextlib.suppress(RuntimeError):  # another process is gone
        client.wait_at_barrier("interrupted", SAVING * 1000)
        if is_first():
            time.sleep(1)  # it answers the others, which JAX aborts if it is gone before them
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_first() -> bool:
    """Whether this is the first process, the one that writes."""
    return jax.process_index() == 0


def decided(decide: Callable[[], Value]) -> Value:
    """Calls a function on the first process and returns its result, plain values, on all. Bad input stops all.

    Raises:
        InputError: the function raised it on the first process.
    """
    if jax.process_count() == 1:
        return decide()
    answer: dict[str, Any] = {}
    if is_first():
        try:
            answer = {"value": decide()}
        except InputError as error:
            answer = {"error": str(error)}
    text = np.frombuffer(json.dumps(answer).encode(), np.uint8)
    length = int(_broadcast(np.int32(len(text))))
    mine = text if is_first() else np.zeros(length, np.uint8)
    answer = json.loads(np.asarray(_broadcast(mine)).astype(np.uint8).tobytes())
    if "error" in answer:
        raise InputError(answer["error"])
    return answer["value"]


def together(call: Callable[[], Value]) -> Value:
    """Calls a function on every process; bad input on one stops all.

    Raises:
        InputError: the function raised it on some process.
    """
    if jax.process_count() == 1:
        return call()
    error = None
    try:
        value = call()
    except InputError as found:
        error = found
    failed = _gather(np.int32(error is not None)).ravel()
    if error is not None:
        raise error
    if failed.any():
        raise InputError(f"process {int(np.argmax(failed))} stopped because of bad input; it says why")
    return value


def smallest(number: int) -> int:
    """Returns the smallest of all processes' numbers."""
    if jax.process_count() == 1:
        return number
    return int(_gather(np.int32(number)).min())


def shares(wave: Groups, groups: int) -> list[Groups]:
    """Returns the groups of a wave that each process trains; a process may have none.

    Args:
        wave: the groups of all processes.
        groups: number of groups that a process trains at once.
    """
    return [wave[i * groups : (i + 1) * groups] for i in range(jax.process_count())]


def gathered(wave: Groups, groups: int, mine: Sequence[SeedResult]) -> Iterator[tuple[Job, SeedResult]]:
    """Yields every seed of a wave with its result, one at a time to save memory.

    Args:
        wave: the groups of all processes.
        groups: number of groups that a process trains at once.
        mine: results of this process's share, or of padding.
    """
    jobs = [[job for group in share for job in group] for share in shares(wave, groups)]
    for place in range(max(map(len, jobs))):
        result = mine[min(place, len(mine) - 1)]
        by_process = [result] if len(jobs) == 1 else _everyones(result)
        for process, result in enumerate(by_process):
            if place < len(jobs[process]):
                yield jobs[process][place], result


def _everyones(result: SeedResult) -> list[SeedResult]:
    stacked = _gather(result)
    return [jax.tree.map(operator.itemgetter(i), stacked) for i in range(jax.process_count())]


def _gather(tree: Any) -> Any:
    """The values of all processes, stacked along a leading axis."""
    return _interruptible(lambda: multihost_utils.process_allgather(tree))


def _broadcast(value: Any) -> Any:
    """The value of the first process."""
    return _interruptible(lambda: multihost_utils.broadcast_one_to_all(value))


def _interruptible(call: Callable[[], Any]) -> Any:
    """Waits for other processes in a thread: a process blocked in XLA cannot handle signals."""
    outcome: dict[str, Any] = {}

    def target() -> None:
        try:
            outcome["value"] = call()
        except Exception as error:
            outcome["error"] = error

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]
