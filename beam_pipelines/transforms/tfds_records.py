"""The layout of `examples/`: one TFDS dataset with a folder per split.

    examples/dataset_info.json
    examples/features.json
    examples/train/examples.tfrecord-00000-of-00004
    examples/validation/...
    examples/test/...

`tfds.builder_from_directory("examples").as_dataset("train")` reads it. Records
are encoded and framed without TensorFlow, so Beam workers stay light.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

import crcmod.predefined
import fsspec
import numpy as np
import tensorflow_datasets as tfds

from kdsr_tf import schema
from kdsr_tf.artifacts import join
from kdsr_tf.paths import local_folder

DATASET_NAME = "examples"
VERSION = "1.0.0"
FILE_TEMPLATE = "{SPLIT}/{DATASET}.{FILEFORMAT}-{SHARD_X_OF_Y}"

_crc32c = crcmod.predefined.mkPredefinedCrcFun("crc-32c")


def example_features(num_codes: Mapping[str, int]) -> tfds.features.FeaturesDict:
    """The fields of a window and their dtypes; arrays are little-endian bytes (`Encoding.BYTES`).

    Args:
        num_codes: Codewords per modality, in `1..65536`; its keys are the
            modalities whose pairs a window carries.

    Example:
        >>> sorted(example_features({"text": 100}))[:2]
        ['items', 'target']
    """
    fields = {
        schema.USER_ID: tfds.features.Text(),
        schema.ITEMS: _vector(np.int32),
        schema.TARGET: _vector(np.int32),
        schema.WINDOW_START: tfds.features.Scalar(dtype=np.int64),
    }
    for modality, size in num_codes.items():
        fields[schema.present_key(modality)] = _vector(np.uint8)
        fields[schema.scores_key(modality)] = _vector(np.dtype(schema.SCORE_DTYPE))
        fields[schema.codes_key(modality)] = _vector(np.dtype(schema.code_dtype(size)))
    return tfds.features.FeaturesDict(fields)


def _vector(dtype: np.typing.DTypeLike) -> tfds.features.Tensor:
    return tfds.features.Tensor(shape=(None,), dtype=dtype, encoding=tfds.features.Encoding.BYTES)


def record_encoder(features: tfds.features.FeaturesDict) -> Callable[[Mapping], bytes]:
    """A function from one window (a dict of arrays) to its serialised record.

    `features.serialize_example` leaves the order of the fields to protobuf's
    hash table; this encoder sorts them, so equal windows give equal bytes.
    """
    serializer = tfds.core.example_serializer.ExampleSerializer(features.get_serialized_info())

    def encode(window: Mapping) -> bytes:
        example = serializer.get_tf_example(features.encode_example(window))
        return example.SerializeToString(deterministic=True)

    return encode


def shard_path(directory: str, split: str, shard: int, num_shards: int) -> str:
    """Path of one file of a split."""
    return join(directory, split, f"{DATASET_NAME}.tfrecord-{shard:05d}-of-{num_shards:05d}")


class RecordWriter:
    """Writes one TFRecord file, local path or URI; equal records give equal bytes.

    Missing parents are made.

    Attributes:
        count: Records written.
        size: Their bytes without framing.
    """

    def __init__(self, path: str):
        filesystem, local = fsspec.core.url_to_fs(path)
        filesystem.makedirs(local.rsplit("/", 1)[0], exist_ok=True)
        self._file = filesystem.open(local, "wb")
        self.count = self.size = 0

    def write(self, record: bytes) -> None:
        """Append one serialised example."""
        length = struct.pack("<Q", len(record))
        self._file.write(b"".join((length, _checksum(length), record, _checksum(record))))
        self.count += 1
        self.size += len(record)

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def _checksum(data: bytes) -> bytes:
    """Masked CRC-32C, as https://www.tensorflow.org/tutorials/load_data/tfrecord defines it."""
    crc = _crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def write_dataset_info(
    directory: str,
    features: tfds.features.FeaturesDict,
    shards: Mapping[str, Sequence[tuple[int, int]]],
) -> None:
    """Write `dataset_info.json` and `features.json` beside the split folders.

    `shards` holds, per split, `(records, bytes)` of every shard in order, empty ones included.
    """
    # TFDS writes to fewer kinds of stores than fsspec.
    with local_folder(directory) as folder:
        _dataset_info(folder, features, shards).write_to_directory(folder)


def _dataset_info(
    directory: str,
    features: tfds.features.FeaturesDict,
    shards: Mapping[str, Sequence[tuple[int, int]]],
) -> tfds.core.DatasetInfo:
    template = tfds.core.ShardedFileTemplate(
        data_dir=directory,
        template=FILE_TEMPLATE,
        dataset_name=DATASET_NAME,
        filetype_suffix="tfrecord",
    )
    info = tfds.core.DatasetInfo(
        builder=tfds.core.dataset_info.DatasetIdentity(
            name=DATASET_NAME,
            version=tfds.core.Version(VERSION),
            data_dir=directory,
            module_name="",
        ),
        description="Windows of user sequences with the teacher's pair scores and codes.",
        features=features,
    )
    info.set_file_format("tfrecord")
    info.set_splits(
        tfds.core.splits.SplitDict(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[count for count, _ in sizes],
                num_bytes=sum(size for _, size in sizes),
                filename_template=template.replace(split=split),
            )
            for split, sizes in shards.items()
        )
    )
    return info
