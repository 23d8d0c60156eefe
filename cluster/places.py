"""Where tables, bundles and studies are: a local folder, or a place in an object store.

The one idea: a local place is a ``Path`` and stays exactly that; ``Remote`` answers the same few questions for a
URL. In text (a task's argument, a file's name in a list) a remote place is its URL with ``#`` and the name of
its keys, so whoever gets the text opens the place with the plant's own keys, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from cluster.stores import URL, delta_options, filesystem, reaching, store_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MARK = "#"


@dataclass(frozen=True)
class Remote:
    """A place in an object store. ``keys`` names the variables or file that its keys are in; None: the process's."""

    url: str
    keys: str | None = None

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, more: str | PurePosixPath) -> Remote:
        return Remote(f"{self.url.rstrip('/')}/{more}", self.keys)

    @property
    def name(self) -> str:
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Remote:
        return Remote(self.url.rstrip("/").rpartition("/")[0], self.keys)

    @property
    def inner(self) -> str:
        """The path that Arrow's file system knows it by: bucket and key."""
        parts = urlsplit(self.url)
        return f"{parts.netloc.partition('@')[0]}{parts.path}".rstrip("/")

    @property
    def filesystem(self) -> Any:
        return filesystem(store_of(self.url, self.keys), self.root)

    @property
    def root(self) -> str:
        parts = urlsplit(self.url)
        return reference(Remote(f"{parts.scheme}://{parts.netloc}", self.keys))

    @property
    def options(self) -> dict[str, str]:
        """Delta's options, with secrets: for the call alone."""
        return delta_options(store_of(self.url, self.keys))

    def is_file(self) -> bool:
        with reaching(self):
            return bool(self.filesystem.get_file_info(self.inner).is_file)

    def read_bytes(self) -> bytes:
        """Raises FileNotFoundError where there is no such object."""
        with reaching(self), self.filesystem.open_input_file(self.inner) as file:
            return bytes(file.read())

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> None:
        """One put: whoever reads meanwhile has the old object or the new."""
        with reaching(self), self.filesystem.open_output_stream(self.inner) as file:
            file.write(data)

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            with reaching(self):
                self.filesystem.delete_file(self.inner)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def resolve(self) -> Remote:
        return self

    def is_relative_to(self, other: object) -> bool:
        return isinstance(other, Remote) and f"{self.url}/".startswith(f"{other.url.rstrip('/')}/")


Place = Path | Remote


@dataclass(frozen=True)
class Found:
    """A file below a place; ``path`` is relative to it."""

    path: str
    size_bytes: int
    modified: float


def placed(text: str, keys: str | None = None) -> Place:
    """A setting's folder or URL."""
    return Remote(text.rstrip("/"), keys) if URL.match(text) else Path(text).expanduser()


def reference(place: Place) -> str:
    """The place as a text that ``place_of`` turns into it again. It holds no secret."""
    if isinstance(place, Path):
        return str(place)
    return place.url if place.keys is None else f"{place.url}{MARK}{quote(place.keys, safe='')}"


def references(place: Place, paths: Iterable[str]) -> list[str]:
    """``reference`` of many paths below a place."""
    base, mark, keys = reference(place).partition(MARK) if isinstance(place, Remote) else (str(place), "", "")
    return [f"{base}/{path}{mark}{keys}" for path in paths]


def place_of(text: str) -> Place:
    url, mark, keys = text.partition(MARK) if "://" in text else (text, "", "")
    return Remote(url, unquote(keys) if mark else None) if "://" in url else Path(text)


def filesystem_at(text: str) -> Any:
    """Arrow's file system of a reference: what a pickled one becomes again."""
    place = place_of(text)
    assert isinstance(place, Remote), "only remote file systems are pickled by reference"
    return place.filesystem


def opened(paths: Sequence[str]) -> tuple[Any, list[str]]:
    """The file system of references of one store (None: this machine's), and the paths that it knows them by."""
    places = [place_of(path) for path in paths]
    remote = [place for place in places if isinstance(place, Remote)]
    return (remote[0].filesystem, [place.inner for place in remote]) if remote else (None, list(paths))


def read_parquet(paths: Sequence[str], schema: pa.Schema | None = None, **scan: Any) -> pa.Table:
    """Rows of Parquet files; ``scan`` is what Arrow's ``to_table`` takes."""
    import pyarrow.dataset as ds

    files, inner = opened(paths)
    if files is None:
        return ds.dataset(inner, schema=schema, format="parquet").to_table(**scan)
    with reaching(place_of(paths[0])):
        return ds.dataset(inner, schema=schema, format="parquet", filesystem=files).to_table(**scan)


def parquet_file(path: str) -> pq.ParquetFile:
    """One Parquet file, opened."""
    import pyarrow.parquet as pq

    files, (inner,) = opened([path])
    if files is None:
        return pq.ParquetFile(path)
    with reaching(place_of(path)):
        return pq.ParquetFile(inner, filesystem=files, pre_buffer=True)


def gone(paths: Sequence[str]) -> list[str]:
    """Those of the files that are not there."""
    files, inner = opened(paths)
    if files is None:
        return [path for path in paths if not Path(path).is_file()]
    with reaching(place_of(paths[0])):
        return [path for path, info in zip(paths, files.get_file_info(inner), strict=True) if not info.is_file]


def files_below(place: Place, suffix: str) -> Iterator[Found]:
    """Every file at any depth whose name ends so, in the order of their paths."""
    if isinstance(place, Path):
        for path in sorted(place.rglob(f"*{suffix}")):
            stat = path.stat()
            yield Found(path.relative_to(place).as_posix(), stat.st_size, stat.st_mtime)
        return
    for info in sorted(_listed(place, deep=True), key=lambda info: info.path):
        if info.is_file and info.path.endswith(suffix):
            yield Found(info.path.removeprefix(f"{place.inner}/"), info.size, info.mtime_ns / 1e9)


def tables_below(place: Place) -> list[str]:
    """Names of the tables in a plant's lake, or below one of its folders, sorted: `events`, `readings/pump`."""
    if isinstance(place, Path):
        logs = [log for pattern in ("*/_delta_log", "*/*/_delta_log") for log in place.glob(pattern)]
        return sorted(log.parent.relative_to(place).as_posix() for log in logs)
    found: list[str] = []
    for folder in (info.path for info in _listed(place) if not info.is_file):
        name = folder.rstrip("/").rpartition("/")[2]
        inside = [info.path.rstrip("/").rpartition("/")[2] for info in _listed(place / name)]
        if "_delta_log" in inside:
            found.append(name)
        else:
            found += [f"{name}/{below}" for below in tables_below(place / name)]
    return sorted(found)


def _listed(place: Remote, *, deep: bool = False) -> list[Any]:
    from pyarrow import fs

    with reaching(place):
        return list(
            place.filesystem.get_file_info(fs.FileSelector(place.inner, recursive=deep, allow_not_found=True))
        )
