"""What a study searches: every choice is a network's setting, and only the default network is pre-trained."""

from __future__ import annotations

import optuna
import pytest

from jobs.trial import configured
from jobs.tune import search_space
from models.config import ModelConfig, NetworkConfig
from models.errors import InputError


def test_every_choice_is_accepted_and_changes_nothing_else() -> None:
    config = ModelConfig()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(12):
        choices = study.ask(search_space(config.network)).params
        found = configured(config, choices)
        assert found == config.model_copy(update={"network": config.network.model_copy(update=choices)})
        seen.add(found.network.pretrain_epochs)
    assert seen == {0, 3}


def test_what_is_configured_is_a_choice_too() -> None:
    for epochs, choices in ((0, (0, 3)), (3, (0, 3)), (10, (0, 3, 10))):
        found = search_space(NetworkConfig(pretrain_epochs=epochs))["pretrain_epochs"]
        assert found == optuna.distributions.CategoricalDistribution(choices)


@pytest.mark.parametrize("name", ["tcn", "gru"])
def test_a_network_that_cannot_be_pretrained_has_no_such_choice(name: str) -> None:
    with_it, without = search_space(NetworkConfig()), search_space(NetworkConfig(name=name))
    assert set(with_it) - set(without) == {"pretrain_epochs"}
    assert set(without) == {"hidden", "learning_rate", "dropout", "weight_decay"}


def test_a_choice_that_networks_do_not_have_is_refused() -> None:
    with pytest.raises(InputError, match=r"Unknown network setting: .* found pretraining"):
        configured(ModelConfig(), {"pretraining": 3})
