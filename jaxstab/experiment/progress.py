"""The events of a run, in the order in which they happen; `jaxstab.cli.display` shows them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from jaxstab.config import Config
from jaxstab.runs.info import RunInfo
from jaxstab.training.planning import Plan
from jaxstab.training.step import Evaluation


class Progress:
    """Receives the events of a run and ignores them; a subclass overrides those that it shows."""

    @property
    def is_live(self) -> bool:
        """Whether there is a terminal that a bar can move on."""
        return False

    def __enter__(self) -> Self:
        """Training begins."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Training has ended, with or without an error."""

    def prepared(self, configs: Sequence[Config], epochs: int, info: RunInfo) -> None:
        """Everything is loaded and checked."""

    def compiling(self) -> None:
        """Compilation begins."""

    def compiled(self, seconds: float, waves: list[list[str]], plan: Plan) -> None:
        """Everything is compiled; `waves` are the labels of the seeds that remain to be trained."""

    def stepped(self, wave: int, step: int) -> None:
        """A wave has taken this many steps."""

    def evaluated(self, wave: int, epoch: int, evaluation: Evaluation) -> None:
        """An epoch of a wave is done; arrays are [seeds in the wave]."""

    def warn(self, line: str) -> None:
        """There is a warning; training continues."""

    def out_of_memory(self, group_size: int) -> None:
        """Training continues with smaller groups."""

    @contextmanager
    def measuring(self, seeds: int, shape: Sequence[int]) -> Iterator[None]:
        """Measures are computed; `shape` is that of a seed's representations."""
        yield
