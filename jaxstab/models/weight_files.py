"""Reading weights from safetensors files, one at a time, into memory that devices can use as it is."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxstab.errors import InputError

ALIGNMENT = 64  # bytes; JAX then uses an array on a CPU without a copy
INDEX = "model.safetensors.index.json"


class Tensor(NamedTuple):
    """One weight in a file.

    Attributes:
        file: the safetensors file.
        name: the weight's name in it.
        shape: its shape.
    """

    file: Path
    name: str
    shape: tuple[int, ...]

    def read(self) -> np.ndarray:
        """Reads the values, in the file's dtype.

        The file is opened anew, because pages of a file that was read stay in memory as long as it is open.
        """
        from safetensors import safe_open

        with safe_open(self.file, framework="np") as opened:
            value: np.ndarray = opened.get_tensor(self.name)
        return value


def open_tensors(directory: Path) -> dict[str, Tensor]:
    """Returns the weights of a model in one or several files, by their names; nothing is read yet.

    Args:
        directory: holds the files that `model.safetensors.index.json` names, or without that, `*.safetensors`.

    Raises:
        InputError: no such file, or one that is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Tensor] = {}
    for file in _files(directory):
        try:
            with safe_open(file, framework="np") as opened:
                names = list(opened.keys())
                tensors |= {name: Tensor(file, name, tuple(opened.get_slice(name).get_shape())) for name in names}
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file}: damaged or not a safetensors file ({error}); download it again") from None
    return tensors


def _files(directory: Path) -> list[Path]:
    index = directory / INDEX
    if index.exists():
        try:
            named = sorted({directory / str(name) for name in json.loads(index.read_text())["weight_map"].values()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{index}: cannot be read ({error}); download it again") from None
        for file in named:
            if not file.exists():
                raise InputError(f"{file}: is missing, but {INDEX} names it; download it again")
        return named
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        pickled = (directory / "pytorch_model.bin").exists()
        other = " (pytorch_model.bin is not read: it can run code)" if pickled else ""
        raise InputError(
            f"{directory}: no *.safetensors file{other}; convert with model.save_pretrained(DIR) of transformers"
        )
    return files


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Returns a new array for weights: at an address from which JAX uses it on a CPU without a copy."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
