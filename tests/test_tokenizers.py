"""Tokenizers of decoders from their own files: byte-level BPE and sentencepiece, without a token to pad with."""

import io
import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from tiny import DECODER_SIZES, make_rows, write_checkpoint
from tokenizers import ByteLevelBPETokenizer

from jaxstab.config import ModelConfig, TaskConfig
from jaxstab.data.batches import Examples, make_batch, pack
from jaxstab.data.task import load_task
from jaxstab.data.tokens import encode_task, load_tokenizer, padding_token, set_padding
from jaxstab.errors import InputError
from jaxstab.models.families import apply, make_classifier
from jaxstab.models.pretrained import load_encoder_config, load_pretrained

TEXTS = [row["sentence"] for row in make_rows(200, 0)]


def _byte_level(directory, **special):
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(TEXTS, vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False)
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


def _task(directory, texts):
    for name in ("train", "validation", "test"):
        lines = [json.dumps({"text": text, "label": i % 2}) for i, text in enumerate(texts)]
        (directory / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return load_task(TaskConfig(source=str(directory), text=("text",)))


def test_byte_level_pairs_without_padding(tmp_path):
    """Like GPT-2's: nothing is added to a text, and nothing pads."""
    tokenizer = load_tokenizer(_byte_level(tmp_path, eos_token="<|endoftext|>"))
    assert tokenizer.pad_token is None
    texts = ["the film is good", "naïve café \U0001f600", "a", "the plot is bad with some music"]
    (tmp_path / "task").mkdir()
    encoded = encode_task(_task(tmp_path / "task", texts), tokenizer, 64, len(tokenizer))
    for row, text in enumerate(texts):
        length = encoded.train.lengths[row]
        ids = encoded.vocabulary[encoded.train.input_ids[row, :length]]
        assert ids.tolist() == tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text
    assert padding_token(tokenizer, len(tokenizer)) == set_padding(tokenizer, len(tokenizer)) == 0
    assert tokenizer.pad_token == "<|endoftext|>"


@pytest.mark.parametrize(
    ("special", "vocab_size", "expected"),
    [
        ({"pad_token": "<pad>", "eos_token": "<|endoftext|>"}, 400, "<pad>"),
        ({"pad_token": "<pad>", "eos_token": "<|endoftext|>"}, 280, "<|endoftext|>"),  # no embedding for <pad>
        ({}, 400, "<|endoftext|>"),  # token 0
    ],
)
def test_the_token_to_pad_with(special, vocab_size, expected, tmp_path):
    tokenizer = load_tokenizer(_byte_level(tmp_path, **special))
    set_padding(tokenizer, vocab_size)
    assert tokenizer.pad_token == expected


def test_a_text_without_tokens_has_one_and_more_tokens_than_embeddings_matter_only_where_they_occur(tmp_path):
    tokenizer = load_tokenizer(_byte_level(tmp_path, eos_token="<|endoftext|>", pad_token="<pad>"))
    (tmp_path / "task").mkdir()
    task = _task(tmp_path / "task", ["a", "the film", "<pad>", "good"])
    with pytest.raises(InputError, match=r"the model's vocab_size is \d+, and token \d+ occurs"):
        encode_task(task, tokenizer, 8, len(tokenizer) - 1)
    train = replace(task.train, texts=(("", "the film", "a", "good"),))
    splits = dict.fromkeys(("train", "validation", "test"), train)
    encoded = encode_task(replace(task, **splits), tokenizer, 8, len(tokenizer) - 1)
    assert encoded.train.lengths[0] == 1
    assert encoded.vocabulary[encoded.train.input_ids[0, 0]] == tokenizer.eos_token_id


def test_sentencepiece(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=written,
        vocab_size=60,
        model_type="bpe",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(written.getvalue())
    settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text(json.dumps(DECODER_SIZES["llama"]))
    tokenizer = load_tokenizer(tmp_path)
    expected = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    for text in TEXTS[:20]:
        assert tokenizer(text).input_ids == [expected.bos_id(), *expected.encode(text)]
    assert tokenizer.pad_token is None


def test_padding_reaches_no_number_of_a_decoder(tmp_path):
    directory = write_checkpoint(tmp_path, DECODER_SIZES["qwen3"], classes=3)
    config = load_encoder_config(directory, 3, ModelConfig(source=""), None)
    params = load_pretrained(directory, config).params
    rng, lengths = np.random.default_rng(0), np.array([5, 9, 3], np.int32)
    input_ids = rng.integers(1, config.vocab_size, (3, 12)).astype(np.int32)
    padding = np.arange(12) >= lengths[:, None]
    run = jax.jit(apply, static_argnums=(0, 4))

    def states(fill):
        ids = np.where(padding, fill, input_ids).astype(np.int32)
        examples = Examples(ids, np.zeros_like(ids), lengths, np.zeros(3, np.int32))
        starts = pack(np.arange(3)[None], lengths, 12).starts[0]
        return run(make_classifier(config)[0], params, make_batch(examples, np.arange(3), starts, 2), None, True)

    jax.tree.map(np.testing.assert_array_equal, states(0), states(config.vocab_size - 1))
