"""Skew: served scores beside those of the Keras student, offline.

What was served comes from a request log (TFRecords of `PredictionLog`, as TF Serving
writes them) or from a live server that is asked now; both are pairs of a request and its
answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2, prediction_service_pb2_grpc

from kdsr_tf import artifacts, schema
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config
from kdsr_tf.errors import InputError, KDSRError
from kdsr_tf.export.deployment import example_requests
from kdsr_tf.export.gate_checks import compare
from kdsr_tf.export.gate_sample import VARIANTS, Question, ReferenceStudent, greatest
from kdsr_tf.sources import export_files
from kdsr_tf.stage_frame import StageFrame

_HISTORIES_PER_REQUEST = 16


class SkewError(KDSRError):
    """Served and offline scores differ, or cannot be compared."""


@dataclasses.dataclass(kw_only=True)
class Skew:
    """How far one signature's answers are from the student's.

    Args:
        signature: Its name.
        rows: Answers compared.
        equal: How many are the same: rankings up to ties, numbers up to the tolerance.
        recall: Mean share of the right items in a ranking; 1 for other answers.
        max_difference: Greatest difference of two scores of the same item, or of two
            values of a vector, relative to the greatest in the catalogue, or in
            the vector.
        mean_difference: The mean over answers of their mean difference.
    """

    signature: str
    rows: int = 0
    equal: int = 0
    recall: float = 0.0
    max_difference: float = 0.0
    mean_difference: float = 0.0

    def add(self, equal: bool, recall: float, differences: np.ndarray) -> None:
        """Count one answer in."""
        self.rows += 1
        self.equal += equal
        self.recall += (recall - self.recall) / self.rows
        self.max_difference = max(self.max_difference, float(differences.max(initial=0.0)))
        mean = float(differences.mean()) if len(differences) else 0.0
        self.mean_difference += (mean - self.mean_difference) / self.rows


def read_log(paths: Sequence[str]) -> Iterator[prediction_log_pb2.PredictLog]:
    """Requests and answers of a log's TFRecord files; other calls than Predict are left out.

    Raises:
        InputError: if a file cannot be read.
    """
    for path in paths:
        try:
            for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
                log = prediction_log_pb2.PredictionLog.FromString(record)
                if log.HasField("predict_log"):
                    yield log.predict_log
        except (tf.errors.OpError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read as TFRecords of PredictionLog: {error}. Give the files "
                "that TF Serving's log collector has closed."
            ) from error


def ask(
    target: str,
    model_name: str,
    histories: Sequence[list[str]],
    seconds: float,
    version: int | None = None,
    credentials: grpc.ChannelCredentials | None = None,
) -> Iterator[prediction_log_pb2.PredictLog]:
    """Ask a live server, `host:port` of gRPC, every signature.

    Args:
        target: The address.
        model_name: Name of the model.
        histories: Item ids, none of them empty.
        seconds: Deadline of a call.
        version: The version to ask; None is the one the server chooses.
        credentials: Credentials of an encrypted connection; None is one that is not.

    Raises:
        SkewError: if a call fails.
    """
    if credentials is None:
        opened = grpc.insecure_channel(target)
    else:
        opened = grpc.secure_channel(target, credentials)
    with opened as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for start in range(0, len(histories), _HISTORIES_PER_REQUEST):
            batch = histories[start : start + _HISTORIES_PER_REQUEST]
            for request in example_requests(model_name, batch):
                if version is not None:
                    request.model_spec.version.value = version
                try:
                    response = stub.Predict(request, timeout=seconds)
                except grpc.RpcError as error:
                    raise SkewError(
                        f"{target} did not answer {request.model_spec.signature_name}: "
                        f"{error.code().name}, {error.details()}. Is a server running there?"
                    ) from error
                yield prediction_log_pb2.PredictLog(request=request, response=response)


def of_student(
    config: Config, logs: Iterable[prediction_log_pb2.PredictLog]
) -> Iterator[prediction_log_pb2.PredictLog]:
    """The whole answers of this model, all of versions that the present student is in.

    Raises:
        SkewError: if there is none, or a version has another student or configuration.
    """
    present = StageFrame(config, "serving_model", export_files.fingerprints(config))
    versions: set[int] = set()
    for log in logs:
        if log.request.model_spec.name != config.serve.model_name or not _is_whole(log):
            continue
        version = log.response.model_spec.version.value
        if version not in versions:
            _check_version(present.location, version, present.manifest)
            versions.add(version)
        yield log
    if not versions:
        raise SkewError(
            f"There is no answer of the model {config.serve.model_name!r} (`serve.model_name`)."
        )


def _is_whole(log: prediction_log_pb2.PredictLog) -> bool:
    """Whether an answer holds every output; a client may have asked for some of them."""
    signature = log.request.model_spec.signature_name or schema.SIGNATURE_RECOMMEND
    inputs, outputs = schema.SERVING_SIGNATURES.get(signature, ({}, {"": None}))
    return set(inputs) == set(log.request.inputs) and set(outputs) == set(log.response.outputs)


def _check_version(root: str, version: int, present: Manifest) -> None:
    folders = (artifacts.join(root, variant, str(version)) for variant in VARIANTS)
    manifest = next(filter(None, map(artifacts.find_manifest, folders)), None)
    if manifest is None:
        raise SkewError(
            f"Version {version} was served, and {root} does not hold it, so nobody knows "
            "what it was made of. Compare while it is kept (`export.keep_versions`)."
        )
    if manifest.fingerprint != present.fingerprint:
        inputs = present.inputs.items()
        other = [name for name, value in inputs if manifest.inputs.get(name) != value]
        what = f"from another {' and '.join(other)}" if other else "with other settings"
        raise SkewError(
            f"Version {version} was exported {what} than {root} would be now. Compare it "
            "in the working directory, and with the configuration, that it is from."
        )


def measure(
    logs: Iterable[prediction_log_pb2.PredictLog], student: ReferenceStudent, tolerance: float
) -> list[Skew]:
    """Compare answers with the student's: an entry per signature that occurs, in their order.

    `tolerance` is of a score, relative to the greatest in the catalogue.
    """
    known = {item: number for number, item in enumerate(student.item_ids, start=1)}
    skews = {name: Skew(signature=name) for name in schema.SERVING_SIGNATURES}
    for log in logs:
        name = log.request.model_spec.signature_name or schema.SIGNATURE_RECOMMEND
        given = {key: tf.make_ndarray(value) for key, value in log.request.inputs.items()}
        answer = {key: tf.make_ndarray(value) for key, value in log.response.outputs.items()}
        for row in _rows(name, given, answer, student, known, tolerance):
            skews[name].add(*row)
    return [skew for skew in skews.values() if skew.rows]


def _rows(
    name: str,
    given: dict[str, np.ndarray],
    answer: dict[str, np.ndarray],
    student: ReferenceStudent,
    known: dict[str, int],
    tolerance: float,
) -> Iterator[tuple[bool, float, np.ndarray]]:
    """Per row: whether it is equal, its recall, and its differences."""
    rows = given.get(schema.HISTORY, given.get(schema.ITEM_ID, np.zeros(0))).astype(object)
    histories = [_indices(row, known) for row in rows.reshape(len(rows), -1)]
    if name == schema.SIGNATURE_EMBED:
        vectors = student.vectors(histories)
        yield from (
            _numbers(right, values, greatest(right), tolerance)
            for right, values in zip(vectors, answer[schema.EMBEDDING], strict=True)
        )
    elif name == schema.SIGNATURE_SCORE:
        candidates = given[schema.CANDIDATES]
        for scores, wanted, values in zip(
            student.rows(histories), candidates, answer[schema.SCORES], strict=True
        ):
            numbers = np.array([known.get(item.decode(), 0) for item in wanted], int)
            # A server that batches callers may have made the rows longer, at their end.
            right = np.where(numbers > 0, scores[numbers - 1], -np.inf)
            yield _numbers(right, values[: len(right)], greatest(scores), tolerance)
    else:
        yield from _rankings(name, histories, answer, student, tolerance)


def _rankings(
    name: str,
    histories: list[np.ndarray],
    answer: dict[str, np.ndarray],
    student: ReferenceStudent,
    tolerance: float,
) -> Iterator[tuple[bool, float, np.ndarray]]:
    seen = name == schema.SIGNATURE_RECOMMEND_WITH_SEEN
    similar = name == schema.SIGNATURE_SIMILAR_ITEMS
    for history, scores, items, values in zip(
        histories,
        [None] * len(histories) if similar else student.rows(histories),
        answer[schema.ITEMS],
        answer[schema.SCORES],
        strict=True,
    ):
        if scores is not None:
            question = student.question(student.ids(history), scores, () if seen else history)
        elif len(history):
            question = student.ask_similar(history[0])
        else:
            question = Question(asked=[], items=[], scores=[])
        names = [item.decode() for item in items]
        faults, recall = compare(question, names, values, tolerance, may_return=seen)
        right = dict(zip(question.items, question.scores, strict=True))
        pairs = [(right[i], v) for i, v in zip(names, values, strict=True) if i in right]
        expected, given = np.array(pairs).reshape(-1, 2).T
        _, _, differences = _numbers(expected, given, question.scale, tolerance)
        yield not faults and recall == 1, recall, differences


def _numbers(
    right: np.ndarray, found: np.ndarray, scale: float, tolerance: float
) -> tuple[bool, float, np.ndarray]:
    """Whether numbers are equal, 1, and their relative differences; −inf equals itself."""
    with np.errstate(invalid="ignore", divide="ignore"):
        differences = np.where(right == found, 0.0, np.abs(found - right) / scale)
    differences = np.nan_to_num(differences, nan=np.inf)
    return bool((differences <= tolerance).all()), 1.0, differences


def _indices(row: np.ndarray, known: dict[str, int]) -> np.ndarray:
    """Known items of a row of bytes."""
    found = (known.get(item.decode(errors="replace")) for item in row)
    return np.array([number for number in found if number], int)
