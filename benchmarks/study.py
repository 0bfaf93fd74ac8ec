"""The figures and numbers of docs/study.md, from the runs that `study_runs.py` kept.

    python benchmarks/study.py coverage

Computes the numbers of one figure, prints them as tables (study_tables.py), writes them to
benchmarks/results/study/FIGURE-numbers.json, and draws docs/figures/study-FIGURE.svg from them (study_figures.py).
The first three figures draw small sets of seeds from all seeds, as `jaxstab audit` does.
"""

import argparse
import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from pages import replace_tables
from scipy.stats import kurtosis
from study_figures import DRAWN
from study_runs import EVERY_RUN, KEPT, METHODS, STANDARD, THOUSAND
from study_tables import TABLES

from jaxstab import Sample, measures
from jaxstab.analysis.audit import LEAST_SETS
from jaxstab.analysis.sample import PAPER
from jaxstab.analysis.trials import (
    Coverage,
    Share,
    Verdicts,
    count_held,
    draw_sets,
    find_coverage,
    find_rankings,
    find_verdicts,
)
from jaxstab.measures import MEAN
from jaxstab.report.formats import to_text
from jaxstab.runs.files import load_json, write_json

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
SIZES = (5, 10, 20)
RANKED = (3, 5, 10, 20, 50)
OF_LAYERS = ("cka", "op", "svcca")  # the paper's measures of representations
LAST_LAYER = ("cka", "op")  # those of which all pairs were kept
NAMES = (MEAN, *(name for name in PAPER if name != "svcca"))

Samples = Mapping[str, Mapping[str, Sample]]  # by task and run
Facts = Mapping[str, Mapping[str, Any]]  # by task and run, what was kept of the whole run


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=COMPUTED)
    parser.add_argument("--kept", type=Path, default=KEPT, help="directory of what study_runs.py kept")
    parser.add_argument("--draws", type=int, default=400, help="sets of seeds of each size")
    parser.add_argument("--output", type=Path, default=FIGURES, help="directory of the picture")
    parser.add_argument("--docs", type=Path, help="page whose tables are replaced")
    return parser.parse_args(given)


def load_facts(kept: Path) -> dict[str, dict[str, Any]]:
    """By task and run, methods in their order: the contents of TASK-RUN.json."""
    facts: dict[str, dict[str, Any]] = {}
    tasks = sorted({path.stem.partition("-")[0] for path in kept.glob("*-*.npz")})
    for task, name in ((task, name) for task in tasks for name in EVERY_RUN):
        path = kept / f"{task}-{name}.json"
        if path.exists():
            facts.setdefault(task, {})[name] = load_json(path)
    return facts


def load_samples(kept: Path) -> dict[str, dict[str, Sample]]:
    """By task and run, the seeds."""
    samples: dict[str, dict[str, Sample]] = {}
    for task, runs in load_facts(kept).items():
        for name, of_run in runs.items():
            method = STANDARD if name == THOUSAND else name
            found = load_sample(kept / f"{task}-{name}.npz", method, task, of_run["metric"])
            samples.setdefault(task, {})[name] = found
    return samples


def load_sample(path: Path, name: str, task: str, metric: str) -> Sample:
    """The seeds of a run, with distances of the last layer if they were kept."""
    with np.load(path) as arrays:
        seeds = arrays["seeds"].tolist()
        given = {"logits": arrays["logits"].astype(np.float32), "labels": arrays["labels"].astype(np.int32)}
        of_predictions = [one for one in PAPER if one not in OF_LAYERS]
        sample = Sample.from_arrays(name, **given, seeds=seeds, metric=metric, task=task, only=of_predictions)
        distances = dict(sample.distances)
        upper = np.triu_indices(len(seeds), 1)
        for one in (one for one in LAST_LAYER if one in arrays):
            distances[one] = np.zeros((1, len(seeds), len(seeds)), np.float32)
            distances[one][0][upper] = arrays[one]
            distances[one] += distances[one].swapaxes(1, 2)
    return replace(sample, distances=distances)


def of_methods(runs: Mapping[str, Any]) -> list[str]:
    """The runs of 200 seeds of one method each."""
    return [name for name in runs if name in METHODS]


def largest(runs: Mapping[str, Any]) -> list[str]:
    """The largest run of each method: of `standard` that of 1,000 seeds, if there is one."""
    return [THOUSAND if name == STANDARD and THOUSAND in runs else name for name in of_methods(runs)]


def known(*samples: Sample) -> list[str]:
    """The measures that these samples have."""
    return [name for name in NAMES if name not in LAST_LAYER or all(name in one.distances for one in samples)]


def rng_of(*of: str | int) -> np.random.Generator:
    """Draws the sets of one case, whatever other runs are kept."""
    return np.random.default_rng(list(" ".join(map(str, of)).encode()))


def _share(found: Sequence[Share]) -> dict[str, Any]:
    return Share.pooled(found).as_json()


def coverage(samples: Samples, facts: Facts, draws: int) -> dict[str, Any]:
    """How many intervals hold the value of all seeds, by measure and number of seeds, over all runs and in each."""
    found: dict[str, dict[int, list[Any]]] = {}
    for task, methods in samples.items():
        for sample in (methods[name] for name in largest(methods)):
            for size in SIZES:
                rng = rng_of(task, sample.name, size)
                of_sample = find_coverage(sample, known(sample), size, draws, rng)
                for row in [*of_sample, by_chi_square(sample, size, draws, rng)]:
                    found.setdefault(row.measure, {}).setdefault(size, []).append(replace(row, run=f"{task} {row.run}"))
    rows = []
    for name, by_size in found.items():
        for size, all_runs in by_size.items():
            shown = [row for row in all_runs if row.share is not None]
            if shown:
                shares = [row.share for row in shown if row.share is not None]
                row = {
                    "measure": name,
                    "size": size,
                    **_share(shares),
                    "runs": {r.run: r.share.value for r in shown if r.share},
                }
                row["width"] = float(np.mean([r.width for r in shown]))
                row["average"] = float(np.mean([r.average for r in shown if r.average is not None]))
                rows.append(row)
    return {"rows": rows}


def by_chi_square(sample: Sample, size: int, draws: int, rng: np.random.Generator) -> Coverage:
    """The same for the interval of the SD that is exact for normal scores, which jaxstab does not use."""
    assert sample.scores is not None
    sds = [sample.scores[places].std(ddof=1) for places in draw_sets(rng, sample.seeds, size, draws)]
    sets = [(sd, measures.Interval.of(measures.chi_square_interval(sd, size - 1))) for sd in sds]
    found = count_held(sample, "sd", sets, size, sample.scores.std(ddof=1))
    assert found is not None
    return replace(found, measure="sd, if normal")


def verdicts(samples: Samples, facts: Facts, draws: int) -> dict[str, Any]:
    """How often two sets of seeds are called different: of one method, and of two, by the difference that there is."""
    jobs = []
    for task, methods in samples.items():
        group = [methods[name] for name in largest(methods)]
        pairs = [(one, None) for one in group] + list(itertools.combinations(group, 2))
        jobs += [(task, *pair, size, draws) for size in SIZES for pair in pairs]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        found = list(pool.map(_verdicts_of, *zip(*jobs, strict=True)))
    alarms: dict[tuple[str, int], list[tuple[str, Share]]] = {}
    power = []
    for (task, one, other, size, _), rows in zip(jobs, found, strict=True):
        for row in rows:
            if other is None:
                alarms.setdefault((row.test, size), []).append((f"{task} {one.name}", row.share))
            else:
                named = {"task": task, "first": one.name, "second": other.name, "test": row.test, "size": size}
                power.append({**named, **_difference(one, other), "value": row.share.value})
    rows = [
        {"test": test, "size": size, **_share([share for _, share in of_all]), "runs": {n: s.value for n, s in of_all}}
        for (test, size), of_all in alarms.items()
    ]
    return {"alarms": rows, "power": power}


def _verdicts_of(task: str, one: Sample, other: Sample | None, size: int, draws: int) -> list[Verdicts]:
    rng = rng_of(task, one.name, other.name if other else "", size)
    tested = [name for name in known(one, other or one) if name != "op"]  # pairs of seeds of two methods: not measured
    return find_verdicts(one, other, tested, size, draws, rng)


def _difference(one: Sample, other: Sample) -> dict[str, float]:
    assert one.scores is not None
    assert other.scores is not None
    spread = np.sqrt((one.scores.var(ddof=1) + other.scores.var(ddof=1)) / 2)
    return {"difference": float(other.scores.mean() - one.scores.mean()), "spread": float(spread)}


def ranking(samples: Samples, facts: Facts, draws: int) -> dict[str, Any]:
    """How often the best of all methods is found, and two come in their order, by measure and number of seeds."""
    rows, values = [], []
    for task, runs in samples.items():
        methods = {name: runs[name] for name in of_methods(runs)}
        for name, sample in methods.items():
            of_all = {measure: row["value"] for measure, row in sample.rows(known(sample)).items()}
            values.append({"task": task, "method": name, "seeds": sample.seeds, **of_all})
        if len(methods) > 1:
            seeds = min(one.seeds for one in methods.values())
            for size in (size for size in RANKED if LEAST_SETS * size <= seeds):
                rng = rng_of(task, size)
                for one in find_rankings(task, methods, known(*methods.values()), size, draws, rng):
                    row = {"task": task, "measure": one.measure, "size": size, "pairs": one.pairs, **one.best.as_json()}
                    rows.append({**row, "methods": len(methods)})
    return {"rows": rows, "values": values}


def sources(samples: Samples, facts: Facts, draws: int) -> dict[str, Any]:
    """Where the spread comes from: the test set; initialisation, order and dropout; rounding; fewer examples."""
    spread, shares, floors, machines, fewer = [], [], [], [], []
    for task, runs in facts.items():
        for name in (name for name in runs if name in METHODS or name == THOUSAND):
            measured = runs[name]["measured"]
            scores, sd = measured["scores"], measured["measures"]["sd"]
            each = scores["per_seed"]
            row = {"task": task, "run": samples[task][name].name, "seeds": len(each), "mean": scores["mean"]}
            shape = {"worst": min(each), "tails": float(kurtosis(each))}
            values = {"sd": sd["value"], "sd_interval": sd["interval"], "remaining": scores["remaining_sd"]}
            spread.append({**row, **shape, **values})
            for part, of_part in (runs[name]["validity"].get("examples") or {}).items():
                fewer += [{"part": part, "measure": measure, "ratio": of_part[measure]["ratio"]} for measure in of_part]
        if "crossed" in runs:
            shares += [{"task": task, **one} for one in runs["crossed"]["seeds"]["shares"]]
        if "rounding" in samples[task]:
            floors += [{"task": task, **one} for one in rounding(samples[task]["rounding"])]
        if {STANDARD, THOUSAND} <= set(runs) and runs[STANDARD]["machine"] != runs[THOUSAND]["machine"]:
            machines.append({"task": task, **same_seeds(samples[task][STANDARD], samples[task][THOUSAND])})
    return {"spread": spread, "shares": shares, "floors": floors, "machines": machines, "fewer": fewer}


def same_seeds(one: Sample, other: Sample) -> dict[str, Any]:
    """How often the seeds that two runs have in common, their first, vote otherwise."""
    assert one.inputs.predictions is not None
    assert other.inputs.predictions is not None
    seeds = min(one.seeds, other.seeds)
    differ = one.inputs.predictions[:seeds] != other.inputs.predictions[:seeds]
    between = one.rows(["pairwise_disagreement"])["pairwise_disagreement"]["value"]
    return {"seeds": seeds, "votes": float(differ.mean()), "equal": int((~differ.any(1)).sum()), "between": between}


def rounding(sample: Sample) -> list[dict[str, Any]]:
    """How much the two repeats of a seed differ, divided by how much two seeds do; jackknife over seeds.

    Repeats follow each other and differ by one unit in the last place of the initial parameters. For the mean score,
    the ratio is of standard deviations.
    """
    assert sample.scores is not None
    squares = (sample.scores[:, None] - sample.scores) ** 2
    of_pairs = {MEAN: squares, **{name: sample.distances[name][-1] for name in PAPER if name in sample.distances}}
    rows = []
    for name, distances in of_pairs.items():
        blocks = np.asarray(distances, np.float64).reshape(len(distances) // 2, 2, -1, 2).transpose(0, 2, 1, 3)
        within, power = blocks.diagonal()[0, 1], 0.5 if name == MEAN else 1.0
        sums = blocks.mean((2, 3)) * ~np.eye(len(blocks), dtype=bool)
        others = len(blocks) - 1
        if not (sums.sum() > 2 * sums.sum(1)).all():  # no seeds differ but for one
            continue
        ratio = (within.mean() / (sums.sum() / (len(blocks) * others))) ** power
        without = (within.sum() - within) / others / ((sums.sum() - 2 * sums.sum(1)) / (others * (others - 1)))
        half = 1.96 * np.sqrt(others**2 / len(blocks) * (without**power).var(ddof=1))
        rows.append({"measure": name, "share": float(ratio), "interval": [max(0.0, ratio - half), ratio + half]})
    return rows


def layers(samples: Samples, facts: Facts, draws: int) -> dict[str, Any]:
    """Measures by layer, and how measures go together over seeds, within and between levels of detail."""
    of_layers, correlations = [], []
    for task, runs in facts.items():
        for name in of_methods(runs):
            validity, measured = runs[name]["validity"], runs[name]["measured"]["measures"]
            for measure in (one for one in OF_LAYERS if one in measured):
                row = measured[measure]
                depth = (validity["depth"] or {}).get(measure)
                values = {"values": row["layers"], "intervals": row["layer_intervals"], "depth": depth}
                of_layers.append({"task": task, "run": name, "measure": measure, **values})
            over = validity["over_seeds"]
            if over is not None:
                correlations.append({"task": task, "run": name, "names": over["names"], "matrix": over["matrix"]})
    return {"layers": of_layers, "correlations": correlations}


COMPUTED: dict[str, Callable[[Samples, Facts, int], dict[str, Any]]] = {
    one.__name__: one for one in (coverage, verdicts, ranking, sources, layers)
}


def main() -> None:
    arguments = parse_arguments()
    facts = load_facts(arguments.kept)
    if not facts:
        raise SystemExit(f"{arguments.kept}: no runs kept there; make some with: python benchmarks/study_runs.py TASK")
    found = COMPUTED[arguments.figure](load_samples(arguments.kept), facts, arguments.draws)
    text = to_text(TABLES[arguments.figure](found), "markdown")
    print(text)
    write_json(arguments.kept / f"{arguments.figure}-numbers.json", {"draws": arguments.draws, "results": found})
    DRAWN[arguments.figure](found, arguments.output / f"study-{arguments.figure}.svg")
    if arguments.docs:
        replace_tables(arguments.docs, f"study.py {arguments.figure}", text.strip())


if __name__ == "__main__":
    main()
