from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.home import Home
from cluster.keys import KeyStore, open_keys, run
from cluster.report import Silent
from models.errors import InputError, NotFoundError

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "state" / "keys.sqlite")


def test_a_key_opens_what_it_was_made_for(store: KeyStore) -> None:
    made, text = store.add("mes", plants=["harbor"], roles=["write", "read"], now=NOW)
    found = store.verify(text)
    assert found == made
    assert found.roles == ("read", "write")
    assert found.sees("harbor")
    assert not found.sees("ridge")
    assert found.may("read")
    assert found.may("write")
    assert not found.may("admin")


def test_admin_may_everything_and_a_star_sees_every_plant(store: KeyStore) -> None:
    key, _ = store.add("root", plants=["*"], roles=["admin"], now=NOW)
    assert key.sees("anything")
    assert all(key.may(role) for role in ("read", "write", "admin"))


def test_only_the_digest_of_the_secret_is_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite"
    with closing(KeyStore(path)) as store:
        key, text = store.add("mes", plants=["*"], roles=["read"], now=NOW)
    secret = text.split("_", 2)[2]
    assert len(secret) == 43  # 32 random bytes
    assert secret.encode() not in path.read_bytes()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT digest FROM keys").fetchone()[0] == hashlib.sha256(secret.encode()).hexdigest()
    assert path.stat().st_mode & 0o777 == 0o600
    assert key.id in text


@pytest.mark.parametrize("wrong", ["", "mw", "mw_", "mw__", "x" * 10_000, "mw_000000000000_secret", "\udcff", "ключ"])
def test_nothing_but_the_key_opens(store: KeyStore, wrong: str) -> None:
    store.add("mes", plants=["*"], roles=["read"], now=NOW)
    assert store.verify(wrong) is None


def test_a_changed_secret_prefix_or_id_does_not_open(store: KeyStore) -> None:
    _, text = store.add("mes", plants=["*"], roles=["read"], now=NOW)
    prefix, identity, secret = text.split("_", 2)
    for wrong in (text[:-1], text + "a", f"xx_{identity}_{secret}", f"{prefix}_{identity[::-1]}_{secret}"):
        assert store.verify(wrong) is None


def test_a_revoked_key_closes_at_once_in_another_process_too(tmp_path: Path) -> None:
    serving, cli = KeyStore(tmp_path / "k.sqlite"), KeyStore(tmp_path / "k.sqlite")
    key, text = cli.add("mes", plants=["*"], roles=["read"], now=NOW)
    assert serving.verify(text) == key
    cli.revoke("mes", now=NOW)
    assert serving.verify(text) is None
    assert [k.revoked_at for k in serving.all()] == [NOW.isoformat()]
    assert not serving.active()


def test_revoking_a_name_closes_every_key_of_that_name(store: KeyStore) -> None:
    texts = [store.add("mes", plants=["*"], roles=["read"], now=NOW)[1] for _ in range(2)]
    assert len(store.revoke("mes", now=NOW)) == 2
    assert [store.verify(text) for text in texts] == [None, None]


def test_revoking_what_is_not_open_is_an_error(store: KeyStore) -> None:
    with pytest.raises(NotFoundError, match=r"No such open key: expected a name or id \(none\), found 'mes'"):
        store.revoke("mes", now=NOW)


def test_an_unknown_role_is_refused(store: KeyStore) -> None:
    with pytest.raises(InputError, match="Unknown role: expected one of read, write, admin, found delete"):
        store.add("mes", plants=["*"], roles=["delete"], now=NOW)


def test_a_file_that_is_no_key_store_is_named(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite"
    path.write_bytes(b"this is no database, but it is long enough to be read as one" * 20)
    with pytest.raises(InputError, match="Unreadable keys: expected SQLite"):
        KeyStore(path)


def test_the_verb_shows_a_key_once(home: Home) -> None:
    added = run(home, progress=Silent(), action="add", name="mes")
    assert added.key is not None
    with closing(open_keys(home)) as store:
        assert store.verify(added.key) is not None
    listed = run(home, progress=Silent(), action="list")
    assert listed.key is None
    assert [(k["name"], k["plants"], k["roles"]) for k in listed.keys] == [("mes", ["*"], ["read"])]
    assert added.key not in listed.model_dump_json()
    run(home, progress=Silent(), action="revoke", name="mes")
    with closing(open_keys(home)) as store:
        assert store.verify(added.key) is None


def test_the_verb_refuses_a_plant_that_is_not_connected(home: Home) -> None:
    with pytest.raises(NotFoundError, match="Unknown plant"):
        run(home, progress=Silent(), action="add", name="mes", plants=["habror"])


def test_the_verb_needs_a_name_to_add(home: Home) -> None:
    with pytest.raises(InputError, match="`keys add` needs a name"):
        run(home, progress=Silent(), action="add")


def test_a_revoked_key_comes_back_as_revoked(tmp_path: Path) -> None:
    with closing(KeyStore(tmp_path / "keys.sqlite")) as store:
        store.add("mes", plants=["*"], roles=["read"], now=NOW)
        assert [k.revoked_at for k in store.revoke("mes", now=NOW)] == [NOW.isoformat()]
