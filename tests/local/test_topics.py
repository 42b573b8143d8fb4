from __future__ import annotations

import msgspec
import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from pipeline.local.problems import TopicError
from pipeline.local.topics import ensure_topics, wanted_topics
from pipeline.settings import KafkaSettings, Settings


def test_every_topic_has_one_for_what_is_rejected():
    names = [topic.name for topic in wanted_topics(Settings())]
    assert names[:4] == ["telemetry", "signals", "series", "alerts"]
    assert names[4:] == [f"{name}.rejected" for name in names[:4]]


def test_retention_and_partitions_come_from_the_settings():
    kafka = KafkaSettings(partitions=7, telemetry_retention_hours=2, signals_retention_hours=0.5)
    topics = {topic.name: topic for topic in wanted_topics(Settings(kafka=kafka))}
    assert topics["telemetry"].partitions == topics["signals"].partitions == 7
    assert topics["series"].partitions == topics["alerts"].partitions == 1
    assert topics["telemetry"].config["retention.ms"] == "7200000"
    assert topics["signals"].config["retention.ms"] == "1800000"
    assert topics["alerts"].config["cleanup.policy"] == "compact"


@pytest.mark.parts
def test_topics_are_on_the_broker_as_wanted(kafka_settings: Settings):
    wanted = {topic.name: topic for topic in wanted_topics(kafka_settings)}
    admin = KafkaAdminClient(bootstrap_servers=list(kafka_settings.brokers))
    try:
        described = admin.describe_topics(list(wanted))
        configs = admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
        )["topic"]
    finally:
        admin.close()
    assert {t["name"]: len(t["partitions"]) for t in described} == {
        name: topic.partitions for name, topic in wanted.items()
    }
    for name, topic in wanted.items():
        found = {key: configs[name][key]["value"] for key in topic.config}
        assert found == topic.config


@pytest.mark.parts
def test_creating_again_changes_only_what_the_settings_changed(kafka_settings: Settings):
    ensure_topics(kafka_settings)
    shorter = msgspec.structs.replace(kafka_settings.kafka, telemetry_retention_hours=1.0)
    ensure_topics(msgspec.structs.replace(kafka_settings, kafka=shorter))
    name = kafka_settings.topic("telemetry")
    admin = KafkaAdminClient(bootstrap_servers=list(kafka_settings.brokers))
    try:
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    finally:
        admin.close()
    assert found["topic"][name]["retention.ms"]["value"] == "3600000"


@pytest.mark.parts
def test_another_number_of_partitions_is_refused_with_both_numbers(kafka_settings: Settings):
    more = msgspec.structs.replace(kafka_settings.kafka, partitions=6)
    with pytest.raises(TopicError) as caught:
        ensure_topics(msgspec.structs.replace(kafka_settings, kafka=more))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(
        f"topic {kafka_settings.topic('telemetry')}: has 4 partitions, the settings want 6;"
    )


def test_a_cluster_that_does_not_answer_is_an_error_that_names_it():
    with pytest.raises(
        TopicError,
        match=r"^127\.0\.0\.1:1: expected a broker that speaks PLAINTEXT, got: .*Connect call",
    ):
        ensure_topics(Settings(brokers=("127.0.0.1:1",)))
