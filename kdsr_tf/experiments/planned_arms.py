"""From an experiment to the configuration of every arm, on shared artifacts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from kdsr_tf import stages
from kdsr_tf.config import Config, override, select
from kdsr_tf.errors import ConfigError, KDSRError
from kdsr_tf.experiments.experiment import Experiment

VARIANTS = "variants"
"""Folder of the artifacts that are not those of the user's own configuration."""

_PROTOCOL = ("prepare.k_core", "prepare.split", "prepare.test_fraction", "evaluate.filter_seen")
"""Keys by which runs have the same test points and candidates."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedArm:
    """One arm, ready to run: with its run's name and the folders of its inputs.

    `external` holds the fingerprints of the source and the encoders.
    """

    name: str
    config: Config
    external: dict[str, str]


def plan_arms(
    experiment: Experiment,
    config: Config,
    find_external: Callable[[Config], dict[str, str]],
    overrides: Iterable[str] = (),
    only: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> list[PlannedArm]:
    """The configuration of every wanted arm; whatever is missing is found out here.

    `config` has the `overrides` of the command line, which stand above the experiment's, already.
    `find_external` gives the fingerprints of what has no manifest, or raises.

    Raises:
        ConfigError: if an arm's configuration is wrong, if no arm has an encoder, or if
            two arms would not be judged on the same test points.
        KDSRError: if the source, an encoder or a variable of an arm is missing.
    """
    usual = stages.fingerprints(config, find_external(config))
    planned = []
    chosen = experiment.chosen_arms(only, variables)
    base = experiment.filled_base(variables)
    for name, own in chosen.items():
        try:
            arm = override(config, [*base, *overrides, *own])
            external = find_external(arm)
        except KDSRError as error:
            raise type(error)(
                f"The arm {name} of the experiment {experiment.name} cannot run: {error}"
            ) from error
        cutoffs = sorted({*arm.evaluate.cutoffs, *experiment.cutoffs})
        named = {
            "run": f"{title(experiment, config)}-{name}",
            "evaluate": arm.evaluate.model_copy(update={"cutoffs": cutoffs}),
        }
        arm = with_own_locations(arm.model_copy(update=named), external, usual)
        planned.append(PlannedArm(name=name, config=arm, external=external))
    if not any(arm.config.modalities for arm in planned):
        raise ConfigError(
            "No arm has an encoder, so there is nothing to distil. Set one, such as "
            "--set encode.text.encoder=embedded."
        )
    _refuse_incomparable(experiment, planned)
    return planned


def _refuse_incomparable(experiment: Experiment, arms: Sequence[PlannedArm]) -> None:
    """Tell before hours of training what no table could show beside each other."""
    for arm in arms:
        first, other = (select(one.config, _PROTOCOL) for one in (arms[0], arm))
        for key in _PROTOCOL:
            if first[key] != other[key]:
                raise ConfigError(
                    f"The arms {arms[0].name} and {arm.name} of the experiment {experiment.name} "
                    f"cannot be compared: their test points or candidates differ. Received: {key}="
                    f"{first[key]} and {key}={other[key]}. Give all arms the same, in `base` or "
                    "with --set."
                )
        for metric in experiment.metrics:
            modality, _, rest = metric.partition("_")
            if rest.startswith("diversity") and modality not in arm.config.modalities:
                raise ConfigError(
                    f"The experiment {experiment.name} shows `{metric}`, but its arm {arm.name} "
                    f"has no {modality}. Leave out the metric or the arm."
                )


def title(experiment: Experiment, config: Config) -> str:
    """Name of the folder of results, and first part of the runs' names."""
    return experiment.name if config.run is None else f"{config.run}-{experiment.name}"


def with_own_locations(
    config: Config, external: Mapping[str, str], usual: Mapping[str, str]
) -> Config:
    """A configuration with `artifact_folders` of their own for inputs of training that differ.

    An artifact's place follows from its fingerprint: two configurations with the same
    features and other teachers share the features, and nothing of the user's own
    configuration is replaced. `usual` has the fingerprint of what stands at the usual places.
    """
    own = stages.fingerprints(config, external)
    folders = {
        artifact.name: f"{VARIANTS}/{artifact.name}/{own[artifact.name]}"
        for artifact in stages.artifacts_of(config)
        if artifact.stage in stages.BEFORE_TRAINING
        and own[artifact.name] != usual.get(artifact.name)
    }
    return config.model_copy(update={"artifact_folders": config.artifact_folders | folders})


def input_locations(config: Config) -> tuple[str, ...]:
    """Where everything lies that training reads; equal for arms with the same inputs."""
    return tuple(
        stages.location(config, artifact.name)
        for artifact in stages.artifacts_of(config)
        if artifact.stage in stages.BEFORE_TRAINING
    )
