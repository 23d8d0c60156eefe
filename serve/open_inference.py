"""The Open Inference Protocol, version 2, over HTTP: a plant is a model, its input is a batch of windows.

The one idea: V2 gives what the model gives, hazards a bin and shares of failure modes, by the names that `model.onnx`
has for them, in canonical units; ``/v1`` makes answers of them. A model's only version is its champion's.
Source: https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from cluster.report import code_version
from models.errors import NotFoundError
from models.spec import BundleSpec
from models.windows import Float
from serve import documents as doc
from serve import tensors
from serve.bodies import parsed, read_body
from serve.operations import JSON, OCTETS, OF_BODY, OF_KEY, Operation
from serve.problems import problem, request_id
from serve.scorer import Model
from serve.service import Service

Open = Callable[..., Any]  # ``serve.api.opened``
TAG = "open inference protocol"
EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository"]
PLATFORM = {"network": "onnx_onnxruntime", "trees": "lightgbm", "no_sensor": "lightgbm"}


def operations(service: Service, opened: Open) -> Iterator[Operation]:
    """Routes of ``/v2``. ``opened`` authorises and gives the plant's model."""
    for path in ("/v2/models/{plant}", "/v2/models/{plant}/versions/{version}"):
        yield from _model(service, opened, path)
    yield from _server(service)


def _json(found: Any) -> Response:
    return Response(orjson.dumps(found), media_type=JSON)


def _server(service: Service) -> Iterator[Operation]:
    async def server(request: Request) -> Response:
        """Name and version of the server."""
        return _json({"name": "millwright", "version": code_version(), "extensions": EXTENSIONS})

    async def live(request: Request) -> Response:
        """The process answers."""
        return _json({"live": True})

    async def ready(request: Request) -> Response:
        """At least one plant's model is loaded and warm."""
        if not service.ready:
            return problem(503, "No model is loaded.", request_id(request))
        return _json({"ready": True})

    async def index(request: Request) -> Response:
        """The models that the key sees."""
        key = service.access.identify(request)
        names = [name for name in service.scorer.plants() if key.sees(name)]
        found = [(name, service.scorer.model(name).spec.version) for name in names]
        return _json([{"name": name, "version": version, "state": "READY", "reason": ""} for name, version in found])

    yield Operation("GET", "/v2", server, TAG, secured=False)
    yield Operation("GET", "/v2/health/live", live, TAG, secured=False)
    yield Operation("GET", "/v2/health/ready", ready, TAG, problems=(503,), secured=False)
    yield Operation("POST", "/v2/repository/index", index, TAG, problems=(401, 429, 503))


def _model(service: Service, opened: Open, path: str) -> Iterator[Operation]:
    def current(request: Request) -> Any:
        found = opened(service, request, request.path_params["plant"], "read")
        version, champion = request.path_params.get("version"), found.model.spec.version
        if version is not None and version != champion:
            raise NotFoundError("No such version", expected=champion, found=repr(version)[:80])
        return found

    async def metadata(request: Request) -> Response:
        """Inputs and outputs of a plant's model, by name, type and shape."""
        return _json(described(current(request).model))

    async def config(request: Request) -> Response:
        """The same as Triton writes it."""
        access = current(request)
        return _json(configured(access.model, access.max_windows))

    async def ready(request: Request) -> Response:
        """The plant's model is loaded and warm."""
        spec = current(request).model.spec
        return _json({"name": spec.plant, "ready": True, "version": spec.version})

    async def infer(request: Request) -> Response:
        """Hazards of windows: input `values` [B, W, C], output `hazard` [B, K+1]; and `modes` [B, M], if it has any.

        Tensors are JSON, or bytes behind it as Triton's binary extension has them.
        """
        access = current(request)
        model: Model = access.model
        body = await read_body(request, accepts=tensors.ACCEPTED, max_bytes=access.max_bytes, wait_s=access.body_wait_s)
        window = model.spec.config.window.length, len(model.spec.channels)

        def read() -> tuple[dict[str, Any], dict[str, bool], Float]:
            found, behind = tensors.split(request, body)
            names = tensors.asked(found, list(_outputs(model.spec)))
            return found, names, tensors.tensor(found, behind, window, access.max_windows)

        with service.metrics.stage("parse"):
            found, names, values = await parsed(body, read)
        scored = await service.infer(model, values)
        head = {"model_name": model.spec.plant, "model_version": model.spec.version}
        head |= {"id": str(found["id"])} if found.get("id") is not None else {}
        return tensors.answer(head, {"hazard": scored.hazard, "modes": scored.modes}, names)

    body = {JSON: doc.InferBody, OCTETS: None}
    yield Operation("POST", f"{path}/infer", infer, TAG, doc.InferAnswer, OF_BODY, body)
    yield Operation("GET", path, metadata, TAG, problems=OF_KEY)
    yield Operation("GET", f"{path}/config", config, TAG, problems=OF_KEY)
    yield Operation("GET", f"{path}/ready", ready, TAG, problems=OF_KEY)


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
