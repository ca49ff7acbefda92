"""Every check that the stages made so far allow."""

from __future__ import annotations

from collections.abc import Iterator

from kdsr_tf import artifacts, stages
from kdsr_tf.config import Config
from kdsr_tf.console import progress
from kdsr_tf.evaluation.checks.finding import SEVERITIES, Finding
from kdsr_tf.evaluation.checks.history_checks import check_histories
from kdsr_tf.evaluation.checks.interaction_log import Log
from kdsr_tf.evaluation.checks.item_checks import check_entities, check_features, check_titles


def check(config: Config, near: float = 0.98) -> tuple[list[Finding], list[str]]:
    """Look for leaks and oddities in what a student would be trained on.

    `near` is the cosine, in (0, 1], from which two items count as near-duplicates.

    Returns:
        The findings, worst first, and the artifacts that were not checked, with the
        reason.

    Raises:
        MissingArtifactError: if there is no `sequences/`.
    """
    directory = stages.location(config, "sequences")
    # Judged by what they were made with, whatever the configuration says now.
    sequences = artifacts.read_manifest(directory, written_by="prepare")
    found: list[Finding] = []
    skipped: list[str] = []
    later = [f"features/{m}" for m in config.modalities] + [stages.windows_of(config)]
    with progress("check", total=1 + len(later)) as bar:
        log = Log(directory)
        found += check_histories(
            log,
            directory,
            sequences.config["prepare"]["split"],
            sequences.config["windows.max_length"],
            config.evaluate.filter_seen,
            sequences.details.get("times_are_positions", False),
        )
        found += [check_titles(log), check_entities(log)]
        bar.advance()
        for name in later:
            reason = _unusable(config, name, sequences.fingerprint)
            if reason is None:
                found += _check_artifact(config, name, log, near)
            else:
                skipped.append(f"{name} {reason}")
            bar.advance()
    found.sort(key=lambda one: SEVERITIES.index(one.severity))
    return found, skipped


def _check_artifact(config: Config, name: str, log: Log, near: float) -> Iterator[Finding]:
    directory = stages.location(config, name)
    if name == stages.windows_of(config):
        from kdsr_tf.evaluation.checks.window_checks import check_examples  # imports TensorFlow

        return check_examples(log, directory)
    return check_features(log, name.rpartition("/")[2], directory, near, config.seed)


def _unusable(config: Config, name: str, sequences: str) -> str | None:
    manifest = artifacts.find_manifest(stages.location(config, name))
    if manifest is None:
        return f"does not exist yet (kdsr {stages.artifact_of(config, name).stage})"
    if manifest.inputs.get("sequences") != sequences:
        return "was made from other sequences and will be made again"
    return None
