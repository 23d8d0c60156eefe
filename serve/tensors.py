"""Tensors of the Open Inference Protocol: JSON, or raw bytes behind the JSON ("binary tensor data").

The one idea: one request, one answer, two encodings of each tensor. Bytes are little-endian, row-major, and follow the
JSON, whose length the header ``Inference-Header-Content-Length`` gives, in the order of the tensors that have
``binary_data_size``. What is announced must be what is there: bytes that are too few or left over are refused.
Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response

from models.errors import InputError
from models.windows import Float
from serve.operations import JSON, OCTETS
from serve.schemas import TooLargeError, parse_json
from serve.windows import matrix

HEADER = "Inference-Header-Content-Length"
ACCEPTED = (JSON, OCTETS, "")  # stock clients name no type
_TYPES = {"FP32": "<f4", "FP64": "<f8"}


def split(request: Request, body: bytes) -> tuple[dict[str, Any], memoryview]:
    """The request's JSON and the bytes behind it. Raises InputError."""
    text = request.headers.get(HEADER)
    if text is None:
        return parse_json(body), memoryview(b"")
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(len(body))) or int(text) > len(body):
        raise InputError("Wrong header", expected=f"a number up to {len(body)}", found=repr(text)[:80], where=HEADER)
    return parse_json(body[: int(text)]), memoryview(body)[int(text) :]


def tensor(found: Mapping[str, Any], behind: memoryview, window: tuple[int, int], max_windows: int) -> Float:
    """The request's one input as windows [B, W, C]; ``window`` is (W, C). Raises InputError."""
    inputs = found.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise InputError(
            "Wrong inputs", expected="a list of one tensor `values`", found=type(inputs).__name__, where="inputs"
        )
    given = inputs[0]
    kind = given.get("datatype")
    if given.get("name") != "values" or kind not in _TYPES:
        found_text = f"{given.get('name')!r} of {kind!r}"[:120]
        raise InputError("Wrong input", expected="`values` of FP32", found=found_text, where="inputs[0]")
    shape = _shape(given.get("shape"), list(window), max_windows)
    size = _parameters(given).get("binary_data_size")
    if size is not None or len(behind):
        return _from_bytes(behind, size, kind, shape)
    data = given.get("data")
    flat = isinstance(data, list) and bool(data) and not isinstance(data[0], list)
    values = matrix(data, (int(np.prod(shape)),) if flat else shape, "inputs[0].data")
    return np.ascontiguousarray(values.reshape(shape))


def asked(found: Mapping[str, Any], known: Sequence[str]) -> dict[str, bool]:
    """The outputs that a request names, or all of them -> whether as bytes. Raises InputError."""
    every = _parameters(found).get("binary_data_output") is True
    given = found.get("outputs")
    if not given:
        return dict.fromkeys(known, every)
    names = [one.get("name") if isinstance(one, dict) else None for one in given] if isinstance(given, list) else []
    if not names or any(name not in known for name in names):
        raise InputError(
            "Wrong outputs", expected=f"some of {', '.join(known)}", found=str(given)[:80], where="outputs"
        )
    binary = {one["name"]: _parameters(one).get("binary_data", every) is True for one in given}
    return {name: binary[name] for name in known if name in binary}


def answer(head: dict[str, Any], outputs: Mapping[str, Float], binary: Mapping[str, bool]) -> Response:
    """``head`` with ``outputs``, those that are ``binary`` behind it."""
    described, behind = [], []
    for name, as_bytes in binary.items():
        values = np.ascontiguousarray(outputs[name], "<f4")
        one: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": list(values.shape)}
        if as_bytes:
            described.append(one | {"parameters": {"binary_data_size": values.nbytes}})
            behind.append(values.tobytes())
        else:
            described.append(one | {"data": values.ravel().tolist()})
    text = orjson.dumps(head | {"outputs": described})
    if not behind:
        return Response(text, media_type=JSON)
    return Response(b"".join([text, *behind]), media_type=OCTETS, headers={HEADER: str(len(text))})


def _from_bytes(behind: memoryview, size: Any, kind: str, shape: tuple[int, ...]) -> Float:
    expected = int(np.prod(shape)) * np.dtype(_TYPES[kind]).itemsize
    if type(size) is not int or size != expected or len(behind) != expected:
        raise InputError(
            "Wrong bytes", expected=f"binary_data_size {expected} for {kind} {list(shape)}, and as many behind",
            found=f"{str(size)[:40]}, and {len(behind)}", where="inputs[0]",
        )  # fmt: skip
    with np.errstate(over="ignore"):
        values = np.frombuffer(behind, _TYPES[kind]).astype(np.float32).reshape(shape)
    values[np.isinf(values)] = np.nan
    return values


def _parameters(found: Mapping[str, Any]) -> Mapping[str, Any]:
    given = found.get("parameters")
    return given if isinstance(given, dict) else {}


def _shape(found: Any, expected: list[int], max_windows: int) -> tuple[int, ...]:
    whole = isinstance(found, list) and len(found) == 3 and all(type(n) is int for n in found)
    if not whole or found[1:] != expected or found[0] < 0:
        raise InputError("Wrong shape", expected=[-1, *expected], found=str(found)[:80], where="inputs[0].shape")
    if found[0] > max_windows:
        raise TooLargeError("Too many windows", expected=f"at most {max_windows}", found=found[0], where="inputs[0]")
    return tuple(found)
