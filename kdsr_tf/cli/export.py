"""What `kdsr export` has beside the options of every stage: new items and rollback."""

from __future__ import annotations

from kdsr_tf import stages
from kdsr_tf.cli.commands.stages import PREVIOUS
from kdsr_tf.cli.summary import stage_table
from kdsr_tf.config import Config
from kdsr_tf.console import console


def with_added_items(config: Config, path: str | None) -> Config:
    """The configuration with `export.add_items`, where a path is given."""
    if path is None:
        return config
    added = config.export.model_copy(update={"add_items": path})
    return config.model_copy(update={"export": added})


def encode_new_items(config: Config) -> None:
    """Write `new_items/`, where the configuration names some."""
    if config.export.add_items is None:
        return
    # The export package first: it decides how TensorFlow is imported.
    import kdsr_tf.export  # noqa: F401
    from beam_pipelines.new_items import encode_new_items

    console.print(stage_table(stages.NEW_ITEMS, [encode_new_items(config)]))


def roll_back(config: Config, version: int, dry_run: bool) -> None:
    """Publish an earlier version again and say which.

    Args:
        config: The configuration.
        version: Its number; 0 is the one before the served one.
        dry_run: Only say it.
    """
    from kdsr_tf.export.versions import find_earlier, next_version, rollback

    root = stages.location(config, "serving_model")
    named = None if version == PREVIOUS else version
    if dry_run:
        earlier, _ = find_earlier(root, named)
        console.print(f"Would publish version {earlier} again, as {next_version(root)}.")
        return
    console.print(stage_table("export --rollback", [rollback(root, named)]))
