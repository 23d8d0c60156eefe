"""Which object store, and with whose keys: what Arrow and Delta must be told to reach a URL.

The one idea: a place names its keys (a prefix of variables, or a file), it never holds them. They are looked up
where they are used, in the process that uses them, so no task, report or log can carry one along; and what a
store answers is put into our own words, since its own may repeat them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from models.errors import AccessError, InputError, MillwrightError, NotFoundError

SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
URL = re.compile(rf"^({'|'.join(SCHEMES)})://[A-Za-z0-9][A-Za-z0-9._-]*(@[A-Za-z0-9.-]+)?(/[^?#\s]*)?\Z")
OF_STORES = ("AWS_", "GOOGLE_", "AZURE_")  # how the names of their variables begin; no other process is handed these
_NEEDED: dict[str, list[tuple[str, ...]]] = {
    "s3": [("AWS_ACCESS_KEY_ID",), ("AWS_SECRET_ACCESS_KEY",)],
    "gs": [("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_ACCESS_TOKEN")],
    "az": [("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_SECRET")],
}  # one of each, where a plant has keys of its own: never those of the process
_MIXED = {
    "s3": ("AWS_SESSION_TOKEN",),
    "gs": ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_SERVICE_ACCOUNT_KEY"),
    "az": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_SECRET", "AZURE_STORAGE_ENDPOINT"),
}  # what Delta takes from the process where a plant has none, whatever it is told
_PATIENCE = {"max_retries": "3", "retry_timeout": "20s", "connect_timeout": "5s", "timeout": "60s"}
_TOKEN_MARGIN_S = 300
_REFUSED = r"AccessDenied|ACCESS_DENIED|Forbidden|\b40[13]\b|Unauthorized|InvalidAccessKeyId|INVALID_ACCESS_KEY_ID|"
_REFUSED += r"SignatureDoesNotMatch|SIGNATURE_DOES_NOT_MATCH|AuthenticationFailed|AuthorizationFailure|ExpiredToken|"
_REFUSED += r"InvalidToken|INVALID_CLIENT_TOKEN|UNRECOGNIZED_CLIENT|NoAuthenticationInformation|invalid_grant"
_SILENT = r"NETWORK_CONNECTION|error sending request|Connection refused|tcp connect|dns error|timed? ?out|"
_SILENT += r"Could(n't| not) (resolve|connect)|Fail to get a new connection|Connection reset|USER_INITIATED|curlCode"


@dataclass(frozen=True)
class Store:
    """One bucket or container. ``given`` are the variables by their plain names; they are in no repr."""

    kind: str  # s3, gs or az
    bucket: str
    given: tuple[tuple[str, str], ...] = field(repr=False)
    own: bool = False  # the keys are one plant's: nothing may come from elsewhere

    def get(self, *names: str) -> str | None:
        known = dict(self.given)
        return next((known[name] for name in names if known.get(name)), None)

    @property
    def account(self) -> str:
        """Azure's storage account, from the URL or its variable."""
        _, _, host = self.bucket.partition("@")
        return host.partition(".")[0] or self.get("AZURE_STORAGE_ACCOUNT_NAME") or ""


def variables(keys: str | None) -> dict[str, str]:
    """The stores' variables by their plain names: the process's own, those behind a prefix, or those in a file."""
    if keys is not None and not keys.endswith("_"):
        return {name: value for name, value in secrets_in(Path(keys)).items() if name.startswith(OF_STORES)}
    prefix = keys or ""
    found = {name.removeprefix(prefix): value for name, value in os.environ.items() if name.startswith(prefix)}
    return {name: value for name, value in found.items() if name.startswith(OF_STORES)}


def store_of(url: str, keys: str | None) -> Store:
    """The store of a URL. Raises InputError where a plant's own keys are not complete."""
    parts = urlsplit(url)
    kind = "az" if parts.scheme.startswith(("az", "abfs")) else parts.scheme
    store = Store(kind, parts.netloc, tuple(sorted(variables(keys).items())), own=keys is not None)
    if store.own and (missing := [names for names in _NEEDED[kind] if not store.get(*names)]):
        prefix = keys if keys and keys.endswith("_") else ""
        raise InputError(
            "No keys for the object store", expected=" and ".join(f"{prefix}{names[0]}" for names in missing),
            found="none", where=f"the environment, for {url}" if prefix else keys,
            do="Set what is missing where this runs, on every node, or name a file in `credentials`",
        )  # fmt: skip
    if store.own and (mixed := next((n for n in _MIXED[kind] if os.environ.get(n) and not store.get(n)), None)):
        raise InputError(
            "The process's own keys would be mixed with a plant's", expected=f"no {mixed} in the environment",
            found="one", where=url, do="Unset it, and give what needs it `credentials` of its own",
        )  # fmt: skip
    if kind == "az" and not store.account:
        raise InputError(
            "No storage account", expected="abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/... or "
            "AZURE_STORAGE_ACCOUNT_NAME", found=url, do="Name the account",
        )  # fmt: skip
    return store


def delta_options(store: Store) -> dict[str, str]:
    """What Delta is told. It holds secrets: for the call alone."""
    found: dict[str, str | None]
    if store.kind == "s3":
        endpoint = _endpoint(store)
        found = {
            "aws_access_key_id": store.get("AWS_ACCESS_KEY_ID"),
            "aws_secret_access_key": store.get("AWS_SECRET_ACCESS_KEY"),
            "aws_session_token": store.get("AWS_SESSION_TOKEN"), "aws_region": _region(store),
            "aws_endpoint_url": endpoint, "aws_allow_http": _true(endpoint), "aws_conditional_put": "etag",
        }  # fmt: skip
    elif store.kind == "gs":
        endpoint = store.get("GOOGLE_ENDPOINT_URL")
        found = {
            "google_service_account": store.get("GOOGLE_APPLICATION_CREDENTIALS"),
            "google_base_url": endpoint, "allow_http": _true(endpoint),
        }  # fmt: skip
    else:
        endpoint = store.get("AZURE_STORAGE_ENDPOINT")
        found = {
            "azure_storage_account_name": store.account,
            "azure_storage_account_key": store.get("AZURE_STORAGE_ACCOUNT_KEY"),
            "azure_storage_sas_token": store.get("AZURE_STORAGE_SAS_TOKEN"),
            "azure_storage_client_id": store.get("AZURE_CLIENT_ID"),
            "azure_storage_client_secret": store.get("AZURE_CLIENT_SECRET"),
            "azure_storage_tenant_id": store.get("AZURE_TENANT_ID"),
            "azure_storage_endpoint": f"{endpoint.rstrip('/')}/{store.account}" if endpoint else None,
            "allow_http": _true(endpoint),
        }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None} | _PATIENCE


def filesystem(store: Store, reference: str) -> Any:
    """Arrow's file system, kept as long as its keys are the same; pickled, it is ``reference`` alone."""
    hour = int(datetime.now(UTC).timestamp() // 1800) if store.kind == "gs" else 0  # a token of an hour
    return _filesystem(store, reference, hour)


@lru_cache(maxsize=64)
def _filesystem(store: Store, reference: str, turn: int) -> Any:
    from pyarrow import fs

    kinds = {"s3": (fs.S3FileSystem, _s3), "gs": (fs.GcsFileSystem, _gcs), "az": (fs.AzureFileSystem, _azure)}
    kind, arguments = kinds[store.kind]
    found = type(kind.__name__, (kind,), {"__reduce__": _reduced})(**arguments(store))
    found.reference = reference
    return found


def _reduced(self: Any) -> tuple[Any, tuple[str]]:
    from cluster.places import filesystem_at

    return filesystem_at, (self.reference,)


def _s3(store: Store) -> dict[str, Any]:
    endpoint = _endpoint(store)
    parts = urlsplit(endpoint) if endpoint else None
    return {
        "access_key": store.get("AWS_ACCESS_KEY_ID"), "secret_key": store.get("AWS_SECRET_ACCESS_KEY"),
        "session_token": store.get("AWS_SESSION_TOKEN"), "region": _region(store),
        "allow_delayed_open": True, "connect_timeout": 5.0, "request_timeout": 60.0,
    } | ({"endpoint_override": parts.netloc + parts.path, "scheme": parts.scheme} if parts else {})  # fmt: skip


def _gcs(store: Store) -> dict[str, Any]:
    from datetime import timedelta

    endpoint, token, until = store.get("GOOGLE_ENDPOINT_URL"), store.get("GOOGLE_ACCESS_TOKEN"), None
    path = store.get("GOOGLE_APPLICATION_CREDENTIALS")
    parts = urlsplit(endpoint) if endpoint else None
    found: dict[str, Any] = {"retry_time_limit": timedelta(seconds=20)}
    found |= {"endpoint_override": parts.netloc, "scheme": parts.scheme} if parts else {}
    if path and store.own and not token:  # Arrow itself knows only the process's own file
        token, until = _google_token(path)
    if token:
        found |= {"access_token": token, "credential_token_expiration": until or datetime.now(UTC) + timedelta(hours=1)}
    return found


def _google_token(path: str) -> tuple[str, datetime]:
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request
    from google.oauth2 import service_account

    try:
        keys = service_account.Credentials.from_service_account_file(
            path, scopes=["https://www.googleapis.com/auth/devstorage.read_write"]
        )
        keys.refresh(Request())
    except (GoogleAuthError, OSError, ValueError):
        raise AccessError(
            "Google gives no token", expected="a service account's key file", found="one that it refuses, or none",
            where=path, do="Check GOOGLE_APPLICATION_CREDENTIALS",
        ) from None  # fmt: skip
    return str(keys.token), keys.expiry.replace(tzinfo=UTC)


def _azure(store: Store) -> dict[str, Any]:
    endpoint = store.get("AZURE_STORAGE_ENDPOINT")
    parts = urlsplit(endpoint) if endpoint else None
    found: dict[str, Any] = {
        "account_name": store.account, "account_key": store.get("AZURE_STORAGE_ACCOUNT_KEY"),
        "sas_token": store.get("AZURE_STORAGE_SAS_TOKEN"), "client_id": store.get("AZURE_CLIENT_ID"),
        "client_secret": store.get("AZURE_CLIENT_SECRET"), "tenant_id": store.get("AZURE_TENANT_ID"),
    }  # fmt: skip
    for service in ("blob", "dfs") if parts else ():
        found |= {f"{service}_storage_authority": parts.netloc, f"{service}_storage_scheme": parts.scheme}  # type: ignore[union-attr]
    return {name: value for name, value in found.items() if value is not None}


def _endpoint(store: Store) -> str | None:
    """A plant's own keys go to its own endpoint: left out, the process's would be taken."""
    fallback = f"https://s3.{_region(store)}.amazonaws.com" if store.own else None
    return store.get("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") or fallback


def _region(store: Store) -> str | None:
    fallback = "us-east-1" if store.own or store.get("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") else None
    return store.get("AWS_REGION", "AWS_DEFAULT_REGION") or fallback


def _true(endpoint: str | None) -> str | None:
    return "true" if endpoint and endpoint.startswith("http://") else None


@contextmanager
def reaching(url: object) -> Iterator[None]:
    """A store's errors in plain words and without its own, which may repeat keys. A file that is not there stays so."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise explained(url, error) from None


def explained(url: object, error: Exception) -> MillwrightError:
    """What a store's error means."""
    text = str(error)
    if re.search(r"NoSuchBucket|NO_SUCH_BUCKET|ContainerNotFound|specified (bucket|container) does not exist", text):
        return NotFoundError(
            "No such bucket", expected="one that is there", found="none", where=url, do="Make it, or correct the URL"
        )
    if re.search(_REFUSED, text):
        return AccessError(
            "The object store refuses these keys", expected="keys that may read and write there",
            found=_code(text) or "keys that may not", where=url, do="Check the plant's `credentials` and its variables",
        )  # fmt: skip
    if re.search(_SILENT, text):
        return MillwrightError(
            "The object store does not answer", found="no connection", where=url,
            do="Check its endpoint and the network, then run this again: nothing is lost",
        )
    return MillwrightError("The object store failed", found=_code(text) or type(error).__name__, where=url)


def _code(text: str) -> str | None:
    """The store's own word for what is wrong."""
    found = re.search(r"<Code>(\w{1,60})</Code>|AWS Error ([A-Z_]{1,60})|\b([45]\d\d [A-Z][a-z]+( [A-Z][a-z]+)?)", text)
    return next((part for part in found.groups() if part), None) if found else None


def secrets_in(path: Path) -> dict[str, str]:
    """The ``NAME=value`` lines of a file. Raises InputError, or AccessError where others may read it."""
    try:
        mode, text = path.stat().st_mode & 0o777, path.read_text("utf-8")
    except OSError as error:
        raise InputError("No credentials", expected="a readable file", found=error.strerror, where=path) from error
    if mode & 0o077:
        raise AccessError(
            "Credentials that others may read", expected="mode 600", found=f"{mode:o}", where=path,
            do=f"Run `chmod 600 {path}`",
        )  # fmt: skip
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    if wrong := next((number for number, (name, equals, _) in enumerate(pairs, 1) if not equals or not name), None):
        raise InputError("Wrong credentials", expected="NAME=value on each line", found=f"entry {wrong}", where=path)
    return {name.strip(): value.strip() for name, _, value in pairs}


def of_stores(names: Mapping[str, str], prefixes: tuple[str, ...] = ("",)) -> set[str]:
    """Those of the variables that are an object store's, under any of the prefixes."""
    return {name for name in names for prefix in prefixes if name.startswith(tuple(prefix + own for own in OF_STORES))}
