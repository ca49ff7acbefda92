"""The checks of the gate on the signatures of one loaded variant."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from kdsr_tf import schema
from kdsr_tf.export.deployment import WARM_UP
from kdsr_tf.export.gate_sample import UNKNOWN, Question, Sample, metrics

Signatures = Mapping[str, Callable[..., Mapping[str, Any]]]
"""Signature name to function of tensors, as `tf.saved_model.load(path).signatures`."""

_ROWS_AT_ONCE = 64
_CANDIDATES = 32


@dataclasses.dataclass(frozen=True)
class Check:
    """Outcome of one check: `detail` is what was found and expected, `value` what was measured."""

    name: str
    passed: bool
    detail: str
    value: float | None = None


def check_files(variant: str, folder: str) -> list[Check]:
    """The public API and the warm-up requests of a SavedModel on disk."""
    with open(os.path.join(folder, "saved_model.pb"), "rb") as file:
        graph = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs[0]

    def described(tensors: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
        return {
            name: (tf.as_dtype(info.dtype).name, len(info.tensor_shape.dim))
            for name, info in tensors.items()
        }

    found = {
        name: (described(definition.inputs), described(definition.outputs))
        for name, definition in graph.signature_def.items()
        if not name.startswith("__")
    }
    path = os.path.join(folder, WARM_UP)
    records = tf.data.TFRecordDataset(path).as_numpy_iterator() if os.path.exists(path) else ()
    logs = (prediction_log_pb2.PredictionLog.FromString(record) for record in records)
    warmed = {log.predict_log.request.model_spec.signature_name for log in logs}
    return [
        _equal(f"{variant}: signatures", found, schema.SERVING_SIGNATURES),
        _equal(f"{variant}: warm-up requests", sorted(warmed), sorted(schema.SERVING_SIGNATURES)),
    ]


def check_answers(variant: str, signatures: Signatures, sample: Sample) -> list[Check]:
    """Everything that is asked of the signatures of a loaded variant.

    Every check, passed or not; a call that fails is a check that fails.
    """
    ask = _Asker(signatures)
    examination = _Examination(variant, ask, sample)
    checks: list[Check] = []
    for name, method in examination.parts().items():
        try:
            checks += method()
        except Exception as error:
            # Whatever the SavedModel raises is an answer, and a wrong one.
            detail = f"{type(error).__name__}: {error}"
            checks.append(Check(f"{variant}: {name}", False, detail))
    return checks


class _Asker:
    """Signatures, called with lists of ids."""

    def __init__(self, signatures: Signatures) -> None:
        self._signatures = signatures

    def __call__(self, name: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        tensors = {key: tf.constant(value, tf.string) for key, value in inputs.items()}
        return {key: np.asarray(value) for key, value in self._signatures[name](**tensors).items()}

    def rank(self, name: str, asked: Sequence[list[str]]) -> tuple[list[list[str]], np.ndarray]:
        """Items and scores of a signature that ranks, some rows at a time."""
        items: list[list[str]] = []
        scores = []
        for start in range(0, len(asked), _ROWS_AT_ONCE):
            rows = asked[start : start + _ROWS_AT_ONCE]
            if name == schema.SIGNATURE_SIMILAR_ITEMS:
                inputs = {schema.ITEM_ID: np.array([row[0] for row in rows], object)}
            else:
                inputs = {schema.HISTORY: rectangle(rows)}
            answer = self(name, **inputs)
            items += [[item.decode() for item in row] for row in answer[schema.ITEMS]]
            scores.append(answer[schema.SCORES])
        return items, np.concatenate(scores)


class _Examination:
    """The checks of one variant, part by part."""

    def __init__(self, variant: str, ask: _Asker, sample: Sample) -> None:
        self.variant = variant
        self.ask = ask
        self.sample = sample
        self.limits = sample.limits[variant]

    def parts(self) -> dict[str, Callable[[], list[Check]]]:
        """Name of each part and the method that examines it."""
        sample = self.sample
        ranked = {
            schema.SIGNATURE_RECOMMEND: sample.unseen,
            schema.SIGNATURE_RECOMMEND_WITH_SEEN: sample.with_seen,
            schema.SIGNATURE_SIMILAR_ITEMS: sample.similar,
        }
        parts: dict[str, Callable[[], list[Check]]] = {
            name: functools.partial(self._rankings, name, asked) for name, asked in ranked.items()
        }
        parts |= {
            name: functools.partial(self._edge, name, edge) for name, edge in sample.edges.items()
        }
        parts |= {
            f"empty batch: {name}": functools.partial(self._empty_batch, name)
            for name in schema.SERVING_SIGNATURES
        }
        return parts | {
            "metrics": self._metrics,
            schema.SIGNATURE_SCORE: self._score,
            schema.SIGNATURE_EMBED: self._embed,
        }

    def _rankings(self, name: str, questions: Sequence[Question]) -> list[Check]:
        items, scores = self.ask.rank(name, [question.asked for question in questions])
        title = f"{self.variant}: {name}"
        missing = int(np.isnan(scores).sum())
        checks = [Check(f"{title}: no NaN", missing == 0, f"{missing} of {scores.size} are NaN")]
        wrong: dict[str, list[str]] = {"scores": [], "order": [], "complete": []}
        may_return = name == schema.SIGNATURE_RECOMMEND_WITH_SEEN
        if not may_return:
            wrong["seen items"] = []
        recalls = []
        for question, found, values in zip(questions, items, scores, strict=True):
            faults, recall = compare(question, found, values, self.limits.score, may_return)
            recalls.append(recall)
            for fault in faults:
                wrong[fault].append(question.asked[-1] if question.asked else "nothing")
        for fault, where in wrong.items():
            detail = f"{len(where)} of {len(questions)} answers are wrong"
            if where:
                detail += f", such as the one to {where[0]!r}"
            checks.append(Check(f"{title}: {fault}", not where, detail))
        recall = float(np.mean(recalls))
        detail = f"{recall:.4f}, floor {self.limits.recall:.4f}"
        checks.append(
            Check(
                f"{title}: recall@{self.sample.k}",
                recall >= self.limits.recall,
                detail,
                round(recall, 4),
            )
        )
        return checks

    def _edge(self, name: str, question: Question) -> list[Check]:
        [items], [scores] = self.ask.rank(schema.SIGNATURE_RECOMMEND, [question.asked])
        faults, recall = compare(question, items, scores, self.limits.score)
        if np.isnan(scores).any():
            faults.append("NaN")
        # A single answer of an approximate index may miss what the mean does not.
        if self.variant == "exact" and recall < 1:
            faults.append(f"recall {recall:.4f}")
        detail = ", ".join(faults) or f"{len(question.items)} items as expected"
        return [Check(f"{self.variant}: {name}", not faults, detail)]

    def _empty_batch(self, name: str) -> list[Check]:
        inputs, outputs = schema.SERVING_SIGNATURES[name]
        width = len(self.sample.vectors[0]) if name == schema.SIGNATURE_EMBED else self.sample.k
        found, expected = {}, {}
        for length in (0, 3):
            shapes = {key: (0, length)[:dims] for key, (_, dims) in inputs.items()}
            answer = self.ask(
                name, **{key: np.zeros(shape, object) for key, shape in shapes.items()}
            )
            found[length] = {key: value.shape for key, value in answer.items()}
            columns = length if name == schema.SIGNATURE_SCORE else width
            expected[length] = dict.fromkeys(outputs, (0, columns))
        return [_equal(f"{self.variant}: empty batch: {name}", found, expected)]

    def _metrics(self) -> list[Check]:
        points, title = self.sample.points, self.variant
        if not points.histories:
            return []
        items, _ = self.ask.rank(schema.SIGNATURE_RECOMMEND_WITH_SEEN, points.histories)
        ranks = [
            row.index(target) + 1 if target in row else None
            for row, target in zip(items, points.targets, strict=True)
        ]
        checks = []
        # Not the figures of `kdsr evaluate`, which are of every test point.
        on = f"on {len(ranks):,} sampled points"
        for name, value in metrics(ranks, points.cutoff).items():
            low, high = points.bounds[title][name]
            expected = f"{low:.4f}" if low == high else f"{low:.4f} to {high:.4f}"
            detail = f"{value:.4f}, of the Keras student {expected}"
            most = self.limits.metrics + 1e-9
            passed = low - most <= value <= high + most
            check = Check(f"{title}: {name}@{points.cutoff} {on}", passed, detail, round(value, 4))
            checks.append(check)
        return checks

    def _score(self) -> list[Check]:
        questions = self.sample.unseen[:_CANDIDATES]
        others = [*self.sample.hidden, UNKNOWN, ""]
        candidates = rectangle([question.items + others for question in questions])
        history = rectangle([question.asked for question in questions])
        scores = self.ask(schema.SIGNATURE_SCORE, history=history, candidates=candidates)[
            schema.SCORES
        ]
        off = bad = 0
        for question, row in zip(questions, scores, strict=True):
            expected = np.array(question.scores, np.float32)
            given, rest = row[: len(expected)], row[len(expected) :]
            scale = self.limits.score * question.scale
            off += int((~(np.abs(given - expected) <= scale)).sum())
            bad += int((~np.isneginf(rest)).sum())
        title = f"{self.variant}: {schema.SIGNATURE_SCORE}"
        return [
            _equal(f"{title}: known items off", off, 0),
            _equal(f"{title}: unknown items above -inf", bad, 0),
        ]

    def _embed(self) -> list[Check]:
        rows = [question.asked for question in self.sample.unseen[:_ROWS_AT_ONCE]]
        found = self.ask(schema.SIGNATURE_EMBED, history=rectangle(rows))[schema.EMBEDDING]
        expected = np.array(self.sample.vectors[: len(rows)], np.float32)
        scale = self.limits.score * np.abs(expected).max()
        off = int((~(np.abs(found - expected) <= scale)).sum())
        return [_equal(f"{self.variant}: {schema.SIGNATURE_EMBED}: values off", off, 0)]


def compare(
    question: Question,
    items: list[str],
    scores: np.ndarray,
    tolerance: float,
    may_return: bool = False,
) -> tuple[list[str], float]:
    """Compare one answer with the right one.

    Args:
        question: With the right answer.
        items: What came back; "" where the catalogue is exhausted.
        scores: Their scores, floats of the same length.
        tolerance: Tolerance of a score, relative to `question.scale`.
        may_return: Whether what was asked about may come back.

    Returns:
        What is wrong, among `scores`, `order`, `complete` and `seen items`, and the
        recall; a tie with the last expected item counts as found.
    """
    expected = dict(zip(question.items, question.scores, strict=True))
    found = [item for item in items if item]
    given = dict(zip(found, scores[: len(found)].tolist(), strict=True))
    scale = tolerance * question.scale
    worst = min(question.scores, default=-np.inf)
    faults = []
    # An item that is not expected is a tie with the last expected one, or worse.
    right = (
        abs(score - expected[item]) <= scale if item in expected else score <= worst + 2 * scale
        for item, score in given.items()
    )
    if not all(right):
        faults.append("scores")
    if any(later > earlier for earlier, later in itertools.pairwise(scores)):
        faults.append("order")
    if (
        len(found) != len(expected)
        or len(given) != len(found)
        or any(items[len(found) :])
        or not np.isneginf(scores[len(found) :]).all()
    ):
        faults.append("complete")
    if not may_return and not set(question.asked).isdisjoint(found):
        faults.append("seen items")
    ties = (abs(s - worst) <= 2 * scale for item, s in given.items() if item not in expected)
    hits = sum(item in expected for item in given) + sum(ties)
    return faults, min(1.0, hits / len(expected)) if expected else 1.0


def rectangle(rows: Sequence[list[str]]) -> np.ndarray:
    """Strings `(rows, longest)`, padded with "" on the right."""
    length = max([1, *map(len, rows)])
    padded = [row + [""] * (length - len(row)) for row in rows]
    return np.array(padded, object).reshape(-1, length)


def _equal(name: str, found: Any, expected: Any) -> Check:
    passed = found == expected
    return Check(name, passed, f"found {found}" + ("" if passed else f", expected {expected}"))
