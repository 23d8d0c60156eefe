"""The HTTP surface: routes of ``/v1``, the pages and ``/metrics``; ``create_app`` puts it all together.

The one idea: a route does four things, each in its own module: who asks (auth), what they sent
(bodies, schemas), the work (service), the answer (orjson). Starts without torch and MLflow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, FastAPI, Query, Request, Security
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response

from cluster.report import code_version
from models.errors import NotFoundError
from serve import documents as doc
from serve.arrow import MEDIA_TYPE as ARROW
from serve.arrow import parse_arrow
from serve.auth import BEARER, HEADER, Role, authorise, identify, unknown_plant
from serve.bodies import JSON, media_type, parsed, read_body
from serve.metrics import CONTENT_TYPE
from serve.middleware import Around, Faults
from serve.open_inference import router as open_inference
from serve.problems import NotYetError, install
from serve.schemas import LAST_US, Windows, checked_machine, parse_readings, parse_time, parse_windows
from serve.scorer import Model
from serve.service import Service

Reasons = Annotated[bool, Query(description="Also say what moved the risk, channel by channel.")]
AsOf = Annotated[str | None, Query(description="Answer as of this time, from what was received up to then.")]
_PAGES = {
    "/": ("index.html", "text/html"), "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"), "/docs": ("docs.html", "text/html"),
    "/docs.js": ("docs.js", "text/javascript"),
}  # fmt: skip
LATER = {
    "events": "reporting failures and repairs over HTTP (until then they come with `millwright ingest`)",
    "outcomes": "reporting findings over HTTP (until then they come with `millwright ingest`)",
    "cases": "the decision engine that turns predictions into cases",
}


def create_app(service: Service, *, open_metrics: bool = True, tell_id: bool = True) -> FastAPI:
    """The application on a service. ``open_metrics`` answers ``/metrics`` without a key."""
    app = FastAPI(
        title="Millwright", version=code_version(), docs_url=None, redoc_url=None, openapi_url=None,
        redirect_slashes=False,  # behind TLS a redirect would name http:// and carry the key there
    )  # fmt: skip
    app.add_middleware(Faults)
    app.add_middleware(Around, metrics=service.metrics, tell_id=tell_id)
    install(app)
    secured = [Security(BEARER), Security(HEADER)]
    for made in (_readings(service), _windows(service), _machines(service), _later(service)):
        app.include_router(made, dependencies=secured)
    app.include_router(open_inference(service, opened))
    app.include_router(_open_pages(service, open_metrics))
    _describe(app)
    return app


def answered(found: Any) -> Response:
    """JSON. NaN and infinity, should any get here, leave as null."""
    return Response(orjson.dumps(found), media_type=JSON)


def opened(service: Service, request: Request, plant: str, role: Role) -> Model:
    """The plant's model for who asks. Raises AccessError, NotFoundError, or GateError without a model."""
    key = identify(request, service.keys, service.metrics)
    authorise(key, plant, role, service.metrics)
    try:
        return service.scorer.model(plant)
    except NotFoundError as error:
        raise unknown_plant(plant) from error


def _readings(service: Service) -> APIRouter:
    router, extra = APIRouter(prefix="/v1", tags=["readings"]), doc.body(doc.Readings)
    max_bytes = int(service.settings.max_body_mb * 2**20)

    async def taken(request: Request, plant: str, machine: str | None, as_of: str | None, reasons: bool) -> Any:
        model = opened(service, request, plant, "write")
        body = await read_body(request, max_bytes=max_bytes)
        with service.metrics.stage("parse"):
            if machine is not None:
                checked_machine(machine, "path")
            at = None if as_of is None else _time(as_of, model)
            latest_us = service.latest_us()
            delivery = await parsed(
                body, lambda: parse_readings(body, model.plant, machine=machine, latest_us=latest_us)
            )
        return await service.deliver(model, delivery, as_of_us=at, with_reasons=reasons)

    @router.post(
        "/plants/{plant}/machines/{machine}/readings",
        responses=doc.BODY_PROBLEMS | {200: {"model": doc.Prediction}}, openapi_extra=extra,
    )  # fmt: skip
    async def readings_of_machine(
        request: Request, plant: str, machine: str, reasons: Reasons = False, as_of: AsOf = None
    ) -> Response:
        """Append readings to one machine's window; the answer is its prediction."""
        found = await taken(request, plant, machine, as_of, reasons)
        if not found:
            raise NotFoundError(
                "No reading up to then", found=as_of, where=f"machine {machine}", do="Ask for a later time"
            )
        return answered(found[0])

    @router.post(
        "/plants/{plant}/readings",
        responses=doc.BODY_PROBLEMS | {200: {"model": doc.Predictions}}, openapi_extra=extra,
    )  # fmt: skip
    async def readings_of_machines(
        request: Request, plant: str, reasons: Reasons = False, as_of: AsOf = None
    ) -> Response:
        """Append readings of many machines, each row naming its own; one prediction a machine."""
        return answered({"predictions": await taken(request, plant, None, as_of, reasons)})

    return router


def _windows(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["score"])
    max_bytes, max_windows = int(service.settings.max_body_mb * 2**20), service.settings.max_windows

    @router.post(
        "/plants/{plant}/score",
        responses=doc.BODY_PROBLEMS | {200: {"model": doc.Predictions}},
        openapi_extra=doc.body(doc.WindowsBody, arrow=True),
    )
    async def score(request: Request, plant: str, reasons: Reasons = False) -> Response:
        """Score complete windows: JSON, or an Arrow IPC stream with a column `values`."""
        model = opened(service, request, plant, "read")
        body = await read_body(request, accepts=(JSON, ARROW), max_bytes=max_bytes)
        channels = [channel.name for channel in model.spec.channels]
        length = model.spec.config.window.length

        def read() -> Windows:
            if media_type(request) == ARROW:
                return parse_arrow(body, channels=channels, length=length, max_windows=max_windows)
            return parse_windows(body, model.plant, channels=channels, length=length, max_windows=max_windows)

        with service.metrics.stage("parse"):
            windows = await parsed(body, read)
        return answered({"predictions": await service.score(model, windows, with_reasons=reasons)})

    return router


def _machines(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["machines"])

    @router.get("/plants", responses={401: doc.PROBLEMS[401], 200: {"model": doc.Plants}})
    async def plants(request: Request) -> Response:
        """The plants that the key sees, with their models."""
        key = identify(request, service.keys, service.metrics)
        names = [name for name in service.scorer.known() if key.sees(name)]
        versions = {name: service.scorer.model(name).spec.version for name in service.scorer.plants()}
        return answered({"plants": [{"name": name, "champion": versions.get(name)} for name in names]})

    @router.get("/plants/{plant}/machines", responses=doc.PROBLEMS | {200: {"model": doc.Machines}})
    async def machines(request: Request, plant: str) -> Response:
        """Every machine that has readings: latest prediction and state of the data, the most at risk first."""
        model = opened(service, request, plant, "read")
        return answered({"machines": await service.machines(model)})

    @router.get("/plants/{plant}/machines/{machine}", responses=doc.PROBLEMS | {200: {"model": doc.MachineState}})
    async def machine(
        request: Request, plant: str, machine: str, reasons: Reasons = True, as_of: AsOf = None
    ) -> Response:
        """One machine: latest prediction, state of the data, reasons."""
        model = opened(service, request, plant, "read")
        at = None if as_of is None else _time(as_of, model)
        return answered(await service.machine(model, machine, as_of_us=at, with_reasons=reasons))

    return router


def _later(service: Service) -> APIRouter:
    """Routes whose part is not built: they check the key and say what is missing."""
    router = APIRouter(prefix="/v1", tags=["later"])

    def refuse(part: str, role: Role) -> Callable[..., Awaitable[Response]]:
        async def later(request: Request, plant: str) -> Response:
            opened(service, request, plant, role)
            raise NotYetError("Not built yet", expected=LATER[part])

        later.__doc__ = f"Not built yet: {LATER[part]}."
        return later

    for method, path, part, role in (
        ("POST", "/plants/{plant}/events", "events", "write"),
        ("POST", "/plants/{plant}/outcomes", "outcomes", "write"),
        ("GET", "/plants/{plant}/cases", "cases", "read"),
        ("POST", "/plants/{plant}/cases/{case}/decision", "cases", "write"),
    ):
        endpoint = refuse(part, role)  # type: ignore[arg-type]
        router.add_api_route(path, endpoint, methods=[method], status_code=501, responses=doc.NOT_YET)
    return router


def _open_pages(service: Service, open_metrics: bool) -> APIRouter:
    """What needs no key: pages without data, the description of this surface, and metrics where they are open."""
    router = APIRouter(include_in_schema=False)

    def page(name: str, kind: str) -> Callable[..., Awaitable[Response]]:
        text = (resources.files("serve") / "page" / name).read_bytes()

        async def show() -> Response:
            return Response(text, media_type=kind)

        return show

    for path, (name, kind) in _PAGES.items():
        router.add_api_route(path, page(name, kind), methods=["GET"])

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        sees = None if open_metrics else identify(request, service.keys, service.metrics).sees
        return Response(service.metrics.text(sees), media_type=CONTENT_TYPE)

    @router.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        return answered(request.app.openapi())

    return router


def _time(text: str, model: Model) -> int:
    number = text.isascii() and text.replace(".", "", 1).isdigit()  # "²" is a digit too, and no number
    return parse_time(float(text) if number else text, model.plant, "as_of", LAST_US)


def _describe(app: FastAPI) -> None:
    """Bodies that no signature names become components of the description."""

    def describe() -> dict[str, Any]:
        if not app.openapi_schema:
            found = get_openapi(
                title=app.title, version=app.version, routes=app.routes,
                description="Failure probability and remaining useful life of machines, from their sensors.",
            )  # fmt: skip
            found.setdefault("components", {}).setdefault("schemas", {}).update(doc.components())
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]
