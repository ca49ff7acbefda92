"""A text encoder that needs no download: hashed n-grams, randomly projected."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from beam_pipelines.handlers.encoder import TextEncoder
from beam_pipelines.handlers.hidden_states import States
from kdsr_tf.hashing import hash_pairs, stable_hash

_GRAM_SIZES = (2, 3, 4, 5)
_WORD_WEIGHT = 3
_WORD = re.compile(r"\w+")
_SEED = 20240112


class EmbeddedTextEncoder(TextEncoder):
    """Texts that share words or parts of words get similar vectors.

    Character n-grams within words work in any script and forgive spelling;
    whole words weigh more. Each feature's hash gives a fixed row of random
    signs, so the vector is a random projection of the bag of features (its
    cosine approximates theirs). All sums are of whole numbers and exact, so the
    vectors are equal on every machine.

    Its states are the vector as far as the n-grams of 2, 3, 4 and 5 characters, one order
    after the other, and the words: five levels, of which the last is the vector.

    Args:
        dim: Length of the vectors, > 0.
        batch_size: Unused by this encoder; part of every encoder's interface.

    Example:
        >>> encoder = EmbeddedTextEncoder(dim=64)
        >>> encoder.encode(["red silk tie", "blue silk tie"], None).shape
        (2, 64)
    """

    name = "embedded_text"

    def __init__(self, dim: int = 256, batch_size: int = 64):
        super().__init__(batch_size)
        self.dim = dim

    def parameters(self) -> dict[str, int]:
        return {"dim": self.dim, "version": 1}

    def build(self) -> None:
        return None

    def size(self, model: None) -> int:
        return self.dim

    def states(self, model: None) -> States | None:
        if self.chosen is None:
            return None
        name = "the embedded text encoder"
        self.chosen.needs_class_token(False, name)
        kept = self.chosen.kept(len(_GRAM_SIZES), name)
        return self.chosen.give(kept, [self.dim] * len(kept))

    def encode(self, batch: Sequence[str], model: None) -> np.ndarray:
        states = self.states(model)
        return np.stack([self._row(text, states) for text in batch])

    def _row(self, text: str, states: States | None) -> np.ndarray:
        features, weights, starts = _features(text)
        words = -(-self.dim // 64)
        bits = hash_pairs(features[:, None], np.arange(words, dtype=np.uint64)[None], _SEED)
        bits = np.unpackbits(bits.astype("<u8").view(np.uint8), axis=1, bitorder="little")
        signs = 2.0 * bits[:, : self.dim] - 1.0
        # Whole numbers below 2**53: exact in float64 in any order of summation.
        words, *grams = (
            weights[start:stop] @ signs[start:stop] for start, stop in itertools.pairwise(starts)
        )
        levels = list(itertools.accumulate([*grams, words]))
        vector = levels[-1]
        norm = np.sqrt(np.sum(vector * vector))
        kept = states.layers if states is not None else ()
        row = np.concatenate([vector, *(levels[level] for level in kept)])
        return (row / norm if norm else row).astype(np.float32)


def _features(text: str) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Hashes of the distinct features of a text, their whole-number weights, and where
    the words and the n-grams of each order begin and end."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    if not words:
        # Symbols only: the text itself is its one word.
        words = [text.strip()]
    line = f" {' '.join(words)} "
    codes = np.frombuffer(line.encode("utf-32-le"), np.uint32).astype(np.uint64)
    blank = codes == ord(" ")
    hashes = [np.array([stable_hash(word) for word in words], np.uint64)]
    for size in _GRAM_SIZES:
        count = len(codes) - size + 1
        if count <= 0:
            hashes.append(np.zeros(0, np.uint64))
            continue
        # A gram may begin or end at a word's edge but not cross it.
        inside = np.ones(count, bool)
        for offset in range(1, size - 1):
            inside &= ~blank[offset : offset + count]
        gram = np.full(count, size, np.uint64)
        for offset in range(size):
            gram = hash_pairs(gram, codes[offset : offset + count], size)
        hashes.append(gram[inside])
    importance = [_WORD_WEIGHT, *([1] * len(_GRAM_SIZES))]
    found = [np.unique(values, return_counts=True) for values in hashes]
    weights = [
        np.rint(8 * weight * np.sqrt(counts))
        for weight, (_, counts) in zip(importance, found, strict=False)
    ]
    starts = np.cumsum([0, *map(len, weights)]).tolist()
    return np.concatenate([values for values, _ in found]), np.concatenate(weights), starts
