"""Bundles in an object store: written whole with the manifest last, fetched once, verified where they are loaded.

The one idea: a bundle is loaded from plain local files, whose SHA-256 the manifest holds. What lies in an object
store is copied into the home's cache, under its version and its URL, and a copy that is not whole is fetched again.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from cluster.home import Home
from cluster.places import Place, Remote, files_below
from cluster.registry import bundle_folder
from models.bundle import MANIFEST, Bundle, load_bundle, save_bundle
from models.errors import InputError, MillwrightError, NotFoundError
from models.spec import FORMAT, BundleSpec

_ATTEMPTS = 3


def save(
    place: Place, spec: BundleSpec, *, weights: bytes | str, onnx: bytes | None = None, reasons: bytes | None = None,
    card: str = "",
) -> None:  # fmt: skip
    """``models.bundle.save_bundle``, wherever the place is. Raises InputError where it holds something else."""
    if isinstance(place, Path):
        save_bundle(place, spec, weights=weights, onnx=onnx, reasons=reasons, card=card)
        return
    with tempfile.TemporaryDirectory(prefix="millwright-bundle-") as folder:
        whole = Path(folder) / place.name
        save_bundle(whole, spec, weights=weights, onnx=onnx, reasons=reasons, card=card)
        contents = {path.name: path.read_bytes() for path in whole.iterdir()}
    if (place / MANIFEST).is_file():
        if (place / MANIFEST).read_bytes() == contents[MANIFEST]:
            return
        raise InputError(
            "A bundle's version is never overwritten", expected="a new version", found=place.name, where=place.parent,
            do="Save under another version",
        )  # fmt: skip
    names = [*sorted(contents.keys() - {MANIFEST}), MANIFEST]
    for _ in range(_ATTEMPTS):
        for name in names:
            (place / name).write_bytes(contents[name])
        # Somebody who writes the same version at the same moment may have put a file of theirs in between.
        if all((place / name).read_bytes() == contents[name] for name in names):
            return
    raise MillwrightError(
        "Could not save the bundle", expected="no other writer", found=place.name, where=place.parent,
        do="Run it again",
    )  # fmt: skip


def load(home: Home, plant: str, place: Place) -> Bundle:
    """The plant's bundle, verified. Raises NotFoundError, or InputError naming the file that differs."""
    return load_at(place, home.of(plant).cache / "bundles", allowed_networks=home.settings.registry.allowed_networks)


def load_version(home: Home, plant: str, version: str) -> Bundle:
    """The bundle of a version of the plant."""
    return load(home, plant, bundle_folder(home, plant, version))


def load_at(place: Place, cache: Path, *, allowed_networks: Collection[str] = ()) -> Bundle:
    """The bundle there; a remote one from its copy in ``cache``, which is made where there is none or a broken one."""
    if isinstance(place, Path):
        return load_bundle(place, allowed_networks=allowed_networks)
    copy = cache / f"{place.name}-{hashlib.sha256(place.url.encode()).hexdigest()[:8]}"
    try:
        return load_bundle(copy, allowed_networks=allowed_networks)
    except InputError:
        if copy.exists():
            shutil.rmtree(copy)
    _fetch(place, copy)
    return load_bundle(copy, allowed_networks=allowed_networks)


def _fetch(place: Remote, copy: Path) -> None:
    """Copy the files of a bundle, then name the folder: a copy is whole or not there."""
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{copy.name}.", dir=copy.parent))
    try:
        names = [found.path for found in files_below(place, "") if "/" not in found.path]
        if MANIFEST not in names:
            raise NotFoundError("No bundle here", expected=f"{MANIFEST} ({FORMAT})", found="none", where=place)
        for name in names:
            (unfinished / name).write_bytes((place / name).read_bytes())
        unfinished.rename(copy)
    except OSError:
        if not copy.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


