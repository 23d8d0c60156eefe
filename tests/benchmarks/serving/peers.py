"""What the service is measured beside, each a script of its own: python peers.py KIND MODEL PORT.

``bare``: FastAPI on uvicorn with orjson and ONNX Runtime, no key, no checks, no journal. ``litserve``: LitServe with
the same model. ``rayserve``: the same handler in Ray Serve behind Ray's own proxy. One model thread each.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response

try:
    import litserve
except ImportError:  # `make bench` installs it
    litserve = None


def session(model: str) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def bare_app(model: str) -> Any:
    app, loaded = FastAPI(), session(model)

    @app.post("/score")
    async def score(request: Request) -> Response:
        body = orjson.loads(await request.body())
        values = np.array([window["values"] for window in body["windows"]], np.float32)
        hazard = loaded.run(["hazard"], {"values": values})[0]
        return Response(orjson.dumps({"hazard": hazard.tolist()}), media_type="application/json")

    return app


def bare(model: str, port: int) -> None:
    import uvicorn

    uvicorn.run(bare_app(model), host="127.0.0.1", port=port, log_level="warning", access_log=False)


class LitApi(litserve.LitAPI if litserve else object):  # type: ignore[misc]
    """At the module's level: its worker is another process, to which it is pickled."""

    model_path = ""

    def setup(self, device: str) -> None:
        self.loaded = session(self.model_path)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe reads annotations, which are texts here
        return np.array([window["values"] for window in request["windows"]], np.float32)

    def predict(self, values: Any) -> Any:
        return self.loaded.run(["hazard"], {"values": values})[0]

    def encode_response(self, hazard: Any) -> Any:
        return {"hazard": hazard.tolist()}


def lit(model: str, port: int) -> None:
    api = LitApi(api_path="/score")
    api.model_path = model
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


def rayserve(model: str, port: int) -> None:
    import time

    import ray
    import ray.serve

    ray.init(include_dashboard=False, log_to_driver=False, num_cpus=2)
    ray.serve.start(http_options={"host": "127.0.0.1", "port": port})

    # With its default of 5 ongoing requests, 32 clients on one core get two answers a second.
    @ray.serve.deployment(max_ongoing_requests=100, logging_config={"enable_access_log": False})
    class Scores:
        def __init__(self) -> None:
            self.loaded = session(model)

        async def __call__(self, request: Any) -> Any:
            body = orjson.loads(await request.body())
            values = np.array([window["values"] for window in body["windows"]], np.float32)
            return {"hazard": self.loaded.run(["hazard"], {"values": values})[0].tolist()}

    ray.serve.run(Scores.bind(), route_prefix="/score")
    while True:
        time.sleep(60)


if __name__ == "__main__":
    {"bare": bare, "litserve": lit, "rayserve": rayserve}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
