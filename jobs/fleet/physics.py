"""How machines wear out: defects start, grow as a gamma process in planned work, and fail when wear reaches 1.

The one idea: every law is chosen so that the chance of failing within a given amount of planned work follows from the
state in closed form. ``truth.py`` builds the oracle on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc

Floats = NDArray[np.float64]

HEAL_AT = 0.55  # wear at which it is settled whether a defect heals by itself
HEALTHY, GROWING, COMMITTED, HEALING = 0, 1, 2, 3  # GROWING: below HEAL_AT, unsettled; COMMITTED: will fail if left


@dataclass(frozen=True)
class Mode:
    """A failure mode with a precursor. Work is counted in planned hours: hours times the plan's load."""

    name: str
    component: str
    pf_h: float  # mean P-F interval, planned hours from onset to failure
    scatter: float  # coefficient of variation of the P-F interval, about
    growth: float  # how late it shows: the exponent of `severity`
    heal_share: float = 0.2  # of the defects that reach HEAL_AT
    onset_base: float = 1.6e-4  # defects per planned hour of a component of age 0, before frailty
    onset_age: float = 2.9e-7  # added for each hour of age

    @property
    def scale(self) -> float:
        """Scale of the gamma increments. Var[wear(pf_h)] = scale, so the coefficient of variation is its root."""
        return self.scatter**2

    @property
    def shape_rate(self) -> float:
        """Shape gained per planned hour, so that the mean wear gained is 1 / pf_h."""
        return 1.0 / (self.pf_h * self.scale)


def severity(wear: Floats, growth: float) -> Floats:
    """What the sensors see of ``wear``: 0 at 0, 1 at 1, exponential between.

    Source: Paris and Erdogan (1963), da/dN = C dK^m; with m = 2 the crack grows as exp(N).
    """
    return np.asarray(np.expm1(growth * wear) / np.expm1(growth))


def draw_growth(mode: Mode, plan: Floats, rng: np.random.Generator) -> Floats:
    """Wear gained in each hour by a defect, [T], if there is one. Stationary independent increments in planned work."""
    return rng.gamma(shape=np.maximum(mode.shape_rate * plan, 1e-12)) * mode.scale


def chance_of_passing(mode: Mode, wear: Floats | float, work: Floats) -> Floats:
    """Probability that a growing defect of this ``wear`` fails within ``work`` planned hours.

    P(Gamma(shape_rate * work, scale) >= 1 - wear); 0 where there is no work.
    Source: van Noortwijk (2009), first passage of the gamma process.
    """
    shape = np.maximum(mode.shape_rate * np.asarray(work, dtype=float), 1e-12)
    return np.asarray(gammaincc(shape, np.maximum(1.0 - np.asarray(wear, dtype=float), 0.0) / mode.scale))
