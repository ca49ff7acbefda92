"""Options that every command with a configuration has, and the configuration they describe."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdsr_tf.errors import ConfigError
from kdsr_tf.paths import expand_home

if TYPE_CHECKING:
    from kdsr_tf.config import Config


class PathType(click.Path):
    """A local path or URI of a person; a leading `~` becomes the home folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(expand_home(value), param, ctx)


PATH = PathType(readable=False)
"""Anything; the command itself says what is missing."""

FILE = PathType(exists=True, dir_okay=False)
"""An existing local file."""

BEAM_ARGUMENT = click.argument("beam_args", nargs=-1, metavar="[-- BEAM OPTIONS]")
"""For commands that run Beam pipelines."""

_CONFIG = click.option(
    "--config", "config_path", type=PATH, metavar="FILE", help="YAML configuration."
)
_COMMON = (
    click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Override a configuration key, such as train.epochs=3. Repeatable.",
    ),
    click.option("--workdir", type=PATH, metavar="DIR", help="Folder or URI of every artifact."),
    click.option("--print-config", is_flag=True, help="Print the configuration and stop."),
    click.option("--dry-run", is_flag=True, help="Say what would run, and why, and stop."),
)


def _method(packaged: Mapping[str, Path]) -> Callable[[Callable], Callable]:
    return click.option(
        "--method",
        type=click.Choice(list(packaged)),
        default=next(iter(packaged)),
        show_default=True,
        help="Method of the model (docs/methods.md).",
    )


def configured(
    *, need_config: bool = True, packaged: Mapping[str, Path] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the shared options; it receives `config` and `dry_run`, then its own.

    A configuration file must be given or found if the command needs one; `packaged` are files by
    method, of which the user chooses one. The command then receives its path as `config_path` too.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(
            overrides: tuple[str, ...],
            workdir: str | None,
            print_config: bool,
            dry_run: bool,
            config_path: str | None = None,
            **own: Any,
        ) -> None:
            from kdsr_tf.config import dump_config, load_config

            if packaged is not None:
                config_path = str(packaged[own.pop("method")])
                config = load_config(config_path, overrides, workdir)
                own["config_path"] = config_path
            else:
                config = _load(config_path, overrides, workdir, need_config)
            if print_config:
                click.echo(dump_config(config), nl=False)
                return
            function(config, dry_run, **own)

        first = _method(packaged) if packaged else _CONFIG
        for option in reversed((first, *_COMMON)):
            command = option(command)
        return command

    return decorate


def assignments(
    option: str, form: str, texts: Sequence[str], may_be_empty: bool = True
) -> dict[str, str]:
    """Values by name of an option that is given as NAME=VALUE, repeatedly."""
    values = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not (name and separator and (value or may_be_empty)):
            raise ConfigError(f"{option} takes {form}. Received: {text}.")
        values[name] = value
    return values


def _load(
    path: str | None, overrides: tuple[str, ...], workdir: str | None, need_config: bool
) -> Config:
    from kdsr_tf import artifacts
    from kdsr_tf.config import Config, load_config
    from kdsr_tf.runs.workdir import CONFIG_FILE

    if path is None:
        folder = workdir or Config().workdir
        left_by_run = artifacts.join(folder, CONFIG_FILE)
        if artifacts.exists(left_by_run):
            path, workdir = left_by_run, folder
        elif need_config:
            raise ConfigError(
                f"`--config` is not given, and there is no {left_by_run} of an earlier "
                "`kdsr run`. Give a YAML file with --config FILE."
            )
    elif os.path.isdir(path):
        raise ConfigError(f"--config takes a YAML file. Received a folder: {path}.")
    return load_config(path, overrides, workdir)
