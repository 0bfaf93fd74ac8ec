"""How many seeds to train at once, from the memory needs of compiled programs; and how long a run will take."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import jax

from jaxstab.data.tokens import EncodedTask
from jaxstab.mitigation import number_of_layers
from jaxstab.training.devices import memory_limit, platform, wanted_group_size
from jaxstab.training.lowering import Job
from jaxstab.training.programs import Programs, number_of_bytes, on_other_devices
from jaxstab.training.recipe import Recipe, define, frozen_part
from jaxstab.training.waves import SeedTrainer, make_waves


@dataclass(frozen=True)
class Plan:
    """How the seeds of a run are divided.

    Attributes:
        group_size: G, seeds at once on each device.
        waves: number of waves, which run one after another.
        remat: whether activations are recomputed in the backward pass.
        unroll: whether there is no loop over layers.
        fixed_bytes: memory that a device needs independent of G.
        seed_bytes: memory that a device needs for each of its G seeds.
        limit_bytes: memory that may be used on each device.
        base_bytes: of `fixed_bytes`, what no seed trains.
    """

    group_size: int
    waves: int
    remat: bool
    unroll: bool
    fixed_bytes: int
    seed_bytes: int
    limit_bytes: int
    base_bytes: int

    @property
    def needed_bytes(self) -> int:
        """Predicted memory on each device."""
        return self.fixed_bytes + self.group_size * self.seed_bytes

    @property
    def fits(self) -> bool:
        """Whether the predicted memory is within the limit."""
        return self.needed_bytes <= self.limit_bytes


@dataclass(frozen=True)
class Estimate:
    """How long a run will take, in seconds; and the disk space that it needs.

    Attributes:
        compilation: compiling all programs, or reading them from the cache.
        step: one step of all seeds of a wave.
        evaluation: evaluating a wave on the validation split, once per epoch.
        prediction: predicting with a wave on the test split.
        training: training all waves.
        measuring: measuring the representations of all runs.
        waiting_bytes: what representations take on disk until they are measured.
    """

    compilation: float
    step: float
    evaluation: float
    prediction: float
    training: float
    measuring: float = 0.0
    waiting_bytes: int = 0


def plan_trainer(
    recipe: Recipe,
    task: EncodedTask,
    seeds: int,
    devices: Sequence[jax.Device],
    weights: Literal["best", "final"] | None = None,
    group_size: int | None = None,
    remat: bool | None = None,
    unroll: bool | None = None,
) -> tuple[Plan, SeedTrainer]:
    """Chooses what is not given, which may compile twice, and compiles for all devices.

    If the wanted number of seeds does not fit, the number that fits is interpolated linearly from the memory of two
    compiled sizes and spread evenly over waves. Activations are recomputed only if not even one seed fits.

    Args:
        recipe: recipe of the run.
        task: token arrays.
        seeds: number of seeds of the run.
        devices: devices that share the seeds.
        weights: which weights of each seed the trainer returns: best, final, or none.
        group_size: G; chosen if None.
        remat: whether to recompute activations; chosen if None.
        unroll: whether to have no loop over layers; chosen if None.
    """
    share = math.ceil(seeds / len(devices))
    wanted = group_size or wanted_group_size(share, devices)
    limit, base = memory_limit(devices), number_of_bytes(frozen_part(recipe, recipe.pretrained.params))
    unrolled = pays_to_unroll(recipe, wanted) if unroll is None else unroll

    def compiled(size: int, remat: bool) -> Programs:
        definition = define(recipe.pretrained, recipe.config, recipe.methods, remat, unrolled)
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
        plan = Plan(size, math.ceil(share / size), recomputed, unrolled, fixed, each, limit, base)
        if plan.fits:
            break
    return plan, SeedTrainer([programs, *on_other_devices(programs, task, devices[1:])], weights)


class Unrolling(NamedTuple):
    """What it costs and gains on a kind of device to have no loop over layers (`benchmarks/README.md`).

    Attributes:
        compilation: seconds that each layer and size of grid adds to compilation.
        share: share of a step that is saved.
        speed: floating-point operations per second of a step, by which its duration is guessed.
    """

    compilation: float
    share: float
    speed: float


UNROLLING = {"cpu": Unrolling(0.2, 0.07, 1e11), "gpu": Unrolling(2.0, 0.19, 1.5e14)}


def pays_to_unroll(recipe: Recipe, group_size: int) -> bool:
    """Whether a seed's steps save more time without a loop over layers than compilation then takes longer.

    On a CPU this does not depend on the number of seeds, so that neither do their numbers.

    Args:
        recipe: recipe of the run.
        group_size: seeds in a program, on an accelerator.
    """
    kind = platform()
    if kind not in UNROLLING:
        return False
    cost, layers = UNROLLING[kind], recipe.pretrained.params.get("layers", {})
    depth = number_of_layers(recipe.pretrained.params)
    tokens = recipe.grid.rows[-1] * recipe.grid.columns * (1 if kind == "cpu" else group_size)
    operations = 6 * sum(leaf.size for leaf in jax.tree.leaves(layers)) * tokens
    saved = recipe.total_steps * cost.share * operations / cost.speed
    grids = len(recipe.grid.rows) if kind == "cpu" else 1
    return saved > depth * grids * cost.compilation


def fitting_size(wanted: int, share: int, fixed: int, each: int, limit: int) -> int:
    """Returns the smallest group size that needs as few waves as the largest group that fits."""
    size = max(1, min(wanted, (limit - fixed) // each))
    return math.ceil(share / math.ceil(share / size))


def estimate(trainer: SeedTrainer, plan: Plan, jobs: Sequence[Job], compilation: float) -> Estimate:
    """Estimates the duration of a run by timing parts of its first wave.

    Args:
        trainer: trainer of the run.
        plan: how its seeds are divided.
        jobs: all of its seeds.
        compilation: seconds that compilation took.
    """
    seconds = trainer.time_wave(make_waves(jobs, trainer.width, trainer.groups)[0])
    epochs, steps = trainer.recipe.config.epochs, trainer.recipe.steps_per_epoch
    wave = epochs * (steps * seconds.step + seconds.evaluation) + seconds.prediction
    return Estimate(compilation, *seconds, training=plan.waves * wave)


def memory_line(larger: Programs, smaller: Programs | None = None) -> tuple[int, int]:
    """Returns fixed bytes and bytes per seed, from the line through the memory of two sizes; a CPU needs only one.

    Args:
        larger: programs for several seeds.
        smaller: programs for fewer seeds, needed where memory is not proportional to seeds.
    """
    if smaller is None or larger.width == 1:
        return larger.shared_bytes, -(-larger.group_bytes // larger.width)
    each = -(-(larger.group_bytes - smaller.group_bytes) // (larger.width - smaller.width))
    return larger.shared_bytes + smaller.group_bytes - smaller.width * each, each
