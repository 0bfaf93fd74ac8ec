"""The most memory that reading a model takes, beside the model's own size.

    python benchmarks/loading.py bundled:smollm2
    python benchmarks/loading.py DIRECTORY --dtype bfloat16

Prints what the process had before, the size of the model as it is kept, and the peak above what was there before, which
is the model and its largest weight: pages of the file are given back after each weight.
"""

import argparse
import math

import jax
import numpy as np
from machine import peak_bytes

from jaxstab.config import ModelConfig
from jaxstab.models.pretrained import load_encoder_config, load_pretrained, resolve_model
from jaxstab.models.weight_files import open_tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    arguments = parser.parse_args()
    model = ModelConfig(arguments.model)
    directory = resolve_model(model)
    config = load_encoder_config(directory, 2, model, None)
    tensors = open_tensors(directory).values()
    min(tensors, key=lambda one: math.prod(one.shape)).read()  # libraries are loaded before
    largest = max(math.prod(one.shape) for one in tensors)
    before = peak_bytes()
    params = load_pretrained(directory, config, None, lambda path: np.dtype(arguments.dtype)).params
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    above, most = peak_bytes() - before, f"the largest weight has {largest / 1e6:.0f} million numbers"
    print(f"before {before / 1e6:.0f} MB; model {size / 1e6:.0f} MB; peak {above / 1e6:.0f} MB above; {most}")


if __name__ == "__main__":
    main()
