"""What ``/openapi.json`` says of bodies and answers. Nothing here runs in a request.

The one idea: bodies are read by ``serve.schemas`` without pydantic; these models document them, and a test
holds real answers against them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema


class Documented(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RemainingLife(Documented):
    """Quantiles of remaining useful life; one past the last edge is given as that edge, which ``beyond`` names."""

    p10: float
    p50: float
    p90: float
    unit: Literal["h", "cycle"]
    beyond: float | None


class ModelName(Documented):
    name: str
    version: str
    scope: Literal["plant", "fleet"]
    num_failures_trained_on: int


class CauseOfDoubt(Documented):
    code: str
    text: str


class ReasonFor(Documented):
    """A channel's part of the risk; the parts sum to the risk less the plant's usual risk."""

    sensor: str
    contribution: float
    value: float | None
    usual: float | None
    unit: str
    text: str


class StateOfData(Documented):
    last_reading: AwareDatetime
    age_s: float
    stale: bool
    readings: int
    coverage: float = Field(description="Share of the window's cells that hold a value.")
    sensors_missing: list[str]


class Prediction(Documented):
    plant: str
    machine: str
    failure_probability: dict[str, float] = Field(description="By horizon.", examples=[{"24h": 0.04, "48h": 0.11}])
    remaining_useful_life: RemainingLife
    time_basis: Literal["calendar", "operating"]
    as_of: AwareDatetime = Field(description="The end of the tick that the window ends with.")
    data_until: AwareDatetime
    operating_state: str | None
    failure_modes: dict[str, float] = Field(
        description="Failing in each mode within the alarm's horizon; sums to its probability. Empty: none told apart."
    )
    model: ModelName
    degraded: list[CauseOfDoubt]
    prediction_id: str = Field(description="The same model asked about the same window gives the same id.")
    reasons: list[ReasonFor] | None = None


class MachineState(Prediction):
    data: StateOfData


class Predictions(Documented):
    predictions: list[Prediction]


class Machines(Documented):
    machines: list[MachineState] = Field(description="The most at risk first.")


class SensorHistory(Documented):
    sensor: str
    unit: str
    values: list[float | None] = Field(description="The mean of each tick of `times`, null without a reading.")
    usual: float | None
    trained: list[float] | None = Field(description="The lowest and highest that training saw.")


class Said(Documented):
    as_of: AwareDatetime
    failure_probability: dict[str, float]
    remaining_useful_life: RemainingLife


class EventLine(Documented):
    kind: str
    code: str | None
    component: str | None
    failure_mode: str | None
    finding: str | None
    started_at: AwareDatetime
    ended_at: AwareDatetime | None


class History(Documented):
    """``predictions`` are what the model that answers now makes of the past; what was answered is in the journal."""

    machine: str
    step_s: float
    life_unit: Literal["h", "cycle"]
    times: list[AwareDatetime] = Field(description="The end of each tick.")
    sensors: list[SensorHistory]
    horizon: str = Field(description="That of alarms.")
    predictions: list[Said]
    events: list[EventLine]


class PlantLine(Documented):
    name: str
    champion: str | None = Field(description="The version of its model, or null.")
    challenger: str | None = Field(None, description="The version on trial, where there is one.")
    share: float | None = Field(None, description="Of the machines that it answers for; 0: it is asked, and not heard.")


class Plants(Documented):
    plants: list[PlantLine]


Time = AwareDatetime | Annotated[float, Field(ge=0, le=221_845_392_000)]
Machine = Annotated[str, Field(min_length=1, max_length=128, description="Printable.")]
_EITHER = ConfigDict(
    extra="forbid", json_schema_extra={"oneOf": [{"required": ["readings"]}, {"required": ["columns"]}]}
)


class Row(BaseModel):
    """``time`` (ISO 8601 with an offset, or epoch seconds; a cycle where the plant counts cycles), and a number or null
    under each sensor's name: the plant's raw name in its own unit, or the canonical name in the canonical unit."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"minProperties": 2})
    __pydantic_extra__: dict[str, float | None]
    time: Time


class RowOfMachine(Row):
    machine: Machine


class Columns(BaseModel):
    """The same as rows, a list a name, all of one length."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"minProperties": 2})
    __pydantic_extra__: dict[str, list[float | None]]
    time: list[Time] = Field(min_length=1)


class ColumnsOfMachines(Columns):
    machine: list[Machine] = Field(min_length=1)


def _unless(**about: Any) -> Any:
    """A field that may be left out, and is not null."""

    def without_default(schema: dict[str, Any]) -> None:
        schema.pop("default", None)

    return Field(None, json_schema_extra=without_default, **about)


class Readings(BaseModel):
    """Either ``readings``, a list of rows, or ``columns``, the same table as lists. ``units`` overrides."""

    model_config = _EITHER
    readings: Annotated[list[Row], Field(min_length=1)] | SkipJsonSchema[None] = _unless(
        examples=[[{"time": "2025-06-30T13:00:00Z", "Lagertemperatur_degC": 61.2}]]
    )
    columns: Columns | SkipJsonSchema[None] = _unless()
    units: dict[str, str] | SkipJsonSchema[None] = _unless(examples=[{"Lagertemperatur_degC": "degF"}])


class ReadingsOfMachines(BaseModel):
    """As ``Readings``; each row names its machine."""

    model_config = _EITHER
    readings: Annotated[list[RowOfMachine], Field(min_length=1)] | SkipJsonSchema[None] = _unless(
        examples=[[{"machine": "press-01", "time": "2025-06-30T13:00:00Z", "vibration": 2.1}]]
    )
    columns: ColumnsOfMachines | SkipJsonSchema[None] = _unless()
    units: dict[str, str] | SkipJsonSchema[None] = _unless(examples=[{"Lagertemperatur_degC": "degF"}])


class Window(Documented):
    """A complete window: one row a tick, one column a channel, canonical units, null for no value."""

    machine: Machine | None = None
    values: list[list[float | None]] = Field(min_length=1)
    as_of: Time | None = None


class WindowsBody(Documented):
    windows: list[Window] = Field(min_length=1)
    channels: list[str] | None = Field(None, description="The order of columns; the model's own order without it.")


class Tensor(Documented):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class InferBody(BaseModel):
    """The request of the Open Inference Protocol; null counts as NaN, which is no value."""

    id: str | None = None
    inputs: list[Tensor]
    outputs: list[dict[str, Any]] | None = None
    parameters: dict[str, Any] | None = None


class InferAnswer(Documented):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[Tensor]


class Problem(Documented):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    error: str | None = Field(None, description="Under /v2, the detail again, where its clients look for it.")


DESCRIPTIONS = {
    401: "No valid key",
    403: "The key has not the role",
    404: "Not here, or not for this key",
    408: "The body did not come in time",
    409: "The plant has no model",
    413: "Too large",
    415: "Not a format or encoding that is read here",
    422: "Malformed, or nothing that this plant's model reads; the detail names the place",
    429: "More than the key may ask; Retry-After says when",
    503: "Too many requests at once, or no model is loaded; Retry-After says when",
}
