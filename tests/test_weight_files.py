"""Weights in several files, read one at a time."""

import json
import tracemalloc

import jax
import numpy as np
import pytest
from test_pretrained import MODEL, _load
from tiny import SIZES, write_checkpoint

from jaxstab.errors import InputError
from jaxstab.models.pretrained import load_encoder_config, load_pretrained
from jaxstab.models.weight_files import INDEX


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """A model as transformers writes it in several files, and the same in one."""
    pytest.importorskip("torch")
    from transformers import AutoModelForSequenceClassification

    whole = write_checkpoint(tmp_path_factory.mktemp("whole"), classes=2)
    parts = tmp_path_factory.mktemp("parts")
    AutoModelForSequenceClassification.from_pretrained(whole).save_pretrained(parts, max_shard_size="20KB")
    assert len(list(parts.glob("*.safetensors"))) > 3
    return parts, whole


def test_several_files_with_an_index_are_one_model(sharded):
    parts, whole = sharded
    (parts / "other.safetensors").write_bytes(b"not named by the index")
    jax.tree.map(np.testing.assert_array_equal, _load(parts).params, _load(whole).params)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: next(d.glob("model-00002*")).unlink(), f"is missing, but {INDEX} names it; download it again"),
        (lambda d: (d / INDEX).write_text("{}"), "cannot be read"),
        (lambda d: (d / INDEX).write_text(json.dumps({"weight_map": {}})), "is missing; the files do not fit"),
    ],
)
def test_an_index_that_does_not_fit(sharded, tmp_path, spoil, message):
    for file in sharded[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    spoil(tmp_path)
    with pytest.raises(InputError, match=message) as failure:
        _load(tmp_path)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("dtype", [np.float32, jax.numpy.bfloat16])
def test_there_is_no_second_copy_of_a_model(tmp_path, dtype):
    """The most that is allocated while a model is read is the model and its largest weight, twice."""
    directory = write_checkpoint(tmp_path, {**SIZES, "hidden_size": 256, "intermediate_size": 256})
    config = load_encoder_config(directory, 2, MODEL, None)
    _load(directory)  # imports and caches of JAX's own
    tracemalloc.start()
    params = load_pretrained(directory, config, None, lambda path: dtype).params
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert most < size + 2 * 4 * 256 * 256 + 200_000 < 2 * size
