"""Readings that are not yet history, and the tail of history that windows need: one SQLite file a plant.

The one idea: a reading is acknowledged when it is committed here, and only then. WAL survives the
death of every process (``fsync=True`` also the loss of power). A row is (machine, time) with one
float32 cell a sensor; a later delivery wins cell by cell, an empty cell never erases one.

Each delivery has a number, which its rows carry as ``pending`` until an ingest has taken them; rows copied from
history have none (0). ``prune`` removes only what is not pending and older than any window needs, so nothing is lost.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.errors import InputError
from models.windows import Float, Int

VERSION = 2
_SCHEMA = """
CREATE TABLE sensors (position INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE readings (machine TEXT NOT NULL, time_us INTEGER NOT NULL, cells BLOB NOT NULL,
    pending INTEGER NOT NULL, PRIMARY KEY (machine, time_us)) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
# Since version 2: the number of what was last written of a machine, delivered or copied.
_NUMBERS = "CREATE TABLE numbers (machine TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID"
_APPEND = """INSERT INTO readings VALUES (?, ?, ?, ?) ON CONFLICT (machine, time_us)
    DO UPDATE SET cells = over(cells, excluded.cells), pending = excluded.pending"""
_SEED = """INSERT INTO readings VALUES (?, ?, ?, ?) ON CONFLICT (machine, time_us)
    DO UPDATE SET cells = over(excluded.cells, cells)"""
# Numbers begin with 2: version 1 of us gave every row that waited a 1.
_NUMBER = """INSERT INTO facts VALUES ('delivery', 2) ON CONFLICT (name)
    DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING CAST(value AS INTEGER)"""
_LAST = "SELECT number FROM numbers WHERE machine = ?"
_SET_LAST = "INSERT INTO numbers VALUES (?, ?) ON CONFLICT (machine) DO UPDATE SET number = excluded.number"
_READ = "SELECT time_us, cells FROM readings WHERE machine = ? AND time_us > ? AND time_us <= ? ORDER BY time_us"
_PRUNE = """DELETE FROM readings AS old WHERE pending = 0 AND time_us <=
    (SELECT max(time_us) FROM readings AS own WHERE own.machine = old.machine) - ?"""


@dataclass(frozen=True)
class Rows:
    """Readings in canonical units: ``machines`` [N], ``time_us`` [N], ``values`` [N, S] float32, NaN = none."""

    machines: Sequence[str]
    time_us: Int
    sensors: tuple[str, ...]
    values: Float


@dataclass(frozen=True)
class Latest:
    """The newest reading of a machine and how many rows are kept of it."""

    machine: str
    time_us: int
    num_rows: int


@dataclass(frozen=True)
class Written:
    """What a delivery was given as its number, and of each of its machines the number ``before``, 0 for none."""

    number: int
    before: Mapping[str, int]


class State:
    """A plant's readings. Safe to share between threads, and between processes."""

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._lock = path, threading.RLock()
        try:
            self._db = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(f"PRAGMA synchronous={'FULL' if fsync else 'NORMAL'}")
            self._create()
        except sqlite3.DatabaseError as error:
            raise self._broken(str(error)) from error
        self._db.create_function("over", 2, _over, deterministic=True)
        self._positions: dict[str, int] = {}

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def append(self, rows: Rows) -> Written:
        """Commit a delivery, row after row: the last one wins in each cell."""
        with self._transaction() as db:
            written = self._numbered(db, rows)
            self._write(_APPEND, rows, written.number)
        return written

    def seed(self, rows: Rows) -> None:
        """Copy rows of history, which never replace what was delivered here."""
        with self._transaction() as db:
            self._numbered(db, rows)
            self._write(_SEED, rows, 0)

    def number(self, machine: str) -> int:
        """The number of what was last written of a machine; 0 where nothing was since there are numbers."""
        with self._lock:
            row = self._db.execute(_LAST, (machine,)).fetchone()
        return 0 if row is None else int(row[0])

    def read(
        self, machine: str, sensors: Sequence[str], *, span_us: int, until_us: int | None = None
    ) -> tuple[Int, Float]:
        """The machine's last rows: times [N], sorted, and ``values`` [N, S] in the order of ``sensors``.

        They reach ``span_us`` back from the newest reading at or before ``until_us``, or from ``until_us``.
        """
        with self._lock:
            until = until_us if until_us is not None else self.newest_us(machine)
            found = [] if until is None else self._db.execute(_READ, (machine, until - span_us, until)).fetchall()
            columns = self._columns(sensors)
        times = np.fromiter((row[0] for row in found), np.int64, len(found))
        return times, _matrix([row[1] for row in found], columns)

    def newest_us(self, machine: str, until_us: int | None = None) -> int | None:
        """Time of the machine's newest reading, at or before ``until_us``; None where there is none."""
        limit = np.iinfo(np.int64).max if until_us is None else until_us
        with self._lock:
            row = self._db.execute(
                "SELECT max(time_us) FROM readings WHERE machine = ? AND time_us <= ?", (machine, int(limit))
            ).fetchone()
        return None if row[0] is None else int(row[0])

    def machines(self) -> list[Latest]:
        """Every machine with a reading, by name."""
        query = "SELECT machine, max(time_us), count(*) FROM readings GROUP BY machine ORDER BY machine"
        with self._lock:
            return [Latest(*row) for row in self._db.execute(query)]

    def num_pending(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM readings WHERE pending > 0").fetchone()[0])

    def waiting(self, most_rows: int) -> tuple[int, int] | None:
        """The first and last of the oldest deliveries that no ingest has taken, of about ``most_rows`` rows together.

        A delivery is not cut. None where nothing waits.
        """
        query = "SELECT pending, count(*) FROM readings WHERE pending > 0 GROUP BY pending ORDER BY pending"
        with self._lock:
            found = self._db.execute(query).fetchall()
        rows = 0
        for number, own in found:
            rows += own
            if rows >= most_rows:
                return int(found[0][0]), int(number)
        return (int(found[0][0]), int(found[-1][0])) if found else None

    def delivered(self, upto: int) -> Rows:
        """Rows that wait, of deliveries up to that number, whole: a cell of an earlier delivery is in them too."""
        query = "SELECT machine, time_us, cells FROM readings WHERE pending BETWEEN 1 AND ? ORDER BY machine, time_us"
        with self._lock:
            found = self._db.execute(query, (upto,)).fetchall()
            sensors = tuple(name for (name,) in self._db.execute("SELECT name FROM sensors ORDER BY position"))
            columns = self._columns(sensors)
        times = np.fromiter((row[1] for row in found), np.int64, len(found))
        return Rows([row[0] for row in found], times, sensors, _matrix([row[2] for row in found], columns))

    def taken(self, upto: int) -> None:
        """Deliveries up to that number are in history; rows that a later one has touched wait on."""
        with self._transaction() as db:
            db.execute("UPDATE readings SET pending = 0 WHERE pending BETWEEN 1 AND ?", (upto,))

    def prune(self, span_us: int) -> int:
        """Remove rows that are history already and older than ``span_us`` before the machine's newest."""
        with self._transaction() as db:
            return db.execute(_PRUNE, (span_us,)).rowcount

    def fact(self, name: str) -> str | None:
        """A note that outlives the process, such as the version of history that was copied."""
        with self._lock:
            row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_fact(self, name: str, value: str) -> None:
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def _numbered(self, db: sqlite3.Connection, rows: Rows) -> Written:
        number, before = int(db.execute(_NUMBER).fetchone()[0]), dict[str, int]()
        for machine in dict.fromkeys(rows.machines):
            row = db.execute(_LAST, (machine,)).fetchone()
            before[machine] = 0 if row is None else int(row[0])
        db.executemany(_SET_LAST, [(machine, number) for machine in before])
        return Written(number, before)

    def _write(self, statement: str, rows: Rows, number: int) -> None:
        columns = self._columns(rows.sensors, create=True)
        cells = np.full((len(rows.time_us), max(columns, default=-1) + 1), np.nan, "<f4")
        cells[:, columns] = rows.values
        width, data = cells.shape[1] * 4, cells.tobytes()
        times = rows.time_us.tolist()
        self._db.executemany(
            statement,
            ((rows.machines[i], times[i], data[i * width : (i + 1) * width], number) for i in range(len(times))),
        )

    def _columns(self, sensors: Sequence[str], *, create: bool = False) -> list[int]:
        """Each sensor's cell; positions are only ever appended. -1 where a sensor was never seen."""
        if any(name not in self._positions for name in sensors):
            if create:
                self._db.executemany("INSERT OR IGNORE INTO sensors (name) VALUES (?)", [(name,) for name in sensors])
            rows = self._db.execute("SELECT name, position - 1 FROM sensors").fetchall()
            self._positions = {str(name): int(position) for name, position in rows}
        return [self._positions.get(name, -1) for name in sensors]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                self._positions = {}  # a position may have been rolled back
                raise

    def _create(self) -> None:
        with self._transaction() as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version == 0:
                for statement in _SCHEMA.split(";")[:-1]:
                    db.execute(statement)
            if version in (0, 1):
                db.execute(_NUMBERS)
                db.execute(f"PRAGMA user_version={VERSION}")
            elif version != VERSION:
                raise self._broken(f"version {version}")

    def _broken(self, found: str) -> InputError:
        return InputError(
            "Unreadable state of a plant", expected=f"SQLite, version {VERSION}", found=found, where=self._path,
            do="Restore the file from a copy, or move it away: readings that no ingest has taken are in it alone",
        )  # fmt: skip


def _over(below: bytes, above: bytes) -> bytes:
    """Cells of ``above`` where they hold a value, else of ``below``."""
    width = max(len(below), len(above)) // 4
    under, over = (np.full(width, np.nan, "<f4") for _ in range(2))
    under[: len(below) // 4] = np.frombuffer(below, "<f4")
    over[: len(above) // 4] = np.frombuffer(above, "<f4")
    return np.where(np.isnan(over), under, over).astype("<f4").tobytes()


def _matrix(cells: list[bytes], columns: list[int]) -> Float:
    """Cells of unequal length (sensors came later) as [N, S]."""
    width = max((len(c) for c in cells), default=0)
    empty = b"\x00\x00\xc0\x7f"  # NaN
    whole = cells if all(len(c) == width for c in cells) else [c + empty * ((width - len(c)) // 4) for c in cells]
    data = b"".join(whole)
    # One column of NaN more, which is where -1 points: a sensor that was never seen.
    wide = np.full((len(cells), width // 4 + 1), np.nan, np.float32)
    wide[:, :-1] = np.frombuffer(data, "<f4").reshape(len(cells), width // 4)
    reachable = [column if column < width // 4 else -1 for column in columns]
    return np.ascontiguousarray(wide[:, reachable])
