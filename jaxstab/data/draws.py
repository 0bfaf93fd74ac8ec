"""Examples of each seed's own: which of the examples that all seeds share it trains on and is validated on.

The split and the subset of the data are sources of randomness as initialisation and order are (Bouthillier et al. 2021,
Accounting for variance in machine learning benchmarks). Test examples are the same for all seeds.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxstab.config import SeedsConfig, SeedTriple, TaskConfig
from jaxstab.data.task import Task, stratified_halves
from jaxstab.errors import InputError


@dataclass(frozen=True)
class Draws:
    """How many examples each seed draws from those that all share, the pool.

    Attributes:
        train: n, training examples of a seed.
        validation: m, validation examples of a seed; 0 if all seeds are validated on the task's.
        subset_seed: draws the training examples of seeds without a data seed.
    """

    train: int
    validation: int
    subset_seed: int


class Drawn(NamedTuple):
    """The examples of one seed.

    Attributes:
        train: [n] ascending indices into the pool.
        validation: [m] likewise.
    """

    train: np.ndarray
    validation: np.ndarray


def make_draws(task: Task, config: TaskConfig, seeds: SeedsConfig) -> tuple[Draws | None, list[str]]:
    """Returns how each seed draws its examples, in numbers and in words; None if it draws none of its own.

    Args:
        task: with all its training examples.
        config: `[task]`.
        seeds: `[seeds]`.

    Raises:
        InputError: every data seed would draw the same.
    """
    if not seeds.draw_examples:
        return None, []
    there, validation = len(task.train.labels), len(task.validation.labels)
    wanted, notes = config.train_examples or there, []
    if seeds.data is not None and wanted == there:
        raise InputError(
            f"task.train_examples = {wanted}: there are {there}, so that seeds.data draws the same; make it less"
        )
    if seeds.split is not None:
        notes.append(
            f"training and validation examples divided anew for each seed: {there} and {validation}, stratified"
        )
    if config.train_examples is not None:
        which = "drawn anew for each seed" if seeds.data is not None else f"subset_seed {config.subset_seed}"
        notes.append(f"{wanted} of {there} training examples ({which})")
    return Draws(wanted, validation if seeds.split is not None else 0, config.subset_seed), notes


def draw(
    draws: Draws,
    labels: np.ndarray,
    triple: SeedTriple,
    can_train: Callable[[np.ndarray], bool],
    can_validate: Callable[[np.ndarray], bool],
) -> Drawn:
    """Draws the examples of a seed, which no other seed has a part in.

    What does not fit into the grids of a batch, which are the same for all seeds, is drawn again; that is rare. The
    training examples are the first n of a random order of the pool that are not for validation. So seeds that
    share a data seed and differ in the split have nearly the same.

    Args:
        draws: how many.
        labels: [P] labels of the pool.
        triple: the seed.
        can_train: whether examples, by their indices, fit into the grids of training.
        can_validate: whether they fit into that of validation.
    """
    train, validation = np.arange(len(labels)), np.arange(0)
    if draws.validation:
        rng, share = np.random.default_rng(triple.split), draws.validation / len(labels)
        splits = (stratified_halves(labels, share, rng) for _ in itertools.count())
        whole = draws.train == len(labels) - draws.validation
        train, validation = next(one for one in splits if can_validate(one[1]) and (not whole or can_train(one[0])))
    if draws.train < len(train):
        # The split depends on ranks within classes only, and what it leaves is in uniform random order in each class.
        # So the subset is random given the split, even if both are drawn by the same number.
        rng = np.random.default_rng(draws.subset_seed if triple.data is None else triple.data)
        orders = (rng.permutation(len(labels)) for _ in itertools.count())
        subsets = (np.sort(order[np.isin(order, train)][: draws.train]) for order in orders)
        train = next(one for one in subsets if can_train(one))
    return Drawn(train, validation)
