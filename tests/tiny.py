"""Small inputs made from nothing: a random BERT checkpoint with its tokenizer, and a task that can be learned."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

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

# The models of the golden arrays: changes of SIZES, and arguments of `random_weights`.
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


def random_weights(sizes: dict, seed: int = 0, prefix: str = "bert.", pooler: bool = True) -> dict[str, np.ndarray]:
    """Weights under Hugging Face's names, larger than an initialisation so that every layer matters."""
    rng = np.random.default_rng(seed)
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (sizes["vocab_size"], width),
        "embeddings.position_embeddings.weight": (sizes["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (sizes["type_vocab_size"], width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for layer in range(sizes["num_hidden_layers"]):
        where = f"encoder.layer.{layer}"
        linears = {
            "attention.self.query": (width, width),
            "attention.self.key": (width, width),
            "attention.self.value": (width, width),
            "attention.output.dense": (width, width),
            "intermediate.dense": (inner, width),
            "output.dense": (width, inner),
        }
        for name, shape in linears.items():
            shapes[f"{where}.{name}.weight"], shapes[f"{where}.{name}.bias"] = shape, shape[:1]
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{where}.{name}.weight"] = shapes[f"{where}.{name}.bias"] = (width,)
    if pooler:
        shapes["pooler.dense.weight"], shapes["pooler.dense.bias"] = (width, width), (width,)
    offset = {name: 1.0 if name.endswith("LayerNorm.weight") else 0.0 for name in shapes}
    return {
        prefix + name: (offset[name] + 0.1 * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def write_checkpoint(directory: Path, sizes: dict | None = None, **weights) -> Path:
    """Writes config.json, model.safetensors and tokenizer files."""
    sizes = sizes or SIZES
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(sizes))
    save_file(random_weights(sizes, **weights), directory / "model.safetensors")
    write_tokenizer(directory)
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
