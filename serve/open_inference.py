"""The Open Inference Protocol, version 2, over HTTP: a plant is a model, its input is a batch of windows.

The one idea: V2 gives what the model gives, hazards a bin and shares of failure modes, by the names that `model.onnx`
has for them, in canonical units; ``/v1`` makes answers of them. A model's only version is its champion's.
Source: https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from fastapi import APIRouter, Request, Security
from fastapi.responses import Response

from cluster.report import code_version
from models.errors import NotFoundError
from models.spec import BundleSpec
from models.windows import Float
from serve import documents as doc
from serve import tensors
from serve.auth import BEARER, HEADER, identify
from serve.bodies import JSON, parsed, read_body
from serve.problems import problem, request_id
from serve.scorer import Model
from serve.service import Service

Open = Callable[..., Model]
EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository"]
PLATFORM = {"network": "onnx_onnxruntime", "trees": "lightgbm", "no_sensor": "lightgbm"}


def router(service: Service, opened: Open) -> APIRouter:
    """Routes of ``/v2``. ``opened`` authorises and gives the plant's model."""
    made = APIRouter(prefix="/v2", tags=["open inference protocol"])
    _health(made, service)
    _models(made, service, opened)
    return made


def _json(found: Any) -> Response:
    return Response(orjson.dumps(found), media_type=JSON)


def _health(made: APIRouter, service: Service) -> None:
    @made.get("", response_model=None)
    async def server() -> Response:
        """Name and version of the server."""
        return _json({"name": "millwright", "version": code_version(), "extensions": EXTENSIONS})

    @made.get("/health/live", response_model=None)
    async def live() -> Response:
        """The process answers."""
        return _json({"live": True})

    @made.get("/health/ready", response_model=None, responses=doc.NOT_READY)
    async def ready(request: Request) -> Response:
        """At least one plant's model is loaded and warm."""
        if not service.ready:
            return problem(503, "No model is loaded.", request_id(request))
        return _json({"ready": True})


def _models(made: APIRouter, service: Service, opened: Open) -> None:
    secured = [Security(BEARER), Security(HEADER)]

    @made.post("/repository/index", dependencies=secured, responses={401: doc.PROBLEMS[401]}, response_model=None)
    async def index(request: Request) -> Response:
        """The models that the key sees."""
        key = identify(request, service.keys, service.metrics)
        names = [name for name in service.scorer.plants() if key.sees(name)]
        found = [(name, service.scorer.model(name).spec.version) for name in names]
        return _json([{"name": name, "version": version, "state": "READY", "reason": ""} for name, version in found])

    for path in ("/models/{plant}", "/models/{plant}/versions/{version}"):
        _model(made, service, opened, path, {"dependencies": secured, "include_in_schema": "version" not in path})


def _model(made: APIRouter, service: Service, opened: Open, path: str, more: dict[str, Any]) -> None:
    max_bytes, max_windows = int(service.settings.max_body_mb * 2**20), service.settings.max_windows

    def current(request: Request, plant: str) -> Model:
        model, version = opened(service, request, plant, "read"), request.path_params.get("version")
        if version is not None and version != model.spec.version:
            raise NotFoundError("No such version", expected=model.spec.version, found=repr(version)[:80])
        return model

    @made.get(path, responses=doc.PROBLEMS, **more)
    async def metadata(request: Request, plant: str) -> Response:
        """Inputs and outputs of a plant's model, by name, type and shape."""
        return _json(described(current(request, plant)))

    @made.get(f"{path}/config", responses=doc.PROBLEMS, **more)
    async def config(request: Request, plant: str) -> Response:
        """The same as Triton writes it."""
        return _json(configured(current(request, plant), max_windows))

    @made.get(f"{path}/ready", responses=doc.PROBLEMS, **more)
    async def model_ready(request: Request, plant: str) -> Response:
        """The plant's model is loaded and warm."""
        model = current(request, plant)
        return _json({"name": plant, "ready": True, "version": model.spec.version})

    @made.post(
        f"{path}/infer", responses=doc.BODY_PROBLEMS | {200: {"model": doc.InferAnswer}},
        openapi_extra=doc.body(doc.InferBody, octets=True), **more,
    )  # fmt: skip
    async def infer(request: Request, plant: str) -> Response:
        """Hazards of windows: input `values` [B, W, C], output `hazard` [B, K+1]; and `modes` [B, M], if it has any.

        Tensors are JSON, or bytes behind it as Triton's binary extension has them.
        """
        model = current(request, plant)
        body = await read_body(request, accepts=tensors.ACCEPTED, max_bytes=max_bytes)
        window = model.spec.config.window.length, len(model.spec.channels)

        def read() -> tuple[dict[str, Any], dict[str, bool], Float]:
            found, behind = tensors.split(request, body)
            names = tensors.asked(found, list(_outputs(model.spec)))
            return found, names, tensors.tensor(found, behind, window, max_windows)

        with service.metrics.stage("parse"):
            found, names, values = await parsed(body, read)
        scored = await service.infer(model, values)
        head = {"model_name": model.spec.plant, "model_version": model.spec.version}
        head |= {"id": str(found["id"])} if found.get("id") is not None else {}
        return tensors.answer(head, {"hazard": scored.hazard, "modes": scored.modes}, names)


def described(model: Model) -> dict[str, Any]:
    """V2 metadata of a model."""
    spec = model.spec
    shape = [-1, spec.config.window.length, len(spec.channels)]
    return {
        "name": spec.plant,
        "versions": [spec.version],
        "platform": PLATFORM[spec.kind],
        "inputs": [{"name": "values", "datatype": "FP32", "shape": shape}],
        "outputs": [{"name": n, "datatype": "FP32", "shape": [-1, size]} for n, size in _outputs(spec).items()],
        "channels": [{"name": c.name, "kind": c.kind, "unit": c.unit, "role": c.role} for c in spec.channels],
        "edges": list(spec.config.hazard.edges),
        "failure_modes": list(spec.failure_modes),
    }


def _outputs(spec: BundleSpec) -> dict[str, int]:
    """The outputs of a model, as `model.onnx` names them, and the size of each."""
    return {"hazard": spec.num_bins} | ({"modes": len(spec.failure_modes)} if spec.failure_modes else {})


def configured(model: Model, max_windows: int) -> dict[str, Any]:
    """Triton's model configuration, as far as a client asks for it."""
    about = described(model)
    inputs, outputs = (
        [{"name": one["name"], "data_type": f"TYPE_{one['datatype']}", "dims": one["shape"][1:]} for one in about[way]]
        for way in ("inputs", "outputs")
    )
    return {
        "name": about["name"], "platform": about["platform"], "max_batch_size": max_windows, "input": inputs,
        "output": outputs,
    }  # fmt: skip
