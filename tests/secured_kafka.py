"""A real Kafka that speaks PLAINTEXT, TLS with certificates on both sides, and TLS with logins."""

from __future__ import annotations

from pathlib import Path

from kafka.admin import (
    KafkaAdminClient,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from pipeline.local.kafka import LocalKafka
from pipeline.settings import KafkaSettings, Settings
from tests.certificates import Certificates

USER = "watchkeeper"

_SECURED = """
listeners=PLAINTEXT://{plain},CONTROLLER://{controller},TLS://{tls},LOGIN://{login}
advertised.listeners=PLAINTEXT://{plain},TLS://{tls},LOGIN://{login}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,LOGIN:SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
listener.name.tls.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.login.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.\
PlainLoginModule required user_{user}="{password}";
listener.name.login.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.\
ScramLoginModule required;
listener.name.login.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.\
ScramLoginModule required;
"""


class SecuredKafka(LocalKafka):
    """`address` speaks PLAINTEXT; `tls` and `login` are what this is for."""

    def __init__(
        self, folder: Path, ports: list[int], certificates: Certificates, password: str
    ) -> None:
        plain, self._controller, tls, login = (f"127.0.0.1:{port}" for port in ports)
        super().__init__(folder, plain, controller_port=ports[1], heap_mb=256, quick=True)
        self.tls, self.login = tls, login
        self.certificates = certificates
        self._password = password

    def _write_properties(self, name: str, log_dir: Path) -> Path:
        path = super()._write_properties(name, log_dir)
        keystore = path.parent / "keystore.pem"
        pair = [Path(file).read_text() for file in (self.certificates.key, self.certificates.cert)]
        keystore.write_text("".join(pair))
        secured = _SECURED.format(
            plain=self.address,
            controller=self._controller,
            tls=self.tls,
            login=self.login,
            keystore=keystore,
            ca=self.certificates.ca,
            user=USER,
            password=self._password,
        )
        path.write_text(path.read_text() + secured)
        return path

    def add_scram_user(self) -> None:
        """Give the user of PLAIN logins a password for SCRAM, too."""
        admin = KafkaAdminClient(bootstrap_servers=[self.address])
        try:
            kinds = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
            for kind in kinds:
                admin.alter_user_scram_credentials(
                    [UserScramCredentialUpsertion(USER, kind, self._password)]
                )
        finally:
            admin.close()

    def settings(self, data: Path, **login: object) -> Settings:
        """Settings that reach this broker over TLS with `login`."""
        kafka = KafkaSettings(ssl_ca_file=self.certificates.ca, **login)  # type: ignore[arg-type]  # keywords of its fields
        address = self.login if kafka.security_protocol == "SASL_SSL" else self.tls
        return Settings(data=str(data), brokers=(address,), kafka=kafka)
