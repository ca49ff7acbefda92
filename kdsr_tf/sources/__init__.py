"""Reading a user's interactions and catalogue."""

from kdsr_tf.sources.source import Source, open_source

__all__ = ["Source", "open_source"]
