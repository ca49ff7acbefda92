"""`kdsr serve`, `query` and `skew`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kdsr_tf.cli.options import FILE, PATH, configured

if TYPE_CHECKING:
    from kdsr_tf.config import Config

_HISTORY = (
    "Item ids, oldest first, divided by commas or line ends; one with a comma stands in double "
    "quotes, as in CSV."
)
_VERSION = click.option("--model-version", type=click.IntRange(min=0), help="Version to ask.")
_ROOT = click.option(
    "--root-certificates", type=FILE, help="PEM file; makes the connection encrypted."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON to the standard output.")
_CERTIFICATE = click.option("--certificate", type=FILE, help="PEM file: the client's certificate.")
_KEY = click.option("--key", type=FILE, help="PEM file: its private key.")


@click.command()
@configured()
def serve(config: Config, dry_run: bool) -> None:
    """Serve the exported model over gRPC and REST until Ctrl-C.

    Speaks TF Serving's protocols, on the loopback interface unless `serve.host`
    says otherwise; a newly exported version replaces the old one while it runs.
    """
    from kdsr_tf.console import console
    from kdsr_tf.runs.serve_model import describe, serve_model

    if dry_run:
        console.print(f"Would serve {describe(config)}.", markup=False)
    else:
        serve_model(config)


@click.command()
@configured(need_config=False)
@click.option("--history", metavar="ID,ID,…", default="", help=_HISTORY)
@click.option("--similar", metavar="ID", help="Ask for items like this one instead.")
@click.option("--with-seen", is_flag=True, help="Items of the history may come back.")
@click.option("--k", type=click.IntRange(min=1), default=10, show_default=True, help="Items.")
@click.option("--rest", is_flag=True, help="Ask over REST instead of gRPC.")
@_VERSION
@click.option("--label", help="Label of the version to ask.")
@_ROOT
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
@_JSON
def query(
    config: Config,
    dry_run: bool,
    history: str,
    similar: str | None,
    with_seen: bool,
    k: int,
    rest: bool,
    model_version: int | None,
    label: str | None,
    root_certificates: str | None,
    certificate: str | None,
    key: str | None,
    wait_seconds: float | None,
    as_json: bool,
) -> None:
    """Ask a running server for recommendations.

    An empty history gets the popular items. Titles come from the working
    directory, where there is one.
    """
    from kdsr_tf.cli.recommendation_tables import show_answer
    from kdsr_tf.console import console
    from kdsr_tf.runs import ask_server

    if similar is not None and (history or with_seen):
        raise click.UsageError("--similar excludes --history and --with-seen.")
    item_ids = _item_ids(history) if similar is None else [_one_id(similar)]
    if dry_run:
        what = f"like {item_ids[0]}" if similar is not None else f"after {item_ids}"
        target = ask_server.find_target(config, rest)
        console.print(f"Would ask {target} for {k} items {what}.", markup=False)
        return
    certificates = (root_certificates, certificate, key)
    model = ask_server.ServedModel(rest, model_version, label, certificates)
    answer = ask_server.ask(
        config, model, item_ids, k, similar is not None, with_seen, wait_seconds
    )
    heading = "Recommended" if similar is None else f"Similar to {similar}"
    show_answer(config, answer, heading, as_json)


_LONGEST_SHOWN = 60


def _item_ids(history: str) -> list[str]:
    import csv
    import io

    from kdsr_tf.console import cut

    text = history.removeprefix("\ufeff")  # of a file that begins with a byte order mark
    lines = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        return [item for parts in lines for part in parts if (item := part.strip())]
    except csv.Error as error:
        received = cut(history, _LONGEST_SHOWN)
        raise click.UsageError(
            f"--history cannot be read as CSV: {error}. Put an id that holds a comma or a "
            f"quotation mark in double quotes, and double its own. Received: {received}"
        ) from None


def _one_id(similar: str) -> str:
    from kdsr_tf.console import cut

    item_id = similar.strip()
    if not item_id or "\n" in item_id or "\r" in item_id:
        raise click.UsageError(
            f"--similar takes one item id. Received: {cut(similar, _LONGEST_SHOWN)!r}."
        )
    return item_id


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
@_ROOT
@_CERTIFICATE
@_KEY
@_JSON
def skew(
    config: Config,
    dry_run: bool,
    requests: tuple[str, ...],
    samples: int,
    tolerance: float | None,
    model_version: int | None,
    root_certificates: str | None,
    certificate: str | None,
    key: str | None,
    as_json: bool,
) -> None:
    """Compare served with offline scores.

    Requests and answers of TF Serving's request log, or of a live server that is asked
    now (`serve.target`), are replayed through the Keras student they were exported from.
    Exit status 2 where a difference exceeds the tolerance, where a ranking misses more
    than `export.recall_floor` allows (`serve.variant: exact` may miss nothing), or where
    the served version is of another student.
    """
    from kdsr_tf.cli.recommendation_tables import show_skew
    from kdsr_tf.console import console
    from kdsr_tf.errors import KDSRError
    from kdsr_tf.runs.ask_server import ServedModel
    from kdsr_tf.runs.served_skew import find_answers, measure_skew

    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --key belong together.")
    source = find_answers(config, requests, wait=not dry_run)
    if dry_run:
        console.print(f"Would compare answers of {source} with the student's.", markup=False)
        return
    certificates = (root_certificates, certificate, key)
    model = ServedModel(version=model_version, certificates=certificates)
    measured = measure_skew(config, source, requests, samples, tolerance, model)
    show_skew(measured.found, as_json, f"Served by {source}, beside the student")
    if measured.problem is not None:
        raise KDSRError(measured.problem)
