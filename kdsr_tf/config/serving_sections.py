"""Sections of the export and of the server."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from kdsr_tf.config.section import (
    NonNegativeFloat,
    NonNegativeInt,
    PathText,
    PositiveFloat,
    PositiveInt,
    Section,
)

Port = Annotated[int, pydantic.Field(ge=0, le=65535)]


class ExportConfig(Section):
    """The SavedModel and its index.

    Args:
        k: Items per answer, fixed in the graph.
        max_exclusions: Most items of a history the index overfetches for.
        num_leaves: Partitions of the ScaNN index; None chooses from the
            catalogue's size, below 100,000 items none. Below 256 there are never any.
        num_leaves_to_search: Partitions searched per query; None chooses.
        num_reordering_candidates: Candidates rescored exactly; None chooses.
        similar_items_space: Vectors behind `similar_items`.
        recall_floor: Least recall@k of the index against exact search.
        keep_versions: Versions kept on disk.
        exact_table: How the `exact` variant stores the vectors it searches: `float16`
            halves them and `int8` quarters them, at a small cost of recall.
        allow_items: Local path or URI of a text file with one item id per line: only
            these come back from any signature. None allows all.
        deny_items: File of items that never come back. In a history they still count.
        add_items: Local path or URI of new items in the format of the catalogue. They
            enter by only their texts, pictures or vectors, without training.
        added_items_boost: Factor of the length of their ids, and so of their scores: above
            1 they are recommended more, at the cost of all others. Under
            `model.logit_scale` scores do not grow with it.
        request_log_rate: Share of requests that `request_log.config` has a TF Serving
            log that can (the stock image cannot).
    """

    k: PositiveInt = 100
    max_exclusions: NonNegativeInt = 200
    num_leaves: PositiveInt | None = None
    num_leaves_to_search: PositiveInt | None = None
    num_reordering_candidates: PositiveInt | None = None
    similar_items_space: Literal["fused", "image", "text", "id"] = "fused"
    recall_floor: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.99
    keep_versions: PositiveInt = 3
    exact_table: Literal["float32", "float16", "int8"] = "float32"
    allow_items: PathText | None = None
    deny_items: PathText | None = None
    add_items: PathText | None = None
    added_items_boost: PositiveFloat = 1.0
    request_log_rate: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.01


class ServeConfig(Section):
    """The local server.

    Args:
        model_name: Name clients ask for.
        variant: `scann`, or `exact` (stock TensorFlow operations only).
        host: Interface to listen on.
        grpc_port: Port of gRPC; 0 chooses a free one.
        rest_port: Port of REST and of the Prometheus metrics; 0 chooses a free one, null
            turns both off.
        target: Address `kdsr query` connects to; None is this host and port.
        deadline_seconds: Longest wait of a client for an answer.
        num_versions: Newest versions kept loaded; the newest answers by default.
        version_labels: Labels clients may ask for, and the versions they stand for; these
            are kept loaded too: `{stable: 3, canary: 4}`.
        poll_seconds: Time between two looks for a new version.
        max_batch_size: Histories computed at once, and calls of a gRPC connection at once,
            which are at least 64; its client keeps further ones.
        max_batch_elements: Item ids computed at once, and the most of one row: histories
            and candidates, with padding.
        batch_timeout_ms: Longest wait of a request for others to share its batch, in
            milliseconds. With 0 a batch is what arrived while others were computed.
        batch_threads: Batches computed at once.
        queue_rows: Histories that may wait to be computed; more are refused
            (UNAVAILABLE, HTTP 503). So are calls of a gRPC connection that stays at its limit
            while so many of them end, or for five seconds.
        queue_elements: Item ids that may wait to be computed, with padding; more are refused.
        max_request_bytes: Longest request of either protocol.
        idle_seconds: A connection is closed after this time without a request under way,
            also where a request has begun and its headers do not end.
        rest_timeout_seconds: Longest time for a request to arrive, and for one of REST to be
            answered; a gRPC request brings its own deadline.
        drain_seconds: Longest wait for calls under way when the server is told to stop.
        tls_certificate: PEM file with the server's certificate chain; encrypts both ports.
        tls_key: PEM file with its private key.
        tls_client_ca: PEM file with the authorities whose certificates clients must show;
            None asks clients for none.
    """

    model_name: str = "kdsr"
    variant: Literal["scann", "exact"] = "scann"
    host: str = "127.0.0.1"
    grpc_port: Port = 8500
    rest_port: Port | None = 8501
    target: str | None = None
    deadline_seconds: PositiveFloat = 5.0
    num_versions: PositiveInt = 1
    version_labels: dict[str, NonNegativeInt] = pydantic.Field(default_factory=dict)
    poll_seconds: PositiveFloat = 1.0
    max_batch_size: PositiveInt = 64
    max_batch_elements: PositiveInt = 1 << 16
    batch_timeout_ms: NonNegativeFloat = 0.0
    batch_threads: PositiveInt = 2
    queue_rows: PositiveInt = 2048
    queue_elements: PositiveInt = 1 << 19
    max_request_bytes: PositiveInt = 4 << 20
    idle_seconds: PositiveFloat = 60.0
    rest_timeout_seconds: PositiveFloat = 30.0
    drain_seconds: NonNegativeFloat = 10.0
    tls_certificate: PathText | None = None
    tls_key: PathText | None = None
    tls_client_ca: PathText | None = None

    @pydantic.model_validator(mode="after")
    def _check_tls(self) -> ServeConfig:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("`tls_certificate` and `tls_key` must be given together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("`tls_client_ca` needs `tls_certificate` and `tls_key`")
        return self
