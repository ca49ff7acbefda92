"""What the TFDS builders share: features, examples, files given by hand, pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from kdsr_tf.datasets.item_pictures import files_below
from kdsr_tf.datasets.published.lines import LinesPiece
from kdsr_tf.errors import InputError
from kdsr_tf.sources.files import read_batches

SPLIT = "train"
"""Every configuration has this one split, which is the default of `source.tfds`."""


def interaction_features() -> tfds.features.FeaturesDict:
    """Features of a configuration that holds interactions."""
    text = tfds.features.Text
    return tfds.features.FeaturesDict(
        {"user_id": text(), "item_id": text(), "rating": np.float32, "timestamp": np.int64}
    )


def item_features(**more: Any) -> tfds.features.FeaturesDict:
    """Features of a catalogue; `image` is a file's path below `images/`, or empty."""
    text = tfds.features.Text
    return tfds.features.FeaturesDict({"item_id": text(), "title": text(), "image": text()} | more)


def examples(
    piece: LinesPiece, features: tfds.features.FeaturesDict, images: dict[str, str] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered records of a published file; a value that is missing is empty or NaN.

    `images` are paths of pictures by item id, for the feature `image`. A line of another
    format is an error: the file is damaged.
    """
    for batch in read_batches(piece):
        if batch.rejected:
            bad = batch.rejected[0]
            raise InputError(
                f"{bad.where} of {piece.path} is {bad.reason}: {bad.row}. The file is not as it "
                "was published: delete it, and download it again."
            )
        for position, row in enumerate(batch.rows.tolist()):
            values = {name: column[position] for name, column in batch.columns.items()}
            if images is not None:
                values["image"] = images.get(values["item_id"])
            yield row, {name: _given(values.get(name), spec) for name, spec in features.items()}


def given_by_hand(dl_manager: tfds.download.DownloadManager) -> epath.Path | None:
    """`manual_dir`, if the user has put files there; it is never required."""
    try:
        return dl_manager.manual_dir
    except AssertionError:
        return None


def picture_names(manual_dir: epath.Path | None) -> dict[str, str]:
    """Paths of the pictures below `images/` by item id: `images/B0009P4PZC.jpg`."""
    folder = manual_dir / "images" if manual_dir else None
    if folder is None or not folder.is_dir():
        return {}
    root = os.fspath(folder)
    found = reversed(list(files_below(root)))
    return {file.stem: os.path.relpath(file.path, root) for file in found}


def _given(value: Any, feature: Any) -> Any:
    if value is not None:
        return value
    if isinstance(feature, tfds.features.Text):
        return ""
    return [] if isinstance(feature, tfds.features.Sequence) else np.nan
