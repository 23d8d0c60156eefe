"""A bundle is whole, unchanged and without pickle, or it is refused by name."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models.bundle import load_bundle, save_bundle
from models.calibration import Calibration
from models.config import HazardConfig, ModelConfig, WindowConfig
from models.errors import InputError, NotFoundError
from models.spec import BundleSpec, Lineage, ScalingNumbers, Usual
from models.windows import Channel

CONFIG = ModelConfig(window=WindowConfig(length=4), hazard=HazardConfig(horizons={"48h": 48.0}, edges=(24, 48)))


def spec(**changes: Any) -> BundleSpec:
    known: dict[str, Any] = {
        "plant": "harbor", "kind": "trees", "name": "harbor", "version": "trees-1", "config": CONFIG,
        "channels": (Channel("flow", "flow", "m^3/h"), Channel("since_service", "time", "life", "context")),
        "calibration": Calibration(0.9, -0.1), "usual": Usual(window=(80.0, None), hazard=(0.1, 0.1, 0.2)),
        "scaling": ScalingNumbers(center=(1.0, 2.0), scale=(1.0, 1.0)), "ranges": {"flow": (60.0, 100.0)},
        "lineage": Lineage(data_version="readings/pump@1", code_version="0.1.0"), "threshold": 0.2,
        "num_failures_trained_on": 41, "metrics": {"log_likelihood": -0.7},
    }  # fmt: skip
    return BundleSpec(**(known | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "harbor" / "trees-1"
    save_bundle(path, spec(), weights="trees here", card="# harbor")
    return path


def test_a_bundle_comes_back_as_it_was_saved(folder: Path) -> None:
    found = load_bundle(folder)
    assert found.spec == spec()
    assert (found.model, found.weights, found.card) == (b"trees here", None, "# harbor")
    assert sorted(p.name for p in folder.iterdir()) == ["bundle.json", "card.md", "manifest.json", "model.txt"]
    assert [p.name for p in folder.parent.iterdir()] == ["trees-1"]  # nothing half-written is left


def test_a_network_has_weights_and_graph(tmp_path: Path) -> None:
    save_bundle(tmp_path / "n", spec(kind="network", version="n"), weights=b"w", onnx=b"graph")
    found = load_bundle(tmp_path / "n")
    assert (found.model, found.weights) == (b"graph", b"w")


def test_the_manifest_has_the_digest_of_every_other_file(folder: Path) -> None:
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert set(files) == {"bundle.json", "card.md", "model.txt"}
    for name, entry in files.items():
        data = (folder / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}


def test_saving_the_same_again_is_no_harm_and_something_else_is_refused(folder: Path) -> None:
    save_bundle(folder, spec(), weights="trees here", card="# harbor")
    with pytest.raises(InputError, match="never overwritten: expected a new version, found trees-1"):
        save_bundle(folder, spec(), weights="other trees", card="# harbor")
    assert load_bundle(folder).model == b"trees here"


@pytest.mark.parametrize("name", ["bundle.json", "card.md", "model.txt"])
def test_a_changed_byte_is_found_and_named(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(bytes(data))
    with pytest.raises(InputError, match=rf"was changed.*{name}"):
        load_bundle(folder)


def test_a_truncated_file_is_found_and_named(folder: Path) -> None:
    (folder / "model.txt").write_bytes(b"tree")
    with pytest.raises(InputError, match=r"another size: expected 10 bytes, found 4 .*model\.txt"):
        load_bundle(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "card.md").unlink()
    with pytest.raises(InputError, match=r"missing: expected card\.md"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["weights.pkl", ".hidden"])
def test_an_unlisted_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    with pytest.raises(InputError, match=f"Unlisted file in a bundle: .*found {name}"):
        load_bundle(folder)


def test_a_link_is_no_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes((folder / "model.txt").read_bytes())
    (folder / "model.txt").unlink()
    (folder / "model.txt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"a plain file model\.txt"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": "millwright-bundle/1", "files": {"model.txt": 1}}', "[" * 100_000]
)
def test_an_unreadable_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(InputError, match="Unreadable manifest"):
        load_bundle(folder)


def test_a_manifest_that_leaves_the_folder_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../../secret"] = manifest["files"]["model.txt"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"Unknown file in a bundle's manifest.*secret"):
        load_bundle(folder)


def test_another_format_is_named(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text()) | {"format": "millwright-bundle/9"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="expected millwright-bundle/1, found 'millwright-bundle/9'"):
        load_bundle(folder)


def test_a_missing_manifest_or_folder_is_told_apart(folder: Path, tmp_path: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"a plain file manifest\.json"):
        load_bundle(folder)
    with pytest.raises(NotFoundError, match="No bundle here"):
        load_bundle(tmp_path / "nothing")


def _rewritten(folder: Path, **changes: Any) -> None:
    """A bundle.json with other content under a manifest that fits it."""
    text = json.dumps(json.loads((folder / "bundle.json").read_text()) | changes).encode()
    (folder / "bundle.json").write_bytes(text)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["bundle.json"] = {"sha256": hashlib.sha256(text).hexdigest(), "size_bytes": len(text)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_wrong_specification_is_named_by_its_key(folder: Path) -> None:
    _rewritten(folder, threshold=3)
    with pytest.raises(InputError, match=r"Wrong 'threshold' in a bundle: expected .*less than or equal to 1, found 3"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("section", "size"),
    [("network", {"hidden": 10**9}), ("network", {"members": 10**6}), ("network", {"kernel": 2**40}),
     ("window", {"length": 10**12}), ("hazard", {"edges": [float(e) for e in range(24, 4000, 24)] * 9})],
)  # fmt: skip
def test_a_bundle_that_asks_for_a_size_beyond_all_use_is_refused(folder: Path, section: str, size: Any) -> None:
    config = json.loads((folder / "bundle.json").read_text())["config"]
    _rewritten(folder, config=config | {section: config[section] | size})
    key = f"config.{section}.{next(iter(size))}"
    with pytest.raises(InputError, match=rf"Wrong '{key}' in a bundle: expected .*(at most|less than or equal to)"):
        load_bundle(folder)


def test_a_bundle_without_a_horizon_is_refused(folder: Path) -> None:
    config = json.loads((folder / "bundle.json").read_text())["config"]
    _rewritten(folder, config=config | {"hazard": config["hazard"] | {"horizons": {}}})
    with pytest.raises(InputError, match=r"Wrong 'config.hazard.horizons' in a bundle: .*at least one horizon"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("scaling", "why"),
    [
        ({"center": [1.0], "scale": [1.0]}, "scaling is of 1 channels"),
        ({"center": [1.0, 2.0], "scale": [1.0, 0.0]}, "Scaling is broken"),
        ({"center": [1.0, 2.0], "scale": [1.0, 1.0], "clip": -1}, "greater than 0"),
        ({"center": [1.0, 2.0], "scale": [1.0, 1.0], "keys": [7], "levels": [[1.0]], "spread": [1.0],
          "center_in": [[1.0, 2.0]], "scale_in": [[1.0, 1.0]]}, r"its keys \(7,\), for 2"),
    ],
)  # fmt: skip
def test_a_scaling_of_other_channels_is_refused(folder: Path, scaling: dict[str, Any], why: str) -> None:
    _rewritten(folder, scaling=scaling)
    with pytest.raises(InputError, match=why):
        load_bundle(folder)


def test_an_unknown_key_is_refused(folder: Path) -> None:
    _rewritten(folder, surprise=1)
    with pytest.raises(InputError, match="Wrong 'surprise' in a bundle"):
        load_bundle(folder)


def test_a_kind_whose_files_are_not_there_is_refused(folder: Path) -> None:
    _rewritten(folder, kind="network")
    with pytest.raises(InputError, match=r"Wrong files for a bundle of kind 'network': expected weights\.safetensors"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alarm_horizon": "9h"}, "no horizon of the model"),
        ({"usual": Usual(window=(1.0,))}, "1 values for 2 channels"),
        ({"usual": Usual(window=(1.0, None), present=(1.0,))}, "1 shares for 2 channels"),
        ({"life_levels": (0.5, 0.5, 0.9)}, "do not rise between 0 and 1"),
        ({"life_levels": (0.0, 0.5, 0.9)}, "do not rise between 0 and 1"),
        ({"usual": {"window": (1.0, float("nan"))}}, "finite number"),
        ({"plant": "../x"}, "plant or version"),
        ({"channels": ()}, "at least 1 item"),
    ],
)
def test_a_specification_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(**changes)


def test_no_torch_is_needed_to_load(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from models.bundle import load_bundle; import models.predict; "
        f"load_bundle(Path({str(folder)!r})); print(sorted({{'torch', 'pickle5', 'mlflow'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["card.md", "model.txt"])
def test_a_text_that_is_none_is_named(folder: Path, name: str) -> None:
    data = b"\xff\xfe"
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": 2}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=f"no text.*{name}"):
        load_bundle(folder)
