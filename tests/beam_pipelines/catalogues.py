"""A user's folder with a catalogue, through `prepare` and `encode`."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipelines.encode import encode
from beam_pipelines.prepare import prepare
from kdsr_tf import stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config, load_config


def json_lines(rows: Iterable[Mapping[str, Any] | bytes]) -> bytes:
    """A catalogue as JSON lines; bytes stand for themselves."""
    return b"\n".join(r if isinstance(r, bytes) else json.dumps(r).encode() for r in rows) + b"\n"


def write_source(
    folder: pathlib.Path, name: str, catalogue: bytes | pa.Table, item_ids: Iterable[str]
) -> str:
    """A source where one user has clicked every item, a single one twice; returns its path."""
    folder.mkdir(exist_ok=True)
    ids = list(item_ids)
    ids = ids if len(ids) > 1 else 2 * ids
    clicks = [{"user_id": "u", "item_id": item, "timestamp": t} for t, item in enumerate(ids)]
    (folder / "interactions.jsonl").write_bytes(json_lines(clicks))
    if isinstance(catalogue, bytes):
        (folder / name).write_bytes(catalogue)
    else:
        pq.write_table(catalogue, folder / name)
    return str(folder)


def configure(source: str, workdir: pathlib.Path, modality: str, *overrides: str) -> Config:
    """One modality; nearly all rows may be rejected."""
    other = {"image": "text", "text": "image"}[modality]
    return load_config(
        overrides=[
            f"source.path={source}",
            f"encode.{other}=null",
            "prepare.k_core=0",
            "prepare.max_rejected_fraction=0.99",
            "encode.max_rejected_fraction=0.99",
            *overrides,
        ],
        workdir=str(workdir),
    )


def run(config: Config) -> Manifest:
    """`prepare` and `encode`; the manifest of the features."""
    prepare(config)
    (manifest,) = encode(config)
    return manifest


def rejected(config: Config, artifact: str) -> list[tuple[str, str]]:
    """`(row of the file, reason)` of every dead letter, each readable and short."""
    folder = pathlib.Path(stages.location(config, artifact))
    rows = [row for path in folder.glob("rejected-*") for row in pq.read_table(path).to_pylist()]
    assert all(json.loads(row["row"]) and len(row["row"]) < 10_000 for row in rows)
    return sorted((row["where"], row["reason"]) for row in rows)


def vectors(config: Config, modality: str) -> dict[str, bytes]:
    """Bytes of the vector of every item that has one, by item id."""
    items = pathlib.Path(stages.location(config, "sequences")) / "items.parquet"
    item_ids = pq.read_table(items)["item_id"].to_pylist()
    found = {}
    for path in pathlib.Path(stages.location(config, f"features/{modality}")).glob("vectors-*"):
        table = pq.read_table(path)
        for item, vector in zip(table["item"].to_pylist(), table["vector"], strict=True):
            found[item_ids[item - 1]] = vector.values.to_numpy().tobytes()
    return found
