"""`kdsr skew`."""

from __future__ import annotations

import dataclasses
import itertools
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kdsr_tf.cli.options import Invocation
from kdsr_tf.console import console, output, table

if TYPE_CHECKING:
    import grpc

    from kdsr_tf.config import Config
    from kdsr_tf.export.skew import Skew


def skew(
    invocation: Invocation,
    requests: tuple[str, ...],
    samples: int,
    tolerance: float | None,
    model_version: int | None,
    root_certificates: str | None,
    certificate: str | None,
    key: str | None,
    as_json: bool,
) -> None:
    """Compare served with offline scores, and print the differences.

    Raises:
        SkewError: if they exceed what is tolerated.
    """
    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --key belong together.")
    config = invocation.config
    source = (
        f"the log {', '.join(requests)}" if requests else _find_server(config, invocation.dry_run)
    )
    if invocation.dry_run:
        console.print(f"Would compare answers of {source} with the student's.", markup=False)
        return
    # First: it decides what `tf.keras` is, before TensorFlow is imported.
    from kdsr_tf.export import exported as exports
    from kdsr_tf.export import gate
    from kdsr_tf.export import skew as skews

    options = config.export
    with tempfile.TemporaryDirectory() as folder:
        exported = exports.read_exported(config, folder)
    similar = exports.similarity_vectors(exported.student, options.similar_items_space)
    truth = exports.make_truth(config, exported, similar)
    limits = gate.make_limits(options.recall_floor, options.exact_table)[config.serve.variant]
    if requests:
        logs = skews.read_log(requests)
    else:
        logs = skews.ask(
            source,
            config.serve.model_name,
            [truth.ids(h) for h in itertools.islice(exported.histories, samples)],
            config.serve.deadline_seconds,
            version=model_version,
            credentials=_credentials(config, root_certificates, key, certificate),
        )
    most = limits.score if tolerance is None else tolerance
    found = skews.measure(skews.of_student(config, logs), truth, most)
    _show(found, as_json, f"Served by {source}, beside the student")
    off = [s for s in found if s.max_difference > most or s.recall < limits.recall]
    if off:
        raise skews.SkewError(
            f"{', '.join(s.signature for s in off)}: what is served is not what the student "
            f"answers (tolerance {most:g}, recall at least {limits.recall:g}). Does the server "
            "run this version, and does the client send histories as the signatures take them?"
        )


def _find_server(config: Config, dry_run: bool) -> str:
    """Address of the live server, which may still be loading."""
    from kdsr_tf.cli.waiting import ask_when_ready
    from serving.client import find_target

    return find_target(config) if dry_run else ask_when_ready(config, False, None, str)


def _credentials(config: Config, *files: str | None) -> grpc.ChannelCredentials | None:
    """Of the certificates' files; None where nothing says that the connection is encrypted."""
    import grpc

    if not any(files) and not config.serve.tls_certificate:
        return None
    pem = (None if file is None else Path(file).read_bytes() for file in files)
    return grpc.ssl_channel_credentials(*pem)


def _show(found: list[Skew], as_json: bool, title: str) -> None:
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(s) for s in found]))
        return
    columns = ("signature", "answers", "equal", "recall", "max difference", "mean difference")
    rows = (
        (s.signature, s.rows, s.equal / s.rows, s.recall, s.max_difference, s.mean_difference)
        for s in found
    )
    output.print(table(title, columns, rows))
