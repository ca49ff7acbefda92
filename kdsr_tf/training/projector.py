"""Item tables for TensorBoard's embedding projector."""

from __future__ import annotations

import io

import fsspec
import keras
import numpy as np
import pyarrow as pa
from tensorboard.plugins import projector

from kdsr_tf import schema
from kdsr_tf.artifacts import join
from kdsr_tf.items.item_encoder import ItemEncoder

PROJECTED_ITEMS = 10_000
"""Most items shown, the most frequent ones: what a browser still turns smoothly."""

_METADATA = "items.tsv"


def write_projector(encoder: ItemEncoder, items: pa.Table, folder: str) -> None:
    """Write every table of item vectors with titles, for `tensorboard --logdir` of `folder`.

    Args:
        encoder: The item encoder, trained; one that looks vectors up.
        items: Columns `item_id`, `title` and `train_count` of the vocabulary.
        folder: Existing local folder or URI.
    """
    counts = items[schema.TRAIN_COUNT].to_numpy()
    shown = np.sort(np.argsort(-counts, kind="stable")[:PROJECTED_ITEMS])
    rows = items.take(shown)
    lines = ["item_id\ttitle\ttrain_count"]
    for item_id, title, count in zip(
        *(rows[name].to_pylist() for name in (schema.ITEM_ID, schema.TITLE, schema.TRAIN_COUNT)),
        strict=True,
    ):
        lines.append(f"{_cell(item_id)}\t{_cell(title)}\t{count}")
    _write(join(folder, _METADATA), "\n".join(lines) + "\n")
    tables = {k: v for k, v in encoder.row_variables().items() if len(v.shape) == 2}
    config = projector.ProjectorConfig()
    for name, table in tables.items():
        vectors = keras.ops.convert_to_numpy(table)[shown + 1]
        text = io.StringIO()
        np.savetxt(text, vectors, fmt="%.5g", delimiter="\t")
        _write(join(folder, f"{name}.tsv"), text.getvalue())
        config.embeddings.add(
            tensor_name=name,
            tensor_shape=vectors.shape,
            tensor_path=f"{name}.tsv",
            metadata_path=_METADATA,
        )
    _write(join(folder, "projector_config.pbtxt"), str(config))


def _cell(text: str) -> str:
    return " ".join(text.split()) or "-"


def _write(path: str, text: str) -> None:
    with fsspec.open(path, "w", encoding="utf-8") as file:
        file.write(text)
