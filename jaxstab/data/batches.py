"""The layout of a batch: which examples make up a step, and where their tokens lie. No other module knows it.

A batch is a grid whose rows are as wide as the longest example. Short examples share a row, so that little is computed
on padding. Attention stays within an example (`Batch.owners`); for all other operations it does not matter where a
token lies. The usual padded layout is the special case of one row for each example.
"""

from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

EPOCHS_DRAWN = 64
GRID_SIZES = 3


class Examples(NamedTuple):
    """A tokenised split, in original order.

    Attributes:
        input_ids: [N, T] int32.
        token_type_ids: [N, T] int32.
        lengths: [N] int32, tokens of each example; what lies beyond is padding.
        labels: [N] int32.
    """

    input_ids: np.ndarray | jax.Array
    token_type_ids: np.ndarray | jax.Array
    lengths: np.ndarray | jax.Array
    labels: np.ndarray | jax.Array


class Steps(NamedTuple):
    """Which examples make up each step, and where they lie in its grid.

    Attributes:
        indices: [steps, B] int32, -1 for none.
        starts: [steps, B] int32, the place of each example's first token in the grid, counted row by row.
        rows: [steps] int32, how many rows they need.
    """

    indices: np.ndarray | jax.Array
    starts: np.ndarray | jax.Array
    rows: np.ndarray | jax.Array


class Batch(NamedTuple):
    """B examples in a grid of R rows and T columns.

    Attributes:
        input_ids: [R, T] int32.
        token_type_ids: [R, T] int32.
        position_ids: [R, T] int32, the place of each token in its example.
        owners: [R, T] int32, which of the B examples each token belongs to; B where there is no token.
        starts: [B] int32, the place of each example's first token, counted row by row; R * T for an empty place.
        labels: [B] int32.
        weights: [B] float32, 1 for an example and 0 for an empty place at the end of an epoch.
    """

    input_ids: Int[Array, "R T"]
    token_type_ids: Int[Array, "R T"]
    position_ids: Int[Array, "R T"]
    owners: Int[Array, "R T"]
    starts: Int[Array, " B"]
    labels: Int[Array, " B"]
    weights: Float[Array, " B"]

    def first_tokens(self, grid: Float[Array, "R T D"]) -> Float[Array, "B D"]:
        """Picks each example's first token, zeros for an empty place."""
        return jnp.take(grid.reshape(-1, grid.shape[-1]), self.starts, axis=0, mode="fill", fill_value=0)

    def by_example(self, grid: Float[Array, "R T D"]) -> Float[Array, "B T D"]:
        """Lays the grid out with a row for each example, zeros where there is no token."""
        count, (rows, width) = len(self.starts), self.owners.shape
        nowhere = jnp.full((count + 1, width), rows * width)
        places = nowhere.at[self.owners, self.position_ids].set(jnp.arange(rows * width).reshape(rows, width))[:count]
        return jnp.take(grid.reshape(rows * width, -1), places, axis=0, mode="fill", fill_value=0)


def make_batch(
    examples: Examples, indices: Int[Array | np.ndarray, " B"], starts: Int[Array | np.ndarray, " B"], rows: int
) -> Batch:
    """Lays out the examples at `indices` (-1: none) from `starts` on, in a grid of `rows` rows.

    Nothing is checked: examples must not overlap, nor end beyond the grid. `pack` makes sure of both.
    """
    width, count = examples.input_ids.shape[1], indices.shape[0]
    indices, starts = jnp.asarray(indices), jnp.asarray(starts)
    present = indices >= 0
    lengths = jnp.where(present, jnp.asarray(examples.lengths)[indices], 0)
    places = jnp.arange(rows * width, dtype=jnp.int32).reshape(rows, width)
    inside = (places >= starts[:, None, None]) & (places < (starts + lengths)[:, None, None])
    filled = inside.any(axis=0)
    owners = jnp.where(filled, jnp.argmax(inside, axis=0).astype(jnp.int32), count)
    positions = jnp.where(filled, places - starts.at[owners].get(mode="clip"), 0)
    owned = indices.at[owners].get(mode="clip")

    def grid_of(table: np.ndarray | jax.Array) -> jax.Array:
        return jnp.where(filled, jnp.asarray(table)[owned, positions], 0)

    return Batch(
        input_ids=grid_of(examples.input_ids),
        token_type_ids=grid_of(examples.token_type_ids),
        position_ids=positions,
        owners=owners,
        starts=jnp.where(present, starts, rows * width),
        labels=jnp.where(present, jnp.asarray(examples.labels)[indices], 0),
        weights=present.astype(jnp.float32),
    )


def pack(indices: np.ndarray, lengths: np.ndarray, width: int) -> Steps:
    """Finds a place in a grid for every example of every step: the longest first, each in the first row with room.

    Args:
        indices: [steps, B] examples of each step, -1 for none.
        lengths: [N] tokens of each example, at most `width`.
        width: T, columns of the grid.
    """
    steps, batch_size = indices.shape
    tokens = np.where(indices >= 0, lengths[indices], 0)
    used = np.zeros((steps, batch_size), np.int32)  # of each row; B rows hold any B examples
    starts = np.zeros((steps, batch_size), np.int32)
    step = np.arange(steps)
    for member in np.argsort(-tokens, axis=1, kind="stable").T:
        length = tokens[step, member]
        row = np.argmax(used + length[:, None] <= width, axis=1)
        starts[step, member] = row * width + used[step, row]
        used[step, row] += length
    return Steps(indices.astype(np.int32), starts, np.maximum((used > 0).sum(axis=1), 1).astype(np.int32))


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Returns how many steps it takes to see every example once; the last one may hold fewer."""
    return -(-examples // batch_size)


def grid_sizes(lengths: np.ndarray, width: int, batch_size: int) -> tuple[int, ...]:
    """Returns the numbers of rows, ascending, of up to three grids that training is compiled for.

    Nine of ten random orders of the training examples fit into the largest grid. The smaller ones are chosen to leave
    the fewest rows empty. Only the examples and the batch size matter, so that a seed's layout does not depend on other
    seeds.
    """
    rng = np.random.default_rng(0)
    epochs = [_one_epoch(rng.permutation(len(lengths)), batch_size) for _ in range(EPOCHS_DRAWN)]
    rows = np.stack([pack(epoch, lengths, width).rows for epoch in epochs])
    largest = int(np.quantile(rows.max(axis=1), 0.9, method="higher"))
    needed = np.minimum(rows.ravel(), largest)
    smaller = np.unique(needed[needed < largest]).tolist()

    def computed(sizes: tuple[int, ...]) -> int:
        return int(np.asarray(sizes)[np.searchsorted(sizes, needed)].sum())

    some = combinations(smaller, min(GRID_SIZES - 1, len(smaller)))
    return min(((*sizes, largest) for sizes in some), key=computed)


def example_orders(
    order_seed: int, lengths: np.ndarray, width: int, batch_size: int, epochs: int, largest: int
) -> Steps:
    """Returns the steps of all epochs, [epochs * steps, batch_size].

    Each epoch is a random permutation. About one in ten has a step that needs more than `largest` rows; it is drawn
    again.
    """
    rng = np.random.default_rng(order_seed)
    drawn: list[Steps] = []
    while len(drawn) < epochs:
        steps = pack(_one_epoch(rng.permutation(len(lengths)), batch_size), lengths, width)
        if steps.rows.max() <= largest:
            drawn.append(steps)
    return Steps(*(np.concatenate(arrays) for arrays in zip(*drawn, strict=True)))


def fixed_batches(lengths: np.ndarray, width: int, batch_size: int) -> tuple[Steps, int]:
    """Divides examples into batches with about equally many tokens, for prediction, where order is free.

    Returns:
        Every index once, and -1 for none, and the rows that the fullest batch needs.
    """
    count = steps_per_epoch(len(lengths), batch_size)
    by_length = _one_epoch(np.argsort(-lengths, kind="stable"), batch_size)
    steps = pack(by_length.reshape(batch_size, count).T, lengths, width)
    return steps, int(steps.rows.max())


def _one_epoch(order: np.ndarray, batch_size: int) -> np.ndarray:
    steps = steps_per_epoch(len(order), batch_size)
    filled = np.full(steps * batch_size - len(order), -1)
    return np.concatenate([order, filled]).reshape(steps, batch_size)
