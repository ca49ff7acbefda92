"""Teachers on a worker, and where their vectors come from: a mapped file, or a join by item.

While the vectors of all modalities fit on a worker's disk, each machine copies
them there once and its processes map the same file. Beyond that every shard
receives, through a join, the vectors of its own items and nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import apache_beam as beam
import fsspec
import numpy as np

from kdsr_tf.artifacts import join
from kdsr_tf.teacher.teacher import Teacher

_ROWS_PER_READ = 4096

Vector = tuple[int, bytes]
"""Item index and its float32 vector: plain values that Beam codes fast."""


def local_copy(path: str) -> str:
    """A local path with the content of `path`, copied once per machine.

    A local path is returned unchanged. The copy of a URI is kept in the temporary folder and
    shared by processes; a changed file is copied anew and its old copy removed.
    """
    if "://" not in path:
        return path
    filesystem, remote = fsspec.core.url_to_fs(path)
    name = hashlib.sha256(path.encode()).hexdigest()[:16]
    folder = os.path.join(tempfile.gettempdir(), f"kdsr-{os.getuid()}", name)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    version = hashlib.sha256(str(filesystem.ukey(remote)).encode()).hexdigest()[:16]
    copy = os.path.join(folder, version)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(copy):
            for old in os.listdir(folder):
                os.remove(os.path.join(folder, old))
            filesystem.get_file(remote, f"{copy}.part")
            os.rename(f"{copy}.part", copy)
    return copy


def map_vectors(teacher: str) -> np.ndarray:
    """The condensed vectors of a teacher's folder, memory-mapped, `(items + 1, dim)`."""
    return np.load(local_copy(join(teacher, "vectors.npy")), mmap_mode="r")


def read_teacher(
    directory: str, details: Mapping[str, Any], vectors: JoinedVectors | None = None
) -> Teacher:
    """The teacher of one modality, on a worker.

    Args:
        directory: Local path or URI of `teacher/<modality>/`.
        details: `details` of its manifest.
        vectors: Condensed vectors by item index. None maps those of the folder:
            processes on one machine share them and only rows that occur are read.
    """
    # They give rows by number, as an array does.
    rows = map_vectors(directory) if vectors is None else cast(np.ndarray, vectors)
    return Teacher.read(directory, details, lambda path: np.load(local_copy(path)), rows)


def vectors_bytes(teachers: Iterable[str]) -> int:
    """Size of the condensed vectors of some teachers' folders together."""
    found = (fsspec.core.url_to_fs(join(teacher, "vectors.npy")) for teacher in teachers)
    return sum(filesystem.size(path) for filesystem, path in found)


class JoinedVectors:
    """Vectors of some items, looked up by item index like a mapped array.

    Args:
        vectors: Items and their vectors, any order, each item once.

    Example:
        >>> joined = JoinedVectors([(7, np.float32([1, 2]).tobytes())])
        >>> joined[np.array([7, 7])].tolist()
        [[1.0, 2.0], [1.0, 2.0]]
    """

    def __init__(self, vectors: Iterable[Vector]):
        ordered = sorted(vectors)
        self._items = np.array([item for item, _ in ordered], np.int64)
        data = np.frombuffer(b"".join(vector for _, vector in ordered), np.float32)
        self._vectors = data.reshape(len(ordered), -1) if ordered else data.reshape(0, 0)

    def __getitem__(self, items: np.ndarray) -> np.ndarray:
        return self._vectors[np.searchsorted(self._items, items)]


class JoinVectors(beam.PTransform):
    """The vectors that each shard needs: `(item, shard)` to `(shard, vector)`.

    Takes every item of a shard once.

    Args:
        teacher: Folder of a teacher, local path or URI.
        size: Rows of its `vectors.npy`.
    """

    def __init__(self, teacher: str, size: int):
        super().__init__()
        self._teacher = teacher
        self._size = size

    def expand(self, items: beam.PCollection) -> beam.PCollection:
        vectors = (
            items.pipeline
            | "Parts" >> beam.Create(range(0, self._size, _ROWS_PER_READ))
            | beam.Reshuffle()
            | "Read" >> beam.FlatMap(read_vectors, self._teacher, _ROWS_PER_READ)
        )
        return {"shards": items, "vectors": vectors} | beam.CoGroupByKey() | beam.FlatMap(_send)


def read_vectors(start: int, teacher: str, rows: int) -> Iterator[Vector]:
    """Items from `start` on with their vectors; at most `rows`, read as one range."""
    with fsspec.open(join(teacher, "vectors.npy"), "rb") as file:
        np.lib.format.read_magic(file)
        (_, dim), _, dtype = np.lib.format.read_array_header_1_0(file)
        width = dim * dtype.itemsize
        file.seek(start * width, os.SEEK_CUR)
        data = file.read(rows * width)
    for row in range(len(data) // width):
        yield start + row, data[row * width : (row + 1) * width]


def _send(element: tuple[int, Mapping[str, Iterable]]) -> Iterator[tuple[int, Vector]]:
    item, found = element
    (vector,) = found["vectors"]
    return ((shard, (item, vector)) for shard in found["shards"])
