"""One seed's weights as a model in the Hugging Face layout."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from jaxstab.config import hyperparameters
from jaxstab.data.tokens import load_tokenizer, set_padding
from jaxstab.errors import InputError
from jaxstab.experiment.adapters import check_adapter, write_adapter
from jaxstab.experiment.inputs import make_recipe
from jaxstab.mitigation import make_methods
from jaxstab.mitigation.lora import scale
from jaxstab.models.families import family_of
from jaxstab.models.parameters import join_layers, merge_adapters, merged, split_layers
from jaxstab.models.pretrained import (
    Pretrained,
    load_encoder_config,
    load_pretrained,
    resolve_model,
    restore_vocabulary,
    to_tensors,
)
from jaxstab.runs.directory import Run, vocabulary_file, weights_file
from jaxstab.runs.files import load_array, load_weights, write_json
from jaxstab.training.recipe import number_frozen
from jaxstab.training.step import untouched_decay


def export(run: Run | str | Path, seed: int, to: str | Path, adapter: bool = False) -> Path:
    """Writes a directory that transformers' `AutoModelForSequenceClassification.from_pretrained` can load.

    It holds float32 weights as safetensors, config.json with the task's labels, and the tokenizer. Adapters are merged,
    or with `adapter` written alone, as PEFT's `PeftModel.from_pretrained` loads them (`jaxstab.experiment.adapters`).
    Weight decay is applied to embedding rows of tokens that occur in no text of the task, as if they had been trained.

    Args:
        run: a finished run with saved weights (`[output] keep_weights`), or its directory.
        seed: number of the seed to export.
        to: the directory to write; it must be new or empty.
        adapter: write only what LoRA trained.

    Raises:
        InputError: the run has no adapter, the seed or its weights do not exist, the directory is not empty, or the
            pre-trained model is gone.
    """
    run, target = run if isinstance(run, Run) else Run.load(run), Path(to)
    if seed not in run.seeds:
        raise InputError(f"{run.path}: has no seed {seed}; its seeds are {', '.join(map(str, run.seeds))}")
    if not weights_file(run, seed).exists():
        raise InputError(
            f"{run.path}: has not saved the weights of seed {seed}; run again in another directory with "
            "--output.keep_weights best"
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target}: exists and is not empty; give --to another directory")
    if adapter:
        check_adapter(run)
    directory, config = resolve_model(run.config.model), run.config
    encoder = load_encoder_config(directory, run.info.outputs, config.model, config.train.dropout)
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        tokenizer = load_tokenizer(directory)
        padding = set_padding(tokenizer, encoder.vocab_size) if family_of(encoder).is_causal else None
        tokenizer.save_pretrained(partial)
        if adapter:
            write_adapter(partial, run, encoder, load_weights(weights_file(run, seed)))
        else:
            tensors = to_tensors(encoder, whole_parameters(run, seed, load_pretrained(directory, encoder)))
            _write(partial, directory, run, tensors, padding)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); give --to another directory") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def whole_parameters(run: Run, seed: int, pretrained: Pretrained) -> dict[str, Any]:
    """Returns all parameters of a seed's classifier, trained or not, as nested float32 arrays.

    Args:
        run: a run with saved weights of the seed.
        seed: number of the seed.
        pretrained: the pre-trained model with all rows of the word embedding.
    """
    config, trained = run.config, load_weights(weights_file(run, seed))
    methods = make_methods(config.mitigation)
    params = merged(split_layers(pretrained.params, number_frozen(methods)), trained)
    if "word" in trained.get("embeddings", {}):
        recipe = make_recipe(
            config,
            pretrained,
            classes=run.info.outputs,
            metric=run.info.metric,
            steps_per_epoch=run.info.steps_per_epoch,
            grid=run.info.grid,
        )
        decay = untouched_decay(recipe, hyperparameters(config), _saved_step(run, seed))
        params["embeddings"]["word"]["embedding"] = restore_vocabulary(
            pretrained.params["embeddings"]["word"]["embedding"],
            trained["embeddings"]["word"]["embedding"],
            load_array(vocabulary_file(run)),
            decay,
        )
    lora = config.mitigation.lora
    return merge_adapters(join_layers(params), scale(lora.alpha, lora.rank, lora.rank_stabilised) if lora else 1.0)


def _saved_step(run: Run, seed: int) -> int:
    """The number of steps after which the seed's weights were saved."""
    history = run.history[run.history.seed == seed]
    return int(history.step.max() if run.config.output.keep_weights == "final" else history[history.best].step.iloc[0])


def _write(target: Path, source: Path, run: Run, tensors: dict[str, np.ndarray], padding: int | None) -> None:
    from safetensors.numpy import save_file
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as NAMES

    values = json.loads((source / "config.json").read_text(encoding="utf-8"))
    depth = next(key for key in ("n_layers", "n_layer", "num_hidden_layers") if key in values)
    layers = run.config.model.layers or values[depth]
    labels = dict(enumerate(run.info.classes or ["LABEL_0"]))  # a regression has one, called so by transformers
    values |= {
        "architectures": [NAMES[values["model_type"]]],
        depth: layers,
        "dtype": "float32",
        "id2label": {str(number): label for number, label in labels.items()},
        "label2id": {label: number for number, label in labels.items()},
        "problem_type": "single_label_classification" if run.info.classes else "regression",
    }
    if values.get("layer_types"):
        values["layer_types"] = values["layer_types"][:layers]
    if padding is not None:
        values["pad_token_id"] = padding
    write_json(target / "config.json", values)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
