"""Tokenising texts, once for all seeds."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from jaxstab import libraries
from jaxstab.data.batches import Examples
from jaxstab.data.draws import Draws
from jaxstab.data.task import Split, Task
from jaxstab.errors import InputError

ROUND_LENGTH_TO = 8
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
)


@dataclass(frozen=True)
class EncodedTask:
    """A task as arrays.

    Attributes:
        train: token arrays of the training split; with `draws`, of all examples that seeds draw theirs from.
        validation: token arrays of the validation split.
        test: token arrays of the test split.
        vocabulary: [V] int32, the tokenizer's ids that occur in the task, ascending; `input_ids` index into it.
            Embedding rows outside it get no gradient, so that training can do without them.
        draws: how each seed draws its own examples; None if all train and are validated on the same.
    """

    train: Examples
    validation: Examples
    test: Examples
    vocabulary: np.ndarray
    draws: Draws | None = None


def load_tokenizer(directory: Path) -> Any:
    """Loads the model's own fast tokenizer.

    Raises:
        InputError: none there, or not a fast one.
    """
    libraries.import_for_texts()
    from transformers import AutoTokenizer

    if not any((directory / name).exists() for name in TOKENIZER_FILES):
        raise InputError(f"{directory}: has no tokenizer; it needs one of {', '.join(TOKENIZER_FILES)}")
    try:
        with libraries.quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    except Exception as error:
        reason = libraries.reason(error)
        raise InputError(f"{directory}: cannot load the tokenizer: {reason}; save it again") from error
    if not tokenizer.is_fast:
        raise InputError(f"{directory}: its tokenizer has no fast version; add a tokenizer.json")
    return tokenizer


def encode_task(
    task: Task,
    tokenizer: Any,
    max_length: int,
    vocab_size: int,
    show_progress: bool = False,
    draws: Draws | None = None,
) -> EncodedTask:
    """Tokenises the three splits. Tokens are cached in the user's cache directory.

    Args:
        task: the texts.
        tokenizer: a fast tokenizer of transformers.
        max_length: longer examples are cut off; in tokens, special tokens included.
        vocab_size: rows of the model's word embedding.
        show_progress: whether to show a progress bar for each split.
        draws: how each seed draws its own examples, if it does.

    Raises:
        InputError: a text has a token for which the model has no embedding.
    """
    padding = padding_token(tokenizer, vocab_size)
    encoded = {
        name: _encode(getattr(task, name), name, tokenizer, max_length, padding, show_progress)
        for name in ("train", "validation", "test")
    }
    vocabulary = np.unique(np.concatenate([np.unique(examples.input_ids) for examples in encoded.values()]))
    if vocabulary[-1] >= vocab_size:
        raise InputError(
            f"the tokenizer has {len(tokenizer)} tokens, the model's vocab_size is {vocab_size}, and token "
            f"{vocabulary[-1]} occurs; use the tokenizer that belongs to the model"
        )
    restricted = {
        name: examples._replace(input_ids=np.searchsorted(vocabulary, examples.input_ids).astype(np.int32))
        for name, examples in encoded.items()
    }
    if draws and draws.validation:
        restricted["train"] = _concatenated(restricted["train"], restricted["validation"])
    return EncodedTask(**restricted, vocabulary=vocabulary.astype(np.int32), draws=draws)


def padding_token(tokenizer: Any, vocab_size: int) -> int:
    """Returns the number of the token that pads: the tokenizer's own, or else its end of text, or else 0.

    Padding reaches no number of a model: it only fills arrays, and stands for a text without any token.

    Args:
        tokenizer: of transformers.
        vocab_size: rows of the model's word embedding; a token that has none does not pad.
    """
    usable = (one for one in (tokenizer.pad_token_id, tokenizer.eos_token_id) if one is not None and one < vocab_size)
    return next(usable, 0)


def set_padding(tokenizer: Any, vocab_size: int) -> int:
    """Gives a tokenizer that lacks a token to pad with the one of `padding_token`, and returns its number.

    A decoder of transformers finds the last token of a padded text by the number of the padding.
    """
    number = padding_token(tokenizer, vocab_size)
    if tokenizer.pad_token_id != number:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(number)
    return number


def _encode(split: Split, name: str, tokenizer: Any, max_length: int, padding: int, show_progress: bool) -> Examples:
    import datasets

    rows = datasets.Dataset.from_dict({f"text{i}": list(texts) for i, texts in enumerate(split.texts)})
    fingerprint = _fingerprint(split, tokenizer, max_length)
    cache = Path(platformdirs.user_cache_dir("jaxstab")) / "tokens"
    cache.mkdir(parents=True, exist_ok=True)

    def tokenise(batch: Mapping[str, list[str]]) -> dict[str, list[list[int]]]:
        output = tokenizer(*batch.values(), truncation=True, max_length=max_length)
        input_ids = [ids or [padding] for ids in output["input_ids"]]  # tokenizers of decoders may add nothing
        token_types = output.get("token_type_ids", [[0] * len(ids) for ids in input_ids])
        return {"input_ids": input_ids, "token_type_ids": token_types}

    if not show_progress:
        datasets.disable_progress_bars()
    try:
        tokens = rows.map(
            tokenise,
            batched=True,
            remove_columns=rows.column_names,
            desc=f"Tokenising {name}",
            cache_file_name=str(cache / f"{fingerprint}.arrow"),
            new_fingerprint=fingerprint,
        )
    finally:
        datasets.enable_progress_bars()
    ids = tokens.data.column("input_ids").combine_chunks()
    types = tokens.data.column("token_type_ids").combine_chunks()
    lengths = ids.value_lengths().to_numpy().astype(np.int32)
    return Examples(
        input_ids=_pad(ids.flatten().to_numpy(), lengths, padding),
        token_type_ids=_pad(types.flatten().to_numpy(), lengths, 0),
        lengths=lengths,
        labels=split.labels,
    )


def _concatenated(first: Examples, second: Examples) -> Examples:
    width = max(one.input_ids.shape[1] for one in (first, second))

    def join(name: str) -> np.ndarray:
        arrays = [np.asarray(getattr(one, name)) for one in (first, second)]
        if arrays[0].ndim == 2:
            arrays = [np.pad(array, [(0, 0), (0, width - array.shape[1])]) for array in arrays]
        return np.concatenate(arrays)

    return Examples(*map(join, Examples._fields))


def _pad(values: np.ndarray, lengths: np.ndarray, fill: int) -> np.ndarray:
    width = -(-int(lengths.max()) // ROUND_LENGTH_TO) * ROUND_LENGTH_TO
    padded = np.full((len(lengths), width), fill, np.int32)
    padded[np.arange(width) < lengths[:, None]] = values
    return padded


def _fingerprint(split: Split, tokenizer: Any, max_length: int) -> str:
    """The name of the cache entry: a digest of everything that the tokens depend on."""
    digest = hashlib.sha256(f"{max_length} {len(split.texts)}\n".encode())
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # Every call changes truncation and padding in this state; max_length, already digested, stands for them.
    digest.update(json.dumps({**state, "truncation": None, "padding": None}).encode())
    for column in split.texts:
        for text in column:
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:32]
