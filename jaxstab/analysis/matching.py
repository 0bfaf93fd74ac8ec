"""Which samples are compared, by which measures and on which seeds."""

from collections.abc import Mapping, Sequence

from jaxstab.analysis.sample import Sample
from jaxstab.errors import InputError
from jaxstab.measures import MEAN, MEASURES
from jaxstab.words import count, listing, plural

FEWEST_SEEDS = 3
FEWEST_PAIRS = 8  # six can be exchanged in 64 ways only, which leaves no power after adjustment


def choose_baseline(samples: Sequence[Sample], methods: Sequence[str], wanted: str | None) -> str:
    """The baseline that the user asked for; otherwise a run without any method, or `standard`, or the first."""
    if wanted is not None and wanted not in methods:
        raise InputError(f"baseline {wanted!r}: there is no such method; there are {', '.join(methods)}")
    plain = [one.name for one in samples if one.run is not None and not one.run.config.mitigation.names]
    return wanted or next(iter(plain), "standard" if "standard" in methods else methods[0])


def common_measures(samples: Sequence[Sample], only: Sequence[str] | None, notes: list[str]) -> list[str]:
    """The mean score and the requested measures (default: `Sample.usual`) that all samples have."""
    there = set.intersection(*(set(one.names) for one in samples))
    asked = {name for one in samples for name in one.usual} if only is None else set(only)
    wanted = [MEAN, *(name for name in MEASURES if name in asked)]
    missing = [name for name in wanted if name not in there]
    if missing:
        lacking = next(one for one in samples if set(missing) - set(one.names))
        notes.append(f"left out, because {lacking.source} has none: {', '.join(missing)}")
    found = [name for name in wanted if name in there]
    if not found:
        raise InputError(f"{samples[0].source}: no measure that all have; give labels, predictions or logits")
    return found


def by_task(samples: Sequence[Sample]) -> dict[str, dict[str, Sample]]:
    """Samples by task, then by method. Samples with the same test examples are on the same task."""
    by_key: dict[str, list[Sample]] = {}
    for one in samples:
        by_key.setdefault(f"{one.examples_key} {one.metric}", []).append(one)
    for key, group in list(by_key.items()):
        # Labels of different tasks may be the same, as those of two tables of predictions for other inputs.
        if len({one.name for one in group}) < len(group) and len({one.task for one in group}) > 1:
            del by_key[key]
            for one in group:
                by_key.setdefault(f"{key} {one.task}", []).append(one)
    tasks: dict[str, dict[str, Sample]] = {}
    for group in by_key.values():
        named = next((one.task for one in group if one.run is not None), group[0].task)
        task = named if named not in tasks else f"{named} ({len(tasks) + 1})"
        tasks[task] = {}
        for one in group:
            if one.name in tasks[task]:
                raise InputError(
                    f"{one.source}: a second run called {one.name} on the same examples; name it: NAME={one.source}"
                )
            tasks[task][one.name] = one
    return tasks


def match_seeds(task: str, group: Mapping[str, Sample], notes: list[str]) -> tuple[dict[str, Sample], bool]:
    """All seeds of every method, and whether they are the same; these come in the same order."""
    for name, one in group.items():
        notes.extend(f"{task}: {name}: {note}" for note in one.notes)
        if one.diverged:
            notes.append(
                f"{task}: left out of {name}, because logits are not finite: "
                f"{plural('seed', len(one.diverged))} {listing(one.diverged)}"
            )
    fewest = min(one.seeds for one in group.values())
    if fewest < FEWEST_SEEDS:
        notes.append(f"{task}: {count('seed', fewest)} of each; differences need at least {FEWEST_SEEDS}")
        return dict(group), False
    known = [one.identities for one in group.values() if one.identities is not None]
    same = len(known) == len(group) and all(len(set(one)) == len(one) and set(one) == set(known[0]) for one in known)
    if len(known) < len(group):
        unknown = ", ".join(name for name, one in group.items() if one.identities is None)
        notes.append(f"{task}: the seeds of {unknown} have no numbers, so they are compared unpaired")
    elif not same:
        notes.append(f"{task}: the methods' seeds are not the same, so they are compared unpaired")
    elif fewest < FEWEST_PAIRS:
        notes.append(
            f"{task}: {fewest} pairs of seeds can be exchanged in too few ways, so they are compared unpaired "
            f"(pairs from {FEWEST_PAIRS} on)"
        )
    if not same or fewest < FEWEST_PAIRS:
        return dict(group), False
    order = {name: [(one.identities or ()).index(seed) for seed in known[0]] for name, one in group.items()}
    return {name: one.take(order[name]) for name, one in group.items()}, True
