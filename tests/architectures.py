"""Tiny random models of the architectures that are not BERT-like, and running them; made from nothing."""

import json
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save_file

from jaxstab.config import ModelConfig
from jaxstab.data.batches import Batch, Examples, make_batch, pack
from jaxstab.models import deberta
from jaxstab.models.checkpoint import Pretrained, load_encoder_config, load_pretrained, to_tensors
from jaxstab.models.encoder import Outputs, apply
from jaxstab.models.families import FAMILIES, Family, make_classifier

FAMILIES.setdefault(
    "deberta-v2",
    Family(deberta.read_config, deberta.DebertaClassifier, deberta.table, deberta.PREFIX, deberta.HEAD),
)
SIZES = {
    "vocab_size": 22,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
    "initializer_range": 0.02,
    "pad_token_id": 0,
}
# As the published deberta-v3 models, but small.
DEBERTA = {
    **SIZES,
    "model_type": "deberta-v2",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "layer_norm_eps": 1e-7,
    "relative_attention": True,
    "max_relative_positions": -1,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
    "type_vocab_size": 0,
}
LENGTHS = np.array([16, 5, 11, 2], np.int32)


def random_weights(sizes: dict, seed: int = 0, classes: int = 3) -> dict[str, np.ndarray]:
    """Weights under Hugging Face's names, larger than an initialisation so that every layer matters."""
    config = FAMILIES[sizes["model_type"]].read_config(sizes, classes, None)
    rng = np.random.default_rng(seed)

    def draw(path: tuple, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        spread = 0.15 if path[-1].key == "kernel" else 0.1
        return (float(path[-1].key == "scale") + spread * rng.standard_normal(shape.shape)).astype(np.float32)

    return to_tensors(config, jax.tree_util.tree_map_with_path(draw, make_classifier(config)[1]))


def write_model(directory: Path, sizes: dict, weights: dict[str, np.ndarray]) -> Path:
    """Writes config.json and model.safetensors."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(sizes))
    save_file(weights, directory / "model.safetensors")
    return directory


def load(directory: Path, classes: int = 3, dropout: float | None = None) -> Pretrained:
    """Reads a model as a run does."""
    config = load_encoder_config(directory, classes, ModelConfig(source=""), dropout)
    return load_pretrained(directory, config)


def make_inputs(vocab_size: int = 22, seed: int = 0) -> dict[str, np.ndarray]:
    """Four examples of different lengths, with two segments."""
    rng = np.random.default_rng(seed)
    input_ids = rng.integers(4, vocab_size, (4, 16)).astype(np.int32)
    token_type_ids = (np.arange(16) >= LENGTHS[:, None] // 2).astype(np.int32)
    return {"input_ids": input_ids, "token_type_ids": token_type_ids, "lengths": LENGTHS}


def batch_of(inputs: dict[str, np.ndarray], packed: bool) -> Batch:
    """Lays the examples out, several in a row or one in each."""
    count, width = inputs["input_ids"].shape
    examples = Examples(inputs["input_ids"], inputs["token_type_ids"], inputs["lengths"], np.zeros(count, np.int32))
    steps = pack(np.arange(count)[None], inputs["lengths"], width)
    starts, rows = (steps.starts[0], int(steps.rows[0])) if packed else (width * np.arange(count), count)
    return make_batch(examples, np.arange(count), starts, rows)


def run(
    loaded: Pretrained, batch: Batch, key: jax.Array | None = None, params: dict | None = None, **options
) -> Outputs:
    """Applies a model; `options` are those of `make_classifier`."""
    definition, _ = make_classifier(loaded.config, **options)
    given = loaded.params if params is None else params
    return jax.jit(lambda p: apply(definition, p, batch, key, all_hidden_states=True))(given)


def run_torch(directory: Path, inputs: dict[str, np.ndarray], classes: int = 3) -> dict[str, np.ndarray]:
    """Logits and all hidden states of PyTorch transformers in float32."""
    import torch
    from transformers import AutoModelForSequenceClassification

    load_model = AutoModelForSequenceClassification.from_pretrained
    model, info = load_model(directory, num_labels=classes, attn_implementation="eager", output_loading_info=True)
    wrong = {kind: info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[kind]}
    if wrong:
        raise ValueError(f"names of weights do not fit: {wrong}")
    mask = np.arange(inputs["input_ids"].shape[1]) < inputs["lengths"][:, None]
    given = {"input_ids": inputs["input_ids"], "attention_mask": mask}
    if getattr(model.config, "type_vocab_size", 0) > 1:
        given["token_type_ids"] = inputs["token_type_ids"]
    tensors = {name: torch.tensor(value).long() for name, value in given.items()}
    with torch.no_grad():
        output = model.eval()(**tensors, output_hidden_states=True)
    states = np.stack([state.numpy() for state in output.hidden_states]) * mask[None, :, :, None]
    return {"logits": output.logits.numpy(), "hidden_states": states}
