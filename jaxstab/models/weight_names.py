"""Names of weights in Hugging Face's files, and the paths of our parameters: the rows of each family's table.

A linear layer of Hugging Face stores its weight as [out, in], one of Flax as [in, out]. Our layers are stacked on a
leading axis; in files each layer has weights of its own.
"""

from typing import NamedTuple


class Entry(NamedTuple):
    """One row of a table.

    Attributes:
        file_name: the weight's name in files, with `{layer}` for a number if every layer has one.
        path: the weight's path in our nested dict of parameters.
        transposed: whether the file holds the transpose.
    """

    file_name: str
    path: tuple[str, ...]
    transposed: bool = False

    @property
    def by_layer(self) -> bool:
        """Whether every layer has such a weight."""
        return "{layer}" in self.file_name

    def file_names(self, layers: int) -> list[str]:
        """Returns the names in files for each of so many layers."""
        return [self.file_name.format(layer=layer) for layer in range(layers)]


def linear(file_name: str, *path: str) -> list[Entry]:
    """Returns the rows of a linear layer with a bias."""
    return [Entry(f"{file_name}.weight", (*path, "kernel"), True), Entry(f"{file_name}.bias", (*path, "bias"))]


def norm(file_name: str, *path: str) -> list[Entry]:
    """Returns the rows of a LayerNorm with a bias."""
    return [Entry(f"{file_name}.weight", (*path, "scale")), Entry(f"{file_name}.bias", (*path, "bias"))]
