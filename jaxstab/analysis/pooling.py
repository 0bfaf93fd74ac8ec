"""The seeds of two groups as one sample, and how much the groups differ when seeds are exchanged."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaxstab import measures
from jaxstab.analysis.permutation import (
    Differences,
    Exchange,
    mean_differences,
    sd_differences,
    spread_differences,
    value_differences,
)
from jaxstab.analysis.sample import Sample
from jaxstab.measures import MEAN, MEASURES, STANDARD_DEVIATIONS
from jaxstab.measures.programs import OnDevice, pair_distances
from jaxstab.measures.subsets import seed_numbers


def pool(first: Sample, second: Sample, names: Sequence[str]) -> Sample:
    """Returns all seeds of two samples on the same examples; the first sample's come first.

    Args:
        first: S seeds.
        second: T seeds.
        names: names of measures. Those of pairs get distances [1, S + T, S + T]; for measures of representations both
            samples must have them, and only the last layer counts.
    """
    one, other = first.inputs, second.inputs
    logits = predictions = scores = None
    if one.logits is not None and other.logits is not None and one.classes == other.classes:
        logits = np.concatenate([one.logits, other.logits])
    if one.predictions is not None and other.predictions is not None:
        predictions = np.concatenate([one.predictions, other.predictions])
    if one.scores is not None and other.scores is not None:
        scores = np.concatenate([one.scores, other.scores])
    inputs = replace(
        one,
        classes=max(one.classes, other.classes),
        logits=logits,
        predictions=predictions,
        representations=None,
        names=range(first.seeds + second.seeds),
        scores=scores,
    )
    chosen = [MEASURES[name] for name in names if name in MEASURES and MEASURES[name].shape == "pairs"]
    of_predictions = tuple(m.name for m in chosen if not m.lacks(inputs.available))
    matrices = pair_distances(OnDevice.of(inputs, first.metric), of_predictions) if of_predictions else {}
    distances = {name: np.asarray(matrix)[None] for name, matrix in matrices.items()}
    of_layers = [m.name for m in chosen if m.granularity == "representation"]
    if of_layers and one.representations is not None and other.representations is not None:
        examples = measures.represented_examples(one.examples)
        both = [*one.representations, *other.representations]
        last = np.stack([np.asarray(layers[-1][examples], np.float32) for layers in both])
        distances |= {name: matrix[None] for name, matrix in measures.distances(last, of_layers).items()}
    return replace(
        first, inputs=inputs, distances=distances, identities=None, reasons=(*first.reasons, *second.reasons), run=None
    )


def differences_after(exchange: Exchange, pooled: Sample, name: str) -> Differences:
    """Returns how much two groups of seeds differ by one quantity, after every exchange.

    Args:
        exchange: R exchanges of S and T seeds.
        pooled: all S + T seeds, the first group's first.
        name: name of a measure, or `mean`.
    """
    size = exchange.size
    if name == MEAN or name in STANDARD_DEVIATIONS:
        numbers = seed_numbers(name, pooled.inputs, pooled.metric)
        test = mean_differences if name == MEAN else sd_differences
        return test(exchange, numbers[:size], numbers[size:])
    at_most = min(size, pooled.seeds - size) if MEASURES[name].grows else None
    return value_differences(exchange, lambda masks: pooled.subsets([name], masks)[name][-1], at_most)


def aligned_differences(exchange: Exchange, pooled: Sample, name: str) -> Differences | None:
    """Returns the differences of a standard deviation whatever the means, see `spread_differences`; or None."""
    if name not in STANDARD_DEVIATIONS:
        return None
    numbers = seed_numbers(name, pooled.inputs, pooled.metric)
    return spread_differences(exchange, numbers[: exchange.size], numbers[exchange.size :])
