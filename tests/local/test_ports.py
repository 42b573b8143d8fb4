from __future__ import annotations

import socket

from pipeline.api.http import port_is_free
from pipeline.local.ports import free_ports, free_ports_in_a_row


def test_free_ports_differ_and_nothing_listens_there():
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(port_is_free(f"127.0.0.1:{port}") for port in ports)


def test_ports_in_a_row_pass_over_one_that_is_taken():
    first = free_ports_in_a_row(3)
    with socket.create_server(("127.0.0.1", first + 1)):
        other = free_ports_in_a_row(3)
    assert first + 1 not in range(other, other + 3)
    assert all(port_is_free(f"127.0.0.1:{port}") for port in range(other, other + 3))
