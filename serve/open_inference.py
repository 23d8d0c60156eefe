"""The Open Inference Protocol, version 2, over JSON: a plant is a model, its input is a batch of windows.

The one idea: V2 gives what the model gives, hazards a bin and shares of failure modes, by the names that `model.onnx`
has for them, in canonical units; ``/v1`` makes answers of them.
Source: https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request, Security
from fastapi.responses import Response

from cluster.report import code_version
from models.errors import InputError
from models.predictor import Scored
from models.spec import BundleSpec
from models.windows import Float
from serve import documents as doc
from serve.auth import BEARER, HEADER
from serve.bodies import JSON, parsed, read_body
from serve.problems import MediaTypeError, problem, request_id
from serve.schemas import TooLargeError, matrix, parse_json
from serve.scorer import Model
from serve.service import Service

Open = Callable[..., Model]
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
        return _json({"name": "millwright", "version": code_version(), "extensions": []})

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
    max_bytes, max_windows = int(service.settings.max_body_mb * 2**20), service.settings.max_windows
    secured = [Security(BEARER), Security(HEADER)]

    @made.get("/models/{plant}", dependencies=secured, responses=doc.PROBLEMS)
    async def metadata(request: Request, plant: str) -> Response:
        """Inputs and outputs of a plant's model, by name, type and shape."""
        return _json(described(opened(service, request, plant, "read")))

    @made.get("/models/{plant}/ready", dependencies=secured, responses=doc.PROBLEMS)
    async def model_ready(request: Request, plant: str) -> Response:
        """The plant's model is loaded and warm."""
        model = opened(service, request, plant, "read")
        return _json({"name": plant, "ready": True, "version": model.spec.version})

    @made.post(
        "/models/{plant}/infer", dependencies=secured, responses=doc.BODY_PROBLEMS | {200: {"model": doc.InferAnswer}},
        openapi_extra=doc.body(doc.InferBody),
    )  # fmt: skip
    async def infer(request: Request, plant: str) -> Response:
        """Hazards of windows: input `values` [B, W, C], output `hazard` [B, K+1]; and `modes` [B, M], if it has any."""
        model = opened(service, request, plant, "read")
        if "inference-header-content-length" in request.headers:
            raise MediaTypeError("Binary tensors are not read here yet", expected="JSON tensors", found="a binary one")
        body = await read_body(request, max_bytes=max_bytes)

        def read() -> tuple[dict[str, Any], list[str], Float]:
            found = parse_json(body)
            return found, _asked(found, model.spec), tensor(found, model, max_windows)

        with service.metrics.stage("parse"):
            found, names, values = await parsed(body, read)
        return _json(_answer(found, model, names, await service.infer(model, values)))


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


def _asked(found: dict[str, Any], spec: BundleSpec) -> list[str]:
    """The outputs that a request names, all of them where it names none. Raises InputError."""
    given, known = found.get("outputs"), list(_outputs(spec))
    if not given:
        return known
    names = [one.get("name") if isinstance(one, dict) else None for one in given] if isinstance(given, list) else []
    if not names or any(name not in known for name in names):
        raise InputError(
            "Wrong outputs", expected=f"some of {', '.join(known)}", found=str(given)[:80], where="outputs"
        )
    return [name for name in known if name in names]


def tensor(found: dict[str, Any], model: Model, max_windows: int) -> Float:
    """The request's input as windows [B, W, C]. Raises InputError."""
    inputs = found.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise InputError(
            "Wrong inputs", expected="a list of one tensor `values`", found=type(inputs).__name__, where="inputs"
        )
    given = inputs[0]
    if given.get("name") != "values" or given.get("datatype") not in ("FP32", "FP64"):
        found_text = f"{given.get('name')!r} of {given.get('datatype')!r}"[:120]
        raise InputError("Wrong input", expected="`values` of FP32", found=found_text, where="inputs[0]")
    shape = _shape(given.get("shape"), [model.spec.config.window.length, len(model.spec.channels)], max_windows)
    data = given.get("data")
    flat = isinstance(data, list) and bool(data) and not isinstance(data[0], list)
    values = matrix(data, (int(np.prod(shape)),) if flat else shape, "inputs[0].data")
    return np.ascontiguousarray(values.reshape(shape))


def _shape(found: Any, expected: list[int], max_windows: int) -> tuple[int, ...]:
    whole = isinstance(found, list) and len(found) == 3 and all(type(n) is int for n in found)
    if not whole or found[1:] != expected or found[0] < 0:
        raise InputError("Wrong shape", expected=[-1, *expected], found=str(found)[:80], where="inputs[0].shape")
    if found[0] > max_windows:
        raise TooLargeError("Too many windows", expected=f"at most {max_windows}", found=found[0], where="inputs[0]")
    return tuple(found)


def _answer(found: dict[str, Any], model: Model, names: list[str], scored: Scored) -> dict[str, Any]:
    outputs = [
        {"name": name, "datatype": "FP32", "shape": list(values.shape), "data": values.ravel().tolist()}
        for name, values in (("hazard", scored.hazard), ("modes", scored.modes)) if name in names
    ]  # fmt: skip
    answer = {"model_name": model.spec.plant, "model_version": model.spec.version, "outputs": outputs}
    return answer | ({"id": str(found["id"])} if found.get("id") is not None else {})
