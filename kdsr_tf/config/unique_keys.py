"""YAML in which no key stands twice."""

from __future__ import annotations

from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"


class UniqueKeyLoader(yaml.SafeLoader):
    """Safe, and refuses what YAML forbids and PyYAML lets pass: of two equal keys the last wins.

    An arm of an experiment, or a section of a configuration, would be lost without an error.

    Example:
        >>> yaml.load("a: 1\\nb: 2", UniqueKeyLoader)
        {'a': 1, 'b': 2}
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping as it is written: merging (`<<`) puts equal keys into it later.

        Raises:
            yaml.YAMLError: naming the key and its line.
        """
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if (key.tag, key.value) in seen:
                    raise yaml.composer.ComposerError(
                        None, None, f"the key {key.value} stands there twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return node
