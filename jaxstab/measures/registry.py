"""The registry of all measures of instability: their names, inputs, units and meaning."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import jax

from jaxstab.measures import number_predictions, prediction

Granularity = Literal["score", "prediction", "representation"]


@dataclass(frozen=True)
class Measure:
    """A row of the registry.

    Attributes:
        name: name in files, on the command line and in Python.
        label: what people call it, in figures, on pages and in papers.
        granularity: what seeds are compared by: scores, predictions or representations.
        shape: `pairs` for a matrix [S, S], whose mean over pairs of different seeds is the value; `set` for one number
            for all seeds together.
        needs: names of the arrays that it is computed from.
        unit: unit of its values.
        low: smallest possible value.
        high: largest possible value; `inf` where there is none.
        meaning: its meaning in one line.
        source: the publication that defines it.
        of: what predictions must be: classes, or the numbers of a regression; None for both.
        larger_is_less_stable: whether larger values mean less stable seeds.
        default: whether it is computed if no measures are named; others are computed on request.
        compute: for `pairs`, a function from arrays on the device to [S, S]; for `set`, from arrays and `mask` [S] to a
            scalar. None for representations, because `jaxstab.measures.representation.distances` computes all of them,
            and for what costs little in numpy (`jaxstab.measures.subset_values`).
        grows: whether the value depends on the number of seeds.
    """

    name: str
    label: str
    granularity: Granularity
    shape: Literal["pairs", "set"]
    needs: frozenset[str]
    unit: str
    low: float
    high: float
    meaning: str
    source: str
    of: Literal["classes", "numbers"] | None = None
    larger_is_less_stable: bool = True
    default: bool = True
    compute: Callable[..., jax.Array] | None = None
    grows: bool = False

    def lacks(self, available: Collection[str]) -> list[str]:
        """Returns what it needs and is not there: arrays, or predictions that are `classes` or `numbers`.

        Scores may be given themselves.
        """
        if self.granularity == "score" and "scores" in available:
            return []
        arrays = self.needs - set(available)
        return sorted(arrays) or [kind for kind in [self.of] if kind is not None and kind not in available]

    def as_json(self) -> dict[str, Any]:
        """The row as plain values; an infinite end of the range is None."""
        low, high = (end if math.isfinite(end) else None for end in (self.low, self.high))
        names = ("name", "label", "granularity", "shape", "of", "unit", "meaning", "source", "larger_is_less_stable")
        found = {name: getattr(self, name) for name in (*names, "default")}
        return {**found, "range": [low, high], "needs": sorted(self.needs)}


def _predictions(
    name: str,
    label: str,
    shape: Literal["pairs", "set"],
    needs: str,
    compute: Callable[..., jax.Array] | None,
    of: Literal["classes", "numbers"] | None = "classes",
    **how: Any,
) -> Measure:
    return Measure(name, label, "prediction", shape, frozenset(needs.split()), compute=compute, of=of, **how)


def _representations(
    name: str, label: str, meaning: str, source: str, high: float = 1, default: bool = True
) -> Measure:
    needs = frozenset({"representations"})
    return Measure(name, label, "representation", "pairs", needs, "1", 0, high, meaning, source, default=default)


_share: dict[str, Any] = {"unit": "share", "low": 0, "high": 1}

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure(
            "sd",
            "SD of scores",
            "score",
            "set",
            frozenset({"predictions", "labels"}),
            "score",
            0,
            math.inf,
            "standard deviation of the score over seeds",
            "denominator S - 1",
        ),
        _predictions(
            "pairwise_disagreement",
            "prediction disagreement",
            "pairs",
            "predictions",
            lambda a: prediction.pairwise_disagreement(a.predictions),
            **_share,
            meaning="share of examples on which two seeds predict different classes",
            source="Milani Fard et al. (2016)",
        ),
        _predictions(
            "fleiss_kappa",
            "1 - Fleiss' kappa",
            "set",
            "predictions",
            None,
            unit="1 - kappa",
            low=0,
            high=2,
            meaning="disagreement, where 1 is that of independent votes with the same class shares",
            source="Fleiss (1971)",
        ),
        _predictions(
            "jsd",
            "Jensen-Shannon divergence",
            "pairs",
            "logits",
            lambda a: prediction.jsd(a.logits),
            unit="nats",
            low=0,
            high=math.log(2),
            meaning="Jensen-Shannon divergence of two seeds' class probabilities",
            source="Lin (1991)",
        ),
        _predictions(
            "cohen_kappa",
            "1 - Cohen's kappa",
            "pairs",
            "predictions",
            lambda a: prediction.cohen_kappa(a.predictions, a.classes),
            unit="1 - kappa",
            low=0,
            high=2,
            meaning="disagreement of two seeds, where 1 is that of independent votes with their class shares",
            source="Cohen (1960)",
        ),
        _predictions(
            "krippendorff_alpha",
            "1 - Krippendorff's alpha",
            "set",
            "predictions",
            None,
            unit="1 - alpha",
            low=0,
            high=2,
            meaning="as fleiss_kappa, corrected for the finite number of votes",
            source="Krippendorff (2011)",
        ),
        _predictions(
            "normalised_disagreement",
            "normalised disagreement",
            "pairs",
            "predictions labels",
            lambda a: prediction.normalised_disagreement(a.predictions, a.labels, a.classes),
            **_share,
            meaning="disagreement between the least (0) and the most (1) that the two accuracies allow",
            source="bounds in docs/measures.md",
        ),
        _predictions(
            "stable_fraction",
            "stable examples",
            "set",
            "predictions",
            None,
            **_share,
            meaning="share of examples on which all seeds agree; smaller is less stable",
            source="complement of Marx et al. (2020), def. 2",
            larger_is_less_stable=False,
            grows=True,
        ),
        _predictions(
            "ambiguity",
            "ambiguity",
            "set",
            "predictions labels",
            None,
            **_share,
            meaning="share of examples that some seed about as good would decide otherwise",
            source="Marx et al. (2020), def. 2",
            grows=True,
        ),
        _predictions(
            "discrepancy",
            "discrepancy",
            "set",
            "predictions labels",
            None,
            **_share,
            meaning="largest disagreement with a seed about as good",
            source="Marx et al. (2020), def. 3",
            grows=True,
        ),
        _predictions(
            "generalised_jsd",
            "Jensen-Shannon of all seeds",
            "set",
            "logits",
            lambda a, mask: prediction.generalised_jsd(a.logits, mask),
            unit="nats",
            low=0,
            high=math.inf,
            meaning="divergence of all seeds' class probabilities from their mean",
            source="Lin (1991), eq. 5.1",
            grows=True,
        ),
        _predictions(
            "calibration_spread",
            "SD of calibration errors",
            "set",
            "logits labels",
            None,
            unit="share",
            low=0,
            high=math.inf,
            meaning="standard deviation over seeds of the expected calibration error",
            source="Guo et al. (2017), eq. 3",
        ),
        _predictions(
            "ensemble_gain",
            "gain of the ensemble",
            "set",
            "logits labels",
            lambda a, mask: prediction.ensemble_gain(a.logits, a.labels, a.metric, mask),
            of=None,
            unit="score",
            low=-math.inf,
            high=math.inf,
            meaning="what averaging the seeds' probabilities, or numbers, gains over their mean score",
            source="Lakshminarayanan et al. (2017)",
            grows=True,
        ),
        _predictions(
            "prediction_sd",
            "SD of predictions",
            "set",
            "predictions",
            None,
            of="numbers",
            unit="label",
            low=0,
            high=math.inf,
            meaning="standard deviation over seeds of an example's prediction, averaged over examples",
            source="denominator S - 1",
        ),
        _predictions(
            "mean_absolute_disagreement",
            "mean absolute disagreement",
            "pairs",
            "predictions",
            lambda a: number_predictions.mean_absolute_disagreement(a.predictions),
            of="numbers",
            unit="label",
            low=0,
            high=math.inf,
            meaning="absolute difference between two seeds' predictions, averaged over examples",
            source="definition in docs/measures.md",
        ),
        _predictions(
            "rank_disagreement",
            "rank disagreement",
            "pairs",
            "predictions",
            lambda a: number_predictions.rank_disagreement(a.predictions),
            of="numbers",
            unit="1 - r",
            low=0,
            high=2,
            meaning="1 - Spearman's rank correlation of two seeds' predictions, where 1 is unrelated",
            source="Spearman (1904)",
        ),
        _predictions(
            "icc",
            "1 - ICC(2,1)",
            "set",
            "predictions",
            None,
            of="numbers",
            unit="1 - ICC",
            low=0,
            high=math.inf,
            meaning="share of the predictions' variance that is not the examples', where 1 is unrelated seeds",
            source="Shrout & Fleiss (1979)",
        ),
        _representations(
            "cka", "1 - CKA", "1 - debiased linear CKA", "Kornblith et al. (2019); Song et al. (2012), eq. 4", 2
        ),
        _representations(
            "op",
            "1 - Procrustes",
            "1 - similarity after the best rotation (orthogonal Procrustes)",
            "Ding et al. (2021)",
        ),
        _representations(
            "svcca",
            "1 - SVCCA",
            "1 - mean canonical correlation of the leading directions (99 %)",
            "Raghu et al. (2017)",
        ),
        _representations(
            "cka_biased",
            "1 - biased CKA",
            "1 - linear CKA with its bias towards 0 where N < D",
            "Kornblith et al. (2019), eq. 3",
        ),
        _representations(
            "pwcca",
            "1 - PWCCA",
            "1 - canonical correlations weighted by their share in the features",
            "Morcos et al. (2018)",
        ),
        _representations(
            "rsa", "1 - RSA", "1 - rank correlation of the distances between examples", "Kriegeskorte et al. (2008)", 2
        ),
        _representations(
            "distance_correlation",
            "1 - distance correlation",
            "1 - bias-corrected squared distance correlation",
            "Szekely & Rizzo (2014)",
            2,
        ),
        _representations(
            "knn_jaccard",
            "neighbours not shared",
            "share of nearest neighbours (10) that are not the same",
            "Klabunde et al. (2025)",
        ),
        _representations(
            "rsa_cosine",
            "1 - RSA, cosine",
            "rsa by cosine instead of Euclidean distance",
            "Kriegeskorte et al. (2008)",
            2,
            default=False,
        ),
        _representations(
            "rsa_correlation",
            "1 - RSA, correlation",
            "rsa by correlation of examples over features",
            "Kriegeskorte et al. (2008)",
            2,
            default=False,
        ),
        _representations(
            "knn_jaccard_cosine",
            "neighbours, cosine",
            "knn_jaccard by cosine instead of Euclidean distance",
            "Klabunde et al. (2025)",
            default=False,
        ),
        _representations(
            "knn_jaccard_correlation",
            "neighbours, correlation",
            "knn_jaccard by correlation of examples over features",
            "Klabunde et al. (2025)",
            default=False,
        ),
    )
}


def select(names: Any = None, of: Literal["classes", "numbers"] = "classes") -> list[Measure]:
    """Returns measures by name, in the order of the registry; without names those that are computed by default.

    Args:
        names: names of measures.
        of: what predictions are, which decides what is computed by default.

    Raises:
        ValueError: an unknown name.
    """
    if names is None:
        return [measure for measure in MEASURES.values() if measure.default and measure.of in (None, of)]
    for name in names:
        if name not in MEASURES:
            raise ValueError(f"no measure {name!r}; there are {', '.join(MEASURES)}")
    return [measure for measure in MEASURES.values() if measure.name in set(names)]
