"""How much of what a plant's own data teach a network that never saw the plant still knows: the share of recall kept.

The one idea: at the false alarms of a reference, and at fixed rates, count the failures that each catches under its
best threshold there (``jobs.evaluation.allowed``), and divide. Counts are summed over plants before that, and machines
drawn within each plant, the same for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from jobs.evaluation.allowed import DRAWS, RATES, Counts, Floats, ratio, total, weights
from jobs.evaluation.results import Figure


class KeptAt(BaseModel):
    """At ``rate`` false alarms a machine-month in each plant, null: as many as the reference has under its own
    threshold, ``false_alarms`` in all. ``caught`` counts failures by candidate; ``kept`` is that of each newcomer
    through the reference's, null where that catches none."""

    rate: float | None
    false_alarms: int
    caught: dict[str, int]
    kept: dict[str, Figure]


class Kept(BaseModel):
    """One plant, or ``all`` of them."""

    name: str
    num_failures: int
    num_machines: int
    at: list[KeptAt]


def kept(
    plants: Mapping[str, Sequence[Counts]], *, full: str, newcomers: Sequence[str], draws: int = DRAWS
) -> list[Kept]:
    """Each plant's, all of its repetitions together, then all plants' where there are several.

    ``full`` names the reference among the candidates, ``newcomers`` those that never saw the plant.
    """
    drawn = {
        plant: [weights(len(one.failures), number, *plant.encode(), draws=draws) for number, one in enumerate(counts)]
        for plant, counts in plants.items()
    }
    groups = {plant: [plant] for plant in plants} | ({"all": list(plants)} if len(plants) > 1 else {})
    found = []
    for name, own in groups.items():
        parts = [part for plant in own for part in zip(plants[plant], drawn[plant], strict=True)]
        found.append(Kept(
            name=name, num_failures=round(sum(float(counts.failures.sum()) for counts, _ in parts)),
            num_machines=sum(len(counts.failures) for counts, _ in parts),
            at=[_at(parts, rate, full=full, newcomers=newcomers) for rate in (None, *RATES)],
        ))  # fmt: skip
    return found


def _at(
    parts: Sequence[tuple[Counts, Floats]], rate: float | None, *, full: str, newcomers: Sequence[str]
) -> KeptAt:
    allowed = [c.alarms[full].allowed(w) if rate is None else rate * (w @ c.months) for c, w in parts]
    kinds = set.intersection(*(set(counts.alarms) for counts, _ in parts))
    caught = {
        kind: total([c.alarms[kind].most_within(most, w) for (c, w), most in zip(parts, allowed, strict=True)])
        for kind in sorted(kinds)
    }
    return KeptAt(
        rate=rate, false_alarms=int(total(allowed)[0] + 1e-9), caught={k: round(v[0]) for k, v in caught.items()},
        kept={kind: ratio(caught[kind], caught[full]) for kind in newcomers},
    )  # fmt: skip
