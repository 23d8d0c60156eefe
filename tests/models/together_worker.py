"""One of two workers of ``test_together``: trains a pooled network, or a plain step; writes what came of it.

    python -m tests.models.together_worker RANK STORE OUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed

from models.pooled import PooledFit
from models.together import Together
from tests.models.test_pooled import CONFIG, plants


def main(rank: int, store: str, out: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    together = Together(rank, 2)
    used, one, unused = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    used.grad = torch.tensor([1.0, 3.0]) * (rank + 1)
    if rank == 0:
        one.grad = torch.tensor([4.0, 8.0])
    counts = together.mean_gradients([used, one, unused], (1.0, 10.0 * (rank + 1)))
    idle = torch.nn.Parameter(torch.zeros(2))
    if rank == 1:
        idle.grad = torch.tensor([2.0, 4.0])
    working = together.mean_gradients([idle], (float(rank), 0.0))
    fit = PooledFit(plants(), CONFIG, together=together)
    losses = []
    while not fit.done:
        losses.append(fit.epoch()["validate_loss"])
    (out / f"{rank}.safetensors").write_bytes(fit.shared())
    told = {
        "counts": counts, "used": used.grad.tolist(), "one": None if one.grad is None else one.grad.tolist(),
        "unused": unused.grad, "working": working, "idle": None if idle.grad is None else idle.grad.tolist(),
        "losses": losses, "state": len(fit.state()),
    }  # fmt: skip
    (out / f"{rank}.json").write_text(json.dumps(told))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
