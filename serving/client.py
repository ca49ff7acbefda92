"""A client of TF Serving and of the local server, with typed results.

It needs neither TensorFlow nor Keras. gRPC and REST have one interface; the target says
which it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import tenacity

from kdsr_tf.errors import KDSRError
from serving import queries
from serving.connections import GrpcConnection, RestConnection, Tls
from serving.queries import (
    ModelMetadata,
    Query,
    QueryError,
    Recommendation,
    SignatureSpec,
    TensorSpec,
    VersionStatus,
)
from serving.sessions import Session

if TYPE_CHECKING:
    from kdsr_tf.config import Config

__all__ = [
    "ADDRESS_FILE",
    "Client",
    "ModelMetadata",
    "NoServerError",
    "QueryError",
    "Recommendation",
    "SignatureSpec",
    "TensorSpec",
    "Tls",
    "VersionStatus",
    "find_target",
]

T = TypeVar("T")

ADDRESS_FILE = "server.json"
"""In the working directory while a local server runs."""


def find_target(config: Config, rest: bool = False) -> str:
    """Address of the server, of gRPC or of REST, a configuration speaks of, as `Client` takes it.

    `serve.target` where it is given, else `serve.host` with `serve.grpc_port` or
    `serve.rest_port`; where the port is 0, the address the running local server wrote into
    the working directory.

    Raises:
        NoServerError: if the port is 0 and no local server is ready.
        KDSRError: if REST is off.
    """
    options = config.serve
    scheme = "https://" if options.tls_certificate else "http://"
    if options.target:
        return scheme + options.target if rest and "://" not in options.target else options.target
    port = options.rest_port if rest else options.grpc_port
    if port is None:
        raise KDSRError("REST is off: `serve.rest_port` is null. Set a port, or use gRPC.")
    if port:
        return f"{scheme if rest else ''}{options.host}:{port}"
    path = os.path.join(config.run_directory, ADDRESS_FILE)
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)["rest_url" if rest else "target"]
    except FileNotFoundError:
        raise NoServerError(
            f"{path} does not exist, so no local server runs. Start `kdsr serve`, or set "
            "`serve.target`."
        ) from None


class NoServerError(KDSRError):
    """No local server has said where it is."""


class Client:
    """Asks a server over connections kept open between calls; safe to share by threads.

    A call is tried again, with backoff, only when the server was unavailable (gRPC's
    UNAVAILABLE; over REST a 503 or a failed connection), and never beyond its deadline.

    Args:
        target: `host:port` for gRPC, or another name of gRPC's, such as `dns:///host:port`, whose
            addresses share the calls; `http://host:port` or `https://host:port` for REST.
        model_name: Name of the model.
        timeout_seconds: Deadline of a call, > 0.
        version: Number of the version to ask; None is the one the server chooses.
        label: Label of the version to ask, instead of its number.
        tls: Files of an encrypted connection; None is an unencrypted one for gRPC, and the
            system's authorities for `https`.

    Raises:
        ValueError: if `version` and `label` are both given, or an argument has no meaning.

    Example:
        ```python
        with Client("127.0.0.1:8500") as client:
            [best] = client.recommend([["item0001", "item0007"]], k=5)
            print(best[0].item_id, best[0].score)
        ```
    """

    def __init__(
        self,
        target: str,
        model_name: str = "kdsr",
        timeout_seconds: float = 5.0,
        *,
        version: int | None = None,
        label: str | None = None,
        tls: Tls | None = None,
    ) -> None:
        self._session = Session(target, model_name, timeout_seconds, version, label, tls)
        self._connection = self._session.connect(GrpcConnection, RestConnection)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def wait_until_ready(self, timeout_seconds: float = 60.0) -> None:
        """Return once a version of the model is available; `QueryError` if none is in time."""
        for attempt in tenacity.Retrying(**self._session.until_ready(timeout_seconds)):
            with attempt:
                found = self._connection.send(*self._session.status(timeout_seconds))
                self._session.require_available(found)

    def recommend(
        self, histories: Sequence[Sequence[str]], k: int = 10, with_seen: bool = False
    ) -> list[list[Recommendation]]:
        """The best items for each history.

        Args:
            histories: Item ids, oldest first; unknown ids are ignored and an empty
                history gets the popular items.
            k: Items per history, from 1 to the `export.k` of the model.
            with_seen: Whether items of the history may come back.

        Returns:
            One list per history, best first; shorter than `k` where the catalogue is
            exhausted.

        Raises:
            QueryError: if the call fails.
            KDSRError: if `k` is out of range.
        """
        return self._ask(queries.recommend(histories, k, with_seen))

    def similar_items(self, item_ids: Sequence[str], k: int = 10) -> list[list[Recommendation]]:
        """The items most like each given item; none for an unknown one.

        Args:
            item_ids: Item ids.
            k: Items per answer, from 1 to the `export.k` of the model.
        """
        return self._ask(queries.similar_items(item_ids, k))

    def score(
        self, histories: Sequence[Sequence[str]], candidates: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """The score of each candidate after each history; −inf for an unknown one.

        Args:
            histories: Item ids, oldest first.
            candidates: Item ids, one list per history.
        """
        return self._ask(queries.score(histories, candidates))

    def embed(self, histories: Sequence[Sequence[str]]) -> np.ndarray:
        """User vectors, float32 `(number of histories, dim)`."""
        return self._ask(queries.embed(histories))

    def status(self) -> list[VersionStatus]:
        """State of each version the server knows."""
        return self._connection.send(*self._session.status())

    def metadata(self) -> ModelMetadata:
        """The version that answers, and its signatures."""
        return self._connection.send(*self._session.metadata())

    def _ask(self, query: Query[T]) -> T:
        return self._connection.send(*self._session.predict(query))
