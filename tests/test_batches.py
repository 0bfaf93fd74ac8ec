import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstab.data.batches import (
    Examples,
    choose_grid,
    example_orders,
    fixed_batches,
    grid_sizes,
    make_batch,
    pack,
    steps_per_epoch,
)
from jaxstab.runs.info import BatchGrid

LENGTHS = np.random.default_rng(0).integers(2, 13, 50).astype(np.int32)


def _examples(width=12):
    rng = np.random.default_rng(1)
    ids = rng.integers(1, 100, (len(LENGTHS), width)).astype(np.int32)
    return Examples(ids, ids % 2, LENGTHS, rng.integers(0, 2, len(LENGTHS)).astype(np.int32))


INDICES = np.array([7, 3, -1, 11])


pytestmark = pytest.mark.usefixtures("all_grids")


def _batch(rows=4):
    batch = make_batch(_examples(), INDICES, pack(INDICES[None], LENGTHS, 12).starts[0], rows)
    return jax.tree.map(np.asarray, batch)


def test_every_token_of_every_example_is_in_the_grid_once():
    examples, batch = _examples(), _batch()
    for member, index in enumerate(INDICES):
        if index < 0:
            assert not (batch.owners == member).any()
            continue
        row, columns = np.nonzero(batch.owners == member)
        assert len(set(row)) == 1
        assert len(columns) == LENGTHS[index]
        np.testing.assert_array_equal(np.diff(columns), 1)
        place = row[0], slice(columns[0], columns[0] + LENGTHS[index])
        np.testing.assert_array_equal(batch.input_ids[place], examples.input_ids[index, : LENGTHS[index]])
        np.testing.assert_array_equal(batch.token_type_ids[place], batch.input_ids[place] % 2)
        np.testing.assert_array_equal(batch.position_ids[place], np.arange(LENGTHS[index]))
        assert batch.starts[member] == row[0] * 12 + columns[0]
    empty = batch.owners == len(INDICES)
    assert not batch.input_ids[empty].any()
    np.testing.assert_array_equal(batch.weights, [1, 1, 0, 1])
    np.testing.assert_array_equal(batch.labels, np.where(INDICES >= 0, examples.labels[INDICES], 0))


def test_a_grid_is_read_by_example():
    batch = _batch()
    grid = jnp.asarray(np.random.default_rng(2).normal(size=(4, 12, 5)), jnp.float32)
    by_example, first = np.asarray(batch.by_example(grid)), np.asarray(batch.first_tokens(grid))
    last = np.asarray(batch.last_tokens(grid))
    for member, index in enumerate(INDICES):
        length = LENGTHS[index] if index >= 0 else 0
        np.testing.assert_array_equal(by_example[member, :length], np.asarray(grid)[batch.owners == member])
        assert not by_example[member, length:].any()
        np.testing.assert_array_equal(first[member], by_example[member, 0])
        np.testing.assert_array_equal(last[member], by_example[member, length - 1])  # zeros for an empty place


def test_packing_takes_the_longest_first_into_the_first_row_with_room():
    lengths = np.array([3, 5, 2, 6, 4])
    steps = pack(np.array([[0, 1, 2, 3, 4], [2, -1, -1, -1, -1]]), lengths, width=8)
    # 6 in row 0, 5 in row 1, 4 in row 2, 3 beside the 5, 2 beside the 6
    np.testing.assert_array_equal(steps.starts[0], [8 + 5, 8, 6, 0, 16])
    np.testing.assert_array_equal(steps.rows, [3, 1])


@pytest.mark.parametrize("batch_size", [1, 7, 16, 50])
def test_an_epoch_holds_every_example_once_within_the_grid_and_apart(batch_size):
    grid = choose_grid(LENGTHS, batch_size)
    assert list(grid.rows) == sorted(set(grid.rows))
    assert grid.columns >= LENGTHS.max()
    count = steps_per_epoch(len(LENGTHS), batch_size)
    steps = example_orders(4, LENGTHS, grid, batch_size, epochs=3)
    assert steps.indices.shape == steps.starts.shape == (3 * count, batch_size)
    for epoch in steps.indices.reshape(3, -1):
        assert sorted(epoch[epoch >= 0]) == list(range(50))
    for indices, starts, rows in zip(*steps, strict=True):
        taken = np.zeros(rows * grid.columns, int)
        for index, start in zip(indices, starts, strict=True):
            if index >= 0:
                assert start // grid.columns == (start + LENGTHS[index] - 1) // grid.columns
                taken[start : start + LENGTHS[index]] += 1
        assert taken.max() == 1
        assert rows <= grid.rows[-1]


def test_orders_depend_on_the_seed_and_the_epoch_only():
    grid = choose_grid(LENGTHS, 8)
    first = example_orders(4, LENGTHS, grid, 8, 2)
    again = example_orders(4, LENGTHS, grid, 8, 3)
    np.testing.assert_array_equal(first.starts, again.starts[: len(first.starts)])
    assert (first.indices != example_orders(5, LENGTHS, grid, 8, 2).indices).any()
    assert (first.indices[:7] != first.indices[7:]).any()


def test_few_batches_are_too_full_for_the_largest_grid_and_the_smaller_ones_save_rows():
    rng = np.random.default_rng(9)
    batches = np.stack([rng.permutation(50)[:8] for _ in range(5000)])
    needed = pack(batches, LENGTHS, 12).rows
    sizes = grid_sizes(needed[:1000])
    fits = needed[1000:] <= sizes[-1]
    assert 0.8 < fits.mean() < 1
    computed = np.asarray(sizes)[np.searchsorted(sizes, needed[1000:][fits])]
    assert computed.mean() < sizes[-1] - 0.5


def test_steps_that_are_too_full_exchange_few_examples():
    """In a grid that half of the batches do not fit into, the other half takes what is too much."""
    lengths = np.random.default_rng(3).integers(5, 65, 800)
    needed = pack(np.random.default_rng(4).permutation(800).reshape(100, 8), lengths, 64).rows
    grid = BatchGrid((int(np.quantile(needed, 0.6)),), 64)
    assert (needed > grid.rows[-1]).mean() > 0.1
    steps = example_orders(7, lengths, grid, 8, 1)
    assert steps.rows.max() <= grid.rows[-1]
    assert sorted(steps.indices.ravel()) == list(range(800))
    drawn = np.random.default_rng(7).permutation(800).reshape(100, 8)
    assert 0 < (steps.indices != drawn).mean() < 0.3
    np.testing.assert_array_equal(steps.rows, pack(steps.indices, lengths, 64).rows)
    np.testing.assert_array_equal(steps.starts, pack(steps.indices, lengths, 64).starts)


def test_no_example_is_exchanged_more_often_than_others_of_its_length():
    """Where an example lies in an epoch stays uniform: its mean place over many orders is the middle."""
    lengths = np.random.default_rng(3).integers(5, 65, 64)
    grid = choose_grid(lengths, 8)
    orders = np.stack([example_orders(seed, lengths, grid, 8, 1).indices.ravel() for seed in range(500)])
    places = np.argsort(orders, axis=1)
    standard_error = np.sqrt((64**2 - 1) / 12 / 500)
    assert np.abs(places.mean(axis=0) - 31.5).max() < 4 * standard_error


def test_one_grid_suffices_where_all_examples_are_equally_long():
    assert choose_grid(np.full(32, 8), 8) == BatchGrid((8,), 8)


def test_wider_rows_are_chosen_where_examples_do_not_fit_beside_each_other():
    """Two examples of 50 tokens do not share a row of 88, but two share one of 104 and five one of 256."""
    lengths = np.append(np.full(199, 50), 88)
    grid = choose_grid(lengths, 16)
    assert grid.columns > 88
    assert grid.rows[-1] * grid.columns < 0.8 * 16 * 88


def test_fixed_batches_hold_every_example_once_and_are_even():
    steps, grid = fixed_batches(LENGTHS, 12, 8)
    assert sorted(steps.indices[steps.indices >= 0]) == list(range(50))
    assert (steps.rows.max(),) == grid.rows
    assert grid.columns == 12
    assert np.ptp(steps.rows) <= 1
