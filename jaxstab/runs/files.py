"""Files that are written whole or not at all, and read back; errors name the file."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxstab.errors import InputError

FULL, LITTLE_DISK = (errno.ENOSPC, errno.EDQUOT), 2**20


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to; it takes the place of `path` only when the block ends without an error.

    Raises:
        InputError: the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        # numpy reports how much it could not write, but not why.
        if error.errno not in FULL and not (error.errno is None and shutil.disk_usage(path.parent).free < LITTLE_DISK):
            raise
        advice = "make room and give the same command again; finished seeds are not trained again"
        raise InputError(f"{path}: no space left on the disk; {advice}") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes plain values as JSON, whole.

    Raises:
        ValueError: a value is NaN or infinite, which JSON cannot say.
    """
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as npz, whole."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes an array as npy, whole."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def write_stacked(path: Path, arrays: Sequence[np.ndarray]) -> None:
    """Writes arrays of one shape as npy with a leading axis, whole, without having them all in memory."""
    with whole_file(path) as temporary:
        shape = (len(arrays), *arrays[0].shape)
        stacked = np.lib.format.open_memmap(temporary, mode="w+", dtype=arrays[0].dtype, shape=shape)
        for i, array in enumerate(arrays):
            stacked[i] = array
        stacked.flush()


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Writes a data frame as Parquet, whole."""
    with whole_file(path) as temporary:
        frame.to_parquet(temporary, index=False)


def write_weights(path: Path, tree: Mapping[str, Any]) -> None:
    """Writes a nested dict of arrays as safetensors, whole; names are joined by dots."""
    from safetensors.numpy import save_file

    with whole_file(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in _flat(tree)}, temporary)


def load_weights(path: Path) -> dict[str, Any]:
    """Reads what `write_weights` wrote.

    Raises:
        InputError: damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        flat = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: missing or damaged ({error}); delete the run and start it again") from None
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        *parents, last = name.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = array
    return tree


def load_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file.

    Raises:
        InputError: missing or damaged.
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: missing or damaged ({error}); delete the run and start it again") from None
    return values


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads an npz file; never unpickles.

    Raises:
        InputError: damaged or not an npz file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise InputError(f"{path}: damaged or not an npz file ({error}); delete it and run again") from None


def load_array(path: Path) -> np.ndarray:
    """Maps an npy file into memory, so that only what is used is read; never unpickles.

    Raises:
        InputError: damaged or not an npy file.
    """
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: damaged or not an npy file ({error}); delete it and run again") from None
    return array


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
