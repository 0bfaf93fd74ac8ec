"""What a value is worth: an interval that is never absurd, or a reason."""

import numpy as np
import pytest
from scipy import stats

from jaxstab import measures
from jaxstab.measures.intervals import Facts, explain, limits, row, score_range

RNG = np.random.default_rng(0)
LABELS = RNG.integers(2, size=139)
BASE = np.where(RNG.random(139) < 0.8, LABELS, 1 - LABELS)
OF_PREDICTIONS = [
    name for name, one in measures.MEASURES.items() if one.granularity != "representation" and one.of != "numbers"
]
OF_VOTES = [name for name in OF_PREDICTIONS if "predictions" in measures.MEASURES[name].needs]


def _votes(flips, seeds=8):
    """Equal seeds, but for these (seed, example)."""
    votes = np.tile(BASE, (seeds, 1))
    for seed, example in flips:
        votes[seed, example] = 1 - votes[seed, example]
    return measures.all(predictions=votes, labels=LABELS)


def test_one_example_of_one_seed_gives_a_reason_instead_of_numbers():
    found = _votes([(3, 5)])
    reasons = {name: found[name].get("reason") for name in found}
    assert all(found[name]["interval"] is None for name in found)
    assert set(reasons.values()) == {"rests on seed 3", "no difference seen"}
    assert [name for name, why in reasons.items() if why == "no difference seen"] == ["normalised_disagreement"]
    assert found["sd"]["value"] == pytest.approx(np.std([1] * 7 + [0], ddof=1) / 139, rel=1e-5)


def test_equal_seeds_say_what_can_be_said():
    found = _votes([])
    assert {found[name]["reason"] for name in found} == {"no difference seen"}
    assert found.scores["interval"] is None
    assert found.scores["reason"] == "no difference seen"
    # .05 = (1 - share)^8 at share = .312: with more such seeds, eight equal ones would be rarer than 5 %.
    assert explain(["no difference seen"], 8) == [
        "no difference seen in 8 seeds: at most 31% of seeds behave differently"
    ]
    assert (1 - measures.unseen(8)) ** 8 == pytest.approx(0.05)


def test_a_tie_has_no_interval_of_width_zero():
    # Each seed flips its own example: all distances are equal.
    few = _votes([(0, 1), (1, 2), (2, 3)], seeds=3)
    assert few["pairwise_disagreement"]["reason"] == "rests on 3 votes"
    many = _votes([(seed, 10 * seed + i) for seed in range(3) for i in range(4)], seeds=3)
    assert many["pairwise_disagreement"]["reason"] == "the same without any seed"
    assert many["stable_fraction"]["interval"][0] < many["stable_fraction"]["value"]


def test_kappa_needs_votes_for_more_than_one_class():
    # Nine votes deviate; then twelve, of which nine are for the rarer class.
    votes = np.zeros((9, 60), int)
    votes[np.arange(9), np.arange(9) % 6] = 1
    found = measures.all(predictions=votes, only=["fleiss_kappa", "pairwise_disagreement"])
    assert found["fleiss_kappa"]["reason"] == "rests on 9 votes"
    facts = Facts(range(9), 60, 2, deviating=12, minority=9)
    value, left_out = 0.5, 0.5 + 0.05 * RNG.normal(size=9)
    assert row("fleiss_kappa", value, left_out, facts)["reason"] == "9 votes outside one class"
    assert row("pairwise_disagreement", value, left_out, facts)["interval"] is not None


def test_two_seeds_are_too_few():
    found = measures.all(predictions=np.stack([BASE, 1 - BASE]), labels=LABELS)
    assert {found[name]["reason"] for name in OF_VOTES} <= {"too few seeds", "no difference seen"}


def test_the_robust_interval_by_bonetts_formula():
    scores = RNG.exponential(size=12)
    n, z = 12, stats.norm.ppf(0.975)
    trimmed = stats.trim_mean(scores, 1 / (2 * np.sqrt(n - 4)))
    kurtosis = n * ((scores - trimmed) ** 4).sum() / ((scores - scores.mean()) ** 2).sum() ** 2
    c = n / (n - z)
    error = c * np.sqrt((kurtosis - (n - 3) / n) / (n - 1))
    bonett = np.exp((np.log(c * scores.var(ddof=1)) + np.array([-z, z]) * error) / 2)
    normal = measures.chi_square_interval(scores.std(ddof=1), n)
    expected = min(bonett[0], normal[0]), max(bonett[1], normal[1])
    np.testing.assert_allclose(measures.robust_sd_interval(scores), expected, rtol=1e-9)


@pytest.mark.parametrize("seeds", [10, 20])
def test_the_robust_interval_covers_the_sd_of_skewed_scores(seeds):
    found = np.array([measures.robust_sd_interval(one) for one in RNG.exponential(size=(2000, seeds))])
    assert np.mean((found[:, 0] <= 1) & (found[:, 1] >= 1)) > 0.88
    normal = np.array([measures.robust_sd_interval(one) for one in RNG.normal(size=(2000, seeds))])
    assert np.mean((normal[:, 0] <= 1) & (normal[:, 1] >= 1)) > 0.94


def _odd(rng, seeds):
    """A value and leave-one-out values as measures of odd inputs have them: ties, zeros, rounding, outliers."""
    left_out = rng.choice(
        [
            rng.random(seeds),
            np.full(seeds, rng.random()),
            np.where(np.arange(seeds) == 0, rng.choice([0, 1e-12, 6e-8, 1]), rng.random()),
            10.0 ** -rng.integers(0, 12, seeds),
            rng.random(seeds) < 0.5,
        ]
    )
    return rng.choice([left_out.mean(), left_out.max(), 0, 1, rng.random()]), left_out


def test_no_interval_is_absurd_on_1000_odd_inputs():
    rng = np.random.default_rng(1)
    with_interval = 0
    for _ in range(1000):
        seeds = int(rng.integers(2, 9))
        metric = str(rng.choice(["accuracy", "matthews"]))
        name = str(rng.choice([measures.MEAN, *measures.MEASURES]))
        numbers = dict.fromkeys((measures.MEAN, *measures.STANDARD_DEVIATIONS), _odd(rng, seeds)[1].astype(float))
        facts = Facts(
            range(seeds), 20, 2, score_range(metric), int(rng.integers(0, 40)), int(rng.integers(0, 40)), numbers
        )
        value, left_out = _odd(rng, seeds)
        if name in numbers:
            quantity = np.mean if name == measures.MEAN else measures.sd
            value = quantity(numbers[name])
            left_out = np.array([quantity(np.delete(numbers[name], seed)) for seed in range(seeds)])
        found = row(name, float(value), left_out.astype(float), facts)
        low, high = limits(name, facts)
        for kind in ("interval", "robust_interval"):
            ends = found.get(kind)
            if ends is not None:
                assert low - 1e-6 <= ends[0] < ends[1] <= high + 1e-6, (name, value, left_out, ends)
        assert (found["interval"] is None) == ("reason" in found or found["value"] is None)
        with_interval += found["interval"] is not None
    assert with_interval > 100


@pytest.mark.parametrize(("seeds", "examples"), [(2, 1), (3, 4), (8, 40)])
def test_no_interval_is_absurd_on_odd_arrays(seeds, examples):
    rng = np.random.default_rng(seeds)
    for trial in range(12):
        spread = rng.choice([0, 1e-6, 0.1, 1, 30])
        logits = rng.normal(size=(1, examples, 2)) + spread * rng.normal(size=(seeds, examples, 2))
        logits[0] += rng.choice([0, 50])
        labels = rng.integers(2, size=examples) * (trial % 3 > 0)
        found = measures.all(logits=logits, labels=labels, metric=str(rng.choice(["accuracy", "matthews"])))
        for name in OF_PREDICTIONS:
            one, ends = found[name], found[name]["interval"]
            assert (ends is None) == ("reason" in one)
            high = measures.MEASURES[name].high + 1e-6  # plain numbers are rounded to float32
            if name in ("fleiss_kappa", "krippendorff_alpha"):
                high = seeds / (seeds - 1) + 1e-6
            assert ends is None or measures.MEASURES[name].low <= ends[0] < ends[1] <= high
