"""A search as an Optuna study on disk: what was tried, what it gave, what mattered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kdsr_tf import artifacts
from kdsr_tf.errors import ConfigError, KDSRError
from kdsr_tf.experiments.search_space import SearchSpace

if TYPE_CHECKING:
    import optuna

JOURNAL = "journal.log"
RUN = "run"
_IDENTITY = "identity"
_ENOUGH_FOR_IMPORTANCE = 4


def open_study(directory: str, space: SearchSpace, origin: str, seed: int) -> optuna.Study:
    """The study of a folder, whose `journal.log` keeps the trials; made if there is none.

    Trials that a killed search left unfinished are queued again: a run's folder follows
    from its values, so its training goes on from the last checkpoint.

    Args:
        directory: Local folder.
        space: The space.
        origin: Fingerprint of all that the trials have in common.
        seed: Of the values drawn.

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
