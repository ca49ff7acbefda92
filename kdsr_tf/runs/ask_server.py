"""Asking a server, which may still be loading its model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from kdsr_tf.config import Config
from kdsr_tf.console import console
from kdsr_tf.errors import ConfigError, KDSRError

if TYPE_CHECKING:
    from serving.client import Client, Recommendation, Tls

T = TypeVar("T")

_POLL_SECONDS = 0.2
_FIRST_LOOK_SECONDS = 10.0
"""A `kdsr serve` that was typed a moment ago may need as long to say that it starts."""


class ServedModel(NamedTuple):
    """What is asked, and how it is reached.

    `certificates` are PEM files of the authorities, of the client's certificate and of its private
    key; one of them makes the connection encrypted.
    """

    rest: bool = False
    version: int | None = None
    label: str | None = None
    certificates: tuple[str | None, str | None, str | None] = (None, None, None)

    def tls(self, config: Config) -> Tls | None:
        """The certificates; None where nothing says that the connection is encrypted."""
        from serving.client import Tls

        is_encrypted = any(self.certificates) or config.serve.tls_certificate
        return Tls(*self.certificates) if is_encrypted else None


class Answer(NamedTuple):
    """Recommendations of a server, best first, and the asked ids that its model does not know."""

    target: str
    items: list[Recommendation]
    unknown: list[str]


def ask(
    config: Config,
    model: ServedModel,
    item_ids: Sequence[str],
    k: int,
    similar: bool = False,
    with_seen: bool = False,
    limit_seconds: float | None = None,
) -> Answer:
    """Ask for recommendations, and wait while the server starts; see `ask_when_ready`.

    `item_ids` are a history, or the one item whose neighbours are wanted (`similar`). `with_seen`
    says whether items of the history may come back, `limit_seconds` how long to wait for a server
    that starts; None waits while it lives.
    """

    def ask_at(target: str) -> Answer:
        with _client(config, target, model) as client:
            if similar:
                [items] = client.similar_items(item_ids, k)
            else:
                [items] = client.recommend([item_ids], k, with_seen)
            return Answer(target, items, _unknown(client, item_ids))

    return ask_when_ready(config, model.rest, limit_seconds, ask_at)


def find_target(config: Config, rest: bool) -> str:
    """Address of the server a configuration speaks of."""
    from serving import client

    return client.find_target(config, rest)


def _client(config: Config, target: str, model: ServedModel) -> Client:
    from serving.client import Client

    try:
        return Client(
            target,
            config.serve.model_name,
            config.serve.deadline_seconds,
            version=model.version,
            label=model.label,
            tls=model.tls(config),
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _unknown(client: Client, item_ids: Sequence[str]) -> list[str]:
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


def ask_when_ready(
    config: Config, rest: bool, limit_seconds: float | None, ask: Callable[[str], T]
) -> T:
    """Call `ask` with the address of a configuration's server, and wait for it while it starts.

    A local server says in its working directory what it does until it is ready, so that
    `kdsr serve … &` and `kdsr query …` may be typed right after one another.

    Raises:
        KDSRError: if there is no server, if it ended before it was ready, or after the limit.
    """
    import grpc

    from serving.client import NoServerError, QueryError, find_target
    from serving.starting import find_starting

    if config.serve.target or "://" in config.workdir:
        return ask(find_target(config, rest))
    first_look = time.monotonic() + _FIRST_LOOK_SECONDS
    while True:
        wait_until_started(config.run_directory, limit_seconds)
        try:
            return ask(find_target(config, rest))
        except (QueryError, NoServerError) as error:
            unavailable = getattr(error, "code", None) in (None, grpc.StatusCode.UNAVAILABLE)
            may_start = time.monotonic() < first_look or find_starting(config.run_directory)
            if not (unavailable and may_start):
                raise
            time.sleep(_POLL_SECONDS)


def wait_until_started(directory: str, limit_seconds: float | None) -> None:
    """Return once no server of a run's folder is starting, and say what is waited for.

    `KDSRError` if the server ended before it was ready, or after the limit.
    """
    from serving.starting import find_starting

    started, said, last = time.monotonic(), "", None
    while (found := find_starting(directory)) is not None:
        last = found
        if found.doing != said:
            said = found.doing
            console.print(
                f"Waiting for `kdsr serve` (process {found.pid}), which is {said}.", markup=False
            )
        if limit_seconds is not None and time.monotonic() - started >= limit_seconds:
            raise KDSRError(
                f"`kdsr serve` (process {found.pid}) is still {said} after {limit_seconds:g} s "
                "(--wait). Ask again later, or wait longer."
            )
        time.sleep(_POLL_SECONDS)
    if last is not None and not last.is_alive():
        raise KDSRError(
            f"`kdsr serve` (process {last.pid}) ended before it was ready, while {last.doing}. "
            "Its own message says why."
        )
