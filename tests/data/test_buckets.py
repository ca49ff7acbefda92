import itertools

import numpy as np
import pytest

from kdsr_tf.data.buckets import Buckets, exact_lengths, few_lengths, histogram

MAX_LENGTH = 50


def skewed_sizes(count=5000):
    """Sizes as those of most data: many short windows, few long ones, some at the limit."""
    rng = np.random.default_rng(0)
    return np.minimum(1 + rng.geometric(0.2, count) + rng.geometric(0.05, count) // 8, MAX_LENGTH)


def batches_of(buckets, sizes):
    """Sizes of the rows of every batch of the only block."""
    ordered = np.sort(sizes)
    return [ordered[start:stop] for start, stop in itertools.pairwise(buckets.edges[0])]


@pytest.mark.parametrize("lengths_of", [exact_lengths, few_lengths])
@pytest.mark.parametrize("batch_size", [64, 512])
def test_batches_hold_every_row_and_about_as_many_targets_with_little_padding(
    lengths_of, batch_size
):
    sizes, lengths = skewed_sizes(), lengths_of(MAX_LENGTH)
    buckets = Buckets([histogram(sizes, sizes, lengths)], lengths, batch_size)
    batches = batches_of(buckets, sizes)
    assert sum(map(len, batches)) == len(sizes) and len(batches) == buckets.num_batches
    bucket = [np.searchsorted(lengths, batch.max()) for batch in batches]
    assert all(len(b) <= buckets.capacities[k] for b, k in zip(batches, bucket, strict=True))
    targets = np.array([batch.sum() for batch in batches])
    expected = batch_size * sizes.mean()
    assert targets.max() < 1.3 * expected
    assert np.median(targets) == pytest.approx(expected, rel=0.15)
    assert len(batches) <= np.ceil(len(sizes) / batch_size) * 1.05 + 3
    padded = sum(buckets.capacities[k] * lengths[k] for k in bucket)
    assert padded < 1.4 * sizes.sum()


def test_prefixes_come_in_batches_of_one_size():
    sizes, lengths = skewed_sizes(), few_lengths(MAX_LENGTH)
    buckets = Buckets([histogram(sizes, np.ones_like(sizes), lengths)], lengths, 64)
    assert set(buckets.capacities) == {64}
    assert buckets.num_batches == -(-len(sizes) // 64)


def test_long_windows_of_few_targets_stay_within_the_batch_size():
    sizes, targets = np.array([2] * 90 + [50] * 10), np.array([2] * 90 + [1] * 10)
    buckets = Buckets([histogram(sizes, targets, [2, 50])], [2, 50], batch_size=10)
    assert buckets.capacities.tolist() == [10, 10]


def test_every_block_has_batches_of_its_own():
    blocks = [histogram(np.array(s), np.array(s), [2, 4]) for s in ([2, 2, 4], [4], [])]
    buckets = Buckets(blocks, [2, 4], batch_size=2)
    assert buckets.capacities.tolist() == [3, 2]
    assert [edges.tolist() for edges in buckets.edges] == [[0, 2, 3], [0, 1], [0]]
    assert Buckets([], [2, 4], 2).num_batches == 0


def test_lengths():
    assert exact_lengths(4) == [2, 3, 4]
    assert exact_lengths(1) == few_lengths(1) == [1]
    for longest in range(2, 201):
        lengths = few_lengths(longest)
        assert lengths[-1] == longest and lengths == sorted(set(lengths))
        assert all(b < 1.4 * (a + 1) for a, b in itertools.pairwise(lengths))
