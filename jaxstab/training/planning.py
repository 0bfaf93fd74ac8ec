"""How many seeds at once, from the memory that compiled programs say they need; and how long a run will take."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import jax

from jaxstab.data.tokens import EncodedTask
from jaxstab.training.devices import memory_limit, wanted_group_size
from jaxstab.training.programs import Job, Programs, on_other_devices
from jaxstab.training.recipe import Recipe, define
from jaxstab.training.waves import SeedTrainer, make_waves


@dataclass(frozen=True)
class Plan:
    """How the seeds of a run are divided.

    Attributes:
        group_size: G, seeds at once on each device.
        waves: one after another until all seeds are done.
        remat: whether activations are recomputed in the backward pass.
        fixed_bytes: that a device needs whatever G is.
        seed_bytes: that it needs for each of G seeds.
        limit_bytes: that may be used on each device.
    """

    group_size: int
    waves: int
    remat: bool
    fixed_bytes: int
    seed_bytes: int
    limit_bytes: int

    @property
    def needed_bytes(self) -> int:
        """Predicted for each device."""
        return self.fixed_bytes + self.group_size * self.seed_bytes

    @property
    def fits(self) -> bool:
        """Whether that is within the limit."""
        return self.needed_bytes <= self.limit_bytes


@dataclass(frozen=True)
class Estimate:
    """How long a run will take, in seconds.

    Attributes:
        compilation: of all programs, or reading them from the cache.
        step: of all seeds of a wave.
        evaluation: of a wave on the validation split, once per epoch.
        prediction: of a wave on the test split.
        training: all waves.
    """

    compilation: float
    step: float
    evaluation: float
    prediction: float
    training: float


def plan_trainer(
    recipe: Recipe,
    task: EncodedTask,
    seeds: int,
    devices: Sequence[jax.Device],
    weights: Literal["best", "final"] | None = None,
    group_size: int | None = None,
    remat: bool | None = None,
) -> tuple[Plan, SeedTrainer]:
    """Chooses what was not given, for which it may compile twice, and compiles for all devices.

    As many seeds at once as are wanted if they fit; otherwise as many as fit by a line through the memory of two
    compiled sizes, shared out evenly over waves. Only where not even one seed fits are activations recomputed.

    Args:
        recipe: of the run.
        task: token arrays.
        seeds: of the run.
        devices: that share them.
        weights: which of each seed's the trainer is to return.
        group_size: G, if it is not to be chosen.
        remat: whether to recompute activations, if that is not to be chosen.
    """
    share = math.ceil(seeds / len(devices))
    wanted = group_size or wanted_group_size(share, devices)
    limit = memory_limit(devices)

    def compiled(size: int, remat: bool) -> Programs:
        definition = define(recipe.pretrained, recipe.config, recipe.methods, remat)
        return Programs(replace(recipe, definition=definition), task, size, devices[0])

    for recomputed in [False, True] if remat is None else [remat]:
        programs = compiled(wanted, recomputed)
        fixed, each = memory_line(programs)
        if fixed + wanted * each > limit and wanted > 1 and group_size is None:
            one = compiled(1, recomputed)
            fixed, each = memory_line(programs, one)
            size = fitting_size(wanted, share, fixed, each, limit)
            programs = one if size == 1 else compiled(size, recomputed)
        size = programs.group_size
        plan = Plan(size, math.ceil(share / size), recomputed, fixed, each, limit)
        if plan.fits:
            break
    return plan, SeedTrainer([programs, *on_other_devices(programs, task, devices[1:])], weights)


def fitting_size(wanted: int, share: int, fixed: int, each: int, limit: int) -> int:
    """Returns the largest group that fits, made smaller where that leaves the number of waves the same."""
    size = max(1, min(wanted, (limit - fixed) // each))
    return math.ceil(share / math.ceil(share / size))


def estimate(trainer: SeedTrainer, plan: Plan, jobs: Sequence[Job], compilation: float) -> Estimate:
    """Times parts of the first wave.

    Args:
        trainer: of the run.
        plan: how its seeds are divided.
        jobs: all of its seeds.
        compilation: seconds it took.
    """
    seconds = trainer.time_wave(make_waves(jobs, trainer.width, trainer.groups)[0])
    epochs, steps = trainer.recipe.config.epochs, trainer.recipe.steps_per_epoch
    wave = epochs * (steps * seconds.step + seconds.evaluation) + seconds.prediction
    return Estimate(compilation, *seconds, training=plan.waves * wave)


def memory_line(larger: Programs, smaller: Programs | None = None) -> tuple[int, int]:
    """Returns the fixed bytes and the bytes per seed of the line through two sizes; one suffices on a CPU.

    Args:
        larger: of several seeds.
        smaller: of fewer, where memory is not simply proportional.
    """
    if smaller is None or larger.width == 1:
        return larger.shared_bytes, -(-larger.group_bytes // larger.width)
    each = -(-(larger.group_bytes - smaller.group_bytes) // (larger.width - smaller.width))
    return larger.shared_bytes + smaller.group_bytes - smaller.width * each, each
