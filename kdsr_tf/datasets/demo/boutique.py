"""Writes the demo boutique as a folder in the source format."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kdsr_tf.console import progress
from kdsr_tf.datasets.demo.behaviour import make_histories
from kdsr_tf.datasets.demo.painting import paint
from kdsr_tf.datasets.demo.products import Product, make_catalogue
from kdsr_tf.errors import ConfigError

_JPEG: dict[str, Any] = {"format": "JPEG", "quality": 90, "subsampling": 0}


def generate(folder: str, num_items: int = 600, num_users: int = 2000, seed: int = 0) -> None:
    """Generate the boutique: `interactions.parquet`, `items.jsonl` and `images/`.

    Customers follow a sequential habit (a suit, then a shirt, then a tie) and a
    taste that pictures and words show (keep the colour, change the shape). Most
    products are bought too rarely for their ids to be learnt, so a model that
    looks at them does better. The same arguments give the same bytes.

    Args:
        folder: Local folder, created if needed; files of the same name are replaced.
        num_items: Products, at least 1. With 600, every shape, colour and pattern meet once.
        num_users: Customers, at least 1; each has 5 or more interactions.
        seed: Seed of everything, at least 0.

    Raises:
        ConfigError: if a number is out of range.

    Example:
        >>> generate("/tmp/boutique", num_items=30, num_users=20)
        >>> sorted(os.listdir("/tmp/boutique"))
        ['images', 'interactions.parquet', 'items.jsonl']
    """
    for name, value, least in (
        ("num_items", num_items, 1),
        ("num_users", num_users, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ConfigError(f"`{name}` must be at least {least}. Received: {name}={value}.")
    products = make_catalogue(num_items, seed)
    images = os.path.join(folder, "images")
    os.makedirs(images, exist_ok=True)
    with progress("Painting the boutique", total=num_items) as advance:
        for product in products:
            if product.has_picture:
                paint(product).save(os.path.join(folder, _image_path(product)), **_JPEG)
            advance(1)
    with open(os.path.join(folder, "items.jsonl"), "w", encoding="utf-8", newline="\n") as file:
        for product in products:
            file.write(json.dumps(_row(product), ensure_ascii=False) + "\n")
    _write_interactions(folder, products, make_histories(products, num_users, seed))


def _image_path(product: Product) -> str:
    return f"images/{product.item_id}.jpg"


def _row(product: Product) -> dict[str, Any]:
    row = dataclasses.asdict(product)
    del row["background"], row["has_picture"]
    return row | {"image": _image_path(product) if product.has_picture else None}


def _write_interactions(
    folder: str, products: list[Product], histories: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    """A log of all clicks in the order of time."""
    users = np.repeat(np.arange(len(histories)), [len(items) for items, _ in histories])
    items = np.concatenate([items for items, _ in histories])
    seconds = np.concatenate([seconds for _, seconds in histories])
    order = np.lexsort((users, seconds))
    table = pa.table(
        {
            "user_id": [f"customer-{user + 1:05d}" for user in users[order]],
            "item_id": [products[item].item_id for item in items[order]],
            "timestamp": pa.array(seconds[order], pa.int64()),
        }
    )
    pq.write_table(table, os.path.join(folder, "interactions.parquet"))
