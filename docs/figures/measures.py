"""Draws the pictures of docs/measures.md from simulated examples: `python docs/figures/measures.py [DIRECTORY]`.

Needs matplotlib besides jaxstab. Writes measures-*.svg beside this file, or into DIRECTORY, in about a minute.
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("svg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxstab import measures
from jaxstab.measures import MEASURES

# Okabe & Ito's colours, which colour-blind readers can tell apart.
BLUE, RED, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PINK, BLACK, GREY = "#56B4E9", "#CC79A7", "#000000", "#666666"
REPRESENTATION = tuple(name for name, one in MEASURES.items() if one.default and one.granularity == "representation")
STYLES = dict(
    zip(
        REPRESENTATION,
        [(BLUE, "o"), (RED, "s"), (GREEN, "^"), (SKY, "D"), (ORANGE, "v"), (BLACK, "P"), (PINK, "X"), (GREY, "*")],
        strict=True,
    )
)
FEATURES = 128

plt.rcParams.update(
    {
        "font.size": 9.5,
        "axes.titlesize": 10,
        "axes.labelsize": 9.5,
        "legend.fontsize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#E4E4E4",
        "axes.axisbelow": True,
        "lines.linewidth": 1.6,
        "lines.markersize": 4.5,
        "legend.frameon": False,
        "svg.hashsalt": "jaxstab",
        "figure.constrained_layout.use": True,
    }
)


def simulated_logits(seeds: int, own: float, examples: int = 300, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Simulates classifiers that know as much as each other, whatever they share.

    Args:
        seeds: S.
        own: share, 0 to 1, of the variance of each seed's errors that it has to itself; the rest is common to all.
        examples: N.
        classes: C.

    Returns:
        logits [S, N, C] and labels [N]; every seed is right about 80 % of the time.
    """
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, examples)
    common = rng.standard_normal((examples, classes))
    each = rng.standard_normal((seeds, examples, classes))
    return 1.7 * np.eye(classes)[labels] + np.sqrt(1 - own) * common + np.sqrt(own) * each, labels


def simulated_representations(seeds: int, owns: np.ndarray, examples: int) -> np.ndarray:
    """Simulates representations whose variance falls as 1, 1/2, 1/3, ... over 128 directions, as hidden states' does.

    Args:
        seeds: S.
        owns: [L] share of the variance that a seed has to itself; a layer each.
        examples: N.

    Returns:
        [S, L, N, 128], each seed rotated at random.
    """
    rng = np.random.default_rng(0)
    scales = np.arange(1, FEATURES + 1) ** -0.5
    common = rng.standard_normal((examples, FEATURES))
    found = []
    for _ in range(seeds):
        each = rng.standard_normal((examples, FEATURES))
        rotation = np.linalg.qr(rng.standard_normal((FEATURES, FEATURES)))[0]
        found.append([(np.sqrt(1 - own) * common + np.sqrt(own) * each) * scales @ rotation for own in owns])
    return np.asarray(found, np.float32)


def pair_means(representations: np.ndarray) -> dict[str, float]:
    """Measures representations [S, N, D]: the mean over pairs of every measure."""
    found = measures.distances(representations.astype(np.float32), REPRESENTATION)
    return {name: float(measures.mean_over_pairs(np.asarray(matrix))) for name, matrix in found.items()}


def predictions_figure() -> Figure:
    """Every measure of scores and predictions, from equal seeds to independent errors."""
    owns = np.array([0, 0.01, 0.03, 0.06, 0.1, 0.2, 0.35, 0.5, 0.75, 1])
    found = []
    for own in owns:
        logits, labels = simulated_logits(10, own)
        found.append(measures.all(logits=logits, labels=labels))
    names = [name for name, one in MEASURES.items() if one.granularity != "representation" and one.of != "numbers"]
    figure, axes = plt.subplots(4, 4, figsize=(10, 9.4), sharex=True)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.06)
    panels = list(axes.flat)

    def draw(axis: Axes, rows: list[dict], value: str, title: str, unit: str) -> None:
        ends = np.array([row["interval"] for row in rows])
        axis.fill_between(owns, ends[:, 0], ends[:, 1], color=SKY, alpha=0.4, linewidth=0)
        axis.plot(owns, [row[value] for row in rows], color=BLUE, marker="o", markersize=3)
        axis.set_title(title, fontsize=9.5)
        axis.set_ylabel(unit)

    draw(panels[0], [one.scores for one in found], "mean", "mean score (no measure)", "accuracy")
    panels[0].set_ylim(0.7, 0.9)
    units = {"score": "accuracy", "share": "share of examples"}
    own_units = {"calibration_spread": "calibration error", "normalised_disagreement": "share of the possible"}
    for axis, name in zip(panels[1:], names, strict=False):
        unit = MEASURES[name].unit
        draw(axis, [one[name] for one in found], "value", name, own_units.get(name, units.get(unit, unit)))
        if name == "ensemble_gain":
            axis.axhline(0, color=GREY, linewidth=0.8)
        else:
            axis.set_ylim(bottom=0)
    for axis in panels[10:14]:
        axis.set_xlabel("own share of errors")
        axis.tick_params(labelbottom=True)
    for axis in panels[14:]:
        axis.axis("off")
    text = (
        "10 simulated seeds, 300 examples,\n3 classes; each seed is right on\nabout 80 % throughout.\n\n"
        "Left: all seeds equal.\nRight: errors independent.\n\nLine: value. Band: 95 % interval."
    )
    panels[14].text(0, 0.95, text, va="top", linespacing=1.4, transform=panels[14].transAxes, in_layout=False)
    figure.suptitle("Seeds drift apart at the same mean score: what each measure of predictions says", fontsize=12)
    return figure


def representations_figure() -> Figure:
    """Every measure of representations, from equal seeds to unrelated ones, for two numbers of examples."""
    owns = np.array([0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1])
    figure, axes = plt.subplots(2, 4, figsize=(10, 5.6), sharex=True, sharey=True)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.06)
    for examples, color, marker in ((139, RED, "s"), (600, BLUE, "o")):
        found = measures.all(representations=simulated_representations(8, owns, examples))
        for axis, name in zip(axes.flat, REPRESENTATION, strict=True):
            row = found[name]
            low, high = np.array(row["layer_intervals"]).T
            axis.fill_between(owns, low, high, color=color, alpha=0.25, linewidth=0)
            axis.plot(owns, row["layers"], color=color, marker=marker, markersize=3, label=f"N = {examples}: value")
            axis.plot(owns, row["null_shuffled"], color=color, linestyle="--", linewidth=1.2, label="shuffled null")
            axis.axhline(row["null"], color=color, linestyle=":", linewidth=1.6, label="Gaussian null")
            axis.set_title(name)
    axes[0, 0].set_ylim(0, 1.05)
    for axis in axes[:, 0]:
        axis.set_ylabel("instability (no unit)")
    for axis in axes[1]:
        axis.set_xlabel("own share of variance")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=2, loc="outside lower center")
    figure.suptitle(
        "Noise replaces what 8 seeds share (D = 128): where a measure ends depends on N and on the null",
        fontsize=12,
    )
    return figure


def nulls_figure() -> Figure:
    """What independent data give, by the ratio of examples to features."""
    features, ratios = 64, np.array([0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 5, 10, 20])
    rng = np.random.default_rng(0)
    found = [pair_means(rng.standard_normal((6, int(ratio * features), features))) for ratio in ratios]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    groups = (
        (
            ("cka", "rsa", "distance_correlation", "knn_jaccard"),
            "Near 1 for unrelated data (knn_jaccard: unless N is small)",
        ),
        (("cka_biased", "op", "svcca", "pwcca"), "These fall towards 0 with few examples"),
    )
    for axis, (names, title) in zip(axes, groups, strict=True):
        axis.axvline(1, color=GREY, linewidth=0.8)
        for name in names:
            color, marker = STYLES[name]
            how = {"linestyle": "--", "markerfacecolor": "none"} if name == "distance_correlation" else {}
            axis.plot(ratios, [one[name] for one in found], color=color, marker=marker, label=name, **how)
        axis.set_xscale("log")
        axis.set_xticks([0.25, 0.5, 1, 2, 5, 10, 20], ["¼", "½", "1", "2", "5", "10", "20"])
        axis.minorticks_off()
        axis.set_xlabel("examples per feature, N / D (D = 64)")
        axis.set_title(title)
    axes[0].set_ylim(0, 1.1)
    axes[0].set_ylabel("value for independent normal data")
    axes[0].legend(loc="lower right")
    axes[1].legend(loc="upper left")
    figure.suptitle("The value of seeds that have nothing in common", fontsize=12)
    return figure


def blind_spots_figure() -> Figure:
    """Six examples, each with a measure that does not see, or sees double."""
    figure, axes = plt.subplots(3, 2, figsize=(10, 12))
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.1)
    _class_balance(axes[0, 0])
    _same_score(axes[0, 1])
    _sharpness(axes[1, 0])
    _number_of_seeds(axes[1, 1])
    _large_direction(axes[2, 0])
    _groups(axes[2, 1])
    return figure


def _class_balance(axis: Axes) -> None:
    """Independent votes for two classes, from balanced to skewed."""
    rng = np.random.default_rng(0)
    shares = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98])
    found = [
        measures.all(
            predictions=(rng.random((10, 1000)) > share).astype(int), only=["pairwise_disagreement", "fleiss_kappa"]
        )
        for share in shares
    ]
    for name, color, marker in (("fleiss_kappa", BLUE, "o"), ("pairwise_disagreement", RED, "s")):
        axis.plot(shares, [one[name]["value"] for one in found], color=color, marker=marker, label=name)
    axis.set(ylim=(0, 1.1), xlabel="share of votes for the larger class", ylabel="1 - kappa, or share of examples")
    axis.set_title("Independent votes look stable to pairwise_disagreement\nwhere one class is rare")
    axis.legend(loc="center left", bbox_to_anchor=(0, 0.68))


def _same_score(axis: Axes) -> None:
    """Two classes; every seed has exactly 60 errors of 300, of which some are its own and the rest common."""
    rng = np.random.default_rng(0)
    labels, wrong = np.arange(300) % 2, 60
    owns, found = np.arange(0, wrong + 1, 6), []
    for own in owns:
        predictions = np.tile(labels, (10, 1))
        predictions[:, : wrong - own] ^= 1
        for one in predictions:
            one[rng.choice(np.arange(wrong - own, 300), own, replace=False)] ^= 1
        found.append(measures.all(predictions=predictions, labels=labels))
    for name, color, marker in (
        ("normalised_disagreement", GREEN, "^"),
        ("fleiss_kappa", BLUE, "o"),
        ("pairwise_disagreement", RED, "s"),
        ("sd", BLACK, "D"),
    ):
        axis.plot(owns / wrong, [one[name]["value"] for one in found], color=color, marker=marker, label=name)
    axis.set(
        ylim=(-0.02, 1), xlabel="share of its 60 errors of 300 that a seed has to itself", ylabel="value, in its unit"
    )
    axis.set_title("Every seed scores 0.8: sd stays 0,\nwhile seeds come to err on different examples")
    axis.legend(loc="upper left")


def _sharpness(axis: Axes) -> None:
    """The same predictions with logits times a factor."""
    logits, labels = simulated_logits(10, 0.3)
    factors = np.logspace(-1, 2, 10)
    found = [
        measures.all(logits=logits * factor, labels=labels, only=["jsd", "pairwise_disagreement"]) for factor in factors
    ]
    axis.plot(factors, [one["jsd"]["value"] for one in found], color=GREEN, marker="^", label="jsd (nats)")
    flips = found[0]["pairwise_disagreement"]["value"]
    axis.axhline(flips, color=RED, label="pairwise_disagreement (share)")
    axis.axhline(flips * np.log(2), color=GREEN, linestyle="--", label="ln 2 · pairwise_disagreement")
    axis.set(xscale="log", ylim=(0, 0.33), xlabel="factor on all logits", ylabel="value, in its unit")
    axis.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    axis.minorticks_off()
    axis.set_title(
        "Predictions do not change, yet jsd follows the confidence;\nat full confidence it only counts flips"
    )
    axis.legend(loc="upper left")


def _number_of_seeds(axis: Axes) -> None:
    """The same simulated seeds, more and more of them."""
    logits, labels = simulated_logits(40, 0.3)
    counts = [2, 3, 5, 8, 12, 20, 40]
    found = [measures.all(logits=logits[:count], labels=labels) for count in counts]
    for name, color, marker in (
        ("stable_fraction", SKY, "D"),
        ("ambiguity", ORANGE, "v"),
        ("discrepancy", PINK, "X"),
        ("krippendorff_alpha", BLUE, "o"),
        ("pairwise_disagreement", RED, "s"),
        ("generalised_jsd", GREEN, "^"),
    ):
        axis.plot(counts, [one[name]["value"] for one in found], color=color, marker=marker, label=name)
    axis.set(xscale="log", ylim=(0, 1.25), xlabel="number of seeds", ylabel="value, in its unit")
    axis.set_yticks(np.arange(0, 1.1, 0.2))
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.minorticks_off()
    axis.set_title("Only the number of seeds changes: stable_fraction\nand ambiguity keep moving, averages settle")
    axis.legend(loc="upper center", ncols=2)


def _large_direction(axis: Axes) -> None:
    """One direction is shared and grows; the other 127 are unrelated."""
    rng = np.random.default_rng(0)
    shares = np.array([0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])
    common, each = rng.standard_normal((400, 1)), rng.standard_normal((6, 400, FEATURES - 1))
    found = []
    for share in shares:
        large = np.sqrt(share * (FEATURES - 1) / (1 - share)) * common
        found.append(pair_means(np.concatenate([np.broadcast_to(large, (6, 400, 1)), each], axis=-1)))
    for name, (color, marker) in STYLES.items():
        axis.plot(shares, [one[name] for one in found], color=color, marker=marker, label=name)
    axis.set(ylim=(0, 1.38), xlabel="share of variance of the one shared direction", ylabel="instability (no unit)")
    axis.set_yticks(np.arange(0, 1.1, 0.2))
    axis.set_title("One of 128 directions is shared, the others unrelated:\nif it is a large one, cka sees little else")
    axis.legend(loc="upper center", ncols=3, columnspacing=1)


def _groups(axis: Axes) -> None:
    """Ten groups of 40 examples that lie far apart: either the groups move, or the examples within them."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(10), 40)
    inside = rng.standard_normal((400, FEATURES))
    centers = 10 * rng.standard_normal((10, FEATURES))
    moved = pair_means(np.stack([inside + 10 * rng.standard_normal((10, FEATURES))[group] for _ in range(6)]))
    mixed = pair_means(np.stack([centers[group] + rng.standard_normal((400, FEATURES)) for _ in range(6)]))
    places = np.arange(len(REPRESENTATION))
    axis.barh(
        places - 0.2,
        [moved[name] for name in REPRESENTATION],
        0.38,
        color=BLUE,
        label="groups lie elsewhere, inside the same",
    )
    axis.barh(
        places + 0.2,
        [mixed[name] for name in REPRESENTATION],
        0.38,
        color=ORANGE,
        label="groups stay, inside unrelated",
    )
    axis.set_yticks(places, REPRESENTATION)
    axis.set_ylim(len(places) - 0.4, -1.9)
    axis.grid(visible=False, axis="y")
    axis.set(xlim=(0, 1.0), xlabel="instability (no unit)")
    axis.set_title("Ten groups of examples: rsa sees how groups lie,\nknn_jaccard what lies inside them")
    axis.legend(loc="upper right")


def main() -> None:
    """Draws all pictures."""
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    pictures = {
        "predictions": predictions_figure,
        "representations": representations_figure,
        "nulls": nulls_figure,
        "blind-spots": blind_spots_figure,
    }
    for name, draw in pictures.items():
        path = directory / f"measures-{name}.svg"
        draw().savefig(path, facecolor="white", metadata={"Date": None})
        print(path)


if __name__ == "__main__":
    main()
