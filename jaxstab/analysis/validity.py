"""Which measures can be trusted: the framework of Du & Nguyen (2023), section 4, on one sample of seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import rankdata

from jaxstab import measures
from jaxstab.analysis import findings
from jaxstab.analysis.permutation import LEVEL, make_exchange, p_values, sizes
from jaxstab.analysis.pooling import differences_after
from jaxstab.analysis.ranking import half_samples
from jaxstab.analysis.sample import Sample, Source, as_sample
from jaxstab.errors import InputError
from jaxstab.measures import MEASURES, Tabular, as_plain, plain_or_none
from jaxstab.measures.inputs import FEWEST_EXAMPLES
from jaxstab.measures.programs import OnDevice, pair_distances

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

FEWEST_SEEDS = 5
FEWEST_LAYERS = 4
DRAWS = 20  # random subsets of the test examples
SUBSAMPLED = 30  # seeds that are measured on them, of more the first
TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


@dataclass(frozen=True, repr=False)
class Correlations(Tabular):
    """Correlations between M measures.

    Attributes:
        over: what varies: seeds or layers.
        names: M names.
        matrix: [M, M]; NaN where a measure does not vary.
        intervals: [M, M, 2] 95 % intervals.
        sentence: the result as one sentence.
    """

    over: str
    names: list[str]
    matrix: Floats
    intervals: Floats
    sentence: str

    def __repr__(self) -> str:
        """The sentence."""
        return self.sentence

    def to_frame(self) -> "pd.DataFrame":
        """Returns a tidy data frame: a row for every pair of measures.

        Columns: `measure`, `other`, `correlation`, `low` and `high` of its 95 % interval.
        """
        import pandas as pd

        rows = [
            (self.names[i], self.names[j], self.matrix[i, j], *self.intervals[i, j])
            for i, j in zip(*np.triu_indices(len(self.names), 1), strict=True)
        ]
        return pd.DataFrame(rows, columns=["measure", "other", "correlation", "low", "high"])


@dataclass(frozen=True, repr=False)
class Validity(Tabular):
    """The results for one sample. A part that could not be computed is None, and `notes` says why.

    Attributes:
        name: name of the sample.
        task: description of the task.
        over_seeds: convergent validity over resampled seeds (Pearson).
        over_layers: convergent validity over layers (Spearman).
        depth: for each measure of representations, `tau`, Kendall's tau with the layer's number, and `interval`.
        failed: for each measure, its values for `successful` and for `failed` seeds with intervals, and `p`.
        examples: for each share of the test examples, each measure's `mean` and `interval` over random subsets, and
            `ratio`, the mean divided by the value on all examples.
        nulls: for each measure its `value`, `interval` and `null`, the value when the examples are shuffled
            independently in each seed; None where there is none.
        sentences: the results, one sentence for each part.
        notes: what could not be computed, and why.
    """

    name: str
    task: str
    over_seeds: Correlations | None
    over_layers: Correlations | None
    depth: dict[str, dict[str, Any]] | None
    failed: dict[str, dict[str, Any]] | None
    examples: dict[str, dict[str, dict[str, Any]]]
    nulls: dict[str, dict[str, Any]]
    sentences: list[str]
    notes: list[str]

    def __repr__(self) -> str:
        """The sentences."""
        return "\n".join(self.sentences)

    def to_frame(self) -> "pd.DataFrame":
        """Returns a tidy data frame: a row for each number.

        Columns: `part` (`over seeds`, `over layers`, `depth`, `failed seeds`, `10% of examples` and the like, `nulls`),
        `measure`, `quantity` (such as `correlation with jsd`, `tau`, `successful`, `mean`, `null`), `value`, and `low`
        and `high` of its 95 % interval, NaN where there is none.
        """
        import pandas as pd

        return pd.DataFrame(list(self._observations()), columns=["part", "measure", "quantity", "value", "low", "high"])

    def _observations(self) -> Iterator[tuple[Any, ...]]:
        def observation(part: str, measure: str, quantity: str, value: Any, interval: Any = None) -> tuple[Any, ...]:
            numbers = (value, *(interval or (None, None)))
            return part, measure, quantity, *(np.nan if one is None else float(one) for one in numbers)

        for one in (self.over_seeds, self.over_layers):
            for row in [] if one is None else one.to_frame().itertuples(index=False):
                yield f"over {one.over}", row.measure, f"correlation with {row.other}", *row[2:]  # type: ignore[union-attr]
        for name, found in (self.depth or {}).items():
            yield observation("depth", name, "tau", found["tau"], found["interval"])
        for name, found in (self.failed or {}).items():
            for group in ("successful", "failed"):
                yield observation("failed seeds", name, group, found[group]["value"], found[group]["interval"])
            yield observation("failed seeds", name, "p", found["p"])
        for share, of_share in self.examples.items():
            for name, found in of_share.items():
                yield observation(f"{share} of examples", name, "mean", found["mean"], found["interval"])
        for name, found in self.nulls.items():
            yield observation("nulls", name, "value", found["value"], found["interval"])
            yield observation("nulls", name, "null", found["null"])

    def as_json(self) -> dict[str, Any]:
        """Returns plain values; NaN is None."""
        found = {name: vars(value) if isinstance(value, Correlations) else value for name, value in vars(self).items()}
        return dict(as_plain(found))


def validity(
    sample: Source,
    *,
    only: Sequence[str] | None = None,
    shares: Sequence[float] = (0.1, 0.5),
    metric: str | None = None,
    labels: str | Path | None = None,
    task: str | None = None,
) -> Validity:
    """Checks which measures can be trusted, by every part of the framework that the sample allows.

    Args:
        sample: a `Sample`, a `Run`, or a path as for `jaxstab.measure`, with at least 3 seeds.
        only: names of measures; default: those of the paper's seven, or their counterparts for numbers, that are there.
        shares: shares of the test examples to sub-sample.
        metric: the score for a source read from a path; default: the run's own metric, otherwise accuracy.
        labels: file with the true labels, for a source that does not hold them.
        task: the task, for a source that holds several.

    Returns:
        Correlations, values on fewer examples, nulls, and the results as sentences.

    Raises:
        InputError: something cannot be read or measured, or there are fewer than 3 seeds or no measure.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(2, size=100)
        >>> votes = np.where(rng.random((8, 100)) < 0.8, labels, 1 - labels)
        >>> sample = Sample.from_arrays("mine", predictions=votes, labels=labels)
        >>> found = validity(sample, only=["sd", "pairwise_disagreement"], shares=[0.5])
        >>> found.over_seeds.to_frame().round(2)
          measure                  other  correlation   low  high
        0      sd  pairwise_disagreement        -0.44 -0.98   0.9
    """
    sample = as_sample(sample, metric=metric, labels=labels, task=task, only=only)
    if sample.seeds < 3:
        raise InputError(f"{sample.source}: {sample.seeds} seeds; validity needs at least 3")
    if not sample.inputs.examples:
        raise InputError(f"{sample.source}: scores only; validity needs predictions, logits or representations")
    wanted = sample.usual if only is None else only
    names = [name for name in MEASURES if name in wanted and name in sample.names]
    if not names:
        raise InputError(f"{sample.source}: none of the measures {', '.join(wanted)} is there")
    notes: list[str] = []
    over_seeds = _over_seeds(sample, names, notes)
    layered = [name for name in names if MEASURES[name].granularity == "representation"]
    over_layers, depth = _over_layers(sample, layered, notes)
    failed = _failed(sample, names, notes)
    examples = {f"{share:.0%}": _on_subsets(sample, names, share) for share in shares}
    if sample.seeds > SUBSAMPLED:
        notes.append(
            f"on sub-samples of the test examples only the first {SUBSAMPLED} of {sample.seeds} seeds are measured"
        )
    lacking = [name for name in names if not any(name in found for found in examples.values())]
    if lacking:
        notes.append(
            f"sub-sampling of {', '.join(lacking)} needs representations: [output] keep_representations = true"
        )
    nulls = _against_nulls(sample, names)
    parts = (over_seeds, over_layers)
    sentences = [
        *(one.sentence for one in parts if one is not None),
        *([findings.depth(depth)] if depth else []),
        *([findings.failed(failed, int(sample.failed.sum()), sample.seeds)] if failed else []),
        *(findings.examples(share, found) for share, found in examples.items() if found),
        findings.nulls(nulls),
    ]
    return Validity(sample.name, sample.task, over_seeds, over_layers, depth, failed, examples, nulls, sentences, notes)


def _over_seeds(sample: Sample, names: Sequence[str], notes: list[str]) -> Correlations | None:
    """Pearson correlations over half-samples; leave-one-out intervals from the half-samples without each seed."""
    if sample.seeds < FEWEST_SEEDS:
        notes.append(f"correlations over seeds need at least {FEWEST_SEEDS} of them")
        return None
    masks = half_samples(sample.seeds)
    found = sample.subsets(names, masks)
    values = np.stack([found[name][-1] for name in names])
    matrix = _pearson(values)
    without = np.stack([_pearson(values[:, ~masks[:, seed]]) for seed in range(sample.seeds)], axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        around = np.arctanh(np.clip(without, -1 + 1e-9, 1 - 1e-9))
        centre = np.arctanh(np.clip(matrix, -1 + 1e-9, 1 - 1e-9))
    seeds = sample.seeds
    error = np.sqrt((seeds - 1) / seeds * ((around - around.mean(-1, keepdims=True)) ** 2).sum(-1))
    width = stdtrit(seeds - 1, TAILS[1]) * error
    intervals = np.tanh(np.stack([centre - width, centre + width], axis=-1))
    return Correlations(
        "seeds", list(names), matrix, intervals, findings.correlations("resampled seeds", names, matrix, intervals)
    )


def _over_layers(
    sample: Sample, names: Sequence[str], notes: list[str]
) -> tuple[Correlations | None, dict[str, dict[str, Any]] | None]:
    """Spearman correlations over layers and Kendall's tau with depth; intervals from half-samples of the seeds."""
    layers = len(sample.distances[names[0]]) if names else 0
    if layers < FEWEST_LAYERS:
        notes.append(f"correlations over layers need representations of at least {FEWEST_LAYERS} layers")
        return None, None
    masks = np.concatenate([np.ones((1, sample.seeds), bool), half_samples(sample.seeds)])
    enough = sample.seeds >= FEWEST_SEEDS
    found = sample.subsets(names, masks if enough else masks[:1])
    curves = np.stack([found[name] for name in names])  # [M, L, R]
    ranks = rankdata(curves, axis=1)
    rhos = np.stack([_pearson(ranks[:, :, r]) for r in range(ranks.shape[2])], axis=-1)
    intervals = _quantiles(rhos) if enough else np.full((*rhos.shape[:2], 2), np.nan)
    sentence = findings.correlations("layers", names, rhos[..., 0], intervals)
    first, second = np.triu_indices(layers, 1)
    taus = np.sign(curves[:, second] - curves[:, first]).mean(axis=1)
    ends = _quantiles(taus) if enough else np.full((len(names), 2), np.nan)
    depth = {
        name: {"tau": plain_or_none(tau[0]), "interval": [plain_or_none(end) for end in pair]}
        for name, tau, pair in zip(names, taus, ends, strict=True)
    }
    return Correlations("layers", list(names), rhos[..., 0], intervals, sentence), depth


def _failed(sample: Sample, names: Sequence[str], notes: list[str]) -> dict[str, dict[str, Any]] | None:
    failed = sample.failed
    if min(failed.sum(), (~failed).sum()) < 2:
        notes.append(
            f"successful against failed seeds: {int(failed.sum())} of {sample.seeds} failed, and two of each are needed"
        )
        return None
    groups = [sample.without_failed(), sample.take(np.flatnonzero(failed).tolist())]
    rows = [one.rows(names) for one in groups]
    found: dict[str, dict[str, Any]] = {
        name: {"successful": rows[0][name], "failed": rows[1][name], "p": None} for name in names
    }
    if min(one.seeds for one in groups) >= 3:
        exchange = make_exchange(groups[0].seeds, groups[1].seeds, paired=False)
        ordered = sample.take([*np.flatnonzero(~failed), *np.flatnonzero(failed)])
        of_each = [sizes([differences_after(exchange, ordered, name)]) for name in names]
        for name, p in zip(names, p_values(np.stack(of_each, axis=1))[1], strict=True):
            found[name]["p"] = float(p)
    return found


def _on_subsets(sample: Sample, names: Sequence[str], share: float) -> dict[str, dict[str, Any]]:
    """Measures on random subsets of the test examples, drawn without replacement."""
    sample = sample.take(range(min(sample.seeds, SUBSAMPLED)))
    inputs = sample.inputs
    size = max(FEWEST_EXAMPLES, round(share * inputs.examples))
    there = [name for name in names if not MEASURES[name].lacks(inputs.available)]
    full = _values_on(sample, there, np.arange(inputs.examples)) if there else {}
    rng = np.random.default_rng(0)
    drawn = [_values_on(sample, there, rng.permutation(inputs.examples)[:size]) for _ in range(DRAWS)] if there else []
    found = {}
    for name in there:
        values = np.array([one[name] for one in drawn])
        whole = full[name]
        found[name] = {
            "mean": plain_or_none(values.mean()),
            "interval": [plain_or_none(end) for end in np.quantile(values, TAILS)],
            "ratio": plain_or_none(values.mean() / whole) if whole else None,
            "examples": size,
        }
    return found


def _values_on(sample: Sample, names: Sequence[str], rows: NDArray[np.int64]) -> dict[str, float]:
    inputs = sample.inputs
    logits, predictions = (None if one is None else one[:, rows] for one in (inputs.logits, inputs.predictions))
    labels = None if inputs.labels is None else inputs.labels[rows]
    part = replace(inputs, logits=logits, predictions=predictions, labels=labels)
    of_pairs = tuple(name for name in names if MEASURES[name].shape == "pairs")
    of_predictions = tuple(name for name in of_pairs if MEASURES[name].granularity == "prediction")
    found = pair_distances(OnDevice.of(part, sample.metric), of_predictions)
    distances = {name: np.asarray(one)[None] for name, one in found.items()}
    of_layers = [name for name in of_pairs if name not in distances]
    if of_layers and inputs.representations:
        last = np.stack([one[-1][rows] for one in inputs.representations]).astype(np.float32)
        distances |= {name: one[None] for name, one in measures.distances(last, of_layers).items()}
    everyone = np.ones((1, sample.seeds), bool)
    values = replace(sample, inputs=part, distances=distances).subsets(names, everyone)
    return {name: float(value[-1, 0]) for name, value in values.items()}


def _against_nulls(sample: Sample, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(0)
    inputs = sample.inputs
    of_predictions = [name for name in names if MEASURES[name].granularity == "prediction"]
    unrelated: dict[str, float] = {}
    if of_predictions and inputs.predictions is not None:
        orders = [rng.permutation(inputs.examples) for _ in range(sample.seeds)]
        logits, predictions = (
            None if one is None else np.stack([row[order] for row, order in zip(one, orders, strict=True)])
            for one in (inputs.logits, inputs.predictions)
        )
        shuffled = replace(sample, inputs=replace(inputs, logits=logits, predictions=predictions))
        unrelated = _values_on(shuffled, of_predictions, np.arange(inputs.examples))
    found = {}
    for name, row in sample.rows(names).items():
        null = sample.nulls.get(name, {}).get("null_shuffled", [None])[-1]
        null = unrelated.get(name) if null is None else null
        found[name] = {**row, "null": None if null is None else plain_or_none(null)}
    return found


def _pearson(values: Floats) -> Floats:
    """Pearson correlations between rows; NaN for a row that does not vary."""
    centred = values - values.mean(axis=1, keepdims=True)
    lengths = np.sqrt((centred**2).sum(axis=1))
    varies = lengths > 1e-9 * np.abs(values).max(axis=1, initial=0) * np.sqrt(values.shape[1])
    lengths = np.where(varies, lengths, np.nan)
    return np.clip(centred @ centred.T / lengths[:, None] / lengths, -1, 1)


def _quantiles(values: Floats) -> Floats:
    """Ends [..., 2] of 95 % intervals over the last axis, whose first entry is the estimate and not a draw."""
    drawn = values[..., 1:]
    ends = np.full((*values.shape[:-1], 2), np.nan)
    usable = np.isfinite(drawn).all(axis=-1)
    ends[usable] = np.moveaxis(np.quantile(drawn[usable], TAILS, axis=-1), 0, -1)
    return ends
