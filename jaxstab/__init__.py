"""jaxstab: how much of a fine-tuning result is the random seed?

>>> run = jaxstab.run("configs/quickstart.toml")  # doctest: +SKIP
>>> run.scores, run.history, run.logits  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxstab.analysis.audit import audit as audit
    from jaxstab.analysis.compare import compare as compare
    from jaxstab.analysis.measuring import measure as measure
    from jaxstab.analysis.sample import Sample as Sample
    from jaxstab.analysis.seed_study import study_seeds as study_seeds
    from jaxstab.analysis.validity import validity as validity
    from jaxstab.config import Config as Config
    from jaxstab.config import load_config as load_config
    from jaxstab.errors import InputError as InputError
    from jaxstab.experiment.export import export as export
    from jaxstab.experiment.run import plan as plan
    from jaxstab.experiment.run import plan_grid as plan_grid
    from jaxstab.experiment.run import resume as resume
    from jaxstab.experiment.run import run as run
    from jaxstab.experiment.run import run_grid as run_grid
    from jaxstab.experiment.starting import init as init
    from jaxstab.report.plots import plot as plot
    from jaxstab.report.writing import write_report as write_report
    from jaxstab.runs.directory import Run as Run

_HOMES = {
    "Config": "config",
    "Sample": "analysis.sample",
    "audit": "analysis.audit",
    "compare": "analysis.compare",
    "study_seeds": "analysis.seed_study",
    "validity": "analysis.validity",
    "plot": "report.plots",
    "write_report": "report.writing",
    "InputError": "errors",
    "Run": "runs.directory",
    "export": "experiment.export",
    "load_config": "config",
    "measure": "analysis.measuring",
    "init": "experiment.starting",
    "plan": "experiment.run",
    "plan_grid": "experiment.run",
    "resume": "experiment.run",
    "run": "experiment.run",
    "run_grid": "experiment.run",
}
__all__ = [
    "Config",
    "InputError",
    "Run",
    "Sample",
    "audit",
    "compare",
    "export",
    "load_config",
    "measure",
    "plan",
    "plan_grid",
    "plot",
    "resume",
    "run",
    "run_grid",
    "study_seeds",
    "validity",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Imports on first use, so that `import jaxstab` and `jaxstab.measures` stay light."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'jaxstab' has no attribute {name!r}")
    return getattr(importlib.import_module(f"jaxstab.{_HOMES[name]}"), name)
