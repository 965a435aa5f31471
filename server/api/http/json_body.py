"""Bytes of a request to a JSON object, refusing what a lenient parser lets through.

Python's `json` sniffs UTF-16, takes NaN and lone surrogates, and nests without limit; msgspec takes
UTF-8 and strict JSON only. This file knows nothing of the fields inside.
"""

import asyncio
import math

import msgspec
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from thirdeye.server.errors import ClientGone, InvalidRequest, TooLarge

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 64
LARGE_BODY_BYTES = 64 * 1024  # from here on parsing leaves the event loop

JsonObject = dict[str, object]

_JSON, _UNTOLD = "application/json", ("", "application/x-www-form-urlencoded")
_CHARSETS = ("", "charset=utf-8", "charset=utf8")


async def read_json(request: Request, max_bytes: int = MAX_BODY_BYTES) -> JsonObject:
    """The request's JSON object. Raises `InvalidRequest`, `TooLarge`; `ClientGone` if cut."""
    data = await read_body(request, max_bytes)
    if len(data) > LARGE_BODY_BYTES:
        return await asyncio.to_thread(decode_object, data)
    return decode_object(data)


async def read_body(request: Request, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The bytes of what says it is JSON. Raises as `read_json`, but for what is in them."""
    _check_content_type(request.headers)
    _check_content_encoding(request.headers.getlist("content-encoding"))
    return await _read(request, max_bytes)


def _check_content_type(headers: Headers) -> None:
    """Only JSON: a form is what a foreign web page could send without asking. A page's request has
    an `Origin`; without one, no type and curl's own mean nothing, and the body is JSON."""
    values = headers.getlist("content-type") or [""]
    kind, _, parameters = values[0].lower().partition(";")
    is_untold = kind.strip() in _UNTOLD and "origin" not in headers
    charset = parameters.replace(" ", "").replace('"', "")
    if len(values) > 1 or charset not in _CHARSETS or not (is_untold or kind.strip() == _JSON):
        raise InvalidRequest("The header 'Content-Type' must be application/json (UTF-8).")


def _check_content_encoding(values: list[str]) -> None:
    """Nothing is unpacked: a small body could become a large one."""
    if any(value.strip().lower() not in ("", "identity") for value in values):
        raise InvalidRequest(
            "The header 'Content-Encoding' must be left out: send the body unpacked."
        )


async def _read(request: Request, max_bytes: int) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise _too_large(max_bytes, length[:20])
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > max_bytes:
                raise _too_large(max_bytes, "more")
    except ClientDisconnect as gone:
        raise ClientGone from gone
    return bytes(data)


def _too_large(max_bytes: int, got: str) -> TooLarge:
    return TooLarge(
        f"The request body must be at most {max_bytes} bytes, got {got}.",
        code="request_too_large",
    )


def decode_object(data: bytes) -> JsonObject:
    """One JSON object in UTF-8. Of a key that comes twice, the last one counts."""
    value = _decode(data)
    if not isinstance(value, dict):
        raise InvalidRequest("The request body must be a JSON object.", code="invalid_type")
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and depth_of(value) > MAX_DEPTH:
        raise _too_deep()
    return value


def _decode(data: bytes) -> object:
    try:
        return _DECODER.decode(data)
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError:
        raise InvalidRequest("The request body is not valid JSON: it is not UTF-8.") from None
    except msgspec.MsgspecError as error:
        raise InvalidRequest(
            f"The request body is not valid JSON: {_fault(error, data)}."
        ) from None


def _fault(error: msgspec.MsgspecError, data: bytes) -> str:
    """What is wrong, at which byte. msgspec's own texts never hold the input."""
    text = str(error).removeprefix("JSON is malformed: ")
    if "truncated" in text:
        return f"it ends too early, at byte {len(data)}" if data else "it is empty"
    return "a number is out of range" if "out of range" in text else text


def _number(text: str) -> int | float:
    """JSON knows one kind of number: what has no fraction is an integer, also if written `2.0`.

    From 2^63 on it stays a float, which no field of ours takes for an integer.
    """
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("out of range")
    return int(number) if number.is_integer() and abs(number) < 2**63 else number


_DECODER = msgspec.json.Decoder(float_hook=_number)


def _too_deep() -> InvalidRequest:
    return InvalidRequest(
        f"The request body must not nest deeper than {MAX_DEPTH} levels.", code="request_too_large"
    )


def depth_of(value: object) -> int:
    """How deep lists and objects nest, counted level by level so that no stack can overflow."""
    level, depth = [value], 0
    while level := [node for node in level if isinstance(node, (dict, list))]:
        depth += 1
        level = [child for node in level for child in _children(node)]
    return depth


def _children(node: object) -> list[object]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
