"""What a study searches: a file's options are drawn as it says, and a wrong file is told where and why."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from jobs.trial import configured
from jobs.tuning.budget import parse_budget
from jobs.tuning.space import Space, find_space, parse_space
from models.config import ModelConfig, NetworkConfig
from models.errors import InputError

NOWHERE = Path("/nonexistent")


def space_of(name: str | None, network: NetworkConfig | None = None) -> Space:
    return parse_space(*find_space(NOWHERE, name), network or NetworkConfig())


def draws(space: Space, network: NetworkConfig, number: int) -> list[dict]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.draw(study.ask(), network) for _ in range(number)]


def test_every_draw_is_accepted_and_changes_nothing_else() -> None:
    config = ModelConfig()
    seen = set()
    for chosen in draws(space_of(None), config.network, 12):
        assert set(chosen) == {"hidden", "learning_rate", "dropout", "weight_decay", "pretrain_epochs"}
        found = configured(config, chosen)
        assert found == config.model_copy(update={"network": config.network.model_copy(update=chosen)})
        assert found.network.hidden % 16 == 0 and 32 <= found.network.hidden <= 128
        seen.add(found.network.pretrain_epochs)
    assert seen == {0, 3}


@pytest.mark.parametrize("name", ["tcn", "gru"])
def test_a_network_that_cannot_be_pretrained_never_is(name: str) -> None:
    network = NetworkConfig(name=name)
    assert {chosen["pretrain_epochs"] for chosen in draws(space_of(None, network), network, 12)} == {0}


def test_an_architecture_is_a_choice_with_widths_of_its_own() -> None:
    network = NetworkConfig(pretrain_epochs=3, layers=3)
    found = draws(space_of("architectures", network), network, 60)
    assert {chosen["name"] for chosen in found} == {"channels", "tcn", "gru"}
    for chosen in found:
        name, hidden = chosen["name"], chosen["hidden"]
        low, high, layers = (32, 128, (3,)) if name == "channels" else (16, 96, (3, 4) if name == "tcn" else (1, 2))
        assert low <= hidden <= high and chosen["layers"] in layers
        assert chosen["pretrain_epochs"] == 0 or name == "channels"
        NetworkConfig.model_validate(network.model_dump() | chosen)


def test_settings_are_drawn_after_those_that_their_conditions_name() -> None:
    text = '[kernel]\ntype = "fixed"\nvalue = 8\nwhen = {name = "gru"}\n[name]\ntype = "fixed"\nvalue = "gru"\n'
    space = parse_space(text, "space.toml", NetworkConfig())
    assert list(space.options) == ["name", "kernel"]
    assert draws(space, NetworkConfig(), 1) == [{"name": "gru", "kernel": 8}]


def test_equal_files_have_one_digest_and_a_changed_range_another() -> None:
    text = '[hidden]\ntype = "int"\nlow = 32\nhigh = 64\nstep = 16\n'
    first, again = (parse_space(t, "a.toml", NetworkConfig()).digest() for t in (text, "# a remark\n" + text))
    assert first == again
    assert parse_space(text.replace("64", "96"), "a.toml", NetworkConfig()).digest() != first


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[hidden", r"Unreadable search space: expected TOML, found .* \(in my.toml\)"),
        ("", r"An empty search space"),
        ('[hiden]\ntype = "int"\nlow = 4\nhigh = 8', r"at 'hiden': expected 'hidden', or another of .* \(in my.toml\)"),
        ('[ignore]\ntype = "fixed"\nvalue = "x"', r"at 'ignore': expected one of"),
        ('[hidden]\ntype = "number"\nlow = 4', r"at 'hidden': .*'int', 'float', 'categorical', 'fixed'"),
        ('[hidden]\ntype = "int"\nlow = 4', r"at 'hidden.high': expected Field required"),
        ('[hidden]\ntype = "int"\nlow = 64\nhigh = 32', r"at 'hidden': expected low 64 at most high 32"),
        ('[hidden]\ntype = "int"\nlow = 2\nhigh = 32', r"at 'hidden.low': expected .* or equal to 4, found 2"),
        ('[hidden]\ntype = "float"\nlow = 4.5\nhigh = 8', r"at 'hidden.low': expected a valid integer, found 4.5"),
        ('[dropout]\ntype = "float"\nlow = 0\nhigh = 1.0', r"at 'dropout.high': expected less than 1, found 1.0"),
        ('[dropout]\ntype = "float"\nlow = 0\nhigh = 0.5\nlog = true', r"at 'dropout': expected low above 0 where log"),
        ('[dropout]\ntype = "float"\nlow = 0\nhigh = 0.5\nsteps = 2', r"at 'dropout.steps': expected Extra inputs"),
        ('[name]\ntype = "categorical"\nchoices = [3]', r"at 'name.choices\[0\]': expected a valid string, found 3"),
        ('[kernel]\ntype = "fixed"\nvalue = 4\nwhen = {nme = "tcn"}', r"at 'kernel.when': .* found nme"),
        ('[hidden]\ntype = "int"\nlow = 30\nhigh = 40', r"expected draws that are configurations, found hidden \d+ of"),
        (
            '[layers]\ntype = "fixed"\nvalue = 1\nwhen = {kernel = 4}\n[kernel]\ntype = "fixed"\nvalue = 4\n'
            'when = {layers = 1}', r"at 'kernel': expected conditions without a circle, found a circle of",
        ),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_with_its_key(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        parse_space(text, "my.toml", NetworkConfig())


def test_a_home_has_its_own_space_and_a_file_goes_before_it(tmp_path: Path) -> None:
    assert find_space(tmp_path, None)[1] == "jobs/tuning/spaces/default.toml"
    own, other = tmp_path / "space.toml", tmp_path / "other.toml"
    own.write_text("own"), other.write_text("other")
    assert find_space(tmp_path, None) == ("own", str(own))
    assert find_space(tmp_path, str(other)) == ("other", str(other))
    with pytest.raises(InputError, match=r"expected one of architectures, default, or a \.toml file, found 'widths'"):
        find_space(tmp_path, "widths")
    with pytest.raises(InputError, match=r"expected a TOML file, found .*missing\.toml"):
        find_space(tmp_path, str(tmp_path / "missing.toml"))


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5h", 5400), ("1d", 86400)])
def test_a_budget_is_a_number_with_its_unit(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["90", "", "h", "0s", "-2h", "2 hours", "2h30m"])
def test_a_budget_without_a_unit_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected a number above 0 with its unit, such as 90s, 30m or 2h"):
        parse_budget(text)


def test_a_choice_that_networks_do_not_have_is_refused() -> None:
    with pytest.raises(InputError, match=r"Unknown network setting: .* found pretraining"):
        configured(ModelConfig(), {"pretraining": 3})
    with pytest.raises(InputError, match=r"Not a configuration of a network: expected hidden 33 of the network"):
        configured(ModelConfig(), {"hidden": 33})
