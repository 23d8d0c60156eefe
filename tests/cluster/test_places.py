"""Places: a local folder stays a path; a URL is opened with the plant's own keys, or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pytest

from cluster import bundles
from cluster.commit import append_once, commit_info, commit_once, open_or_create, open_table, write_part
from cluster.credentials import from_files, handed_on
from cluster.durability import CHECKPOINT, settle
from cluster.home import open_home
from cluster.places import Remote, files_below, gone, place_of, read_parquet, reference, tables_below
from cluster.report import Silent
from cluster.settings_report import run as settings_report
from cluster.stores import delta_options, explained, filesystem, store_of
from models.errors import AccessError, InputError, MillwrightError, NotFoundError
from tests.store_server import Server, running

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-west-1"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as found:
        found.bucket("lake")
        yield found


@pytest.fixture
def lake(server: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Remote:
    """A place of the test's own, with keys behind a prefix."""
    for name, value in server.variables().items():
        monkeypatch.setenv(f"HARBOR_{name}", value)
    return Remote(f"s3://lake/{request.node.name.replace('[', '-').replace(']', '')}", "HARBOR_")


def rows(*machines: str) -> pa.Table:
    return pa.table({"machine": list(machines)})


@pytest.mark.parametrize("keys", [None, "HARBOR_", "/home of/secrets/harbor#1.env"])
def test_a_reference_becomes_its_place_again(keys: str | None) -> None:
    place = Remote("s3://bucket/lake", keys) / "readings/pump"
    assert place_of(reference(place)) == place
    assert str(place) == "s3://bucket/lake/readings/pump"
    assert (place.name, place.parent) == ("pump", Remote("s3://bucket/lake/readings", keys))
    assert place_of(reference(Path("/a/b#c"))) == Path("/a/b#c")


def test_a_plants_places_follow_from_its_settings(tmp_path: Path) -> None:
    settings = [
        "storage.root=s3://all/m", 'plants.harbor={"lake": "gs://own/lake", "credentials": "HARBOR_"}',
        'plants.ridge={"root": "abfs://c@account.dfs.core.windows.net/r", "credentials": "ridge.env"}',
    ]  # fmt: skip
    home = open_home(tmp_path / "home", create=True, environment={}, assignments=settings)
    file = str(home.path / "ridge.env")
    assert home.table("harbor", "events") == Remote("gs://own/lake/events", "HARBOR_")
    assert home.of("harbor").bundles == Remote("s3://all/m/bundles/harbor", "HARBOR_")
    assert home.of("ridge").studies == Remote("abfs://c@account.dfs.core.windows.net/r/studies", file)
    assert home.of("summit").tables == Remote("s3://all/m/lake/summit")
    assert home.artifacts == Remote("s3://all/m/artifacts")
    assert home.of("harbor").champion == home.path / "registry/champions/harbor.json", "pointers stay in the home"


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ("storage.root=s3://key:secret@bucket/x", "root an absolute folder, or a URL"),
        ("storage.root=s3://bucket/x?sig=y", "root an absolute folder, or a URL"),
        ("storage.root=ftp://bucket/x", "root an absolute folder, or a URL"),
        ('plants={"a": {"lake": "s3://b/x"}, "c": {"lake": "s3://b/x/y"}}', r"'plants\.c\.lake': expected a folder of"),
        ('plants={"a": {"root": "s3://b/x"}, "c": {"root": "s3://b/x"}}', "root of its own for each plant"),
    ],
)
def test_a_wrong_place_is_refused(tmp_path: Path, setting: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        open_home(tmp_path / "home", create=True, environment={}, assignments=[setting])


def test_rows_are_appended_once_and_found_again(lake: Remote) -> None:
    place = lake / "readings/pump"
    assert open_table(place) is None
    assert [append_once(place, rows("a", "b"), app_id="x", version=1) for _ in range(2)] == [True, False]
    table = open_table(place)
    assert table is not None
    assert commit_info(place, table.version())["operation"] == "WRITE"
    assert commit_info(place, 99) == {}
    assert tables_below(lake) == ["readings/pump"]
    (file,) = files_below(place, ".parquet")
    path = reference(place / file.path)
    assert read_parquet([path]).num_rows == 2
    lost = reference(place / "no-such.parquet")
    assert gone([path, lost]) == [lost]


def test_of_two_that_build_on_one_version_one_is_refused(lake: Remote) -> None:
    from deltalake.exceptions import CommitFailedError

    tables = [open_or_create(lake, rows("a").schema) for _ in range(2)]
    files = [write_part(lake, rows(name), stem="part") for name in "ab"]
    assert commit_once(tables[0], [files[0]], app_id="a", serial=("batch", 1))
    with pytest.raises(CommitFailedError):
        commit_once(tables[1], [files[1]], app_id="b", serial=("batch", 1))


def test_committers_side_by_side_lose_no_row(lake: Remote) -> None:
    open_or_create(lake, rows("a").schema)

    def append(number: int) -> bool:
        return append_once(lake, rows(f"m{number}"), app_id=f"app-{number}", version=1)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(append, range(12)))
    table = open_table(lake)
    assert table is not None
    found = table.to_pyarrow_table()["machine"].to_pylist()
    assert sorted(found) == sorted(f"m{number}" for number in range(12))


def test_a_log_gets_a_checkpoint_from_time_to_time(lake: Remote) -> None:
    for number in range(3):
        append_once(lake, rows("a"), app_id="x", version=number + 1)
    settle(lake, after=-1)
    assert not (lake / "_delta_log/_last_checkpoint").is_file()
    settle(lake, after=-CHECKPOINT)
    assert not (lake / "_delta_log/_last_checkpoint").is_file(), "there are fewer versions than that"


def test_a_missing_bucket_is_said(lake: Remote) -> None:
    place = Remote("s3://nowhere/lake", "HARBOR_")
    for way in (open_table, lambda at: append_once(at, rows("a"), app_id="x", version=1)):
        with pytest.raises(NotFoundError, match=r"No such bucket.*s3://nowhere/lake"):
            way(place)


def test_keys_must_be_complete_and_the_plants_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, "the process's")
    with pytest.raises(InputError, match="expected HARBOR_AWS_ACCESS_KEY_ID and HARBOR_AWS_SECRET_ACCESS_KEY"):
        store_of("s3://bucket", "HARBOR_")
    file = tmp_path / "x.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in KEYS.items()))
    with pytest.raises(AccessError, match="Credentials that others may read"):
        store_of("s3://bucket", str(file))
    file.chmod(0o600)
    assert store_of("s3://bucket", str(file)).get("AWS_ACCESS_KEY_ID") == "a"
    assert delta_options(store_of("s3://bucket", str(file)))["aws_endpoint_url"] == "https://s3.eu-west-1.amazonaws.com"
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the process's")
    with pytest.raises(InputError, match="expected no AWS_SESSION_TOKEN in the environment"):
        store_of("s3://bucket", str(file))


def test_two_plants_files_may_hold_the_same_names(tmp_path: Path) -> None:
    both = ['plants.a={"credentials": "a.env"}', 'plants.b={"credentials": "b.env"}']
    home = open_home(tmp_path / "home", create=True, environment={}, assignments=both)
    for name in "ab":
        (home.path / f"{name}.env").write_text(f"AWS_ACCESS_KEY_ID={name}\nOTHER=same\n")
        (home.path / f"{name}.env").chmod(0o600)
    assert from_files(home) == {"OTHER": "same"}, "a store's keys never get into a session's environment"


def test_a_stores_keys_travel_with_no_job(tmp_path: Path) -> None:
    settings = ['plants.harbor={"credentials": "HARBOR_"}']
    home = open_home(tmp_path / "home", create=True, environment={}, assignments=settings)
    environment = {"HARBOR_AWS_SECRET_ACCESS_KEY": "s", "HARBOR_KEY": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    assert handed_on(home, environment) == {"HARBOR_KEY": "k"}


def test_nothing_that_is_shown_or_pickled_holds_a_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Server
) -> None:
    for name, value in server.variables("AKIAKEY", "hunter2").items():
        monkeypatch.setenv(f"HARBOR_{name}", value)
    setting = 'plants.harbor={"root": "s3://lake/x", "credentials": "HARBOR_"}'
    home = open_home(tmp_path / "home", create=True, environment={}, assignments=[setting])
    place = home.table("harbor", "events")
    assert isinstance(place, Remote)
    shown = [
        repr(place), repr(store_of(place.url, "HARBOR_")), pickle.dumps(place.filesystem).decode("latin-1"),
        pickle.dumps(home).decode("latin-1"), settings_report(home, progress=Silent()).model_dump_json(),
    ]  # fmt: skip
    assert not any(secret in text for secret in ("AKIAKEY", "hunter2") for text in shown)
    again = pickle.loads(pickle.dumps(place.filesystem))
    assert again.get_file_info("lake").type == pa.fs.FileType.Directory


@pytest.mark.parametrize(
    ("text", "kind", "match"),
    [
        ("AWS Error ACCESS_DENIED during HeadObject", AccessError, "refuses these keys.*found ACCESS_DENIED"),
        ("<Code>InvalidAccessKeyId</Code> key AKIA1", AccessError, "found InvalidAccessKeyId"),
        ("AuthenticationFailed: sig=SECRET", AccessError, "found keys that may not"),
        ("The specified container does not exist", NotFoundError, "No such bucket"),
        ("error sending request for url (https://x?sig=SECRET)", MillwrightError, "does not answer"),
        ("strange https://x?sig=SECRET", MillwrightError, "The object store failed: found OSError"),
    ],
)
def test_a_stores_error_is_said_in_our_words_alone(text: str, kind: type[MillwrightError], match: str) -> None:
    error = explained("s3://b/x", OSError(text))
    assert type(error) is kind
    with pytest.raises(kind, match=match):
        raise error
    assert "SECRET" not in str(error)
    assert "AKIA1" not in str(error)


AZURE: dict[str, str] = {"AZURE_STORAGE_ACCOUNT_NAME": "acc", "AZURE_STORAGE_ACCOUNT_KEY": "a2V5"}


@pytest.mark.parametrize(
    ("url", "variables", "arrow", "delta"),
    [
        ("s3://b", KEYS, pa.fs.S3FileSystem, {"aws_access_key_id": "a", "aws_region": "eu-west-1"}),
        ("abfs://c", AZURE, pa.fs.AzureFileSystem, {"azure_storage_account_name": "acc"}),
        ("abfs://c@other.dfs.core.windows.net", AZURE, pa.fs.AzureFileSystem, {"azure_storage_account_name": "other"}),
        ("gs://b", {"GOOGLE_ACCESS_TOKEN": "t"}, pa.fs.GcsFileSystem, {}),
    ],
)  # fmt: skip
def test_every_kind_of_store_gets_its_file_system_and_options(
    monkeypatch: pytest.MonkeyPatch, url: str, variables: dict[str, str], arrow: type, delta: dict[str, Any]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"OF_{name}", value)
    store = store_of(url, "OF_")
    assert isinstance(filesystem(store, url), arrow)
    assert delta_options(store).items() >= delta.items()


def test_an_azure_place_needs_its_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    with pytest.raises(InputError, match="No storage account"):
        store_of("abfs://c/x", "OF_")


def test_a_bundle_is_fetched_once_verified_and_fetched_again_where_its_copy_is_broken(
    lake: Remote, tmp_path: Path
) -> None:
    from tests.models.test_bundle import spec

    place, cache = lake / "v1", tmp_path / "cache"
    with pytest.raises(NotFoundError, match="No bundle here"):
        bundles.load_at(place, cache)
    made = spec(kind="trees", version="v1")
    bundles.save(place, made, weights="tree", card="a card")
    bundles.save(place, made, weights="tree", card="a card")
    with pytest.raises(InputError, match="A bundle's version is never overwritten"):
        bundles.save(place, made, weights="another tree", card="a card")
    first = bundles.load_at(place, cache)
    assert (first.spec, first.card) == (made, "a card")
    (first.folder / "model.txt").write_text("spoilt")
    assert bundles.load_at(place, cache).model == b"tree"
    (place / "model.txt").write_bytes(b"spoilt")
    assert bundles.load_at(place, cache).model == b"tree", "the verified copy stays"
    with pytest.raises(InputError, match="A bundle's file"):
        bundles.load_at(place, tmp_path / "new")
