"""The `kdsr` command: all its commands, and what an error looks like.

Errors a user can act on are one message on stderr and exit status 2; anything else
keeps its traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from kdsr_tf.cli.data_command import data
from kdsr_tf.cli.doctor import doctor
from kdsr_tf.cli.serving_commands import query, serve, skew
from kdsr_tf.cli.stage_commands import STAGES, demo, run
from kdsr_tf.cli.study_commands import check, compare, experiment, repeat, search
from kdsr_tf.errors import FULL, NO_SPACE, KDSRError, storage_problem
from kdsr_tf.runs import environment

USAGE_ERROR = 2
INTERRUPTED = 130


class _InOrder(click.Group):
    """Lists the commands in the order a user meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kdsr-tf", prog_name="kdsr")
def cli() -> None:
    """Modality-aware sequential recommendation, from raw files to TF Serving.

    `kdsr demo` shows the whole path; `kdsr run` walks it on your own files.
    """


_STUDIES = (check, repeat, experiment, search, compare)
_COMMANDS = (demo, data, run, *STAGES, *_STUDIES, serve, query, skew, doctor)
for _command in _COMMANDS:
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Arguments take the place of `sys.argv[1:]` in a call from Python, which changes nothing else
    of the process.
    """
    environment.prepare()
    if arguments is None:
        environment.follow_parent()
        environment.filter_native_noise()
    status = _run(arguments)
    if arguments is None:
        environment.leave(status)
    sys.exit(status)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        # A command that judges ends with its own status.
        return cli.main(args=arguments, prog_name="kdsr", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return USAGE_ERROR
    except KDSRError as error:
        _say(error)
        return USAGE_ERROR
    except (ImportError, ValueError) as error:
        problem = storage_problem(error)
        if problem is None:
            raise
        _say(f"A URI cannot be opened: {problem}.")
        return USAGE_ERROR
    except OSError as error:
        if error.errno not in FULL:
            raise
        _say(NO_SPACE)
        return USAGE_ERROR
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED


def _say(problem: object) -> None:
    click.secho("Error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(str(problem), err=True)
