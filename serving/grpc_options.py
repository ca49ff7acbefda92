"""Bounds of the gRPC port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.listener import most_connections

if TYPE_CHECKING:
    from kdsr_tf.config.serving_sections import ServeConfig

_NO_LIMIT = 1 << 30

_FEWEST_CALLS = 64


def most_calls(options: ServeConfig) -> int:
    """Calls that a connection may have at once: as many as fill a batch, or a few more."""
    return max(options.max_batch_size, _FEWEST_CALLS)


def grpc_options(options: ServeConfig) -> list[tuple[str, int]]:
    """Options of a gRPC server."""
    idle_ms = round(1e3 * options.idle_seconds)
    return [
        ("grpc.max_receive_message_length", options.max_request_bytes),
        ("grpc.so_reuseport", 0),
        # gRPC hands calls to Python in the order in which they came. What a connection has beyond
        # this number waits at its client, so that few are before another connection's call.
        ("grpc.max_concurrent_streams", most_calls(options)),
        # With it calls that have ended count for a while, and gRPC itself refuses others.
        ("grpc.http.overload_protection", 0),
        ("grpc.enable_channelz", 1),
        # Beyond these limits gRPC would answer CANCELLED, which nobody retries.
        ("grpc.server.max_pending_requests", _NO_LIMIT),
        ("grpc.server.max_pending_requests_hard_limit", _NO_LIMIT),
        ("grpc.server_max_unrequested_time_in_server", _NO_LIMIT),
        ("grpc.max_allowed_incoming_connections", most_connections()),
        ("grpc.server_handshake_timeout_ms", idle_ms),
        # One that has spoken may rest longer: its client reports the end of it on stderr.
        ("grpc.max_connection_idle_ms", 10 * idle_ms),
        ("grpc.keepalive_time_ms", idle_ms),
        ("grpc.keepalive_timeout_ms", idle_ms),
    ]
