"""What an experiment is: a file that names its arms by what they change in a configuration."""

from __future__ import annotations

import fnmatch
import itertools
import math
import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeVar, get_args

import fsspec
import pydantic
import yaml

from kdsr_tf.config.loading import UniqueKeyLoader, present_name
from kdsr_tf.config.section import Section
from kdsr_tf.errors import ConfigError
from kdsr_tf.paths import expand_home
from kdsr_tf.schema import SelectionMetric

FOLDER = Path(__file__).parent.parent / "configs" / "experiments"
"""The experiments that come with KDSR-TF."""

SEARCH = "search"
"""Stem of the one file among them that is a search space."""

_OWN_KEYS = ("workdir", "run", "artifact_folders")
"""The experiment decides where its runs lie."""

_METRIC = re.compile(
    r"((oracle_)?(hr|mrr|ndcg)|coverage|(image|text)_diversity)_[1-9][0-9]*", re.ASCII
)

Name = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Overrides = list[str]


class Experiment(Section):
    """Arms that are trained and evaluated on one data set, and compared.

    An override is `KEY=VALUE`, as for `--set`; `${NAME}` in it stands for a variable.
    Keys are taken, the later over the earlier, from the configuration, `base`, `--set`
    and the arm.

    Args:
        name: Name of the experiment; its runs are `<name>-<arm>-seed-<seed>`.
        description: The question, in a line.
        answers: Table or figure of the paper that asks it, if any.
        base: Overrides of every arm.
        variables: What the user has to give, by name, with an explanation.
        arms: Overrides by arm.
        axes: Instead of `arms`: overrides by value, by axis. The arms are all
            combinations, `<value>-<value>`.
        reference: Arm that the others are compared with.
        metrics: Shown in the table, of those in `metrics.json`.
        ids_of: Arm without modality tables: the item-item similarities of all modality
            tables are also correlated with those of its ids.
    """

    name: Name
    description: str
    answers: str | None = None
    base: Overrides = pydantic.Field(default_factory=list)
    variables: dict[str, str] = pydantic.Field(default_factory=dict)
    arms: dict[Name, Overrides] = pydantic.Field(default_factory=dict)
    axes: dict[str, dict[Name, Overrides]] = pydantic.Field(default_factory=dict)
    reference: Name
    metrics: Annotated[list[str], pydantic.Field(min_length=1)] = pydantic.Field(
        default=list(get_args(SelectionMetric))
    )
    ids_of: Name | None = None

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Experiment:
        if bool(self.arms) == bool(self.axes) or not all(self.axes.values()):
            raise ValueError("An experiment has either `arms` or `axes`, and no empty axis.")
        every = self.every_arm()
        if self.axes and len(every) < math.prod(map(len, self.axes.values())):
            raise ValueError(
                "Two combinations of `axes` have the same name, `<value>-<value>`. "
                f"Received: {', '.join('/'.join(axis) for axis in self.axes.values())}. "
                "Rename a value."
            )
        for key in ("reference", "ids_of"):
            name = getattr(self, key)
            if name is not None and name not in every:
                raise ValueError(
                    f"`{key}` must be one of the arms {', '.join(every)}. Received: {name}."
                )
        for text in (*self.base, *itertools.chain(*every.values())):
            key = text.partition("=")[0].strip()
            if present_name(key.partition(".")[0]) in _OWN_KEYS:
                raise ValueError(f"`{key}` is not an arm's to set. Received: `{text}`.")
            unknown = [n for n in _variables(text) if n not in self.variables]
            if unknown:
                raise ValueError(
                    f"`variables` does not explain ${{{unknown[0]}}}, which `{text}` needs."
                )
        for metric in self.metrics:
            if not _METRIC.fullmatch(metric):
                raise ValueError(
                    "`metrics` are such as hr_20, mrr_20, ndcg_20, coverage_20 or "
                    f"text_diversity_20. Received: {metric}."
                )
        return self

    @property
    def cutoffs(self) -> list[int]:
        """The values of k among `metrics`."""
        return sorted({int(metric.rpartition("_")[2]) for metric in self.metrics})

    def every_arm(self) -> dict[str, tuple[str, ...]]:
        """Overrides by arm, `base` aside, variables as they are written."""
        if self.arms:
            return {name: tuple(overrides) for name, overrides in self.arms.items()}
        return {
            "-".join(name for name, _ in values): tuple(
                itertools.chain.from_iterable(overrides for _, overrides in values)
            )
            for values in itertools.product(*(axis.items() for axis in self.axes.values()))
        }

    def chosen_arms(
        self, only: Sequence[str] = (), variables: Mapping[str, str] | None = None
    ) -> dict[str, tuple[str, ...]]:
        """Overrides of the wanted arms, with their variables filled in.

        `only` are names or patterns of arms, such as `vq-*`; none means all.

        Raises:
            ConfigError: if a pattern matches no arm, a variable is not one of the
                experiment's, or an arm needs one that is not given.
        """
        given = dict(variables or {})
        _refuse(set(given) - set(self.variables), "variable", self.name, self.variables)
        every = self.every_arm()
        _refuse({p for p in only if not fnmatch.filter(every, p)}, "arm", self.name, every)
        chosen = {
            name: overrides
            for name, overrides in every.items()
            if not only or any(fnmatch.fnmatchcase(name, pattern) for pattern in only)
        }
        missing: dict[str, list[str]] = {}
        for name, overrides in chosen.items():
            texts = (*self.base, *overrides)
            for variable in sorted({v for text in texts for v in _variables(text)}):
                if variable not in given:
                    missing.setdefault(variable, []).append(name)
        if missing:
            lines = [
                f"  --var {variable}=...  {self.variables[variable]} (arms {', '.join(arms)})"
                for variable, arms in missing.items()
            ]
            raise ConfigError(
                f"The experiment {self.name} needs:\n" + "\n".join(lines) + "\nGive them, or "
                "leave these arms out: --only ARM takes names and patterns."
            )
        return {name: _filled(overrides, given) for name, overrides in chosen.items()}

    def filled_base(self, variables: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """Overrides of every arm, with their variables filled in; see `chosen_arms`."""
        return _filled(self.base, variables or {})


def load_experiment(name: str) -> Experiment:
    """An experiment by the name of a packaged one, or by the path of a YAML file."""
    return load_section(Experiment, name, packaged_experiments())


def packaged_experiments() -> dict[str, Path]:
    """Files of the experiments that come with KDSR-TF, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml")) if path.stem != SEARCH}


_Kind = TypeVar("_Kind", bound=Section)


def load_section(kind: type[_Kind], name: str, packaged: Mapping[str, Path]) -> _Kind:
    """A YAML file as a validated section.

    `name` is one of `packaged`, known files by name, or the path or URI of a file.

    Raises:
        ConfigError: if there is no such file, or if it is wrong.
    """
    path = str(packaged.get(name) or expand_home(name))
    try:
        with fsspec.open(path, "r") as file:
            values = yaml.load(file, UniqueKeyLoader)
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError(
            f"There is no {name}: neither a file, nor one of {', '.join(packaged)}."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    try:
        return kind.model_validate(values)
    except pydantic.ValidationError as error:
        lines = [
            f"{'.'.join(map(str, problem['loc'])) or 'file'}: "
            f"{problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        ]
        raise ConfigError("\n".join([f"{path} is wrong:", *lines])) from None


def _filled(overrides: Sequence[str], values: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(string.Template(text).safe_substitute(values) for text in overrides)


def _variables(text: str) -> list[str]:
    return string.Template(text).get_identifiers()


def _refuse(unknown: set[str], what: str, name: str, known: Mapping[str, object]) -> None:
    if unknown:
        raise ConfigError(
            f"The experiment {name} has no {what} {', '.join(sorted(unknown))}. "
            f"It has: {', '.join(known) or 'none'}."
        )
