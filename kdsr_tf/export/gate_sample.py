"""What the gate asks, and what the Keras student answers.

The answers are computed in NumPy, by code the SavedModel shares nothing with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kdsr_tf.errors import KDSRError

VARIANTS = ("exact", "scann")
UNKNOWN = "\x00 no such item"

_TOLERANCE = 1e-4
_PARITY = 1e-3
_ROUNDED = {"float32": (_TOLERANCE, _PARITY), "float16": (2e-3, _PARITY), "int8": (2e-2, 1e-2)}
_CUTOFF = 20
_AT_ONCE = 256
_SCORES_AT_ONCE = 1 << 24
_NUM_SIMILAR = 64
_NUM_HIDDEN = 16
_LONG_HISTORY = 500
_BEST = 200
_MOST_ITEMS_IN_ONE_HISTORY = 100_000


class GateError(KDSRError):
    """A SavedModel did not pass; nothing was published."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What the answers of a variant may lack.

    Args:
        recall: Least mean recall@K against exact answers.
        score: Greatest error of a score, relative to the greatest in the catalogue.
        metrics: Greatest difference of HR and MRR from the Keras student's.
    """

    recall: float
    score: float = _TOLERANCE
    metrics: float = _PARITY


def make_limits(recall_floor: float, dtype: str = "float32") -> dict[str, Limits]:
    """Limits per variant.

    HR and MRR of `scann` may differ by a tenth of what `recall_floor`, in `[0, 1]`, gives away, and
    by 1e-3 at least. Rankings of `exact` are equal up to ties; scores of a table that is rounded
    (`dtype`: `float32`, `float16` or `int8`) tie sooner.
    """
    score, metrics = _ROUNDED[dtype]
    return {
        "exact": Limits(recall=1.0, score=score, metrics=metrics),
        "scann": Limits(recall=recall_floor, metrics=max(_PARITY, (1 - recall_floor) / 10)),
    }


class Point(NamedTuple):
    """A validation or test point: the items before it, oldest first, and the one that followed."""

    history: np.ndarray
    target: int


@dataclasses.dataclass(kw_only=True)
class Question:
    """One question and its right answer.

    Asked is a history, oldest first, or the one item of `similar_items`. Items are best first;
    fewer than K where the catalogue is exhausted. Errors of scores are relative to `scale`, the
    greatest absolute score in the catalogue.
    """

    asked: list[str]
    items: list[str]
    scores: list[float]
    scale: float = 0.0


@dataclasses.dataclass(kw_only=True)
class Points:
    """Real validation and test points and what the student reaches on them; there may be none.

    `cutoff` is the k of the metrics; `bounds` gives, by variant and metric, the least and the
    greatest value: ties make them two.
    """

    histories: list[list[str]]
    targets: list[str]
    cutoff: int
    bounds: dict[str, dict[str, tuple[float, float]]]


@dataclasses.dataclass(kw_only=True)
class Sample:
    """Everything the gate asks.

    Args:
        k: Items per answer.
        limits: Per variant.
        unseen: Real histories; their own items must not come back.
        with_seen: The same histories; their own items may.
        vectors: User vectors of the same histories.
        similar: Items.
        hidden: Known items that must never come back.
        edges: Awkward histories by name.
        points: Validation and test points.
    """

    k: int
    limits: dict[str, Limits]
    unseen: list[Question]
    with_seen: list[Question]
    vectors: list[list[float]]
    similar: list[Question]
    hidden: list[str]
    edges: dict[str, Question]
    points: Points

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Sample:
        """Undo `dataclasses.asdict` and JSON."""
        values = dict(values)
        for key in ("unseen", "with_seen", "similar"):
            values[key] = [Question(**question) for question in values[key]]
        values["limits"] = {name: Limits(**limits) for name, limits in values["limits"].items()}
        values["edges"] = {name: Question(**edge) for name, edge in values["edges"].items()}
        values["points"] = Points(**values["points"])
        return cls(**values)


@dataclasses.dataclass(kw_only=True)
class ReferenceStudent:
    """The student and its catalogue, as NumPy sees them; row r is item r + 1.

    Args:
        encode: Int32 `(batch, max_length)`, right-padded with 0, to floats `(batch, dim)`.
        table: Floats `(N, dim)`: the vectors of the items.
        similar: Unit floats `(N, any)`: the vectors behind `similar_items`.
        popularity: Floats `(N,)`: scores for a history that tells nothing.
        item_ids: str `(N,)`.
        max_length: Items the student encodes.
        k: Items per answer.
        allowed: Bools `(N,)`: items that may come back; None allows all.
    """

    encode: Callable[[np.ndarray], np.ndarray]
    table: np.ndarray
    similar: np.ndarray
    popularity: np.ndarray
    item_ids: np.ndarray
    max_length: int
    k: int
    allowed: np.ndarray | None = None

    def vectors(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """User vectors float32 `(number of histories, dim)`."""
        found = [np.zeros((0, self.table.shape[1]), np.float32)]
        for start in range(0, len(histories), _AT_ONCE):
            rows = histories[start : start + _AT_ONCE]
            items = np.zeros((len(rows), self.max_length), np.int32)
            for row, history in enumerate(rows):
                last = history[-self.max_length :]
                items[row, : len(last)] = last
            found.append(np.asarray(self.encode(items), np.float32))
        return np.concatenate(found)

    def rows(
        self, histories: Sequence[np.ndarray], vectors: np.ndarray | None = None
    ) -> Iterator[np.ndarray]:
        """Scores of the catalogue per history, which the caller may change.

        An empty history has the popularity. −inf where an item is not allowed. `vectors` are those
        of the users, where they are known.
        """
        vectors = self.vectors(histories) if vectors is None else vectors
        size = max(1, _SCORES_AT_ONCE // len(self.table))
        for start in range(0, len(histories), size):
            block = vectors[start : start + size] @ self.table.T
            for history, scores in zip(histories[start : start + size], block, strict=True):
                yield self._allowed(scores if len(history) else self.popularity.copy())

    def ask(self, history: np.ndarray) -> Question:
        """The answer to a history of known items, without its own items."""
        [scores] = self.rows([history])
        return self.question(self.ids(history), scores, excluded=history)

    def ask_similar(self, item: int) -> Question:
        """The answer of `similar_items`."""
        scores = self._allowed(self.similar @ self.similar[item - 1])
        return self.question(self.ids([item]), scores, excluded=[item])

    def question(
        self, asked: list[str], scores: np.ndarray, excluded: Sequence[int] | np.ndarray = ()
    ) -> Question:
        """A question from the scores of the catalogue, which are changed."""
        scale = greatest(scores)
        scores[np.asarray(excluded, int) - 1] = -np.inf
        k = min(self.k, len(scores))
        best = np.sort(np.argpartition(-scores, k - 1)[:k])
        best = best[np.argsort(-scores[best], kind="stable")]
        best = best[np.isfinite(scores[best])]
        items, found = self.item_ids[best].tolist(), scores[best].tolist()
        return Question(asked=asked, items=items, scores=found, scale=scale)

    def hidden(self) -> list[str]:
        """Ids of the items that are not allowed."""
        return [] if self.allowed is None else self.item_ids[~self.allowed].tolist()

    def ids(self, items: Sequence[int] | np.ndarray) -> list[str]:
        """Ids of items."""
        return self.item_ids[np.asarray(items, int) - 1].tolist()

    def _allowed(self, scores: np.ndarray) -> np.ndarray:
        if self.allowed is not None:
            scores[~self.allowed] = -np.inf
        return scores


def make_sample(
    student: ReferenceStudent,
    histories: Sequence[np.ndarray],
    points: Sequence[Point],
    limits: Mapping[str, Limits],
) -> Sample:
    """Questions and right answers.

    Histories are real ones, int `(any,)` each, at least one and none of them empty; there may be no
    points.

    Raises:
        GateError: if the student's vectors are not finite.
    """
    vectors = student.vectors(histories)
    check_finite({"item table": student.table, "user vectors": vectors})
    unseen, with_seen = [], []
    for history, scores in zip(histories, student.rows(histories, vectors), strict=True):
        asked = student.ids(history)
        with_seen.append(student.question(asked, scores.copy()))
        unseen.append(student.question(asked, scores, excluded=history))
    step = max(1, len(student.item_ids) // _NUM_SIMILAR)
    return Sample(
        k=student.k,
        limits=dict(limits),
        unseen=unseen,
        with_seen=with_seen,
        vectors=vectors.tolist(),
        similar=[student.ask_similar(item) for item in range(1, len(student.item_ids) + 1, step)],
        hidden=student.hidden()[:_NUM_HIDDEN],
        edges=_edges(student, max(histories, key=len)),
        points=_points(student, points, limits),
    )


def check_finite(values: Mapping[str, Any]) -> None:
    """Refuse a student with values, arrays or variables by name, that no answer may come from.

    Raises:
        GateError: naming those that are not finite.
    """
    bad = [name for name, array in values.items() if not np.isfinite(np.asarray(array)).all()]
    if bad:
        raise GateError(
            f"The student has NaN or infinite values in: {', '.join(bad)}. Nothing was "
            "published. Train again (a lower `train.learning_rate`, or `train.clip_norm`)."
        )


def greatest(scores: np.ndarray) -> float:
    """Greatest absolute value of those that are finite; 0 where there is none."""
    return float(np.abs(scores[np.isfinite(scores)]).max(initial=0.0))


def metrics(ranks: Sequence[int | None], cutoff: int) -> dict[str, float]:
    """HR and MRR of ranks from 1; None is a miss."""
    kept = [rank for rank in ranks if rank is not None and rank <= cutoff]
    return {"HR": len(kept) / len(ranks), "MRR": sum(1 / rank for rank in kept) / len(ranks)}


def _points(
    student: ReferenceStudent, points: Sequence[Point], limits: Mapping[str, Limits]
) -> Points:
    cutoff = min(_CUTOFF, student.k)
    ranks: dict[tuple[str, int], list[int]] = {(v, s): [] for v in limits for s in (-1, 1)}
    for point, scores in zip(points, student.rows([p.history for p in points]), strict=True):
        own, scale = scores[point.target - 1], greatest(scores)
        for (variant, sign), found in ranks.items():
            worse = own + sign * limits[variant].score * scale
            better = int((scores > worse).sum()) - bool(own > worse)
            found.append(better + 1 if np.isfinite(own) else cutoff + 1)
    bounds: dict[str, dict[str, tuple[float, float]]] = {}
    for variant in limits if points else ():
        low, high = (metrics(ranks[variant, sign], cutoff) for sign in (-1, 1))
        bounds[variant] = {name: (low[name], high[name]) for name in low}
    return Points(
        histories=[student.ids(point.history) for point in points],
        targets=student.ids([point.target for point in points]),
        cutoff=cutoff,
        bounds=bounds,
    )


def _edges(student: ReferenceStudent, history: np.ndarray) -> dict[str, Question]:
    """Awkward histories by name, made from a real one."""
    count = len(student.item_ids)
    rng = np.random.default_rng(0)
    nothing = np.zeros(0, int)
    full = np.resize(history, student.max_length)
    [scores] = student.rows([full])
    best = np.argsort(-scores, kind="stable")[:_BEST] + 1
    everything = rng.permutation(count)[:_MOST_ITEMS_IN_ONE_HISTORY] + 1
    few = everything[: max(1, count - 3)]
    some = everything[: max(1, count // 2)]
    mixed = student.ask(history[:5])
    known = mixed.asked
    mixed.asked = ["", UNKNOWN]
    for item in known:
        mixed.asked += [item, "", UNKNOWN]
    return {
        "empty history": student.ask(nothing),
        "unknown ids alone": dataclasses.replace(
            student.ask(nothing), asked=["", UNKNOWN, UNKNOWN]
        ),
        "unknown ids among known ones": mixed,
        "history longer than the maximum": student.ask(rng.choice(some, _LONG_HISTORY)),
        f"the best {_BEST} items seen": student.ask(np.concatenate([best, full])),
        "fewer items left than K": student.ask(few),
        "all items seen": student.ask(everything),
    }
