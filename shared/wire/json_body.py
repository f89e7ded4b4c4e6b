"""A JSON request body, read strictly: what it cannot pass on whole and safely, it refuses with a 400 that says where.

msgspec reads the text and already refuses NaN, infinities, lone surrogates, bad UTF-8 and trailing text. Added here
are the bounds it does not have: nesting, NUL characters, and integers that msgpack could not carry to a worker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from shared.errors import BadRequest

Container = dict[str, Any] | list[Any]

MAX_DEPTH = 32
MAX_CONTAINERS = 50_000
"""Objects and lists in one body.

The longest sensible conversation has fewer, and each costs the garbage collector time.
"""
INT_MIN, INT_MAX = -(2**63), 2**64 - 1
"""What msgpack can hold; a larger integer would fail on its way to Redis."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
# An even run of backslashes before it is escaped backslashes: then the text really says \u0000 and is harmless.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_SQUARE = bytes.maketrans(b"{}", b"[]")
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_NUMBER = b"0" * 19
_PATH_PARTS_SHOWN = 4

_decode = msgspec.json.Decoder().decode


def parse_json(body: bytes, *, max_depth: int = MAX_DEPTH) -> object:
    """The value in `body`. Raises BadRequest for anything that is not strict JSON within the bounds above."""
    if not body:
        raise BadRequest("The request body is empty. Send a JSON object.")
    brackets = body.count(b"[") + body.count(b"{")
    if brackets > MAX_CONTAINERS and len(_bare_brackets(body)) > 2 * MAX_CONTAINERS:
        raise BadRequest(f"The JSON body holds more than {MAX_CONTAINERS} objects and lists. Split the request.")
    try:
        value: object = _decode(body)
    except RecursionError:
        raise BadRequest(f"The JSON body is nested deeper than {max_depth} levels. Flatten it.") from None
    except UnicodeDecodeError as exc:
        raise BadRequest(f"The JSON body is not valid UTF-8 ({exc.reason}). Encode it as UTF-8.") from None
    except msgspec.ValidationError as exc:
        where = str(exc).partition(" - at `$")[2].rstrip("`").lstrip(".")
        raise BadRequest(
            "The JSON body holds a number that is too large. Use finite numbers; integers have 64 bits.",
            param=where or None,
        ) from None
    except msgspec.DecodeError as exc:
        raise BadRequest(f"The request body is not valid JSON: {_reason(body, exc)}.") from None
    if brackets > max_depth and _height_exceeds(body, max_depth):
        where = _too_deep(value, max_depth)
        raise BadRequest(f"The JSON body is nested deeper than {max_depth} levels, under `{where}`. Flatten it.")
    if b"\\u0000" in body and (nul := _NUL.search(body)):
        raise BadRequest(f"The JSON body holds a NUL character (\\u0000) near byte {nul.end() - 6}. Remove it.")
    if _LONG_NUMBER in body.translate(_DIGITS_TO_ZERO):
        path = _oversized_int(value)
        if path is not None:
            raise BadRequest(
                f"The integer at `{path or 'the top level'}` needs more than 64 bits. Send a smaller number.",
                param=path or None,
            )
    return value


def _reason(body: bytes, exc: msgspec.DecodeError) -> str:
    text = str(exc).removeprefix("JSON is malformed: ")
    if "truncated" in text:
        # msgspec also says so for an escape cut short, such as half of a surrogate pair.
        return f"it ends too early or holds half of a surrogate pair ({len(body)} bytes read)"
    return text


def _bare_brackets(body: bytes) -> bytes:
    """The brackets outside strings, all of them as square ones."""
    return _STRING.sub(b"", body).translate(_SQUARE, _NOT_BRACKETS)


def _height_exceeds(body: bytes, limit: int) -> bool:
    """Whether well-formed JSON text has more than `limit` nested containers.

    Every pass over the bare brackets removes the innermost containers, so the number of passes is the height. This
    stays in C: visiting the decoded values instead takes 20 times as long for a body of many small containers.
    """
    brackets = _bare_brackets(body)
    for _ in range(limit):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return True


def _containers(node: Container) -> Iterator[tuple[str, Container]]:
    """The containers directly in `node`, with their key or `[index]`."""
    if isinstance(node, dict):
        return ((_shown(key), child) for key, child in node.items() if isinstance(child, dict | list))
    return ((f"[{index}]", child) for index, child in enumerate(node) if isinstance(child, dict | list))


def _shown(key: str) -> str:
    """A caller's field name, safe to put into a message and a log line."""
    return ascii(key[:64])[1:-1]


def _step(path: str, key: str) -> str:
    return path + key if key.startswith("[") or not path else f"{path}.{key}"


def _too_deep(value: object, limit: int) -> str:
    """Where the first container below `limit` is; only the beginning of its path, which is long by nature."""
    stack = [(1, "", value)] if isinstance(value, dict | list) else []
    while stack:
        depth, path, node = stack.pop()
        if depth > limit:
            return path
        for key, child in _containers(node):
            stack.append((depth + 1, _step(path, key) if depth <= _PATH_PARTS_SHOWN else path, child))
    return ""


def _oversized_int(value: object) -> str | None:
    """The path of an integer outside 64 bits, empty for the top level; None when there is none."""
    if isinstance(value, int):
        return None if INT_MIN <= value <= INT_MAX else ""
    stack = [("", value)] if isinstance(value, dict | list) else []
    while stack:
        path, node = stack.pop()
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(child, int) and not INT_MIN <= child <= INT_MAX:
                return _step(path, _shown(key) if isinstance(key, str) else f"[{key}]")
        stack.extend((_step(path, key), child) for key, child in _containers(node))
    return None
