"""Rows of the tables between the names of weights in Hugging Face's files and the paths of our parameters.

A Hugging Face linear layer stores [out, in], Flax [in, out]; our layers are stacked on a leading axis.
"""

from typing import NamedTuple


class Entry(NamedTuple):
    """One row of a table.

    Attributes:
        file_name: in the files, with `{layer}` where there is one for each layer.
        path: in our nested dict of parameters.
        transposed: whether the file holds the transpose.
    """

    file_name: str
    path: tuple[str, ...]
    transposed: bool = False

    @property
    def by_layer(self) -> bool:
        """Whether there is one for each layer."""
        return "{layer}" in self.file_name

    def file_names(self, layers: int) -> list[str]:
        """Returns the name in the files for each of so many layers."""
        return [self.file_name.format(layer=layer) for layer in range(layers)]


def linear(file_name: str, *path: str) -> list[Entry]:
    """Rows of a dense layer with a bias."""
    return [Entry(f"{file_name}.weight", (*path, "kernel"), True), Entry(f"{file_name}.bias", (*path, "bias"))]


def norm(file_name: str, *path: str) -> list[Entry]:
    """Rows of a LayerNorm with a bias."""
    return [Entry(f"{file_name}.weight", (*path, "scale")), Entry(f"{file_name}.bias", (*path, "bias"))]
