"""One seed's low-rank adapters in the layout of PEFT, with the head that was trained beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxstab.errors import InputError
from jaxstab.models.families import family_of
from jaxstab.models.weight_names import Entry
from jaxstab.runs.directory import Run
from jaxstab.runs.files import write_json

PREFIX = "base_model.model."


def check_adapter(run: Run) -> None:
    """Checks that a run has adapters that fit its whole base model.

    Raises:
        InputError: it has none, or its model is cut, which PEFT's base is not.
    """
    if run.config.mitigation.lora is None:
        raise InputError(f"{run.path}: was not trained with lora, so it has no adapter; leave --adapter out")
    if run.config.model.layers is not None:
        raise InputError(
            f"{run.path}: model.layers = {run.config.model.layers} cut the model, an adapter fits only a whole one; "
            "leave --adapter out"
        )


def write_adapter(target: Path, run: Run, config: Any, trained: Mapping[str, Any]) -> None:
    """Writes adapter_config.json and adapter_model.safetensors, in float32.

    Args:
        target: the directory.
        run: a run with LoRA.
        config: the family's, of the whole model.
        trained: nested dict of one seed's trained parameters.
    """
    from safetensors.numpy import save_file

    family = family_of(config)
    tensors: dict[str, np.ndarray] = {}
    targets, heads, stored_as_used = set(), set(), False
    for entry in family.table(config):
        beside, own = _at(trained, (*entry.path[:-1], "lora")), _at(trained, entry.path)
        if beside is not None and entry.path[-1] == "kernel":
            tensors |= _of_layers(entry, beside)
            targets.add(entry.file_name.partition("{layer}.")[2].removesuffix(".weight"))
            stored_as_used |= not entry.transposed
        elif own is not None:
            tensors[PREFIX + entry.file_name] = own.T if entry.transposed else own
            heads.add(entry.file_name.removeprefix(family.prefix).partition(".")[0])
    lora, model = run.config.mitigation.lora, run.config.model
    settings = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": model.source.removeprefix("hub:"),
        "revision": model.revision,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "use_rslora": lora.rank_stabilised,
        "target_modules": sorted(targets),
        "modules_to_save": sorted(heads),
        "fan_in_fan_out": stored_as_used,
        "bias": "none",
        "inference_mode": True,
    }
    write_json(target / "adapter_config.json", settings)
    whole = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
    save_file(whole, target / "adapter_model.safetensors", metadata={"format": "pt"})


def _of_layers(entry: Entry, lora: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The adapters beside one kind of linear layer: A as [rank, in] and B as [out, rank]."""
    found = {}
    for number, name in enumerate(entry.file_names(len(lora["lora_a"]))):
        module = PREFIX + name.removesuffix(".weight")
        found[f"{module}.lora_A.weight"] = lora["lora_a"][number].T
        found[f"{module}.lora_B.weight"] = lora["lora_b"][number].T
    return found


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree
