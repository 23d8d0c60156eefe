"""The training loss: ``models.hazard`` in torch, from logits, differentiable.

The one idea: the censored likelihood of a hazard is a sum of Bernoulli trials, so exposures computed once in
numpy give the loss of every step by two multiplications. A test holds it equal to ``hazard.log_likelihood``.

Legend: B batch, T steps, K1 hazard bins, M failure modes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from models.hazard import exposure, widths
from models.labels import UNNAMED


def negative_log_likelihood(logits: Tensor, exposed: Tensor, failed: Tensor) -> Tensor:
    """Censored negative log-likelihood [...] from logits, exposures and failures [..., K1] of ``hazard.exposure``."""
    return (exposed * softplus(logits) - failed * logits).sum(-1)


def mode_loss(logits: Tensor, mode: Tensor) -> Tensor:
    """Minus the log of the named mode's share [...] from mode logits [..., M]; 0 where ``mode`` [...] is -1."""
    flat = cross_entropy(logits.flatten(0, -2), mode.flatten(), ignore_index=UNNAMED, reduction="none")
    return flat.reshape(mode.shape)


class RestrictedMean(torch.nn.Module):
    """E[min(T, cap)] [...] from logits [..., K1]; ``hazard.restricted_mean`` in torch."""

    covered: Tensor
    width: Tensor

    def __init__(self, edges: Sequence[float], cap: float) -> None:
        super().__init__()
        covered, _ = exposure(edges, np.asarray([cap]), np.asarray([False]))
        self.register_buffer("covered", torch.tensor(covered[0], dtype=torch.float32))
        self.register_buffer("width", torch.tensor(covered[0] * widths(edges), dtype=torch.float32))

    def forward(self, logits: Tensor) -> Tensor:
        # Below 1e-6 the share of a bin that is lived through is 1 to float32 precision.
        decay = (softplus(logits) * self.covered).clamp_min(1e-6)
        before = torch.exp(decay - decay.cumsum(-1))
        return (before * (-torch.expm1(-decay) / decay) * self.width).sum(-1)
