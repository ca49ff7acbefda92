"""Certificates of the local server, for both ports."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import grpc

from kdsr_tf.errors import KDSRError

if TYPE_CHECKING:
    from kdsr_tf.config.serving_sections import ServeConfig


def grpc_credentials(options: ServeConfig) -> grpc.ServerCredentials | None:
    """Of the gRPC port; None where no certificate is configured.

    `KDSRError` if a file cannot be read or certificate and key do not belong together.
    """
    if options.tls_certificate is None:
        return None
    # gRPC would take any bytes and fail at the first connection.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(options.tls_certificate, options.tls_key, password="")
        if options.tls_client_ca is not None:
            context.load_verify_locations(options.tls_client_ca)
    except (OSError, ssl.SSLError) as error:
        raise KDSRError(
            "Cannot use the certificate of `serve.tls_certificate` "
            f"({options.tls_certificate}), `serve.tls_key` ({options.tls_key}) and "
            f"`serve.tls_client_ca` ({options.tls_client_ca}): {error}. "
            "They must be PEM files, the key without a password and made for the certificate."
        ) from error
    return grpc.ssl_server_credentials(
        [(read_file(options.tls_key), read_file(options.tls_certificate))],
        read_file(options.tls_client_ca),
        require_client_auth=options.tls_client_ca is not None,
    )


def http_options(options: ServeConfig) -> dict[str, Any]:
    """Of the REST port, as uvicorn takes them."""
    if options.tls_certificate is None:
        return {}
    return {
        "ssl_certfile": options.tls_certificate,
        "ssl_keyfile": options.tls_key,
        "ssl_ca_certs": options.tls_client_ca,
        "ssl_cert_reqs": ssl.CERT_NONE if options.tls_client_ca is None else ssl.CERT_REQUIRED,
    }


def read_file(path: str | None) -> bytes | None:
    """The bytes of a file, if there is one."""
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()
