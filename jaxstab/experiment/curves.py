"""Learning curves in the files of TensorBoard and Weights & Biases, whose libraries are optional.

In both, every seed is a run of its own. A seed's curves are written from the first step whenever it starts, also from a
checkpoint, and replace what an earlier process has written. So they have every step once.
"""

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Protocol

from jaxstab.config import Config, SeedTriple
from jaxstab.config.loading import as_values
from jaxstab.errors import InputError
from jaxstab.runs.directory import TENSORBOARD, WANDB, Run
from jaxstab.runs.files import write_text

LIBRARIES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
OFFLINE = ("offline", "dryrun", "disabled")
MIN, MAX = "/min", "/max"  # ends of the tags of a band


class Curves(Protocol):
    """The open curves of a seed."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to each curve; steps of the optimiser must ascend."""

    def close(self, complete: bool) -> None:
        """Ends the curves; `complete` says whether the seed has been trained to the end."""


def check_tracking(config: Config) -> None:
    """Checks that the libraries that a config asks for are installed, and that Weights & Biases knows the user.

    Raises:
        InputError: they are not, or it does not.
    """
    for key, library in LIBRARIES.items():
        if getattr(config.output, key):
            try:
                metadata.version(library)
            except metadata.PackageNotFoundError:
                raise InputError(f"output.{key} needs {library}; install it with: pip install {library}") from None
    if config.output.wandb:
        import wandb

        try:
            if wandb.setup().settings.mode not in OFFLINE:
                wandb.login()
        except (wandb.Error, ValueError) as error:  # no key, or a setting that cannot be used
            reason = " ".join(str(error).split())
            raise InputError(
                f"output.wandb: {reason.rstrip('.')}; without an account, set WANDB_MODE=offline"
            ) from None


def open_curves(config: Config, run: Run, triple: SeedTriple) -> list[Curves]:
    """Opens the curves of a seed wherever the config wants them; nowhere by default."""
    curves: list[Curves] = []
    if config.output.tensorboard:
        curves.append(TensorBoard(run.path / TENSORBOARD / f"seed-{triple.seed}"))
    if config.output.wandb:
        curves.append(WeightsAndBiases(config, run, triple))
    return curves


def open_bands(config: Config, run: Run) -> list[Curves]:
    """Opens the bands of a run, see `TensorBoard`; Weights & Biases draws them itself, because the seeds are a group.

    Args:
        config: config of the run.
        run: its directory.
    """
    return [TensorBoard(run.path / TENSORBOARD / "all-seeds")] if config.output.tensorboard else []


class TensorBoard:
    """An event file. It is written by tensorboardX, which needs neither TensorBoard nor TensorFlow nor PyTorch.

    A band is a curve with two more, whose names end in `/min` and `/max`; TensorBoard draws it as "Custom Scalars".
    """

    def __init__(self, path: Path):
        """Opens a new event file; readers then skip what earlier ones in the same directory hold.

        Args:
            path: directory of the file, whose name is the run's in TensorBoard.
        """
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(path), purge_step=0)
        self._has_layout = False

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to each curve."""
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)
        bands = {tag: ["Margin", [tag, tag + MIN, tag + MAX]] for tag in values if tag + MIN in values}
        if bands and not self._has_layout:
            self._writer.add_custom_scalars({"mean, minimum and maximum over seeds": bands})
            self._has_layout = True
        self._writer.flush()

    def close(self, complete: bool) -> None:
        """Closes the file."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, in the group of the other seeds; its library decides whether it is online."""

    def __init__(self, config: Config, run: Run, triple: SeedTriple):
        """Starts the run, or continues it.

        Args:
            config: config of the run.
            run: its directory; files go to `wandb` in it.
            triple: the seed.
        """
        import wandb

        mine, files = group_id(run), run.path.absolute() / WANDB
        older = set(files.glob(f"offline-run-*-{mine}-{triple.seed}"))
        self._run = wandb.init(
            project=config.output.wandb,
            group=f"{config.name} {mine}",
            name=f"{config.name} seed {triple.seed}",
            id=f"{mine}-{triple.seed}",
            config={**as_values(config), "seed": asdict(triple)},
            dir=files.parent,
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        self._epoch = 0
        if self._run.offline:  # there a run cannot be continued: the new one holds everything
            for path in older - {Path(self._run.dir).parent}:
                shutil.rmtree(path)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to each curve, unless Weights & Biases already has it."""
        self._epoch += 1
        if step >= self._run.starting_step:
            self._run.log({**values, "epoch": self._epoch}, step=step)

    def close(self, complete: bool) -> None:
        """Ends the run, as failed unless it is complete."""
        self._run.finish(exit_code=0 if complete else 1)


def group_id(run: Run) -> str:
    """Returns what the seeds of a run have in common in Weights & Biases; it is made once and kept in the directory."""
    path = run.path / WANDB / "group"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_text(path, uuid.uuid4().hex[:8])
    return path.read_text(encoding="utf-8")
