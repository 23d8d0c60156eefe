"""API keys: who may ask what, for which plants.

The one idea: a key is ``mw_<id>_<secret>``. The id is public and finds the row; the secret is 256 random
bits, of which only the SHA-256 is stored (no slow hash is needed where nothing can be guessed) and
compared in constant time. A revoked key stays in the list and opens nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.home import Home
from cluster.report import Progress, Report
from models.errors import InputError, NotFoundError
from models.source import checked_name

ROLES = ("read", "write", "admin")  # admin opens everything; write does not include read
ANY_PLANT = "*"
_PREFIX = "mw"
_NO_DIGEST = hashlib.sha256(b"").hexdigest()  # what a wrong id is compared with: the same work as a wrong secret
_SCHEMA = """CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, plants TEXT NOT NULL, roles TEXT NOT NULL,
    created_at TEXT NOT NULL, revoked_at TEXT, rate REAL, max_body_mb REAL, max_windows INTEGER)"""
_COLUMNS = "id, name, digest, plants, roles, created_at, revoked_at, rate, max_body_mb, max_windows"
_LIMITS = {"rate": "REAL", "max_body_mb": "REAL", "max_windows": "INTEGER"}  # columns that came later


@dataclass(frozen=True)
class Limits:
    """What the holder of a key may ask for, beside what the service allows anybody; None: no less than that.

    ``rate``: requests a second over all replicas, a second's worth of them at once.
    """

    rate: float | None = None
    max_body_mb: float | None = None
    max_windows: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not 0 < value < float("inf"):
                raise InputError("Wrong limit of a key", expected="a number above 0", found=value, where=name)


@dataclass(frozen=True)
class Key:
    """What is known of a key; never its secret."""

    id: str
    name: str
    plants: tuple[str, ...]
    roles: tuple[str, ...]
    created_at: str
    revoked_at: str | None = None
    limits: Limits = Limits()

    def sees(self, plant: str) -> bool:
        """Whether the plant exists for the holder at all."""
        return ANY_PLANT in self.plants or plant in self.plants

    def may(self, role: str) -> bool:
        return role in self.roles or "admin" in self.roles


class KeyStore:
    """A deployment's keys in one SQLite file that only its owner can read.

    Every key is held in memory and read again when another process has changed the file, so that
    a request costs no query and a revoked key closes at once. Safe to share between threads.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
        try:
            self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
            self._db.execute(_SCHEMA)
            self._widen()
            self._db.execute("PRAGMA synchronous=FULL")
        except sqlite3.DatabaseError as error:
            raise InputError(
                "Unreadable keys", expected="SQLite", found=str(error), where=path,
                do="Restore the file, or move it away and make new keys with `millwright keys add`",
            ) from error  # fmt: skip
        self._seen = -1
        self._rows: dict[str, tuple[Key, str]] = {}

    def close(self) -> None:
        self._db.close()

    def _widen(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")  # another process may open the same old file
        there = {row[1] for row in self._db.execute("PRAGMA table_info(keys)")}
        for column in _LIMITS.keys() - there:
            self._db.execute(f"ALTER TABLE keys ADD COLUMN {column} {_LIMITS[column]}")
        self._db.execute("COMMIT")

    def add(
        self, name: str, *, plants: Iterable[str], roles: Iterable[str], now: datetime, limits: Limits | None = None
    ) -> tuple[Key, str]:
        """A new key and its text, which nothing can show again. Raises InputError."""
        key = Key(
            id=secrets.token_hex(6), name=checked_name(name, "key"), plants=_plants(plants), roles=_roles(roles),
            created_at=now.isoformat(timespec="seconds"), limits=limits or Limits(),
        )  # fmt: skip
        secret = secrets.token_urlsafe(32)
        with self._lock:
            self._db.execute(
                f"INSERT INTO keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, NULL, ?, ?, ?)",
                (key.id, key.name, _digest(secret), " ".join(key.plants), " ".join(key.roles), key.created_at,
                 *vars(key.limits).values()),
            )
            self._seen = -1
        return key, f"{_PREFIX}_{key.id}_{secret}"

    def all(self) -> list[Key]:
        """Every key, revoked ones too, oldest first."""
        return [key for key, _ in self._current().values()]

    def active(self) -> bool:
        """Whether any key opens anything."""
        return any(key.revoked_at is None for key in self.all())

    def revoke(self, name_or_id: str, *, now: datetime) -> Sequence[Key]:
        """Close the key with that id, or every open key of that name. Raises NotFoundError."""
        found = [k for k in self.all() if name_or_id in (k.id, k.name) and k.revoked_at is None]
        if not found:
            known = ", ".join(k.name for k in self.all() if k.revoked_at is None) or "none"
            raise NotFoundError(
                "No such open key", expected=f"a name or id ({known})", found=repr(name_or_id),
                do="`millwright keys list` shows them",
            )  # fmt: skip
        with self._lock:
            at = now.isoformat(timespec="seconds")
            self._db.executemany("UPDATE keys SET revoked_at = ? WHERE id = ?", [(at, key.id) for key in found])
            self._seen = -1
        return [replace(key, revoked_at=at) for key in found]

    def verify(self, text: str) -> Key | None:
        """The open key that ``text`` is, or None; the same work whatever is wrong with it."""
        prefix, _, rest = text.partition("_")
        identity, _, secret = rest.partition("_")
        key, digest = self._current().get(identity, (None, _NO_DIGEST))
        same = hmac.compare_digest(digest.encode(), _digest(secret).encode())
        return key if key and same and key.revoked_at is None and prefix == _PREFIX else None

    def _current(self) -> dict[str, tuple[Key, str]]:
        with self._lock:
            # `data_version` changes when another connection commits; our own writes set `_seen` back.
            version = int(self._db.execute("PRAGMA data_version").fetchone()[0])
            if version != self._seen:
                rows = self._db.execute(f"SELECT {_COLUMNS} FROM keys ORDER BY created_at, id").fetchall()
                self._rows = {row[0]: (_key(row), row[2]) for row in rows}
                self._seen = version
            return self._rows


def _key(row: Sequence[Any]) -> Key:
    return Key(row[0], row[1], tuple(row[3].split()), tuple(row[4].split()), row[5], row[6], Limits(*row[7:]))


class KeysReport(Report):
    """``key`` is the new key's text, shown once."""

    action: Literal["add", "list", "revoke"]
    key: str | None = None
    keys: tuple[dict[str, str | list[str] | int | float | None], ...] = ()

    def render(self) -> RenderableType:
        columns = ("name", "id", "plants", "roles", "created", "revoked", "requests/s", "MB", "windows")
        table = Table(*columns, title=_TITLE[self.action])
        for row in self.keys:
            cells = [" ".join(v) if isinstance(v, list) else ("" if v is None else str(v)) for v in row.values()]
            table.add_row(*cells)
        if self.key is None:
            return table if self.keys else Text("No keys. Make one with `millwright keys add NAME --role read`.")
        return Group(table, Text("The key, shown only now:"), Text(self.key, no_wrap=True, overflow="ignore"))


_TITLE = {"add": "New key", "list": "Keys", "revoke": "Revoked"}


def open_keys(home: Home) -> KeyStore:
    return KeyStore(home.state / "keys.sqlite")


def run(
    home: Home,
    *,
    progress: Progress,
    action: Literal["add", "list", "revoke"] = "list",
    name: str | None = None,
    plants: Sequence[str] | None = None,
    roles: Sequence[str] | None = None,
    rate: float | None = None,
    max_body_mb: float | None = None,
    max_windows: int | None = None,
) -> KeysReport:
    """The verb ``keys``: ``add NAME [--plant P ...] [--role R ...]``, ``list``, ``revoke NAME``.

    Without ``plants`` a key opens every plant, without ``roles`` it may only read; ``Limits`` are what it may ask for.
    """
    began = time.monotonic()
    if action != "list" and not name:
        raise InputError(f"`keys {action}` needs a name", expected="a name", found="nothing")
    with closing(open_keys(home)) as store:
        now, text = datetime.now(UTC), None
        if action == "add":
            for plant in plants or ():
                if plant != ANY_PLANT:
                    home.source(plant)  # a key for a plant that is misspelt would be a riddle later
            key, text = store.add(
                str(name), plants=plants or (ANY_PLANT,), roles=roles or ("read",), now=now,
                limits=Limits(rate, max_body_mb, max_windows),
            )  # fmt: skip
            found: Sequence[Key] = [key]
        else:
            found = store.all() if action == "list" else store.revoke(str(name), now=now)
    lines = tuple(_line(key) for key in found)
    return KeysReport(action=action, key=text, keys=lines, seconds=time.monotonic() - began)


def _line(key: Key) -> dict[str, str | list[str] | int | float | None]:
    return {
        "name": key.name, "id": key.id, "plants": list(key.plants), "roles": list(key.roles),
        "created_at": key.created_at, "revoked_at": key.revoked_at, **vars(key.limits),
    }  # fmt: skip


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _plants(plants: Iterable[str]) -> tuple[str, ...]:
    found = tuple(sorted({p if p == ANY_PLANT else checked_name(p, "plant") for p in plants}))
    if not found:
        raise InputError("A key without plants", expected="plants, or '*' for every one", found="none")
    return found


def _roles(roles: Iterable[str]) -> tuple[str, ...]:
    found = set(roles)
    wrong = sorted(found - set(ROLES))
    if wrong or not found:
        raise InputError("Unknown role", expected=f"one of {', '.join(ROLES)}", found=", ".join(wrong) or "none")
    return tuple(role for role in ROLES if role in found)
