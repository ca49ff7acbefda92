"""`kdsr serve`, `query` and `skew`."""

from __future__ import annotations

from typing import Any

import click

from kdsr_tf.cli.options import FILE, PATH, Invocation, configured

_HISTORY = (
    "Item ids, oldest first, divided by commas or line ends; one with a comma stands in double "
    "quotes, as in CSV."
)
_VERSION = click.option("--model-version", type=click.IntRange(min=0), help="Version to ask.")
_CERTIFICATE = click.option("--certificate", type=FILE, help="PEM file: the client's certificate.")
_KEY = click.option("--key", type=FILE, help="PEM file: its private key.")


@click.command()
@configured()
def serve(invocation: Invocation) -> None:
    """Serve the exported model over gRPC and REST until Ctrl-C.

    Speaks TF Serving's protocols, on the loopback interface unless `serve.host`
    says otherwise; a newly exported version replaces the old one while it runs.
    """
    from kdsr_tf.cli import serving

    serving.serve(invocation)


@click.command()
@configured(need_config=False)
@click.option("--history", metavar="ID,ID,…", default="", help=_HISTORY)
@click.option("--similar", metavar="ID", help="Ask for items like this one instead.")
@click.option("--with-seen", is_flag=True, help="Items of the history may come back.")
@click.option("--k", type=click.IntRange(min=1), default=10, show_default=True, help="Items.")
@click.option("--rest", is_flag=True, help="Ask over REST instead of gRPC.")
@_VERSION
@click.option("--label", help="Label of the version to ask.")
@click.option("--root-certificates", type=FILE, help="PEM file; makes the connection encrypted.")
@_CERTIFICATE
@_KEY
@click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Longest wait for a server of this machine that is still loading its model; by default "
    "as long as it lives.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON to the standard output.")
def query(invocation: Invocation, **asked: Any) -> None:
    """Ask a running server for recommendations.

    An empty history gets the popular items. Titles come from the working
    directory, where there is one.
    """
    from kdsr_tf.cli import query

    query.query(invocation.config, invocation.dry_run, query.Asked(**asked))


@click.command()
@configured()
@click.option(
    "--requests",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="Request log of TF Serving; repeatable. Without one, a live server is asked.",
)
@click.option(
    "--samples",
    type=click.IntRange(1, 256),
    default=128,
    show_default=True,
    help="Real histories to ask a live server about.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Greatest difference of a score, relative to the greatest in the catalogue; by default "
    "that of the export's gate.",
)
@_VERSION
@click.option(
    "--root-certificates",
    type=FILE,
    help="PEM file; makes the connection to a live server encrypted.",
)
@_CERTIFICATE
@_KEY
@click.option("--json", "as_json", is_flag=True, help="Print JSON to the standard output.")
def skew(invocation: Invocation, **asked: Any) -> None:
    """Compare served with offline scores.

    Requests and answers of TF Serving's request log, or of a live server that is asked
    now (`serve.target`), are replayed through the Keras student they were exported from.
    Exit status 2 where a difference exceeds the tolerance, where a ranking misses more
    than `export.recall_floor` allows (`serve.variant: exact` may miss nothing), or where
    the served version is of another student.
    """
    from kdsr_tf.cli import skew

    skew.skew(invocation, **asked)
