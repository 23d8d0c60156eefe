"""Layers of settings, their order, and errors that name the layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.config import Settings, flatten, load_settings
from models.errors import InputError


def home_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "millwright.toml"
    path.write_text(text, "utf-8")
    return path


def test_without_any_layer_everything_is_default() -> None:
    settings, origins = load_settings(environment={})
    assert settings == Settings()
    assert origins == {}


def test_each_layer_wins_over_the_one_below(tmp_path: Path) -> None:
    profile = tmp_path / "profile.toml"
    profile.write_text("[serve]\nport = 1001\nhost = 'a'\nreplicas = 2\n[tune]\ntrials = 9\n", "utf-8")
    file = home_file(tmp_path, "[serve]\nport = 1002\nhost = 'b'\nreplicas = 3\n")
    environment = {"MILLWRIGHT__SERVE__PORT": "1003", "MILLWRIGHT__SERVE__HOST": "c", "OTHER": "x"}
    settings, origins = load_settings(
        home_file=file, profile=str(profile), environment=environment, assignments=["serve.port=1004"]
    )
    serve = settings.serve
    assert (serve.port, serve.host, serve.replicas, settings.tune.trials) == (1004, "c", 3, 9)
    assert origins["serve.port"] == "--set"
    assert origins["serve.host"] == "the environment"
    assert origins["serve.replicas"] == str(file)
    assert origins["tune.trials"] == f"profile {profile}"


@pytest.mark.parametrize("name", ["local", "cluster"])
def test_packaged_profiles_are_valid(name: str) -> None:
    settings, _ = load_settings(profile=name, environment={})
    assert settings.serve.replicas >= 1


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(InputError, match=r"No such profile: expected one of cluster, local or .* found 'moon'"):
        load_settings(profile="moon", environment={})


def test_a_wrong_value_names_key_and_layer() -> None:
    with pytest.raises(InputError, match=r"Wrong setting 'serve.port'.*found '99999' \(in the environment\)"):
        load_settings(environment={"MILLWRIGHT__SERVE__PORT": "99999"})


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(InputError, match=r"Wrong setting 'serve\.prot'"):
        load_settings(environment={}, assignments=["serve.prot=1"])


def test_an_assignment_without_a_value_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"Wrong --set: expected key=value such as serve\.port=9000, found 'serve\.port'"
    ):
        load_settings(environment={}, assignments=["serve.port"])


def test_broken_toml_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Unreadable configuration: expected TOML.*millwright\.toml"):
        load_settings(home_file=home_file(tmp_path, "[serve\n"), environment={})


def test_lists_and_tables_come_as_json() -> None:
    settings, _ = load_settings(
        environment={}, assignments=["model.hazard.edges=[24, 48, 168]", 'plants={"harbor": {"owner": "Kim"}}']
    )
    assert settings.model.hazard.edges == (24, 48, 168)
    assert settings.plants["harbor"].owner == "Kim"


def test_flatten_names_every_setting_once() -> None:
    flat = flatten(Settings())
    assert flat["serve.port"] == 8000
    assert flat["model.clock.step_s"] == 3600.0
    assert flat["model.hazard.horizons"] == {"24h": 24.0, "48h": 48.0, "7d": 168.0}


@pytest.mark.parametrize(
    ("assignment", "match"),
    [
        ("serve.prt=1", r"'serve.prt': expected 'port', or another of host, port, .*\(in --set\)"),
        ("a.b.c=1", r"Wrong setting 'a': expected one of serve, ray, tune, .*\(in --set\)"),
        ("serve=3", r"'serve': expected a section with host, port"),
        ("split.train_until=0.9", r"'split': expected train_until below validate_until \(0.75\)"),
        ("ray.num_cpus=0", r"'ray.num_cpus': expected greater than or equal to 1, found '0' \(in --set\)"),
    ],
)
def test_a_wrong_setting_says_what_is_known_and_who_set_it(assignment: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        load_settings(environment={}, assignments=[assignment])


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"assignments": ["model.hazard.horizons={}"], "environment": {}}, r"\(in --set\)"),
        ({"environment": {"MILLWRIGHT__MODEL__HAZARD__HORIZONS": "{}"}}, r"\(in the environment\)"),
    ],
)
def test_a_model_without_a_horizon_is_refused_wherever_it_is_given(given: dict[str, Any], where: str) -> None:
    with pytest.raises(InputError, match=rf"'model.hazard.horizons': expected at least one horizon .*{where}"):
        load_settings(**given)


def test_a_file_without_a_horizon_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'model.hazard.horizons': expected at least one horizon .*millwright.toml"):
        load_settings(home_file=home_file(tmp_path, "[model.hazard.horizons]\n"), environment={})
