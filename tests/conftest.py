"""Strict settings for all tests: four simulated devices, no silent promotion, checked shapes, no network."""

import os
from pathlib import Path

# Compiling is most of a test's time, and takes two thirds of it without LLVM's optimisation. TEST_XLA_FLAGS="" compiles
# as for users.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4 " + os.environ.get(
    "TEST_XLA_FLAGS", "--xla_backend_optimization_level=0"
)
os.environ["HF_HUB_OFFLINE"] = "1"

import jax
import pytest
from jaxtyping import install_import_hook

# Annotated shapes and dtypes are checked at every call. This must come before the first import of jaxstab.
CHECKED = ("data", "mitigation", "measures", "models", "training")
install_import_hook([f"jaxstab.{room}" for room in CHECKED], "checking.typecheck")

from tiny import write_checkpoint, write_task  # noqa: E402

from jaxstab.data import batches  # noqa: E402

GRID_SIZES = batches.GRID_SIZES
COMPILED = Path(__file__).parents[1] / ".cache" / "compiled"


@pytest.fixture(autouse=True)
def _strict_promotion(request):
    """Makes implicit dtype promotion an error, except in optax (an integer count in AdamW's bias correction)."""
    mode = "standard" if request.node.get_closest_marker("optimiser") else "strict"
    with jax.numpy_dtype_promotion(mode):
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_device():
    """Limits runs to one device, which takes a quarter of the compile time, unless a test says otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
        yield


@pytest.fixture
def devices(monkeypatch):
    """Returns a function that limits runs to a given number of devices."""
    everything = jax.devices()
    return lambda count: monkeypatch.setattr(jax, "local_devices", lambda: everything[:count])


@pytest.fixture(scope="session", autouse=True)
def _one_grid():
    """Compiles training for one grid size, which takes half the time, unless a test asks for `all_grids`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "GRID_SIZES", 1)
        yield


@pytest.fixture
def all_grids(monkeypatch):
    """Compiles for all grid sizes, as for users."""
    monkeypatch.setattr(batches, "GRID_SIZES", GRID_SIZES)


@pytest.fixture(scope="session", autouse=True)
def _own_caches(tmp_path_factory):
    """Caches tokens for this process, and compiled programs, most of a test's time, for all test runs of this clone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        jax.config.update("jax_compilation_cache_dir", str(COMPILED))
        jax.config.update("jax_compilation_cache_max_size", 2**32)  # with a limit, JAX locks the directory
        # Small ones would be thousands of files, all of which JAX looks through at each that is added.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A tiny random BERT in the Hugging Face layout."""
    return write_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def task_directory(tmp_path_factory):
    """A tiny task of two classes as JSON lines, with three splits."""
    return write_task(tmp_path_factory.mktemp("task"))


@pytest.fixture
def settings(checkpoint, task_directory, tmp_path):
    """A config that trains four seeds quickly, as nested plain values."""
    return {
        "name": "tiny",
        "model": {"source": str(checkpoint)},
        "task": {"source": str(task_directory), "text": ["sentence"], "max_length": 16},
        "seeds": {"count": 4, "group_size": 2},
        "train": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "precision": "float32"},
        "output": {"dir": str(tmp_path / "run")},
    }
