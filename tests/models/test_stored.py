"""A network out of its bundle: the same answers, and nothing allocated for a configuration that its weights are not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from pydantic import ValidationError

from models.config import HazardConfig, ModelConfig, NetworkConfig, TreesConfig, WindowConfig
from models.errors import InputError
from models.networks import BODIES, HazardNetwork, NetworkModel, build, weights_of
from models.networks.stored import restored
from models.regimes import Regimes
from models.scaling import Scaling

W, C = 16, 3
PLAIN = Scaling((1.0, -2.0, 0.0), (2.0, 1.0, 5.0))
IN_REGIMES = Scaling(
    (1.0, -2.0, 0.0), (2.0, 1.0, 5.0), regimes=Regimes((0,), ((0.0,), (9.0,)), (1.0,)),
    center_in=((0.0, 1.0, 2.0), (3.0, 4.0, 5.0)), scale_in=((1.0,) * C, (2.0,) * C),
)  # fmt: skip
SETTINGS = {"channels": (4, 2), "tcn": (3, 2), "gru": (4, 1)}
KINDS = ["number"] * C


RELATIONS = np.array([[2.0, 0.0, -1.8], [0.0, 1.0, 0.0], [-1.8, 0.0, 2.0]], np.float32)


def config(name: str, **changes: object) -> ModelConfig:
    kernel, layers = SETTINGS[name]
    known = {"name": name, "hidden": 8, "channel_hidden": 8, "kernel": kernel, "layers": layers} | changes
    return ModelConfig(
        window=WindowConfig(length=W), hazard=HazardConfig(horizons={"12h": 12}, edges=(6, 12, 24)),
        network=NetworkConfig.model_validate(known),
    )  # fmt: skip


def network(
    name: str, scaling: Scaling = PLAIN, relations: np.ndarray | None = None, **changes: object
) -> HazardNetwork:
    torch.manual_seed(0)
    made = build(config(name, **changes), scaling, KINDS, used=(0, 2), num_modes=2, relations=relations)
    for member in made.members:
        torch.nn.init.normal_(member.head.weight)
    return made.eval()


def windows() -> np.ndarray:
    values = np.random.default_rng(0).normal(0, 3, (5, W, C)).astype(np.float32)
    values[values > 4] = np.nan
    return values


@pytest.mark.parametrize("name", sorted(BODIES))
@pytest.mark.parametrize(("scaling", "members"), [(PLAIN, 1), (IN_REGIMES, 2)], ids=["plain", "in regimes"])
@pytest.mark.parametrize("relations", [None, RELATIONS], ids=["values alone", "with deviations"])
def test_a_network_comes_back_out_of_its_weights(
    name: str, scaling: Scaling, members: int, relations: np.ndarray | None
) -> None:
    net = network(name, scaling, relations, members=members)
    found = restored(config(name, members=members), scaling, KINDS, weights_of(net), num_modes=2)
    assert {t.device.type for t in found.state_dict().values()} == {"cpu"}
    for one, other in zip(NetworkModel(net).answers(windows()), NetworkModel(found).answers(windows()), strict=True):
        np.testing.assert_array_equal(one, other)
    history = np.random.default_rng(1).normal(0, 3, (40, C)).astype(np.float32)
    one, other = (NetworkModel(n).sequence_logits(history) for n in (net, found))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["tcn", "gru"])
def test_weights_from_before_networks_had_members_still_load(name: str) -> None:
    net = network(name)
    tensors = {key.removeprefix("members.0."): tensor for key, tensor in net.state_dict().items()}
    tensors |= {key: tensors[key][0].clone() for key in ("center", "scale")}  # one of each channel, no regimes
    found = restored(config(name), PLAIN, KINDS, safetensors.torch.save(tensors), num_modes=2)
    np.testing.assert_array_equal(NetworkModel(net).logits(windows()), NetworkModel(found).logits(windows()))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("channels", {"hidden": 1024}, r"expected members\.0\.body\.\S+ float32 \[1024.*found float32 \[8"),
        ("channels", {"channel_hidden": 1024}, r"film\.bias float32 \[2048\], found float32 \[16\]"),
        ("channels", {"layers": 16, "kernel": 256}, "looks back further than its window"),
        ("tcn", {"layers": 3, "kernel": 2}, r"members\.0\.layers|members\.0\.body\.layers"),
        ("tcn", {"hidden": 1024}, r"found float32 \[8"),
        ("tcn", {"members": 64}, r"members\.1\..*found none"),
        ("gru", {"hidden": 1024, "layers": 16}, r"found float32 \[8|found none"),
    ],
)  # fmt: skip
def test_a_configuration_that_its_weights_are_not_is_refused(
    name: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        restored(config(name, **changes), PLAIN, KINDS, weights_of(network(name)), num_modes=2)


def test_the_weights_of_another_architecture_are_refused() -> None:
    with pytest.raises(InputError, match=r"Weights of another network: expected members\.0\.body"):
        restored(config("tcn"), PLAIN, KINDS, weights_of(network("gru")), num_modes=2)


def test_a_refusal_names_the_file_and_what_to_do() -> None:
    with pytest.raises(InputError, match=r"\(in plant/weights\.safetensors\)\. Restore the bundle") as refused:
        restored(config("tcn"), PLAIN, KINDS, weights_of(network("tcn")), num_modes=9,
                 where=Path("plant/weights.safetensors"))  # fmt: skip
    assert refused.value.what == "Weights of another network"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"used": torch.tensor([0, 7])}, r"used, different ones of 3 channels, found \[0, 7\]"),
        ({"used": torch.tensor([0, -1])}, "used, different ones of 3 channels"),
        ({"used": torch.tensor([2, 2])}, "used, different ones of 3 channels"),
        ({"used": torch.zeros(0, dtype=torch.int64)}, r"used, at most 3 channels, found \[0\]"),
        ({"used": torch.tensor([0.0, 2.0])}, "used, at most 3 channels"),
        ({"used": torch.arange(4)}, "used, at most 3 channels"),
        ({"center": torch.zeros(3, 2, dtype=torch.float64)}, r"center float32 \[3, 2\], found float64 \[3, 2\]"),
        ({"keys": torch.tensor([2])}, r"keys \[0\], found \[2\]"),
        ({"surprise": torch.zeros(1)}, r"surprise none, found float32 \[1\]"),
    ],
)
def test_weights_that_contradict_the_bundle_are_refused(changed: dict[str, torch.Tensor], message: str) -> None:
    tensors = {name: tensor.clone() for name, tensor in network("tcn", IN_REGIMES).state_dict().items()} | changed
    with pytest.raises(InputError, match=message):
        restored(config("tcn"), IN_REGIMES, KINDS, safetensors.torch.save(tensors), num_modes=2)


@pytest.mark.parametrize("data", [b"", b"rubbish", b"\xff" * 64, safetensors.torch.save({"x": torch.zeros(1)})])
def test_what_are_no_weights_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="Weights of another network"):
        restored(config("tcn"), PLAIN, KINDS, data)


@pytest.mark.parametrize("name", sorted(BODIES))
def test_the_largest_configuration_is_refused_without_memory_for_it(name: str, tmp_path: Path) -> None:
    """16 layers of 1024 by 1024 by 256 are 17 GB a member; the process that reads them may grow by a quarter of one."""
    (tmp_path / "weights").write_bytes(weights_of(network(name)))
    largest = {"name": name, "hidden": 1024, "channel_hidden": 1024, "layers": 16, "kernel": 256, "members": 2}
    code = f"""
import json, resource, sys
from pathlib import Path
from models.config import HazardConfig, ModelConfig, NetworkConfig, WindowConfig
from models.errors import InputError
from models.networks.stored import restored
from models.scaling import Scaling
config = ModelConfig(
    window=WindowConfig(length={W}), hazard=HazardConfig(horizons={{"12h": 12}}, edges=(6, 12, 24)),
    network=NetworkConfig.model_validate({largest!r}),
)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    restored(config, Scaling((0.0,) * 3, (1.0,) * 3), ["number"] * 3, Path(sys.argv[1]).read_bytes(), num_modes=2)
except InputError as error:
    print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, str(error)]))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "weights")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    grown_kib, said = json.loads(done.stdout)
    assert grown_kib < 256 * 1024
    assert "Weights of another network" in said or "looks back further" in said


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden": 10**9}, {"hidden": 1028}, {"channel_hidden": 10**6}, {"layers": 17}, {"kernel": 257},
        {"members": 65}, {"crop": 10**9}, {"epochs": 10**9}, {"patience": 10**9}, {"batch_size": 10**9},
        {"pretrain_epochs": 10**9},
    ],
)  # fmt: skip
def test_a_size_beyond_all_use_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="less than or equal to"):
        NetworkConfig.model_validate(changes)


def test_windows_bins_and_trees_have_bounds_too() -> None:
    for refused in (
        lambda: WindowConfig(length=10**9), lambda: WindowConfig(carry=10**9),
        lambda: HazardConfig(horizons={"1h": 1}, edges=tuple(range(1, 1003))), lambda: TreesConfig(rounds=10**9),
        lambda: TreesConfig(leaves=10**9), lambda: TreesConfig(max_windows=10**12),
        lambda: TreesConfig(max_rows=10**12),
    ):  # fmt: skip
        with pytest.raises(ValidationError, match=r"less than or equal to|at most 1000"):
            refused()
