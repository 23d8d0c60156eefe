"""Code of somebody's own is imported where the deployment lists it, and every mistake in it is one clear error."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cluster.own_networks import require, take_up
from models.errors import InputError
from models.networks import own

OWN = "tests.models.own_networks"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (f"{OWN}:", r"No such network: expected module:Class .* found 'tests.models.own_networks:'"),
        ("os:system('x')", r"No such network: .*Write it as"),
        ("no_such_package.bodies:Body", r"found No module named 'no_such_package' .*network.name = .*PYTHONPATH"),
        (f"{OWN}:Missing", r"found no Missing in tests.models.own_networks"),
        (f"{OWN}:not_a_class", r"found function .*subclass of torch.nn.Module"),
        ("pathlib:Path", r"found type .*subclass of torch.nn.Module"),
    ],
)
def test_a_wrong_path_is_one_clear_error(path: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        take_up(path)
    assert not own.is_taken_up(path)


def test_a_module_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing_bodies.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"ZeroDivisionError: division by zero .*Correct that module"):
        take_up("failing_bodies:Body")


def test_what_is_not_listed_is_refused_before_anything_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unlisted_bodies.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"not allowed here: expected one of \['other:Body'\]"):
        require("unlisted_bodies:Body", ("other:Body",))
    assert not (tmp_path / "ran").exists() and "unlisted_bodies" not in sys.modules


def test_a_listed_network_and_those_of_millwright_pass() -> None:
    require(f"{OWN}:Last", (f"{OWN}:Last",))
    assert own.is_taken_up(f"{OWN}:Last")
    require("channels", ())
    with pytest.raises(InputError, match="Unknown network: expected one of channels, tcn, gru, found 'lstm'"):
        require("lstm", ())
