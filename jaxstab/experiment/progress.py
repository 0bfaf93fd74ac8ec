"""The events of a run, in the order in which they happen; `jaxstab.cli.display` shows them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from jaxstab.config import Config
from jaxstab.runs.info import RunInfo
from jaxstab.training.planning import Plan
from jaxstab.training.step import Evaluation


class Progress:
    """Ignores all events of a run; a subclass overrides the events that it shows."""

    @property
    def is_live(self) -> bool:
        """Whether a progress bar can be shown, that is, whether the output is a terminal."""
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

    def resumed(self, finished: int, steps: Sequence[int]) -> None:
        """An earlier start left something: `finished` seeds, and the steps that each of the others has taken."""

    def compiling(self) -> None:
        """Compilation begins."""

    def compiled(self, seconds: float, waves: list[list[str]], taken: list[int], plan: Plan) -> None:
        """Everything is compiled.

        Args:
            seconds: time that it took.
            waves: labels of the seeds still to be trained, wave by wave.
            taken: steps that all seeds of each wave have taken before.
            plan: how many seeds train at once.
        """

    def stepped(self, wave: int, step: int) -> None:
        """A wave has taken this many steps."""

    def restored(self, wave: int, history: Sequence[Evaluation]) -> None:
        """A wave continues from checkpoints, which hold these evaluations, one for each epoch that is done."""

    def evaluated(self, wave: int, epoch: int, evaluation: Evaluation) -> None:
        """A wave has finished an epoch; arrays are [seeds in the wave]."""

    def warn(self, line: str) -> None:
        """There is a warning; training continues."""

    def out_of_memory(self, group_size: int) -> None:
        """Training continues with smaller groups."""

    @contextmanager
    def measuring(self, seeds: int, shape: Sequence[int]) -> Iterator[Callable[[float], None]]:
        """Measures are being computed; `shape` is that of a seed's representations.

        Yields a function to be called with the share of the work that is done.
        """
        yield lambda share: None
