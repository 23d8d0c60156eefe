"""What a plant has to learn from, and what came of it: a study and its candidates, as trials and bundles need them."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field

from jobs.series.judged import Judged
from models.config import Clock, ModelConfig
from models.features import Sequence
from models.modes import NO_MODES, Modes
from models.windows import Channel


@dataclass(frozen=True)
class Fleet:
    """The network of all plants: ``shared`` as ``models.pooled`` saves it, calibrated by plants as if unseen."""

    version: str
    shared: bytes
    plants: tuple[str, ...]
    num_failures: int
    clock: Clock
    judged: Judged


@dataclass(frozen=True)
class Study:
    """What a trial, a baseline and a bundle need to know of a plant; small, since its sequences stay on disk."""

    plant: str
    channels: tuple[Channel, ...]
    config: ModelConfig
    machine_types: tuple[str, ...]
    data_version: str
    doubts: dict[str, str]
    train: Ordered[Sequence]
    validate: Ordered[Sequence]
    num_failures: int  # distinct failures in the training part
    modes: Modes = NO_MODES
    by_machine: bool = False  # parts differ by machine, not by time
    scaled_by: Ordered[Sequence] | None = None  # whose values scale a network; None: those of the training part
    fleet: Fleet | None = None  # what a network starts from where it is configured to
    allowed_networks: tuple[str, ...] = ()  # import paths whose code the deployment lets run


@dataclass(frozen=True)
class Candidate:
    """A bundled model; ``log_likelihood`` is the calibrated mean of the later slice, higher is better.

    ``by_machine`` [machine -> sum over its ticks, and their number] is what it is the mean of.
    """

    kind: str
    version: str
    folder: str
    log_likelihood: float
    seconds: float
    by_machine: dict[str, tuple[float, int]] = field(default_factory=dict, compare=False, repr=False)
