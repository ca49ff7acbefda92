"""The closing act of a run: a real server, a real query, titles instead of ids."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

from kdsr_tf import artifacts, schema, sequences, stages
from kdsr_tf.config import Config
from kdsr_tf.console import console
from kdsr_tf.errors import KDSRError
from kdsr_tf.runs.child_processes import background_child
from kdsr_tf.runs.workdir import write_config

_SAMPLE_K = 10
_POLL_SECONDS = 1.0
_ANSWER_SECONDS = 120.0
_HOST = "127.0.0.1"


class Answered(NamedTuple):
    """A user, the item ids before and after the split, and what is recommended, best first."""

    user_id: str
    history: list[str]
    following: list[str]
    answer: Sequence[tuple[str, float]]


def ask_exported_model(config: Config) -> Answered:
    """Serve the exported model for a moment and ask it for one user's recommendations."""
    user, history, following = sample_user(config)
    k = min(_SAMPLE_K, config.export.k)
    with socket.socket() as free:
        free.bind((_HOST, 0))
        port = free.getsockname()[1]
    # For this process only: no certificate, and no other interface.
    own = {"host": _HOST, "grpc_port": port, "rest_port": "null"}
    own |= dict.fromkeys(("tls_certificate", "tls_key", "tls_client_ca"), "null")
    settings = [part for key, value in own.items() for part in ("--set", f"serve.{key}={value}")]
    with (
        console.status("Asking the exported model over gRPC, once it is loaded (Ctrl-C skips it)"),
        background_child(["serve", "--config", write_config(config), *settings]) as check,
    ):
        answer = _ask(config, f"{_HOST}:{port}", check, history, k)
    return Answered(user, history, following, answer)


def sample_user(config: Config) -> tuple[str, list[str], list[str]]:
    """The first user, by id, whose sequence has both a history and a test part.

    Returns the user's id, the item ids up to the split, and those after it.
    """
    folder = stages.location(config, "sequences")
    names = sequences.read_items(folder, schema.ITEM_ID)[schema.ITEM_ID].to_pylist()
    users = (user for user in sequences.read_users(folder) if 0 < user.num_train < len(user.items))
    first = min(users, key=lambda user: user.user_id, default=None)
    if first is None:
        raise KDSRError(f"{folder} holds no user with both train and test interactions.")
    known = [names[item - 1] for item in first.items]
    return first.user_id, known[: first.num_train], known[first.num_train :]


def read_titles(config: Config) -> dict[str, str]:
    """Item id to title, of the vocabulary and of the new items; empty if there are none."""
    titles: dict[str, str] = {}
    for name in (stages.NEW_ITEMS, "sequences"):
        folder = stages.location(config, name)
        if artifacts.exists(artifacts.join(folder, sequences.ITEMS_FILE)):
            # New items of an earlier release have no titles.
            with contextlib.suppress(ValueError):
                columns = sequences.read_items(folder, schema.ITEM_ID, schema.TITLE).columns
                titles |= zip(*(column.to_pylist() for column in columns), strict=True)
    return titles


def _ask(
    config: Config, target: str, check: Callable[[], None], history: Sequence[str], k: int
) -> Sequence[tuple[str, float]]:
    """The answer of a server that loads its model for as long as it takes."""
    from serving.client import Client, QueryError

    with Client(target, config.serve.model_name, _ANSWER_SECONDS) as client:
        ready = False
        while not ready:
            check()
            with contextlib.suppress(QueryError):
                client.wait_until_ready(_POLL_SECONDS)
                ready = True
        return client.recommend([history], k)[0]
