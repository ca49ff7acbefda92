"""Reading, overriding and writing a configuration."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin

import fsspec
import pydantic
import yaml

from kdsr_tf.config.base import Section
from kdsr_tf.config.root import Config
from kdsr_tf.config.unique_keys import UniqueKeyLoader
from kdsr_tf.errors import ConfigError


def load_config(
    path: str | None = None,
    overrides: Iterable[str] = (),
    workdir: str | None = None,
) -> Config:
    """Read and validate a configuration.

    Args:
        path: YAML file or URI; None starts from the defaults.
        overrides: Assignments `a.b=value`; the value is read as YAML, but where the
            key holds text, `{title}` and `2024` are texts.
        workdir: Replaces `workdir`.

    Returns:
        The validated configuration.

    Raises:
        ConfigError: for a missing file, an unknown key (the nearest valid ones
            are listed), a wrong type or values that exclude each other.

    Example:
        >>> load_config(overrides=["train.epochs=3"]).train.epochs
        3
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = _read_yaml(path)
    for assignment in overrides:
        _assign(values, assignment)
    if workdir is not None:
        values["workdir"] = workdir
    return _validated(values)


def override(config: Config, overrides: Iterable[str]) -> Config:
    """A configuration with some keys changed, read as those of `load_config`.

    Raises:
        ConfigError: for an unknown key, a wrong type or values that exclude each other.

    Example:
        >>> override(Config(), ["train.epochs=3", "model.dropout=0.5"]).model.dropout
        0.5
    """
    values = config.model_dump(mode="json")
    for assignment in overrides:
        _assign(values, assignment)
    return _validated(values)


def dump_config(config: Config) -> str:
    """The configuration as YAML that `load_config` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def select(config: Config, keys: Iterable[str]) -> dict[str, Any]:
    """The values of dotted keys, as plain data for manifests and fingerprints."""
    values = config.model_dump(mode="json")
    selected = {}
    for key in keys:
        value: Any = values
        for part in key.split("."):
            value = value[part]
        selected[key] = value
    return selected


def _validated(values: dict[str, Any]) -> Config:
    _check_keys(values, Config, ())
    try:
        return Config.model_validate(values)
    except pydantic.ValidationError as error:
        lines = [_describe(problem) for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        with fsspec.open(path, "r") as file:
            values = yaml.load(file, UniqueKeyLoader)
    except FileNotFoundError:
        raise ConfigError(f"The configuration file {path} does not exist.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path} must hold keys and values. Received: {type(values).__name__}.")
    return dict(values)


def _assign(values: dict[str, Any], assignment: str) -> None:
    key, separator, text = assignment.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"`--set` takes KEY=VALUE. Received: {assignment!r}.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    *parents, last = path = key.strip().split(".")
    if value is not None and not isinstance(value, str) and _holds_text(path):
        value = text
    section: Any = values
    for parent in parents:
        if not isinstance(section.get(parent), dict):
            section[parent] = {}
        section = section[parent]
    section[last] = value


def _holds_text(path: Sequence[str]) -> bool:
    """Whether the key at a path takes a text."""
    annotation: Any = Config
    for name in path:
        section = _section_of(annotation)
        if section is not None and name in section.model_fields:
            annotation = section.model_fields[name].annotation
        elif get_origin(annotation) is dict:
            _, annotation = get_args(annotation)
        else:
            return False
    return annotation is str or (
        isinstance(annotation, types.UnionType) and str in get_args(annotation)
    )


def _check_keys(values: Mapping[str, Any], section: type, path: tuple[str, ...]) -> None:
    fields = section.model_fields
    for key, value in values.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=3, cutoff=0.4) or list(fields)
            valid = ", ".join(".".join((*path, name)) for name in near)
            name = ".".join((*path, str(key)))
            raise ConfigError(f"Unknown configuration key `{name}`. Did you mean: {valid}?")
        nested = _section_of(fields[key].annotation)
        if nested is not None and isinstance(value, Mapping):
            _check_keys(value, nested, (*path, key))


def _section_of(annotation: Any) -> type | None:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def _describe(problem: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if not name:
        return message
    return f"`{name}`: {message}. Received: {problem['input']!r}."
