"""Cross-fitting: members of one network that each leave out another share of the machines.

The one idea: where parts differ by machine, whoever validates does not train; members that take turns let every
machine do both. Each is answered by the one member that has not seen it, so calibration, alarm threshold and interval
are fitted to all machines; the network that is served is the mean of all members.

Source: Barber, Candes, Ramdas & Tibshirani (2021), "Predictive inference with the jackknife+", Annals of Statistics 49,
on intervals from answers out of fold.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jobs.series.later import count_failures
from jobs.trial import configured
from models.errors import InputError

if TYPE_CHECKING:
    from jobs.study import Study

SEEDS_APART = 1000


def members_of(study: Study, choices: dict[str, Any]) -> list[Study]:
    """The study of each member of the network that ``choices`` make, all scaled by the same machines.

    Raises InputError where parts differ by time, or there are fewer machines than members.
    """
    study = replace(study, config=configured(study.config, choices))
    folds, seed = study.config.network.folds, study.config.network.seed
    if folds == 1:
        return [study]
    sequences = [*study.train, *study.validate]
    machines = sorted({s.machine for s in sequences})
    if not study.by_machine or len(machines) < folds:
        raise InputError(
            "Cross-fitting needs parts that differ by machine", expected=f"at least {folds} machines in such parts",
            found=f"{len(machines)} machines in parts that differ by {'machine' if study.by_machine else 'time'}",
            where=f"plant {study.plant}", do="Set model.network.folds=1",
        )  # fmt: skip
    order = sorted(machines, key=lambda m: hashlib.sha256(f"{seed}/{m}".encode()).digest())
    found = []
    for number in range(folds):
        left_out = frozenset(order[number::folds])
        network = study.config.network.model_copy(update={"folds": 1, "seed": seed + SEEDS_APART * number})
        found.append(
            replace(
                study, train=[s for s in sequences if s.machine not in left_out],
                validate=[s for s in sequences if s.machine in left_out], scaled_by=sequences,
                config=study.config.model_copy(update={"network": network}),
            )
        )  # fmt: skip
    return found


def whole(study: Study) -> Study:
    """The study of a cross-fitted network: it has learned from all machines."""
    train = [*study.train, *study.validate]
    return replace(study, train=train, num_failures=count_failures(train, study.config.clock))
