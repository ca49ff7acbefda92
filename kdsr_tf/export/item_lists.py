"""Which items an export may answer with: allow and deny lists."""

from __future__ import annotations

from typing import Any

import numpy as np

from kdsr_tf import stages
from kdsr_tf.config import Config
from kdsr_tf.console import console
from kdsr_tf.errors import ConfigError
from kdsr_tf.sources.export_files import read_ids

_SHOWN = 5


def allowed_items(config: Config, item_ids: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Which items may come back from a signature, by `export.allow_items` and `export.deny_items`.

    Returns:
        Bools `(N,)`, and per list for the manifest: how many ids it has and how many of
        them are unknown. Unknown ids are also reported on the console.

    Raises:
        ConfigError: if no id of a list is known, or no item is left.
    """
    allowed = np.ones(len(item_ids), bool)
    details: dict[str, Any] = {}
    for name, path in stages.export_files(config).items():
        if name == stages.ADD_ITEMS:
            continue
        listed = _listed(f"export.{name}", path, item_ids, details)
        allowed &= listed if name == stages.ALLOW_ITEMS else ~listed
    if not allowed.any():
        raise ConfigError(
            "`export.allow_items` and `export.deny_items` leave no item that may be "
            f"recommended. Received: allow_items={config.export.allow_items}, "
            f"deny_items={config.export.deny_items}."
        )
    return allowed, details


def _listed(key: str, path: str, item_ids: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    ids = read_ids(key, path)
    wanted = set(ids)
    # Sets of strings: one long id would make every entry of a NumPy array as wide.
    listed = np.array([item_id.strip() in wanted for item_id in item_ids], bool)
    known = {item_id.strip() for item_id in item_ids[listed]}
    unknown = [item_id for item_id in ids if item_id not in known]
    shown = ", ".join(unknown[:_SHOWN]) + (", ..." if len(unknown) > _SHOWN else "")
    if unknown and not known:
        raise ConfigError(
            f"`{key}`: none of the {len(ids):,} ids in {path} is an item of this student. First: "
            f"{shown}. Write one item id per line, as in the catalogue."
        )
    if unknown:
        console.print(
            f"Warning: `{key}`: {len(unknown):,} of {len(ids):,} ids in {path} are unknown: "
            f"{shown}.",
            style="yellow",
            markup=False,
        )
    details[key.removeprefix("export.")] = {"ids": len(ids), "unknown": len(unknown)}
    return listed
