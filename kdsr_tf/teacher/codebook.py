"""Learning the codewords of correlation vectors from a sample of pairs.

Reference:
    - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), section 3.2.
    - [Van den Oord et al., Neural discrete representation learning, appendix
      A.1](https://arxiv.org/abs/1711.00937): codewords as moving averages.
"""

from __future__ import annotations

import numpy as np
import sklearn.cluster
import threadpoolctl

from kdsr_tf.teacher.pair_correlations import nearest_codes

_VQ_START_SAMPLE = 20_000
_VQ_PASSES = 30
_VQ_BATCH = 8192
_VQ_DECAY = 0.95
_VQ_DEAD_SHARE = 0.05


def learn_codebook(vectors: np.ndarray, num_codes: int, kind: str, seed: int) -> np.ndarray:
    """Codewords of a sample of correlation vectors.

    Args:
        vectors: Float32 `(pairs, num_domains)`.
        num_codes: Codewords asked for, > 0. Where the sample holds fewer distinct
            vectors, these are the codewords: more could never be used.
        kind: Key of `CODEBOOKS`.
        seed: Seed of the initial codewords and the order of the sample.

    Returns:
        Float32 `(codes, num_domains)`, `1 <= codes <= num_codes`. An empty sample
        gives one codeword of zeros.

    Raises:
        ValueError: for another kind.
    """
    if kind not in CODEBOOKS:
        raise ValueError(f"`kind` must be one of {', '.join(CODEBOOKS)}. Received: kind={kind!r}.")
    if not len(vectors):
        return np.zeros((1, vectors.shape[1]), np.float32)
    distinct = np.unique(vectors, axis=0)
    if len(distinct) <= num_codes:
        return distinct.astype(np.float32)
    # More threads would add the clusters' sums in an order that varies by run.
    with threadpoolctl.threadpool_limits(1):
        return CODEBOOKS[kind](vectors, num_codes, seed).astype(np.float32)


def _kmeans(vectors: np.ndarray, num_codes: int, seed: int) -> np.ndarray:
    model = sklearn.cluster.KMeans(num_codes, n_init=1, max_iter=100, random_state=seed)
    return model.fit(vectors).cluster_centers_


def _vq(vectors: np.ndarray, num_codes: int, seed: int) -> np.ndarray:
    """Moving averages of the vectors that chose each codeword.

    A codeword whose share of choices falls below a twentieth of the mean share
    is dead; it restarts at a random vector of the batch, with the mean share.
    """
    rng = np.random.default_rng([seed, 2])
    some = vectors[rng.permutation(len(vectors))[:_VQ_START_SAMPLE]]
    # Random, but apart: codewords that start together in one cluster stay there.
    codebook, _ = sklearn.cluster.kmeans_plusplus(some, num_codes, random_state=seed)
    codebook = codebook.astype(np.float64)
    shares = np.full(num_codes, 1 / num_codes)
    sums = codebook * shares[:, None]
    for number in range(_VQ_PASSES):
        order = rng.permutation(len(vectors))
        for start in range(0, len(vectors), _VQ_BATCH):
            batch = vectors[order[start : start + _VQ_BATCH]]
            codes = nearest_codes(batch, codebook.astype(np.float32))
            counts = np.bincount(codes, minlength=num_codes)
            totals = np.stack(
                [np.bincount(codes, column, minlength=num_codes) for column in batch.T], axis=1
            )
            shares = _VQ_DECAY * shares + (1 - _VQ_DECAY) * counts / len(batch)
            sums = _VQ_DECAY * sums + (1 - _VQ_DECAY) * totals / len(batch)
            dead = np.flatnonzero(shares < _VQ_DEAD_SHARE / num_codes)
            # The last pass only settles, so that no codeword ends just restarted.
            if len(dead) and number < _VQ_PASSES - 1:
                sums[dead] = batch[rng.choice(len(batch), len(dead))] / num_codes
                shares[dead] = 1 / num_codes
            codebook = sums / np.maximum(shares, 1e-12)[:, None]
    return codebook


CODEBOOKS = {"kmeans": _kmeans, "vq": _vq}
"""Ways to learn a codebook: `(vectors, num_codes, seed)` to codewords."""
