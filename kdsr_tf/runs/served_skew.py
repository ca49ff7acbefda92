"""Served scores beside those of the student, of a log or of a server that is asked now."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from kdsr_tf.config import Config
from kdsr_tf.runs.ask_server import ServedModel, ask_when_ready

if TYPE_CHECKING:
    from kdsr_tf.export.skew import Skew


class ServedSkew(NamedTuple):
    """Differences between a served model and the student: a row per signature.

    `problem` says what exceeds the tolerance, or is None.
    """

    found: list[Skew]
    problem: str | None


def find_answers(config: Config, requests: Sequence[str], wait: bool) -> str:
    """Where answers come from, for people: request logs, or the address of a live server."""
    from serving.client import find_target

    if requests:
        return f"the log {', '.join(requests)}"
    return ask_when_ready(config, False, None, str) if wait else find_target(config)


def measure_skew(
    config: Config,
    source: str,
    requests: Sequence[str],
    samples: int,
    tolerance: float | None,
    model: ServedModel,
) -> ServedSkew:
    """Compare served with offline scores.

    Args:
        config: The configuration.
        source: Result of `find_answers`.
        requests: Paths of request logs; none asks the live server.
        samples: Histories to ask a live server about.
        tolerance: Greatest difference of a score; None takes that of the export's gate.
        model: Version of a live server, and how it is reached.
    """
    # First: it decides what `tf.keras` is, before TensorFlow is imported.
    from kdsr_tf.export import exported as exports
    from kdsr_tf.export import skew as skews
    from kdsr_tf.export.gate_sample import make_limits
    from serving.connections import channel_credentials

    options = config.export
    with tempfile.TemporaryDirectory() as folder:
        exported = exports.read_exported(config, folder)
    similar = exports.similarity_vectors(exported.student, options.similar_items_space)
    student = exports.reference_student(config, exported, similar)
    limits = make_limits(options.recall_floor, options.exact_table)[config.serve.variant]
    if requests:
        logs = skews.read_log(requests)
    else:
        tls = model.tls(config)
        logs = skews.ask(
            source,
            config.serve.model_name,
            [student.ids(h) for h in itertools.islice(exported.histories, samples)],
            config.serve.deadline_seconds,
            version=model.version,
            credentials=None if tls is None else channel_credentials(tls),
        )
    most = limits.score if tolerance is None else tolerance
    found = skews.measure(skews.of_student(config, logs), student, most)
    off = [s.signature for s in found if s.max_difference > most or s.recall < limits.recall]
    if not off:
        return ServedSkew(found, None)
    return ServedSkew(
        found,
        f"{', '.join(off)}: what is served is not what the student "
        f"answers (tolerance {most:g}, recall at least {limits.recall:g}). Does the server "
        "run this version, and does the client send histories as the signatures take them?",
    )
