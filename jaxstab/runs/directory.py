"""The run directory: what is in it, who works on it, and reading it back."""

import html
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from jaxstab.config import SOURCES, Config, dump_config, load_config
from jaxstab.errors import InputError
from jaxstab.runs.files import digest, load_array, load_arrays, load_json, write_text
from jaxstab.runs.info import RunInfo, load_info

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONFIG, INFO, HISTORY = "config.toml", "run.json", "history.parquet"
CURVES = ("train_loss", "validation_loss", "validation_score")  # columns of history
PREDICTIONS, MEASURES, TEXTS, CHECKPOINTS = "predictions.npz", "measures.json", "texts.parquet", "checkpoints"
LOCK = ".lock"  # the file is never deleted; it counts only while a process holds it
SEED_KEYS = ("seeds.count", "seeds.list", *(f"seeds.{name}" for name in SOURCES))  # may grow
DISTANCES, REPRESENTATIONS, WEIGHTS = "distances.npz", "representations.npy", "weights"
TENSORBOARD, WANDB = "tensorboard", "wandb"


@dataclass(frozen=True, repr=False)
class Run:
    """One experiment's directory; everything in it is read when first asked for.

    Attributes:
        path: the directory.
    """

    path: Path

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        """Opens a finished run.

        Raises:
            InputError: no run there, or one that has not finished.
        """
        run = cls(Path(path))
        if not (run.path / INFO).exists():
            raise InputError(f"{path}: not a run directory (no {INFO}); make one with: jaxstab run CONFIG")
        if not run.finished:
            raise InputError(f"{path}: not finished; continue it with: jaxstab resume {run.path}")
        return run

    @cached_property
    def config(self) -> Config:
        """The resolved config."""
        return load_config(self._whole(CONFIG))

    @cached_property
    def info(self) -> RunInfo:
        """Status, seeds, group size, versions, device, timings, notes and digests of the other files: `run.json`.

        Raises:
            InputError: damaged, or written by another version.
        """
        return load_info(self.path / INFO)

    @property
    def finished(self) -> bool:
        """Whether all seeds have been trained and measured."""
        return (self.path / INFO).exists() and self.info.finished

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per seed and evaluation: losses and the validation score."""
        return pd.read_parquet(self._whole(HISTORY))

    @cached_property
    def curves(self) -> dict[str, np.ndarray]:
        """Learning curves [S, E] float64 by column of `history`; that of a stopped seed stays where it was."""
        by_seed = self.history.pivot(index="seed", columns="epoch", values=list(CURVES)).loc[self.seeds.tolist()]
        return {name: by_seed[name].ffill(axis=1).to_numpy(np.float64) for name in CURVES}

    @cached_property
    def texts(self) -> pd.DataFrame:
        """The test examples: id, texts and label."""
        return pd.read_parquet(self._whole(TEXTS))

    @cached_property
    def measures(self) -> dict[str, Any]:
        """Scores and measures: `measures.json`."""
        return load_json(self._whole(MEASURES))

    @cached_property
    def predictions(self) -> dict[str, np.ndarray]:
        """The arrays of `predictions.npz`."""
        return load_arrays(self._whole(PREDICTIONS))

    @cached_property
    def distances(self) -> dict[str, np.ndarray]:
        """Of every measure of pairs [L, S, S] float32, L = 1 for predictions; and `represented` [M], see there."""
        return load_arrays(self._whole(DISTANCES))

    @cached_property
    def representations(self) -> np.ndarray | None:
        """[S, L, M, D] float32, read from disk as needed; None unless the run saved them."""
        path = self.path / REPRESENTATIONS
        return load_array(path) if path.exists() else None

    @property
    def logits(self) -> np.ndarray:
        """[S, N, C] float32, of the best-validation parameters on the test split; [S, N, 1] of a regression."""
        return self.predictions["logits"]

    @property
    def final_logits(self) -> np.ndarray:
        """[S, N, C] float32, of the last parameters on the test split."""
        return self.predictions["final_logits"]

    @property
    def labels(self) -> np.ndarray:
        """[N] int32 class indices of the test split; float32 labels of a regression."""
        return self.predictions["labels"]

    @property
    def seeds(self) -> np.ndarray:
        """[S] int64, the seeds' numbers."""
        return self.predictions["seeds"]

    @property
    def scores(self) -> np.ndarray:
        """[S] float64, each seed's test score with its best-validation parameters."""
        return np.asarray(self.measures["scores"]["per_seed"])

    def __repr__(self) -> str:
        """One line."""
        if not self.finished:
            return f"Run({self.path}: not finished)"
        sd = self.measures["measures"].get("sd", {}).get("value")
        spread = "" if sd is None else f", SD {sd:.4f}"
        return f"Run({self.path}: {len(self.seeds)} seeds, mean {self.info.metric} {self.scores.mean():.4f}{spread})"

    def to_frame(self) -> pd.DataFrame:
        """Returns a row for each seed.

        Columns: `seed`; `init_seed`, `order_seed`, `dropout_seed`, `split_seed` and `data_seed` where used, and
        `repeat`, what it stands for; `score`, on the test split with the best-validation parameters; `best_epoch`, from
        1, and `validation_score`, of these parameters; `failed`; `reason`, why it failed, missing if it did not.
        """
        best = self.history[self.history["best"]].set_index("seed").loc[self.seeds].reset_index()
        sources = [f"{name}_seed" for name in SOURCES if f"{name}_seed" in best]
        return best[["seed", *sources, "repeat"]].assign(
            score=self.scores,
            best_epoch=best["epoch"],
            validation_score=best["validation_score"],
            failed=best["seed"].isin(list(self.info.failed_seeds)),
            reason=best["seed"].map(dict(self.info.failures)),
        )

    def plot(self, what: str | None = None, *, layer: int | None = None, ax: "Axes | None" = None) -> Any:
        """Draws the run on matplotlib axes and returns them; `jaxstab.plot` says what there is."""
        import jaxstab

        return jaxstab.plot(self, what, layer=layer, ax=ax)

    def _repr_html_(self) -> str:
        table = self.to_frame().to_html(index=False, na_rep="", float_format="{:.4f}".format) if self.finished else ""
        return f"<p>{html.escape(repr(self))}</p>{table}"

    def _whole(self, name: str) -> Path:
        """The path of a file, if it holds what the run wrote."""
        path, recorded = self.path / name, self.info.sha256.get(name)
        if recorded and (not path.exists() or digest(path) != recorded):
            raise InputError(
                f"{path}: missing or damaged; bring it back from a copy, or delete the run and start it again"
            )
        return path


def find_run(config: Config) -> Run:
    """Returns the run of a config, begun or not, and creates nothing; the config may name more seeds than the run has.

    Raises:
        InputError: the directory belongs to another config, or is no run directory and not empty.
    """
    path = config.directory
    if (path / CONFIG).exists():
        recorded = load_config(path / CONFIG)
        differences = _differences(recorded, config)
        if adds_seeds(recorded, config):
            differences = [key for key in differences if key not in SEED_KEYS]
        if differences:
            raise InputError(
                f"{path}: holds a run of another config (other {', '.join(differences)}); "
                "give --output.dir another directory, or delete this one"
            )
    elif path.exists() and (not path.is_dir() or any(file.name != LOCK for file in path.iterdir())):
        raise InputError(f"{path}: exists and is no run directory; give --output.dir another directory")
    return Run(path)


@contextmanager
def locked(run: Run) -> Iterator[None]:
    """Locks a run, so that no other process works on it at the same time; a process that ends loses its lock.

    Raises:
        InputError: another process holds the lock or has just finished the run, or the directory cannot be created.
    """
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run.path / LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{run.path}: another process is working on this run; wait until it ends, or stop it; processes that are "
            "to share a run need --distributed"
        ) from None
    except OSError as error:
        raise InputError(f"{run.path}: cannot be written to ({error.strerror}); give --output.dir another") from None
    try:
        if Run(run.path).finished:
            raise InputError(f"{run.path}: another process has just finished this run; the same command shows it")
        yield
    finally:
        lock.release()


def adds_seeds(one: Config, other: Config) -> bool:
    """Whether another config trains all the seeds of this one, and more."""
    return set(one.seeds.resolve()) < set(other.seeds.resolve())


def begin_run(run: Run, config: Config) -> None:
    """Creates the directory of a run with its config.

    Raises:
        InputError: it cannot be created.
    """
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        write_text(run.path / CONFIG, dump_config(config))
        (run.path / CHECKPOINTS).mkdir(exist_ok=True)
        if config.output.keep_weights:
            (run.path / WEIGHTS).mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{run.path}: cannot be written to ({error.strerror}); give --output.dir another") from None


def seed_file(run: Run, seed: int) -> Path:
    """The file that holds a finished seed's results until the whole run has finished."""
    return run.path / CHECKPOINTS / f"seed-{seed}.npz"


def representation_file(run: Run, seed: int) -> Path:
    """The file beside it with the seed's representations [L, M, D]."""
    return run.path / CHECKPOINTS / f"seed-{seed}.npy"


def weights_file(run: Run, seed: int) -> Path:
    """The file of a seed's trained weights, if the run saves them."""
    return run.path / WEIGHTS / f"seed-{seed}.safetensors"


def vocabulary_file(run: Run) -> Path:
    """The file beside them with the indices [V] of the rows of the word embedding that they hold."""
    return run.path / WEIGHTS / "vocabulary.npy"


def remove_checkpoints(run: Run) -> None:
    """Deletes what only an unfinished run needs."""
    shutil.rmtree(run.path / CHECKPOINTS, ignore_errors=True)


def _differences(one: Config, other: Config) -> list[str]:
    """Keys in which two configs differ; the run's directory and name do not count."""
    tables = ({**tomllib.loads(dump_config(config)), "name": None, "output": {}} for config in (one, other))
    first, second = ({(s, k): v for s, table in t.items() for k, v in (table or {}).items()} for t in tables)
    return [
        f"{section}.{key}"
        for section, key in sorted(first.keys() | second.keys())
        if first.get((section, key)) != second.get((section, key))
    ]
