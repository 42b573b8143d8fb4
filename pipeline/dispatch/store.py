"""The dispatcher's database: what was accepted, what is to be sent, and what was told.

SQLite in WAL mode with synchronous=FULL: a commit that has returned survives a kill and a power
cut. One thread writes. While it commits, further changes gather and go into the next commit
together, so that many concurrent requests share one fsync.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine.interfaces import DBAPICursor

from pipeline.alerts.group import Group, LogEntry
from pipeline.alerts.incident import Incident
from pipeline.alerts.notification import Intent
from pipeline.alerts.referee import Case
from pipeline.alerts.saved import Changes, Saved

_metadata = sa.MetaData()


def _table(name: str) -> sa.Table:
    """Rows are records as JSON under their key, so that a record can gain a field."""
    return sa.Table(
        name,
        _metadata,
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )


_ALERTS = _table("alerts")
_CASES = _table("cases")
_GROUPS = _table("alert_groups")
_LOG = _table("notification_log")
_OUTBOX = _table("outbox")
_OFFSETS = _table("offsets")

_Rows = dict[str, dict[str, bytes | None]]
"""What is to be written: of each table, record by key; None: deleted. The last word counts."""


class StoreError(RuntimeError):
    """The database can't be opened, read or written."""


class Store:
    """An open database. `write` may be called from the event loop's thread only."""

    def __init__(self, url: str) -> None:
        """Open the SQLAlchemy URL `url`, and make the tables that are missing.

        Raises
        ------
        StoreError
            The URL is not an SQLite one, or the file can't be opened.
        """
        self._engine = _open(url)
        self._queue: SimpleQueue[tuple[_Rows, asyncio.Future[None]] | None] = SimpleQueue()
        self._unwritten: _Rows = {}
        self._waiting = 0
        self._failed = False
        self._writer = Thread(target=self._write_all, name="store", daemon=True)
        self._writer.start()

    def load(self) -> Saved:
        """Everything that was committed.

        Raises
        ------
        StoreError
            A row is not what this version writes.
        """
        with self._engine.connect() as connection:
            try:
                return Saved(
                    alerts=[_incident(row) for _, row in _read(connection, _ALERTS)],
                    cases={int(key, 16): _case(row) for key, row in _read(connection, _CASES)},
                    groups=[_group(row) for _, row in _read(connection, _GROUPS)],
                    log={key: _log_entry(row) for key, row in _read(connection, _LOG)},
                    outbox=[_intent(row) for _, row in _read(connection, _OUTBOX)],
                    offsets={key: _offset(row) for key, row in _read(connection, _OFFSETS)},
                )
            except msgspec.MsgspecError as error:
                raise StoreError(f"database: expected rows of this version: {error}") from error

    def write(self, changes: Changes) -> asyncio.Future[None]:
        """A future that is done when `changes` are committed; it raises StoreError if not.

        What could not be committed is tried again with the next changes.
        The records are encoded before this returns: they may change afterwards.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not changes and self._all_committed:
            future.set_result(None)
            return future
        self._waiting += 1
        self._queue.put((_encode(changes), future))
        return future

    @property
    def _all_committed(self) -> bool:
        return self._waiting == 0 and not self._failed

    async def close(self) -> None:
        """Commit what is waiting, then close."""
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)
        self._engine.dispose()

    def _write_all(self) -> None:
        # The driver's own connection, and one for all commits: SQLAlchemy's way to them and its
        # pool take as long as a commit.
        connection = self._engine.raw_connection()
        while True:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            waiting = [item for item in batch if item is not None]
            if waiting:
                self._commit(connection, waiting)
            if None in batch:
                connection.close()
                return

    def _commit(
        self, connection: sa.PoolProxiedConnection, batch: list[tuple[_Rows, asyncio.Future[None]]]
    ) -> None:
        for changes, _ in batch:
            for table, rows in changes.items():
                self._unwritten.setdefault(table, {}).update(rows)
        error: StoreError | None = None
        try:
            if self._unwritten:
                _write(connection.cursor(), self._unwritten)
                connection.commit()
                self._unwritten.clear()
        except Exception as cause:  # noqa: BLE001 - a dead thread would let everybody wait for ever
            connection.rollback()
            error = StoreError(f"database: can't write: {cause}")
        loop = batch[0][1].get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._resolve, [future for _, future in batch], error)

    def _resolve(self, futures: list[asyncio.Future[None]], error: StoreError | None) -> None:
        self._waiting -= len(futures)
        self._failed = error is not None
        for future in futures:
            if future.cancelled():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)


def _open(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise StoreError("dispatch.database: expected an SQLAlchemy URL") from error
    if parsed.get_backend_name() != "sqlite":
        raise StoreError(
            f"dispatch.database: expected sqlite:///path, got {parsed.get_backend_name()}; "
            "other databases are not supported yet"
        )
    engine = sa.create_engine(parsed, connect_args={"check_same_thread": False})
    sa.event.listen(engine, "connect", _set_pragmas)
    try:
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        _metadata.create_all(engine)
    except (sa.exc.SQLAlchemyError, OSError) as error:
        engine.dispose()
        raise StoreError(f"{parsed.database}: can't be opened as a database: {error}") from error
    return engine


def _set_pragmas(connection: Any, _record: object) -> None:  # Any: the driver's connection
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()


_json = msgspec.json.encode
_incident = msgspec.json.Decoder(Incident).decode
_case = msgspec.json.Decoder(Case).decode
_group = msgspec.json.Decoder(Group).decode
_log_entry = msgspec.json.Decoder(LogEntry).decode
_intent = msgspec.json.Decoder(Intent).decode
_offset = msgspec.json.Decoder(int).decode


def _encode(changes: Changes) -> _Rows:
    tables: list[tuple[sa.Table, Mapping[str, object]]] = [
        (_ALERTS, _by_hexadecimal(changes.alerts)),
        (_CASES, _by_hexadecimal(changes.cases)),
        (_GROUPS, changes.groups),
        (_LOG, changes.log),
        (_OUTBOX, changes.outbox),
        (_OFFSETS, changes.offsets),
    ]
    return {
        table.name: {key: None if row is None else _json(row) for key, row in rows.items()}
        for table, rows in tables
        if rows
    }


def _by_hexadecimal(records: Mapping[int, object]) -> dict[str, object]:
    return {f"{number:016x}": record for number, record in records.items()}


def _write(cursor: DBAPICursor, rows: _Rows) -> None:
    for table, own in rows.items():
        upserts = [(key, record) for key, record in own.items() if record is not None]
        deletes = [(key,) for key, record in own.items() if record is None]
        if upserts:
            cursor.executemany(_UPSERTS[table], upserts)
        if deletes:
            cursor.executemany(_DELETES[table], deletes)


def _upsert(table: sa.Table) -> str:
    statement = insert(table)
    return _compiled(
        statement.on_conflict_do_update(
            index_elements=["key"], set_={"record": statement.excluded.record}
        )
    )


def _compiled(statement: sa.Insert | sa.Delete) -> str:
    """SQL text, made once."""
    return str(statement.compile(dialect=sqlite.dialect()))


_UPSERTS = {table.name: _upsert(table) for table in _metadata.sorted_tables}
_DELETES = {
    table.name: _compiled(sa.delete(table).where(table.c.key == sa.bindparam("gone")))
    for table in _metadata.sorted_tables
}


def _read(connection: sa.Connection, table: sa.Table) -> list[tuple[str, bytes]]:
    return [(row.key, row.record) for row in connection.execute(sa.select(table))]
