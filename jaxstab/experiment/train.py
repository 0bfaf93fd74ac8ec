"""Trains the seeds of pending runs wave by wave; each seed's files are written when its wave ends."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import jax

from jaxstab.config import OutputConfig
from jaxstab.experiment.progress import Progress
from jaxstab.experiment.status import PendingRun, record
from jaxstab.experiment.tracking import Tracker
from jaxstab.runs.directory import representation_file, seed_file, weights_file
from jaxstab.runs.files import write_array, write_arrays, write_weights
from jaxstab.runs.info import Memory
from jaxstab.training import processes
from jaxstab.training.checkpoints import Checkpoints, checkpointed_steps
from jaxstab.training.devices import local_devices, peak_memory
from jaxstab.training.lowering import Job
from jaxstab.training.planning import Plan
from jaxstab.training.waves import SeedResult, SeedTrainer, make_waves

OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"  # appears in XLA's messages
LARGEST = "representations"  # a seed's largest array; it has its own file, which is read layer by layer
MakeTrainer = Callable[..., tuple[Plan, SeedTrainer]]


def train(pending: Sequence[PendingRun], make_trainer: MakeTrainer, display: Progress) -> None:
    """Trains the seeds without a result file; retries with smaller groups if memory runs out.

    Args:
        pending: the runs, which share compiled programs.
        make_trainer: `plan_trainer` with their recipe and examples filled in.
        display: shows the progress.
    """
    while jobs := _unfinished_jobs(pending):
        try:
            _train_waves(pending, jobs, make_trainer, display)
        except jax.errors.JaxRuntimeError as error:
            info = pending[0].info
            size = info.group_size
            # One of several processes cannot restart alone, because the others are still training.
            if OUT_OF_MEMORY not in str(error) or size in (None, 1) or jax.process_count() > 1:
                raise
            record(pending, group_size=size // 2, out_of_memory=(*info.out_of_memory, size))
            display.out_of_memory(size // 2)


def _unfinished_jobs(pending: Sequence[PendingRun]) -> list[Job]:
    """Returns the seeds still to be trained, each from its first step or from its checkpoint."""

    def read_steps() -> list[list[tuple[int, int]]]:
        steps = [checkpointed_steps(one.run) for one in pending]
        return [
            [(triple.seed, own.get(triple.seed, 0)) for triple in one.unfinished_seeds]
            for one, own in zip(pending, steps, strict=True)
        ]

    jobs = []
    for one, unfinished in zip(pending, processes.decided(read_steps), strict=True):
        triples = {triple.seed: triple for triple in one.config.seeds.resolve()}
        jobs += [Job(triples[seed], one.hyper, step, one.run.path) for seed, step in unfinished]
    return jobs


def _train_waves(
    pending: Sequence[PendingRun], jobs: Sequence[Job], make_trainer: MakeTrainer, display: Progress
) -> None:
    """Plans, compiles and trains all waves."""
    devices, by_path = local_devices(), {one.run.path: one for one in pending}
    with display, Checkpoints(pending[0].config.output.checkpoint_minutes, display.warn) as checkpoints:
        everything = sum(len(one.info.seeds) for one in pending)
        if len(jobs) < everything or any(job.step for job in jobs):
            display.resumed(everything - len(jobs), [job.step for job in jobs])
        display.compiling()
        started = time.perf_counter()
        plan, trainer = _plan(pending, make_trainer, devices)
        compile_seconds = time.perf_counter() - started
        memory = Memory(plan.needed_bytes, plan.limit_bytes)
        record(
            pending,
            group_size=plan.group_size,
            remat=plan.remat,
            unroll=plan.unroll,
            compile_seconds=round(compile_seconds, 2),
            memory=memory,
        )
        waves = make_waves(jobs, trainer.width, trainer.groups * jax.process_count())
        shares = [processes.shares(wave, trainer.groups)[jax.process_index()] for wave in waves]
        # A process without seeds in this wave trains padding, so that all processes stay in step; it has no checkpoint.
        own = [share or [[wave[0][0]._replace(step=0)]] for share, wave in zip(shares, waves, strict=True)]
        labels = [[_label(by_path, job) for group in share for job in group] for share in own]
        taken = [min(job.step for group in share for job in group) for share in own]
        display.compiled(compile_seconds, labels, taken, plan)
        with Tracker(pending, shares, display) as tracker:
            for number, (wave, share) in enumerate(zip(waves, shares, strict=True)):
                results = trainer.train_wave(own[number], number, tracker, checkpoints if share else None)
                for job, result in processes.gathered(wave, trainer.groups, results):
                    if processes.is_first():
                        _write_seed(by_path[job.run], job.triple.seed, result)
                    tracker.finished(job, result)
                for group in share:
                    for job in group:
                        checkpoints.forget(job)
    record(pending, memory=replace(memory, peak_bytes=peak_memory(devices)))


def _plan(
    pending: Sequence[PendingRun], make_trainer: MakeTrainer, devices: Sequence[jax.Device]
) -> tuple[Plan, SeedTrainer]:
    """Plans and compiles for all seeds of all runs; all processes use the smallest group size among them."""
    first = pending[0]
    share = -(-sum(len(one.info.seeds) for one in pending) // jax.process_count())
    which = _weights_to_save(first.config.output)
    given = first.info.remat, first.info.unroll
    plan, trainer = make_trainer(share, devices, which, first.info.group_size, *given)
    agreed = processes.smallest(plan.group_size)
    if agreed != plan.group_size:
        plan, trainer = make_trainer(share, devices, which, agreed, plan.remat, plan.unroll)
    return plan, trainer


def _weights_to_save(output: OutputConfig) -> Literal["best", "final"] | None:
    if not output.keep_weights:
        return None
    return "final" if output.keep_weights == "final" else "best"


def _write_seed(pending: PendingRun, seed: int, result: SeedResult) -> None:
    """Writes a finished seed's files; the one that marks it as finished comes last."""
    arrays = result._asdict()
    weights, wanted = arrays.pop("weights"), pending.config.output.keep_weights
    if weights is not None and (not isinstance(wanted, tuple) or seed in wanted):
        write_weights(weights_file(pending.run, seed), weights)
    write_array(representation_file(pending.run, seed), arrays.pop(LARGEST))
    write_arrays(seed_file(pending.run, seed), arrays)


def _label(by_path: Mapping[Path, PendingRun], job: Job) -> str:
    return f"{job.triple.seed}" if len(by_path) == 1 else f"{job.triple.seed} of {job.run.name}"
