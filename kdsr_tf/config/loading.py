"""Reading, overriding and writing a configuration."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

import fsspec
import pydantic
import yaml

from kdsr_tf.config.root import Config
from kdsr_tf.config.section import Section
from kdsr_tf.errors import ConfigError
from kdsr_tf.paths import expand_home

_EARLIER_NAMES = {"model.first_order": "model.last_item", "places": "artifact_folders"}
"""Keys of version 0.1, which its files may still use."""

_MERGE = "tag:yaml.org,2002:merge"


def load_config(
    path: str | None = None,
    overrides: Iterable[str] = (),
    workdir: str | None = None,
) -> Config:
    """Read and validate a configuration.

    Args:
        path: YAML file or URI; None starts from the defaults.
        overrides: Assignments `a.b=value`. Where the key holds text, the value is the text as
            typed: `{title} #2`, `2024-05-01` and `007` too. If the key may be null, `null` and
            the empty text are null. Other values are read as YAML.
        workdir: Replaces `workdir`.

    Raises:
        ConfigError: for a missing file, an unknown key (the nearest valid ones
            are listed), a wrong type or values that exclude each other.

    Example:
        >>> load_config(overrides=["train.epochs=3"]).train.epochs
        3
    """
    values = {} if path is None else _read_yaml(expand_home(path))
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
        selected[key] = _as_before(key, value)
    return selected


def present_name(key: str) -> str:
    """The name that a key has now, of one that version 0.1 may have called otherwise."""
    return _EARLIER_NAMES.get(key, key)


def _as_before(key: str, value: Any) -> Any:
    """A value as it was before keys got other names or were added: what was made stays up to date.

    An added key is left out while it says what was so before there was one.
    """
    if key == "model":
        value = {"first_order": value["last_item"], **value}
        del value["last_item"]
        if value["method"] == "kdsr":
            del value["method"]
    elif key in ("encode.text", "encode.image") and value is not None and value["states"] is None:
        del value["states"]
    return value


def _validated(values: dict[str, Any]) -> Config:
    _check_keys(values, Config, ())
    try:
        return Config.model_validate(values)
    except pydantic.ValidationError as error:
        lines = [_describe(problem) for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _rename_keys(values: dict[str, Any]) -> dict[str, Any]:
    """Move the values of earlier keys to those that took their places, in the same section."""
    for earlier, name in _EARLIER_NAMES.items():
        *parents, old = earlier.split(".")
        new = name.rpartition(".")[2]
        section: Any = values
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if not isinstance(section, dict) or old not in section:
            continue
        if new in section:
            raise ConfigError(
                f"`{earlier}` is the earlier name of `{name}`, and both are set. Delete the former."
            )
        section[new] = section.pop(old)
    return values


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
    return _rename_keys(dict(values))


def _assign(values: dict[str, Any], assignment: str) -> None:
    key, separator, text = assignment.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"`--set` takes KEY=VALUE. Received: {assignment!r}.")
    key = present_name(key.strip())
    *parents, last = path = key.split(".")
    section: Any = values
    for parent in parents:
        if not isinstance(section.get(parent), dict):
            section[parent] = {}
        section = section[parent]
    section[last] = _as_typed(text, _alternatives_at(path))


def _as_typed(text: str, kinds: Sequence[Any]) -> Any:
    """The value of an assignment to a key of some kinds."""
    if str in kinds:
        return None if type(None) in kinds and text in ("", "null") else text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    # In YAML a text without quotes ends before " #".
    quoted = text.lstrip().startswith(("'", '"'))
    return text.strip() if isinstance(value, str) and not quoted else value


def _alternatives_at(path: Sequence[str]) -> tuple[Any, ...]:
    """The types that the key at a path takes; none if it is not known."""
    kinds: tuple[Any, ...] = (Config,)
    for name in path:
        section = _section_of(kinds)
        values = [get_args(kind)[1] for kind in kinds if get_origin(kind) is dict]
        if section is not None and name in section.model_fields:
            kinds = _alternatives(section.model_fields[name].annotation)
        elif values:
            kinds = _alternatives(values[0])
        else:
            return ()
    return kinds


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The types of a union, each without its constraints."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return tuple(kind for one in get_args(annotation) for kind in _alternatives(one))
    return (annotation,)


def _check_keys(values: Mapping[str, Any], section: type[Section], path: tuple[str, ...]) -> None:
    fields = section.model_fields
    for key, value in values.items():
        if key not in fields:
            name = ".".join((*path, str(key)))
            near = difflib.get_close_matches(str(key), fields, n=3, cutoff=0.4) or list(fields)
            valid = ", ".join(".".join((*path, one)) for one in near)
            raise ConfigError(f"Unknown configuration key `{name}`. Did you mean: {valid}?")
        nested = _section_of(_alternatives(fields[key].annotation))
        if nested is not None and isinstance(value, Mapping):
            _check_keys(value, nested, (*path, key))


def _section_of(kinds: Sequence[Any]) -> type[Section] | None:
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def _describe(problem: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ").rstrip(".")
    if not name:
        return message if message.endswith("?") else f"{message}."
    quote = problem["type"] == "string_type" and problem["input"] is not None
    remedy = " A text that YAML would read as another value stands in quotes." if quote else ""
    return f"`{name}`: {message}. Received: {problem['input']!r}.{remedy}"


class UniqueKeyLoader(yaml.SafeLoader):
    """Safe, and refuses what YAML forbids and PyYAML lets pass: of two equal keys the last wins.

    An arm of an experiment, or a section of a configuration, would be lost without an error.

    Example:
        >>> yaml.load("a: 1\\nb: 2", UniqueKeyLoader)
        {'a': 1, 'b': 2}
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping node whose keys differ; keys that `<<` merges are added later and may be equal.

        Raises:
            yaml.YAMLError: naming the key and its line.
        """
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if (key.tag, key.value) in seen:
                    raise yaml.composer.ComposerError(
                        None, None, f"the key {key.value} stands there twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return node
