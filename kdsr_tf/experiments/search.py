"""A search: where `kdsr search` looks, and its trials as an Optuna study on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pydantic

from kdsr_tf import artifacts
from kdsr_tf.config import Config, override
from kdsr_tf.config.loading import present_name
from kdsr_tf.config.section import NonNegativeInt, PositiveFloat, PositiveInt, Section
from kdsr_tf.errors import ConfigError, KDSRError
from kdsr_tf.experiments.experiment import FOLDER, SEARCH, Name, load_section

if TYPE_CHECKING:
    import optuna

JOURNAL = "journal.log"
RUN = "run"
_IDENTITY = "identity"
_ENOUGH_FOR_IMPORTANCE = 4
_PACKAGED: dict[str, Path] = {SEARCH: FOLDER / f"{SEARCH}.yaml"}
_FIXED_SECTIONS = ("source", "prepare", "evaluate", "export", "serve")
_FIXED = (
    "workdir",
    "run",
    "artifact_folders",
    "seed",
    "train.seed",
    "train.selection",
    "train.monitor",
    "train.refit",
)
"""What trials must have in common, or what does not change what they learn."""


class Choices(Section):
    """Some values, at least two."""

    choices: Annotated[list[bool | int | float | str | None], pydantic.Field(min_length=2)]

    def suggest(self, trial: optuna.Trial, key: str) -> object:
        """A value for a trial."""
        return trial.suggest_categorical(key, self.choices)

    def ends(self) -> Sequence[object]:
        """Values that must all be valid for the space to be."""
        return list(self.choices)


class Range(Section):
    """All values between two.

    Args:
        low: The smallest.
        high: The largest.
        log: Whether the search goes over the logarithm; `low` is then > 0.
        step: Distance of the values; None is any, or 1 for whole numbers.
        integer: Whole numbers only.
    """

    low: float
    high: float
    log: bool = False
    step: PositiveFloat | None = None
    integer: bool = False

    @pydantic.model_validator(mode="after")
    def _check(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"`low` must be < `high`. Received: {self.low} and {self.high}.")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("`log` needs `low` > 0 and no `step`.")
        whole = all(float(v).is_integer() for v in (self.low, self.high, self.step or 1))
        if self.integer and not whole:
            raise ValueError("`integer` needs whole numbers.")
        return self

    def suggest(self, trial: optuna.Trial, key: str) -> object:
        """A value for a trial."""
        if self.integer:
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return trial.suggest_int(key, low, high, step=step, log=self.log)
        return trial.suggest_float(key, self.low, self.high, step=self.step, log=self.log)

    def ends(self) -> Sequence[object]:
        """Values that must all be valid for the space to be."""
        ends = [self.low, self.high]
        return [int(end) for end in ends] if self.integer else ends


class SearchSpace(Section):
    """A search.

    Args:
        name: Name of the search; its trials are `runs/<name>-<hash of the values>`.
        description: In a line.
        parameters: `Choices` or a `Range` by configuration key.
        startup_trials: Trials before one is ended early, and before values are drawn by
            what others have shown.
        warmup_epochs: Epochs of every trial before it is ended early.
    """

    name: Name
    description: str = ""
    parameters: Annotated[dict[str, Choices | Range], pydantic.Field(min_length=1)]
    startup_trials: PositiveInt = 10
    warmup_epochs: NonNegativeInt = 3

    @pydantic.field_validator("parameters")
    @classmethod
    def _check_keys(cls, parameters: dict[str, Choices | Range]) -> dict[str, Choices | Range]:
        for key in parameters:
            if present_name(key) in _FIXED or key.split(".")[0] in _FIXED_SECTIONS:
                raise ValueError(
                    f"`{key}` cannot be searched: trials are judged on the same validation "
                    "targets, in the same way, with the same seed."
                )
        return parameters

    def check(self, config: Config) -> None:
        """Try every value at the edge of the space in a configuration; `ConfigError` if one is
        refused."""
        for key, values in self.parameters.items():
            for value in values.ends():
                try:
                    override(config, [assignment(key, value)])
                except ConfigError as error:
                    raise ConfigError(f"The search {self.name} cannot set {key}: {error}") from None

    def suggest(self, trial: optuna.Trial) -> list[str]:
        """Overrides of a trial."""
        return [
            assignment(key, values.suggest(trial, key)) for key, values in self.parameters.items()
        ]


def assignment(key: str, value: object) -> str:
    """`KEY=VALUE`, as for `--set`: `train.patience=null`, `model.pooling=last`."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def load_space(name: str = SEARCH) -> SearchSpace:
    """The space of a YAML file, or the one that comes with KDSR-TF."""
    return load_section(SearchSpace, name, _PACKAGED)


def open_study(directory: str, space: SearchSpace, origin: str, seed: int) -> optuna.Study:
    """The study of a local folder, whose `journal.log` keeps the trials; made if there is none.

    Trials that a killed search left unfinished are queued again: a run's folder follows
    from its values, so its training goes on from the last checkpoint. `origin` is the fingerprint
    of all that the trials have in common.

    Raises:
        KDSRError: if Optuna is not installed.
        ConfigError: if the folder holds a search of something else.
    """
    try:
        import optuna
    except ImportError:
        raise KDSRError("`kdsr search` needs Optuna: pip install 'kdsr-tf[search]'.") from None
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=space.name,
        storage=JournalStorage(JournalFileBackend(artifacts.join(directory, JOURNAL))),
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=space.startup_trials, n_warmup_steps=space.warmup_epochs
        ),
    )
    parameters = {key: values.model_dump() for key, values in space.parameters.items()}
    identity = artifacts.fingerprint({"origin": origin, "parameters": parameters})
    if study.user_attrs.setdefault(_IDENTITY, identity) != identity:
        raise ConfigError(
            f"{directory} holds a search with another space, configuration or data, whose values "
            "do not compare. Give the space another `name`, or delete the folder."
        )
    study.set_user_attr(_IDENTITY, identity)
    # Going on with the seed of the start would draw the first values again.
    study.sampler = optuna.samplers.TPESampler(
        seed=seed + len(study.trials), n_startup_trials=space.startup_trials
    )
    for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def num_judged(study: optuna.Study) -> int:
    """Trials that ended by themselves or were ended early."""
    return sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in study.trials)


def report_epochs(trial: optuna.Trial, rows: Iterable[Mapping[str, Any]], metric: str) -> None:
    """Tell Optuna the metric of every epoch it does not know yet.

    Args:
        trial: The trial.
        rows: One per epoch, with `epoch` (from 1) and the metric.
        metric: Such as `val_hr_20`.
    """
    known = trial.study.trials[trial.number].intermediate_values
    for row in rows:
        epoch = int(row["epoch"])
        if epoch not in known:
            trial.report(float(row[metric]), epoch)


def importance(study: optuna.Study) -> dict[str, float]:
    """Share of every parameter in what made trials differ; empty if too few have ended."""
    import optuna

    complete = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    if len(complete) < _ENOUGH_FOR_IMPORTANCE or len({t.value for t in complete}) == 1:
        return {}
    return optuna.importance.get_param_importances(study)


def trial_rows(study: optuna.Study) -> list[dict[str, Any]]:
    """One row per trial, the best first; values are fractions, as in `history.csv`."""
    rows = []
    for trial in study.trials:
        seen = trial.intermediate_values
        state = trial.state.name.lower()
        value = trial.value if state == "complete" else max(seen.values(), default=None)
        rows.append(
            {
                "trial": trial.number,
                "state": state,
                "value": value,
                "epochs": max(seen, default=0),
                **trial.params,
                RUN: trial.user_attrs.get(RUN, ""),
            }
        )
    return sorted(rows, key=lambda row: (row["state"] != "complete", -(row["value"] or 0)))
