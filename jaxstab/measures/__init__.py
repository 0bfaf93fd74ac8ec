"""Measures of instability: arrays in, arrays out. Imports nothing else of jaxstab.

Axes: S seeds, N examples, C classes.
"""

from jaxstab.measures.performance import majority_score, score, sd
from jaxstab.measures.prediction import example_disagreement, fleiss_kappa, jsd, pairwise_disagreement

__all__ = ["example_disagreement", "fleiss_kappa", "jsd", "majority_score", "pairwise_disagreement", "score", "sd"]
