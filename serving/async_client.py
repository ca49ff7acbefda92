"""The client of `serving.client`, for asyncio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import tenacity

from serving import queries
from serving.connections import AsyncGrpcConnection, AsyncRestConnection, Tls
from serving.queries import ModelMetadata, Query, Recommendation, VersionStatus
from serving.sessions import Session

T = TypeVar("T")


class AsyncClient:
    """Asks a server from coroutines; arguments, results and errors are those of `Client`.

    Made and used within one event loop; any number of its calls may be under way at once.

    Example:
        ```python
        async with AsyncClient("127.0.0.1:8500") as client:
            first, second = await asyncio.gather(
                client.recommend([["item0001"]], k=5), client.similar_items(["item0007"], k=5)
            )
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
        self._connection = self._session.connect(AsyncGrpcConnection, AsyncRestConnection)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def wait_until_ready(self, timeout_seconds: float = 60.0) -> None:
        """Return once a version of the model is available."""
        poll = tenacity.AsyncRetrying(**self._session.until_ready(timeout_seconds))
        async for attempt in poll:
            with attempt:
                found = await self._connection.send(*self._session.status(timeout_seconds))
                self._session.require_available(found)

    async def recommend(
        self, histories: Sequence[Sequence[str]], k: int = 10, with_seen: bool = False
    ) -> list[list[Recommendation]]:
        """See `Client.recommend`."""
        return await self._ask(queries.recommend(histories, k, with_seen))

    async def similar_items(
        self, item_ids: Sequence[str], k: int = 10
    ) -> list[list[Recommendation]]:
        """See `Client.similar_items`."""
        return await self._ask(queries.similar_items(item_ids, k))

    async def score(
        self, histories: Sequence[Sequence[str]], candidates: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """See `Client.score`."""
        return await self._ask(queries.score(histories, candidates))

    async def embed(self, histories: Sequence[Sequence[str]]) -> np.ndarray:
        """See `Client.embed`."""
        return await self._ask(queries.embed(histories))

    async def status(self) -> list[VersionStatus]:
        """See `Client.status`."""
        return await self._connection.send(*self._session.status())

    async def metadata(self) -> ModelMetadata:
        """See `Client.metadata`."""
        return await self._connection.send(*self._session.metadata())

    async def _ask(self, query: Query[T]) -> T:
        return await self._connection.send(*self._session.predict(query))
