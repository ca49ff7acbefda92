"""`kdsr query`."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import TYPE_CHECKING

import click

from kdsr_tf.cli.sample import read_titles, recommendations_table
from kdsr_tf.cli.waiting import ask_when_ready
from kdsr_tf.config import Config
from kdsr_tf.console import console, cut, output

if TYPE_CHECKING:
    from serving.client import Client, Recommendation

_LONGEST_SHOWN = 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked, and how.

    Args:
        history: Item ids, oldest first, as CSV.
        similar: Item id whose neighbours are wanted instead.
        with_seen: Whether items of the history may come back.
        k: Number of items.
        rest: Ask over REST.
        model_version: Number of the version to ask.
        label: Label of the version to ask.
        root_certificates: PEM file of the authorities; makes the connection encrypted.
        certificate: PEM file with the client's certificate.
        key: PEM file with its private key.
        wait_seconds: Longest wait for a server that is starting; None waits while it lives.
        as_json: Print JSON.
    """

    history: str
    similar: str | None
    with_seen: bool
    k: int
    rest: bool
    model_version: int | None
    label: str | None
    root_certificates: str | None
    certificate: str | None
    key: str | None
    wait_seconds: float | None
    as_json: bool

    def item_ids(self) -> list[str]:
        """The history, or the one item whose neighbours are wanted."""
        return _item_ids(self.history) if self.similar is None else [_one_id(self.similar)]


def query(config: Config, dry_run: bool, asked: Asked) -> None:
    """Ask a running server for recommendations and print them."""
    if asked.similar is not None and (asked.history or asked.with_seen):
        raise click.UsageError("--similar excludes --history and --with-seen.")
    item_ids = asked.item_ids()
    if dry_run:
        from serving.client import find_target

        what = f"like {item_ids[0]}" if asked.similar is not None else f"after {item_ids}"
        target = find_target(config, asked.rest)
        console.print(f"Would ask {target} for {asked.k} items {what}.", markup=False)
        return

    def ask(target: str) -> tuple[str, list[Recommendation], list[str]]:
        with _client(config, target, asked) as client:
            if asked.similar is None:
                [answer] = client.recommend([item_ids], asked.k, asked.with_seen)
            else:
                [answer] = client.similar_items(item_ids, asked.k)
            return target, answer, _unknown(client, item_ids)

    target, answer, unknown = ask_when_ready(config, asked.rest, asked.wait_seconds, ask)
    titles = read_titles(config)
    if unknown:
        console.print(f"Unknown to the model, so ignored: {', '.join(unknown)}", markup=False)
    if asked.as_json:
        rows = [{"item_id": i, "title": titles.get(i), "score": s} for i, s in answer]
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    heading = "Recommended" if asked.similar is None else f"Similar to {asked.similar}"
    output.print(recommendations_table(f"{heading} by {target}", answer, titles))


def _client(config: Config, target: str, asked: Asked) -> Client:
    from serving.client import Client, Tls

    files = (asked.root_certificates, asked.certificate, asked.key)
    try:
        tls = Tls(*files) if any(files) or config.serve.tls_certificate else None
        return Client(
            target,
            config.serve.model_name,
            config.serve.deadline_seconds,
            version=asked.model_version,
            label=asked.label,
            tls=tls,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _unknown(client: Client, item_ids: list[str]) -> list[str]:
    """Those ids that the served model, which new items may have joined, does not know."""
    from serving.client import QueryError

    distinct = list(dict.fromkeys(item_ids))
    if not distinct:
        return []
    try:
        # Every known item, also one that is never recommended, has a neighbour.
        found = client.similar_items(distinct, 1)
    except QueryError:  # a model of another kind; it has answered what it was asked
        return []
    return [item for item, neighbours in zip(distinct, found, strict=True) if not neighbours]


def _item_ids(history: str) -> list[str]:
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
    item_id = similar.strip()
    if not item_id or "\n" in item_id or "\r" in item_id:
        raise click.UsageError(
            f"--similar takes one item id. Received: {cut(similar, _LONGEST_SHOWN)!r}."
        )
    return item_id
