"""Golden values: a change of any of these moves users between shards."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from kdsr_tf.hashing import hash_pairs, shard_of, stable_hash

GOLDEN_EMPTY = 13020603013274838756
GOLDEN_USER = 9863422088627006618
GOLDEN_PAIRS = [13608149317741381227, 16171810823986729605]


def test_golden_values():
    assert stable_hash("") == GOLDEN_EMPTY
    assert stable_hash("user-1") == stable_hash(b"user-1") == GOLDEN_USER
    assert stable_hash("\ud800") != stable_hash("?")
    assert shard_of("user-1", 7) == GOLDEN_USER % 7
    hashes = hash_pairs(np.array([1, 2]), np.array([2, 1]), seed=0)
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == GOLDEN_PAIRS


def test_another_process_with_another_hash_seed_agrees():
    code = "from kdsr_tf.hashing import stable_hash; print(stable_hash('user-1'))"
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}
        command = [sys.executable, "-c", code]
        result = subprocess.run(command, env=environment, capture_output=True, check=True)
        assert int(result.stdout) == GOLDEN_USER


def test_pair_hashes_are_spread_and_depend_on_the_seed():
    first, second = np.meshgrid(np.arange(300), np.arange(300))
    hashes = hash_pairs(first, second, seed=3)
    assert len(np.unique(hashes)) == hashes.size
    counts = np.bincount((hashes.ravel() >> np.uint64(60)).astype(int), minlength=16)
    assert np.all(np.abs(counts / hashes.size - 1 / 16) < 0.005)
    assert not np.array_equal(hashes, hash_pairs(first, second, seed=4))
    assert np.array_equal(hash_pairs(1, 2, seed=-1), hash_pairs(1, 2, seed=2**64 - 1))
