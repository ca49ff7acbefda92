"""Precomputed vectors that cannot be used: each a dead letter, the others untouched."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pytest

from kdsr_tf.errors import InputError
from tests.beam_pipelines import catalogues

NO_LIST = "vector is not a list of numbers"
NOT_FINITE = "vector holds NaN or infinity"
TOO_LONG = "the vector is too long: its squared length does not fit float32"
WRONG_SIZE = "vector does not have 3 numbers"

GOOD = {f"good{k}": [float(k), 0.5, -1e-30] for k in range(6)}
BAD = {
    "nan": ([1.0, float("nan"), 2.0], NOT_FINITE),
    "infinity": ([1.0, float("inf"), 2.0], NOT_FINITE),
    "minus infinity": ([1.0, float("-inf"), 2.0], NOT_FINITE),
    "beyond float32": ([1.0, 1e39, 2.0], NOT_FINITE),
    "too long": ([1.0, -3e38, 2.0], TOO_LONG),
    "null inside": ([1.0, None, 2.0], NOT_FINITE),
    "short": ([1.0, 2.0], WRONG_SIZE),
    "long": ([1.0] * 4, WRONG_SIZE),
    "many numbers": ([1.0] * 100_000, WRONG_SIZE),
    "nested": ([[1.0, 2.0, 3.0]], WRONG_SIZE),
    "ragged": ([[1.0], [2.0, 3.0], 4.0], NO_LIST),
    "beyond float64": ([1, 10**400, 2], NO_LIST),
    "texts": (["1", "2", "3"], NO_LIST),
    "booleans": ([True, False, True], NO_LIST),
    "text": ("red", NO_LIST),
    "deep": ("[" * 100_000, NO_LIST),
    "number": (7, NO_LIST),
    "object": ({"x": 1.0}, NO_LIST),
    "list of objects": ([{}, {}, {}], NO_LIST),
}


def _config(tmp_path, name, catalogue, item_ids, run="work"):
    source = catalogues.write_source(tmp_path / run, name, catalogue, item_ids)
    precomputed = ("encode.text.encoder=precomputed", "encode.text.column=v")
    return catalogues.configure(source, tmp_path / f"{run}-out", "text", *precomputed)


def _check(tmp_path, name, write, bad):
    """Good rows among bad ones come through as if they were alone."""
    values = {k: v for k, (v, _) in bad.items()}
    mixed = dict(sorted((GOOD | values).items()))
    config = _config(tmp_path, name, write(mixed), mixed)
    manifest = catalogues.run(config)
    assert manifest.counts["encoded"] == len(GOOD) and manifest.counts["rejected"] == len(bad)
    assert manifest.details["size"] == 3
    rows = list(mixed)
    assert catalogues.rejected(config, "features/text") == sorted(
        (f"{name} row {rows.index(key) + 1}", reason) for key, (_, reason) in bad.items()
    )
    expected = {key: np.float32(value).tobytes() for key, value in GOOD.items()}
    assert catalogues.vectors(config, "text") == expected


def test_bad_vectors_in_json_lines(tmp_path):
    def write(rows):
        return catalogues.json_lines({"item_id": key, "v": value} for key, value in rows.items())

    _check(tmp_path, "items.jsonl", write, BAD)


def test_bad_vectors_in_csv(tmp_path):
    def write(rows):
        file = io.StringIO()
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in rows.items()}
        csv.writer(file).writerows([("item_id", "v"), *texts.items()])
        return file.getvalue().encode()

    _check(tmp_path, "items.csv", write, BAD)


def test_bad_vectors_in_parquet(tmp_path):
    def write(rows):
        column = pa.array(rows.values(), pa.list_(pa.float32()))
        return pa.table({"item_id": list(rows), "v": column})

    names = ("nan", "infinity", "minus infinity", "null inside", "short", "long")
    _check(tmp_path, "items.parquet", write, {name: BAD[name] for name in names})


def test_a_column_without_any_vector_is_one_clear_error(tmp_path):
    rows = [{"item_id": "a", "v": "red"}, {"item_id": "b", "v": 7}, {"item_id": "c"}]
    config = _config(tmp_path, "items.jsonl", catalogues.json_lines(rows), "abc")
    with pytest.raises(InputError, match=r"`encode.text.column`: .*no vectors in a column 'v'"):
        catalogues.run(config)


def test_too_many_bad_vectors_fail_the_job_and_name_the_reason(tmp_path):
    rows = {k: v for k, (v, _) in BAD.items() if len(str(v)) < 999} | GOOD
    lines = [{"item_id": key, "v": value} for key, value in rows.items()]
    config = _config(tmp_path, "items.jsonl", catalogues.json_lines(lines), rows)
    config.encode.max_rejected_fraction = 0.5
    expected = rf"17 of 23 items.*max_rejected_fraction=0.5.*{NO_LIST} \(8 dead letters, first: "
    with pytest.raises(InputError, match=expected):
        catalogues.run(config)
