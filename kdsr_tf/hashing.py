"""Hashes that are equal on every machine, worker and Python version."""

from __future__ import annotations

import hashlib

import numpy as np


def stable_hash(key: str | bytes) -> int:
    """64-bit hash of a key (BLAKE2b), unlike `hash()` the same in every process."""
    data = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def shard_of(key: str | bytes, num_shards: int) -> int:
    """Shard of a key: independent of workers, bundles and input order."""
    return stable_hash(key) % num_shards


def hash_pairs(first: np.ndarray, second: np.ndarray, seed: int) -> np.ndarray:
    """64-bit hash of pairs of integers, each of the same shape (SplitMix64 finaliser), uint64.

    Another seed, any int, gives another order.
    """
    with np.errstate(over="ignore"):
        state = _mix(np.asarray(first, np.uint64) + np.uint64(seed % 2**64))
        return _mix(state ^ np.asarray(second, np.uint64))


def _mix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
