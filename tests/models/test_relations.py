"""Deviations: what moves all sensors leaves them, what moves one alone shows, and a missing sensor is spoken for."""

from __future__ import annotations

import numpy as np
import torch

from models.config import HazardConfig, ModelConfig, NetworkConfig, WindowConfig
from models.features import Sequence
from models.networks import HazardNetwork, build
from models.relations import MIN_STEPS, relations_of
from models.scaling import scaling_of
from models.windows import Channel

CHANNELS = (
    Channel("heat", "temperature", "degC"), Channel("shake", "vibration", "mm/s"), Channel("noise", "pressure", "bar"),
    Channel("since_service", "time", "life", role="context"),
)  # fmt: skip
RNG = np.random.default_rng(0)


def history(steps: int = 2000) -> np.ndarray:
    """Heat and shake follow the load, noise nothing; time since service follows the load too, as no sensor does."""
    load = RNG.normal(0, 1, steps)
    columns = [60 + 9 * load + RNG.normal(0, 1, steps), 5 + 2 * load + RNG.normal(0, 0.2, steps)]
    return np.stack([*columns, RNG.normal(0, 1, steps), 100 + load], axis=1).astype(np.float32)


def sequence(values: np.ndarray) -> Sequence:
    num = len(values)
    return Sequence("m", values, np.ones(num, np.float32), np.zeros(num, bool), np.ones(num, bool))


def fitted(values: np.ndarray) -> tuple[np.ndarray, HazardNetwork]:
    scaling = scaling_of([sequence(values)], CHANNELS)
    found = relations_of(scaling, [sequence(values)], CHANNELS)
    config = ModelConfig(
        window=WindowConfig(length=16), hazard=HazardConfig(horizons={"12h": 12}, edges=(6, 12, 24)),
        network=NetworkConfig(hidden=8, channel_hidden=8, kernel=4, layers=2),
    )  # fmt: skip
    return found, build(config, scaling, [c.kind for c in CHANNELS], relations=found).eval()


def deviations(network: HazardNetwork, values: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        found: np.ndarray = network.inputs(torch.from_numpy(values)[None])[0, 8:12].T.numpy()
    return found


def test_a_deviation_is_the_residual_of_the_regression_on_the_other_sensors() -> None:
    values = history(5000)
    _, network = fitted(values)
    found = deviations(network, values)
    design = np.column_stack([values[:, 1:3], np.ones(len(values))]).astype(np.float64)
    residual = values[:, 0] - design @ np.linalg.lstsq(design, values[:, 0].astype(np.float64), rcond=None)[0]
    inside = np.abs(found[:, 0]) < 7
    assert np.corrcoef(found[inside, 0], residual[inside])[0, 1] > 0.995
    assert 0.6 < found[:, 0].std() < 1.1 and abs(np.corrcoef(found[:, 0], values[:, 0])[0, 1]) < 0.5
    assert np.all(found[:, 3] == 0), "what the logs say has no part in it"


def test_sensors_that_go_with_nothing_deviate_by_their_own_value() -> None:
    found, _ = fitted(history(20_000))
    np.testing.assert_allclose(found[2], [0, 0, 1, 0], atol=0.03)
    assert np.all(found[3] == 0) and np.all(found[:, 3] == 0)


def test_what_moves_one_sensor_alone_shows_most_in_it() -> None:
    values = history()
    _, network = fitted(values)
    usual = np.median(values, axis=0)[None].repeat(3, 0)
    usual[1, :2] += (9, 2)  # load
    usual[2, 0] += 9  # wear
    calm, loaded, worn = deviations(network, usual)
    assert np.abs(loaded - calm).max() < 0.5 and worn[0] - calm[0] > 4


def test_for_a_missing_sensor_the_others_speak_and_its_own_deviation_is_none() -> None:
    values = history()
    _, network = fitted(values)
    asked = values[:50].copy()
    asked[:, 0] = np.nan
    found = deviations(network, asked)
    assert np.all(found[:, 0] == 0)
    assert np.abs(found[:, 1]).max() < 1, "what the load explains is no deviation, though heat is not there to say so"


def test_sensors_never_seen_together_count_as_unrelated() -> None:
    values = history()
    values[: len(values) // 2, 0] = np.nan
    values[len(values) // 2 + MIN_STEPS - 1 :, 1] = np.nan
    found, _ = fitted(values)
    assert abs(found[0, 1]) < 0.01 > abs(found[1, 0]), "but for what goes by the third"


def test_twins_are_finite_and_a_sensor_without_values_has_no_part() -> None:
    values = history()
    values[:, 1], values[:, 2] = values[:, 0], np.nan
    found, network = fitted(values)
    assert np.isfinite(found).all() and np.abs(found).max() <= 10.1
    assert np.isfinite(deviations(network, values)).all()
