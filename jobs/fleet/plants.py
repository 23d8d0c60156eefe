"""The three plants: what they run, how it breaks, and what their sensors show of it.

The one idea: everything that tells the plants apart is in these tables. ``effects`` is what a mode adds to a sensor at
failure, in the sensor's own unit; its sign is the documented direction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jobs.fleet.physics import Mode

Pattern = Literal["steady", "day_night", "swing", "two_shift", "three_shift"]


@dataclass(frozen=True)
class Sensor:
    """``rest`` + ambient + running * (base + load + speed + product) + effects + noise; see ``sensors.measure``."""

    column: str  # as the plant writes it, unit included
    rest: float  # standing still, at the plant's reference ambient temperature
    base: float  # added while running
    load: float = 0.0  # times the load, 0 to about 1.1
    speed: float = 0.0  # times the speed, 0 to 1
    product: float = 0.0  # times load times speed
    ambient: float = 0.0  # per degC above the reference
    noise: float = 1.0  # standard deviation of one reading at full load
    lag_h: float = 0.0  # thermal time constant
    decimals: int = 2
    low: float = 0.0  # the instrument's range
    high: float = 1e6
    effects: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Weather:
    mean: float  # degC over the year
    season: float  # half the difference between July and January
    day: float  # half the difference between afternoon and night


@dataclass(frozen=True)
class Plant:
    name: str
    zone: str
    machine_type: str
    prefix: str  # of a machine's name
    steps_per_hour: int
    patterns: tuple[Pattern, ...]  # dealt to the machines in turn
    recipes: tuple[tuple[float, float], ...]  # (load, speed) of what is made; empty: follows demand
    weather: Weather
    modes: tuple[Mode, ...]
    sudden: tuple[tuple[str, str], ...]  # (failure mode, component)
    sudden_rate: float  # per planned hour, before frailty
    service_days: int  # between calendar services
    sensors: tuple[Sensor, ...]
    scattered: bool = False  # every tag is read at an instant of its own, up to an hour after the grid
    off_values: bool = False  # the controller keeps writing while the machine is down

    def mode_names(self) -> list[str]:
        return [m.name for m in self.modes] + [name for name, _ in self.sudden]


HARBOR = Plant(
    name="harbor", zone="Europe/Berlin", machine_type="pump", prefix="P-", steps_per_hour=1,
    patterns=("day_night", "steady", "swing"), recipes=(), weather=Weather(mean=10.0, season=8.5, day=3.0),
    modes=(
        Mode("bearing_wear", "bearing", pf_h=140, scatter=0.22, growth=3.0),
        Mode("fouling", "impeller", pf_h=120, scatter=0.26, growth=2.0, heal_share=0.3),
        Mode("seal_leak", "mechanical_seal", pf_h=80, scatter=0.28, growth=2.5),
    ),
    sudden=(("motor_short", "motor"), ("coupling_break", "coupling")), sudden_rate=2.8e-4, service_days=70,
    sensors=(
        Sensor("Lagertemperatur_degC", 18, 18, load=14, ambient=0.6, noise=0.9, lag_h=3.0, decimals=1, low=-20,
               high=150, effects={"bearing_wear": 11.0, "seal_leak": 3.5}),
        Sensor("Foerderdruck_bar", 1.0, 3.2, load=2.0, noise=0.11, high=16,
               effects={"seal_leak": -0.9, "fouling": 0.6}),
        Sensor("Durchfluss_m3/h", 0, 40, load=140, noise=5.0, decimals=1, high=300,
               effects={"fouling": -40.0, "seal_leak": -24.0}),
        Sensor("Schwingung_mm/s", 0.05, 0.9, load=0.7, noise=0.26, high=30,
               effects={"bearing_wear": 3.4, "fouling": 0.5}),
        Sensor("Motorstrom_A", 0, 22, load=30, noise=1.5, decimals=1, high=120,
               effects={"fouling": 9.0, "bearing_wear": 4.0}),
        Sensor("Drehzahl_rpm", 0, 1200, load=280, noise=7.0, decimals=0, high=3000),
    ),
)  # fmt: skip

RIDGE = Plant(
    name="ridge", zone="America/Denver", machine_type="compressor", prefix="CMP-", steps_per_hour=1,
    patterns=("steady", "swing"), recipes=(), weather=Weather(mean=9.0, season=12.0, day=7.0),
    modes=(
        Mode("bearing_wear", "bearing", pf_h=150, scatter=0.22, growth=3.0),
        Mode("fouling", "intercooler", pf_h=160, scatter=0.25, growth=2.0, heal_share=0.15),
        Mode("valve_leak", "discharge_valve", pf_h=90, scatter=0.28, growth=2.5),
    ),
    sudden=(("electrical_trip", "motor"), ("liquid_slug", "cylinder")), sudden_rate=2.8e-4, service_days=60,
    sensors=(
        Sensor("discharge_temp_degF", 62, 110, load=55, ambient=0.9, noise=3.6, lag_h=1.5, decimals=1, low=-40,
               high=450, effects={"valve_leak": 34.0, "fouling": 32.0}),
        Sensor("suction_pressure_psi", 40, 15, load=-8, noise=1.0, high=150, effects={"valve_leak": 7.0}),
        Sensor("discharge_pressure_psi", 45, 60, load=45, noise=2.4, decimals=1, high=300,
               effects={"valve_leak": -18.0, "fouling": 9.0}),
        Sensor("vibration_in/s", 0.003, 0.055, load=0.05, noise=0.014, decimals=4, high=2,
               effects={"bearing_wear": 0.17, "valve_leak": 0.03}),
        Sensor("motor_current_A", 0, 60, load=85, noise=3.5, decimals=1, high=400,
               effects={"fouling": 19.0, "bearing_wear": 9.0}),
        Sensor("oil_temp_degF", 62, 50, load=30, ambient=1.0, noise=2.3, lag_h=4.0, decimals=1, low=-40, high=300,
               effects={"bearing_wear": 22.0, "fouling": 8.0}),
    ),
    scattered=True,
)  # fmt: skip

SUMMIT = Plant(
    name="summit", zone="UTC", machine_type="spindle", prefix="SP-", steps_per_hour=6,
    patterns=("three_shift", "three_shift", "two_shift"), recipes=((0.95, 0.45), (0.35, 1.0), (0.6, 0.3), (0.55, 0.75)),
    weather=Weather(mean=21.0, season=3.0, day=1.5),
    modes=(
        Mode("bearing_wear", "spindle_bearing", pf_h=130, scatter=0.22, growth=3.0, onset_age=4e-7),
        Mode("fouling", "coolant_filter", pf_h=90, scatter=0.28, growth=2.0, heal_share=0.3, onset_age=4e-7),
        Mode("belt_wear", "drive_belt", pf_h=110, scatter=0.25, growth=2.5, onset_age=4e-7),
    ),
    sudden=(("tool_crash", "spindle"), ("drive_fault", "drive")), sudden_rate=3.2e-4, service_days=55,
    sensors=(
        Sensor("spindle_temp_degC", 21, 8, load=8, speed=14, ambient=0.8, noise=0.9, lag_h=1.0, low=-10, high=150,
               effects={"bearing_wear": 9.0, "fouling": 8.0}),
        Sensor("vibration_mm/s", 0.03, 0.3, load=0.35, speed=0.5, noise=0.17, decimals=3, high=30,
               effects={"bearing_wear": 1.7, "belt_wear": 0.5}),
        Sensor("torque_Nm", 0, 2, load=43, noise=2.4, high=200, effects={"belt_wear": 10.0, "bearing_wear": 4.0}),
        Sensor("spindle_speed_rpm", 0, 0, speed=12000, noise=45.0, decimals=0, high=30000,
               effects={"belt_wear": -260.0}),
        Sensor("coolant_flow_L/min", 0, 18, load=4, noise=0.9, high=60, effects={"fouling": -6.5}),
        Sensor("power_kW", 0.3, 0.6, product=14, noise=0.6, decimals=3, high=60,
               effects={"belt_wear": 2.2, "bearing_wear": 1.0}),
    ),
    off_values=True,
)  # fmt: skip

PLANTS: dict[str, Plant] = {plant.name: plant for plant in (HARBOR, RIDGE, SUMMIT)}
