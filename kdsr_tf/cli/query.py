"""`kdsr query`."""

from __future__ import annotations

import csv
import io
import json

import click

from kdsr_tf.cli.options import FILE, Invocation, configured
from kdsr_tf.cli.sample import read_titles, recommendations_table
from kdsr_tf.console import console, cut, output

_HISTORY = (
    "Item ids, oldest first, divided by commas or line ends; one with a comma stands in double "
    "quotes, as in CSV."
)
_LONGEST_SHOWN = 60


@click.command()
@configured(need_config=False)
@click.option("--history", metavar="ID,ID,…", default="", help=_HISTORY)
@click.option("--similar", metavar="ID", help="Ask for items like this one instead.")
@click.option("--with-seen", is_flag=True, help="Items of the history may come back.")
@click.option("--k", type=click.IntRange(min=1), default=10, show_default=True, help="Items.")
@click.option("--rest", is_flag=True, help="Ask over REST instead of gRPC.")
@click.option("--model-version", type=click.IntRange(min=0), help="Version to ask.")
@click.option("--label", help="Label of the version to ask.")
@click.option("--root-certificates", type=FILE, help="PEM file; makes the connection encrypted.")
@click.option("--certificate", type=FILE, help="PEM file: the client's certificate.")
@click.option("--key", type=FILE, help="PEM file: its private key.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON to the standard output.")
def query(
    invocation: Invocation,
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
    as_json: bool,
) -> None:
    """Ask a running server for recommendations.

    An empty history gets the popular items. Titles come from the working
    directory, where there is one.
    """
    from serving.client import Client, Tls, find_target

    if similar is not None and (history or with_seen):
        raise click.UsageError("--similar excludes --history and --with-seen.")
    config = invocation.config
    target = find_target(config, rest)
    item_ids = _item_ids(history) if similar is None else [_one_id(similar)]
    if invocation.dry_run:
        asked = f"like {similar}" if similar is not None else f"after {item_ids}"
        console.print(f"Would ask {target} for {k} items {asked}.", markup=False)
        return
    titles = read_titles(config)
    encrypted = root_certificates or certificate or key or config.serve.tls_certificate
    try:
        tls = Tls(root_certificates, certificate, key) if encrypted else None
        client = Client(
            target,
            config.serve.model_name,
            config.serve.deadline_seconds,
            version=model_version,
            label=label,
            tls=tls,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    with client:
        if similar is None:
            [answer] = client.recommend([item_ids], k, with_seen)
        else:
            [answer] = client.similar_items(item_ids, k)
    unknown = [item for item in item_ids if titles and item not in titles]
    if unknown:
        console.print(f"Not in the catalogue, so ignored: {', '.join(unknown)}", markup=False)
    if as_json:
        rows = [{"item_id": i, "title": titles.get(i), "score": s} for i, s in answer]
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    heading = "Recommended" if similar is None else f"Similar to {similar}"
    output.print(recommendations_table(f"{heading} by {target}", answer, titles))


def _item_ids(history: str) -> list[str]:
    lines = csv.reader(io.StringIO(history, newline=""), skipinitialspace=True, strict=True)
    try:
        return [item for parts in lines for part in parts if (item := part.strip())]
    except csv.Error as error:
        received = cut(history, _LONGEST_SHOWN)
        raise click.UsageError(
            f"--history cannot be read as CSV: {error}. Put an id that holds a comma or a "
            f"quotation mark in double quotes, and double its own. Received: {received}"
        ) from None


def _one_id(similar: str) -> str:
    item_id = similar.strip()
    if not item_id or "\n" in item_id or "\r" in item_id:
        raise click.UsageError(
            f"--similar takes one item id. Received: {cut(similar, _LONGEST_SHOWN)!r}."
        )
    return item_id
