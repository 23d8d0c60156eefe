"""A verified bundle, ready to score windows; the same code offline and online. Needs no torch, but on a GPU.

The one idea: whatever the model is, it gives one calibrated hazard curve a window, from which all else is read.

B windows, W steps, C channels, K inner edges of the hazard's bins, M failure modes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import REASONS, Bundle
from models.errors import InputError
from models.explain import Occlusion, in_batch, usual_window
from models.hazard import probability_within
from models.modes import shares_of, usual_shares
from models.spec import BundleSpec

if TYPE_CHECKING:
    from models.trees import TreesModel

CHUNK = 64  # windows in one run: what lies between layers stays in the cache, 54 us a window beside 57 in one of 256


@dataclass(frozen=True)
class Scored:
    """Calibrated ``hazard`` [B, K+1] of windows, and the shares ``modes`` [B, M] of each failure mode in it."""

    hazard: NDArray[np.float32]
    modes: NDArray[np.float32]


class Predictor:
    """A model ready to score windows; one thread by default, since a replica holds many.

    Networks run in ONNX Runtime, or, where a ``device`` of torch is named, there; trees and reasons on the CPU always.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1, device: str | None = None) -> None:
        self.spec: BundleSpec = bundle.spec
        self._trees = None if bundle.spec.kind == "network" else _trees(bundle)
        if self._trees is not None:
            self._score = _of_trees(bundle.spec, self._trees)
        else:
            self._score = _network(bundle, threads) if device is None else _on_device(bundle, device)
        self._bundle, self._threads = bundle, threads

    def hazard(self, values_BWC: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrated hazard of each bin, [B, K+1] float32, of windows in canonical units, NaN for no value."""
        return self.score(values_BWC).hazard

    def score(self, values_BWC: NDArray[np.float32]) -> Scored:
        """Hazards and shares of failure modes of windows [B, W, C] in canonical units, NaN for no value."""
        length, channels = self.spec.config.window.length, len(self.spec.channels)
        if values_BWC.ndim != 3 or values_BWC.shape[1:] != (length, channels):
            raise InputError(
                "Wrong shape of windows", expected=f"[-1, {length}, {channels}]", found=list(values_BWC.shape),
                where=f"plant {self.spec.plant}",
            )  # fmt: skip
        if not len(values_BWC):
            return Scored(np.empty((0, self.spec.num_bins), np.float32), usual_shares(0, self.spec.usual.modes))
        scored: Scored = self._score(np.ascontiguousarray(values_BWC, np.float32))
        return scored

    def risk(self, values_BWC: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability [B] of a failure within the alarm's horizon."""
        return risk(self.spec, self.hazard(values_BWC))

    def occluded(self, values_WC: NDArray[np.float32]) -> Occlusion:
        """What ``models.explain`` asks of a window: trees answer it from one window's features, a network that pools
        its channels last from one window's tokens, another network from C + 2 windows in a batch."""
        spec, values_WC = self.spec, np.ascontiguousarray(values_WC, np.float32)
        if self._trees is not None:
            config = spec.config.hazard
            num_bins = config.edges.index(config.horizons[spec.alarm_horizon]) + 1  # later bins: nothing of the alarm
            logits = self._trees.occluded(values_WC, usual_window(spec, values_WC)[-1], num_bins)
            later = np.zeros((len(logits), spec.num_bins - num_bins), np.float32)
            risks = risk(spec, np.column_stack([spec.calibration.hazard(logits), later]))
        elif self._bundle.reasons is not None:
            hazard = self._reasons.run(["hazard"], {"values": values_WC[None]})[0]
            if hazard.shape != (len(spec.channels) + 2, spec.num_bins):
                raise InputError(
                    "Wrong output of a network", expected=[len(spec.channels) + 2, spec.num_bins],
                    found=list(hazard.shape), where=self._bundle.folder / REASONS,
                )  # fmt: skip
            risks = risk(spec, hazard)
        else:
            return in_batch(self, values_WC)
        return float(risks[-2]), float(risks[-1]), risks[:-2]

    @cached_property
    def _reasons(self) -> Any:
        """Opened when it is first asked for: most predictions are not."""
        assert self._bundle.reasons is not None
        return _session(self._bundle.reasons, self._bundle.folder / REASONS, self._threads)


def risk(spec: BundleSpec, hazard_BK: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probability [B] of a failure within the alarm's horizon, from hazards."""
    hazard = spec.config.hazard
    found = probability_within(hazard_BK, hazard.edges, hazard.horizons[spec.alarm_horizon])
    return np.asarray(found, np.float64)


def _session(graph: bytes, where: Path, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen kinds, all of them "this is no model"
        raise InputError("Unreadable network", expected="ONNX", found=str(error)[:120], where=where) from error


def _network(bundle: Bundle, threads: int) -> Any:
    where = bundle.folder / "model.onnx"
    session = _session(bundle.model, where, threads)
    found = [list(i.shape) for i in session.get_inputs()]
    expected = [bundle.spec.config.window.length, len(bundle.spec.channels)]
    if len(found) != 1 or session.get_inputs()[0].name != "values" or found[0][1:] != expected:
        raise InputError("Wrong input of a network", expected=f"values [-1, {expected}]", found=found, where=where)
    usual, outputs = bundle.spec.usual.modes, ["hazard", "modes"] if bundle.spec.failure_modes else ["hazard"]
    given = {output.name: output.shape[-1] for output in session.get_outputs()}
    if bundle.spec.failure_modes and given.get("modes") != len(usual):
        raise InputError("Wrong output of a network", expected=f"modes [-1, {len(usual)}]", found=given, where=where)

    def score(values_BWC: NDArray[np.float32]) -> Scored:
        if len(values_BWC) <= CHUNK:
            found = session.run(outputs, {"values": values_BWC})
        else:
            parts = [
                session.run(outputs, {"values": values_BWC[at : at + CHUNK]}) for at in range(0, len(values_BWC), CHUNK)
            ]
            found = [np.concatenate(one) for one in zip(*parts, strict=True)]
        hazard, *modes = found
        return Scored(hazard, modes[0] if modes else usual_shares(len(hazard), usual))

    return score


def _on_device(bundle: Bundle, device: str) -> Any:
    from models.networks.stored import placed

    spec, model = bundle.spec, placed(bundle, device)

    def score(values_BWC: NDArray[np.float32]) -> Scored:
        logits, of_modes = model.answers(values_BWC)
        hazard = np.asarray(spec.calibration.hazard(logits), np.float32)
        return Scored(hazard, shares_of(of_modes, spec.usual.modes, spec.mode_trust))

    return score


def _trees(bundle: Bundle) -> TreesModel:
    from models.trees import TreesModel

    model, spec = TreesModel.from_text(bundle.model.decode("utf-8")), bundle.spec
    read, num, scaling = [*model.used], len(spec.channels), model.scaling
    read += [] if scaling is None or scaling.regimes is None else scaling.regimes.keys
    scaled = num if scaling is None else len(scaling.center)
    if not set(read) <= set(range(num)) or scaled != num or len(model.usual) != spec.num_bins:
        raise InputError(
            "Trees of another model", expected=f"{spec.num_bins} bins of {num} channels",
            found=f"{len(model.usual)} bins of {scaled} channels, of which {sorted(set(read))[:20]} are read",
            where=bundle.folder / "model.txt",
        )  # fmt: skip
    return model


def _of_trees(spec: BundleSpec, model: TreesModel) -> Any:
    def score(values_BWC: NDArray[np.float32]) -> Scored:
        shares = usual_shares(len(values_BWC), spec.usual.modes)
        return Scored(spec.calibration.hazard(model.logits(values_BWC)), shares)

    return score
