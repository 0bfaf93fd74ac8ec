"""Small generated inputs: random checkpoints with a tokenizer, a task that can be learned, votes of seeds."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from jaxstab import Sample
from jaxstab.models.families import FAMILIES, make_classifier

GOOD, BAD = ("good", "fine", "great", "nice"), ("bad", "poor", "awful", "dull")
NEUTRAL = ("the", "film", "is", "a", "plot", "with", "some", "actors", "and", "music")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *GOOD, *BAD, *NEUTRAL)

SIZES = {
    "model_type": "bert",
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "pad_token_id": 0,
}

# Sizes of one tiny model for each family.
FAMILY_SIZES = {
    "bert": SIZES,
    "roberta": {**SIZES, "model_type": "roberta", "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5},
    "xlm-roberta": {**SIZES, "model_type": "xlm-roberta", "type_vocab_size": 1, "pad_token_id": 1},
    "electra": {**SIZES, "model_type": "electra", "embedding_size": 20},
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": len(VOCABULARY),
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "max_position_embeddings": 24,
        "pad_token_id": 0,
    },
    "albert": {
        **SIZES,
        "model_type": "albert",
        "embedding_size": 20,
        "num_hidden_layers": 3,
        "hidden_act": "gelu_new",
        "classifier_dropout_prob": 0.1,
    },
    "mpnet": {**SIZES, "model_type": "mpnet", "pad_token_id": 1, "relative_attention_num_buckets": 32},
    "deberta-v2": {  # like the published deberta-v3 models, but small
        **SIZES,
        "model_type": "deberta-v2",
        "relative_attention": True,
        "max_relative_positions": -1,
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "modernbert": {  # like the published models, but small
        **SIZES,
        "model_type": "modernbert",
        "num_hidden_layers": 5,
        "local_attention": 6,
        "global_attn_every_n_layers": 3,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
    },
}

_DECODER = {
    key: value for key, value in SIZES.items() if key not in ("type_vocab_size", "hidden_act", "layer_norm_eps")
} | {"num_key_value_heads": 2, "rms_norm_eps": 1e-5, "hidden_act": "silu", "attention_dropout": 0.1}

# Sizes of one tiny model for each family of decoders.
DECODER_SIZES = {
    "llama": {
        **_DECODER,
        "model_type": "llama",
        "rope_theta": 500.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 100,
        },
    },
    "mistral": {**_DECODER, "model_type": "mistral", "sliding_window": 5, "head_dim": 16},
    "qwen2": {
        **_DECODER,
        "model_type": "qwen2",
        "use_sliding_window": True,
        "max_window_layers": 1,
        "sliding_window": 4,
    },
    "qwen3": {**_DECODER, "model_type": "qwen3", "head_dim": 12, "rope_theta": 1e6},
    "gemma": {**_DECODER, "model_type": "gemma", "head_dim": 16, "num_key_value_heads": 1, "hidden_act": "gelu"},
    "gemma3_text": {
        **_DECODER,
        "model_type": "gemma3_text",
        "head_dim": 16,
        "query_pre_attn_scalar": 20,
        "num_hidden_layers": 4,
        "sliding_window_pattern": 3,
        "sliding_window": 4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "gpt2": {
        "model_type": "gpt2",
        "vocab_size": len(VOCABULARY),
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 24,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    },
}

# The models of the golden arrays: changes to SIZES, and arguments of `random_weights`.
GOLDEN_MODELS = {
    "plain": ({}, {"prefix": "bert."}),
    "wide": (
        {"hidden_size": 48, "num_attention_heads": 6, "intermediate_size": 80, "hidden_act": "gelu_new"},
        {"prefix": "", "seed": 1},
    ),
    "deep": (
        {"num_hidden_layers": 4, "hidden_act": "relu", "layer_norm_eps": 1e-5, "max_position_embeddings": 40},
        {"prefix": "bert.", "seed": 2},
    ),
}


def random_weights(
    sizes: dict, seed: int = 0, prefix: str | None = None, pooler: bool = True, classes: int | None = None
) -> dict[str, np.ndarray]:
    """Random weights under Hugging Face's names, larger than at initialisation so that every layer matters.

    Args:
        sizes: values of config.json, of any family.
        seed: random seed.
        prefix: prefix of the names, instead of the family's own.
        pooler: whether the head's first layer is included.
        classes: number of classes of the classifier; None for no classifier.
    """
    family = FAMILIES[sizes["model_type"]]
    config = family.read_config(sizes, classes or 2, None)
    left_out = [part for part in family.head if not (classes if part == family.head[-1] else pooler)]
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape, is_scale in _named_shapes(config, left_out):
        name = name if prefix is None else prefix + name.removeprefix(family.prefix)
        weights[name] = (is_scale + 0.1 * rng.standard_normal(shape)).astype(np.float32)
    return weights


def _named_shapes(config, left_out):
    """The name and file shape of every weight, layer by layer, and whether it scales a LayerNorm."""
    shapes = make_classifier(config)[1]
    table = [entry for entry in FAMILIES[config.model_type].table(config) if entry.path[0] not in left_out]
    in_layers = [entry for entry in table if entry.by_layer]
    first = table.index(in_layers[0])

    def row(entry, layer=None):
        shape = shapes
        for key in entry.path:
            shape = shape[key]
        shape = shape.shape if layer is None else shape.shape[1:]
        name = entry.file_name if layer is None else entry.file_names(layer + 1)[layer]
        return name, shape[::-1] if entry.transposed else shape, entry.path[-1] == "scale"

    depth = shapes["layers"]["intermediate"]["kernel"].shape[0]
    yield from (row(entry) for entry in table[:first])
    yield from (row(entry, layer) for layer in range(depth) for entry in in_layers)
    yield from (row(entry) for entry in table[first:] if not entry.by_layer)


def write_checkpoint(directory: Path, sizes: dict | None = None, **weights) -> Path:
    """Writes config.json, model.safetensors and tokenizer files of any family; arguments as for `random_weights`."""
    sizes = sizes or SIZES
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(sizes))
    save_file(random_weights(sizes, **weights), directory / "model.safetensors")
    padding, unknown, *others = VOCABULARY
    write_tokenizer(
        directory, (padding, unknown, *others) if sizes["pad_token_id"] == 0 else (unknown, padding, *others)
    )
    return directory


def write_tokenizer(directory: Path, vocabulary: tuple[str, ...] = VOCABULARY) -> None:
    """Writes a tokenizer that knows whole words."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


def make_rows(count: int, seed: int) -> list[dict]:
    """Sentences of three to eleven words; label 1 where a good word occurs, 0 where a bad one does."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        words = list(rng.choice(NEUTRAL, rng.integers(2, 11)))
        words.insert(rng.integers(len(words) + 1), str(rng.choice(GOOD if i % 2 else BAD)))
        rows.append({"sentence": " ".join(words), "label": i % 2})
    return rows


def write_task(directory: Path, train: int = 44, validation: int = 24, test: int = 30) -> Path:
    """Writes train, validation and test as JSON lines."""
    directory.mkdir(parents=True, exist_ok=True)
    for seed, (name, count) in enumerate({"train": train, "validation": validation, "test": test}.items()):
        lines = [json.dumps(row) for row in make_rows(count, seed)]
        (directory / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return directory


def toy_sample(name, accuracy, seeds=8, task="toy"):
    """Seeds that are right on random examples; another name draws other votes."""
    rng = np.random.default_rng(len(name))
    labels = np.random.default_rng(0).integers(2, size=100)
    votes = np.where(rng.random((seeds, 100)) < accuracy, labels, 1 - labels)
    return Sample.from_arrays(name, predictions=votes, labels=labels, seeds=range(seeds), task=task)
