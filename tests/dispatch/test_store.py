from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from pipeline.alerts.group import Group, LogEntry
from pipeline.alerts.incident import Incident
from pipeline.alerts.notification import AlertInMessage, Intent, Message
from pipeline.alerts.referee import Case, Word
from pipeline.alerts.saved import Changes
from pipeline.dispatch.store import Store, StoreError

INCIDENT = Incident(
    fingerprint=2**64 - 1,
    labels=(("alertname", "ü"),),
    annotations=(("summary", ""),),
    starts_at_ms=1,
    ends_at_ms=2,
    updated_at_ms=3,
    episode_ms=4,
)
CASE = Case(worker=Word(5, 6, 4), backstop=Word(7, 8, 9))
GROUP = Group(
    id="0 {}:{}", route_id="0", key="{}:{}", labels=(), members={1, 2**64 - 1}, next_flush_ms=7
)
ENTRY = LogEntry(8, (1,), (2,))
ALERT = AlertInMessage(
    fingerprint=1, episode_ms=1, status="firing", labels=(), annotations=(),
    starts_at_ms=1, ends_at_ms=0,
)  # fmt: skip
INTENT = Intent(
    id="abc",
    group_id=GROUP.id,
    integration="ops/webhook/0",
    message=Message("ops", "{}:{}", (), (ALERT,)),
    firing=(1,),
    resolved=(),
    created_ms=9,
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/new/dispatch.db"


async def test_what_was_committed_comes_back(url: str) -> None:
    store = Store(url)
    changes = Changes(
        alerts={INCIDENT.fingerprint: INCIDENT},
        cases={INCIDENT.fingerprint: CASE},
        groups={GROUP.id: GROUP},
        log={"k": ENTRY},
        outbox={"abc": INTENT},
        offsets={"alerts": 7},
    )
    await store.write(changes)
    await store.close()
    again = Store(url)
    saved = again.load()
    await again.close()
    assert (saved.alerts, saved.groups, saved.log, saved.outbox) == (
        [INCIDENT], [GROUP], {"k": ENTRY}, [INTENT],
    )  # fmt: skip
    assert (saved.cases, saved.offsets) == ({INCIDENT.fingerprint: CASE}, {"alerts": 7})


async def test_last_word_on_a_key_counts(url: str) -> None:
    store = Store(url)
    first = store.write(Changes(log={"a": ENTRY, "b": ENTRY}))
    second = store.write(Changes(log={"a": None, "b": LogEntry(99, (), ())}))
    await asyncio.gather(first, second)
    assert store.load().log == {"b": LogEntry(99, (), ())}
    await store.close()


async def test_group_is_stored_as_it_was_when_it_was_written(url: str) -> None:
    store = Store(url)
    group = Group(id="g", route_id="0", key="k", labels=(), members={1}, next_flush_ms=1)
    written = store.write(Changes(groups={"g": group}))
    group.members.add(2)
    await written
    assert store.load().groups[0].members == {1}
    await store.close()


async def test_closing_commits_what_waits(url: str) -> None:
    store = Store(url)
    written = store.write(Changes(log={"a": ENTRY}))
    await store.close()
    assert await written is None
    again = Store(url)
    assert again.load().log == {"a": ENTRY}
    await again.close()


async def test_commits_survive_a_power_cut(url: str, tmp_path: Path) -> None:
    store = Store(url)
    await store.write(Changes(log={"a": ENTRY}))
    with sqlite3.connect(tmp_path / "new/dispatch.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    with store._engine.connect() as own:
        assert own.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
    await store.close()


async def test_failed_commit_is_told_and_made_up_for(url: str, tmp_path: Path) -> None:
    store = Store(url)
    with sqlite3.connect(tmp_path / "new/dispatch.db") as connection:
        connection.execute("ALTER TABLE notification_log RENAME TO away")
    with pytest.raises(StoreError, match="can't write: no such table: notification_log"):
        await store.write(Changes(log={"a": ENTRY}))
    with connection:
        connection.execute("ALTER TABLE away RENAME TO notification_log")
    connection.close()
    await store.write(Changes(log={"b": ENTRY}))
    assert set(store.load().log) == {"a", "b"}
    await store.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "dispatch.database: expected an SQLAlchemy URL"),
        ("postgresql://u:t0ken@h/d", "expected sqlite:///path, got postgresql"),
        ("sqlite:////proc/nowhere/x.db", "/proc/nowhere/x.db: can't be opened as a database"),
    ],
)
def test_database_that_can_not_be_opened_is_refused(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        Store(url)
    assert "t0ken" not in str(caught.value)


async def test_row_of_another_version_is_named(url: str, tmp_path: Path) -> None:
    store = Store(url)
    with sqlite3.connect(tmp_path / "new/dispatch.db") as connection:
        connection.execute("INSERT INTO alerts VALUES ('x', '{}')")
    connection.close()
    with pytest.raises(StoreError, match="expected rows of this version"):
        store.load()
    await store.close()
