"""Settings: `watchkeeper.toml` and the environment, checked once, every problem reported together.

Each section of the file is a frozen struct below; a field's default is the setting's default, its
docstring line the documentation. The environment overrides the file: `WATCHKEEPER_BROKERS` for a
key at the top level, `WATCHKEEPER_RULES_PROMETHEUS` for `prometheus` in `[rules]`. Lists are
separated by commas there. A `Secret` comes from the environment alone, or from a file that another
setting names.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from pipeline.secret import Secret

ENVIRONMENT_PREFIX = "WATCHKEEPER_"

Positive = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class SettingsError(ValueError):
    """Settings that can't be used; `problems` has one line for each, with its place."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class KafkaSettings(msgspec.Struct, frozen=True):
    """Topics, and the local broker that `watchkeeper kafka` runs."""

    partitions: Count = 4
    """Partitions of `telemetry` and `signals`. Fixed when the topics are created."""
    replication: Count = 1
    telemetry_retention_hours: Positive = 24.0
    signals_retention_hours: Positive = 6.0
    topic_prefix: str = ""
    """Put before every topic's and group's name, so that stacks can share a cluster."""
    controller_port: Port = 19093
    """Of the local broker; its own port is that of the first of `brokers`."""
    heap_mb: Count = 384
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How the brokers are spoken to; a local broker speaks PLAINTEXT."""
    ssl_ca_file: str = ""
    """PEM; empty: the authorities that the system trusts."""
    ssl_certificate_file: str = ""
    ssl_key_file: str = ""
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    sasl_username: str = ""
    sasl_password_file: str = ""
    sasl_password: Secret = Secret()
    """Only by the environment: `WATCHKEEPER_KAFKA_SASL_PASSWORD`."""


class ClockSettings(msgspec.Struct, frozen=True):
    """Event time. Only a simulation runs faster than the wall clock."""

    speed: Positive = 1.0
    origin: NonNegative = 0.0
    """Wall time (Unix seconds) at which event time and wall time were equal; 0 at speed 1."""


class CollectSettings(msgspec.Struct, frozen=True):
    """The collector."""

    listen: str = "127.0.0.1:9464"
    scrape_config: str = ""
    """A Prometheus configuration file whose `scrape_configs` are scraped; empty: none."""
    feeds_config: str = ""
    """A YAML file of WebSocket and health feeds; empty: none."""
    host: bool = True
    """Watch this machine: node_exporter when it answers at `node_exporter`, else built in."""
    node_exporter: str = "127.0.0.1:9100"
    host_interval: Positive = 5.0
    batch_bytes: Count = 262144
    batch_ms: NonNegative = 3.0
    """The longest a frame waits for others of its partition."""
    buffer_bytes: Count = 64 * 1024 * 1024
    """Frames that wait for the broker in memory; beyond it, or after a second, they go to disk."""
    buffer_folder: str = ""
    """Where frames wait while the broker is away, also for a restart; empty: `buffer` in `data`."""
    disk_buffer_bytes: Count = 1024 * 1024 * 1024
    """Of frames on disk; beyond it the oldest are dropped and counted by target."""
    max_body_bytes: Count = 32 * 1024 * 1024
    max_series_per_target: Count = 100_000
    name: str = ""
    """Identity of this collector in its ticks; empty: host name."""


class DetectSettings(msgspec.Struct, frozen=True):
    """Anomaly detection."""

    publish_above: NonNegative = 0.7
    """Scores at or above this go to `signals`; the others are only used by rules.

    By the detector's calibration one sample in 500 scores above 0.5, one in 10,000 above 0.7.
    """
    warmup_samples: Count = 60
    exclude: tuple[str, ...] = ()
    """Names of metrics that are not scored."""


class RulesSettings(msgspec.Struct, frozen=True):
    """Rule files and their evaluation."""

    files: tuple[str, ...] = ("alert_rules/*.yml",)
    """Globs; files that end in `_test.yml` are unit tests and left out."""
    evaluate: Literal["arrival", "grid"] = "arrival"
    """`arrival`: at each frame as well as on the group's grid; `grid`: on the grid alone."""
    prometheus: Literal["2", "3"] = "3"
    """The major version of Prometheus whose semantics rules have."""
    evaluation_interval: Positive = 15.0
    """Of groups that name none."""
    external_labels: dict[str, str] = {}
    external_url: str = "http://127.0.0.1:9090"


class WorkerSettings(msgspec.Struct, frozen=True):
    """The stream processor."""

    listen: str = "127.0.0.1:9465"
    name: str = ""
    """Static membership of the consumer group; empty: made from the host name and the port."""
    resend_interval: Positive = 30.0
    firing_valid_for: Positive = 240.0
    """`endsAt` of a firing report is this many seconds ahead."""
    replay: NonNegative = 900.0
    """A worker that is given a partition first reads this many seconds of its records again."""
    stuck_after: Positive = 60.0
    """A worker that has lag and has committed nothing for this long ends, to be started anew. For a
    partition that it restores, or while others move, it has ten times as long."""
    snapshots: str = ""
    """A folder or any fsspec URL for snapshots of state; empty: `snapshots` in the data folder."""
    snapshot_interval: Positive = 30.0
    forget_after: Positive = 3600.0
    """State of series that are not seen for this many seconds of event time is dropped.

    Never before all rules have: the longest look-back and ten minutes is the least.
    """
    tick_timeout: Positive = 30.0
    """A collector that has not ticked for this long doesn't hold the watermark back."""


class DispatchSettings(msgspec.Struct, frozen=True):
    """The dispatcher."""

    listen: str = "127.0.0.1:9093"
    config_file: str = ""
    """An Alertmanager configuration; empty: everything goes to the local receiver."""
    database: str = ""
    """An SQLAlchemy URL; empty: SQLite in the data folder."""
    local_receiver: str = "http://127.0.0.1:9469/notify"
    """Where the built-in configuration sends; `watchkeeper up` listens there."""
    mark_lifetime: Positive = 60.0
    """Without a mark of the worker for this long, its backstop decides."""


class ExportSettings(msgspec.Struct, frozen=True):
    """The exporter."""

    listen: str = "127.0.0.1:9466"
    max_series: Count = 50_000
    score_lifetime: Positive = 300.0
    """A score that is not renewed for this long is no longer exposed."""


class SimulateSettings(msgspec.Struct, frozen=True):
    """The simulated fleet."""

    base_port: Port = 19200
    """Node i listens on `base_port` + i; the control API on `base_port` - 1."""
    nodes: Count = 25
    seed: int = 1
    history_step: Positive = 60.0
    """Seconds between the samples of a past that is written with `--history`."""


class LocalSettings(msgspec.Struct, frozen=True):
    """What `watchkeeper up` starts beside Watchkeeper's own processes."""

    prometheus: bool = True
    prometheus_listen: str = "127.0.0.1:9090"
    listen: str = "127.0.0.1:9469"
    """The local receiver: notifications that arrive here are shown in the terminal."""


class WebSettings(msgspec.Struct, frozen=True):
    """Our own listeners, and how our own processes and the Prometheus of `up` ask them."""

    config_file: str = ""
    """Prometheus' web-config file (TLS, logins, headers); empty: HTTP without a login."""
    ca_file: str = ""
    """The authority of the listeners' certificates, in PEM; empty: those that the system trusts."""
    username: str = ""
    """One of the web-config file's users; its password stands in `password_file`."""
    password_file: str = ""
    certificate_file: str = ""
    """With `key_file` what is shown where the web-config file asks for certificates."""
    key_file: str = ""


class Settings(msgspec.Struct, frozen=True):
    """Everything that can be set."""

    data: str = "data"
    """The folder for logs, state and databases."""
    brokers: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("127.0.0.1:19092",)
    kafka: KafkaSettings = KafkaSettings()
    clock: ClockSettings = ClockSettings()
    collect: CollectSettings = CollectSettings()
    detect: DetectSettings = DetectSettings()
    rules: RulesSettings = RulesSettings()
    worker: WorkerSettings = WorkerSettings()
    dispatch: DispatchSettings = DispatchSettings()
    export: ExportSettings = ExportSettings()
    simulate: SimulateSettings = SimulateSettings()
    local: LocalSettings = LocalSettings()
    web: WebSettings = WebSettings()

    def topic(self, name: str) -> str:
        return self.kafka.topic_prefix + name


def load_settings(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """The settings of the file at `path` (None: defaults) under those of `environment`.

    Raises
    ------
    SettingsError
        With every problem of the file and of the environment.
    """
    problems: list[str] = []
    document: dict[str, Any] = {}
    if path is not None:
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            problems.append(f"{path}: can't be read: {error.strerror}")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            problems.append(f"{path}: expected TOML: {error}")
    values = _sections(Settings, document, f"{path}", problems)
    _override(values, environment, problems)
    if not problems:
        settings = msgspec.convert(values, Settings, dec_hook=_secret)
        problems = _combinations(settings)
    if problems:
        raise SettingsError(problems)
    return settings


def _combinations(settings: Settings) -> list[str]:
    """What is valid by itself and not together."""
    clock = settings.clock
    if clock.speed != 1.0 and clock.origin == 0.0:
        problem = (
            f"clock.origin: expected a time with clock.speed {clock.speed:g}, got 0: event time "
            "would be centuries ahead; `watchkeeper up --speed` sets both, and `watchkeeper "
            "simulate --speed` logs what the other processes need"
        )
        return [problem]
    return []


def _secret(kind: type, value: object) -> Secret:
    """What msgspec asks when a field is of none of its own types."""
    if kind is Secret and isinstance(value, str | Secret):
        return value if isinstance(value, Secret) else Secret(value)
    raise NotImplementedError(f"{kind} is no type of a setting")


def _sections(
    struct: type[msgspec.Struct], table: dict[str, Any], place: str, problems: list[str]
) -> dict[str, Any]:
    """The valid fields of `table`; each invalid or unknown one becomes a problem."""
    hints = get_type_hints(struct, include_extras=True)
    values: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{place}: {key}" if ": " not in place else f"{place}.{key}"
        if key not in hints:
            expected = ", ".join(sorted(hints))
            problems.append(f"{where}: unknown setting; expected one of {expected}")
            continue
        hint = hints[key]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            if isinstance(value, dict):
                values[key] = _sections(hint, value, where, problems)
            else:
                problems.append(f"{where}: expected a section, got {value!r}")
            continue
        if hint is Secret:
            name = f"{ENVIRONMENT_PREFIX}{where.rpartition(': ')[2]}".replace(".", "_").upper()
            problems.append(f"{where}: a secret: expected in the environment, as {name}")
            continue
        try:
            msgspec.convert(value, hint)
        except msgspec.ValidationError as error:
            problems.append(f"{where}: {error}, got {value!r}")
            continue
        values[key] = value
    return values


def _override(values: dict[str, Any], environment: Mapping[str, str], problems: list[str]) -> None:
    for name in sorted(environment):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in NOT_SETTINGS:
            continue
        path = _setting_path(name.removeprefix(ENVIRONMENT_PREFIX).lower())
        if path is None:
            problems.append(f"environment: {name}: no such setting")
            continue
        section, key, hint = path
        try:
            text = _from_text(environment[name], hint)
            value = msgspec.convert(text, hint, strict=False, dec_hook=_secret)
        except (msgspec.ValidationError, ValueError) as error:
            problems.append(f"environment: {name}: {error}, got {environment[name]!r}")
            continue
        (values.setdefault(section, {}) if section else values)[key] = value


def environment_of(settings: Settings) -> dict[str, str]:
    """All of `settings` as variables that `load_settings` reads back, for a child process.

    >>> environment_of(Settings())["WATCHKEEPER_WORKER_LISTEN"]
    '127.0.0.1:9465'
    """
    variables: dict[str, str] = {}
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, msgspec.Struct):
            for key in value.__struct_fields__:
                variables[f"{name}_{key}"] = _to_text(getattr(value, key))
        else:
            variables[name] = _to_text(value)
    return {ENVIRONMENT_PREFIX + name.upper(): text for name, text in variables.items()}


def _to_text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, Secret):
        return value.value
    return str(value).lower() if isinstance(value, bool) else str(value)


NOT_SETTINGS = frozenset({"WATCHKEEPER_SHARED", "WATCHKEEPER_CONFIG"})
"""Variables with the prefix that something else reads."""


def _setting_path(name: str) -> tuple[str, str, Any] | None:
    for field, hint in get_type_hints(Settings, include_extras=True).items():
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            hints = get_type_hints(hint, include_extras=True)
            key = name.removeprefix(field + "_")
            if name.startswith(field + "_") and key in hints:
                return field, key, hints[key]
        elif name == field:
            return "", field, hint
    return None


def _from_text(text: str, hint: Any) -> Any:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if get_origin(hint) is dict:
        pairs = [part.partition("=") for part in text.split(",") if part]
        if not all(separator for _, separator, _ in pairs):
            raise ValueError("expected name=value, separated by commas")
        return {name.strip(): value.strip() for name, _, value in pairs}
    if get_origin(hint) is Literal:
        return next((choice for choice in get_args(hint) if choice == text), text)
    return text
