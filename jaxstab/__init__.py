"""jaxstab: how much of a fine-tuning result is the random seed?

>>> run = jaxstab.run("configs/quickstart.toml")  # doctest: +SKIP
>>> run.scores, run.history, run.logits  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxstab.analysis.comparison import compare as compare
    from jaxstab.analysis.measuring import measure as measure
    from jaxstab.analysis.seed_study import study_seeds as study_seeds
    from jaxstab.analysis.validity import validity as validity
    from jaxstab.config import Config as Config
    from jaxstab.config import InputError as InputError
    from jaxstab.config import load_config as load_config
    from jaxstab.experiment import plan as plan
    from jaxstab.experiment import resume as resume
    from jaxstab.experiment import run as run
    from jaxstab.experiment import run_grid as run_grid
    from jaxstab.exporting import export as export
    from jaxstab.report.writing import write_report as write_report
    from jaxstab.store import Run as Run

_HOMES = {
    "Config": "config",
    "compare": "analysis.comparison",
    "study_seeds": "analysis.seed_study",
    "validity": "analysis.validity",
    "write_report": "report.writing",
    "InputError": "config",
    "Run": "store",
    "export": "exporting",
    "load_config": "config",
    "measure": "analysis.measuring",
    "plan": "experiment",
    "resume": "experiment",
    "run": "experiment",
    "run_grid": "experiment",
}
__all__ = [
    "Config",
    "InputError",
    "Run",
    "compare",
    "export",
    "load_config",
    "measure",
    "plan",
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
