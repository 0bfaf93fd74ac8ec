"""Analyses of measured seeds: comparison, validity, how many seeds. They use scores and distances, never a model."""
