"""The gradient-boosted baseline: one LightGBM that answers with the same hazard curve as the networks.

The one idea: a window that is at risk in a bin is a row, its features and the bin, with the question "does it fail
in this bin?". Partial exposure is the row's weight. So censoring is exact, one model serves all bins, and it
returns hazards [B, K1] like any network. The no-sensor baseline is the same on the context channels alone.

Source: Brown (1975) for the person-period rows; Ke et al. (2017), "LightGBM", NeurIPS 30.
"""

from __future__ import annotations

import json
from collections.abc import Sequence as Ordered
from dataclasses import asdict, dataclass
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from models.config import ModelConfig
from models.errors import InputError
from models.features import Sequence, feature_names, features
from models.hazard import Float32, Float64, exposure, usual_hazard_over
from models.labels import soft_events
from models.scaling import Scaling, scaling_of
from models.spec import ScalingNumbers
from models.windows import Channel, windows_ending

FORMAT = "millwright-trees/1"
# Most that a leaf may move a logit, before the learning rate. Hazards are small, so a leaf of failures alone asks for a
# step of one over them: without this bound one tree moved logits by eight, and no later one could mend it.
MAX_STEP = 2.0
# Rounds without a gain in validation after which no more trees are added.
PATIENCE = 30


@dataclass(frozen=True)
class _Rows:
    """Person-period rows: inputs [R, F + 1], failed [R], weight [R], the usual logit of each row's bin [R]."""

    inputs: Float32
    failed: Float32
    weight: Float32
    offset: Float32


class TreesModel:
    """A fitted LightGBM with the face of every window model (``models.hazard.WindowModel``)."""

    def __init__(
        self, booster: lightgbm.Booster, *, usual: Ordered[float], used: Ordered[int], kind: str,
        scaling: Scaling | None = None,
    ) -> None:  # fmt: skip
        self.booster, self.usual, self.used, self.kind = booster, tuple(usual), tuple(used), kind
        self.scaling = scaling  # only where there are operating regimes: trees need no scale, but they need a level
        self._splits = np.asarray(booster.feature_importance())
        self._usual_features: tuple[tuple[int, bytes], Float32] | None = None

    def logits(self, values: Float32) -> Float32:
        """Windows [B, W, C] -> uncalibrated hazard logits [B, K1]."""
        num_bins = len(self.usual)
        if len(values) == 0:
            return np.empty((0, num_bins), np.float32)
        return self._logits_of(self._features(values), num_bins)

    def occluded(self, values: Float32, usual: Float32, num_bins: int) -> Float32:
        """What explains a window [W, C]: logits [C + 2, ``num_bins``] of the first bins only.

        Row c has channel c at its ``usual`` value [C] throughout, the last two rows are the window as it is and the
        window that is usual throughout. Each feature is of one channel, so features are computed once and exchanged;
        ``usual``'s are kept from call to call.
        """
        own, plain = list(self.used), self._features(values[None])[0]
        if self.scaling is not None:
            usual = self._scaled_usual(usual, self.scaling)
        key = (len(values), usual.tobytes())
        if self._usual_features is None or self._usual_features[0] != key:
            window = np.broadcast_to(usual[own], (1, len(values), len(own)))
            self._usual_features = (key, features(window)[0])
        replaced = self._usual_features[1]
        channel_F = np.arange(len(plain)) % len(own)
        asked = np.unique(channel_F[self._splits[: len(plain)] > 0])  # no tree asks for the others
        rows = np.concatenate([np.where(channel_F == asked[:, None], replaced, plain), plain[None], replaced[None]])
        found = self._logits_of(rows, num_bins)
        logits = np.repeat(found[-2:-1], values.shape[1] + 2, axis=0)
        logits[np.asarray(own, np.int64)[asked]] = found[:-2]
        logits[-1] = found[-1]
        return logits

    @staticmethod
    def _scaled_usual(usual: Float32, scaling: Scaling) -> Float32:
        """The centre, in whatever regime; keys, which are scaled alike in all of them, at their level."""
        scaled = np.where(np.isnan(usual), usual, np.float32(0))
        keys = [] if scaling.regimes is None else list(scaling.regimes.keys)
        scaled[keys] = ((usual - scaling.centers[-1]) / scaling.scales[-1])[keys]
        return np.clip(scaled, -scaling.clip, scaling.clip)

    def _features(self, values: Float32) -> Float32:
        scaled = values if self.scaling is None else self.scaling.apply(values)
        return features(scaled[:, :, list(self.used)])

    def _logits_of(self, found: Float32, num_bins: int) -> Float32:
        inputs = np.column_stack([np.repeat(found, num_bins, axis=0), np.tile(np.arange(num_bins), len(found))])
        raw = self.booster.predict(inputs, raw_score=True, num_threads=1)
        logits: Float32 = (np.reshape(raw, (-1, num_bins)) + np.asarray(self.usual[:num_bins])).astype(np.float32)
        return logits

    def to_text(self) -> str:
        """A line of JSON, then LightGBM's own text."""
        about: dict[str, Any] = {"format": FORMAT, "kind": self.kind}
        about |= {"used": list(self.used), "usual": list(self.usual)}
        if self.scaling is not None:
            about["scaling"] = asdict(self.scaling)
        return json.dumps(about) + "\n" + str(self.booster.model_to_string())

    @classmethod
    def from_text(cls, text: str) -> TreesModel:
        """What ``to_text`` wrote. Raises InputError for anything else."""
        head, _, body = text.partition("\n")
        try:
            about = json.loads(head)
            if about["format"] != FORMAT:
                raise ValueError(about["format"])
            booster = lightgbm.Booster(model_str=body)
            usual, used = [float(logit) for logit in about["usual"]], [int(channel) for channel in about["used"]]
            if booster.num_feature() != 1 + len(feature_names([""] * len(used))):
                raise ValueError(f"{booster.num_feature()} features of {len(used)} channels")
            return cls(booster, usual=usual, used=used, kind=about["kind"], scaling=_scaling(about.get("scaling")))
        except (ValueError, KeyError, TypeError, RecursionError, lightgbm.basic.LightGBMError) as error:
            raise InputError("Unreadable trees", expected=FORMAT, found=str(error)[:80]) from error


def fit_trees(
    train: Ordered[Sequence],
    validate: Ordered[Sequence],
    config: ModelConfig,
    channels: tuple[Channel, ...],
    *,
    sensors: bool = True,
) -> TreesModel:
    """Fit on windows of the training sequences, stop by the censored likelihood of the validation sequences.

    Without ``sensors`` it is the no-sensor baseline: age and error log alone. Deterministic for a seed. Raises
    InputError where a part has no usable step.
    """
    used = tuple(i for i, channel in enumerate(channels) if sensors or channel.role == "context")
    rng = np.random.default_rng(config.trees.seed)
    usual = _usual_logits(train, config)
    size = config.trees.max_windows
    choose_steps(train, config, size, np.random.default_rng(0))  # raises before anything is computed
    scaling = scaling_of(train, channels) if sensors else None
    scaling = scaling if scaling is not None and scaling.regimes is not None else None
    fitted = _rows(train, config, used=used, scaling=scaling, usual=usual, max_windows=size, rng=rng)
    checked = _rows(validate, config, used=used, scaling=scaling, usual=usual, max_windows=size // 4, rng=rng)
    names = [*(name.replace(" ", "_") for name in feature_names([channels[i].name for i in used])), "bin"]
    params = _params(config)
    data = lightgbm.Dataset(
        fitted.inputs, fitted.failed, weight=fitted.weight, init_score=fitted.offset, feature_name=names, params=params
    )
    later = lightgbm.Dataset(
        checked.inputs, checked.failed, weight=checked.weight, init_score=checked.offset, reference=data
    )
    booster = lightgbm.train(
        params, data, config.trees.rounds, valid_sets=[later],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )  # fmt: skip
    best = lightgbm.Booster(model_str=booster.model_to_string(num_iteration=max(1, booster.best_iteration)))
    kind = "trees" if sensors else "no_sensor"
    return TreesModel(best, usual=[float(x) for x in usual], used=used, kind=kind, scaling=scaling)


def _scaling(about: dict[str, Any] | None) -> Scaling | None:
    """What ``asdict`` wrote of a scaling within regimes."""
    if about is None:
        return None
    found = {name: part for name, part in about.items() if name != "regimes"} | about["regimes"]
    return ScalingNumbers.model_validate(found).scaling


def _params(config: ModelConfig) -> dict[str, Any]:
    trees = config.trees
    return {
        "objective": "binary", "num_leaves": trees.leaves, "learning_rate": trees.learning_rate,
        "min_data_in_leaf": trees.min_rows, "feature_fraction": 0.3, "bagging_fraction": 0.7, "bagging_freq": 1,
        "lambda_l2": 1.0, "max_delta_step": MAX_STEP, "max_bin": 63, "boost_from_average": False, "num_threads": 1,
        "seed": trees.seed,
        "deterministic": True, "force_col_wise": True, "verbosity": -1,
    }  # fmt: skip


def _usual_logits(sequences: Ordered[Sequence], config: ModelConfig) -> Float64:
    """The hazards that hold without any feature, as logits: trees need only learn the difference."""
    usual = usual_hazard_over(config.hazard.edges, ((s.time[s.usable], s.event[s.usable]) for s in sequences))
    return np.log(usual) - np.log1p(-usual)


def _rows(
    sequences: Ordered[Sequence], config: ModelConfig, *, used: Ordered[int], scaling: Scaling | None, usual: Float64,
    max_windows: int, rng: np.random.Generator,
) -> _Rows:  # fmt: skip
    """Chosen windows, expanded to the bins they went through, thinned to ``max_rows``."""
    length = config.window.length
    found, exposed, failed = [], [], []
    for sequence, (steps, weight) in zip(sequences, choose_steps(sequences, config, max_windows, rng), strict=True):
        if len(steps):
            head = np.full((length - 1, len(used)), np.nan, np.float32)
            scaled = sequence.values if scaling is None else scaling.apply(sequence.values)
            values = np.concatenate([head, scaled[:, list(used)]])
            found.append(features(windows_ending(values, steps + length - 1, length)))
            event, counts = soft_events(
                sequence.time[steps], sequence.event[steps], sequence.ended_by[steps], within=config.hazard.alarm_within
            )
            went, died = exposure(config.hazard.edges, sequence.time[steps], event)
            exposed.append(went * (weight * counts)[:, None])
            failed.append(died * (weight * counts)[:, None])
    return _expand(
        np.concatenate(found), np.concatenate(exposed), np.concatenate(failed), usual=usual,
        max_rows=config.trees.max_rows, rng=rng,
    )  # fmt: skip


def _expand(
    found: Float32, exposed: Float64, failed: Float64, *, usual: Float64, max_rows: int, rng: np.random.Generator
) -> _Rows:
    """A row for each window and bin: all failures, and survived exposures thinned at random, weighted up."""
    survived = exposed - failed
    died_at, died_in = np.nonzero(failed)
    lived_at, lived_in = np.nonzero(survived > 0)
    keep = min(1.0, max(1, max_rows - len(died_at)) / max(1, len(lived_at)))
    kept = rng.random(len(lived_at)) < keep
    lived_at, lived_in = lived_at[kept], lived_in[kept]
    windows, bins = np.concatenate([died_at, lived_at]), np.concatenate([died_in, lived_in])
    weight = np.concatenate([failed[died_at, died_in], survived[lived_at, lived_in] / keep])
    return _Rows(
        np.column_stack([found[windows], bins]).astype(np.float32),
        (np.arange(len(windows)) < len(died_at)).astype(np.float32),
        weight.astype(np.float32),
        usual[bins].astype(np.float32),
    )


def choose_steps(
    sequences: Ordered[Sequence], config: ModelConfig, max_windows: int, rng: np.random.Generator
) -> list[tuple[NDArray[np.int64], Float64]]:
    """Usable steps of each sequence and the number of steps each stands for, at most about ``max_windows``.

    Neighbouring windows are nearly equal, so steps are thinned evenly from a random start; steps within the longest
    horizon before a failure, the rare and telling ones, may fill half of the room. Raises InputError where there
    is no usable step.
    """
    near_h = max(config.hazard.horizons.values(), default=config.hazard.edges[-1])

    def soon(s: Sequence) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = s.event & (s.time <= near_h)
        return found

    num_near = sum(int((s.usable & soon(s)).sum()) for s in sequences)
    num_far = sum(int(s.usable.sum()) for s in sequences) - num_near
    if num_near + num_far == 0:
        raise InputError(
            "Nothing to fit trees on", expected="at least one usable step", found="none",
            do="Ingest a longer history, or change the split",
        )  # fmt: skip
    near_stride = max(1, -(-num_near // max(max_windows // 2, max_windows - num_far)))
    far_stride = max(1, -(-num_far // max(1, max_windows - num_near // near_stride)))
    chosen = []
    for s in sequences:
        close, distant = np.flatnonzero(s.usable & soon(s)), np.flatnonzero(s.usable & ~soon(s))
        parts = [(close, near_stride), (distant, far_stride)]
        steps = [rows[int(rng.integers(stride)) :: stride] for rows, stride in parts]
        weight = np.repeat([float(near_stride), float(far_stride)], [len(steps[0]), len(steps[1])])
        chosen.append((np.concatenate(steps), weight))
    return chosen
