"""The content of `run.json` as typed records, and reading and writing it."""

import json
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from jaxstab.config import SeedTriple
from jaxstab.errors import InputError
from jaxstab.runs.files import write_json

FORMAT = 1  # of the run directory; a change that older versions cannot read counts it up


@dataclass(frozen=True)
class Examples:
    """How many examples each split has."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class MajorityScore:
    """The score of predicting the most frequent class, or the mean label, of a split, in units of the task's metric."""

    validation: float
    test: float


@dataclass(frozen=True)
class BatchGrid:
    """The grids that training batches are laid out in: possible numbers of rows, ascending, and tokens in a row."""

    rows: tuple[int, ...]
    columns: int


@dataclass(frozen=True)
class Memory:
    """Memory of each device in bytes: what the plan needs, what may be used, and the most that was used."""

    predicted_bytes: int
    limit_bytes: int
    peak_bytes: int | None = None


@dataclass(frozen=True)
class RunInfo:
    """The content of `run.json`; what is None there is not known yet, or was not recorded by an older version.

    Attributes:
        format: of the run directory.
        status: of the run.
        wall_seconds: spent on the run so far, over all interruptions.
        metric: the task's score.
        classes: names of the classes, in the order of the logits; none of a regression.
        examples: how many there are.
        examples_sha256: digest of the encoded examples, in hexadecimal.
        notes: how splits were made, and what limits the run, in words.
        majority_score: what a seed must exceed not to have failed.
        seeds: what is trained.
        steps_per_epoch: optimiser steps per epoch.
        grid: shapes of a training batch.
        group_size: seeds at once on each device; None until it is chosen.
        remat: whether activations are recomputed; None until it is chosen.
        unroll: whether there is no loop over layers; None until it is chosen.
        out_of_memory: group sizes that were too large.
        processes: how many train together.
        devices: of all processes.
        device: their kind.
        versions: of Python and of libraries, by name.
        attention: the implementation of attention that is used.
        compile_seconds: of the last compilation.
        memory: planned and used.
        guess_loss: training loss of the best guess that is the same for all examples, where classes are weighted,
            labels smoothed or numbers predicted.
        suited_rates: learning rates that suit the model, from and to, by a rule of thumb.
        failed_seeds: their numbers.
        failures: why each of them counts as failed.
        measure_seconds: what measuring took.
        sha256: digests of the run's files by name, in hexadecimal.
    """

    status: Literal["running", "interrupted", "finished"]
    wall_seconds: float
    metric: str
    classes: tuple[str, ...]
    examples: Examples
    examples_sha256: str
    notes: tuple[str, ...]
    majority_score: MajorityScore
    seeds: tuple[SeedTriple, ...]
    steps_per_epoch: int
    grid: BatchGrid
    group_size: int | None
    remat: bool | None
    out_of_memory: tuple[int, ...]
    processes: int
    devices: int
    device: str
    versions: Mapping[str, str]
    attention: str | None = None
    unroll: bool | None = None
    compile_seconds: float | None = None
    memory: Memory | None = None
    guess_loss: float | None = None
    suited_rates: tuple[float, float] | None = None
    failed_seeds: tuple[int, ...] = ()
    failures: Mapping[int, str] = field(default_factory=dict)
    measure_seconds: float | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def outputs(self) -> int:
        """C, how many numbers a model predicts for each example: one for each class, or 1 of a regression."""
        return len(self.classes) or 1

    @property
    def of(self) -> Literal["classes", "numbers"]:
        """What is predicted."""
        return "classes" if self.classes else "numbers"

    @property
    def finished(self) -> bool:
        """Whether all seeds have been trained and measured."""
        return self.status == "finished"

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as they stand in `run.json`; what is not known yet is left out."""
        values = _ADAPTER.dump_python(self, mode="json", exclude_none=True)
        chosen_later = {"group_size": self.group_size, "remat": self.remat}  # null until then
        return {"format": self.format, **values, **chosen_later}


_ADAPTER: TypeAdapter[RunInfo] = TypeAdapter(RunInfo)


def info_from_json(text: str, where: str) -> RunInfo:
    """Reads the content of `run.json`, also that of older versions.

    Args:
        text: the content.
        where: the path, for messages.

    Raises:
        InputError: damaged, or of another format.
    """
    remedy = "delete the run and start it again"
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where}: missing or damaged ({error}); {remedy}") from None
    if isinstance(values, dict) and values.get("format") != FORMAT:
        versions = values.get("versions")
        version = versions.get("jaxstab") if isinstance(versions, dict) else None
        raise InputError(
            f"{where}: format {values.get('format', 0)} of jaxstab {version or 'another version'}; this version reads "
            f"format {FORMAT}; use that version, or {remedy}"
        )
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{where}: missing or damaged ({key or 'content'}: {first['msg']}); {remedy}") from None


def load_info(path: Path) -> RunInfo:
    """Reads `run.json`.

    Raises:
        InputError: missing, damaged, or of another format.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: missing or damaged ({error}); delete the run and start it again") from None
    return info_from_json(text, str(path))


def write_info(path: Path, info: RunInfo) -> None:
    """Writes `run.json`, whole."""
    write_json(path, info.to_json())
