"""From the vectors of distinct contents to one vector per item."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics

from beam_pipelines.handlers.encoder import Encoder, ImageEncoder
from beam_pipelines.running import NAMESPACE, advance
from beam_pipelines.transforms.contents import DIGEST_BYTES, UNUSABLE, Key, Owner

ROWS = "rows"
PICTURES = "pictures"
REJECTED = "rejected"

_PARTS = "parts"
_NOT_FINITE = "the encoder's vector holds NaN or infinity"
_TOO_LONG = "the vector is too long: its squared length does not fit float32"


class JoinItems(beam.PTransform):
    """Rows of items; an item with several pictures gets `Encoder.merge` of their vectors.

    An unusable content is a dead letter of its own. Its item is rejected unless
    another of its contents is usable.

    Args:
        encoder: Merges vectors.
        size: Length every vector must have.

    Returns:
        From `encoded` (`(Key, vector)`) and any others (`(Owner, reason)` of unusable
        contents): `rows` (`(item, vector, digest)`), `rejected` (`Rejected`) and, of
        encoders of pictures, `pictures` (`(digest, vector)` of each picture of an item
        with several).
    """

    def __init__(self, encoder: Encoder, size: int):
        super().__init__()
        self._encoder = encoder
        self._size = size

    def expand(self, collections: dict[str, beam.PCollection]) -> dict[str, beam.PCollection]:
        unusable = dict(collections)
        shared = unusable.pop("encoded") | "Share" >> beam.ParDo(_Share(self._size)).with_outputs(
            UNUSABLE, _PARTS, PICTURES, main=ROWS
        )
        aside = (
            (*unusable.values(), shared[UNUSABLE])
            | "All unusable" >> beam.Flatten()
            | "Set aside" >> beam.ParDo(_SetAside()).with_outputs(REJECTED, main=_PARTS)
        )
        if not isinstance(self._encoder, ImageEncoder):
            # Only of pictures an item has several: what is left out would be empty, and
            # every group and every `Flatten` copies all vectors once more.
            return {ROWS: shared[ROWS], REJECTED: aside[REJECTED]}
        merged = (
            (shared[_PARTS], aside[_PARTS])
            | "All parts" >> beam.Flatten()
            | "By item" >> beam.GroupByKey()
            | "Merge" >> beam.ParDo(_Merge(self._encoder)).with_outputs(REJECTED, main=ROWS)
        )
        return {
            ROWS: (shared[ROWS], merged[ROWS]) | "All rows" >> beam.Flatten(),
            PICTURES: shared[PICTURES],
            REJECTED: (aside[REJECTED], merged[REJECTED]) | "All rejected" >> beam.Flatten(),
        }


class _Share(beam.DoFn):
    """Gives a content's vector to its owners, after a last check."""

    def __init__(self, size: int):
        self._size = size

    def process(self, element: tuple[Key, np.ndarray]) -> Iterator[Any]:
        key, vector = element
        if vector.shape != (self._size,):
            raise ValueError(
                f"An encoder must give vectors of shape ({self._size},). Received: {vector.shape}."
            )
        reason = _problem(vector)
        for owner in key.owners:
            if reason is not None:
                yield beam.pvalue.TaggedOutput(UNUSABLE, (owner, reason))
            elif owner.parts == 1:
                yield _finished(owner.item, vector, key.digest)
            else:
                part = (owner, key.digest, vector, None)
                yield beam.pvalue.TaggedOutput(_PARTS, (owner.item, part))
        if reason is None and any(owner.parts > 1 for owner in key.owners):
            yield beam.pvalue.TaggedOutput(PICTURES, (key.digest, vector))


def _problem(vector: np.ndarray) -> str | None:
    """Why a vector cannot be used: the correlations of one too long would be infinite or NaN."""
    if not np.all(np.isfinite(vector)):
        return _NOT_FINITE
    squared_length = np.square(vector, dtype=np.float64).sum()
    return None if squared_length <= np.finfo(np.float32).max else _TOO_LONG


class _SetAside(beam.DoFn):
    """Dead letters of items with one content; of others only all parts together can tell."""

    def process(self, element: tuple[Owner, str]) -> Iterator[Any]:
        owner, reason = element
        if owner.parts == 1:
            _count("rejected")
            advance()
            yield beam.pvalue.TaggedOutput(REJECTED, owner.rejected(reason))
        else:
            yield owner.item, (owner, None, None, reason)


class _Merge(beam.DoFn):
    def __init__(self, encoder: Encoder):
        self._encoder = encoder

    def process(self, element: tuple[int, Iterable[Any]]) -> Iterator[Any]:
        item, parts = element
        parts = sorted(parts, key=lambda part: part[0].part)
        bad = [(owner, reason) for owner, _, _, reason in parts if reason is not None]
        for owner, reason in bad:
            yield beam.pvalue.TaggedOutput(REJECTED, owner.rejected(reason))
        if len(bad) == len(parts):
            _count("rejected")
            advance()
            return
        _count("rejected_pictures", len(bad))
        good = [(digest, vector) for _, digest, vector, reason in parts if reason is None]
        digests, vectors = zip(*good, strict=True)
        digest = hashlib.blake2b(b"".join(digests), digest_size=DIGEST_BYTES).digest()
        yield _finished(item, self._encoder.merge(np.stack(vectors)), digest)


def _finished(item: int, vector: np.ndarray, digest: bytes) -> tuple[int, np.ndarray, bytes]:
    _count("encoded")
    advance()
    return item, vector, digest


def _count(name: str, amount: int = 1) -> None:
    Metrics.counter(NAMESPACE, name).inc(amount)
