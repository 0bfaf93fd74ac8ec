"""The layout of a batch: which examples make up a step, and where their tokens lie. No other module knows it.

A batch is a grid whose rows are at least as wide as the longest example. Short examples share a row, so that little is
computed on padding. Attention stays within an example (`Batch.owners`); for all other operations it does not matter
where a token lies. The usual padded layout is the special case of one row for each example.
"""

from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from jaxstab.runs.info import BatchGrid

COLUMNS_TIMES = 8  # columns of a grid are a multiple of it
WIDER_BY = 32  # beyond the longest example, columns are tried in steps of it
ATTENTION_AS_DEAR = 512  # columns at which attention costs as much as everything else
EXCHANGED = 0.15
EXCHANGES = 100
BATCHES_DRAWN = 2000
SUBSETS_DRAWN = 100
ORDERS_TRIED = 20
GRID_SIZES = 3


class Examples(NamedTuple):
    """A tokenised split, in original order.

    Attributes:
        input_ids: [N, T] int32.
        token_type_ids: [N, T] int32.
        lengths: [N] int32, tokens of each example; what lies beyond is padding.
        labels: [N] int32; float32 of a regression.
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
        starts: [B] int32, the place of each example's first token, counted row by row; beyond the grid for an empty
            place. No two are equal.
        ends: [B] int32, the place of each example's last token; otherwise as `starts`.
        labels: [B] int32; float32 of a regression.
        weights: [B] float32, 1 for an example and 0 for an empty place at the end of an epoch.
    """

    input_ids: Int[Array, "R T"]
    token_type_ids: Int[Array, "R T"]
    position_ids: Int[Array, "R T"]
    owners: Int[Array, "R T"]
    starts: Int[Array, " B"]
    ends: Int[Array, " B"]
    labels: Shaped[Array, " B"]
    weights: Float[Array, " B"]

    def first_tokens(self, grid: Float[Array, "R T D"]) -> Float[Array, "B D"]:
        """Picks each example's first token, zeros for an empty place."""
        return _pick(grid, self.starts)

    def last_tokens(self, grid: Float[Array, "R T D"]) -> Float[Array, "B D"]:
        """Picks each example's last token, zeros for an empty place."""
        return _pick(grid, self.ends)

    def by_example(self, grid: Float[Array, "R T D"]) -> Float[Array, "B T D"]:
        """Lays the grid out with a row for each example, zeros where there is no token."""
        count, (rows, width) = len(self.starts), self.owners.shape
        nowhere = jnp.full((count + 1, width), rows * width)
        places = nowhere.at[self.owners, self.position_ids].set(jnp.arange(rows * width).reshape(rows, width))[:count]
        return jnp.take(grid.reshape(rows * width, -1), places, axis=0, mode="fill", fill_value=0)


def _pick(grid: Float[Array, "R T D"], places: Int[Array | np.ndarray, " B"]) -> Float[Array, "B D"]:
    tokens = grid.reshape(-1, grid.shape[-1])
    # Said to be unique, so that the gradient is written without atomics, whose sums are in a random order.
    return jnp.take(tokens, places, axis=0, mode="fill", fill_value=0, unique_indices=True)


def make_batch(
    examples: Examples,
    indices: Int[Array | np.ndarray, " B"],
    starts: Int[Array | np.ndarray, " B"],
    rows: int,
    columns: int | None = None,
) -> Batch:
    """Lays out the examples at `indices` (-1: none) from `starts` on, in a grid of `rows` rows.

    Nothing is checked: examples must not overlap, nor end beyond the grid. `pack` makes sure of both.

    Args:
        examples: the split.
        indices: its examples in this batch.
        starts: place of each example's first token, counted row by row.
        rows: R of the grid.
        columns: T of the grid, at least as long as any example; as wide as the arrays of the split if None.
    """
    width, count = columns or examples.input_ids.shape[1], indices.shape[0]
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

    # Empty places lie beyond the grid, apart from each other: no place is read twice (`_pick`).
    beyond = rows * width + jnp.arange(count, dtype=jnp.int32)
    return Batch(
        input_ids=grid_of(examples.input_ids),
        token_type_ids=grid_of(examples.token_type_ids),
        position_ids=positions,
        owners=owners,
        starts=jnp.where(present, starts, beyond),
        ends=jnp.where(present, starts + lengths - 1, beyond),
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


def choose_grid(lengths: np.ndarray, batch_size: int, drawn: int | None = None) -> BatchGrid:
    """Returns the sizes of the grids of training that compute the least for nothing.

    Rows as wide as the longest example are not always best: two examples of 50 tokens do not share a row of 89, but
    three share one of 160. What counts is the size of the largest grid, which accelerators use for every step, and the
    mean over steps of the smallest that suffices, which a CPU uses. Only the examples and the batch size matter, so
    that a seed's layout does not depend on other seeds.

    Args:
        lengths: [N] tokens of each training example.
        batch_size: B, examples of a step.
        drawn: how many of these examples each seed draws for itself; None if all seeds train on all of them.
    """
    count = len(lengths) if drawn is None else drawn
    batches = _some_batches(lengths, batch_size, count)
    steps = len(batches) if drawn is None else steps_per_epoch(count, batch_size)
    longest = -(-int(lengths.max()) // COLUMNS_TIMES) * COLUMNS_TIMES
    wider = range(-(-(longest + 1) // WIDER_BY) * WIDER_BY, 2 * longest + 1, WIDER_BY)

    def cost(columns: int) -> tuple[float, BatchGrid]:
        needed = np.asarray(pack(batches, lengths, columns).rows)
        rows = grid_sizes(needed.reshape(-1, steps))
        used = np.asarray(rows)[np.searchsorted(rows, np.minimum(needed, rows[-1]))]
        return (rows[-1] + used.mean()) * columns * (1 + columns / ATTENTION_AS_DEAR), BatchGrid(rows, columns)

    return min((cost(columns) for columns in (longest, *wider)), key=lambda found: found[0])[1]


def grid_sizes(needed: np.ndarray) -> tuple[int, ...]:
    """Returns the numbers of rows, ascending, of up to three grids that training is compiled for.

    At most `EXCHANGED` of all random batches need more rows than the largest grid has: they exchange examples with
    others (`example_orders`). The smaller grids are chosen to leave the fewest rows empty.

    Args:
        needed: [steps] rows that some random batches need, or [K, steps] for K random subsets of the examples; then
            this holds for the batches of each subset.
    """
    largest = int(np.quantile(needed, 1 - EXCHANGED, axis=-1, method="higher").max())
    needed = np.minimum(needed, largest).ravel()
    smaller = np.unique(needed[needed < largest]).tolist()

    def computed(sizes: tuple[int, ...]) -> int:
        return int(np.asarray(sizes)[np.searchsorted(sizes, needed)].sum())

    some = combinations(smaller, min(GRID_SIZES - 1, len(smaller)))
    return min(((*sizes, largest) for sizes in some), key=computed)


def _some_batches(lengths: np.ndarray, batch_size: int, drawn: int) -> np.ndarray:
    """Random batches from which sizes are chosen, [steps, B]: epochs of random subsets of the examples."""
    rng = np.random.default_rng(0)
    epochs = -(-BATCHES_DRAWN // steps_per_epoch(drawn, batch_size))
    return np.concatenate([_one_epoch(rng.permutation(len(lengths))[:drawn], batch_size) for _ in range(epochs)])


def example_orders(order_seed: int, lengths: np.ndarray, grid: BatchGrid, batch_size: int, epochs: int) -> Steps:
    """Returns the steps of all epochs, [epochs * steps, batch_size].

    Each epoch is a random permutation among those whose every step fits into the largest grid. It is drawn among all;
    then steps that are too full exchange examples with others, until all fit.

    Args:
        order_seed: seeds the permutations.
        lengths: [N] tokens of each training example.
        grid: the sizes of the grids.
        batch_size: B, examples of a step.
        epochs: number of permutations.
    """
    rng = np.random.default_rng(order_seed)
    drawn: list[Steps] = []
    while len(drawn) < epochs:
        steps = _order(rng, lengths, grid, batch_size)
        if steps.rows.max() <= grid.rows[-1]:
            drawn.append(steps)
    return Steps(*(np.concatenate(arrays) for arrays in zip(*drawn, strict=True)))


def have_orders(lengths: np.ndarray, grid: BatchGrid, batch_size: int) -> bool:
    """Whether random orders of some examples fit into the grid: one of `ORDERS_TRIED`; arguments as above."""
    rng = np.random.default_rng(0)
    tried = (_order(rng, lengths, grid, batch_size) for _ in range(ORDERS_TRIED))
    return any(steps.rows.max() <= grid.rows[-1] for steps in tried)


def _order(rng: np.random.Generator, lengths: np.ndarray, grid: BatchGrid, batch_size: int) -> Steps:
    """The steps of a random permutation, after exchanges; some may still be too full."""
    order = _one_epoch(rng.permutation(len(lengths)), batch_size)
    return _exchanged(pack(order, lengths, grid.columns), lengths, grid, rng)


def _exchanged(steps: Steps, lengths: np.ndarray, grid: BatchGrid, rng: np.random.Generator) -> Steps:
    """Lets steps that are too full exchange a random example with a shorter one of a random other step.

    Gives up after `EXCHANGES` rounds.
    """
    largest = grid.rows[-1]
    for _ in range(EXCHANGES):
        full = np.flatnonzero(steps.rows > largest)
        if len(full) == 0:
            break
        others = np.flatnonzero((steps.rows <= largest) & (steps.indices >= 0).all(axis=1))
        full = full[: len(others)]
        others = rng.choice(others, len(full), replace=False)
        pairs = np.stack([full, others])
        indices = np.asarray(steps.indices)[pairs]
        given, taken = rng.integers(indices.shape[-1], size=(2, len(full)))
        each = np.arange(len(full))
        longer, shorter = indices[0, each, given], indices[1, each, taken]
        indices[0, each, given], indices[1, each, taken] = shorter, longer
        packed = pack(indices.reshape(-1, indices.shape[-1]), lengths, grid.columns)
        rows = packed.rows.reshape(2, -1)
        good = (longer >= 0) & (lengths[longer] > lengths[shorter]) & (rows[1] <= largest)
        for new, old in zip(packed, steps, strict=True):
            old[pairs[:, good]] = new.reshape(2, -1, *new.shape[1:])[:, good]
    return steps


def fixed_batches(lengths: np.ndarray, columns: int, batch_size: int) -> tuple[Steps, BatchGrid]:
    """Divides examples into batches with about equally many tokens, for prediction, where order is free.

    Args:
        lengths: [N] tokens of each example.
        columns: T of the grid.
        batch_size: examples of a batch.

    Returns:
        Every index once, and -1 for none, and the grid that the fullest batch needs.
    """
    count = steps_per_epoch(len(lengths), batch_size)
    by_length = _one_epoch(np.argsort(-lengths, kind="stable"), batch_size)
    steps = pack(by_length.reshape(batch_size, count).T, lengths, columns)
    return steps, BatchGrid((int(steps.rows.max()),), columns)


def grid_of_subsets(lengths: np.ndarray, drawn: int, columns: int, batch_size: int) -> BatchGrid:
    """Returns the grid that `fixed_batches` of random subsets need: the most rows of `SUBSETS_DRAWN` subsets.

    Args:
        lengths: [N] tokens of each example.
        drawn: how many of these examples are in a subset.
        columns: T of the grid.
        batch_size: examples of a batch.
    """
    rng = np.random.default_rng(0)
    subsets = (rng.permutation(lengths)[:drawn] for _ in range(SUBSETS_DRAWN))
    return BatchGrid((max(fixed_batches(one, columns, batch_size)[1].rows[-1] for one in subsets),), columns)


def _one_epoch(order: np.ndarray, batch_size: int) -> np.ndarray:
    steps = steps_per_epoch(len(order), batch_size)
    filled = np.full(steps * batch_size - len(order), -1)
    return np.concatenate([order, filled]).reshape(steps, batch_size)
