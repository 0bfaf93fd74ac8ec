"""GGUF files of llama.cpp, with weights of few bits: converted once to a directory in the Hugging Face layout.

Source: the specification of GGUF (ggml-org/ggml, docs/gguf.md) and the names of llama.cpp; dequantised by its package
`gguf`.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from jaxstab.errors import InputError
from jaxstab.runs.files import write_json

ARCHITECTURES = ("llama", "qwen2", "qwen3")
SIZES = {  # keys of config.json by those of GGUF, after the name of the architecture
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}
TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOKENS = "tokenizer.ggml."
# How texts are cut before byte-pair encoding, by the names of llama.cpp (the same expressions are in llama-vocab.cpp).
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WORDS = {
    "default": None,
    "gpt-2": None,
    "smollm": None,
    "llama-bpe": LLAMA3_WORDS,
    "qwen2": LLAMA3_WORDS.replace(r"\p{N}{1,3}", r"\p{N}"),
}
CONTROL, OWN = 3, 4  # types of tokens that are not made of others


def convert(file: Path) -> Path:
    """Returns a directory in the Hugging Face layout, in the user's cache, that holds what a GGUF file holds.

    Weights are float32. It is made once for each content.

    Raises:
        InputError: the file cannot be read, or its model or tokenizer is not supported.
    """
    try:
        from gguf import GGUFReader
    except ImportError:
        raise InputError(f"{file}: GGUF files need the package gguf; pip install 'jaxstab[gguf]'") from None
    try:
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()[:32]
        directory = Path(platformdirs.user_cache_dir("jaxstab")) / "gguf" / digest
        if directory.is_dir():
            return directory
        reader = GGUFReader(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); give the path of a GGUF file") from None
    except (ValueError, IndexError, KeyError) as error:
        raise InputError(f"{file}: damaged or not a GGUF file ({error}); download it again") from None
    fields = {name: field.contents() for name, field in reader.fields.items()}
    try:
        config, tokenizer = read_config(fields), make_tokenizer(fields)
        tensors = read_tensors(reader.tensors, config)
        config["tie_word_embeddings"] = "lm_head.weight" not in tensors
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    except KeyError as error:
        raise InputError(f"{file}: lacks {error}; download the model in another form") from None
    _write(directory, config, tokenizer, tensors)
    return directory


def read_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what config.json would hold.

    Args:
        fields: the metadata of a file, by key.

    Raises:
        InputError: an architecture that is not supported.
        KeyError: a size is missing.
    """
    kind = fields["general.architecture"]
    if kind not in ARCHITECTURES:
        raise InputError(
            f"architecture {kind!r} is not one of {', '.join(ARCHITECTURES)}; take the model in the Hugging Face layout"
        )
    if fields.get(f"{kind}.expert_count"):
        raise InputError("mixtures of experts are not supported; use another model")
    values = {key: fields[f"{kind}.{name}"] for name, key in SIZES.items() if f"{kind}.{name}" in fields}
    scaling = fields.get(f"{kind}.rope.scaling.type", "none")
    if scaling != "none":
        values["rope_scaling"] = {"rope_type": scaling, "factor": fields.get(f"{kind}.rope.scaling.factor")}
    special = {name: fields.get(f"{TOKENS}{name}_token_id") for name in ("bos", "eos")}
    return {
        "model_type": kind,
        "vocab_size": len(fields[f"{TOKENS}tokens"]),
        **values,
        **{f"{name}_token_id": number for name, number in special.items()},
        "pad_token_id": fields.get(f"{TOKENS}padding_token_id"),
    }


def read_tensors(tensors: Any, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Dequantises the weights, in float32, by their names in files of transformers.

    Args:
        tensors: of a `gguf.GGUFReader`.
        config: what `read_config` returns.

    Raises:
        InputError: a weight that these models do not have, or of a kind that the package cannot read.
    """
    from gguf.quants import dequantize

    found = {}
    for tensor in tensors:
        name = _name(tensor.name)
        try:
            value = np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        except NotImplementedError:
            raise InputError(
                f"weight {tensor.name} is of kind {tensor.tensor_type.name}, which gguf cannot read; use another file"
            ) from None
        if config["model_type"] == "llama" and ".attn_q." in tensor.name:
            value = _unpermuted(value, config["num_attention_heads"])
        if config["model_type"] == "llama" and ".attn_k." in tensor.name:
            value = _unpermuted(value, config.get("num_key_value_heads", config["num_attention_heads"]))
        found[name] = value
    return found


def _name(name: str) -> str:
    """The name of a weight in files of transformers."""
    stem, _, kind = name.rpartition(".")
    block, _, part = stem.removeprefix("blk.").partition(".")
    if name.startswith("blk.") and part in IN_LAYER:
        return f"model.layers.{block}.{IN_LAYER[part]}.{kind}"
    if stem in TOP:
        return f"{TOP[stem]}.{kind}"
    raise InputError(f"weight {name} is not supported; take the model in the Hugging Face layout")


def _unpermuted(value: np.ndarray, heads: int) -> np.ndarray:
    """Undoes llama.cpp's order of rows: it puts each feature of a head beside the one that it is rotated with."""
    pairs = value.reshape(heads, value.shape[0] // heads // 2, 2, *value.shape[1:])
    return pairs.swapaxes(1, 2).reshape(value.shape)


def make_tokenizer(fields: Mapping[str, Any]) -> Any:
    """Returns the tokenizer, byte-level byte-pair encoding, as a fast one of transformers.

    Args:
        fields: the metadata of a file, by key.

    Raises:
        InputError: another kind of tokenizer.
        KeyError: a part of it is missing.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    kind, cut = fields[f"{TOKENS}model"], fields.get(f"{TOKENS}pre", "default")
    if kind != "gpt2" or cut not in WORDS:
        raise InputError(
            f"tokenizer {kind!r} with pre-tokenizer {cut!r} is not supported; take the model in the Hugging Face layout"
        )
    tokens = fields[f"{TOKENS}tokens"]
    merges = [tuple(pair.split(" ", 1)) for pair in fields[f"{TOKENS}merges"]]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    words = WORDS[cut]
    steps: list[Any] = [] if words is None else [pre_tokenizers.Split(Regex(words), "isolated")]
    steps = [pre_tokenizers.Digits(individual_digits=True)] if cut == "smollm" else steps
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words is None)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, in_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    if cut == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    kinds = fields[f"{TOKENS}token_type"]
    own = [
        AddedToken(t, special=k == CONTROL, normalized=False)
        for t, k in zip(tokens, kinds, strict=True)
        if k in (CONTROL, OWN)
    ]
    tokenizer.add_tokens(own)
    first = fields.get(f"{TOKENS}bos_token_id")
    if fields.get(f"{TOKENS}add_bos_token", cut == "llama-bpe") and first is not None:
        start = tokens[first]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", pair=f"{start} $A {start}:1 $B:1", special_tokens=[(start, first)]
        )
    special = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    numbers = {name: fields.get(f"{TOKENS}{key}_token_id") for name, key in special.items()}
    named = {f"{name}_token": tokens[number] for name, number in numbers.items() if number is not None}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **named)


def _write(directory: Path, config: Mapping[str, Any], tokenizer: Any, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a model whole or not at all; another process may have been faster."""
    from safetensors.numpy import save_file

    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=directory.parent))
        try:
            write_json(partial / "config.json", {key: value for key, value in config.items() if value is not None})
            save_file(dict(tensors), partial / "model.safetensors", metadata={"format": "pt"})
            tokenizer.save_pretrained(partial)
            if not directory.is_dir():
                partial.rename(directory)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"{directory}: cannot be written ({error.strerror}); set XDG_CACHE_HOME to a directory with room"
        ) from None
