"""Export to ONNX: canonical window in, calibrated hazard out.

The one idea: the served graph holds all that stands between a window and its answer: choice of channels, scaling,
masks, the network's last step, calibration and the logistic function. Whoever can run ONNX needs nothing else.

Legend: B batch, W window, C channels, K1 hazard bins, M failure modes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.calibration import Calibration
from models.networks import HazardNetwork, Member, split_modes

OPSET = 17


class Served(nn.Module):
    """Windows [B, W, C] in canonical units, NaN for no value -> calibrated hazards [B, K1], shares [B, M] of modes."""

    usual: Tensor

    def __init__(
        self, network: HazardNetwork, calibration: Calibration, mode_shares: Sequence[float] = (), trust: float = 1.0
    ) -> None:
        super().__init__()
        self.network, self.trust = network, trust
        self.slope, self.shift = calibration.slope, calibration.shift
        self.register_buffer("usual", torch.tensor(mode_shares, dtype=torch.float32))

    def forward(self, values: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        logits, of_modes = split_modes(self.network.last(values), self.network.num_bins)
        hazard = torch.sigmoid(logits * self.slope + self.shift)
        if not len(self.usual):
            return hazard
        return hazard, torch.softmax(of_modes, dim=1) * self.trust + self.usual * (1 - self.trust)


class Occluded(nn.Module):
    """One window [1, W, C] -> calibrated hazards [C + 2, K1]: each channel at its usual value, none of them, all."""

    row: Tensor
    known: Tensor
    level: Tensor

    def __init__(self, network: HazardNetwork, calibration: Calibration, usual: Sequence[float | None]) -> None:
        super().__init__()
        self.network = network
        self.slope, self.shift = calibration.slope, calibration.shift
        used: list[int] = network.used.tolist()
        place = {channel: row for row, channel in enumerate(used)}  # a channel that is not read changes nothing
        rows = [place.get(channel, len(used)) for channel in range(len(usual))]
        self.register_buffer("row", torch.tensor([*rows, len(used), len(used) + 1], dtype=torch.int64))
        known = [0.0 if usual[channel] is None else 1.0 for channel in used]
        self.register_buffer("known", torch.tensor(known)[None, :, None])
        self.register_buffer("level", network.scaled_levels())

    def forward(self, values: Tensor) -> Tensor:
        inputs = self.network.inputs(values[:, -self.network.receptive_field :])
        num = self.known.shape[1]
        deviations = inputs[:, 2 * num : 2 * num + (num if self.network.deviates else 0)]
        regime = inputs[:, 2 * num + deviations.shape[1] :]
        # The centre of whatever regime; of the channels that tell it, its level.
        scaled = torch.zeros_like(inputs[:, :num])
        if len(self.level):
            scaled = torch.einsum("gc,bgt->bct", self.level, regime)
        known = self.known.expand_as(scaled)
        usual = torch.cat([scaled, known, torch.zeros_like(deviations), regime], dim=1)
        logits = torch.stack([cast(Member, member).occluded(inputs, usual) for member in self.network.members]).mean(0)
        hazard = torch.sigmoid(split_modes(logits, self.network.num_bins)[0] * self.slope + self.shift)
        return hazard.index_select(0, self.row)


def export_reasons(
    network: HazardNetwork, calibration: Calibration, window: int, usual: Sequence[float | None]
) -> bytes | None:
    """``Occluded`` as ONNX, ``values`` float32 [1, W, C] -> ``hazard`` float32 [C + 2, K1].

    ``usual`` [C] is None where training saw no value. None where the network knows no way cheaper than C + 2 windows.
    """
    if not all(cast(Member, member).occludes for member in network.members):
        return None
    return _onnx(Occluded(network, calibration, usual).eval(), torch.zeros(1, window, len(usual)), ["hazard"], {})


def export_onnx(
    network: HazardNetwork, calibration: Calibration, window: int, num_channels: int, *,
    mode_shares: Sequence[float] = (), trust: float = 1.0,
) -> bytes:  # fmt: skip
    """The served graph as ONNX: ``values`` float32 [-1, W, C] -> ``hazard`` float32 [-1, K1]. Prints nothing.

    It takes one window or more; ``models.predictor`` answers none of them before a graph is asked, since ONNX Runtime
    cannot run those of `channels` and `gru` on nothing.

    Where the network has failure modes, ``modes`` float32 [-1, M] beside it: ``models.modes.shares_of`` of the training
    shares and ``trust``.

    By the tracing exporter: 0.2 s, against 4 to 7 s and a page of warnings with ``dynamo=True`` (torch 2.13); both
    err by 6e-8. The traced graph has no branch on values, so nothing of the example remains in it.
    """
    served = Served(network, calibration, mode_shares, trust).eval()
    outputs = ["hazard", "modes"] if mode_shares else ["hazard"]
    axes = {name: {0: "batch"} for name in ("values", *outputs)}
    return _onnx(served, torch.zeros(2, window, num_channels), outputs, axes)


def _onnx(served: nn.Module, example: Tensor, outputs: list[str], axes: dict[str, dict[int, str]]) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # That this exporter is the older one, and that a GRU's batch size is fixed (ours carries its zero state).
        for category in (DeprecationWarning, UserWarning, torch.jit._trace.TracerWarning):
            warnings.simplefilter("ignore", category)
        # The older exporter also writes to a buffer, which its annotations leave out.
        torch.onnx.export(
            served, (example,), cast(Any, buffer), input_names=["values"], output_names=outputs, dynamic_axes=axes,
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    return buffer.getvalue()
