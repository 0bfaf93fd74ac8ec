import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstab.data.batches import (
    Examples,
    example_orders,
    fixed_batches,
    make_batch,
    steps_per_epoch,
    token_budget,
)

LENGTHS = np.random.default_rng(0).integers(2, 13, 50).astype(np.int32)


def _examples(width=12):
    rng = np.random.default_rng(1)
    ids = rng.integers(1, 100, (len(LENGTHS), width)).astype(np.int32)
    return Examples(ids, ids % 2, LENGTHS, rng.integers(0, 2, len(LENGTHS)).astype(np.int32))


def test_tokens_lie_one_after_another():
    examples, indices = _examples(), np.array([7, 3, -1, 11])
    batch = make_batch(examples, jnp.asarray(indices), 64)
    expected = np.concatenate([examples.input_ids[i, : LENGTHS[i]] for i in indices if i >= 0])
    np.testing.assert_array_equal(batch.input_ids[: len(expected)], expected)
    np.testing.assert_array_equal(batch.token_type_ids[: len(expected)], expected % 2)
    assert not batch.input_ids[len(expected) :].any()
    np.testing.assert_array_equal(batch.position_ids[: LENGTHS[7]], np.arange(LENGTHS[7]))
    np.testing.assert_array_equal(batch.weights, [1, 1, 0, 1])
    np.testing.assert_array_equal(batch.labels, np.where(indices >= 0, examples.labels[indices], 0))


def test_rows_hold_each_example_and_come_back():
    examples, indices = _examples(), np.array([7, 3, -1, 11])
    batch = make_batch(examples, jnp.asarray(indices), 64)
    line = jnp.asarray(np.random.default_rng(2).normal(size=(64, 5)), jnp.float32)
    rows = np.asarray(batch.to_rows(line))
    start = 0
    for b, i in enumerate(indices):
        length = LENGTHS[i] if i >= 0 else 0
        np.testing.assert_array_equal(rows[b, :length], line[start : start + length])
        assert not rows[b, length:].any()
        start += length
    np.testing.assert_array_equal(batch.to_line(batch.to_rows(line))[:start], line[:start])


def test_the_gradient_of_the_layout_is_that_of_plain_indexing():
    batch = make_batch(_examples(), jnp.asarray([7, 3, -1, 11]), 64)
    weights = jnp.asarray(np.random.default_rng(3).normal(size=(4, 12, 5)), jnp.float32)

    def plain(line):
        padded = jnp.concatenate([line, jnp.zeros((1, 5))])
        return jnp.sum(padded[batch.rows] * weights)

    line = jnp.ones((64, 5))
    gradient = jax.grad(lambda line: jnp.sum(batch.to_rows(line) * weights))(line)
    np.testing.assert_allclose(gradient, jax.grad(plain)(line), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 16, 50])
def test_an_epoch_holds_every_example_once_within_the_budget(batch_size):
    budget = token_budget(LENGTHS, batch_size)
    steps = steps_per_epoch(len(LENGTHS), batch_size)
    orders = example_orders(4, LENGTHS, batch_size, epochs=3, budget=budget)
    assert orders.shape == (3 * steps, batch_size)
    for epoch in orders.reshape(3, -1):
        assert sorted(epoch[epoch >= 0]) == list(range(50))
    assert np.where(orders >= 0, LENGTHS[orders], 0).sum(axis=1).max() <= budget


def test_orders_depend_on_the_seed_and_the_epoch_only():
    budget = token_budget(LENGTHS, 8)
    first = example_orders(4, LENGTHS, 8, 2, budget)
    np.testing.assert_array_equal(first, example_orders(4, LENGTHS, 8, 3, budget)[: len(first)])
    assert (first != example_orders(5, LENGTHS, 8, 2, budget)).any()
    assert (first[:7] != first[7:]).any()


def test_nine_of_ten_orders_fit_the_budget():
    budget, rng = token_budget(LENGTHS, 8), np.random.default_rng(9)
    fits = [np.add.reduceat(LENGTHS[rng.permutation(50)], np.arange(0, 50, 8)).max() <= budget for _ in range(1000)]
    assert np.mean(fits) > 0.8


def test_fixed_batches_hold_every_example_once_and_are_even():
    batches, budget = fixed_batches(LENGTHS, 8)
    assert sorted(batches[batches >= 0]) == list(range(50))
    tokens = np.where(batches >= 0, LENGTHS[batches], 0).sum(axis=1)
    assert tokens.max() <= budget < LENGTHS.sum() / len(batches) + 2 * LENGTHS.max() + 16
