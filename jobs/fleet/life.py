"""The lives of a plant's machines: defects, failures, repairs and services, hour by hour.

The one idea: all machines step through time together (arrays over machines), but every machine draws from its own
generator, so that its life does not depend on how many others there are. State ``[N, T, M]`` is what holds at the
*start* of an hour, after any maintenance that begins there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jobs.fleet.operation import Calendar
from jobs.fleet.physics import COMMITTED, GROWING, HEAL_AT, HEALING, HEALTHY, Floats, draw_growth
from jobs.fleet.plants import Plant

Trigger = Literal["calendar", "condition", "opportunistic"]
Effect = Literal["replaced", "repaired", "inspected"]
ROBUST = 0.36  # share of the machines that hardly ever fail
HEAL_H = 60.0  # planned hours in which a healing defect fades


@dataclass(frozen=True)
class Policy:
    """How the plant maintains. ``NO_MAINTENANCE`` lets everything run to failure."""

    services: bool = True
    service_renews: float = 0.6  # the other services only inspect
    watch_from: float = 0.5  # wear from which people may notice
    watch_rate: float = 0.011  # repairs per working hour past it
    watch_renews: float = 0.8
    opportunistic: float = 0.3  # a repair after failure also renews the other components


NO_MAINTENANCE = Policy(services=False, watch_rate=0.0, opportunistic=0.0)


@dataclass(frozen=True)
class Failure:
    machine: int
    mode: str
    component: str
    sudden: bool
    onset_s: int  # epoch seconds; a sudden failure's onset is the failure
    started_s: int
    ended_s: int


@dataclass(frozen=True)
class Visit:
    """A maintenance visit."""

    machine: int
    component: str  # "machine" where everything was serviced
    started_s: int
    ended_s: int
    trigger: Trigger
    effect: Effect
    noticed: str | None  # the mode that was found, if any


@dataclass
class Lives:
    calendar: Calendar
    plan: Floats  # [N, T + WEEK_H]
    frailty: Floats  # [N]
    wear: Floats  # [N, T, M]
    phase: NDArray[np.int8]  # [N, T, M]
    age_h: Floats  # [N, T, M] hours since the component was renewed
    strength: Floats  # [N, T, M] how strongly the present defect shows
    running: NDArray[np.bool_]  # [N, T] False while failed or in maintenance
    renewals: list[list[int]]  # by machine: hours from which components are new
    failures: list[Failure] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)

    def stops(self) -> list[tuple[int, int, int]]:
        """Machine, start and end of every time that a machine was down."""
        events: list[Failure | Visit] = [*self.failures, *self.visits]
        return [(e.machine, e.started_s, e.ended_s) for e in events]


def draw_frailty(machines: int, rng: np.random.Generator) -> Floats:
    """A factor on every rate, [N]: a good third are robust, the rest gamma about 1. Source: Vaupel et al. (1979)."""
    factor = rng.gamma(2.5, 0.4, size=machines)
    factor /= factor.mean()  # the fleet's mean is no matter of luck
    factor[rng.permutation(machines)[: round(ROBUST * machines)]] = 0.01
    return factor


def live(
    plant: Plant, calendar: Calendar, *, plan: Floats, frailty: Floats, rngs: list[np.random.Generator], policy: Policy
) -> Lives:
    """Simulate every machine for the calendar's hours. ``plan`` [N, T + WEEK_H], ``frailty`` [N], a generator each."""
    N, T, M = len(rngs), calendar.num_hours, len(plant.modes)
    lives = Lives(
        calendar, plan, frailty, np.zeros((N, T, M)), np.zeros((N, T, M), np.int8), np.zeros((N, T, M)),
        np.ones((N, T, M)), np.ones((N, T), bool), [[] for _ in range(N)],
    )  # fmt: skip
    simulation = _Simulation(plant, lives, rngs, policy)
    for hour in range(T):
        simulation.step(hour)
    lives.failures.sort(key=lambda f: (f.started_s, f.machine))
    lives.visits.sort(key=lambda v: (v.started_s, v.machine))
    return lives


class _Simulation:
    def __init__(self, plant: Plant, lives: Lives, rngs: list[np.random.Generator], policy: Policy) -> None:
        self.plant, self.policy, self.rngs, self.calendar, self.lives = plant, policy, rngs, lives.calendar, lives
        N, T, M = lives.wear.shape
        self.pressure = lives.frailty[:, None] * lives.plan[:, :T]  # scales every rate
        self.base, self.by_age = (np.array([getattr(m, a) for m in plant.modes]) for a in ("onset_base", "onset_age"))
        self.heal_share = np.array([m.heal_share for m in plant.modes])
        self._draw(N, T, M)
        self.wear, self.phase, self.strength = np.zeros((N, M)), np.zeros((N, M), np.int8), np.ones((N, M))
        self.onset = np.zeros((N, M), np.int64)
        self.down_until = np.zeros(N, np.int64)

    def _draw(self, N: int, T: int, M: int) -> None:
        """Every hour's chances at once; what happens rarely is drawn when it happens."""
        plan = self.lives.plan[:, :T]
        self.growth, self.luck = np.empty((N, T, M)), np.empty((N, T, M))
        self.sudden, self.watch = np.empty((N, T), bool), np.empty((N, T), bool)
        self.due, self.age = np.zeros((N, T), bool), np.empty((N, M))
        hour = self.calendar.hour_of_week[:T]
        staffed = (hour < 120) & (hour % 24 >= 7) & (hour % 24 < 17)
        for n, rng in enumerate(self.rngs):
            self.age[n] = rng.uniform(0, 24 * self.plant.service_days, M)
            for m, mode in enumerate(self.plant.modes):
                self.growth[n, :, m] = draw_growth(mode, plan[n], rng)
            self.luck[n] = rng.random((T, M))
            self.sudden[n] = rng.random(T) < -np.expm1(-self.pressure[n] * self.plant.sudden_rate)
            self.watch[n] = (rng.random(T) < -np.expm1(-self.policy.watch_rate)) & staffed
            if self.policy.services:
                self.due[n, self._services(rng, T)] = True

    def _services(self, rng: np.random.Generator, T: int) -> NDArray[np.int64]:
        """Hours of the calendar services: every so many days, give or take three, at eight in the morning."""
        every = self.plant.service_days
        days = np.arange(int(rng.integers(2, every)), T // 24, every)
        hours = (days + rng.integers(-2, 4, size=len(days))) * 24 + 8
        return hours[hours < T]

    def step(self, hour: int) -> None:
        up = self.down_until <= hour
        for n in np.flatnonzero(up & self.due[:, hour]):
            self._service(int(n), hour)
        noticed = up & self.watch[:, hour] & (self.wear.max(1) >= self.policy.watch_from)
        for n in np.flatnonzero(noticed & (self.down_until <= hour)):
            self._repair_on_condition(int(n), hour)
        up = self.down_until <= hour
        lives = self.lives
        lives.wear[:, hour], lives.phase[:, hour], lives.age_h[:, hour] = self.wear, self.phase, self.age
        lives.strength[:, hour], lives.running[:, hour] = self.strength, up
        broken = self._wear_out(hour, up)
        for n in np.flatnonzero(up & (broken | self.sudden[:, hour])):
            self._fail(int(n), hour)
        self.age += up[:, None]

    def _wear_out(self, hour: int, up: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Grow, heal and start defects; which machines' wear has reached 1, [N]."""
        luck, phase, alive = self.luck[:, hour], self.phase, up[:, None]
        growing = alive & ((phase == GROWING) | (phase == COMMITTED))
        started = alive & (phase == HEALTHY)
        healing = alive & (phase == HEALING)
        self.wear += np.where(growing, self.growth[:, hour], 0.0)
        settled = growing & (phase == GROWING) & (self.wear >= HEAL_AT)
        heals = settled & (luck < self.heal_share)
        phase[settled] = COMMITTED
        phase[heals], self.wear[heals] = HEALING, HEAL_AT
        self.wear -= np.where(healing, HEAL_AT / HEAL_H * self.lives.plan[:, hour, None], 0.0)
        healed = healing & (self.wear <= 0)
        phase[healed], self.wear[healed] = HEALTHY, 0.0
        rate = self.pressure[:, hour, None] * (self.base + self.by_age * self.age)
        started &= luck < -np.expm1(-rate)
        for n, m in zip(*np.nonzero(started), strict=True):
            phase[n, m], self.onset[n, m] = GROWING, hour
            self.strength[n, m] = self.rngs[n].lognormal(-0.04, 0.28)
        return np.asarray(((phase == COMMITTED) & (self.wear >= 1)).any(1))

    def _fail(self, n: int, hour: int) -> None:
        rng, worst = self.rngs[n], int(np.argmax(self.wear[n]))
        sudden = self.wear[n, worst] < 1
        failed = self._at(hour) + 60 * int(rng.integers(1, 60))
        downtime = float(np.clip(rng.lognormal(np.log(9.0), 0.7), 2, 47))
        self.down_until[n] = hour + int(np.ceil(downtime))
        ended, onset = self._at(int(self.down_until[n])), self._at(int(self.onset[n, worst]))
        if sudden:
            mode, component = self.plant.sudden[int(rng.integers(len(self.plant.sudden)))]
            onset = failed
        else:
            mode, component = self.plant.modes[worst].name, self.plant.modes[worst].component
        self.lives.failures.append(Failure(n, mode, component, bool(sudden), onset, failed, ended))
        everything = sudden or rng.random() < self.policy.opportunistic  # after a sudden failure the unit is exchanged
        if everything and not sudden:
            self.lives.visits.append(Visit(n, "machine", failed, ended, "opportunistic", "replaced", None))
        self._renew(n, hour, None if everything else worst)

    def _service(self, n: int, hour: int) -> None:
        rng, worst = self.rngs[n], int(np.argmax(self.wear[n]))
        renews = rng.random() < self.policy.service_renews
        seen = self.wear[n, worst] > 0.35 and rng.random() < 0.7
        effect: Effect = ("replaced" if rng.random() < 0.5 else "repaired") if renews else "inspected"
        found = worst if seen else -1
        self._visit(n, hour, int(rng.integers(3, 9)), component="machine", what=("calendar", effect), found=found)
        if renews:
            self._renew(n, hour, None)

    def _repair_on_condition(self, n: int, hour: int) -> None:
        rng, worst = self.rngs[n], int(np.argmax(self.wear[n]))
        renews = rng.random() < self.policy.watch_renews
        effect: Effect = ("replaced" if rng.random() < 0.7 else "repaired") if renews else "inspected"
        hours = int(rng.integers(3, 11)) if renews else 1
        component = self.plant.modes[worst].component
        self._visit(n, hour, hours, component=component, what=("condition", effect), found=worst)
        if renews:
            self._renew(n, hour, worst)

    def _visit(
        self, n: int, hour: int, hours: int, *, component: str, what: tuple[Trigger, Effect], found: int
    ) -> None:
        """``found`` is the mode that people noticed, -1 if none."""
        self.down_until[n] = hour + hours
        noticed = self.plant.modes[found].name if found >= 0 else None
        self.lives.visits.append(Visit(n, component, self._at(hour), self._at(hour + hours), *what, noticed))

    def _renew(self, n: int, hour: int, mode: int | None) -> None:
        which = slice(None) if mode is None else slice(mode, mode + 1)
        self.wear[n, which], self.phase[n, which], self.age[n, which], self.strength[n, which] = 0, HEALTHY, 0, 1
        self.lives.renewals[n].append(max(hour, int(self.down_until[n])))

    def _at(self, hour: int) -> int:
        return self.calendar.start_s + 3600 * hour
