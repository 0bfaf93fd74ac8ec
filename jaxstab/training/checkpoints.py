"""Checkpoints of seeds in training, written by Orbax in threads while training continues.

Each seed has its own directory, so it can be resumed on any number of devices and in any group. A new checkpoint
replaces the old one only once it is complete.
"""

import math
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
import psutil

from jaxstab import libraries
from jaxstab.errors import InputError
from jaxstab.runs.directory import CHECKPOINTS, Run
from jaxstab.training.devices import host_devices
from jaxstab.training.lowering import Job

MEMORY_SHARE = 0.5  # share of free memory for copies waiting to be written
WRITERS = 4  # threads
GRACE_SECONDS = 75  # for saving after an interrupt; schedulers commonly kill after 90 or more
Key = tuple[Path, int]  # directory and seed


def checkpointed_steps(run: Run) -> dict[int, int]:
    """Returns the number of steps in the newest checkpoint of every seed that has one."""
    steps: dict[int, int] = {}
    for path in (run.path / CHECKPOINTS).glob("seed-*-step-*"):
        found = re.fullmatch(r"seed-(-?\d+)-step-(\d+)", path.name)
        if found:  # other names belong to incomplete checkpoints
            seed, step = map(int, found.groups())
            steps[seed] = max(step, steps.get(seed, 0))
    return steps


class Checkpoints:
    """Writes checkpoints in threads. As a context manager, it waits on exit until all are written."""

    def __init__(self, minutes: float, warn: Callable[[str], None]):
        """Starts the clock.

        Args:
            minutes: interval between two checkpoints of a seed.
            warn: called once if a checkpoint cannot be written; training continues.
        """
        self._seconds, self._warn = 60 * minutes, warn
        self._last, self._deadline = time.monotonic(), math.inf
        self._written: dict[Key, int] = {}  # newest step on the disk
        self._given: dict[Key, int] = {}  # newest step on the disk or on its way there
        self._latest: dict[Key, tuple[int, int, Mapping[str, np.ndarray]]] = {}  # waiting: step, bytes, state
        self._writing: dict[Key, int] = {}  # bytes
        self._pace = 0.0  # seconds that a byte took last
        self._pending: deque[Future] = deque()
        self._threads = [ThreadPoolExecutor(1) for _ in range(WRITERS)]
        self._own = threading.local()  # one checkpointer of Orbax's writes one checkpoint at a time

    def __enter__(self) -> "Checkpoints":
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Waits until all checkpoints are written; after a second interrupt, only for those that have been begun."""
        if kind is KeyboardInterrupt:
            if self._deadline < math.inf:
                self._latest.clear()
            self.hurry()
        for thread in self._threads:
            thread.shutdown()

    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return time.monotonic() - self._last >= self._seconds

    def saved(self) -> None:
        """Restarts the clock."""
        self._last = time.monotonic()

    def hurry(self) -> None:
        """From now on, only checkpoints that are likely to be complete within `GRACE_SECONDS` are begun."""
        self._deadline = time.monotonic() + GRACE_SECONDS

    def wait(self) -> None:
        """Waits until all checkpoints are written, or there is no time left for them."""
        while self._pending:
            self._pending.popleft().result()

    def unsaved(self, job: Job, step: int) -> int:
        """Returns how many of its steps a seed would lose now."""
        return step - self._written.get(_key(job), job.step)

    def wants(self, job: Job, step: int, size: int) -> bool:
        """Whether a copy of a seed's state can be taken now: it is newer than the last, and there is room and time.

        Training does not wait for a slow disk: without room in memory, the seed keeps its older checkpoint. Only after
        `hurry` does this wait for room.

        Args:
            job: the seed.
            step: its number of steps.
            size: bytes of its state.
        """
        if step in (job.step, self._given.get(_key(job))):
            return False
        while (waiting := self._waiting()) and waiting + size > MEMORY_SHARE * psutil.virtual_memory().available:
            if self._deadline == math.inf or not self._pending:
                return False
            self._pending.popleft().result()
        if time.monotonic() + self._pace * size > self._deadline:
            return False
        free = shutil.disk_usage(job.run).free - self._waiting()
        if free < 2 * size:
            self._complain(
                f"a checkpoint of seed {job.triple.seed} needs {size / 1e9:.2f} GB of disk, {free / 1e9:.2f} are free"
            )
            return False
        return True

    def save(self, job: Job, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Saves the state of a seed after `step` steps, in a thread. A state that still waits is replaced by it."""
        self._given[_key(job)] = step
        self._latest[_key(job)] = step, sum(array.nbytes for array in arrays.values()), arrays
        self._pending = deque(one for one in self._pending if not one.done())
        self._pending.append(self._thread_of(job).submit(self._write, job))

    def load(self, job: Job, shapes: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
        """Returns the checkpoint of a seed after `job.step` steps.

        Args:
            job: the seed.
            shapes: the expected shapes and dtypes of the arrays.

        Raises:
            InputError: the checkpoint is damaged or was written by another version.
        """
        path, remedy = _directory(job, job.step), "delete it, and the seed starts from the beginning"
        try:
            reader = _make_checkpointer(writes=False)
            found = {name: one.shape for name, one in reader.metadata(path).item_metadata.tree.items()}
            arrays = reader.restore(path, args=_as_numpy(found))
        except Exception as error:  # Orbax and TensorStore raise many types
            raise InputError(f"{path}: damaged ({libraries.reason(error)}); {remedy}") from None
        if found != {name: shape.shape for name, shape in shapes.items()}:
            raise InputError(f"{path}: of another version of jaxstab; {remedy}")
        return {name: arrays[name].astype(shape.dtype) for name, shape in shapes.items()}

    def forget(self, job: Job) -> None:
        """Deletes the checkpoints of a finished seed."""
        self._latest.pop(_key(job), None)
        self._thread_of(job).submit(lambda: _delete(_all_of(job)))

    def _write(self, job: Job) -> None:
        """Writes the newest state of a seed, unless it is already written or there is no time."""
        key = _key(job)
        latest = self._latest.pop(key, None)
        if latest is None:
            return
        step, size, arrays = latest
        started = time.monotonic()
        if started + self._pace * size > self._deadline:
            return
        self._writing[key] = size
        path = _directory(job, step)
        older = [one for one in _all_of(job) if one != path]
        try:
            self._save(path, arrays)
        except Exception as error:  # otherwise lost in the thread, and nobody would know that there is no checkpoint
            self._complain(f"seed {job.triple.seed} cannot be saved ({libraries.reason(error)})")
        else:
            _delete(older)
            self._written[key] = step
            self._pace = (time.monotonic() - started) / size
        finally:
            del self._writing[key]

    def _thread_of(self, job: Job) -> ThreadPoolExecutor:
        """The thread that does everything for a seed, so that nothing of it happens at the same time."""
        return self._threads[hash(_key(job)) % WRITERS]

    def _save(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        from orbax.checkpoint.args import PyTreeSave

        if not hasattr(self._own, "writer"):
            self._own.writer = _make_checkpointer(writes=True)
        wanted = {name: _as_orbax_wants(array) for name, array in arrays.items()}
        self._own.writer.save(path, args=PyTreeSave(wanted), force=True)

    def _waiting(self) -> int:
        """Bytes waiting to be written."""
        return sum(list(self._writing.values())) + sum(size for _, size, _ in list(self._latest.values()))

    def _complain(self, reason: str) -> None:
        self._warn(f"{reason}; if interrupted, it resumes from its last checkpoint")
        self._warn = lambda _: None


def _key(job: Job) -> Key:
    return job.run, job.triple.seed


def _directory(job: Job, step: int) -> Path:
    return job.run.absolute() / CHECKPOINTS / f"seed-{job.triple.seed}-step-{step}"


def _all_of(job: Job) -> list[Path]:
    """All checkpoints of a seed, including incomplete ones left by a killed process."""
    return list((job.run.absolute() / CHECKPOINTS).glob(f"seed-{job.triple.seed}-step-*"))


def _delete(paths: list[Path]) -> None:
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def _make_checkpointer(writes: bool) -> Any:
    """A checkpointer of Orbax's. It never waits for other processes: each process saves its own seeds."""
    import orbax.checkpoint as ocp

    me, handlers = jax.process_index(), ocp.type_handlers
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process-{me}"
    )
    options: dict[str, Any] = {}
    if writes and jax.process_count() > 1:
        arrays = handlers.ArrayHandler(primary_host=me, replica_id=None, use_replica_parallel=False)
        options["type_handler_registry"] = handlers.create_type_handler_registry((jax.Array, arrays))
    # Compression takes half of the time and saves 7 % of the bytes.
    handler = ocp.PyTreeCheckpointHandler(
        use_zarr3=True, use_compression=False, multiprocessing_options=alone, **options
    )
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _as_numpy(names: Iterable[str]) -> Any:
    from orbax.checkpoint import RestoreArgs
    from orbax.checkpoint.args import PyTreeRestore

    return PyTreeRestore(restore_args=dict.fromkeys(names, RestoreArgs(restore_type=np.ndarray)))


def _as_orbax_wants(array: np.ndarray) -> Any:
    """Converts to a global array if needed: with several processes, Orbax writes numpy arrays from the first only."""
    if jax.process_count() == 1:
        return array
    everywhere = host_devices()
    replicated = jax.sharding.NamedSharding(
        jax.sharding.Mesh(np.array(everywhere), "process"), jax.sharding.PartitionSpec()
    )
    mine = jax.device_put(array, everywhere[jax.process_index()])
    return jax.make_array_from_single_device_arrays(array.shape, replicated, [mine])
