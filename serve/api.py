"""The HTTP surface: routes of ``/v1``, the pages and ``/metrics``; ``create_app`` puts it all together.

The one idea: a route does four things, each in its own module: who asks (auth), what they sent
(bodies, schemas), the work (service), the answer (orjson). Starts without torch and MLflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cluster.report import code_version
from models.errors import NotFoundError
from serve import documents as doc
from serve.arrow import MEDIA_TYPE as ARROW
from serve.arrow import parse_arrow
from serve.auth import Role, unknown_plant
from serve.bodies import media_type, parsed, read_body
from serve.metrics import CONTENT_TYPE
from serve.middleware import Surface
from serve.open_inference import operations as open_inference
from serve.operations import (
    AS_OF,
    JSON,
    OF_BODY,
    OF_KEY,
    REASONS,
    Answering,
    Endpoint,
    Operation,
    description,
    flag,
    number,
)
from serve.past import MOST_STEPS, STEPS
from serve.problems import NotYetError
from serve.schemas import LAST_US, checked_machine, parse_readings, parse_time
from serve.scorer import Model
from serve.service import Service
from serve.windows import Windows, parse_windows

_PAGES = {
    "/": ("index.html", "text/html"), "/page.js": ("page.js", "text/javascript"),
    "/charts.js": ("charts.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"), "/docs": ("docs.html", "text/html"),
    "/docs.js": ("docs.js", "text/javascript"),
}  # fmt: skip
# Pages load nothing but their own files and ask nothing but this service.
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}
LATER = {
    "events": "reporting failures and repairs over HTTP (until then they come with `millwright ingest`)",
    "outcomes": "reporting findings over HTTP (until then they come with `millwright ingest`)",
    "cases": "the decision engine that turns predictions into cases",
}
ABOUT = "Failure probability and remaining useful life of machines, from their sensors."


def create_app(service: Service, *, open_metrics: bool = True) -> Surface:
    """The application on a service. ``open_metrics`` answers ``/metrics`` without a key."""
    made = [*_readings(service), *_windows(service), *open_inference(service, opened), *_machines(service)]
    about = description(made, title="Millwright", version=code_version(), text=ABOUT)
    answering = [operation.route() for operation in made] + [*_later(service)]
    routes = [*answering, *_open_pages(service, open_metrics, orjson.dumps(about))]
    return Surface(routes, service.metrics, in_flight=service.settings.in_flight)


def answered(found: Any) -> Response:
    """JSON. NaN and infinity, should any get here, leave as null."""
    return Response(orjson.dumps(found), media_type=JSON)


@dataclass(frozen=True)
class Opened:
    """A plant's model for who asks, and how much they may ask for."""

    model: Model
    max_bytes: int
    max_windows: int
    body_wait_s: float


def opened(service: Service, request: Request, plant: str, role: Role) -> Opened:
    """Raises AccessError, RateError, NotFoundError, or GateError without a model."""
    key = service.access.identify(request)
    service.access.authorise(key, plant, role)
    try:
        model = service.scorer.model(plant)
    except NotFoundError as error:
        raise unknown_plant(plant) from error
    settings, limits = service.settings, key.limits
    max_body_mb = min(settings.max_body_mb, limits.max_body_mb or settings.max_body_mb)
    max_windows = min(settings.max_windows, limits.max_windows or settings.max_windows)
    return Opened(model, int(max_body_mb * 2**20), max_windows, settings.body_wait_s)


def _readings(service: Service) -> Iterator[Operation]:
    async def taken(request: Request, machine: str | None) -> Any:
        access = opened(service, request, request.path_params["plant"], "write")
        model = access.model
        at, reasons = _as_of(request, model), flag(request, "reasons", False)
        body = await read_body(request, max_bytes=access.max_bytes, wait_s=access.body_wait_s)
        with service.metrics.stage("parse"):
            if machine is not None:
                checked_machine(machine, "path")
            latest_us = service.latest_us()
            delivery = await parsed(
                body, lambda: parse_readings(body, model.plant, machine=machine, latest_us=latest_us)
            )
        return await service.deliver(model, delivery, as_of_us=at, with_reasons=reasons)

    async def of_machine(request: Request) -> Response:
        """Append readings to one machine's window; the answer is its prediction."""
        machine = request.path_params["machine"]
        found = await taken(request, machine)
        if not found:
            asked = request.query_params.get("as_of")
            raise NotFoundError(
                "No reading up to then", found=asked, where=f"machine {machine}", do="Ask for a later time"
            )
        return answered(found[0])

    async def of_machines(request: Request) -> Response:
        """Append readings of many machines, each row naming its own; one prediction a machine."""
        return answered({"predictions": await taken(request, None)})

    query = (REASONS, AS_OF)
    for path, endpoint, answer, body in (
        ("/v1/plants/{plant}/machines/{machine}/readings", of_machine, doc.Prediction, doc.Readings),
        ("/v1/plants/{plant}/readings", of_machines, doc.Predictions, doc.ReadingsOfMachines),
    ):
        yield Operation("POST", path, endpoint, "readings", answer, OF_BODY, {JSON: body}, query)


def _windows(service: Service) -> Iterator[Operation]:
    async def score(request: Request) -> Response:
        """Score complete windows: JSON, or an Arrow IPC stream with a column `values`."""
        access = opened(service, request, request.path_params["plant"], "read")
        model, most, reasons = access.model, access.max_windows, flag(request, "reasons", False)
        body = await read_body(request, accepts=(JSON, ARROW), max_bytes=access.max_bytes, wait_s=access.body_wait_s)
        length = model.spec.config.window.length

        def read() -> Windows:
            if media_type(request) == ARROW:
                return parse_arrow(body, channels=model.channels, length=length, max_windows=most)
            return parse_windows(body, model.plant, channels=model.channels, length=length, max_windows=most)

        with service.metrics.stage("parse"):
            windows = await parsed(body, read)
        return answered({"predictions": await service.score(model, windows, with_reasons=reasons)})

    body = {JSON: doc.WindowsBody, ARROW: None}
    yield Operation("POST", "/v1/plants/{plant}/score", score, "score", doc.Predictions, OF_BODY, body, (REASONS,))


def _machines(service: Service) -> Iterator[Operation]:
    async def plants(request: Request) -> Response:
        """The plants that the key sees, with their models."""
        key = service.access.identify(request)
        names = [name for name in service.scorer.known() if key.sees(name)]
        return answered({"plants": [_line(service, name) for name in names]})

    async def machines(request: Request) -> Response:
        """Every machine that has readings: latest prediction and state of the data, the most at risk first."""
        model = opened(service, request, request.path_params["plant"], "read").model
        return answered({"machines": await service.machines(model)})

    async def machine(request: Request) -> Response:
        """One machine: latest prediction, state of the data, reasons."""
        model = opened(service, request, request.path_params["plant"], "read").model
        at, reasons = _as_of(request, model), flag(request, "reasons", True)
        name = request.path_params["machine"]
        return answered(await service.machine(model, name, as_of_us=at, with_reasons=reasons))

    async def history(request: Request) -> Response:
        """What a machine did lately: its sensors, its events, and what the model makes of each moment."""
        model = opened(service, request, request.path_params["plant"], "read").model
        at, name = _as_of(request, model), request.path_params["machine"]
        steps = number(request, "steps", STEPS, most=MOST_STEPS)
        return answered(await service.history(model, name, steps=steps, as_of_us=at))

    one = "/v1/plants/{plant}/machines/{machine}"
    yield Operation("GET", "/v1/plants", plants, "machines", doc.Plants, (401, 429, 503))
    yield Operation("GET", "/v1/plants/{plant}/machines", machines, "machines", doc.Machines, OF_KEY)
    steps = ("steps", {"type": "integer", "minimum": 1, "maximum": MOST_STEPS}, f"Ticks; {STEPS} without it.")
    yield Operation("GET", f"{one}/history", history, "machines", doc.History, OF_KEY, query=(steps, AS_OF))
    yield Operation("GET", one, machine, "machines", doc.MachineState, OF_KEY, query=(REASONS, AS_OF))


def _line(service: Service, plant: str) -> dict[str, Any]:
    there, trial = plant in service.scorer.plants(), service.scorer.trial(plant)
    line = {"name": plant, "champion": service.scorer.model(plant).spec.version if there else None}
    return line | ({"challenger": trial.challenger.version, "share": trial.challenger.share} if trial else {})


def _later(service: Service) -> Iterator[Route]:
    """Routes whose part is not built, and which no description lists: they check the key and say what is missing."""

    def refuse(part: str, role: Role) -> Endpoint:
        async def later(request: Request) -> Response:
            opened(service, request, request.path_params["plant"], role)
            raise NotYetError("Not built yet", expected=LATER[part])

        return later

    for method, path, part, role in (
        ("POST", "/v1/plants/{plant}/events", "events", "write"),
        ("POST", "/v1/plants/{plant}/outcomes", "outcomes", "write"),
        ("GET", "/v1/plants/{plant}/cases", "cases", "read"),
        ("POST", "/v1/plants/{plant}/cases/{case}/decision", "cases", "write"),
    ):
        yield Route(path, Answering(refuse(part, role)), methods=[method])  # type: ignore[arg-type]


def _open_pages(service: Service, open_metrics: bool, about: bytes) -> Iterator[Route]:
    """What needs no key: pages without data, the description of this surface, and metrics where they are open."""

    def page(content: bytes, kind: str) -> Endpoint:
        async def show(request: Request) -> Response:
            return Response(content, media_type=kind, headers=_PAGE_HEADERS)

        return show

    for path, (name, kind) in _PAGES.items():
        yield Route(path, page((resources.files("serve") / "page" / name).read_bytes(), kind))
    yield Route("/openapi.json", page(about, JSON))

    async def metrics(request: Request) -> Response:
        sees = None if open_metrics else service.access.identify(request).sees
        return Response(service.metrics.text(sees), media_type=CONTENT_TYPE)

    yield Route("/metrics", metrics)


def _as_of(request: Request, model: Model) -> int | None:
    text = request.query_params.get("as_of")
    if text is None:
        return None
    number = text.isascii() and text.replace(".", "", 1).isdigit()  # "²" is a digit too, and no number
    return parse_time(float(text) if number else text, model.plant, "as_of", LAST_US)
