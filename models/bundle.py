"""A model on disk: a folder of plain files, each checked against its SHA-256 before anything reads it.

The one idea: the manifest is written last and the folder is renamed into place, so a bundle is
either whole or absent; what was verified in memory is what runs. No pickle, no torch, no network.
This is the only module of ``models`` that opens files.

    weights.safetensors  network weights          model.txt   LightGBM's text (trees, no_sensor)
    model.onnx           network, `values` -> `hazard` (and `modes`), scaling and calibration inside
    reasons.onnx         a network that knows a cheap way: its hazard with each channel at its usual value
    bundle.json          BundleSpec               card.md     the model card
    manifest.json        {"format", "files": {name: {"sha256", "size_bytes"}}}
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.errors import InputError, NotFoundError
from models.spec import FORMAT, BundleSpec

MANIFEST = "manifest.json"
REASONS = "reasons.onnx"
MAX_FILE_BYTES = 512 * 2**20  # a network of 1 M parameters is 4 MB, 300 trees are 1 MB
MAX_TEXT_BYTES = 8 * 2**20  # bundle.json, card.md and the manifest
_DO = "Restore the bundle from a copy, or train it again with `millwright tune`"
_FILES: dict[str, tuple[str, ...]] = {
    "network": ("weights.safetensors", "model.onnx", "bundle.json", "card.md"),
    "trees": ("model.txt", "bundle.json", "card.md"),
    "no_sensor": ("model.txt", "bundle.json", "card.md"),
}


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: ``model`` is ``model.onnx`` or ``model.txt``, ``weights`` only a network's."""

    folder: Path
    spec: BundleSpec
    model: bytes
    weights: bytes | None
    card: str
    reasons: bytes | None = None


def save_bundle(
    folder: Path, spec: BundleSpec, *, weights: bytes | str, onnx: bytes | None = None, reasons: bytes | None = None,
    card: str = "",
) -> None:  # fmt: skip
    """Write a bundle whole or not at all; saving the very same bundle again changes nothing.

    ``weights`` is safetensors (bytes, with ``onnx``) for a network, LightGBM's text for trees.
    Raises InputError where ``folder`` holds something else: a version is never overwritten.
    """
    contents = _contents(spec, weights, onnx, card) | ({} if reasons is None else {REASONS: reasons})
    manifest = {
        "format": FORMAT,
        "files": {n: {"sha256": _sha256(b), "size_bytes": len(b)} for n, b in sorted(contents.items())},
    }
    contents[MANIFEST] = json.dumps(manifest, indent=1).encode()
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        _same_or_refuse(folder, contents[MANIFEST])
        return
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, data in contents.items():
            _write(unfinished / name, data)
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not folder.exists():
            raise
        _same_or_refuse(folder, contents[MANIFEST])  # another process was first


def load_bundle(folder: Path, *, allowed_networks: Collection[str] = ()) -> Bundle:
    """Read and verify a bundle. Raises NotFoundError, or InputError naming the file that differs.

    A network named by an import path is code that scoring would import and run: it is refused but for
    ``allowed_networks``, which come from the deployment and never from a bundle.
    """
    if not folder.is_dir():
        raise NotFoundError("No bundle here", expected="a folder with manifest.json", found="nothing", where=folder)
    listed = _manifest(folder)
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    for name in sorted(present - listed.keys()):
        raise _broken("Unlisted file in a bundle", "only files of the manifest", name, folder / name)
    for name in sorted(listed.keys() - present):
        raise _broken("A bundle's file is missing", name, "nothing", folder)
    contents = {name: _verified(folder / name, entry) for name, entry in sorted(listed.items())}
    spec = _spec(folder, contents.get("bundle.json"))
    require_allowed(spec.config.network.name, allowed_networks, where=folder)
    may = {REASONS} if spec.kind == "network" else set()
    if set(contents) - may != set(_FILES[spec.kind]):
        raise _broken(
            f"Wrong files for a bundle of kind {spec.kind!r}", ", ".join(_FILES[spec.kind]),
            ", ".join(sorted(contents)), folder,
        )  # fmt: skip
    model = contents["model.onnx" if spec.kind == "network" else "model.txt"]
    texts = {name: _text(folder / name, data) for name, data in contents.items() if name in ("card.md", "model.txt")}
    weights = contents.get("weights.safetensors")
    return Bundle(folder, spec, model, weights, texts["card.md"], contents.get(REASONS))


def require_allowed(network: str, allowed: Collection[str], *, where: object) -> None:
    """Raises InputError for an import path that the deployment does not list."""
    if ":" in network and network not in allowed:
        raise InputError(
            "This network is code of its own, which is not allowed here", expected=f"one of {sorted(allowed)}"
            if allowed else "a network of Millwright", found=repr(network), where=where,
            do="Where you trust that code, list it in registry.allowed_networks",
        )  # fmt: skip


def _contents(spec: BundleSpec, weights: bytes | str, onnx: bytes | None, card: str) -> dict[str, bytes]:
    network = spec.kind == "network"
    assert isinstance(weights, bytes) == network, f"weights of {spec.kind} are {'bytes' if network else 'text'}"
    assert (onnx is not None) == network, "a network, and only a network, has an ONNX graph"
    text = json.dumps(spec.model_dump(mode="json"), indent=1, allow_nan=False, ensure_ascii=False)
    found = {"bundle.json": text.encode(), "card.md": card.encode()}
    if isinstance(weights, bytes) and onnx is not None:
        return found | {"weights.safetensors": weights, "model.onnx": onnx}
    return found | {"model.txt": str(weights).encode()}


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _same_or_refuse(folder: Path, manifest: bytes) -> None:
    path = folder / MANIFEST
    if path.is_file() and path.read_bytes() == manifest:
        return
    raise InputError(
        "A bundle's version is never overwritten", expected="a new version", found=folder.name, where=folder.parent,
        do="Save under another version",
    )  # fmt: skip


def _manifest(folder: Path) -> dict[str, Mapping[str, Any]]:
    path = folder / MANIFEST
    data = _read(path, MAX_TEXT_BYTES)
    try:
        manifest = json.loads(data)
        files = manifest["files"]
        if manifest["format"] != FORMAT:
            raise _broken("Unknown format of bundle", FORMAT, repr(manifest["format"]), path)
        known = {REASONS, *(name for names in _FILES.values() for name in names)}
        for name, entry in files.items():
            if name not in known:
                raise _broken("Unknown file in a bundle's manifest", ", ".join(sorted(known)), repr(name), path)
            if not isinstance(entry["size_bytes"], int) or not isinstance(entry["sha256"], str):
                raise TypeError(name)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _broken("Unreadable manifest", "JSON with `format` and `files`", str(error)[:80], path) from error
    return dict(files)


def _read(path: Path, limit: int) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise _broken("A bundle's file is missing", f"a plain file {path.name}", "none", path.parent)
    size = path.stat().st_size
    if size > limit:
        raise _broken("A bundle's file is too large", f"at most {limit} bytes", f"{size}", path)
    return path.read_bytes()


def _verified(path: Path, entry: Mapping[str, Any]) -> bytes:
    data = _read(path, MAX_TEXT_BYTES if path.suffix in (".json", ".md") else MAX_FILE_BYTES)
    if len(data) != entry["size_bytes"]:
        raise _broken("A bundle's file has another size", f"{entry['size_bytes']} bytes", f"{len(data)}", path)
    if (found := _sha256(data)) != entry["sha256"]:
        raise _broken("A bundle's file was changed", f"SHA-256 {entry['sha256'][:16]}", found[:16], path)
    return data


def _text(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _broken("A bundle's file is no text", "UTF-8", str(error)[:80], path) from error


def _spec(folder: Path, data: bytes | None) -> BundleSpec:
    path = folder / "bundle.json"
    if data is None:
        raise _broken("A bundle's file is missing", "bundle.json in the manifest", "none", folder)
    try:
        return BundleSpec.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise _broken(f"Wrong {key!r} in a bundle", first["msg"], repr(first.get("input"))[:80], path) from error


def _broken(what: str, expected: str, found: str, where: Path) -> InputError:
    return InputError(what, expected=expected, found=found, where=where, do=_DO)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
