"""The layout of a batch, in one place: which examples make up a step, and where their tokens lie.

The tokens of a batch lie one after another in a line of fixed length, the token budget, because dense layers should not
spend time on padding. Only attention needs one row per example; `Batch.to_rows` and `Batch.to_line` go between the two.
The padded layout is the special case whose budget is batch size times longest example.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

ROUND_BUDGET_TO = 16
BUDGET_DRAWS = 64


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


class Batch(NamedTuple):
    """B examples whose tokens lie in a line of K places; `rows` [B, T] says where, `places` [K] the way back.

    Attributes:
        input_ids: [K] int32.
        token_type_ids: [K] int32.
        position_ids: [K] int32, the place of each token in its example.
        rows: [B, T] int32, the place in the line of each example's tokens; K where there is none.
        places: [K] int32, index into the B * T row entries; B * T where the line is not filled.
        lengths: [B] int32.
        labels: [B] int32.
        weights: [B] float32, 1 for an example and 0 for an empty place at the end of an epoch.
    """

    input_ids: Int[Array, " K"]
    token_type_ids: Int[Array, " K"]
    position_ids: Int[Array, " K"]
    rows: Int[Array, "B T"]
    places: Int[Array, " K"]
    lengths: Int[Array, " B"]
    labels: Int[Array, " B"]
    weights: Float[Array, " B"]

    def to_rows(self, line: Float[Array, "K ..."]) -> Float[Array, "B T ..."]:
        """Lays the line out with one row per example, zeros where there is no token."""
        batch, width = self.rows.shape
        return _permute(line, self.rows.reshape(-1), self.places).reshape(batch, width, *line.shape[1:])

    def to_line(self, rows: Float[Array, "B T ..."]) -> Float[Array, "K ..."]:
        """Undoes `to_rows`."""
        return _permute(rows.reshape(-1, *rows.shape[2:]), self.places, self.rows.reshape(-1))


@jax.custom_vjp
def _permute(values: jax.Array, indices: jax.Array, inverse: jax.Array) -> jax.Array:
    """Gathers rows, zero where out of bounds. Its transpose is the inverse gather: no scatter in the backward pass."""
    return jnp.take(values, indices, axis=0, mode="fill", fill_value=0)


def _permute_forward(
    values: jax.Array, indices: jax.Array, inverse: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _permute(values, indices, inverse), (indices, inverse)


def _permute_backward(residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, None, None]:
    indices, inverse = residuals
    return _permute(cotangent, inverse, indices), None, None


_permute.defvjp(_permute_forward, _permute_backward)


def make_batch(examples: Examples, indices: Int[Array, " B"], budget: int) -> Batch:
    """Lays out the examples at `indices` (-1: none) in a line of `budget` tokens.

    The caller answers for the budget: tokens beyond it would be lost (`example_orders` and `fixed_batches` keep to it).
    """
    width = examples.input_ids.shape[1]
    present = indices >= 0
    lengths = jnp.where(present, jnp.asarray(examples.lengths)[indices], 0)
    ends = jnp.cumsum(lengths)
    starts = ends - lengths
    line = jnp.arange(budget, dtype=jnp.int32)
    example = jnp.searchsorted(ends, line, side="right").astype(jnp.int32)
    filled = line < ends[-1]
    position = jnp.where(filled, line - starts.at[example].get(mode="clip"), 0)
    places = jnp.where(filled, example * width + position, indices.shape[0] * width)
    columns = jnp.arange(width, dtype=jnp.int32)
    rows = jnp.where(columns < lengths[:, None], starts[:, None] + columns, budget)

    def line_of(table: np.ndarray | jax.Array) -> jax.Array:
        return jnp.take(jnp.asarray(table)[indices].reshape(-1), places, mode="fill", fill_value=0)

    return Batch(
        input_ids=line_of(examples.input_ids),
        token_type_ids=line_of(examples.token_type_ids),
        position_ids=position,
        rows=rows,
        places=places,
        lengths=lengths,
        labels=jnp.where(present, jnp.asarray(examples.labels)[indices], 0),
        weights=present.astype(jnp.float32),
    )


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Returns how many steps it takes to see every example once; the last one may hold fewer."""
    return -(-examples // batch_size)


def token_budget(lengths: np.ndarray, batch_size: int) -> int:
    """Returns a line length that nine of ten random orders of the training examples fit into.

    Depends on the examples and the batch size only, so that a seed's layout does not depend on other seeds.
    """
    rng = np.random.default_rng(0)
    fullest = [_tokens_per_step(rng.permutation(len(lengths)), lengths, batch_size).max() for _ in range(BUDGET_DRAWS)]
    return _round_up(int(np.quantile(fullest, 0.9, method="higher")))


def example_orders(order_seed: int, lengths: np.ndarray, batch_size: int, epochs: int, budget: int) -> np.ndarray:
    """Returns which examples make up each step: [epochs * steps, batch_size] int32, -1 for none.

    Each epoch is a random permutation; one in which a step overflows the budget is drawn again (about one in ten).
    """
    rng = np.random.default_rng(order_seed)
    steps = steps_per_epoch(len(lengths), batch_size)
    orders = np.full((epochs, steps * batch_size), -1, np.int32)
    for epoch in range(epochs):
        order = rng.permutation(len(lengths))
        while _tokens_per_step(order, lengths, batch_size).max() > budget:
            order = rng.permutation(len(lengths))
        orders[epoch, : len(order)] = order
    return orders.reshape(epochs * steps, batch_size)


def fixed_batches(lengths: np.ndarray, batch_size: int) -> tuple[np.ndarray, int]:
    """Divides examples into batches with about equally many tokens, for prediction, where order is free.

    Returns:
        [batches, batch_size] int32 indices, -1 for none, and the token budget that they need.
    """
    count = steps_per_epoch(len(lengths), batch_size)
    indices = np.full(count * batch_size, -1, np.int32)
    indices[: len(lengths)] = np.argsort(-lengths, kind="stable")
    batches = indices.reshape(batch_size, count).T
    tokens = np.where(batches >= 0, lengths[batches], 0).sum(axis=1)
    return batches, _round_up(int(tokens.max()))


def _tokens_per_step(order: np.ndarray, lengths: np.ndarray, batch_size: int) -> np.ndarray:
    return np.add.reduceat(lengths[order], np.arange(0, len(order), batch_size))


def _round_up(tokens: int) -> int:
    return -(-tokens // ROUND_BUDGET_TO) * ROUND_BUDGET_TO
