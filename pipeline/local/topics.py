"""Watchkeeper's topics: partitions, compaction and retention as the settings have them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import msgspec
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError, NoError, TopicAlreadyExistsError, for_code

from pipeline.brokers import connection_of, refusals
from pipeline.local.problems import TopicError
from pipeline.settings import Settings

_log = logging.getLogger(__name__)

MAX_RECORD_BYTES = 8 * 1024 * 1024
_HOUR_MS = 3_600_000
_REJECTED_RETENTION_MS = 7 * 24 * _HOUR_MS
_COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": str(_HOUR_MS),  # the segment in use is never compacted
    "min.cleanable.dirty.ratio": "0.1",
}


class Topic(msgspec.Struct, frozen=True):
    """A topic as it should be."""

    name: str
    partitions: int
    config: Mapping[str, str]


def wanted_topics(settings: Settings) -> list[Topic]:
    """Every topic of a stack.

    Records are stamped when they are appended: event time may run faster than the wall clock or lie
    in the past, and retention must not depend on it.
    """
    kafka = settings.kafka
    common = {
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(MAX_RECORD_BYTES),
    }

    def kept_for(hours: float) -> dict[str, str]:
        return {"cleanup.policy": "delete", "retention.ms": str(int(hours * _HOUR_MS))}

    topics = [
        Topic(
            settings.topic("telemetry"),
            kafka.partitions,
            common | kept_for(kafka.telemetry_retention_hours),
        ),
        Topic(
            settings.topic("signals"),
            kafka.partitions,
            common | kept_for(kafka.signals_retention_hours),
        ),
        Topic(settings.topic("series"), 1, common | _COMPACTED),
        Topic(settings.topic("alerts"), 1, common | _COMPACTED),
    ]
    rejected = {"cleanup.policy": "delete", "retention.ms": str(_REJECTED_RETENTION_MS)}
    return topics + [Topic(f"{topic.name}.rejected", 1, common | rejected) for topic in topics]


def ensure_topics(settings: Settings) -> None:
    """Create the topics that are missing, and give the others the configuration of the settings.

    Raises
    ------
    TopicError
        A topic has another number of partitions, or the cluster can't be reached or refuses.
    """
    wanted = wanted_topics(settings)
    connection = connection_of(settings)
    if reasons := asyncio.run(refusals(connection)):
        raise TopicError("\n".join(reasons))
    admin = KafkaAdminClient(**connection)
    try:
        existing = _partitions(admin)
        _check_partitions(wanted, existing)
        missing = [topic for topic in wanted if topic.name not in existing]
        _create(admin, missing, settings.kafka.replication)
        _configure(admin, [topic for topic in wanted if topic.name in existing])
        admin.wait_for_topics([topic.name for topic in wanted])
    except KafkaError as error:
        raise TopicError(f"topics at {', '.join(settings.brokers)}: {error}") from error
    finally:
        admin.close()
    if missing:
        _log.info("topics created: %s", ", ".join(topic.name for topic in missing))


def _partitions(admin: KafkaAdminClient) -> dict[str, int]:
    return {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}


def _check_partitions(wanted: list[Topic], existing: dict[str, int]) -> None:
    problems = [
        f"topic {topic.name}: has {existing[topic.name]} partitions, the settings want "
        f"{topic.partitions}; the number is fixed when a topic is created: set kafka.partitions "
        f"to {existing[topic.name]}, or start with a new topic_prefix"
        for topic in wanted
        if existing.get(topic.name, topic.partitions) != topic.partitions
    ]
    if problems:
        raise TopicError("\n".join(problems))


def _create(admin: KafkaAdminClient, topics: list[Topic], replication: int) -> None:
    if not topics:
        return
    description = {
        topic.name: {
            "num_partitions": topic.partitions,
            "replication_factor": replication,
            "configs": dict(topic.config),
        }
        for topic in topics
    }
    answer = admin.create_topics(description, raise_errors=False)
    problems = [
        f"topic {result['name']}: {result['error_message'] or for_code(result['error_code'])}"
        for result in answer["topics"]
        if for_code(result["error_code"]) not in (NoError, TopicAlreadyExistsError)
    ]
    if problems:
        raise TopicError("\n".join(problems))


def _configure(admin: KafkaAdminClient, topics: list[Topic]) -> None:
    if topics:
        admin.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, topic.name, dict(topic.config))
                for topic in topics
            ]
        )
