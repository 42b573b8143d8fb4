"""What Faust wants to know to reach Kafka, from what all other clients are told."""

from __future__ import annotations

import faust
from faust.types.auth import CredentialsT

from pipeline.brokers import Connection


def credentials_of(connection: Connection) -> CredentialsT | None:
    """Faust's `broker_credentials`; None for brokers without TLS and login."""
    context = connection["ssl_context"]
    if connection["sasl_mechanism"]:
        return faust.SASLCredentials(
            username=connection["sasl_plain_username"],
            password=connection["sasl_plain_password"],
            ssl_context=context,
            mechanism=connection["sasl_mechanism"],
        )
    return faust.SSLCredentials(context=context) if context is not None else None
