"""How sure a study's choice is: what sets the chosen one apart, with an interval where the same machines judge both.

The one idea: candidates are heard on the same machines, so their difference is drawn machine by machine, and what is
hard for both cancels out. Trials leave a mean alone, of one seed each: their difference is told without an interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jobs.study import Candidate
from jobs.tuning.journal import USABLE, Trial

DRAWS = 2000
FEWEST = 8  # machines under which drawing them again says too little
ByMachine = Mapping[str, tuple[float, int]]


def difference(one: ByMachine, other: ByMachine) -> dict[str, float | int | None]:
    """Mean log-likelihood a tick of ``one`` minus that of ``other``, and its 95 % interval by machine.

    ``low`` and ``high`` are None under ``FEWEST`` machines in common.
    """
    machines = sorted(one.keys() & other.keys())
    gains = np.array([one[m][0] - other[m][0] for m in machines], np.float64)
    ticks = np.array([one[m][1] for m in machines], np.float64)
    found: dict[str, float | int | None] = {"machines": len(machines), "value": None, "low": None, "high": None}
    if not machines or not ticks.sum():
        return found
    found["value"] = float(gains.sum() / ticks.sum())
    if len(machines) >= FEWEST:
        drawn = np.random.default_rng(0).integers(len(machines), size=(DRAWS, len(machines)))
        low, high = np.quantile(gains[drawn].sum(axis=1) / ticks[drawn].sum(axis=1), (0.025, 0.975))
        found |= {"low": float(low), "high": float(high)}
    return found


def against(champion: Candidate, candidates: Sequence[Candidate]) -> dict[str, dict[str, float | int | None]]:
    """The champion minus each other kind."""
    others = [c for c in candidates if c.kind != champion.kind]
    return {c.kind: difference(champion.by_machine, c.by_machine) for c in others}


def runners_up(trials: Sequence[Trial], best: Trial | None) -> tuple[Trial | None, Trial | None]:
    """The next best trial, and that of the configuration as it is; None where there is none but the best."""
    good = [t for t in trials if t.state in USABLE and t.loss is not None and t is not best]
    following = min(good, key=lambda t: (t.loss, t.number), default=None)
    return following, next((t for t in good if not t.settings), None)


def importance(search: Any) -> dict[str, float] | None:
    """Each setting's share of what tells the best tenth of a study's trials from all; None under ``FEWEST`` trials.

    Of settings that every trial drew; those that exist for some choices only are left out. Source: Watanabe et al.
    (2023), "PED-ANOVA", arXiv:2304.10255, as Optuna has it.
    """
    import optuna

    drawn = [t for t in search.journal.trials if t.params and t.loss is not None and t.state in USABLE and t.over]
    if len(drawn) < FEWEST:
        return None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    for trial in drawn:
        distributions = {key: search.space.distribution(key) for key in trial.params}
        study.add_trial(
            optuna.trial.create_trial(params=trial.params, distributions=distributions, value=trial.loss)
        )
    found = optuna.importance.get_param_importances(study)
    return {name: float(share) for name, share in sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))}
