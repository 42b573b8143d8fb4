"""Whether a Kafka broker answers, asked over the socket: at once, without a client's retries."""

from __future__ import annotations

import socket
import ssl
import struct

from pipeline.api.http import split_address

_API_VERSIONS_REQUEST = struct.pack(">hhih", 18, 0, 1, -1)
"""Key 18, version 0, correlation id 1, no client id (Kafka protocol guide, request header v1)."""


def answers(address: str, timeout: float = 2.0, context: ssl.SSLContext | None = None) -> bool:
    """Whether a Kafka broker at `address` answers a request for its versions."""
    try:
        with _connected(split_address(address), timeout, context) as connection:
            size = struct.pack(">i", len(_API_VERSIONS_REQUEST))
            connection.sendall(size + _API_VERSIONS_REQUEST)
            reply = connection.recv(10)
    except OSError:
        return False
    # size, correlation id, error code
    return len(reply) == 10 and struct.unpack(">iih", reply)[1:] == (1, 0)


def _connected(
    address: tuple[str, int], timeout: float, context: ssl.SSLContext | None
) -> socket.socket:
    plain = socket.create_connection(address, timeout)
    if context is None:
        return plain
    try:
        return context.wrap_socket(plain, server_hostname=address[0])
    except BaseException:
        plain.close()
        raise
