"""Reading a user's interactions and catalogue."""

from __future__ import annotations

from kdsr_tf.config import SourceConfig
from kdsr_tf.errors import InputError
from kdsr_tf.sources.batches import TFDS_PREFIX
from kdsr_tf.sources.source import Source

__all__ = ["Source", "open_source"]


def open_source(config: SourceConfig) -> Source:
    """Find a user's data and check that the columns are there.

    Args:
        config: Section `source` of the configuration.

    Raises:
        InputError: for a missing folder, file, dataset or column.
    """
    if config.path is None:
        raise InputError(
            "`source.path` is not set. Give the folder with interactions.* and items.*: "
            "--set source.path=FOLDER."
        )
    if config.path.startswith(TFDS_PREFIX):
        from kdsr_tf.sources.tfds_source import open_dataset

        return open_dataset(config, config.path)
    from kdsr_tf.sources.folder import open_folder

    return open_folder(config, config.path)
