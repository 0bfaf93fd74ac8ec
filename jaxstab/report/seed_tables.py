"""Tables of seed studies: how many seeds and test examples are needed, and which randomness matters."""

from collections.abc import Sequence

from jaxstab.analysis.how_many import MOST_SEEDS, MOST_SIMULATED
from jaxstab.analysis.seed_study import SeedStudy
from jaxstab.measures import MEAN, of_numbers
from jaxstab.report.formats import Table, percent
from jaxstab.report.tables import quantity


def study_tables(study: SeedStudy) -> list[Table]:
    """The tables of `jaxstab seeds` that have rows."""
    found = [needed_table(study), joint_table(study), shares_table(study), floor_table(study)]
    return [table for table in found if table.rows]


def needed_table(study: SeedStudy) -> Table:
    """A row for each question, with the number of seeds that it needs."""
    rows = [
        [one.question, say_count(one.formula), say_range(one.range), say_count(one.simulation, MOST_SIMULATED)]
        for one in study.needed
    ]
    caption = "Seeds of each method. Range: at both ends of the interval of this run's standard deviation."
    return Table(f"{study.name}: seeds needed", ["question", "by formula", "range", "by simulation"], rows, caption)


def joint_table(study: SeedStudy) -> Table:
    """A row for each number of seeds, with the test examples that it takes besides."""
    found = study.joint
    rows = []
    for one in [] if found is None else found.rows:
        seeds = "any number" if one.seeds is None else f"{one.seeds}"
        rows.append([seeds, _examples(one.low), _examples(one.high), one.enough])
    if found is None:
        return Table("", [], [])
    best = "better by as much on every example" if of_numbers(study.metric) else "right wherever the other is"
    return Table(
        f"{study.name}: test examples needed, so that a difference of {found.delta:g} holds for others too",
        ["seeds of each method", "at best", "if methods disagree as seeds do", f"are {found.examples} enough?"],
        rows,
        f"At best: where one method is {best}. -: no number of examples makes up for so few seeds.",
    )


def shares_table(study: SeedStudy) -> Table:
    """A row for each quantity, with the variance share of each source of randomness."""
    shares = study.shares or []
    sources = list(shares[0].shares) if shares else []
    rows = [
        [
            f"variance of {study.metric}" if one.quantity == MEAN else quantity(one.quantity),
            *(f"{one.shares[source]:.0%} ({percent(one.intervals[source])})" for source in sources),
        ]
        for one in shares
    ]
    if shares:
        limits = [shares[0].no_effect[source] for source in sources]
        rows.append(
            ["without effect", *("-" if one is None else f"{one[0]:.0%} (up to {one[1]:.0%})" for one in limits)]
        )
    caption = (
        "together: what sources do only in combination. 95 % intervals; of measures they are wider than they need be. "
        "without effect: what a source that does nothing would get on average, because no share is negative."
    )
    return Table(f"{study.name}: which randomness matters", ["of", *sources], rows, caption)


def floor_table(study: SeedStudy) -> Table:
    """A row for each quantity: repeats of a seed compared with different seeds."""
    rows = [
        [
            f"SD of {study.metric}" if name == MEAN else quantity(name),
            "-" if row["floor"] is None else f"{row['floor']:.3g}",
            "-" if row["value"] is None else f"{row['value']:.3g}",
            "-" if row["share"] is None else f"{row['share']:.1%}",
        ]
        for name, row in (study.floor or {}).items()
    ]
    return Table(f"{study.name}: noise floor", ["measure", "same seed repeated", "other seeds", "share"], rows)


def say_count(seeds: int | None, most: int = MOST_SEEDS) -> str:
    """A number of seeds as text."""
    return f"more than {most:,}" if seeds is None else f"{seeds}"


def _examples(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def say_range(ends: Sequence[int | None] | None) -> str:
    """Both ends of a range of seeds as text."""
    return "" if ends is None else f"{say_count(ends[0])} to {say_count(ends[1])}"
