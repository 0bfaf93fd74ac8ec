"""Measures of instability: arrays in, arrays out. Imports nothing else of jaxstab.

Axes: S seeds, L layers, N examples, C classes, D features.
"""

from jaxstab.measures.class_scores import by_class, confusion
from jaxstab.measures.compute import add_layers, measure_inputs, prepare, represented_examples
from jaxstab.measures.compute import measure_arrays as all
from jaxstab.measures.forecast import measuring_seconds
from jaxstab.measures.inputs import Inputs, check
from jaxstab.measures.intervals import explain, rows, unseen
from jaxstab.measures.joint import joint_difference, joint_mean
from jaxstab.measures.number_predictions import (
    example_spread,
    icc,
    mean_absolute_disagreement,
    prediction_sd,
    rank_disagreement,
)
from jaxstab.measures.number_scores import number_score
from jaxstab.measures.performance import (
    METRICS,
    SCORES,
    add_score,
    calibration_error,
    calibration_spread,
    contributions_of_examples,
    majority_score,
    of_numbers,
    score,
    score_of_logits,
    scores,
    sd,
)
from jaxstab.measures.performance import unknown as unknown_metric
from jaxstab.measures.prediction import (
    ambiguity,
    cohen_kappa,
    discrepancy,
    ensemble_gain,
    example_disagreement,
    fleiss_kappa,
    generalised_jsd,
    jsd,
    krippendorff_alpha,
    normalised_disagreement,
    pairwise_disagreement,
    stable_fraction,
)
from jaxstab.measures.registry import MEASURES, Measure, select
from jaxstab.measures.remaining import (
    Remaining,
    remaining_sd,
    remaining_sd_of_difference,
    variance_components,
)
from jaxstab.measures.representation import distances
from jaxstab.measures.resampling import (
    chi_square_interval,
    jackknife_interval,
    leave_one_out,
    mean_over_pairs,
    sd_interval,
)
from jaxstab.measures.results import (
    Interval,
    Results,
    Tabular,
    as_plain,
    nulls_of,
    plain,
    plain_or_none,
    say_remaining,
)
from jaxstab.measures.subsets import (
    MEAN,
    STANDARD_DEVIATIONS,
    all_then_without_each,
    seed_scores,
    subset_values,
    values_and_left_out,
)
from jaxstab.measures.subspaces import MAX_PAIRS

__all__ = [
    "MAX_PAIRS",
    "MEAN",
    "MEASURES",
    "METRICS",
    "SCORES",
    "STANDARD_DEVIATIONS",
    "Inputs",
    "Interval",
    "Measure",
    "Remaining",
    "Results",
    "Tabular",
    "add_layers",
    "add_score",
    "all",
    "all_then_without_each",
    "ambiguity",
    "as_plain",
    "by_class",
    "calibration_error",
    "calibration_spread",
    "check",
    "chi_square_interval",
    "cohen_kappa",
    "confusion",
    "contributions_of_examples",
    "discrepancy",
    "distances",
    "ensemble_gain",
    "example_disagreement",
    "example_spread",
    "explain",
    "fleiss_kappa",
    "generalised_jsd",
    "icc",
    "jackknife_interval",
    "joint_difference",
    "joint_mean",
    "jsd",
    "krippendorff_alpha",
    "leave_one_out",
    "majority_score",
    "mean_absolute_disagreement",
    "mean_over_pairs",
    "measure_inputs",
    "measuring_seconds",
    "normalised_disagreement",
    "nulls_of",
    "number_score",
    "of_numbers",
    "pairwise_disagreement",
    "plain",
    "plain_or_none",
    "prediction_sd",
    "prepare",
    "rank_disagreement",
    "remaining_sd",
    "remaining_sd_of_difference",
    "represented_examples",
    "rows",
    "say_remaining",
    "score",
    "score_of_logits",
    "scores",
    "sd",
    "sd_interval",
    "seed_scores",
    "select",
    "stable_fraction",
    "subset_values",
    "unknown_metric",
    "unseen",
    "values_and_left_out",
    "variance_components",
]
