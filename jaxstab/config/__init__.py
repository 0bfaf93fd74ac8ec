"""The whole experiment as frozen dataclasses: read from TOML, changed by ``--a.b value``, checked once.

Nothing in this package imports JAX. Every failure is an `InputError` whose message names the key and the remedy.
"""

from jaxstab.config.grid import GRID_KEYS as GRID_KEYS
from jaxstab.config.grid import by_program as by_program
from jaxstab.config.grid import expand_grid as expand_grid
from jaxstab.config.grid import hyperparameters as hyperparameters
from jaxstab.config.loading import dump_config as dump_config
from jaxstab.config.loading import load_config as load_config
from jaxstab.config.loading import make_config as make_config
from jaxstab.config.loading import parse_overrides as parse_overrides
from jaxstab.config.methods import METHODS as METHODS
from jaxstab.config.mitigation import MitigationConfig as MitigationConfig
from jaxstab.config.schema import DATA_SOURCES as DATA_SOURCES
from jaxstab.config.schema import SOURCES as SOURCES
from jaxstab.config.schema import Config as Config
from jaxstab.config.schema import Metric as Metric
from jaxstab.config.schema import ModelConfig as ModelConfig
from jaxstab.config.schema import OutputConfig as OutputConfig
from jaxstab.config.schema import RegressionMetric as RegressionMetric
from jaxstab.config.schema import SeedsConfig as SeedsConfig
from jaxstab.config.schema import SeedTriple as SeedTriple
from jaxstab.config.schema import TaskConfig as TaskConfig
from jaxstab.config.schema import TrainConfig as TrainConfig
