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


def test_the_interval_of_an_sd_by_its_definition():
    scores = RNG.exponential(size=12)
    excess = (12 * stats.kurtosis(scores, bias=False) + 10) / 22
    freedom = 2 * 12 / (3 + excess - 9 / 11)  # O'Neill (2014) with n = 12
    low, high = scores.std(ddof=1) * np.sqrt(freedom / stats.chi2.ppf([0.975, 0.025], freedom))
    np.testing.assert_allclose(measures.sd_interval(scores), [low, high], rtol=1e-9)
    np.testing.assert_allclose(measures.sd_interval(5 - 3 * scores), [3 * low, 3 * high], rtol=1e-9)


def test_the_interval_of_an_sd_without_heavy_tails_is_that_of_normal_scores():
    for scores in (np.arange(100) / 100, stats.norm.ppf((np.arange(2000) + 0.5) / 2000)):
        normal = measures.chi_square_interval(scores.std(ddof=1), len(scores) - 1)
        np.testing.assert_allclose(measures.sd_interval(scores), normal, rtol=1e-4)


def test_the_interval_of_an_sd_of_three_seeds_rests_on_the_prior():
    # Three numbers have the kurtosis 1.5 always, so nothing is learned of it.
    freedom = 1 / (1 / 2 + 10 / 13 / 6)
    for scores in (np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.0, 0.9])):
        expected = measures.chi_square_interval(scores.std(ddof=1), freedom)
        np.testing.assert_allclose(measures.sd_interval(scores), expected, rtol=1e-9)


@pytest.mark.parametrize("seeds", [5, 10, 20])
@pytest.mark.parametrize(
    ("draw", "truth", "least"),
    [
        (RNG.standard_normal, 1, 0.935),
        (lambda size: RNG.standard_t(5, size), np.sqrt(5 / 3), 0.89),
        (lambda size: RNG.gumbel(size=size), np.pi / np.sqrt(6), 0.895),
        (lambda size: RNG.exponential(size=size), 1, 0.82),  # by chi-square without the kurtosis .73 to .82
    ],
    ids=["normal", "t", "gumbel", "exponential"],
)
def test_the_interval_of_an_sd_covers_it(draw, truth, least, seeds):
    found = np.array([measures.sd_interval(one) for one in draw((4000, seeds))])
    assert np.mean((found[:, 0] <= truth) & (truth <= found[:, 1])) > least


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
        ends = found["interval"]
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
