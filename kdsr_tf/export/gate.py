"""The gate: what a SavedModel must show before it may appear as a version.

Both variants are loaded in a fresh process, as a server loads them, and asked real
histories and awkward ones. What they should answer was computed beforehand from the Keras
student and the vocabulary with NumPy (`Sample`), by code the SavedModel shares nothing
with. Run as a module it judges a folder: `python -m kdsr_tf.export.gate FOLDER`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from kdsr_tf import schema
from kdsr_tf.errors import KDSRError

VARIANTS = ("exact", "scann")
SAMPLE = "sample.json"
RESULTS = "results.json"

_TOLERANCE = 1e-4
_MOST_ITEMS_IN_ONE_HISTORY = 20_000


class GateError(KDSRError):
    """A SavedModel did not pass; nothing was published."""


@dataclasses.dataclass(kw_only=True)
class Ranking:
    """Expected answers, one row per history, best first.

    Args:
        items: Item ids; a row is shorter than K where the catalogue is exhausted.
        scores: Their scores.
    """

    items: list[list[str]]
    scores: list[list[float]]


@dataclasses.dataclass(kw_only=True)
class Sample:
    """Questions and the answers the Keras student gives.

    Args:
        k: Items per answer.
        recall_floor: Least mean recall of the `scann` variant.
        histories: Real histories of item ids, oldest first.
        item_ids: The whole vocabulary.
        unseen: Expected answers without the items of the history.
        with_seen: Expected answers with them.
        popular: Expected answer, one row, to an empty history.
    """

    k: int
    recall_floor: float
    histories: list[list[str]]
    item_ids: list[str]
    unseen: Ranking
    with_seen: Ranking
    popular: Ranking


@dataclasses.dataclass(frozen=True)
class Check:
    """Outcome of one check.

    Args:
        name: What was asked of which variant.
        passed: Whether the answer was right.
        detail: Found and expected.
        value: The measured number, where there is one.
    """

    name: str
    passed: bool
    detail: str
    value: float | None = None


def rank(rows: Iterable[np.ndarray], item_ids: np.ndarray, k: int) -> Ranking:
    """Expected answers from rows of scores; −inf is left out.

    Args:
        rows: Float arrays `(N,)`, one per history; a generator keeps memory low.
        item_ids: str `(N,)`.
        k: Items per answer.
    """
    ranking = Ranking(items=[], scores=[])
    for scores in rows:
        best = np.argsort(-scores, kind="stable")[:k]
        best = best[np.isfinite(scores[best])]
        ranking.items.append(item_ids[best].tolist())
        ranking.scores.append(scores[best].tolist())
    return ranking


def judge(folder: str, sample: Sample) -> list[Check]:
    """Load and check the variants `folder/exact` and `folder/scann`.

    Args:
        folder: Holds one SavedModel per variant.
        sample: Questions and expected answers.

    Returns:
        Every check, passed or not.
    """
    import scann  # noqa: F401  (registers the operations of the index)
    import tensorflow as tf

    checks, similar = [], {}
    for variant in VARIANTS:
        signatures = tf.saved_model.load(os.path.join(folder, variant)).signatures
        ask = _Asker(signatures)
        floor = 1.0 if variant == "exact" else sample.recall_floor
        for name, expected, seen in (
            (schema.SIGNATURE_RECOMMEND, sample.unseen, False),
            (schema.SIGNATURE_RECOMMEND_WITH_SEEN, sample.with_seen, True),
        ):
            items, scores = ask.rank(name, sample.histories)
            checks += _check_answers(
                f"{variant}: {name}", items, scores, expected, floor, sample, seen
            )
        checks += _check_edges(variant, ask, sample)
        similar[variant], scores = ask.similar(sample.item_ids[:64])
        checks.append(_no_nan(f"{variant}: similar_items", scores))
        selves = sum(a in row for a, row in zip(sample.item_ids, similar[variant], strict=False))
        checks.append(_equal(f"{variant}: similar_items leaves the item out", selves, 0))
    recall = np.mean(
        [_overlap(*rows) for rows in zip(similar["scann"], similar["exact"], strict=True)]
    )
    checks.append(_at_least("scann: recall of similar_items", recall, sample.recall_floor))
    return checks


class _Asker:
    """Signatures of a loaded SavedModel, called with lists of ids."""

    def __init__(self, signatures: Any) -> None:
        self.signatures = signatures

    def rank(self, name: str, histories: list[list[str]]) -> tuple[list[list[str]], np.ndarray]:
        length = max([1, *map(len, histories)])
        rows = [row + [""] * (length - len(row)) for row in histories]
        return self._ask(name, {schema.HISTORY: np.array(rows, object).reshape(-1, length)})

    def similar(self, item_ids: list[str]) -> tuple[list[list[str]], np.ndarray]:
        inputs = {schema.ITEM_ID: np.array(item_ids, object)}
        return self._ask(schema.SIGNATURE_SIMILAR_ITEMS, inputs)

    def call(self, name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import tensorflow as tf

        inputs = {key: tf.constant(value, tf.string) for key, value in inputs.items()}
        return {key: value.numpy() for key, value in self.signatures[name](**inputs).items()}

    def _ask(self, name: str, inputs: dict[str, np.ndarray]) -> tuple[list[list[str]], np.ndarray]:
        answer = self.call(name, inputs)
        items = [[item.decode() for item in row] for row in answer[schema.ITEMS]]
        return items, answer[schema.SCORES]


def _check_answers(
    name: str,
    items: list[list[str]],
    scores: np.ndarray,
    expected: Ranking,
    floor: float,
    sample: Sample,
    seen_allowed: bool,
) -> list[Check]:
    checks = [_no_nan(name, scores)]
    overlaps, wrong = [], 0
    for row, found in enumerate(items):
        found = [item for item in found if item]
        truth = dict(zip(expected.items[row], expected.scores[row], strict=True))
        given = dict(zip(found, scores[row].tolist(), strict=False))
        scale = _TOLERANCE * max(1.0, *(abs(score) for score in truth.values()), 0.0)
        worst = min(truth.values(), default=-np.inf)
        # An item outside the expected ones may only be a tie with the last of them.
        ties = sum(i not in truth and abs(s - worst) <= scale for i, s in given.items())
        overlaps.append(1.0 if not truth else (sum(i in truth for i in given) + ties) / len(truth))
        wrong += sum(abs(given[i] - truth[i]) > scale for i in given if i in truth)
        wrong += len(found) != len(truth) or len(given) != len(found)
        if not seen_allowed:
            wrong += any(item in given for item in sample.histories[row])
    checks.append(_equal(f"{name}: wrong scores, repeated or seen items", wrong, 0))
    checks.append(_at_least(f"{name}: recall@{sample.k}", np.mean(overlaps), floor))
    return checks


def _check_edges(variant: str, ask: _Asker, sample: Sample) -> list[Check]:
    name, k = schema.SIGNATURE_RECOMMEND, sample.k
    checks = []
    items, scores = ask.rank(name, [])
    shapes = (len(items), *scores.shape)
    checks.append(_equal(f"{variant}: empty batch", shapes, (0, 0, k)))
    popular = np.array(sample.popular.scores[0])
    for case, history in (("empty", []), ("unknown", [""] + ["\x00 no such item"] * 3)):
        items, scores = ask.rank(name, [history])
        same = np.allclose(scores[0, : len(popular)], popular, atol=_TOLERANCE)
        checks.append(Check(f"{variant}: {case} history is ranked by popularity", same, ""))
    everything = sample.item_ids[:_MOST_ITEMS_IN_ONE_HISTORY]
    items, scores = ask.rank(name, [everything])
    again = len(set(items[0]) & set(everything))
    checks.append(_equal(f"{variant}: seen items after {len(everything)} items", again, 0))
    left = min(k, len(sample.item_ids) - len(everything))
    finite = int(np.isfinite(scores).sum())
    checks.append(_equal(f"{variant}: items left after {len(everything)} items", finite, left))
    inputs = {
        schema.HISTORY: np.array([everything[:1]], object),
        schema.CANDIDATES: np.array([[*everything, "\x00 no such item", ""]], object),
    }
    scores = ask.call(schema.SIGNATURE_SCORE, inputs)[schema.SCORES][0]
    finite = int(np.isfinite(scores[:-2]).sum())
    checks.append(_equal(f"{variant}: finite scores of known items", finite, len(everything)))
    unknown = scores[-2:].tolist()
    checks.append(_equal(f"{variant}: scores of unknown items", unknown, [-np.inf, -np.inf]))
    vectors = ask.call(schema.SIGNATURE_EMBED, {schema.HISTORY: inputs[schema.HISTORY]})
    checks.append(_no_nan(f"{variant}: embed", vectors[schema.EMBEDDING]))
    return checks


def _overlap(found: list[str], truth: list[str]) -> float:
    truth = {item for item in truth if item}
    return len(truth & set(found)) / max(len(truth), 1)


def _no_nan(name: str, values: np.ndarray) -> Check:
    count = int(np.isnan(values).sum())
    return Check(f"{name}: no NaN", count == 0, f"{count} of {values.size} values are NaN")


def _equal(name: str, found: Any, expected: Any) -> Check:
    return Check(name, found == expected, f"found {found}, expected {expected}")


def _at_least(name: str, found: float, floor: float) -> Check:
    detail = f"{found:.4f}, floor {floor:.4f}"
    return Check(name, bool(found >= floor), detail, round(float(found), 4))


def run(folder: str, sample: Sample) -> list[Check]:
    """Judge a folder in a fresh process.

    Args:
        folder: Holds one SavedModel per variant; receives two JSON files.
        sample: Questions and expected answers.

    Returns:
        The checks, all passed.

    Raises:
        GateError: naming every check that failed.
    """
    with open(os.path.join(folder, SAMPLE), "w", encoding="utf-8") as file:
        json.dump(dataclasses.asdict(sample), file)
    command = [sys.executable, "-m", "kdsr_tf.export.gate", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GateError(
            f"The exported model could not be loaded and asked in a fresh process "
            f"(exit status {done.returncode}). Nothing was published. Its last words:\n"
            f"{done.stderr[-2000:]}"
        )
    with open(os.path.join(folder, RESULTS), encoding="utf-8") as file:
        checks = [Check(**check) for check in json.load(file)]
    failed = [
        f"  {check.name}: {check.detail}".rstrip(": ") for check in checks if not check.passed
    ]
    if failed:
        raise GateError(
            f"The exported model failed {len(failed)} of {len(checks)} checks. Nothing was "
            "published.\n" + "\n".join(failed) + "\nA recall below its floor: raise "
            "`export.num_leaves_to_search` or lower `export.recall_floor`. NaN or wrong "
            "scores: train and export again."
        )
    return checks


def main(folder: str) -> None:
    """Judge a folder in this process and write the results beside the sample."""
    with open(os.path.join(folder, SAMPLE), encoding="utf-8") as file:
        values = json.load(file)
    for key in ("unseen", "with_seen", "popular"):
        values[key] = Ranking(**values[key])
    checks = judge(folder, Sample(**values))
    with open(os.path.join(folder, RESULTS), "w", encoding="utf-8") as file:
        json.dump([dataclasses.asdict(check) for check in checks], file)


if __name__ == "__main__":
    main(sys.argv[1])
