"""`watchkeeper worker`: load the rules, build the application, run until a signal or a fault."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import faust

from pipeline.api.http import ListenError, Server, serve, split_address
from pipeline.brokers import connection_of, until_topics
from pipeline.detect.table import default_detector
from pipeline.ending import end_within, stop_on_signal
from pipeline.model import Alert, partition_of
from pipeline.promql.plan import Plan
from pipeline.rules.document import Severity
from pipeline.rules.files import load_rules, rule_files
from pipeline.rules.rendering import Expander
from pipeline.rules.rule import AlertingRule, RuleGroup
from pipeline.selfmetrics import configure_logging, fields
from pipeline.settings import Settings
from pipeline.stream.api import alerts_app
from pipeline.stream.app import build_app
from pipeline.stream.compiling import compile_kernels
from pipeline.stream.delivery import KafkaDelivery
from pipeline.stream.dictionaries import Dictionaries
from pipeline.stream.fleetwide import Fleetwide
from pipeline.stream.forward import Forwarding
from pipeline.stream.group_offsets import GroupOffsets
from pipeline.stream.observe import Observer
from pipeline.stream.partition import Partition, PartitionSettings
from pipeline.stream.past import KafkaPast
from pipeline.stream.restoring import Restoring
from pipeline.stream.scoring import Scoring
from pipeline.stream.silent_input import SilentInput
from pipeline.stream.snapshots import SnapshotStore
from pipeline.stream.snapshotting import Snapshotting
from pipeline.stream.verdicts import RuleSet, Verdicts, select_rules
from pipeline.stream.worker import Worker

log = logging.getLogger(__name__)

EXIT_OK, EXIT_FAILED, EXIT_SETTINGS, EXIT_PORT = 0, 1, 3, 4
_LOOK_S = 1.0


def run(settings: Settings) -> int:
    """Run a worker until SIGINT or SIGTERM; the exit code."""
    configure_logging("worker")
    files = rule_files(settings.rules.files, Path.cwd())
    groups, problems = load_rules(files, settings.rules.prometheus)
    for problem in problems:
        log.warning(fields(event="rule_problem", problem=problem))
    if any(problem.severity is Severity.ERROR for problem in problems):
        return EXIT_SETTINGS
    try:
        return asyncio.run(_serve(settings, groups))
    except ListenError as error:
        log.error(fields(event="no_port", error=error))
        return EXIT_PORT


async def _serve(settings: Settings, groups: Sequence[RuleGroup]) -> int:
    connection = connection_of(settings)
    prefix = settings.kafka.topic_prefix
    dictionaries = Dictionaries(connection, settings.topic("series"))
    delivery = KafkaDelivery(connection, prefix)
    past = KafkaPast(connection, prefix, settings.worker.replay / settings.clock.speed)
    store = SnapshotStore(settings.worker.snapshots or f"{settings.data}/snapshots", prefix)
    restoring = Restoring(past, dictionaries.find, store.load)
    snapshotting = Snapshotting(store.save, settings.worker.snapshot_interval)
    compile_worker(settings, groups)
    worker = build_worker(settings, groups, dictionaries, delivery, restoring, snapshotting)
    holds = {rule.name: rule.for_ms / 1000 for group in groups for rule in _alerting(group)}
    server = await _listen(settings, worker, holds)
    app = build_app(settings, connection, _member(settings, server.port), worker)
    offsets = GroupOffsets(connection, prefix, settings.topic("worker"))
    observer = Observer(app, worker, settings, offsets, _silent_input(settings, groups), delivery)
    try:
        await until_topics(connection, _topics(settings))
        await dictionaries.start()
        await delivery.start()
        await offsets.start()
        code = await _run_app(app, worker, observer)
        if code == EXIT_OK:
            await worker.last_snapshots()
        return code
    finally:
        await offsets.stop()
        await delivery.stop()
        await dictionaries.stop()
        await server.close()


def _topics(settings: Settings) -> list[str]:
    return [settings.topic(name) for name in ("telemetry", "signals", "series", "alerts")]


def compile_worker(settings: Settings, groups: Sequence[RuleGroup]) -> None:
    """Compile what a worker of these settings and rules runs."""
    compile_kernels(new_partitions(settings, groups)(0), select_rules(groups, "local", settings))


def new_partitions(settings: Settings, groups: Sequence[RuleGroup]) -> Callable[[int], Partition]:
    """What makes a partition that has seen nothing."""
    local = select_rules(groups, "local", settings)
    owned = owned_rules(groups, settings)
    plans: dict[int, Sequence[Plan]] = {owner: rules.plans for owner, rules in owned.items()}
    detector = default_detector(settings.detect)
    exclude = frozenset(settings.detect.exclude)
    shared = PartitionSettings(
        worker=settings.worker.name or socket.gethostname(),
        publish_above=settings.detect.publish_above,
        resend_ms=_resend_ms(settings),
        tick_timeout_ms=int(settings.worker.tick_timeout * 1000),
    )

    def new(number: int) -> Partition:
        verdicts = Verdicts(local, settings)
        return Partition(number, Scoring(detector, exclude), verdicts, Forwarding(plans), shared)

    return new


def build_worker(
    settings: Settings,
    groups: Sequence[RuleGroup],
    dictionaries: Dictionaries,
    delivery: KafkaDelivery,
    restoring: Restoring,
    snapshotting: Snapshotting,
) -> Worker:
    """The worker of these settings and rules, over the given ways in and out."""
    count = settings.kafka.partitions
    owned = owned_rules(groups, settings)

    def new_fleetwide(number: int) -> Fleetwide:
        return Fleetwide(Verdicts(owned[number], settings), count, _resend_ms(settings))

    return Worker(
        new_partitions(settings, groups),
        new_fleetwide,
        owned.keys(),
        count,
        delivery,
        dictionaries.find,
        restoring,
        snapshotting,
    )


def _resend_ms(settings: Settings) -> int:
    return int(settings.worker.resend_interval * 1000)


def owned_rules(groups: Sequence[RuleGroup], settings: Settings) -> dict[int, RuleSet]:
    """The global rules by the partition of `signals` that owns their group."""
    by_owner: defaultdict[int, list[RuleGroup]] = defaultdict(list)
    for group in groups:
        by_owner[partition_of(group.key, settings.kafka.partitions)].append(group)
    chosen = {owner: select_rules(its, "global", settings) for owner, its in by_owner.items()}
    return {owner: rules for owner, rules in chosen.items() if rules.rules}


def _silent_input(settings: Settings, groups: Sequence[RuleGroup]) -> SilentInput:
    rules = settings.rules
    expander = Expander(rules.external_labels, rules.external_url, rules.prometheus)
    resend_ms = _resend_ms(settings)
    return SilentInput(groups, expander, resend_ms, int(settings.worker.firing_valid_for * 1000))


async def _listen(settings: Settings, worker: Worker, holds: dict[str, float]) -> Server:
    """Serve at the set address; a further worker on this machine takes any free port."""

    def holds_s(alert: Alert) -> float:
        return holds.get(dict(alert.labels).get("alertname", ""), 0.0)

    app = alerts_app(worker.active_alerts, holds_s)
    try:
        return await serve(app, settings.worker.listen, settings.web.config_file)
    except ListenError:
        host, _ = split_address(settings.worker.listen)
        app = alerts_app(worker.active_alerts, holds_s)
        server = await serve(app, f"{host}:0", settings.web.config_file)
        log.info(fields(event="other_port", wanted=settings.worker.listen, port=server.port))
        return server


def _member(settings: Settings, port: int) -> str:
    return settings.worker.name or f"{socket.gethostname()}-{port}"


async def _run_app(app: faust.App, worker: Worker, observer: Observer) -> int:
    """Run until a signal (0), or until Faust gives up or gets on no more (1)."""
    stop = stop_on_signal()
    await app.start()
    log.info(fields(event="started"))
    observing = asyncio.create_task(observer.run(), name="observer")
    stopping = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            if app.crashed or app.should_stop or worker.fault is not None:
                log.error(fields(event="faust_stopped", crashed=app.crashed, fault=worker.fault))
                return EXIT_FAILED
            if observing.done():
                log.error(fields(event="stands_still", partitions=observing.result()))
                return EXIT_FAILED
            await asyncio.wait(
                [observing, stopping], timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED
            )
        return EXIT_OK
    finally:
        end_within()  # whatever ended it, and whether or not the broker is there
        for task in (observing, stopping):
            task.cancel()
        await asyncio.gather(observing, stopping, return_exceptions=True)
        await app.stop()


def _alerting(group: RuleGroup) -> list[AlertingRule]:
    return [rule for rule in group.rules if isinstance(rule, AlertingRule)]
