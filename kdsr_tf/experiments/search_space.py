"""Where `kdsr search` looks: configuration keys and their values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pydantic

from kdsr_tf.config import Config, override
from kdsr_tf.config.section import NonNegativeInt, PositiveFloat, PositiveInt, Section
from kdsr_tf.errors import ConfigError
from kdsr_tf.experiments.experiment import FOLDER, SEARCH, Name, load_section

if TYPE_CHECKING:
    import optuna

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
        name: Of the search; its trials are `runs/<name>-<hash of the values>`.
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
            if key in _FIXED or key.split(".")[0] in _FIXED_SECTIONS:
                raise ValueError(
                    f"`{key}` cannot be searched: trials are judged on the same validation "
                    "targets, in the same way, with the same seed."
                )
        return parameters

    def check(self, config: Config) -> None:
        """Try every value at the edge of the space in a configuration.

        Raises:
            ConfigError: if a key is unknown, or a value out of its bounds.
        """
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
    """The space of a YAML file, or the one that comes with KDSR-TF.

    Raises:
        ConfigError: if there is no such file, or if it is wrong.
    """
    return load_section(SearchSpace, name, _PACKAGED)
