"""Figures of the scores of many seeds."""

import numpy as np
import pytest

from jaxstab.report import dots, drawing, figures


def _seeds(scores, failed, **which):
    return dots.Seeds("test", scores, range(len(scores)), failed, **which)


def test_many_seeds_are_a_density_and_bands():
    scores = np.random.default_rng(1).normal(0.8, 0.02, 150)
    failed = scores < np.sort(scores)[4]
    figure = dots.seed_dots([("accuracy", [_seeds(scores, failed, method="a", place=1)])])
    violin, bad = figure.axes[0].collections
    widths, points = np.ptp(violin.get_paths()[0].vertices, axis=0), violin.get_paths()[0].vertices
    assert widths[0] == pytest.approx(np.ptp(scores[~failed]))
    assert abs(points[points[:, 1].argmax(), 0] - 0.8) < 0.01  # widest where most scores are
    assert len(bad.get_offsets()) == 4
    svg = drawing.to_svg(figure, "x", "t")
    low, median, high = np.quantile(scores[~failed], [0.025, 0.5, 0.975])
    assert f"<title>test: 146 seeds, median {median:.4f}, 95 % from {low:.4f} to {high:.4f}</title>" in svg
    lines = scores[:, None] + np.linspace(0, 0.1, 3)
    curves = figures.seed_curves(lines, ylabel="score", names=range(150), failed=failed).axes[0]
    everyone = curves.collections[0].get_paths()[0].vertices
    assert np.ptp(everyone[everyone[:, 0] == 1, 1]) == pytest.approx(np.ptp(scores[~failed]))
    assert len(curves.lines) == 4 + 1  # failed seeds, and the median
    many, few = _seeds(scores, failed), _seeds(scores[:5], failed[:5])
    assert dots.shown_as([many], "score") == "Density of the scores of all seeds; the line is the mean."
    assert "Test score of each seed, or the density of many seeds; the" in dots.shown_as([many, few], "test score")
    equal = dots.seed_dots([("accuracy", [_seeds(np.ones(150), np.zeros(150, bool))])])
    assert len(equal.axes[0].collections[0].get_offsets()) == 150
