"""Trains on stored sequences in a process of its own, under a limit of memory; prints the losses of its epochs.

Arguments: a pickle-free JSON of places, a limit in bytes (0: none), and whether to hold the arrays in memory.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np

from jobs.series.sequences import StoredSequence, StoredSequences
from models.config import ModelConfig, NetworkConfig, WindowConfig
from models.features import Sequence
from models.fit import NetworkFit
from models.windows import channels_of

SENSORS = 24
CONFIG = ModelConfig(
    window=WindowConfig(length=16),
    network=NetworkConfig(name="tcn", hidden=8, layers=1, kernel=3, epochs=2, batch_size=64),
)
CHANNELS = channels_of([(f"s{i:02d}", "number", "1") for i in range(SENSORS)])


def held(sequences: StoredSequences) -> list[Sequence]:
    return [Sequence(*(np.array(v) if isinstance(v, np.ndarray) else v for v in vars(s).values())) for s in sequences]


def main() -> None:
    places, limit, in_memory = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "memory"
    import torch

    torch.set_num_threads(1)
    if limit:
        used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + limit, used + limit))
    train = StoredSequences(tuple(StoredSequence(**place) for place in json.loads(Path(places).read_text())))
    validate = train[:4]
    if in_memory:
        fit = NetworkFit(held(train), held(validate), CONFIG, CHANNELS, shuffle_bytes=64 << 20)
    else:
        fit = NetworkFit(train, validate, CONFIG, CHANNELS, shuffle_bytes=64 << 20)
    losses = []
    while not fit.done:
        losses.append({name: value.hex() for name, value in fit.epoch().items()})
    print(json.dumps(losses))


if __name__ == "__main__":
    main()
