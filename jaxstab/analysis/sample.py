"""The seeds of one method on one task, in the form that all analyses use, whatever framework trained them."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxstab import measures
from jaxstab.analysis.failures import failures
from jaxstab.analysis.loading import load_outputs, load_tasks
from jaxstab.analysis.values import contributions, take_pairs
from jaxstab.config import SeedTriple
from jaxstab.errors import InputError
from jaxstab.measures import MEAN, MEASURES, Inputs
from jaxstab.runs.directory import Run
from jaxstab.runs.outputs import Outputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

PAPER = ("sd", "pairwise_disagreement", "fleiss_kappa", "jsd", "cka", "op", "svcca")  # the paper's seven
NUMBERS = ("prediction_sd", "mean_absolute_disagreement", "rank_disagreement", "icc")
USUAL = {"classes": PAPER, "numbers": ("sd", *NUMBERS, "cka", "op", "svcca")}  # what analyses look at by default


def disagreement_of(of: Literal["classes", "numbers"]) -> str:
    """Returns the name of the measure that says plainly how much two seeds' predictions differ."""
    return "mean_absolute_disagreement" if of == "numbers" else "pairwise_disagreement"


class Identity(NamedTuple):
    """What a seed stands for, by which it is matched with the same seed of another run; as in `SeedTriple`."""

    init: int
    order: int
    dropout: int
    split: int | None = None
    data: int | None = None
    repeat: int = 0

    @classmethod
    def of(cls, triple: SeedTriple) -> "Identity":
        """Returns the identity of a run's seed."""
        return cls(*(getattr(triple, name) for name in cls._fields))

    @property
    def once(self) -> "Identity":
        """The same for all repeats of a seed."""
        return self._replace(repeat=0)


@dataclass(frozen=True, repr=False)
class Sample:
    """Seeds with finite outputs. Made by `from_arrays`; analyses also make one from a path or a run.

    Attributes:
        name: name of the method in tables.
        source: name of the sample in messages: the path, or `name`.
        task: description of the task.
        metric: the score.
        inputs: the arrays: predictions, and logits, labels and representations if given; or scores.
        distances: [L, S, S] for every measure of pairs.
        identities: [S] identity of each seed, to match seeds across samples; None for a seed without a number.
        reasons: [S] why a seed counts as failed, or None.
        diverged: seeds left out because their logits are not finite.
        nulls: for each measure of representations `null` and `null_shuffled`, as in `measures.Results`.
        warnings: warnings from measuring, one line each.
        notes: what a user should know of how it was read, one line each.
        examples: a key of the test examples, if one is known other than their labels.
        run: the run, if the sample comes from one.
    """

    name: str
    source: str
    task: str
    metric: str
    inputs: Inputs
    distances: Mapping[str, np.ndarray]
    identities: tuple[Identity, ...] | None
    reasons: tuple[str | None, ...]
    diverged: tuple[int, ...] = ()
    nulls: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    examples: str | None = None
    run: Run | None = None

    @classmethod
    def from_arrays(
        cls,
        name: str,
        *,
        logits: Any = None,
        predictions: Any = None,
        labels: Any = None,
        representations: Any = None,
        scores: Any = None,
        seeds: Sequence[int] | None = None,
        metric: str | None = None,
        task: str | None = None,
        only: Iterable[str] | None = None,
    ) -> "Sample":
        """Makes a sample from arrays in memory: numpy, JAX or PyTorch.

        Args:
            name: name of the method.
            logits: [S, N, C].
            predictions: [S, N] class indices or numbers, instead of logits.
            labels: [N] class indices or numbers; without them there are no scores.
            representations: [S, L, N, D], or S arrays [L, N, D].
            scores: [S] any score of which more is better, instead of labels.
            seeds: [S] numbers; seeds with the same number in other samples are compared in pairs.
            metric: the score, by default accuracy, or pearson of numbers; or what given scores are called.
            task: description of the task; samples with the same labels are on the same task.
            only: names of the measures needed; by default all but those on request (`Measure.default`).

        Returns:
            The sample, for `jaxstab.compare`, `validity`, `study_seeds` and `write_report`.

        Raises:
            InputError: an array is wrong; one line says which and where.

        Examples:
            >>> rng = np.random.default_rng(0)
            >>> labels = rng.integers(2, size=50)
            >>> votes = np.where(rng.random((8, 50)) < 0.8, labels, 1 - labels)
            >>> Sample.from_arrays("mine", predictions=votes, labels=labels, task="toy")
            Sample('mine' on toy: 8 seeds, 50 examples, mean accuracy 0.7475)
        """
        try:
            inputs = measures.check(logits, predictions, labels, representations, seeds, scores, metric)
            metric = metric or inputs.default_metric
            if metric not in measures.SCORES and scores is None:
                raise ValueError(measures.unknown_metric(metric))
            numbers = None if seeds is None else [int(seed) for seed in seeds]
            if numbers is not None and len(set(numbers)) < len(numbers):
                raise ValueError("seeds: a number occurs twice; samples are paired by these numbers")
            return _measured(name, name, task, metric, inputs, _of_numbers(numbers), _of_pairs(only, inputs))
        except ValueError as error:
            raise InputError(f"{name}: {error}") from None

    def __repr__(self) -> str:
        """One line."""
        scores = self.scores
        mean = "" if scores is None else f", mean {self.metric} {scores.mean():.4f}"
        examples = f", {self.inputs.examples} examples" if self.inputs.examples else ""
        return f"Sample({self.name!r} on {self.task}: {self.seeds} seeds{examples}{mean})"

    def plot(self, what: str | None = None, *, layer: int | None = None, ax: "Axes | None" = None) -> Any:
        """Draws the seeds on matplotlib axes and returns them; `jaxstab.plot` says what there is."""
        import jaxstab

        return jaxstab.plot(self, what, layer=layer, ax=ax)

    @property
    def seeds(self) -> int:
        """S."""
        return self.inputs.seeds

    @property
    def failed(self) -> NDArray[np.bool_]:
        """[S]."""
        return np.array([reason is not None for reason in self.reasons], bool)

    @cached_property
    def scores(self) -> Floats | None:
        """[S]; None without labels or given scores."""
        return measures.seed_scores(self.inputs, self.metric)

    @cached_property
    def examples_key(self) -> str:
        """A key that is equal for samples with the same labels, which count as the same test examples."""
        if self.examples is not None:
            return self.examples
        labels = self.inputs.labels
        kind = np.float64 if self.inputs.of == "numbers" else np.int32
        content = b"" if labels is None else np.ascontiguousarray(labels, kind).tobytes()
        return hashlib.sha256(content + str(self.inputs.examples).encode()).hexdigest()

    @property
    def usual(self) -> tuple[str, ...]:
        """The measures that analyses look at by default: the paper's seven, or their counterparts for numbers."""
        return USUAL[self.inputs.of]

    @property
    def names(self) -> list[str]:
        """The available measures; `mean`, the mean score, comes first."""
        scored = [] if self.scores is None else [MEAN]
        sets = [one.name for one in MEASURES.values() if one.shape == "set" and not one.lacks(self.inputs.available)]
        return scored + [name for name in MEASURES if name in self.distances or name in sets]

    def take(self, places: Sequence[int]) -> "Sample":
        """Returns a sample of the seeds at these positions."""
        places = [int(place) for place in places]
        return replace(
            self,
            inputs=self.inputs.take(places),
            distances=take_pairs(self.distances, places),
            identities=None if self.identities is None else tuple(self.identities[i] for i in places),
            reasons=tuple(self.reasons[i] for i in places),
        )

    def without_failed(self) -> "Sample":
        """Returns a sample of the seeds that did not fail."""
        return self.take(np.flatnonzero(~self.failed).tolist())

    def subsets(self, names: Sequence[str], masks: NDArray[np.bool_]) -> dict[str, Floats]:
        """Returns [L, R] for each measure, for subsets of seeds given as masks [R, S]; see `measures.subset_values`."""
        return measures.subset_values(names, masks, inputs=self.inputs, distances=self.distances, metric=self.metric)

    def rows(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Returns the value and interval of each measure, see `measures.rows`."""
        return measures.rows(names, self.inputs, self.distances, self.metric)

    def left_out(self, names: Sequence[str]) -> dict[str, tuple[float, Floats]]:
        """Returns each measure's value (last layer), and its leave-one-out values [S]."""
        found = measures.values_and_left_out(names, self.inputs, self.distances, self.metric)
        return {name: (float(values[-1]), without[-1]) for name, (values, without) in found.items()}

    def contributions(self, names: Sequence[str]) -> dict[str, Floats]:
        """Returns pseudo-values [S] of each measure, see `jaxstab.analysis.values.contributions`."""
        return contributions(names, self.inputs, self.distances, self.metric)


Source = str | Path | Run | Sample
Sources = Source | Sequence[Source] | Mapping[str, Source]


def as_sample(
    source: Source,
    name: str | None = None,
    *,
    metric: str | None = None,
    labels: str | Path | None = None,
    task: str | None = None,
    only: Iterable[str] | None = None,
) -> Sample:
    """Returns a sample from a run, from saved outputs of any framework, or from a sample.

    Args:
        source: a sample, a run, or a path as for `jaxstab.measure`, optionally written `NAME=PATH`.
        name: name in tables; default: that of the sample, directory or file.
        metric: the score; default: the run's own metric, otherwise accuracy.
        labels: file with the true labels, for a source that does not hold them.
        task: the task, for a source that holds several.
        only: names of the measures needed; by default all but those on request (`Measure.default`).

    Raises:
        InputError: something cannot be read or measured, or there are several tasks; the message names the file.
    """
    if isinstance(source, Sample):
        check_options(source, metric, labels, task)
        return source if name is None else replace(source, name=name)
    source, name = _named(source, name)
    return _of_outputs(load_outputs(source, labels, metric, task), name, only)


def _named(source: str | Path | Run, name: str | None) -> tuple[str | Path | Run, str | None]:
    """A source and its name, which may be written `NAME=PATH`."""
    if not isinstance(source, Run) and not Path(source).exists() and "=" in str(source):
        given, _, source = str(source).partition("=")
        name = name or given
    return source, name


def _of_outputs(outputs: Outputs, name: str | None, only: Iterable[str] | None) -> Sample:
    name = name or outputs.path.resolve().name.removesuffix(outputs.path.suffix if outputs.run is None else "")
    try:
        inputs = measures.check(**outputs.arrays, seeds=outputs.seeds, metric=outputs.metric)
        outputs = replace(outputs, metric=outputs.metric or inputs.default_metric)
        chosen = _of_pairs(only, inputs)
        if outputs.run is not None:
            return _of_run(outputs, outputs.run, name, inputs, chosen)
        identities = _of_numbers(outputs.seeds)
        assert outputs.metric is not None
        made = _measured(name, str(outputs.path), outputs.task, outputs.metric, inputs, identities, chosen)
        return replace(made, diverged=outputs.diverged, notes=outputs.notes, examples=outputs.examples)
    except ValueError as error:
        raise InputError(f"{outputs.path}: {error}") from None


def as_samples(
    sources: Sources,
    *,
    metric: str | None = None,
    labels: str | Path | None = None,
    task: str | None = None,
    only: Iterable[str] | None = None,
) -> list[Sample]:
    """Calls `as_sample` for every task of one source, of several, or of a mapping from names to sources."""
    if isinstance(sources, str | Path | Run | Sample):
        sources = [sources]
    by_name = sources.items() if isinstance(sources, Mapping) else [(None, one) for one in sources]
    samples: list[Sample] = []
    for name, one in by_name:
        if isinstance(one, Sample):
            samples.append(as_sample(one, name, metric=metric, labels=labels, task=task))
        else:
            source, name = _named(one, name)
            samples += [_of_outputs(outputs, name, only) for outputs in load_tasks(source, labels, metric, task)]
    return samples


def check_options(sample: Sample, metric: str | None, labels: str | Path | None, task: str | None) -> None:
    """Raises InputError if an option is given that applies to paths only."""
    if metric not in (None, sample.metric) or task not in (None, sample.task) or labels is not None:
        raise InputError(f"{sample.source}: a sample has its metric, labels and task; give them to Sample.from_arrays")


def why_failed(outputs: Outputs, inputs: Inputs) -> tuple[str | None, ...]:
    """Returns why each seed in `inputs` failed, or None. For a run, by its last parameters and training loss."""
    run, metric = outputs.run, outputs.metric or inputs.default_metric
    if run is None:
        return _why_failed(inputs, metric)
    reasons = failures(run.final_logits, run.labels, metric, run.curves["train_loss"], run.info.guess_loss)
    of_run = dict(zip(run.seeds.tolist(), reasons, strict=True))
    return tuple(of_run[int(seed)] for seed in inputs.names)


def _why_failed(inputs: Inputs, metric: str) -> tuple[str | None, ...]:
    if inputs.predictions is None or inputs.labels is None:
        return (None,) * inputs.seeds
    logits = inputs.logits
    if logits is None:  # of classes: those of numbers always have logits
        logits = np.eye(inputs.classes, dtype=np.float32)[inputs.predictions]
    return tuple(failures(logits, inputs.labels, metric))


def _of_pairs(only: Iterable[str] | None, inputs: Inputs) -> list[measures.Measure]:
    return [one for one in measures.select(only, inputs.of) if one.shape == "pairs"]


def _measured(
    name: str,
    source: str,
    task: str | None,
    metric: str,
    inputs: Inputs,
    identities: tuple[Identity, ...] | None,
    chosen: Sequence[measures.Measure],
) -> Sample:
    results = measures.measure_inputs(inputs, metric, chosen)
    nulls = {key: row for key, row in results.items() if "null" in row}
    task = task or (f"{inputs.examples} examples" if inputs.examples else "given scores")
    reasons = _why_failed(inputs, metric)
    return Sample(
        name,
        source,
        task,
        metric,
        inputs,
        results.distances,
        identities,
        reasons,
        nulls=nulls,
        warnings=tuple(results.warnings),
    )


def _of_run(outputs: Outputs, run: Run, name: str, inputs: Inputs, chosen: Sequence[measures.Measure]) -> Sample:
    triples = {triple.seed: triple for triple in run.config.seeds.resolve()}
    recorded = {one.name: run.distances[one.name] for one in chosen if one.name in run.distances}
    others = [one for one in chosen if one.name not in recorded and not one.lacks(inputs.available)]
    found = measures.measure_inputs(inputs, outputs.metric, others) if others else measures.Results()
    return Sample(
        name,
        str(outputs.path),
        task=Path(run.config.task.source.rpartition(":")[2]).name,
        metric=outputs.metric or inputs.default_metric,
        inputs=inputs,
        distances=recorded | found.distances,
        identities=tuple(Identity.of(triples[int(seed)]) for seed in inputs.names),
        reasons=why_failed(outputs, inputs),
        diverged=outputs.diverged,
        nulls={key: row for key, row in [*run.measures["measures"].items(), *found.items()] if "null" in row},
        warnings=(*run.measures["warnings"], *found.warnings),
        run=run,
    )


def _of_numbers(numbers: Sequence[int] | None) -> tuple[Identity, ...] | None:
    """Identities of seeds that are known by a number only."""
    return None if numbers is None else tuple(Identity(number, number, number) for number in numbers)
