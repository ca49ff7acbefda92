"""Bounds of the gRPC port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.listener import most_connections

if TYPE_CHECKING:
    from kdsr_tf.config.serving_sections import ServeConfig

_NO_LIMIT = 1 << 30
_MOST_STREAMS = 1 << 14


def grpc_options(options: ServeConfig) -> list[tuple[str, int]]:
    """Options of a gRPC server."""
    idle_ms = round(1e3 * options.idle_seconds)
    return [
        ("grpc.max_receive_message_length", options.max_request_bytes),
        ("grpc.so_reuseport", 0),
        # Calls wait here until the event loop takes them. Beyond these limits gRPC would answer
        # CANCELLED, which nobody retries; the batcher's queue is what refuses.
        ("grpc.server.max_pending_requests", _NO_LIMIT),
        ("grpc.server.max_pending_requests_hard_limit", _NO_LIMIT),
        ("grpc.server_max_unrequested_time_in_server", _NO_LIMIT),
        ("grpc.max_concurrent_streams", _MOST_STREAMS),
        ("grpc.enable_channelz", 1),
        ("grpc.max_allowed_incoming_connections", most_connections()),
        ("grpc.server_handshake_timeout_ms", idle_ms),
        # One that has spoken may rest longer: its client reports the end of it on stderr.
        ("grpc.max_connection_idle_ms", 10 * idle_ms),
        ("grpc.keepalive_time_ms", idle_ms),
        ("grpc.keepalive_timeout_ms", idle_ms),
    ]
