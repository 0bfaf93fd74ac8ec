"""The whole experiment as frozen dataclasses; every key, its type and its default."""

import itertools
from collections.abc import Iterator
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from jaxstab.config.methods import STRICT
from jaxstab.config.mitigation import MitigationConfig

RegressionMetric = Literal["pearson", "spearman", "neg_rmse", "r2"]
Metric = Literal[
    "accuracy",
    "balanced_accuracy",
    "f1",
    "macro_f1",
    "weighted_f1",
    "matthews",
    "auroc",
    "average_precision",
    "neg_log_loss",
    "neg_brier",
    RegressionMetric,
]
DATA_SOURCES = ("split", "data")  # sources of randomness that are off unless seeds are given for them
SOURCES = ("init", "order", "dropout", *DATA_SOURCES)


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """`[model]`: the pre-trained encoder.

    Attributes:
        source: `bundled:minilm`, `bundled:smollm2`, `hub:owner/name`, a local directory in the Hugging Face layout, or
            a file of llama.cpp: a local `.gguf`, or `hub:owner/name/file.gguf`.
        revision: branch, tag or commit of a hub model.
        layers: use only this many encoder layers, from the first; all of them by default.
        base_precision: how large arrays that no seed trains are stored (with `lora`, `bitfit` or `freeze`): `bfloat16`
            halves their memory. Exported models have them as they were.
    """

    source: str
    revision: str = "main"
    layers: int | None = None
    base_precision: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True, config=STRICT)
class TaskConfig:
    """`[task]`: the texts and labels.

    Attributes:
        source: `bundled:bbc-news`, `hub:owner/name[/subset]`, or a local file or directory
            (CSV, TSV, JSON lines, Parquet, or what `datasets` wrote with `save_to_disk`).
        text: one or two text columns; known for GLUE and bundled tasks.
        label: the label column, strings or integers; of a regression numbers.
        kind: `regression` if labels are numbers to be predicted, with the mean squared error as loss; known for GLUE
            tasks, otherwise classification.
        metric: the score of the task; known for GLUE tasks, otherwise accuracy, or pearson for a regression.
        max_length: longest tokenised example, in tokens; longer ones are cut.
        train_examples: train on a random subset of this many examples.
        subset_seed: which subset.
        split_seed: how validation examples are halved when there is no test split.
        drop_empty: leave out rows without a text or without a label, instead of an error that names them.
    """

    source: str
    text: tuple[str, ...] | None = None
    label: str = "label"
    kind: Literal["classification", "regression"] | None = None
    metric: Metric | None = None
    max_length: int = 128
    train_examples: int | None = None
    subset_seed: int = 0
    split_seed: int = 0
    drop_empty: bool = False


@dataclass(frozen=True, config=STRICT)
class SeedTriple:
    """The sources of randomness of one run of training, and the number it goes by.

    Attributes:
        seed: the number shown in tables and files; unique in a run.
        init: seeds the values of newly initialised parameters.
        order: seeds the order of training examples.
        dropout: seeds the dropout masks.
        repeat: which time the same seeds are trained, from 0.
        split: seeds the division of examples into training and validation; None: as the task is given.
        data: seeds the subset of training examples; None: that of `task.subset_seed`.
    """

    seed: int
    init: int
    order: int
    dropout: int
    repeat: int = 0
    split: int | None = None
    data: int | None = None


@dataclass(frozen=True, config=STRICT)
class SeedsConfig:
    """`[seeds]`: which seeds to train.

    Attributes:
        count: train seeds 0 ... count - 1.
        list: train these seeds instead.
        init: initialisation seeds, where they differ from order and dropout.
        order: example-order seeds, likewise.
        dropout: dropout seeds, likewise.
        split: seeds of a source of randomness that is off by default: which of the training and validation examples are
            used for training and which for validation. As many of each as the task has, stratified by label.
        data: seeds of another: which `task.train_examples` of the training examples are used. Data seed n draws what
            `task.subset_seed = n` draws.
        crossed: every combination of `init`, `order`, `dropout`, `split` and `data` instead of element by element.
        repeats: train each seed this many times, to see what numerical noise alone does; seeds then count from 0.
        rounding: start every repeat but the first from parameters moved by one unit in their last place, up or down at
            random: what another order of sums does. Without it repeats are equal where the device is deterministic.
        group_size: seeds per device in one program; part of a run's identity, chosen at the start when not given.
    """

    count: int | None = None
    list: tuple[int, ...] | None = None
    init: tuple[int, ...] | None = None
    order: tuple[int, ...] | None = None
    dropout: tuple[int, ...] | None = None
    split: tuple[int, ...] | None = None
    data: tuple[int, ...] | None = None
    crossed: bool = False
    repeats: int = 1
    rounding: bool = False
    group_size: int | None = None

    @property
    def draw_examples(self) -> bool:
        """Whether seeds train or are validated on different examples."""
        return any(getattr(self, name) is not None for name in DATA_SOURCES)

    def resolve(self) -> tuple[SeedTriple, ...]:
        """Returns one triple per seed; `seed` counts from 0 if the sources are given apart or repeated."""
        once = self._once()
        if self.repeats == 1:
            return once
        repeated = [(one, repeat) for one in once for repeat in range(self.repeats)]
        return tuple(replace(one, seed=i, repeat=repeat) for i, (one, repeat) in enumerate(repeated))

    def _once(self) -> tuple[SeedTriple, ...]:
        apart = {name: getattr(self, name) for name in SOURCES}
        if all(values is None for values in apart.values()):
            seeds = self.list if self.list is not None else tuple(range(10 if self.count is None else self.count))
            return tuple(SeedTriple(s, s, s, s) for s in seeds)
        off = {name: (None if name in DATA_SOURCES else 0,) for name in SOURCES}
        lists = [off[name] if values is None else values for name, values in apart.items()]
        if self.crossed:
            combined: Iterator[tuple[Any, ...]] = itertools.product(*lists)
        else:
            longest = max(len(values) for values in lists)
            combined = zip(*(values * longest if len(values) == 1 else values for values in lists), strict=True)
        return tuple(SeedTriple(i, **dict(zip(SOURCES, values, strict=True))) for i, values in enumerate(combined))


@dataclass(frozen=True, config=STRICT)
class TrainConfig:
    """`[train]`: the recipe; defaults are those of Du & Nguyen (2023).

    Attributes:
        epochs: passes over the training examples.
        patience: stop a seed after so many epochs without a better validation score; by default all seeds take all
            epochs. The learning rate follows the schedule of all epochs.
        batch_size: examples per step.
        learning_rate: its peak, after warm-up.
        warmup: share of all steps in which the learning rate rises linearly; then it falls linearly to 0.
        weight_decay: decoupled (AdamW); not on biases and LayerNorm.
        clip_norm: largest global norm of a seed's gradient.
        beta1: decay of AdamW's first moment.
        beta2: decay of AdamW's second moment.
        epsilon: AdamW's epsilon.
        bias_correction: of AdamW's moments, without which the first steps are too long.
        dropout: replaces the dropout rates of the model's own config.
        label_smoothing: share of each example's target that is spread evenly over all classes.
        class_weights: weight of each class in the loss, by its name, or `balanced`: N / (C x examples of the class).
        precision: of the forward and backward pass; parameters are always float32. `tensorfloat32` means float32 with
            matrix products in TF32 where the device has it. `auto` is float32 on a CPU and bfloat16 on a GPU or TPU;
            config.toml in the run directory holds what was chosen.
        moments: how AdamW's moments are stored; `bfloat16`, rounded stochastically, halves their memory.
        remat: recompute a layer's activations in the backward pass: less memory, more time; chosen when not given.
        unroll: compile all layers one after the other instead of a loop over layers: faster steps, longer compilation;
            chosen when not given.
    """

    epochs: int = 5
    patience: int | None = None
    batch_size: int = 16
    learning_rate: float = 2e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    bias_correction: bool = True
    dropout: float | None = None
    label_smoothing: float = 0.0
    class_weights: Literal["balanced"] | dict[str, float] | None = None
    precision: Literal["auto", "float32", "tensorfloat32", "bfloat16"] = "auto"
    moments: Literal["float32", "bfloat16"] = "float32"
    remat: bool | None = None
    unroll: bool | None = None


@dataclass(frozen=True, config=STRICT)
class OutputConfig:
    """`[output]`: where results go.

    Attributes:
        dir: the run directory; `runs/NAME` by default.
        keep_representations: also write `representations.npy` [S, L, N, D], hidden states of the token that the
            head reads.
        keep_weights: what `jaxstab export` needs: `true` or `best` saves every seed's weights of the best validation
            score, `final` the last ones, a list the best ones of some seeds.
        checkpoint_minutes: minutes between checkpoints of the seeds in training, which an interrupted run resumes from.
        tensorboard: write learning curves for TensorBoard during training, to `tensorboard` in the run directory.
        wandb: project of Weights & Biases to which learning curves are sent during training.
    """

    dir: str | None = None
    keep_representations: bool = False
    keep_weights: bool | Literal["best", "final"] | tuple[int, ...] = False
    checkpoint_minutes: float = 10.0
    tensorboard: bool = False
    wandb: str | None = None


@dataclass(frozen=True, config=STRICT)
class Config:
    """One experiment: a model, a task, the seeds and the recipe.

    Attributes:
        model: `[model]`.
        task: `[task]`.
        name: what the run is called; the name of the config file by default.
        seeds: `[seeds]`.
        train: `[train]`.
        mitigation: `[mitigation]`.
        output: `[output]`.
        grid: `[grid]`, lists of values by key (`train.learning_rate = [1e-5, 2e-5]`): every combination is a run of its
            own with the same seeds, in a directory below this one's.
    """

    model: ModelConfig
    task: TaskConfig
    name: str = "run"
    seeds: SeedsConfig = field(default_factory=SeedsConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    mitigation: MitigationConfig = field(default_factory=MitigationConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    grid: dict[str, Any] | None = None

    @property
    def directory(self) -> Path:
        """The run directory."""
        return Path(self.output.dir or f"runs/{self.name}")
