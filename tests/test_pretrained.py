import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny import SIZES, random_weights, write_checkpoint, write_tokenizer

from jaxstab.config import ModelConfig
from jaxstab.data.tokens import load_tokenizer
from jaxstab.errors import InputError
from jaxstab.models.families import FAMILIES, make_classifier
from jaxstab.models.pretrained import init_head, load_encoder_config, load_pretrained, resolve_model

MODEL = ModelConfig(source="")


def _load(directory, classes=2, model=MODEL):
    return load_pretrained(directory, load_encoder_config(directory, classes, model, None))


def test_the_table_covers_every_parameter_once():
    _, shapes = make_classifier(_config())
    paths = [tuple(p.key for p in path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    assert sorted(paths) == sorted(entry.path for entry in FAMILIES["bert"].table(_config()))


def _config(**changes):
    from jaxstab.models.encoder import EncoderConfig

    known = {k: v for k, v in SIZES.items() if k not in ("model_type", "pad_token_id")}
    return EncoderConfig(**{**known, "num_labels": 2, **changes})


@pytest.mark.parametrize("prefix", ["bert.", ""])
@pytest.mark.parametrize("pooler", [True, False])
def test_weights_are_found_with_or_without_prefix_and_pooler(tmp_path, prefix, pooler):
    loaded = _load(write_checkpoint(tmp_path, prefix=prefix, pooler=pooler))
    weights = random_weights(SIZES, prefix="", pooler=pooler)
    assert loaded.missing == (("classifier",) if pooler else ("pooler", "classifier"))
    np.testing.assert_array_equal(
        loaded.params["layers"]["output"]["kernel"][1], weights["encoder.layer.1.output.dense.weight"].T
    )
    np.testing.assert_array_equal(
        loaded.params["embeddings"]["word"]["embedding"], weights["embeddings.word_embeddings.weight"]
    )


def test_several_files_and_old_names(tmp_path, checkpoint):
    weights = random_weights(SIZES)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in weights.items()
    }
    names = sorted(old)
    shutil.copy(checkpoint / "config.json", tmp_path)
    save_file({name: old[name] for name in names[:10]}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({name: old[name] for name in names[10:]}, tmp_path / "model-00002-of-00002.safetensors")
    expected, loaded = _load(checkpoint).params, _load(tmp_path).params
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, expected, loaded)))


def test_bfloat16_weights_are_read(tmp_path, checkpoint):
    import ml_dtypes

    shutil.copy(checkpoint / "config.json", tmp_path)
    half = {name: value.astype(ml_dtypes.bfloat16) for name, value in random_weights(SIZES).items()}
    save_file(half, tmp_path / "model.safetensors")
    kernel = _load(tmp_path).params["pooler"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, half["bert.pooler.dense.weight"].astype(np.float32).T)


def test_fewer_layers(checkpoint):
    cut = _load(checkpoint, model=ModelConfig(source="", layers=1)).params["layers"]
    full = _load(checkpoint).params["layers"]
    np.testing.assert_array_equal(cut["intermediate"]["kernel"], full["intermediate"]["kernel"][:1])
    with pytest.raises(InputError, match=r"model.layers = 3: the model has 2"):
        _load(checkpoint, model=ModelConfig(source="", layers=3))


def test_a_trained_head_is_used_only_for_as_many_classes(tmp_path):
    write_checkpoint(tmp_path)
    head = {"classifier.weight": np.ones((2, 32), np.float32), "classifier.bias": np.zeros(2, np.float32)}
    save_file({**random_weights(SIZES), **head}, tmp_path / "model.safetensors")
    assert _load(tmp_path, classes=2).missing == ()
    assert _load(tmp_path, classes=3).missing == ("classifier",)


def test_the_head_follows_the_initializer_range(tmp_path):
    loaded = _load(write_checkpoint(tmp_path, {**SIZES, "initializer_range": 0.5}, pooler=False), classes=100)
    head = init_head(jax.random.key(3), loaded)
    assert abs(np.std(head["classifier"]["kernel"]) - 0.5) < 0.02
    assert abs(np.std(head["pooler"]["kernel"]) - 0.5) < 0.05
    assert not head["classifier"]["bias"].any()
    with_pooler = _load(write_checkpoint(tmp_path / "p", {**SIZES, "initializer_range": 0.5}), classes=100)
    np.testing.assert_array_equal(
        init_head(jax.random.key(3), with_pooler)["classifier"]["kernel"], head["classifier"]["kernel"]
    )


def _edit_config(directory, **changes):
    values = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(
        json.dumps({k: v for k, v in {**values, **changes}.items() if v is not None})
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: _edit_config(d, model_type="t5"), r"model_type 't5' is not supported; supported: bert"),
        (lambda d: _edit_config(d, hidden_act="swish9"), "hidden_act 'swish9'"),
        (lambda d: _edit_config(d, position_embedding_type="relative_key"), "position_embedding_type"),
        (lambda d: _edit_config(d, hidden_size=None), "incomplete, without hidden_size"),
        (lambda d: _edit_config(d, intermediate_size=65), r"shape \[64, 32\], config.json says \[65, 32\]"),
        (lambda d: _edit_config(d, num_hidden_layers=3), r"weight bert.encoder.layer.2.* is missing"),
        (lambda d: (d / "config.json").write_text("{"), "config.json: cannot be read"),
        (lambda d: (d / "config.json").unlink(), "config.json: cannot be read"),
        (lambda d: (d / "model.safetensors").unlink(), r"no \*.safetensors file"),
        (lambda d: (d / "model.safetensors").write_bytes(b"\x01" * 40), "damaged or not a safetensors file"),
    ],
)
def test_models_that_cannot_be_used(tmp_path, spoil, message):
    directory = write_checkpoint(tmp_path)
    spoil(directory)
    with pytest.raises(InputError, match=message) as failure:
        _load(directory)
    assert "\n" not in str(failure.value)


def test_pickled_weights_are_refused_with_the_remedy(tmp_path):
    (write_checkpoint(tmp_path) / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model.bin is not read.*save_pretrained"):
        _load(tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("bundled:bert", "unknown bundled model"),
        ("no/such/dir", "no such directory"),
        ("hub:nobody/nothing", "cannot be downloaded"),
    ],
)
def test_sources_that_are_not_there(source, message):
    with pytest.raises(InputError, match=message):
        resolve_model(ModelConfig(source=source))


def test_a_hub_model_is_read_from_the_local_cache(tmp_path, monkeypatch):
    """Goes through the real `huggingface_hub.snapshot_download`, with a cache as a download leaves it."""
    repository = tmp_path / "models--someone--tiny"
    snapshot = repository / "snapshots" / ("0" * 40)
    write_checkpoint(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    directory = resolve_model(ModelConfig(source="hub:someone/tiny"))
    assert directory == snapshot
    assert load_tokenizer(directory).is_fast


def test_a_directory_without_tokenizer(tmp_path):
    write_checkpoint(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match=r"has no tokenizer; it needs one of tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="cannot load the tokenizer"):
        load_tokenizer(tmp_path)


def test_tokens_are_those_of_the_tokenizer_and_are_cached(tmp_path, monkeypatch, task_directory, checkpoint):
    from jaxstab.config import TaskConfig
    from jaxstab.data.task import load_task
    from jaxstab.data.tokens import encode_task

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    task = load_task(TaskConfig(source=str(task_directory), text=("sentence",)))
    tokenizer = load_tokenizer(checkpoint)
    encoded = encode_task(task, tokenizer, 10, 22)
    for row, text in enumerate(task.train.texts[0]):
        expected = tokenizer(text, truncation=True, max_length=10)["input_ids"]
        length = encoded.train.lengths[row]
        assert list(encoded.vocabulary[encoded.train.input_ids[row, :length]]) == expected
    files = sorted(tmp_path.glob("jaxstab/tokens/*.arrow"))
    times = [file.stat().st_mtime_ns for file in files]
    again = encode_task(task, tokenizer, 10, 22)
    assert [file.stat().st_mtime_ns for file in files] == times
    assert len(files) == 3
    np.testing.assert_array_equal(again.train.input_ids, encoded.train.input_ids)
    encode_task(task, tokenizer, 9, 22)
    assert len(list(tmp_path.glob("jaxstab/tokens/*.arrow"))) == 6


def test_a_tokenizer_that_does_not_fit_the_model(tmp_path, task_directory):
    from jaxstab.config import TaskConfig
    from jaxstab.data.task import load_task
    from jaxstab.data.tokens import encode_task

    write_tokenizer(tmp_path)
    task = load_task(TaskConfig(source=str(task_directory), text=("sentence",)))
    with pytest.raises(InputError, match=r"the tokenizer has 22 tokens, the model's vocab_size is 20"):
        encode_task(task, load_tokenizer(tmp_path), 10, 20)
