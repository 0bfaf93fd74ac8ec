"""Checks of a config that types cannot express; each error names the remedy."""

from jaxstab.config.mitigation import complaint
from jaxstab.config.schema import SOURCES, Config, SeedsConfig
from jaxstab.errors import InputError


def check(config: Config, where: str = "config") -> None:
    """Checks what types cannot express.

    Raises:
        InputError: naming the key and the remedy.
    """
    train, task, seeds = config.train, config.task, config.seeds
    positive = {
        "train.epochs": train.epochs,
        "train.patience": train.patience,
        "train.batch_size": train.batch_size,
        "train.learning_rate": train.learning_rate,
        "train.clip_norm": train.clip_norm,
        "train.epsilon": train.epsilon,
        "model.layers": config.model.layers,
        "task.train_examples": task.train_examples,
        "seeds.count": seeds.count,
        "seeds.group_size": seeds.group_size,
        "output.checkpoint_minutes": config.output.checkpoint_minutes,
    }
    if isinstance(train.class_weights, dict):
        positive |= {f"train.class_weights.{name}": weight for name, weight in train.class_weights.items()}
    shares = {
        "train.warmup": train.warmup,
        "train.dropout": train.dropout,
        "train.label_smoothing": train.label_smoothing,
        "train.beta1": train.beta1,
        "train.beta2": train.beta2,
    }
    for key, number in positive.items():
        if number is not None and not number > 0:
            raise InputError(f"{where}: {key} = {number}: must be greater than 0")
    for key, number in shares.items():
        if number is not None and not 0 <= number < 1:
            raise InputError(f"{where}: {key} = {number}: must be at least 0 and less than 1")
    if train.weight_decay < 0:
        raise InputError(f"{where}: train.weight_decay = {train.weight_decay}: must not be negative")
    if task.max_length < 4:
        raise InputError(f"{where}: task.max_length = {task.max_length}: must be at least 4 tokens")
    if task.text is not None and len(task.text) not in (1, 2):
        raise InputError(f"{where}: task.text names {len(task.text)} columns; name one or two")
    problem = complaint(config.mitigation)
    if problem is not None:
        raise InputError(f"{where}: {problem}")
    _check_seeds(seeds, where)
    if seeds.data is not None and task.train_examples is None:
        raise InputError(
            f"{where}: seeds.data needs task.train_examples: how many training examples each of them draws"
        )
    wanted = config.output.keep_weights
    if isinstance(wanted, tuple):
        unknown = set(wanted) - {triple.seed for triple in seeds.resolve()}
        if unknown:
            raise InputError(f"{where}: output.keep_weights names seed {min(unknown)}, which is not in the run")


def _check_seeds(seeds: SeedsConfig, where: str) -> None:
    given = {name: values for name in SOURCES if (values := getattr(seeds, name)) is not None}
    if seeds.count is not None and seeds.list is not None:
        raise InputError(f"{where}: seeds.count and seeds.list exclude each other; keep one")
    if given and (seeds.count is not None or seeds.list is not None):
        raise InputError(f"{where}: seeds.{next(iter(given))} replaces seeds.count and seeds.list; keep one of the two")
    if seeds.crossed and not given:
        raise InputError(
            f"{where}: seeds.crossed needs {', '.join(f'seeds.{name}' for name in SOURCES[:-1])} or seeds.data"
        )
    if seeds.repeats < 1:
        raise InputError(f"{where}: seeds.repeats = {seeds.repeats}: must be at least 1")
    if seeds.rounding and seeds.repeats == 1:
        raise InputError(f"{where}: seeds.rounding needs seeds.repeats of at least 2")
    for name, values in {"list": seeds.list, **given}.items():
        if values is None:
            continue
        if not values:
            raise InputError(f"{where}: seeds.{name} is empty; name at least one seed")
        if min(values) < 0 or max(values) >= 2**31:
            raise InputError(f"{where}: seeds.{name}: a seed is an integer from 0 to 2147483647")
    if seeds.list is not None and len(set(seeds.list)) < len(seeds.list):
        raise InputError(f"{where}: seeds.list names a seed twice; each may stand once")
    lengths = {len(values) for values in given.values()} - {1}
    if len(lengths) > 1 and not seeds.crossed:
        raise InputError(f"{where}: seeds.{', seeds.'.join(given)} differ in length; or set seeds.crossed = true")
