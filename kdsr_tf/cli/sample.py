"""The closing act of a run: a real server, a real query, titles instead of ids."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Sequence

from rich.table import Table

from kdsr_tf import artifacts, schema, sequences, stages
from kdsr_tf.cli.children import background_child
from kdsr_tf.config import Config
from kdsr_tf.console import console, cut, table
from kdsr_tf.errors import KDSRError

_SAMPLE_K = 10
_LONGEST_SHOWN = 8
_LONGEST_TITLE = 100
_START_SECONDS = 90.0
_POLL_SECONDS = 1.0


def read_titles(config: Config) -> dict[str, str]:
    """Item id to title, from the vocabulary; empty if there is none."""
    folder = stages.location(config, "sequences")
    if not artifacts.exists(artifacts.join(folder, sequences.ITEMS_FILE)):
        return {}
    columns = sequences.read_items(folder, schema.ITEM_ID, schema.TITLE).columns
    return dict(zip(*(column.to_pylist() for column in columns), strict=True))


def sample_user(config: Config) -> tuple[str, list[str], list[str]]:
    """The first user, by id, whose sequence has both a history and a test part.

    Returns:
        The user's id, the item ids up to the split, and those after it.

    Raises:
        KDSRError: if there is no such user.
    """
    folder = stages.location(config, "sequences")
    names = sequences.read_items(folder, schema.ITEM_ID)[schema.ITEM_ID].to_pylist()
    users = (user for user in sequences.read_users(folder) if 0 < user.num_train < len(user.items))
    first = min(users, key=lambda user: user.user_id, default=None)
    if first is None:
        raise KDSRError(f"{folder} holds no user with both train and test interactions.")
    known = [names[item - 1] for item in first.items]
    return first.user_id, known[: first.num_train], known[first.num_train :]


def show_sample(config: Config, config_path: str) -> None:
    """Serve the exported model for a moment and print one user's recommendations.

    Raises:
        KDSRError: if the server does not start or does not answer.
    """
    user, history, following = sample_user(config)
    k = min(_SAMPLE_K, config.export.k)
    with socket.socket() as free:
        free.bind((config.serve.host, 0))
        port = free.getsockname()[1]
    ports = ("--set", f"serve.grpc_port={port}", "--set", "serve.rest_port=null")
    arguments = ["serve", "--config", config_path, *ports]
    with (
        console.status("Asking the exported model over gRPC"),
        background_child(arguments) as check,
    ):
        answer = _ask(config, f"{config.serve.host}:{port}", check, history, k)
    titles = read_titles(config)
    shown = history[-_LONGEST_SHOWN:]
    dropped = len(history) - len(shown)
    earlier = f" (after {dropped} earlier ones)" if dropped else ""
    console.print(items_table(f"What user {user} took{earlier}", shown, titles))
    console.print(items_table(f"What user {user} took next", following[:_LONGEST_SHOWN], titles))
    console.print(recommendations_table(f"Recommended to user {user}", answer, titles))


def _ask(
    config: Config, target: str, check: Callable[[], None], history: Sequence[str], k: int
) -> list[tuple[str, float]]:
    from serving.client import Client, QueryError

    deadline = time.monotonic() + _START_SECONDS
    with Client(target, config.serve.model_name, config.serve.deadline_seconds) as client:
        while True:
            check()
            try:
                client.wait_until_ready(_POLL_SECONDS)
                break
            except QueryError:
                if time.monotonic() > deadline:
                    raise
        return client.recommend([history], k)[0]


def items_table(title: str, item_ids: Sequence[str], titles: dict[str, str]) -> Table:
    """Items with their titles."""
    return table(title, ("item", "title"), [(i, _title(i, titles)) for i in item_ids])


def recommendations_table(
    title: str, recommendations: Iterable[tuple[str, float]], titles: dict[str, str]
) -> Table:
    """Ranked items with titles and scores.

    Args:
        title: Shown above the table.
        recommendations: Pairs of item id and score, best first.
        titles: Item id to title.
    """
    rows = [
        (rank, item, _title(item, titles), f"{score:.3f}")
        for rank, (item, score) in enumerate(recommendations, start=1)
    ]
    return table(title, ("rank", "item", "title", "score"), rows)


def _title(item_id: str, titles: dict[str, str]) -> str:
    return cut(titles.get(item_id, ""), _LONGEST_TITLE)
