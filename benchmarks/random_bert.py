"""Makes a BERT of random weights in the Hugging Face layout, for timing: its values do not matter for that.

    python benchmarks/random_bert.py base /tmp/bert-base
    python benchmarks/train.py ../shared/data/rte --model /tmp/bert-base

Tokenizer and vocabulary are those of bundled:minilm, which are BERT's.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

SIZES = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
}


def make_model(directory: Path, size: str) -> Path:
    """Writes the model unless it is there; returns its directory."""
    import jax
    import numpy as np
    from safetensors.numpy import save_file

    from jaxstab.config import ModelConfig
    from jaxstab.models.families import make_classifier
    from jaxstab.models.pretrained import load_encoder_config, resolve_model, to_tensors

    weights = directory / "model.safetensors"
    if weights.exists():
        return directory
    source = resolve_model(ModelConfig("bundled:minilm"))
    directory.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            shutil.copy(file, directory)
    values = json.loads((source / "config.json").read_text(encoding="utf-8")) | SIZES[size]
    (directory / "config.json").write_text(json.dumps(values), encoding="utf-8")
    config = load_encoder_config(directory, 2, ModelConfig(str(directory)), None)
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        offset = 1 if path[-1].key == "scale" else 0
        return offset + np.float32(0.02) * rng.standard_normal(leaf.shape, np.float32)

    tensors = to_tensors(config, jax.tree_util.tree_map_with_path(draw, make_classifier(config)[1]))
    encoder = {name: value for name, value in tensors.items() if not name.startswith("classifier")}
    save_file(encoder, weights.with_suffix(".part"), metadata={"format": "pt"})
    weights.with_suffix(".part").rename(weights)
    return directory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=list(SIZES))
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    print(make_model(arguments.directory, arguments.size))


if __name__ == "__main__":
    main()
