"""Several workers that train one network: equal weights in each, the mean of their gradients in every step.

The one idea: a step is one sum over the workers, of gradients, of which parameters had one, and of what was counted;
a worker that has nothing left takes part with nothing, until nobody has anything. Alone, all of it is nothing at all.

Source: Li et al. (2020), "PyTorch distributed: experiences on accelerating data parallel training", arXiv:2006.15704.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed
from torch.nn import Parameter


@dataclass(frozen=True)
class Together:
    """One of ``size`` workers; with more than one, of torch's default process group, which the caller has made."""

    rank: int = 0
    size: int = 1

    def sum(self, numbers: Sequence[float], device: torch.device | str = "cpu") -> list[float]:
        """Each number summed over the workers."""
        if self.size == 1:
            return list(numbers)
        vector = torch.tensor(numbers, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(vector)
        return [float(number) for number in vector]

    def mean_gradients(self, parameters: Iterable[Parameter], counts: Sequence[float]) -> list[float]:
        """Leave in each parameter the mean of the gradients of those workers that had work; sums of ``counts``.

        The first of ``counts`` is 1 for a worker that had work, 0 else. A parameter without a gradient anywhere stays
        without.
        """
        if self.size == 1:
            return list(counts)
        own = list(parameters)
        flat = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in own]
        had = torch.tensor([float(p.grad is not None) for p in own], device=own[0].device)
        vector = torch.cat([torch.tensor(counts, device=own[0].device, dtype=torch.float32), had, *flat])
        torch.distributed.all_reduce(vector)
        sums, had, rest = vector[: len(counts)], vector[len(counts) : len(counts) + len(own)], len(counts) + len(own)
        found = [float(number) for number in sums]
        for parameter, given in zip(own, had.tolist(), strict=True):
            mean = vector[rest : rest + parameter.numel()] / max(found[0], 1.0)
            parameter.grad = mean.view_as(parameter) if given else None
            rest += parameter.numel()
        return found


ALONE = Together()
